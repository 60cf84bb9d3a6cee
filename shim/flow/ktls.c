/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_ktls, the hand-over: see ktls.h. What follows it is in ktls_data.c.
 */
#include "shim/flow/ktls.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/flow/audit.h"
#include "shim/flow/ident.h"
#include "shim/flow/ktls_int.h"
#include "shim/flow/mark.h"
#include "shim/flow/rx.h"
#include "shim/flow/rx_int.h"
#include "shim/flow/tx.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/real.h"

#define CONTROL 8 /* control records in a row that are looked at */

/* ---- can it, may it ---- */

/* Learnt from the first attempt, which changes nothing where there is no kernel TLS: a socket just for
 * asking could be what a sandbox kills for. A fact about the kernel, so that a child of vfork may write
 * it down. */
static _Atomic bool absent;

static enum mesh_kernel_tls
policy(void)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    mesh_snap_settings(&snap, &set);
    return (enum mesh_kernel_tls)set.kernel_tls;
}

bool
shim_ktls_always(void)
{
    return !atomic_load(&absent) && policy() == MESH_KTLS_ALWAYS;
}

/* ---- hand-over ---- */

struct shim_key *
shim_ktls_tx_key(struct shim_slot *s)
{
    return (struct shim_key *)(void *)s->tx_key;
}

static void
put_seq(unsigned char out[8], uint64_t seq)
{
    for (int i = 7; i >= 0; i--, seq >>= 8) {
        out[i] = (unsigned char)seq;
    }
}

/* A 12-byte nonce is salt and iv to the kernel [RFC8446 5.3; linux/tls.h]. */
#define FILL(to, name, from)                                                           \
    do {                                                                               \
        (to).info.version = TLS_1_3_VERSION;                                           \
        (to).info.cipher_type = TLS_CIPHER_##name;                                     \
        memcpy((to).key, (from)->key, TLS_CIPHER_##name##_KEY_SIZE);                   \
        memcpy((to).salt, (from)->iv, TLS_CIPHER_##name##_SALT_SIZE);                  \
        memcpy((to).iv, (from)->iv + TLS_CIPHER_##name##_SALT_SIZE,                    \
               TLS_CIPHER_##name##_IV_SIZE);                                           \
        put_seq((to).rec_seq, (from)->seq);                                            \
    } while (0)

int
shim_ktls_install(int fd, int direction, const struct shim_key *key)
{
    union {
        struct tls12_crypto_info_aes_gcm_128 aes128;
        struct tls12_crypto_info_aes_gcm_256 aes256;
        struct tls12_crypto_info_chacha20_poly1305 chacha;
    } u;
    socklen_t len = 0;
    memset(&u, 0, sizeof(u));
    if (key->suite == 0x1301) {
        FILL(u.aes128, AES_GCM_128, key);
        len = sizeof(u.aes128);
    } else if (key->suite == 0x1302) {
        FILL(u.aes256, AES_GCM_256, key);
        len = sizeof(u.aes256);
    } else if (key->suite == 0x1303) {
        FILL(u.chacha, CHACHA20_POLY1305, key);
        len = sizeof(u.chacha);
    }
    int r = len ? (int)sys_setsockopt(fd, SOL_TLS, direction, &u, len) : -EINVAL;
    explicit_bzero(&u, sizeof(u));
    return r;
}

/* Control records at the head of the queue mean nothing to a program that is not under libmesh. What
 * is data, or not all there, stays for the kernel. */
static int
clear_control(int fd, struct shim_slot *s, uint8_t *buf)
{
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    for (int i = 0; i < CONTROL && !shim_slot_has(s, SHIM_SF_RX_EOF); i++) {
        struct shim_key key = *shim_rx_key(s);
        size_t plain = 0;
        uint8_t type = SHIM_REC_DATA;
        long n = sys_recv(fd, buf, SHIM_REC_MAX, MSG_PEEK | MSG_DONTWAIT);
        size_t len = n >= (long)SHIM_REC_HEAD ? shim_rx_record_len(buf) : SIZE_MAX;
        enum mesh_err e = len == 0 ? MESH_E_BAD_RECORD : MESH_OK;
        if (n > 0 && len <= (size_t)n && e == MESH_OK) {
            e = tls->open(&key, buf, len, buf + SHIM_REC_HEAD, &plain, &type);
        }
        if (e == MESH_OK && type != SHIM_REC_DATA) {
            shim_audit_rx_begin(s);
            (void)sys_recv(fd, buf + SHIM_REC_MAX, len, MSG_DONTWAIT);
            s->rx_raw += len;
            *shim_rx_key(s) = key;
            e = shim_rx_control(s, type, buf + SHIM_REC_HEAD, plain);
            shim_audit_rx_end(s);
        }
        tls->wipe(&key, sizeof(key));
        if (e != MESH_OK) {
            return (int)shim_rx_die(fd, s, e);
        }
        if (type == SHIM_REC_DATA) {
            break;
        }
    }
    return 0;
}

/* Both directions at a record boundary, with nothing left to send or deliver. */
static int
make_ready(int fd, struct shim_slot *s)
{
    struct shim_iov nothing = {.iov = NULL};
    uint8_t *buf = NULL;
    if (shim_slot_phase(s) != SHIM_PHASE_OPEN ||
        shim_slot_has(s, SHIM_SF_RX_DEAD | SHIM_SF_TX_DEAD | SHIM_SF_TX_SHUT)) {
        return -EINVAL;
    }
    if (s->rx_state != SHIM_RX_NONE || s->rx_msg || s->rx_errno || shim_mark_may_be(fd, s)) {
        return -EBUSY; /* what was taken out of the kernel cannot be put back */
    }
    if (shim_slot_has(s, SHIM_SF_EARLY | SHIM_SF_FIN_DUE)) {
        return -EAGAIN;
    }
    buf = shim_scratch_get();
    int r = buf ? clear_control(fd, s, buf) : -ENOBUFS;
    if (buf) {
        shim_scratch_put(buf);
    }
    if (r == 0) { /* a tail, and a KeyUpdate that is owed */
        r = (int)shim_tx_put(fd, s, &nothing, 0);
    }
    return r < 0 ? r : s->tx_spill ? -EAGAIN : s->rx_msg ? -EBUSY : 0;
}

/* Nothing may fail after the first direction is in the kernel: it cannot be taken back. Who dies in
 * between leaves SHIM_SF_MOVING, and nobody seals with keys that the kernel may have (audit.c). */
static int
hand_over(int fd, struct shim_slot *s)
{
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    int r = make_ready(fd, s);
    if (r != 0) {
        return r;
    }
    r = (int)sys_setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 4);
    if (r == -ENOENT) {
        atomic_store(&absent, true);
        return -EOPNOTSUPP;
    }
    r = r == -EEXIST ? 0 : r; /* an attempt before this one */
    atomic_fetch_or(&s->flags, SHIM_SF_MOVING);
    r = r ? r : shim_ktls_install(fd, TLS_TX, shim_ktls_tx_key(s));
    if (r != 0) {
        atomic_fetch_and(&s->flags, ~(uint32_t)SHIM_SF_MOVING);
        return r;
    }
    r = shim_ktls_install(fd, TLS_RX, shim_rx_key(s));
    if (r != 0 || tls->key_update(shim_ktls_tx_key(s)) != MESH_OK || tls->key_update(shim_rx_key(s)) != MESH_OK) {
        tls->wipe(s->tx_key, sizeof(s->tx_key));
        tls->wipe(s->rx_key, sizeof(s->rx_key));
    }
    shim_rx_set_lowat(fd, s);
    atomic_store_explicit(&s->phase, SHIM_PHASE_KERNEL, memory_order_release);
    atomic_fetch_and(&s->flags, ~(uint32_t)SHIM_SF_MOVING);
    if (r != 0) {
        atomic_fetch_or(&s->flags, SHIM_SF_TX_DEAD);
        return (int)shim_rx_die(fd, s, MESH_E_KERNEL_TLS);
    }
    return 0;
}

int
shim_ktls_give(int fd, struct shim_slot *s)
{
    if (shim_slot_phase(s) == SHIM_PHASE_KERNEL) {
        return 0;
    }
    if (atomic_load(&absent) || policy() == MESH_KTLS_OFF) {
        return -EOPNOTSUPP;
    }
    int r = -EAGAIN;
    if (shim_audit_rx(fd, s, true) == 0) {
        if (shim_audit_tx(fd, s, true) == 0) {
            r = hand_over(fd, s);
            shim_lock_put(&s->tx_lock);
        }
        shim_lock_put(&s->rx_lock);
    }
    if (r == 0) {
        atomic_fetch_add(&shim_work_changes, 1);
        shim_stat_add(MESH_STAT_KERNEL, 1);
    } else if (r != -EAGAIN && !atomic_load(&absent)) {
        shim_stat_add(MESH_STAT_KERNEL_NOT, 1);
    }
    shim_log_debug("kernel TLS: fd %d: %d", fd, r);
    return r;
}

bool
shim_ktls_give_away(int fd, struct shim_slot *s)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    mesh_snap_settings(&snap, &set);
    uint64_t until = shim_now() + (uint64_t)set.linger_ms * 1000000;
    int r;
    while ((r = shim_ktls_give(fd, s)) == -EAGAIN && shim_now() < until) {
        struct pollfd p = {fd, POLLOUT, 0};
        shim_work_drive();
        (void)sys_poll(&p, 1, 5);
    }
    if (r == 0) {
        atomic_fetch_or(&s->flags, SHIM_SF_FOREIGN);
    }
    return r == 0;
}
