/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine's only way in: the operations table, and OpenSSL's setup behind it.
 *
 * This copy of OpenSSL is nobody else's (static, hidden), so its default library context is ours
 * alone and a context of our own would only double the stores. It reads no configuration, loads
 * no system CA, and leaves nothing to be run at exit. The library must stay loaded.
 */
#include <pthread.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "shim/tls/cache.h"
#include "shim/tls/ctx.h"
#include "shim/tls/gate.h"
#include "shim/tls/hs.h"
#include "shim/tls/libc.h"
#include "shim/tls/mem.h"
#include "shim/tls/record.h"
#include "shim/tls/suite.h"
#include "shim/tls/tls.h"

static enum mesh_err state = MESH_E_ENGINE; /* written by setup under pthread_once */

/* A whole key that is given back takes its key schedule with it. */
static void
wipe(void *p, size_t n)
{
    struct shim_key k;
    if (p != NULL && n == sizeof(k)) {
        memcpy(&k, p, sizeof(k));
        shim_cache_drop(&k);
        shim_mem_wipe(&k, sizeof(k));
    }
    shim_mem_wipe(p, n);
}

static enum mesh_err
identity_set(const struct shim_identity *id)
{
    shim_gate_enter();
    enum mesh_err e = shim_ctx_set(id);
    shim_gate_leave();
    return e;
}

static struct shim_hs *
hs_new(int server, const char *expect_id)
{
    shim_gate_enter();
    struct shim_hs *hs = shim_hs_new(server, expect_id);
    shim_gate_leave();
    return hs;
}

static void
hs_free(struct shim_hs *hs)
{
    shim_gate_enter();
    shim_hs_free(hs);
    shim_gate_leave();
}

static enum shim_hs_state
hs_step(struct shim_hs *hs, const uint8_t *in, size_t len, uint8_t *out, size_t cap,
        size_t *out_len)
{
    shim_gate_enter();
    enum shim_hs_state st = shim_hs_step(hs, in, len, out, cap, out_len);
    shim_gate_leave();
    return st;
}

static void
thread_end(void)
{
    shim_gate_enter();
    shim_libc_thread_end();
    shim_gate_leave();
}

static void
hs_offer(struct shim_hs *hs, const struct shim_ticket *t)
{
    shim_gate_enter();
    shim_hs_offer(hs, t);
    shim_gate_leave();
}

static const struct shim_tls_ops ops = {
    .abi = SHIM_TLS_ABI,
    .identity_set = identity_set,
    .hs_new = hs_new,
    .hs_expect = shim_hs_expect,
    .hs_offer = hs_offer,
    .tickets = shim_hs_tickets,
    .hs_free = hs_free,
    .hs_step = hs_step,
    .hs_result = shim_hs_result,
    .seal = shim_record_seal,
    .open = shim_record_open,
    .key_update = shim_record_key_update,
    .key_update_due = shim_record_key_update_due,
    .wipe = wipe,
    .thread_end = thread_end,
};

static enum mesh_err
openssl_init(void)
{
    const uint64_t opts = OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT | OPENSSL_INIT_NO_ADD_ALL_CIPHERS |
                          OPENSSL_INIT_NO_ADD_ALL_DIGESTS;
    shim_mem_init();
    /* The first call decides; those inside OpenSSL that ask for the defaults come too late. */
    if (OPENSSL_init_crypto(opts, NULL) != 1 || OPENSSL_init_ssl(opts, NULL) != 1)
        return MESH_E_ENGINE;
    /* Succeeded, and still there may be no library context if memory ran out: a fetch would crash. */
    if (OSSL_LIB_CTX_get0_global_default() == NULL)
        return MESH_E_ENGINE;
    /* Those by whose names a certificate's signature is judged; all of them would be three hundred names. */
    if (EVP_add_digest(EVP_sha1()) != 1 || EVP_add_digest(EVP_sha224()) != 1 || EVP_add_digest(EVP_sha256()) != 1 ||
        EVP_add_digest(EVP_sha384()) != 1 || EVP_add_digest(EVP_sha512()) != 1)
        return MESH_E_ENGINE;
    enum mesh_err e = shim_suite_init();
    if (e == MESH_OK)
        e = shim_hs_init();
    ERR_clear_error();
    return e;
}

static void
setup(void)
{
    if (shim_gate_init() != MESH_OK)
        return;
    shim_gate_enter();
    state = openssl_init();
    if (state == MESH_OK)
        shim_cache_init();
    shim_gate_leave();
}

__attribute__((visibility("default"))) const struct shim_tls_ops *
shim_tls_engine(void (*on_thread)(void))
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    shim_libc_init(on_thread);
    if (pthread_once(&once, setup) != 0 || state != MESH_OK)
        return NULL;
    return &ops;
}
