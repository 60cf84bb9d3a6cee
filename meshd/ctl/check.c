/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_show: check; see show.h. What meshd can see of its own state and of the host. Each line says
 * ok, warn (it works, but not for long or not for all) or fail, and then what to do. meshctl adds what
 * only a client sees.
 */
#include <errno.h>
#include <event2/buffer.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <unistd.h>

#include "mesh/version.h"
#include "meshd/base/loop.h"
#include "meshd/ctl/show.h"
#include "meshd/ctl/table.h"
#include "meshd/ident/ca.h"
#include "meshd/policy/config.h"
#include "meshd/registry/registry.h"
#include "meshd/stats/stats.h"

#define DAY        86400u
#define ROOT_LEFT  (30u * DAY)
#define EARLIEST_S UINT64_C(1704067200) /* 2024-01-01: no clock of ours was ever before it */

enum state { OK, WARN, FAIL };

/* One line: what is so, and what to do about it ("" when nothing is). */
static void __attribute__((format(printf, 5, 6)))
put(json_t *rows, enum state state, const char *name, const char *hint, const char *format, ...)
{
    static const char *const words[] = {"ok", "warn", "fail"};
    char text[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    json_array_append_new(rows, json_pack("{s:s, s:s, s:o, s:s}", "check", name, "state", words[state],
                                          "text", meshd_show_string(text), "hint",
                                          state == OK ? "" : hint));
}

static void
check_config(json_t *rows)
{
    struct meshd_config_info info;
    meshd_config_info(&info);
    if (info.last_ok) {
        put(rows, OK, "config", "", "%s is valid", info.file[0] ? info.file : "the built-in configuration");
    } else {
        put(rows, FAIL, "config", "the old configuration stays in force: correct it, see `meshd -t`, and send SIGHUP",
            "%s (%u errors)", info.first_error, info.errors);
    }
}

struct expiry {
    uint64_t now;
    struct meshd_cert root, issuing;
    uint32_t leafs, overdue, expired;
};

/* A leaf that is past its renewal by half of what was left then: its process asked in vain, or is idle. */
static int
on_cert(const struct meshd_cert *c, void *arg)
{
    struct expiry *x = arg;
    if (c->kind == MESHD_CERT_ROOT) {
        x->root = *c;
    } else if (c->kind == MESHD_CERT_ISSUING) {
        x->issuing = *c;
    } else {
        x->leafs++;
        x->expired += c->not_after <= x->now;
        x->overdue += c->not_after > x->now && x->now > c->renew_at + (c->not_after - c->renew_at) / 2;
    }
    return 0;
}

static void
check_authority(json_t *rows, const char *name, const struct meshd_cert *c, uint64_t now, uint64_t left)
{
    char when[MESHD_CELL_MAX];
    json_t *end = json_integer((json_int_t)c->not_after);
    meshd_cell_text(end, MESHD_CELL_TIME, when);
    json_decref(end);
    if (c->not_before > now) {
        put(rows, FAIL, name, "set the host's clock right", "not valid yet");
    } else if (c->not_after <= now) {
        put(rows, FAIL, name, "restart meshd with a new authority in its state directory", "expired at %s", when);
    } else if (c->not_after - now < left) {
        put(rows, WARN, name, "renew the authority before it expires: no certificate outlives it",
            "expires soon, at %s", when);
    } else {
        put(rows, OK, name, "", "valid until %s", when);
    }
}

static void
check_certificates(json_t *rows)
{
    struct expiry x = {.now = meshd_real_ns() / 1000000000u};
    meshd_ca_visit(on_cert, &x);
    check_authority(rows, "root CA", &x.root, x.now, ROOT_LEFT);
    check_authority(rows, "issuing CA", &x.issuing, x.now, (x.issuing.not_after - x.issuing.not_before) / 10);
    if (x.expired + x.overdue > 0) {
        put(rows, WARN, "certificates", "processes renew when they connect or accept; see `meshctl certs`",
            "of %u, %u are expired and %u overdue", x.leafs, x.expired, x.overdue);
    } else {
        put(rows, OK, "certificates", "", "%u, none expired", x.leafs);
    }
}

static void
check_snapshot(json_t *rows)
{
    struct meshd_registry_info info;
    meshd_registry_info(&info);
    if (!meshd_registry_is_whole()) {
        put(rows, FAIL, "snapshot", "meshd mends it within a second; find out who else writes in its run directory",
            "damaged");
    } else if (info.overflowed > 0) {
        put(rows, WARN, "snapshot", "there are more listeners than the snapshot has room for",
            "intact, but %llu times full", (unsigned long long)info.overflowed);
    } else {
        put(rows, OK, "snapshot", "", "intact, generation %llu, %u endpoints of %u services",
            (unsigned long long)info.generation, info.endpoints, info.services);
    }
}

static void
check_clock(json_t *rows)
{
    struct timex t = {.modes = 0};
    if (meshd_real_ns() / 1000000000u < EARLIEST_S) {
        put(rows, FAIL, "clock", "set the host's clock right: certificates depend on it", "is years behind");
    } else if (adjtimex(&t) == TIME_ERROR) {
        put(rows, WARN, "clock", "run an NTP client: hosts whose clocks differ refuse each other's certificates",
            "not synchronised, as the kernel says");
    } else {
        put(rows, OK, "clock", "", "synchronised");
    }
}

static void
check_directory(json_t *rows, const char *name, const char *path, mode_t forbidden, const char *hint)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        put(rows, FAIL, name, hint, "%s: %s", path, strerror(errno));
    } else if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid()) {
        put(rows, FAIL, name, hint, "%s is not ours (uid %u)", path, (unsigned)st.st_uid);
    } else if (st.st_mode & forbidden) {
        put(rows, FAIL, name, hint, "%s has mode %04o", path, (unsigned)st.st_mode & 07777);
    } else if (access(path, W_OK | X_OK) != 0) {
        put(rows, FAIL, name, hint, "%s cannot be written: %s", path, strerror(errno));
    } else {
        put(rows, OK, name, "", "%s, mode %04o", path, (unsigned)st.st_mode & 07777);
    }
}

/* -- the kernel ---------------------------------------------------------------------------------- */

static bool
has_destroy_group(void)
{
    struct sockaddr_nl sa = {.nl_family = AF_NETLINK, .nl_groups = 1u << (SKNLGRP_INET_TCP_DESTROY - 1)};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

/* The socket is not connected, which the kernel says only where it has TLS. */
static bool
has_kernel_tls(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 4) != 0 && errno == ENOTCONN;
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

static bool
has_pidfd(void)
{
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

static bool
has_netns_cookie(void)
{
    uint64_t cookie = 0;
    socklen_t len = sizeof(cookie);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && getsockopt(fd, SOL_SOCKET, 71 /* SO_NETNS_COOKIE */, &cookie, &len) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

static void
check_kernel(json_t *rows)
{
    static const struct {
        bool (*has)(void);
        const char *name, *there, *missing, *hint;
    } features[] = {
        {has_destroy_group, "socket diagnostics", "ends of listeners are told at once",
         "NETLINK_SOCK_DIAG does not tell when sockets end", "load inet_diag and tcp_diag; until then ends are found by looking"},
        {has_kernel_tls, "kernel TLS", "offered", "not offered",
         "load the module tls, if connections are to go to programs that cannot be under libmesh"},
        {has_pidfd, "pidfd", "ends of processes are told at once", "there is no pidfd_open",
         "Linux 5.3 has it; until then ends are found by looking"},
        {has_netns_cookie, "namespaces", "SO_NETNS_COOKIE tells them apart", "there is no SO_NETNS_COOKIE",
         "Linux 5.14 has it; without it, containers that share addresses are taken for one"},
    };
    for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
        bool has = features[i].has();
        put(rows, has ? OK : WARN, features[i].name, features[i].hint, "%s",
            has ? features[i].there : features[i].missing);
    }
}

static void
check_traffic(json_t *rows)
{
    struct meshd_counters c;
    meshd_stats_sum(&c);
    uint64_t plain = c.stat[MESH_STAT_PLAIN_IN];
    if (plain > 0) {
        put(rows, WARN, "plaintext", "see `meshctl edges`, then set mode = \"strict\"",
            "%llu connections were accepted without TLS", (unsigned long long)plain);
    } else {
        put(rows, OK, "plaintext", "", "no connection was accepted without TLS");
    }
}

json_t *
meshd_show_check(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    json_t *rows = json_array();
    put(rows, OK, "version", "", "meshd %s, pid %d", MESH_VERSION, (int)getpid());
    check_config(rows);
    check_certificates(rows);
    check_snapshot(rows);
    check_clock(rows);
    check_directory(rows, "run directory", cfg->run_dir, S_IWGRP | S_IWOTH,
                    "it must be meshd's own and writable for nobody else: chown, chmod 0755");
    check_directory(rows, "state directory", cfg->state_dir, S_IRWXG | S_IRWXO,
                    "the authority's keys lie there, for nobody but meshd: chown, chmod 0700");
    check_kernel(rows);
    check_traffic(rows);
    return json_pack("{s:i, s:o}", "schema", MESHD_SCHEMA, "checks", rows);
}

void
meshd_show_check_text(struct evbuffer *out, const json_t *answer)
{
    const json_t *row;
    size_t i;
    json_array_foreach(json_object_get(answer, "checks"), i, row) {
        const char *hint = json_string_value(json_object_get(row, "hint"));
        evbuffer_add_printf(out, "%-6s%-20s%s\n", json_string_value(json_object_get(row, "state")),
                            json_string_value(json_object_get(row, "check")),
                            json_string_value(json_object_get(row, "text")));
        if (hint && hint[0]) {
            evbuffer_add_printf(out, "%-26s-> %s\n", "", hint);
        }
    }
}
