/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_mark: see mark.h.
 */
#include "shim/flow/mark.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "shim/flow/audit.h"
#include "shim/flow/ident.h"
#include "shim/flow/rx_int.h"
#include "shim/real.h"

#define MARKS 64 /* that took each other's place; the rest is for the next call */
#define SHORT 64u /* alerts and KeyUpdates are not longer, nor are marked records */

static bool
is_at_mark(int fd)
{
    int at = 0;
    return sys_call(SYS_ioctl, fd, SIOCATMARK, &at, 0) == 0 && at;
}

static bool
is_inline(int fd)
{
    int on = 0;
    socklen_t len = sizeof(on);
    return sys_getsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, &len) == 0 && on;
}

static bool
set_inline(int fd, int on)
{
    return sys_setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)) == 0;
}

static long
look(int fd, uint8_t *to, size_t n)
{
    return sys_recv(fd, to, n, MSG_PEEK | MSG_DONTWAIT);
}

static void
leave(struct shim_slot *s)
{
    atomic_fetch_and(&s->urgent, (uint8_t)~(SHIM_URGENT_SEEN | SHIM_URGENT_LATE));
    atomic_fetch_and(&s->flags, ~(uint32_t)SHIM_SF_MARK);
}

static void
keep(int fd, struct shim_slot *s, uint8_t byte, bool late)
{
    shim_slot_ask(s);
    s->urgent_byte = byte;
    atomic_fetch_or(&s->urgent, (uint8_t)((late ? SHIM_URGENT_LATE : 0) | (is_at_mark(fd) ? SHIM_URGENT_SEEN : 0)));
    atomic_fetch_or(&s->flags, SHIM_SF_MARK);
}

/* What comes next had not come when the program last had read: so it stood there already when it came. */
static bool
is_late(const struct shim_slot *s)
{
    return !s->rx_full;
}

bool
shim_mark_meet(int fd, struct shim_slot *s, uint8_t byte, const uint8_t *next, size_t n, bool first)
{
    bool late = first && is_late(s);
    if (n == 0) {
        keep(fd, s, byte, late);
        return false;
    }
    if (next[0] != 0) {
        return true; /* somebody else's padding */
    }
    return !late || is_inline(fd); /* another one has taken the mark's place: see is_lost() */
}

/* A byte whose mark was followed by another is one of the stream; but not if the program stood there when that came
 * [tcp_check_urg()]. */
static bool
is_lost(const struct shim_slot *s, bool here)
{
    return here || atomic_load(&s->urgent) & SHIM_URGENT_LATE;
}

static ssize_t
deliver(struct shim_slot *s, struct shim_iov *room)
{
    uint8_t byte = s->urgent_byte;
    shim_iov_put(room, &byte, 1);
    return 1;
}

/* What stands at the mark's place, taken if it is the mark: then 1. 0: it is something else; -errno. While the
 * option is set the kernel takes no mark away by itself. */
static long
take_mark(int fd, bool was_inline)
{
    uint8_t b = 1;
    if (!was_inline && !set_inline(fd, 1)) {
        return 0;
    }
    long r = look(fd, &b, 1);
    if (r == 1 && b == 0) {
        r = sys_recv(fd, &b, 1, MSG_DONTWAIT);
    } else if (r > 0) {
        r = 0;
    }
    if (!was_inline) {
        (void)set_inline(fd, 0);
    }
    return r;
}

ssize_t
shim_mark_pass(int fd, struct shim_slot *s, struct shim_iov *room, bool copied, bool fresh)
{
    uint8_t b;
    bool here = is_at_mark(fd), data = is_inline(fd), seen = atomic_load(&s->urgent) & SHIM_URGENT_SEEN;
    if (copied && here) {
        return -EAGAIN;
    }
    /* Bare TCP would not have shown it as readable, so who reads now would not have done so. */
    if (fresh && here && !data && look(fd, &b, 1) == -EAGAIN) {
        return -EAGAIN;
    }
    shim_audit_rx_begin(s);
    long r = take_mark(fd, data);
    if (r >= 0) {
        data = r == 1 ? data || !is_lost(s, here) : !seen; /* without any mark it was somebody else's padding */
        s->rx_raw += r == 1 || seen ? 1 : 0;
        leave(s);
        r = data ? deliver(s, room) : 0;
    }
    shim_audit_rx_end(s);
    return r;
}

bool
shim_mark_is_here(int fd, const struct shim_slot *s)
{
    return shim_slot_has(s, SHIM_SF_MARK) && is_at_mark(fd);
}

bool
shim_mark_is_data(int fd, const struct shim_slot *s)
{
    uint8_t b = 1;
    return shim_slot_has(s, SHIM_SF_MARK) && look(fd, &b, 1) == 1 && b == 0;
}

/* Opens the record at p with a copy of the key, which goes on to the next one; *type 0: it cannot be. */
static size_t
open_copy(struct shim_key *key, const uint8_t *p, size_t len, uint8_t out[SHORT], uint8_t *type)
{
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    size_t n = 0;
    *type = 0;
    if (len > SHORT) {
        key->seq++; /* data, as every stack sends it */
        *type = SHIM_REC_DATA;
        return len;
    }
    if (tls->open(key, p, len, out, &n, type) != MESH_OK) {
        *type = 0;
    } else if (*type == SHIM_REC_HANDSHAKE && n > 0 && out[0] == 24 && tls->key_update(key) != MESH_OK) {
        *type = 0;
    }
    return n;
}

static bool
is_marked(struct shim_slot *s, const uint8_t *rec)
{
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    struct shim_key key = *shim_rx_key(s);
    uint8_t out[SHORT], type;
    size_t n = open_copy(&key, rec, SHIM_MARK_LEN, out, &type);
    tls->wipe(&key, sizeof(key));
    tls->wipe(out, sizeof(out));
    return shim_mark_is(type, SHIM_MARK_LEN, n);
}

/* The mark that the slot remembers has lost its place to another, and its byte is lost with it. */
static bool
is_past(int fd, const struct shim_slot *s)
{
    unsigned how = atomic_load(&s->urgent) & (SHIM_URGENT_SEEN | SHIM_URGENT_LATE);
    return how && !is_at_mark(fd) && !is_inline(fd);
}

/* A marked record is what comes next, and is not data. */
static bool
is_next(int fd, struct shim_slot *s)
{
    uint8_t rec[SHIM_MARK_LEN + 1] = {0}; /* one more: what follows */
    const struct shim_part held = shim_rx_head(s);
    if (shim_slot_has(s, SHIM_SF_RX_DEAD | SHIM_SF_RX_EOF) || s->rx_state == SHIM_RX_PLAIN ||
        held.len >= SHIM_MARK_LEN) {
        return false;
    }
    if (held.len) {
        memcpy(rec, held.at, held.len);
    }
    long r = look(fd, rec + held.len, sizeof(rec) - held.len);
    size_t n = held.len + (r > 0 ? (size_t)r : 0);
    bool data = n > SHIM_MARK_LEN && (rec[SHIM_MARK_LEN] != 0 || !is_late(s) || is_inline(fd));
    return n >= SHIM_MARK_LEN && !data && shim_rx_record_len(rec) == SHIM_MARK_LEN && is_marked(s, rec);
}

bool
shim_mark_settle(int fd, struct shim_slot *s)
{
    struct shim_iov nothing = {.iov = NULL};
    for (int i = 0; i < MARKS; i++) {
        if (shim_slot_has(s, SHIM_SF_MARK)) {
            if (!is_past(fd, s) || shim_mark_pass(fd, s, &nothing, false, false) < 0) {
                return true;
            }
        }
        if (!is_next(fd, s)) {
            return false;
        }
        shim_rx_pull(fd, s);
    }
    return shim_slot_has(s, SHIM_SF_MARK);
}

/* The last record in p[0, n) that is marked and ends there; p begins with the next record that is to be opened. */
static bool
find_last(struct shim_slot *s, const uint8_t *p, size_t n, uint8_t *byte)
{
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    struct shim_key key = *shim_rx_key(s);
    uint8_t out[SHORT], type = 0;
    size_t pos = 0;
    bool found = false;
    while (n - pos >= SHIM_REC_HEAD && !found) {
        size_t len = shim_rx_record_len(p + pos);
        if (len == 0 || len > n - pos) {
            break;
        }
        size_t plain = open_copy(&key, p + pos, len, out, &type);
        pos += len;
        if (type == 0) {
            break;
        }
        found = shim_mark_is(type, len, plain) && pos == n;
        pos += shim_mark_is(type, len, plain) && pos < n && p[pos] == 0;
    }
    if (found) {
        *byte = out[0];
    }
    tls->wipe(&key, sizeof(key));
    tls->wipe(out, sizeof(out));
    return found;
}

/* What is not seen here may still lie in the kernel. */
bool
shim_mark_may_be(int fd, const struct shim_slot *s)
{
    uint8_t b;
    return atomic_load(&s->urgent) ||
           sys_call6(SYS_recvfrom, fd, (long)&b, 1, MSG_OOB | MSG_PEEK | MSG_DONTWAIT, 0, 0) >= 0;
}

/* The kernel counts, and shows, what it has up to its mark. */
bool
shim_mark_byte(int fd, struct shim_slot *s, uint8_t *byte)
{
    const struct shim_part held = shim_rx_head(s);
    int queued = 0;
    if (shim_mark_is_here(fd, s)) {
        *byte = s->urgent_byte;
        return true;
    }
    if (sys_call(SYS_ioctl, fd, FIONREAD, &queued, 0) != 0 || queued <= 0) {
        return false;
    }
    size_t skip = shim_rx_last_byte(s), size = held.len + (size_t)queued;
    uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return false;
    }
    if (held.len) {
        memcpy(p, held.at, held.len);
    }
    long r = look(fd, p + held.len, (size_t)queued);
    skip += r > 0 && shim_slot_has(s, SHIM_SF_MARK) && p[0] == 0;
    size_t n = held.len + (r > 0 ? (size_t)r : 0);
    bool found = n > skip && find_last(s, p + skip, n - skip, byte);
    munmap(p, size);
    return found;
}
