/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_resume: see resume.h.
 *
 * A server that declines may have forgotten, or have many processes that know nothing of each other: then each
 * full handshake makes a ticket that the next process declines, and offering costs more than it gives. So
 * who declines DECLINES times in a row is not asked again until the time of the ticket is over that was
 * declined last.
 */
#include "shim/flow/resume.h"

#include <string.h>

#include "shim/core/stat.h"
#include "shim/core/vault.h"
#include "shim/flow/ident.h"
#include "shim/link/link.h"

#define DECLINES 3u

struct destination { /* a client's record */
    uint8_t ip[16];
    uint16_t port;
    uint16_t declined; /* in a row */
    uint32_t pad;
    struct shim_ticket ticket;
};
_Static_assert(sizeof(struct destination) <= SHIM_VAULT_BYTES, "fits a record");

static uint64_t
hash_of_name(const uint8_t id[32])
{
    uint64_t h;
    memcpy(&h, id, sizeof(h)); /* random */
    return h;
}

static uint64_t
hash_of(const struct mesh_addr *a)
{
    uint64_t h = a->port;
    for (size_t i = 0; i < sizeof(a->ip); i++) {
        h = (h ^ a->ip[i]) * UINT64_C(0x100000001b3);
    }
    return h ^ h >> 32;
}

static bool
destination_get(const struct mesh_addr *a, struct destination *d)
{
    return shim_vault_get(SHIM_VAULT_CLIENT, hash_of(a), d, sizeof(*d)) &&
           memcmp(d->ip, a->ip, sizeof(d->ip)) == 0 && d->port == a->port;
}

static bool
is_wanted(void)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    mesh_snap_settings(&snap, &set);
    return !set.no_resumption;
}

bool
shim_resume_find(const uint8_t id[32], struct shim_ticket *out)
{
    return shim_vault_get(SHIM_VAULT_SERVER, hash_of_name(id), out, sizeof(*out)) &&
           memcmp(out->id, id, sizeof(out->id)) == 0 && is_wanted();
}

void
shim_resume_offer(struct shim_work *w)
{
    struct destination d;
    if (destination_get(&w->to, &d) && d.declined < DECLINES && is_wanted()) {
        atomic_load(&shim_tls)->hs_offer(w->hs, &d.ticket);
    }
}

/* ticket.from is now. */
static void
keep(const struct mesh_addr *a, const struct shim_hs_result *res)
{
    struct destination d, had;
    bool known = destination_get(a, &had);
    if (known && had.declined >= DECLINES && had.ticket.until > res->ticket.from) {
        return;
    }
    memset(&d, 0, sizeof(d));
    d.declined = known && res->declined ? (uint16_t)(had.declined + 1) : 0;
    memcpy(d.ip, a->ip, sizeof(d.ip));
    d.port = a->port;
    d.ticket = res->ticket;
    shim_vault_put(SHIM_VAULT_CLIENT, hash_of(a), &d, sizeof(d));
}

static void
forgive(const struct mesh_addr *a)
{
    struct destination d;
    if (destination_get(a, &d) && d.declined) {
        d.declined = 0;
        shim_vault_put(SHIM_VAULT_CLIENT, hash_of(a), &d, sizeof(d));
    }
}

void
shim_resume_done(const struct shim_work *w, bool server, const struct shim_hs_result *res)
{
    if (res->resumed) {
        shim_stat_add(MESH_STAT_HS_RESUMED, 1);
        if (!server) {
            forgive(&w->to);
        }
        return;
    }
    if (res->declined) {
        shim_stat_add(MESH_STAT_HS_DECLINED, 1);
    }
    if (res->ticket.until == 0) {
        return;
    }
    if (server) {
        shim_vault_put(SHIM_VAULT_SERVER, hash_of_name(res->ticket.id), &res->ticket, sizeof(res->ticket));
    } else {
        keep(&w->to, res);
    }
}
