/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_drain: see drain.h.
 *
 *   file: header, then one line each:  service NAME SINCE | endpoint ADDR:PORT SINCE
 */
#include "meshd/registry/drain.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meshd/attest/attest.h"
#include "meshd/base/file.h"
#include "meshd/base/log.h"
#include "meshd/policy/config.h"
#include "meshd/registry/listener.h"
#include "meshd/registry/netlink.h"

#define ORDERS_MAX 4096u
#define FILE_MAX   (1u << 20)
#define HEADER     "libmesh-drains 1"

static char path[PATH_MAX];
static struct meshd_drain *orders;
static size_t count;

static bool
is_same(const struct meshd_drain *a, const struct meshd_drain *b)
{
    return strcmp(a->service, b->service) == 0 && mesh_addr_eq(&a->addr, &b->addr);
}

static struct meshd_drain *
find(const struct meshd_drain *d)
{
    for (size_t i = 0; i < count; i++) {
        if (is_same(&orders[i], d)) {
            return &orders[i];
        }
    }
    return NULL;
}

static enum mesh_err
append(const struct meshd_drain *d)
{
    struct meshd_drain *more =
        count < ORDERS_MAX ? realloc(orders, (count + 1) * sizeof(*more)) : NULL;
    if (!more) {
        return MESH_E_NO_MEMORY;
    }
    orders = more;
    orders[count++] = *d;
    return MESH_OK;
}

static enum mesh_err
save(void)
{
    char *data = NULL, text[MESH_ADDR_TEXT];
    size_t len = 0;
    FILE *f = open_memstream(&data, &len);
    if (!f) {
        return MESH_E_NO_MEMORY;
    }
    fprintf(f, HEADER "\n");
    for (const struct meshd_drain *d = orders; d < orders + count; d++) {
        fprintf(f, "%s %s %llu\n", d->service[0] ? "service" : "endpoint",
                d->service[0] ? d->service : mesh_addr_text(&d->addr, text),
                (unsigned long long)d->since_ns);
    }
    int bad = ferror(f);
    bad |= fclose(f);
    enum mesh_err e = bad ? MESH_E_NO_MEMORY : meshd_file_write(path, data, len, 0600, false);
    free(data);
    return e;
}

static bool
parse_line(const char *line)
{
    struct meshd_drain d = {.service = ""};
    char word[16], name[MESH_SERVICE_MAX];
    unsigned long long since = 0;
    _Static_assert(MESH_SERVICE_MAX == 64, "width below");
    if (sscanf(line, "%15s %63s %llu", word, name, &since) != 3) {
        return false;
    }
    d.since_ns = since;
    if (strcmp(word, "service") == 0 && meshd_attest_is_service_name(name)) {
        memcpy(d.service, name, sizeof(d.service));
    } else if (strcmp(word, "endpoint") != 0 || !meshd_config_addr(name, &d.addr)) {
        return false;
    }
    return find(&d) || append(&d) == MESH_OK;
}

static bool
parse(char *text)
{
    char *rest = NULL, *line = strtok_r(text, "\n", &rest);
    bool ok = line && strcmp(line, HEADER) == 0;
    while (ok && (line = strtok_r(NULL, "\n", &rest)) != NULL) {
        ok = parse_line(line);
    }
    return ok;
}

void
meshd_drain_init(const char *run_dir)
{
    char *data = NULL, bad[PATH_MAX];
    size_t len = 0;
    if (!meshd_path(path, sizeof(path), run_dir, "drains") ||
        meshd_file_read(path, FILE_MAX, &data, &len) != MESH_OK) {
        return; /* the usual: there are none */
    }
    if (!parse(data)) {
        log_error("%s is damaged: what was draining may get connections again", path);
        if (snprintf(bad, sizeof(bad), "%s.bad", path) < (int)sizeof(bad)) {
            (void)rename(path, bad);
        }
    }
    free(data);
}

void
meshd_drain_fini(void)
{
    free(orders);
    orders = NULL;
    count = 0;
}

/* Is `a` where a wildcard listener answers? */
static bool
is_behind(const struct meshd_endpoint *e, const struct mesh_addr *a)
{
    if (!(e->flags & MESH_EP_ANY) || e->addr.port != a->port || mesh_addr_is_any(a)) {
        return false;
    }
    bool v4 = mesh_addr_is_v4(a), own_v4 = mesh_addr_is_v4(&e->addr);
    return (v4 ? own_v4 || !(e->flags & MESH_EP_V6ONLY) : !own_v4) &&
           (mesh_addr_is_loopback(a) || meshd_listener_is_own_address(a));
}

bool
meshd_registry_drain_covers(const struct meshd_drain *d, const struct meshd_endpoint *e)
{
    if (d->service[0]) {
        return strcmp(d->service, e->service) == 0;
    }
    if ((e->flags & MESH_EP_NETNS) && e->netns != meshd_netlink_own()) {
        return false; /* the same words mean another place there */
    }
    for (unsigned i = 0; i < e->ifaddrs && i < MESH_WIRE_IFADDRS; i++) {
        if (mesh_addr_eq(&e->ifaddr[i], &d->addr)) {
            return true;
        }
    }
    return mesh_addr_eq(&e->addr, &d->addr) || is_behind(e, &d->addr);
}

bool
meshd_drain_has(const struct meshd_endpoint *e)
{
    for (size_t i = 0; i < count; i++) {
        if (meshd_registry_drain_covers(&orders[i], e)) {
            return true;
        }
    }
    return false;
}

/* One of an earlier meshd holds, for sure, from what this one published first. */
static void
stamp(struct meshd_drain *d)
{
    struct meshd_registry_info info;
    if (d->generation == 0) {
        meshd_registry_info(&info);
        d->generation = info.generation;
    }
}

void
meshd_registry_visit_drains(meshd_drain_visit *visit, void *arg)
{
    for (size_t i = 0; i < count; i++) {
        stamp(&orders[i]);
        if (visit(&orders[i], arg) != 0) {
            return;
        }
    }
}

static void
take_out(size_t i)
{
    memmove(&orders[i], &orders[i + 1], (count - i - 1) * sizeof(*orders));
    count--;
}

/* Saves and publishes orders with d, which is new and the i-th, or without it, which was there. When that fails
 * everything is as before: who gave the order is told that it does not hold. */
static enum mesh_err
in_force(size_t i, const struct meshd_drain *d)
{
    bool added = i < count;
    struct meshd_drain copy = *d;
    enum mesh_err e = save();
    enum mesh_err done = e == MESH_OK ? meshd_registry_republish() : e;
    if (done == MESH_OK) {
        return MESH_OK;
    }
    if (added) {
        take_out(i);
    } else {
        orders[count++] = copy; /* its place is still there */
    }
    if (e == MESH_OK && save() != MESH_OK) {
        log_error("%s: the next meshd will know an order that was taken back, or lack one", path);
    }
    return done;
}

enum mesh_err
meshd_registry_drain(struct meshd_drain *d)
{
    enum mesh_err e = MESH_OK;
    struct meshd_drain *o = find(d);
    if (!o) {
        e = append(d);
        e = e == MESH_OK ? in_force(count - 1, d) : e;
        o = find(d);
    }
    if (e == MESH_OK) {
        stamp(o);
        *d = *o;
    }
    return e;
}

enum mesh_err
meshd_registry_undrain(const struct meshd_drain *d, bool *was)
{
    struct meshd_drain *o = find(d);
    *was = o != NULL;
    if (!o) {
        return MESH_OK;
    }
    struct meshd_drain old = *o;
    take_out((size_t)(o - orders));
    return in_force(count, &old);
}
