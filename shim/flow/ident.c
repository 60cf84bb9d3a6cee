/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_ident: see ident.h.
 */
#include "shim/flow/ident.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "shim/core/lock.h"
#include "shim/core/log.h"
#include "shim/core/slot.h"
#include "shim/core/stat.h"
#include "shim/link/link.h"
#include "shim/real.h"

#define RETRY_S 10

const struct shim_tls_ops *_Atomic shim_tls;
static struct shim_lock lock;
static _Atomic uint64_t renew_at, expires_at, next_try; /* seconds, CLOCK_REALTIME; 0: none */

static uint64_t
wall(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec;
}

static enum mesh_err
load_engine(void)
{
    char path[512];
    const char *self = shim_real_self();
    const char *slash = strrchr(self, '/');
    int n = snprintf(path, sizeof(path), "%.*slibmesh-engine.so",
                     slash ? (int)(slash - self + 1) : 0, self);
    if (n < 0 || n >= (int)sizeof(path)) {
        return MESH_E_ENGINE;
    }
    const struct shim_tls_ops *(*entry)(void) = NULL;
    void *sym = shim_real_load(path, "shim_tls_engine");
    memcpy(&entry, &sym, sizeof(entry));
    const struct shim_tls_ops *ops = entry ? entry() : NULL;
    if (!ops || ops->abi != SHIM_TLS_ABI) {
        shim_log_error("%s: %s", path, mesh_err_text(MESH_E_ENGINE));
        return MESH_E_ENGINE;
    }
    atomic_store(&shim_tls, ops);
    return MESH_OK;
}

static enum mesh_err
fetch(void)
{
    const struct shim_tls_ops *ops = atomic_load(&shim_tls);
    static struct shim_link_cert cert; /* under lock */
    enum mesh_err e = shim_link_cert(&cert);
    if (e == MESH_OK) {
        const struct mesh_wire_cert_rep *r = &cert.rep;
        struct shim_identity id = {
            .chain = cert.blob, .chain_len = r->chain_len,
            .key = cert.blob + r->chain_len, .key_len = r->key_len,
            .bundle = cert.blob + r->chain_len + r->key_len, .bundle_len = r->bundle_len,
            .trust_domain = r->trust_domain,
        };
        e = ops->identity_set(&id);
        if (e == MESH_OK) {
            atomic_store(&renew_at, r->renew_at);
            atomic_store(&expires_at, r->not_after);
        }
    }
    ops->wipe(&cert, sizeof(cert));
    return e;
}

static enum mesh_err
ready_locked(void)
{
    enum mesh_err e = atomic_load(&shim_tls) ? MESH_OK : load_engine();
    uint64_t now = wall();
    if (e != MESH_OK || now < atomic_load(&renew_at)) {
        return e;
    }
    bool usable = now < atomic_load(&expires_at);
    if (usable && now < atomic_load(&next_try)) {
        return MESH_OK;
    }
    atomic_store(&next_try, now + RETRY_S);
    e = fetch();
    if (e != MESH_OK) {
        shim_log_error("certificate: %s", mesh_err_text(e));
    }
    return usable ? MESH_OK : e;
}

enum mesh_err
shim_ident_ready(void)
{
    if (atomic_load(&shim_tls) && wall() < atomic_load(&renew_at)) {
        return MESH_OK;
    }
    if (!shim_region_init()) {
        return MESH_E_NO_MEMORY;
    }
    if (!shim_lock_get(&lock, NULL)) {
        return MESH_E_NO_IDENTITY;
    }
    enum mesh_err e = ready_locked();
    shim_lock_put(&lock);
    return e;
}

void
shim_ident_forked(void)
{
    atomic_store(&lock.owner, 0);
}
