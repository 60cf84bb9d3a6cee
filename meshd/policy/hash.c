/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_hash_check: see hash.h.
 */
#include "meshd/policy/hash.h"

#include "common/hash.h"

#define RING_SIZE  1024u /* the defaults, as in keys.def */
#define RING_MOST  1048576u
#define TABLE_SIZE 65537u
#define RING_SPAN  16u /* meshd/registry/ring_hash.c */
#define POOL       (MESH_SNAP_SIZE(MESH_SNAP_AREA) - MESH_SNAP_POOL(MESH_SNAP_AREA))

static bool
is_prime(uint32_t n)
{
    for (uint32_t i = 2; (uint64_t)i * i <= n; i++) {
        if (n % i == 0) {
            return false;
        }
    }
    return n > 1;
}

/* The next one, for who has to write another. */
static uint32_t
prime_from(uint32_t n)
{
    while (!is_prime(n)) {
        n++;
    }
    return n;
}

/* What does nothing is somebody's mistake. */
static void
check_use(const struct meshd_service_rule *s, struct meshd_diags *d)
{
    const struct meshd_hash_rule *h = &s->hash;
    bool ring = s->load_balancer == MESH_LB_RING_HASH, maglev = s->load_balancer == MESH_LB_MAGLEV;
    if (h->term_count && !ring && !maglev) {
        meshd_diag_error(d, h->terms[0].at.file, h->terms[0].at.line,
                         "hash_policy: service '%s' has neither load_balancer \"ring_hash\" nor \"maglev\"", s->name);
    }
    if (h->balance_factor && !ring && !maglev) {
        meshd_diag_error(d, s->at.file, s->at.line,
                         "hash_balance_factor: service '%s' has neither load_balancer \"ring_hash\" nor \"maglev\"",
                         s->name);
    }
    if (!ring && (h->minimum_ring_size != RING_SIZE || h->maximum_ring_size != RING_MOST)) {
        meshd_diag_error(d, s->at.file, s->at.line, "ring_hash: service '%s' has another load_balancer", s->name);
    }
    if (!maglev && h->table_size != TABLE_SIZE) {
        meshd_diag_error(d, s->at.file, s->at.line, "maglev: service '%s' has another load_balancer", s->name);
    }
    if ((ring || maglev) && s->live.slow_start_enabled == 1) {
        meshd_diag_warn(d, s->at.file, s->at.line,
                        "slow_start: it does nothing for service '%s', whose keys lead to the same endpoint always", s->name);
    }
}

void
meshd_hash_check(const struct meshd_service_rule *s, struct meshd_diags *d)
{
    const struct meshd_hash_rule *h = &s->hash;
    check_use(s, d);
    if (mesh_hash_is_used(s->load_balancer) && h->term_count == 0) {
        meshd_diag_error(d, s->at.file, s->at.line,
                         "load_balancer: service '%s' has no hash_policy, so there is nothing to choose by", s->name);
    }
    if (h->term_count > MESH_HASH_TERMS) {
        const struct meshd_origin *at = &h->terms[MESH_HASH_TERMS].at;
        meshd_diag_error(d, at->file, at->line, "hash_policy: service '%s' has more than %u", s->name, MESH_HASH_TERMS);
    }
    for (size_t i = 0; i < h->term_count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (h->terms[k].field == h->terms[i].field) {
                meshd_diag_error(d, h->terms[i].at.file, h->terms[i].at.line,
                                 "hash_policy: the same field is already used at %s:%u", h->terms[k].at.file,
                                 h->terms[k].at.line);
                break;
            }
        }
    }
    if (h->minimum_ring_size > h->maximum_ring_size) {
        meshd_diag_error(d, s->at.file, s->at.line,
                         "ring_hash: minimum_ring_size of service '%s' is more than its maximum_ring_size", s->name);
    }
    if (!is_prime(h->table_size)) {
        uint32_t next = prime_from(h->table_size);
        meshd_diag_error(d, s->at.file, s->at.line, "maglev: table_size %u of service '%s' is no prime; %u is one",
                         h->table_size, s->name, next);
    }
}

/* Of all endpoints in one tier. */
static uint64_t
bytes_of(const struct meshd_service_rule *s)
{
    uint64_t n = s->endpoint_count ? s->endpoint_count : 1;
    if (s->load_balancer == MESH_LB_MAGLEV) {
        return 2 * (uint64_t)s->hash.table_size;
    }
    n = n < RING_SPAN / 2 ? n : RING_SPAN / 2;
    n *= s->hash.minimum_ring_size;
    return s->load_balancer != MESH_LB_RING_HASH ? 0 : 6 * (n < s->hash.maximum_ring_size ? n : s->hash.maximum_ring_size);
}

void
meshd_hash_check_room(const struct meshd_config *cfg, struct meshd_diags *d)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < cfg->service_count; i++) {
        const struct meshd_service_rule *s = &cfg->services[i];
        uint64_t n = bytes_of(s);
        if (n && sum + n > POOL) {
            meshd_diag_error(d, s->at.file, s->at.line,
                             "load_balancer: with the table of service '%s' those of all services take more than %u MiB; a "
                             "smaller %s would do", s->name, (unsigned)(POOL >> 20),
                             s->load_balancer == MESH_LB_MAGLEV ? "table_size" : "minimum_ring_size");
            return;
        }
        sum += n;
    }
}
