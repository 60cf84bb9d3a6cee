/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_rx: see rx.h.
 *
 * Greedy receive: with room for C bytes and h bytes of a partial record held, at most C + 22 - h
 * bytes are asked for. Every complete record carries at least 22 bytes that are not plaintext, so
 * all complete records in what came fit the caller's room; what is left over is part of one record
 * and goes to the spill. A record longer than the room is consumed but for its last byte, which is
 * peeked at, and served from the spill (SHIM_RX_PLAIN).
 */
#include "shim/flow/rx.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "shim/core/live.h"
#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/filter.h"
#include "shim/flow/audit.h"
#include "shim/flow/beside.h"
#include "shim/flow/ident.h"
#include "shim/flow/mark.h"
#include "shim/flow/rx_int.h"
#include "shim/flow/shape.h"
#include "shim/real.h"

#define DIRECT 4096u /* longer than alerts, KeyUpdates, and tickets with a certificate inside */

struct shim_key *
shim_rx_key(struct shim_slot *s)
{
    return (struct shim_key *)(void *)s->rx_key;
}

/* The connection cannot go on. The kernel's socket is shut down, so that it is readable and
 * whoever polls learns of it. */
ssize_t
shim_rx_die(int fd, struct shim_slot *s, enum mesh_err e)
{
    atomic_store(&s->err, e);
    atomic_fetch_or(&s->flags, SHIM_SF_RX_DEAD);
    shim_stat_err(e);
    shim_log_info("receive: %s (%s)", mesh_err_text(e), mesh_err_reason(e));
    (void)sys_call(SYS_shutdown, fd, SHUT_RDWR, 0, 0);
    return -mesh_err_errno(e);
}

size_t
shim_rx_record_len(const uint8_t *p)
{
    size_t n = (size_t)p[3] << 8 | p[4];
    if (p[0] != SHIM_REC_DATA || p[1] != 3 || p[2] != 3 || n > SHIM_REC_CIPHER_MAX || n < 17) {
        return 0;
    }
    return n + SHIM_REC_HEAD;
}

static enum mesh_err
on_handshake(struct shim_slot *s, const uint8_t *p, size_t n)
{
    while (n > 0) {
        uint32_t left = SHIM_ONCE(s->rx_msg);
        if (left > 0) {
            size_t skip = left < n ? left : n;
            s->rx_msg = left - (uint32_t)skip;
            p += skip;
            n -= skip;
            continue;
        }
        /* A header split over records is legal but nobody sends it: refused. */
        if (n < 4) {
            return MESH_E_BAD_RECORD;
        }
        size_t len = (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
        if (p[0] == 4) { /* NewSessionTicket: of no use to us */
            s->rx_msg = (uint32_t)len;
            p += 4;
            n -= 4;
            continue;
        }
        /* KeyUpdate ends its record [RFC8446 5.1]. */
        if (p[0] != 24 || len != 1 || n != 5 || p[4] > 1) {
            return MESH_E_BAD_RECORD;
        }
        if (p[4] == 1) {
            atomic_fetch_or(&s->flags, SHIM_SF_KU_DUE);
        }
        shim_stat_add(MESH_STAT_KEY_UPDATES, 1);
        return atomic_load(&shim_tls)->key_update(shim_rx_key(s));
    }
    return MESH_OK;
}

enum mesh_err
shim_rx_control(struct shim_slot *s, uint8_t type, const uint8_t *p, size_t n)
{
    if (type == SHIM_REC_HANDSHAKE) {
        return on_handshake(s, p, n);
    }
    if (type != SHIM_REC_ALERT || n != 2) {
        return MESH_E_BAD_RECORD;
    }
    if (p[1] == 0) { /* close_notify */
        atomic_fetch_or(&s->flags, SHIM_SF_RX_EOF);
    } else if (p[1] != 90) { /* user_canceled says nothing */
        return MESH_E_PEER_ALERT;
    }
    return MESH_OK;
}

static void
spill_drop(struct shim_slot *s)
{
    shim_spill_put(s, SHIM_ONCE(s->rx_spill));
    s->rx_spill = 0;
    s->rx_state = SHIM_RX_NONE;
    s->rx_len = s->rx_off = 0;
}

/* Keeps the head of an incomplete record. */
static enum mesh_err
spill_keep(struct shim_slot *s, const uint8_t *p, size_t n)
{
    uint32_t spill = SHIM_ONCE(s->rx_spill);
    if (n == 0) {
        if (spill) {
            spill_drop(s);
        }
        return MESH_OK;
    }
    if (!spill) {
        s->rx_spill = spill = shim_spill_get(s);
        shim_stat_add(MESH_STAT_RX_SPILLS, 1);
    }
    uint8_t *to = shim_spill_at(s, spill);
    if (!to || n > SHIM_SPILL_SIZE) {
        return MESH_E_SPILL;
    }
    memmove(to, p, n);
    s->rx_state = SHIM_RX_PARTIAL;
    s->rx_len = (uint32_t)n;
    return MESH_OK;
}

ssize_t
shim_rx_fin(int fd, struct shim_slot *s, bool torn)
{
    if (shim_slot_has(s, SHIM_SF_RX_EOF | SHIM_SF_RX_SHUT)) {
        return 0;
    }
    if (torn || shim_slot_has(s, SHIM_SF_STRICT_CLOSE)) {
        return shim_rx_die(fd, s, MESH_E_TRUNCATED);
    }
    atomic_fetch_or(&s->flags, SHIM_SF_RX_EOF);
    shim_stat_add(MESH_STAT_EOF_UNCLEAN, 1);
    return 0;
}

/* Takes bytes out of the kernel. Between the flag and the kernel's shutdown() the connection is shut, too: a
 * sender that the same call woke may ask then. */
__attribute__((hot)) static long
receive(int fd, struct shim_slot *s, uint8_t *buf, size_t n, struct shim_beside *beside)
{
    long r = __builtin_expect(beside != NULL, 0) ? shim_beside_recv(beside, fd, buf, n, 0)
                                                 : sys_recv(fd, buf, n, MSG_DONTWAIT);
    if (r < 0 && shim_slot_has(s, SHIM_SF_RX_SHUT) &&
        (r == -EAGAIN || (r == -ECONNRESET && shim_slot_has(s, SHIM_SF_TX_SHUT)))) {
        return 0; /* of what comes behind both ends the kernel makes a reset, of close_notify too [tcp_rcv_state_process] */
    }
    s->rx_raw += r > 0 ? (uint64_t)r : 0;
    return r;
}

/* Serves from a decrypted record; the kernel's last byte goes with the last plaintext. */
static size_t
serve_plain(int fd, struct shim_slot *s, struct shim_iov *room)
{
    struct shim_part p = shim_rx_plain(s);
    size_t n = p.len < room->left ? p.len : room->left;
    if (n) {
        shim_iov_put(room, p.at, n);
        s->rx_off += (uint32_t)n;
    }
    if (n == p.len) {
        uint8_t last;
        shim_audit_rx_begin(s);
        if (!shim_slot_has(s, SHIM_SF_RX_WHOLE)) {
            (void)receive(fd, s, &last, 1, room->beside);
        }
        shim_slot_whole(s, false);
        spill_drop(s);
        shim_audit_rx_end(s);
    } else if (room->beside) {
        shim_beside_look(room->beside, fd);
    }
    return n;
}

/* FIONREAD counts long records as data without padding. If one was not, it counts afresh. True: it is a marked one. */
static inline bool
check_count(struct shim_slot *s, size_t len, uint8_t type, size_t plain)
{
    if (type != SHIM_REC_DATA || plain + SHIM_REC_OVERHEAD != len) {
        s->ahead_raw = 0;
        return shim_mark_is(type, len, plain);
    }
    return false;
}

/* The last byte, which stays where it is; under a filter that forbids to look it is taken, and poll
 * and select know (ready/wait.c). */
static bool
peek_last(int fd, struct shim_slot *s, uint8_t *to, bool *taken)
{
    long r = sys_recv(fd, to, 1, MSG_PEEK | MSG_DONTWAIT);
    *taken = r == -EPERM && shim_filter_any();
    r = *taken ? receive(fd, s, to, 1, NULL) : r;
    return r == 1;
}

/* The spill holds all of a record but its last byte, `held`. MESH_OK: now SHIM_RX_PLAIN, or a control
 * record was handled; *again false when the last byte is not there yet. */
static enum mesh_err
open_big(int fd, struct shim_slot *s, size_t held, bool first, bool *again)
{
    uint8_t *rec = shim_spill_at(s, SHIM_ONCE(s->rx_spill)), type = 0;
    size_t len = 0;
    bool taken;
    *again = false;
    if (!rec) {
        return MESH_E_SPILL;
    }
    if (!peek_last(fd, s, rec + held, &taken)) {
        return MESH_OK;
    }
    enum mesh_err e = atomic_load(&shim_tls)->open(shim_rx_key(s), rec, held + 1, rec, &len, &type);
    if (e != MESH_OK) {
        return e;
    }
    *again = true;
    shim_stat_add(MESH_STAT_RX_RECORDS, 1);
    bool marked = check_count(s, held + 1, type, len);
    if (type == SHIM_REC_DATA && len > 0 && !marked) {
        s->rx_state = SHIM_RX_PLAIN;
        s->rx_off = 0;
        s->rx_len = (uint32_t)len;
        s->rx_full = 1;
        shim_slot_whole(s, taken);
        return MESH_OK;
    }
    uint8_t last;
    if (!taken) {
        (void)receive(fd, s, &last, 1, NULL);
    }
    e = type == SHIM_REC_DATA ? MESH_OK : shim_rx_control(s, type, rec, len);
    uint8_t byte = rec[0];
    spill_drop(s);
    if (marked) {
        (void)shim_mark_meet(fd, s, byte, NULL, 0, first);
    }
    return e;
}

/* Opens the complete records in buf[0, n); *used is where the first incomplete one begins. */
static enum mesh_err
open_records(int fd, struct shim_slot *s, uint8_t *buf, size_t n, struct shim_iov *room, size_t *used,
             size_t *got)
{
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    size_t pos = 0;
    while (n - pos >= SHIM_REC_HEAD && !shim_slot_has(s, SHIM_SF_RX_EOF)) {
        size_t len = shim_rx_record_len(buf + pos), plain = 0;
        uint8_t type = 0, *direct = NULL;
        if (len == 0) {
            return MESH_E_BAD_RECORD;
        }
        if (len > n - pos) {
            break;
        }
        /* Straight into the program's buffer, if the record is surely data: a control record must
         * leave no trace there, and is never this long. */
        size_t piece = room->iov && len >= DIRECT ? shim_iov_piece(room, &direct) : 0;
        uint8_t *to = piece >= len - SHIM_REC_OVERHEAD && piece ? direct : buf + pos + SHIM_REC_HEAD;
        enum mesh_err e = tls->open(shim_rx_key(s), buf + pos, len, to, &plain, &type);
        if (e != MESH_OK) {
            return e;
        }
        pos += len;
        shim_stat_add(MESH_STAT_RX_RECORDS, 1);
        if (check_count(s, len, type, plain)) {
            plain = shim_mark_meet(fd, s, to[0], buf + pos, n - pos, *got == 0);
            pos += pos < n && buf[pos] == 0;
        }
        if (type != SHIM_REC_DATA) {
            e = shim_rx_control(s, type, to, plain);
            if (e != MESH_OK) {
                return e;
            }
        } else if (to == direct) {
            shim_iov_skip(room, plain);
            *got += plain;
        } else {
            shim_iov_put(room, to, plain);
            *got += plain;
        }
    }
    *used = shim_slot_has(s, SHIM_SF_RX_EOF) ? n : pos;
    return MESH_OK;
}

/* p[0, n) is the head of a record and not all of it. */
static bool
is_head(const uint8_t *p, size_t n)
{
    return n < SHIM_REC_HEAD || n < shim_rx_record_len(p);
}

/* How many bytes may be asked for now, with the head of a record held, h bytes; *big when that record is
 * longer than the room. */
static size_t
ask(size_t room, const uint8_t *held, size_t h, bool *big)
{
    size_t most = room < 4 * SHIM_REC_PLAIN_MAX ? room + SHIM_REC_OVERHEAD
                                                : 4 * (SHIM_REC_PLAIN_MAX + SHIM_REC_OVERHEAD);
    *big = false;
    if (h >= SHIM_REC_HEAD) {
        size_t len = shim_rx_record_len(held);
        if (len > most) {
            *big = true;
            return len - 1 - h;
        }
    }
    return most > h ? most - h : 0;
}

__attribute__((hot)) static ssize_t
round_once(int fd, struct shim_slot *s, struct shim_iov *room, uint8_t *buf, bool *more)
{
    const struct shim_part held = shim_rx_head(s);
    size_t got = 0, used = 0;
    bool big = false, again = false;
    *more = false;
    if (held.len) {
        memcpy(buf, held.at, held.len);
    }
    if (!is_head(buf, held.len)) {
        return shim_rx_die(fd, s, MESH_E_BAD_RECORD);
    }
    size_t want = ask(room->left, buf, held.len, &big);
    long r = want ? receive(fd, s, buf + held.len, want, room->beside) : 0;
    if (r < 0 || (r == 0 && want)) {
        s->rx_full = 0;
        shim_stat_conn_broke(s, r);
        return r < 0 ? r : shim_rx_fin(fd, s, held.len > 0);
    }
    size_t n = held.len + (size_t)r;
    enum mesh_err e = open_records(fd, s, buf, n, room, &used, &got);
    size_t rest = n - used;
    if (e == MESH_OK) {
        e = spill_keep(s, buf + used, rest);
    }
    if (e == MESH_OK && rest >= SHIM_REC_HEAD) {
        size_t len = shim_rx_record_len(buf + used);
        if (len == 0) {
            e = MESH_E_BAD_RECORD;
        } else if (rest + 1 == len && len - SHIM_REC_OVERHEAD > room->left) {
            e = open_big(fd, s, rest, got == 0, &again);
        } else if (len - SHIM_REC_OVERHEAD > room->left && !big) {
            again = true; /* now known to be big: fetch the rest of it */
        }
    }
    if (e != MESH_OK) {
        ssize_t bad = shim_rx_die(fd, s, e);
        return got ? (ssize_t)got : bad;
    }
    *more = again || ((size_t)r == want && room->left > 0);
    if (got) {
        s->rx_full = (size_t)r == want;
        return (ssize_t)got;
    }
    *more = *more || shim_slot_has(s, SHIM_SF_MARK);
    return shim_slot_has(s, SHIM_SF_RX_EOF) ? 0 : -EAGAIN;
}

ssize_t
shim_rx_round(int fd, struct shim_slot *s, struct shim_iov *room, uint8_t *buf, bool *more)
{
    shim_audit_rx_begin(s);
    ssize_t r = round_once(fd, s, room, buf, more);
    shim_audit_rx_end(s);
    return r;
}

/* With a partial record held, the socket is to be readable when the rest is there, not before:
 * SO_RCVLOWAT says so to poll, select and epoll [DESIGN D2]. The kernel cuts it at half the buffer. */
void
shim_rx_lowat(int fd, struct shim_slot *s)
{
    const struct shim_part held = shim_rx_head(s);
    uint32_t want = 1;
    if (held.len >= SHIM_REC_HEAD) {
        size_t len = shim_rx_record_len(held.at);
        want = len > held.len ? (uint32_t)(len - held.len) : 1;
    }
    if (want != s->rx_lowat && (want > 1 || s->rx_lowat > 1)) {
        int val = (int)want;
        (void)sys_setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &val, sizeof(val));
        s->rx_lowat = want;
    }
}

__attribute__((hot)) void
shim_rx_count(struct shim_slot *s, size_t n)
{
    struct mesh_page_conn *c = shim_stat_conn(s);
    shim_stat_add(MESH_STAT_RX_BYTES, n);
    if (c) {
        atomic_fetch_add_explicit(&c->rx_bytes, n, memory_order_relaxed);
    }
}

void
shim_rx_reset(struct shim_slot *s)
{
    uint32_t id = atomic_load_explicit(&s->endpoint, memory_order_relaxed);
    if (id && SHIM_ONCE(s->rx_plain) == 0 && shim_slot_phase(s) == SHIM_PHASE_OPEN &&
        !(atomic_fetch_or(&s->flags, SHIM_SF_SPURNED) & SHIM_SF_SPURNED)) {
        shim_live_failed(id - 1);
    }
}

/* The first bytes of the endpoint that was chosen. And bare, who sends first has received nothing before, and its kernel
 * acknowledges the answer at once: the peer's second small write waits for that [RFC896]. After a handshake it takes what
 * was sent for an answer itself, and would let it wait [tcp_event_data_sent]. */
__attribute__((cold)) static void
note_answer(int fd, const struct shim_slot *s)
{
    static const int one = 1;
    uint32_t id = atomic_load_explicit(&s->endpoint, memory_order_relaxed);
    if (id) {
        shim_live_answered(id - 1);
    }
    if (shim_audit_has_sent(s)) {
        (void)sys_setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
    }
}

/* Handles control records, and moves what is here of a record into the spill. */
static void
pull(int fd, struct shim_slot *s, uint8_t *buf)
{
    static const struct iovec none = {NULL, 0};
    struct shim_iov nowhere = {.iov = &none, .cnt = 1};
    bool more = true;
    for (int i = 0; i < 8 && more && s->rx_state != SHIM_RX_PLAIN; i++) {
        if (shim_slot_has(s, SHIM_SF_RX_EOF | SHIM_SF_RX_DEAD | SHIM_SF_MARK)) {
            break;
        }
        (void)shim_rx_round(fd, s, &nowhere, buf, &more);
    }
}

/* The program has read exactly what FIONREAD told it, and may wait for an edge without another look. The record
 * that has begun must not lie in the kernel then: it can keep the window shut, and no edge comes. */
static bool
counts_on_end(const struct shim_slot *s, const struct shim_iov *room)
{
    return room->left == 0 && SHIM_ONCE(s->ahead_len) && SHIM_ONCE(s->rx_raw) == SHIM_ONCE(s->ahead_raw);
}

/* buf: what the rounds used, or NULL. */
static inline void
end_rounds(int fd, struct shim_slot *s, const struct shim_iov *room, uint8_t *buf)
{
    if (!buf && counts_on_end(s, room)) {
        buf = shim_scratch_get();
    }
    if (buf) {
        if (counts_on_end(s, room)) {
            pull(fd, s, buf);
        }
        shim_scratch_put(buf);
        shim_rx_set_lowat(fd, s);
    }
}

__attribute__((hot)) ssize_t
shim_rx_take(int fd, struct shim_slot *s, struct shim_iov *room)
{
    size_t total = 0;
    ssize_t r = -EAGAIN;
    bool more = true;
    uint8_t *buf = NULL;
    while (more && room->left > 0 && !(total && shim_filter_any() && shim_filter_blind())) {
        if (shim_slot_has(s, SHIM_SF_RX_DEAD | SHIM_SF_RX_EOF | SHIM_SF_SHAPED | SHIM_SF_MARK)) {
            if (shim_slot_has(s, SHIM_SF_SHAPED) && !s->shaping) {
                return shim_shape_read(fd, s, room); /* here at once, or never */
            }
            if (shim_slot_has(s, SHIM_SF_MARK)) {
                r = shim_mark_pass(fd, s, room, total > 0 || room->off > 0, buf != NULL);
                if (r < 0) {
                    break;
                }
                total += (size_t)r;
                continue;
            }
            if (s->rx_state != SHIM_RX_PLAIN && shim_slot_has(s, SHIM_SF_RX_DEAD | SHIM_SF_RX_EOF)) {
                r = shim_slot_has(s, SHIM_SF_RX_EOF) ? 0
                                                     : -mesh_err_errno((enum mesh_err)s->err);
                break;
            }
        }
        if (s->rx_state == SHIM_RX_PLAIN) {
            total += serve_plain(fd, s, room);
            continue;
        }
        int no = shim_rx_errno(s, total > 0);
        if (no) {
            r = total ? -EAGAIN : -no;
            break;
        }
        if (!buf && !(buf = shim_scratch_get())) {
            shim_stat_err(MESH_E_NO_MEMORY);
            r = -mesh_err_errno(MESH_E_NO_MEMORY);
            break;
        }
        r = shim_rx_round(fd, s, room, buf, &more);
        total += r > 0 ? (size_t)r : 0;
    }
    end_rounds(fd, s, room, buf);
    if (total) {
        if (r < 0 && r != -EAGAIN) {
            s->rx_errno = (int32_t)-r; /* the kernel tells it once only */
        }
        if (s->rx_plain == 0) {
            note_answer(fd, s);
        }
        s->rx_plain += total;
        shim_rx_count(s, total);
        return (ssize_t)total;
    }
    if (r == -ECONNRESET) {
        shim_rx_reset(s);
    }
    return r;
}

void
shim_rx_drain_control(int fd, struct shim_slot *s)
{
    uint8_t *buf = s->rx_state == SHIM_RX_NONE ? shim_scratch_get() : NULL;
    if (buf) {
        pull(fd, s, buf);
        shim_scratch_put(buf);
    }
}

void
shim_rx_pull(int fd, struct shim_slot *s)
{
    uint8_t *buf = s->rx_state != SHIM_RX_PLAIN ? shim_scratch_get() : NULL;
    if (buf) {
        pull(fd, s, buf);
        shim_scratch_put(buf);
        shim_rx_set_lowat(fd, s);
    }
}
