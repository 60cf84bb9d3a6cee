/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_show_hash: see show_hash.h. The key, the tier and the walk along the table are those of shim/route/hash.c;
 * hash_balance_factor and per_host_max_connections are not looked at: they change with each connection.
 */
#include "meshd/ctl/show_hash.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MOST 16u /* endpoints that are shown: as many as a connect() may try */

static const char *const fields[] = {
    [MESH_HASH_SOURCE_IDENTITY] = "source_identity", [MESH_HASH_SOURCE_IP] = "source_ip", [MESH_HASH_UID] = "uid",
    [MESH_HASH_UNIT] = "unit", [MESH_HASH_EXE] = "exe", [MESH_HASH_DESTINATION_IP] = "destination_ip",
    [MESH_HASH_DESTINATION_PORT] = "destination_port"};

static void
value_of(const struct mesh_hash_client *who, enum mesh_hash_field f, char *out, size_t cap)
{
    const struct mesh_addr *a = f == MESH_HASH_SOURCE_IP ? &who->from : &who->asked;
    bool v4 = mesh_addr_is_v4(a);
    if (!mesh_hash_knows(who, f)) {
        snprintf(out, cap, "?");
    } else if (f == MESH_HASH_SOURCE_IP || f == MESH_HASH_DESTINATION_IP) {
        inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? a->ip + 12 : a->ip, out, (socklen_t)cap);
    } else if (f == MESH_HASH_UID || f == MESH_HASH_DESTINATION_PORT) {
        snprintf(out, cap, "%u", f == MESH_HASH_UID ? who->uid : who->asked.port);
    } else {
        snprintf(out, cap, "%s", f == MESH_HASH_SOURCE_IDENTITY ? who->identity : f == MESH_HASH_UNIT ? who->unit : who->exe);
    }
}

/* "source_identity=spiffe://td/ns/default/sa/web, uid=33"; '?': unknown, and left out. */
static void
key_text(const struct mesh_snap_hash *policy, const struct mesh_hash_client *who, char *out, size_t cap)
{
    size_t n = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < MESH_HASH_TERMS && policy->term[i] && n < cap; i++) {
        enum mesh_hash_field f = (enum mesh_hash_field)(policy->term[i] - 1);
        char value[512] = "";
        if (f > MESH_HASH_DESTINATION_PORT) {
            return;
        }
        value_of(who, f, value, sizeof(value));
        n += (size_t)snprintf(out + n, cap - n, "%s%s=%s", i ? ", " : "", fields[f], value);
        if (policy->terminal >> i & 1 && mesh_hash_knows(who, f)) {
            return;
        }
    }
}

/* The next member along the table; without one, in the order of addresses from the one whose weight has the hash. */
static enum mesh_err
step(const struct mesh_snap_list *l, const struct mesh_snap_hashes *h, uint64_t hash, uint32_t k, uint32_t *index)
{
    if (h->count) {
        return mesh_snap_hash_member(h, (uint32_t)(((uint64_t)mesh_snap_hash_start(h, hash) + k) % h->count), index);
    }
    enum mesh_err e = l->total ? mesh_snap_weigh(l, (uint32_t)(hash >> 32) % l->total, index) : MESH_E_NO_ENDPOINT;
    *index = e == MESH_OK ? (*index + k) % l->count : 0;
    return e;
}

static enum mesh_err
list_tier(const struct mesh_snap_choice *c, const struct mesh_snap_service *s, const struct mesh_snap_tier *t,
          uint64_t hash, const struct meshd_hash_asker *asker, json_t *out)
{
    struct mesh_snap_list l;
    struct mesh_snap_hashes h;
    uint32_t seen[MOST], n = 0;
    enum mesh_err e = mesh_snap_list(c, s, t, true, &l);
    e = e == MESH_OK ? mesh_snap_hashes(c, s, t, &h) : e;
    uint32_t steps = e == MESH_OK ? (h.count ? h.count : l.count) : 0;
    for (uint32_t k = 0; e == MESH_OK && k < steps && n < MOST && n < l.count; k++) {
        struct mesh_snap_endpoint ep;
        char text[MESH_ADDR_TEXT];
        uint32_t i = 0, weight, before = 0;
        e = step(&l, &h, hash, k, &i);
        e = e == MESH_OK ? mesh_snap_member(&l, i, &ep, &weight) : e;
        while (e == MESH_OK && before < n && seen[before] != ep.id) {
            before++;
        }
        if (e == MESH_OK && before == n && asker->usable(ep.id, asker->arg)) {
            struct mesh_addr a = {.port = ep.port};
            memcpy(a.ip, ep.addr, 16);
            seen[n++] = ep.id;
            json_array_append_new(out, json_string(mesh_addr_text(&a, text)));
        }
    }
    return e;
}

json_t *
meshd_show_hash(const struct mesh_snap_choice *c, const struct mesh_snap_service *s,
                const struct mesh_snap_group *g, const struct meshd_hash_asker *asker)
{
    char key[1024], hex[24];
    uint64_t hash = 0;
    uint32_t first = 0;
    bool lacks = false;
    json_t *order = json_array();
    key_text(&s->hash, &asker->who, key, sizeof(key));
    bool known = mesh_hash_key(&s->hash, &asker->who, &hash);
    enum mesh_err e = mesh_snap_first_tier(c, g, mesh_hash_draw(hash), &first, &lacks);
    for (uint32_t k = 0; known && e == MESH_OK && k < g->tiers.count; k++) {
        struct mesh_snap_tier t;
        e = mesh_snap_tier(c, g, (first + k) % g->tiers.count, &t);
        e = e == MESH_OK ? list_tier(c, s, &t, hash, asker, order) : e;
    }
    snprintf(hex, sizeof(hex), "0x%016" PRIx64, hash);
    if (e != MESH_OK) {
        json_decref(order);
        return NULL;
    }
    return json_pack("{s:s, s:o, s:o}", "key", key, "hash", known ? json_string(hex) : json_null(), "endpoints", order);
}
