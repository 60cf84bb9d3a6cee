/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_ticket: see ticket.h.
 */
#include "shim/tls/ticket.h"

#include <string.h>
#include <time.h>

#include "shim/tls/mem.h"
#include "shim/tls/suite.h"

#define LIFETIME 3600 /* seconds; RFC8446 4.6.1 would allow a week */

/* Labels without registration begin like this [RFC5705 4]. */
static const char label[] = "EXPERIMENTAL libmesh resumption";

/* The key is used once for each name, and the name is in the mask: XOR does. */
static bool
mask(const struct shim_ticket *t, const struct shim_ctx *c, const uint8_t *in, uint8_t *out)
{
    uint8_t pad[SHIM_TICKET_SECRET];
    bool ok = shim_suite_hmac(shim_suite_find(0x1301), c->ticket_key, t->id, sizeof(t->id), pad) == MESH_OK;
    for (size_t i = 0; ok && i < sizeof(pad); i++)
        out[i] = in[i] ^ pad[i];
    shim_mem_wipe(pad, sizeof(pad));
    return ok;
}

void
shim_ticket_make(struct shim_ticket *t, const struct shim_ctx *c, SSL *ssl, const char *peer,
                 int64_t until)
{
    uint8_t both[sizeof(t->id) + SHIM_TICKET_SECRET];
    memset(t, 0, sizeof(*t));
    if (SSL_export_keying_material(ssl, both, sizeof(both), label, sizeof(label) - 1, NULL, 0, 0) != 1)
        return;
    memcpy(t->id, both, sizeof(t->id));
    memcpy(t->who, c->who, sizeof(t->who));
    memcpy(t->peer, peer, strnlen(peer, sizeof(t->peer) - 1));
    t->from = (int64_t)time(NULL);
    if (mask(t, c, both + sizeof(t->id), t->sealed))
        t->until = until < t->from + LIFETIME ? until : t->from + LIFETIME;
    shim_mem_wipe(both, sizeof(both));
}

bool
shim_ticket_open(const struct shim_ticket *t, const struct shim_ctx *c,
                 uint8_t secret[SHIM_TICKET_SECRET])
{
    int64_t now = (int64_t)time(NULL);
    return now >= t->from && now <= t->until && memcmp(t->who, c->who, sizeof(t->who)) == 0 &&
           memchr(t->peer, 0, sizeof(t->peer)) != NULL && mask(t, c, t->sealed, secret);
}
