/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_psk: what both roles share. See psk.h.
 */
#include "shim/tls/psk.h"

#include <string.h>

#include "shim/tls/mem.h"
#include "shim/tls/record.h"
#include "shim/tls/suite.h"

#define PLAIN_MAX 512u /* longer than whatever is expected encrypted */
#define CCS       20u  /* change_cipher_spec, which says nothing in TLS 1.3 [RFC8446 5] */

bool
shim_psk_put(struct shim_psk *p, const uint8_t *bytes, size_t n)
{
    if (n > sizeof(p->out) - p->out_len)
        return false;
    memcpy(p->out + p->out_len, bytes, n);
    p->out_len += n;
    return true;
}

bool
shim_psk_seal(struct shim_psk *p, uint8_t type, const uint8_t *bytes, size_t n)
{
    if (n + SHIM_REC_OVERHEAD > sizeof(p->out) - p->out_len)
        return false;
    size_t made = shim_record_seal(&p->tx, type, bytes, n, p->out + p->out_len);
    p->out_len += made;
    return made > 0;
}

enum shim_psk_state
shim_psk_fail(struct shim_psk *p, enum mesh_err e, uint8_t alert)
{
    const uint8_t body[] = {2 /* fatal */, alert};
    const uint8_t plain[] = {SHIM_REC_ALERT, 3, 3, 0, sizeof(body), body[0], body[1]};
    p->err = e;
    p->alert = alert;
    if (e != MESH_E_PEER_ALERT)
        (void)(p->tx.suite != 0 ? shim_psk_seal(p, SHIM_REC_ALERT, body, sizeof(body))
                                : shim_psk_put(p, plain, sizeof(plain)));
    return SHIM_PSK_FAILED;
}

/* ---- keys ---- */

bool
shim_psk_share(struct shim_psk *p, const uint8_t private[32], uint8_t public[32])
{
    size_t n = 32;
    p->share = EVP_PKEY_new_raw_private_key_ex(NULL, "X25519", NULL, private, 32);
    return p->share != NULL && EVP_PKEY_get_raw_public_key(p->share, public, &n) == 1 && n == 32;
}

/* OpenSSL refuses a secret of zeros, which a share of small order gives [RFC7748 6.1]. */
static enum mesh_err
x25519(EVP_PKEY *share, const uint8_t *peer, uint8_t shared[32])
{
    enum mesh_err e = MESH_E_NO_MEMORY;
    size_t n = 32;
    EVP_PKEY *other = EVP_PKEY_new_raw_public_key_ex(NULL, "X25519", NULL, peer, 32);
    EVP_PKEY_CTX *c = other != NULL ? EVP_PKEY_CTX_new_from_pkey(NULL, share, NULL) : NULL;
    if (c != NULL && EVP_PKEY_derive_init(c) == 1 && EVP_PKEY_derive_set_peer(c, other) == 1)
        e = EVP_PKEY_derive(c, shared, &n) == 1 && n == 32 ? MESH_OK : MESH_E_HANDSHAKE;
    EVP_PKEY_CTX_free(c);
    EVP_PKEY_free(other);
    return e;
}

/* tx and rx of this role from the two sides' secrets. */
static bool
traffic_keys(const struct shim_psk *p, struct shim_key *tx, struct shim_key *rx, const uint8_t *client,
             const uint8_t *server)
{
    return shim_suite_key_init(p->server ? rx : tx, SHIM_SCHED_SUITE, client, SHIM_SCHED_HASH) == MESH_OK &&
           shim_suite_key_init(p->server ? tx : rx, SHIM_SCHED_SUITE, server, SHIM_SCHED_HASH) == MESH_OK;
}

enum mesh_err
shim_psk_exchange(struct shim_psk *p, const uint8_t *peer)
{
    uint8_t shared[32];
    enum mesh_err e = x25519(p->share, peer, shared);
    if (e == MESH_OK && !(shim_sched_next(&p->sched, shared) &&
                          shim_sched_derive(&p->sched, "c hs traffic", p->client_secret) &&
                          shim_sched_derive(&p->sched, "s hs traffic", p->server_secret) &&
                          traffic_keys(p, &p->tx, &p->rx, p->client_secret, p->server_secret)))
        e = MESH_E_NO_MEMORY;
    shim_mem_wipe(shared, sizeof(shared));
    return e;
}

bool
shim_psk_finished(const struct shim_psk *p, const uint8_t *secret, uint8_t *out)
{
    const uint8_t head[] = {SHIM_MSG_FINISHED, 0, 0, SHIM_SCHED_HASH};
    uint8_t hash[SHIM_SCHED_HASH];
    memcpy(out, head, sizeof(head));
    return shim_sched_hash(&p->sched, hash) && shim_sched_verify_data(secret, hash, out + sizeof(head));
}

bool
shim_psk_keys(struct shim_psk *p)
{
    uint8_t client[SHIM_SCHED_HASH], server[SHIM_SCHED_HASH];
    bool ok = shim_sched_next(&p->sched, NULL) && shim_sched_derive(&p->sched, "c ap traffic", client) &&
              shim_sched_derive(&p->sched, "s ap traffic", server) &&
              traffic_keys(p, &p->next_tx, &p->next_rx, client, server);
    shim_mem_wipe(client, sizeof(client));
    shim_mem_wipe(server, sizeof(server));
    return ok;
}

/* ---- records ---- */

static enum shim_psk_state
encrypted(struct shim_psk *p, const uint8_t *rec, size_t len)
{
    uint8_t plain[PLAIN_MAX], type = 0;
    size_t n = 0;
    if (len > sizeof(plain))
        return shim_psk_fail(p, MESH_E_HANDSHAKE, SHIM_ALERT_OVERFLOW);
    if (shim_record_open(&p->rx, rec, len, plain, &n, &type) != MESH_OK)
        return shim_psk_fail(p, MESH_E_BAD_MAC, SHIM_ALERT_BAD_MAC);
    if (type == SHIM_REC_ALERT && n == 2)
        return shim_psk_fail(p, MESH_E_PEER_ALERT, plain[1]);
    if (type != SHIM_REC_HANDSHAKE || n == 0 || n > sizeof(p->messages) - p->have)
        return shim_psk_fail(p, MESH_E_HANDSHAKE, SHIM_ALERT_UNEXPECTED);
    memcpy(p->messages + p->have, plain, n);
    p->have += n;
    return p->server ? shim_psk_server_flight(p) : shim_psk_client_flight(p);
}

enum shim_psk_state
shim_psk_step(struct shim_psk *p, const uint8_t *rec, size_t len)
{
    if (!p->answered)
        return shim_psk_client_hello(p, rec, len);
    enum shim_psk_state st = SHIM_PSK_MORE;
    if (rec[0] == SHIM_REC_DATA)
        st = encrypted(p, rec, len);
    else if (rec[0] == SHIM_REC_ALERT && len == SHIM_REC_HEAD + 2)
        st = shim_psk_fail(p, MESH_E_PEER_ALERT, rec[SHIM_REC_HEAD + 1]);
    else if (rec[0] != CCS || len != SHIM_REC_HEAD + 1 || rec[SHIM_REC_HEAD] != 1)
        st = shim_psk_fail(p, MESH_E_HANDSHAKE, SHIM_ALERT_UNEXPECTED);
    if (st == SHIM_PSK_DONE) {
        p->tx = p->next_tx;
        p->rx = p->next_rx;
    }
    return st;
}

void
shim_psk_free(struct shim_psk *p)
{
    if (p == NULL)
        return;
    shim_sched_fini(&p->sched);
    EVP_PKEY_free(p->share);
    OPENSSL_clear_free(p, sizeof(*p));
}
