/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_rx, FIONREAD: plaintext bytes that can be read now, exactly. That takes the headers of all
 * records in the kernel's queue, and the queue can be looked at from its front only: programs that
 * ask after every small read would have it copied again and again. So the slot remembers how far it
 * was counted (ahead_*; positions in the stream of bytes, so that reading needs no bookkeeping
 * here), and looks go on from there, by SO_PEEK_OFF [socket(7); TCP has it since Linux 6.9]. Older
 * kernels copy what lies before, but only when the queue holds a record that was not counted.
 *
 * SO_PEEK_OFF changes what a MSG_PEEK elsewhere sees. Under rx_lock there is none but ours; the
 * reader that sleeps in one without the lock announces itself in rx_sleepers, and then waits for the
 * lock if rx_offset is set: it is either seen here, and the offset left alone, or finds it gone.
 */
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "shim/flow/ident.h"
#include "shim/flow/mark.h"
#include "shim/flow/rx.h"
#include "shim/flow/rx_int.h"
#include "shim/real.h"

#define SHORT  64u   /* alerts and KeyUpdates are not longer */
#define LOOK   2048u /* bytes at a time: few system calls for small records, small copies for large */
#define TAIL   UINT32_MAX /* as ahead_len: a record has begun, but its length is not here yet */
#define DIRECT 4096u /* nearer than this copying what lies before costs less than the offset */

/* How far the stream is counted: a copy of ahead_* in the slot, which is read and written as a whole. */
struct count {
    uint64_t raw; /* where the kernel's queue begins */
    uint64_t pos, plain, seq;
    uint32_t len;
};

/* Bytes [from, from + len) of the stream. */
struct look {
    uint64_t from;
    size_t len;
    uint8_t *at, *mapped; /* at: own, or what is mapped for the fallback */
    size_t size, queued;  /* mapped; in the kernel */
    uint8_t own[DIRECT + LOOK];
};

static long
peek(int fd, uint8_t *buf, size_t n)
{
    long r = sys_recv(fd, buf, n, MSG_PEEK | MSG_DONTWAIT);
    return r > 0 ? r : 0;
}

static bool
set_offset(int fd, int offset)
{
    return sys_setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset)) == 0;
}

/* The head of the record that is held in part, and what follows if that is short. */
static void
look_held(int fd, const struct shim_slot *s, struct look *l)
{
    const struct shim_part held = shim_rx_head(s);
    l->len = held.len < SHORT ? held.len : SHORT;
    if (l->len) {
        memcpy(l->own, held.at, l->len);
    }
    if (l->len == held.len) {
        l->len += (size_t)peek(fd, l->own + l->len, LOOK);
    }
}

/* The whole queue, with the copying. */
static void
look_through(int fd, struct look *l, uint64_t raw)
{
    void *p = mmap(NULL, l->queued, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED) {
        l->at = l->mapped = p;
        l->size = l->queued;
        l->from = raw;
        l->len = (size_t)peek(fd, p, l->queued);
    }
}

/* Looks from `skip` bytes on. False where the kernel cannot, or a reader sleeps whom it would move. */
static bool
look_beyond(int fd, struct shim_slot *s, struct look *l, size_t skip)
{
    atomic_store(&s->rx_offset, 1); /* before the look at rx_sleepers: one of the two sees the other */
    bool can = atomic_load(&s->rx_sleepers) == 0 && set_offset(fd, (int)skip);
    if (can) {
        l->len = (size_t)peek(fd, l->own, LOOK);
        (void)set_offset(fd, -1);
    }
    atomic_store(&s->rx_offset, 0);
    return can;
}

/* Makes l show the stream from c->pos on, if there is something. */
static void
look_at(int fd, struct shim_slot *s, struct look *l, const struct count *c)
{
    size_t skip = c->pos < c->raw ? 0 : (size_t)(c->pos - c->raw);
    bool near = false;
    l->at = l->own;
    l->from = c->pos;
    l->len = 0;
    if (c->pos < c->raw) {
        look_held(fd, s, l);
    } else if (skip <= DIRECT) {
        l->from = c->raw;
        l->len = (size_t)peek(fd, l->own, skip + LOOK);
        near = l->len > skip || l->queued <= skip;
    }
    if (near || c->pos < c->raw) {
        return;
    }
    l->from = c->pos; /* further on, or behind an urgent byte's mark, where a look from the front ends */
    l->len = 0;
    if (!look_beyond(fd, s, l, skip) && !l->mapped) {
        look_through(fd, l, c->raw);
    }
}

/* The record at c->pos, its first n bytes at least; NULL when they cannot be had. */
static uint8_t *
look_for(int fd, struct shim_slot *s, struct look *l, const struct count *c, size_t n)
{
    for (int tries = 0; tries < 2; tries++) {
        uint64_t off = c->pos - l->from;
        if (c->pos >= l->from && off <= l->len && n <= l->len - off) {
            return l->at + off;
        }
        if (tries == 0) {
            look_at(fd, s, l, c);
        }
    }
    return NULL;
}

/* A short record may be something else than data: it is opened, with a copy of the key. */
static bool
is_data(const struct shim_slot *s, uint64_t seq, const uint8_t *rec, size_t len, size_t *plain)
{
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    struct shim_key key = *(const struct shim_key *)(const void *)s->rx_key;
    uint8_t out[SHORT], type = 0;
    key.seq = seq;
    enum mesh_err e = tls->open(&key, rec, len, out, plain, &type);
    explicit_bzero(&key, sizeof(key));
    explicit_bzero(out, sizeof(out));
    return e == MESH_OK && type == SHIM_REC_DATA;
}

/* The marked record at c->pos: counted where its byte is one of the stream. That is so where the kernel counts bytes
 * behind it: it counts up to its mark, but with SO_OOBINLINE. */
static bool
count_marked(int fd, struct shim_slot *s, struct look *l, struct count *c)
{
    if (c->raw + l->queued - c->pos == c->len) {
        return false;
    }
    const uint8_t *rec = look_for(fd, s, l, c, c->len + 1);
    c->pos += c->len + (!rec || rec[c->len] == 0);
    c->plain++;
    c->seq++;
    c->len = 0;
    return true;
}

/* Counts the record at c->pos; false when it is not complete or not data. Long records are data
 * without padding, as every TLS stack sends them; when one is not, reading it starts the count anew. */
static bool
count_record(int fd, struct shim_slot *s, struct look *l, struct count *c)
{
    uint64_t left = c->raw + l->queued - c->pos;
    if (c->len == 0 && left >= SHIM_REC_HEAD) {
        const uint8_t *head = look_for(fd, s, l, c, SHIM_REC_HEAD);
        c->len = head ? (uint32_t)shim_rx_record_len(head) : 0;
    }
    if (c->len == 0 || left < c->len) {
        return false;
    }
    size_t plain = c->len - SHIM_REC_OVERHEAD;
    if (c->len <= SHORT) {
        const uint8_t *rec = look_for(fd, s, l, c, c->len);
        if (!rec || !is_data(s, c->seq, rec, c->len, &plain)) {
            return false;
        }
        if (shim_mark_is(SHIM_REC_DATA, c->len, plain)) {
            return count_marked(fd, s, l, c);
        }
    }
    c->pos += c->len;
    c->plain += plain;
    c->seq++;
    c->len = 0;
    return true;
}

/* The count begins at the first record that is not opened yet, unless it is further already. */
static struct count
count_begin(struct shim_slot *s, size_t opened, size_t held, uint64_t read)
{
    struct count c = {SHIM_ONCE(s->rx_raw), SHIM_ONCE(s->ahead_raw), SHIM_ONCE(s->ahead_plain),
                      SHIM_ONCE(s->ahead_seq), SHIM_ONCE(s->ahead_len)};
    uint64_t next = c.raw - held + shim_rx_last_byte(s);
    c.len = c.len == TAIL ? 0 : c.len;
    if (c.pos < next) {
        c.pos = next;
        c.plain = read + opened;
        c.seq = shim_rx_key(s)->seq;
        c.len = 0;
    }
    return c;
}

static void
count_end(struct shim_slot *s, const struct count *c, size_t queued)
{
    s->ahead_raw = c->pos;
    s->ahead_plain = c->plain;
    s->ahead_seq = c->seq;
    s->ahead_len = c->len ? c->len : c->pos < c->raw + queued ? TAIL : 0;
}

/* *queued: bytes in the kernel. */
static size_t
available(int fd, struct shim_slot *s, int *queued)
{
    size_t opened = shim_rx_plain(s).len, held = shim_rx_head(s).len;
    uint64_t read = SHIM_ONCE(s->rx_plain);
    struct look l;
    *queued = 0;
    if (shim_slot_has(s, SHIM_SF_RX_DEAD | SHIM_SF_RX_EOF) ||
        sys_call(SYS_ioctl, fd, FIONREAD, queued, 0) != 0 || *queued < 0) {
        *queued = 0;
        return opened;
    }
    l.at = l.own;
    l.mapped = NULL;
    l.from = l.len = 0;
    l.queued = (size_t)*queued;
    struct count c = count_begin(s, opened, held, read);
    if (c.pos > c.raw + l.queued) { /* SO_OOBINLINE was taken back: the kernel counts up to its mark again */
        s->ahead_raw = 0;
        c = count_begin(s, opened, held, read);
    }
    if (c.pos == c.raw && shim_mark_is_data(fd, s)) {
        c.pos++;
        c.plain++;
    }
    while (c.pos < c.raw + l.queued && count_record(fd, s, &l, &c)) {
    }
    count_end(s, &c, l.queued);
    if (l.mapped) {
        munmap(l.mapped, l.size);
    }
    size_t most = opened + held + l.queued, n = (size_t)(c.plain - read);
    return n < most ? n : most;
}

/* Who is told 0 may wait for an edge, and reads no more until then. */
ssize_t
shim_rx_available(int fd, struct shim_slot *s)
{
    int queued;
    if (atomic_load(&s->urgent)) {
        (void)shim_mark_settle(fd, s);
    }
    size_t n = available(fd, s, &queued);
    if (n == 0 && queued > 0) {
        shim_rx_pull(fd, s);
        n = available(fd, s, &queued);
    }
    return (ssize_t)n;
}
