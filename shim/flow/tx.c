/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_tx: see tx.h.
 */
#include "shim/flow/tx.h"

#include <errno.h>
#include <string.h>

#include "shim/core/stat.h"
#include "shim/flow/audit.h"
#include "shim/flow/ident.h"
#include "shim/flow/mark.h"
#include "shim/flow/sockopt.h"
#include "shim/real.h"

#define BATCH 4u

static struct shim_key *
key_of(struct shim_slot *s)
{
    return (struct shim_key *)(void *)s->tx_key;
}

/* A record torn apart cannot be mended: the peer must not take it for the end. */
__attribute__((cold)) static int
no_tail(struct shim_slot *s)
{
    atomic_fetch_or(&s->flags, SHIM_SF_TX_DEAD);
    shim_stat_err(MESH_E_SPILL);
    return -mesh_err_errno(MESH_E_SPILL);
}

/* Sends of a tail; a mark at its end alone, and as urgent. */
static long
send_tail(int fd, const struct shim_slot *s, const struct shim_part *tail)
{
    bool mark = atomic_load(&s->urgent) & SHIM_URGENT_TAIL;
    if (!mark || tail->len != 1) {
        return sys_send(fd, tail->at, tail->len - mark, MSG_DONTWAIT | (mark ? MSG_MORE : 0));
    }
    return sys_send(fd, tail->at, 1, MSG_DONTWAIT | MSG_OOB);
}

__attribute__((cold)) static int
flush(int fd, struct shim_slot *s)
{
    for (uint32_t spill; (spill = atomic_load(&s->tx_spill)) != 0;) {
        const struct shim_part tail = shim_spill_part(s, spill, SHIM_ONCE(s->tx_off), SHIM_ONCE(s->tx_len));
        if (!tail.at) {
            s->tx_spill = 0;
            return no_tail(s);
        }
        long r = send_tail(fd, s, &tail);
        if (r < 0) {
            if (r == -EINTR) {
                continue;
            }
            return (int)r;
        }
        s->tx_off += (uint32_t)r;
        s->tx_raw += (uint64_t)r;
        if ((size_t)r == tail.len) {
            atomic_fetch_and(&s->urgent, (uint8_t)~SHIM_URGENT_TAIL);
            s->tx_spill = 0;
            shim_spill_put(s, spill);
        }
    }
    return 0;
}

__attribute__((hot)) int
shim_tx_flush(int fd, struct shim_slot *s)
{
    return s->tx_spill ? flush(fd, s) : 0;
}

/* Keeps the unsent part of one record. */
__attribute__((cold)) static int
keep_tail(struct shim_slot *s, const uint8_t *p, size_t n)
{
    uint32_t spill = shim_spill_get(s);
    uint8_t *to = shim_spill_at(s, spill);
    s->tx_spill = spill;
    if (!to) {
        return no_tail(s);
    }
    memcpy(to, p, n);
    s->tx_off = 0;
    s->tx_len = (uint32_t)n;
    s->tx_spill_raw = s->tx_raw;
    shim_stat_add(MESH_STAT_TX_SPILLS, 1);
    return 0;
}

/* Sealing failed: at the key's limit, of which we were warned long before, or for want of memory.
 * What it sealed, if anything, never left the process, so its number may be used again. */
__attribute__((cold)) static int
seal_failed(struct shim_key *key, uint64_t seq)
{
    enum mesh_err e = atomic_load(&shim_tls)->key_update_due(key) ? MESH_E_KEY_LIMIT
                                                                  : MESH_E_NO_MEMORY;
    key->seq = seq;
    shim_stat_err(e);
    return -mesh_err_errno(e);
}

/* One record of a kind other than data, sent whole or with a tail; -EAGAIN: taken back. */
static int
put_control(int fd, struct shim_slot *s, uint8_t type, const uint8_t *body, size_t n, int more)
{
    uint8_t rec[64];
    struct shim_key *key = key_of(s);
    uint64_t seq = key->seq;
    shim_audit_tx_begin(s, seq, type == SHIM_REC_HANDSHAKE);
    size_t len = atomic_load(&shim_tls)->seal(key, type, body, n, rec);
    if (len == 0) {
        return seal_failed(key, seq);
    }
    shim_audit_tx_plan(s, len);
    long r = sys_send(fd, rec, len, MSG_DONTWAIT | more);
    if (r < 0) {
        shim_stat_conn_broke(s, r);
        key->seq = seq;
        shim_audit_tx_end(s);
        return (int)r;
    }
    s->tx_raw += (uint64_t)r;
    int e = (size_t)r < len ? keep_tail(s, rec + r, len - (size_t)r) : 0;
    if (type != SHIM_REC_HANDSHAKE) {
        shim_audit_tx_end(s);
    }
    return e;
}

/* KeyUpdate goes out under the old key; everything after it under the new one. */
__attribute__((cold)) static int
send_key_update(int fd, struct shim_slot *s)
{
    static const uint8_t msg[5] = {24, 0, 0, 1, 0};
    int r = put_control(fd, s, SHIM_REC_HANDSHAKE, msg, sizeof(msg), 0);
    if (r == 0) {
        atomic_fetch_and(&s->flags, ~(uint32_t)SHIM_SF_KU_DUE);
        shim_stat_add(MESH_STAT_KEY_UPDATES, 1);
        r = atomic_load(&shim_tls)->key_update(key_of(s)) == MESH_OK ? 0 : -EIO;
        shim_audit_tx_end(s);
        r = r == 0 ? shim_tx_flush(fd, s) : r;
    }
    return r;
}

/* Seals up to BATCH records of data into buf; fewer, or none, when sealing fails. */
static size_t
seal_batch(struct shim_slot *s, struct shim_iov *data, uint8_t *buf, size_t plain[], size_t rec[],
           unsigned *count)
{
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    size_t len = 0;
    *count = 0;
    while (data->left > 0 && *count < BATCH) {
        const struct shim_iov before = *data;
        uint64_t seq = key_of(s)->seq;
        uint8_t *p, *out = buf + len;
        size_t n = data->left < SHIM_REC_PLAIN_MAX ? data->left : SHIM_REC_PLAIN_MAX;
        size_t r;
        if (shim_iov_piece(data, &p) >= n) {
            r = tls->seal(key_of(s), SHIM_REC_DATA, p, n, out);
            shim_iov_skip(data, n);
        } else {
            shim_iov_get(data, out + SHIM_REC_HEAD, n); /* sealed in place */
            r = tls->seal(key_of(s), SHIM_REC_DATA, out + SHIM_REC_HEAD, n, out);
        }
        if (r == 0) {
            *data = before;
            key_of(s)->seq = seq;
            break;
        }
        plain[*count] = n;
        rec[(*count)++] = r;
        len += r;
    }
    return len;
}

__attribute__((hot)) static void
count_tx(struct shim_slot *s, size_t n, unsigned records)
{
    struct mesh_page_conn *c = shim_stat_conn(s);
    shim_stat_add(MESH_STAT_TX_BYTES, n);
    shim_stat_add(MESH_STAT_TX_RECORDS, records);
    if (c) {
        atomic_fetch_add_explicit(&c->tx_bytes, n, memory_order_relaxed);
    }
}

/* Seals and sends one batch. Returns plaintext bytes that count as written, or -errno. */
static ssize_t
put_batch(int fd, struct shim_slot *s, struct shim_iov *data, int more, uint8_t *buf)
{
    size_t plain[BATCH], rec[BATCH], done = 0, at = 0;
    unsigned count, i;
    struct shim_key *key = key_of(s);
    struct shim_iov start = *data;
    uint64_t seq = key->seq;
    shim_audit_tx_begin(s, seq, false);
    size_t len = seal_batch(s, data, buf, plain, rec, &count);
    if (len == 0) {
        return seal_failed(key, seq);
    }
    shim_audit_tx_plan(s, len);
    long r = sys_send(fd, buf, len, MSG_DONTWAIT | more);
    s->tx_raw += r > 0 ? (uint64_t)r : 0;
    for (i = 0; r > 0 && i < count && at < (size_t)r; i++) {
        at += rec[i];
        done += plain[i];
    }
    if (i < count) { /* records i.. were never on the wire */
        key->seq = seq + i;
        *data = start;
        shim_iov_skip(data, done);
    }
    int e = r > 0 && at > (size_t)r ? keep_tail(s, buf + r, at - (size_t)r) : 0;
    shim_audit_tx_end(s);
    if (r < 0) {
        return r;
    }
    count_tx(s, done, i);
    return e ? e : (ssize_t)done;
}

void
shim_tx_count(struct shim_slot *s, size_t n)
{
    count_tx(s, n, (unsigned)((n + SHIM_REC_PLAIN_MAX - 1) / SHIM_REC_PLAIN_MAX));
}

/* What goes before any data. */
static inline __attribute__((always_inline)) ssize_t
begin(int fd, struct shim_slot *s)
{
    ssize_t r = shim_tx_flush(fd, s);
    if (r == 0 && shim_slot_has(s, SHIM_SF_TX_DEAD | SHIM_SF_PACED)) {
        r = shim_slot_has(s, SHIM_SF_TX_DEAD) ? -ECONNRESET : 0;
        if (s->share) {
            shim_sockopt_share(fd, s);
        }
    }
    if (r == 0 && (shim_slot_has(s, SHIM_SF_KU_DUE) ||
                   atomic_load(&shim_tls)->key_update_due(key_of(s)))) {
        r = send_key_update(fd, s);
    }
    return r;
}

__attribute__((hot)) ssize_t
shim_tx_put(int fd, struct shim_slot *s, struct shim_iov *data, int more)
{
    size_t total = 0;
    ssize_t r = begin(fd, s);
    uint8_t *buf = r == 0 ? shim_scratch_get() : NULL;
    if (r == 0 && !buf) {
        shim_stat_err(MESH_E_NO_MEMORY);
        r = -mesh_err_errno(MESH_E_NO_MEMORY);
    }
    bool first = key_of(s)->seq == 0;
    while (r >= 0 && data->left > 0 && !s->tx_spill) {
        r = put_batch(fd, s, data, more, buf);
        total += r > 0 ? (size_t)r : 0;
    }
    if (__builtin_expect(first && total && !more, 0)) {
        shim_sockopt_first(fd);
    }
    if (buf) {
        shim_scratch_put(buf);
    }
    return total ? (ssize_t)total : r;
}

/* Record and mark: not by one call, for of a part the kernel would make the last byte urgent. */
static long
send_marked(int fd, struct shim_slot *s, const uint8_t *rec, size_t len)
{
    long r = sys_send(fd, rec, len, MSG_DONTWAIT | MSG_MORE), mark = 0;
    if (r == (long)len) {
        mark = sys_send(fd, rec + len, 1, MSG_DONTWAIT | MSG_OOB);
    }
    r += mark > 0 ? 1 : 0;
    s->tx_raw += r > 0 ? (uint64_t)r : 0;
    return r;
}

ssize_t
shim_tx_urgent(int fd, struct shim_slot *s, struct shim_iov *data)
{
    /* The type is put behind the content, and what seal() takes for the type is the last zero. */
    uint8_t in[1 + SHIM_MARK_PAD] = {0, SHIM_REC_DATA}, rec[SHIM_MARK_LEN + 1] = {0};
    struct shim_iov rest = *data;
    struct shim_key *key = key_of(s);
    ssize_t e = begin(fd, s);
    if (e != 0) {
        return e;
    }
    uint64_t seq = key->seq;
    shim_iov_get(&rest, in, 1);
    shim_audit_tx_begin(s, seq, false);
    size_t len = atomic_load(&shim_tls)->seal(key, 0, in, sizeof(in), rec);
    if (len == 0) {
        return seal_failed(key, seq);
    }
    shim_audit_tx_plan(s, len + 1);
    long r = send_marked(fd, s, rec, len);
    if (r < 0) {
        key->seq = seq;
    } else if ((size_t)r <= len) {
        e = keep_tail(s, rec + r, len + 1 - (size_t)r);
        atomic_fetch_or(&s->urgent, e == 0 ? SHIM_URGENT_TAIL : 0);
    }
    shim_audit_tx_end(s);
    if (r < 0) {
        return r;
    }
    *data = rest;
    count_tx(s, 1, 1);
    return e ? e : 1;
}

int
shim_tx_close_notify(int fd, struct shim_slot *s)
{
    static const uint8_t msg[2] = {1, 0};
    int r = shim_tx_flush(fd, s);
    if (r != 0 || shim_slot_has(s, SHIM_SF_TX_SHUT | SHIM_SF_TX_DEAD)) {
        return r;
    }
    /* Held back until the FIN that follows at once: the peer is woken for the end only once. */
    r = put_control(fd, s, SHIM_REC_ALERT, msg, sizeof(msg), MSG_MORE);
    if (r != -EAGAIN) {
        atomic_fetch_or(&s->flags, SHIM_SF_TX_SHUT);
        r = r == 0 ? shim_tx_flush(fd, s) : r;
    }
    return r;
}
