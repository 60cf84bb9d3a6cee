/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzes hs_step() in both roles. Input: a byte of choices, then either hostile bytes that are fed
 * as they are, or orders of how to damage a real handshake: three bytes each, where (in sixteenths
 * of a kilobyte and by byte) and what to xor. A handshake that nobody damaged must succeed, and no
 * two ends may believe in different keys.
 *
 *   bit 0  the victim is the server     bit 1  damage a real handshake
 *   bit 2  feed in small pieces         bit 3  take the output in small pieces
 *   bit 4  the client offers a ticket that the server knows (then no small pieces: see hs_step)
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shim/tls/tls.h"
#include "tests/unit/tls_pki.h"
#include "tests/unit/tls_talk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

enum { SERVER = 1, DAMAGE = 2, PIECES = 4, SMALL_OUT = 8, RESUME = 16 };

static const struct shim_tls_ops *ops;
static struct shim_ticket client_ticket, server_ticket;

static bool
find(const uint8_t id[32], struct shim_ticket *out)
{
    *out = server_ticket;
    return memcmp(id, server_ticket.id, 32) == 0;
}

static void
tickets_make(void)
{
    struct talk_pair *p = talk_new();
    p->client.hs = ops->hs_new(0, PKI_WEB);
    p->server.hs = ops->hs_new(1, NULL);
    talk_run(&p->client, &p->server);
    client_ticket = p->client.res.ticket;
    server_ticket = p->server.res.ticket;
    MUST(client_ticket.until != 0 && server_ticket.until != 0);
    client_ticket.until = server_ticket.until = INT64_MAX; /* for as long as this runs */
    ops->tickets(find);
    talk_free(p);
}

static void
once(void)
{
    struct pki_identity id;
    if (ops != NULL)
        return;
    ops = shim_tls_engine(NULL);
    MUST(ops != NULL);
    struct pki_cert root = pki_root("root"), leaf = pki_leaf("URI:" PKI_WEB, &root);
    pki_identity(&id, &leaf, NULL, &root);
    MUST(ops->identity_set(&id.id) == MESH_OK);
    pki_identity_free(&id);
    pki_free(&leaf);
    pki_free(&root);
    tickets_make();
}

/* One step with all its output, which goes to `q` (or nowhere). */
static void
step(struct talk_end *e, int choices, const uint8_t *in, size_t n, struct talk_queue *q)
{
    uint8_t buf[4096];
    size_t cap = choices & SMALL_OUT ? 3 : sizeof(buf), len = 0;
    uint8_t *exact = malloc(n > 0 ? n : 1); /* so that a byte too many is seen */
    MUST(exact != NULL);
    if (n > 0)
        memcpy(exact, in, n);
    do {
        e->state = ops->hs_step(e->hs, exact, n, buf, cap, &len);
        if (q != NULL)
            talk_put(q, buf, len);
        n = 0;
    } while (len == cap);
    free(exact);
    if (e->state != SHIM_HS_MORE)
        ops->hs_result(e->hs, &e->res);
    MUST(e->state != SHIM_HS_FAILED || e->res.err != MESH_OK);
    MUST(e->state != SHIM_HS_DONE || e->res.err == MESH_OK);
}

static void
feed_raw(int choices, const uint8_t *data, size_t size)
{
    struct talk_end e = {0};
    size_t one = choices & PIECES ? 7 : size;
    e.hs = ops->hs_new(choices & SERVER, NULL);
    MUST(e.hs != NULL);
    if (choices & RESUME)
        ops->hs_offer(e.hs, &client_ticket);
    step(&e, choices, NULL, 0, NULL);
    for (size_t at = 0; at < size && e.state == SHIM_HS_MORE; at += one)
        step(&e, choices, data + at, one < size - at ? one : size - at, NULL);
    MUST(e.state != SHIM_HS_DONE);
    ops->hs_free(e.hs);
}

/* Applies the orders to bytes [from, from + n) of the stream to the victim. */
static int
damage(uint8_t *p, size_t from, size_t n, const uint8_t *orders, size_t size)
{
    int hit = 0;
    for (size_t i = 0; i + 3 <= size; i += 3) {
        size_t at = (size_t)(orders[i] % 64) * 64 + orders[i + 1] % 64;
        if (orders[i + 2] == 0 || at < from || at >= from + n)
            continue;
        p[at - from] ^= orders[i + 2];
        hit = 1;
    }
    return hit;
}

static void
feed_damaged(int choices, const uint8_t *orders, size_t size)
{
    struct talk_pair *p = talk_new();
    struct talk_end *victim = choices & SERVER ? &p->server : &p->client;
    size_t seen = 0;
    int hit = 0;
    p->client.hs = ops->hs_new(0, PKI_WEB);
    p->server.hs = ops->hs_new(1, NULL);
    MUST(p->client.hs != NULL && p->server.hs != NULL);
    if (choices & RESUME)
        ops->hs_offer(p->client.hs, &client_ticket);
    for (int round = 0; round < 8; round++) {
        struct talk_end *e = round % 2 ? &p->server : &p->client;
        struct talk_end *to = round % 2 ? &p->client : &p->server;
        size_t n = e->in.len, one = choices & PIECES && n > 0 ? 100 : n;
        if (e == victim)
            hit |= damage(e->in.bytes, seen, n, orders, size);
        seen += e == victim ? n : 0;
        if (e->state == SHIM_HS_MORE && n == 0)
            step(e, choices, NULL, 0, &to->in);
        for (size_t at = 0; at < n && e->state == SHIM_HS_MORE; at += one)
            step(e, choices, e->in.bytes + at, one < n - at ? one : n - at, &to->in);
        e->in.len = 0;
    }
    if (!hit)
        MUST(p->client.state == SHIM_HS_DONE && p->server.state == SHIM_HS_DONE &&
             p->client.res.resumed == !!(choices & RESUME));
    if (p->client.state == SHIM_HS_DONE && p->server.state == SHIM_HS_DONE)
        MUST(memcmp(&p->client.res.tx, &p->server.res.rx, sizeof(struct shim_key)) == 0 &&
             memcmp(&p->client.res.rx, &p->server.res.tx, sizeof(struct shim_key)) == 0);
    talk_free(p);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    once();
    if (size < 1 || ((data[0] & RESUME) && (data[0] & PIECES)))
        return 0;
    if (data[0] & DAMAGE)
        feed_damaged(data[0], data + 1, size - 1);
    else
        feed_raw(data[0], data + 1, size - 1);
    return 0;
}
