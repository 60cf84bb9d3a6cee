/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_rx, the part that only looks: MSG_PEEK. It works on a copy of what the kernel has queued and
 * of the key; the one thing that it may change is to take an incomplete record's bytes out of the
 * kernel, so that the rest can come.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "shim/flow/beside.h"
#include "shim/flow/ident.h"
#include "shim/flow/mark.h"
#include "shim/flow/rx.h"
#include "shim/flow/rx_int.h"
#include "shim/real.h"

/* Opens complete records of buf with a copy of the key, so that nothing changes; up to the kernel's mark, which ends
 * what it shows. */
static ssize_t
peek_records(struct shim_slot *s, uint8_t *buf, size_t n, struct shim_iov *room)
{
    struct shim_key key = *shim_rx_key(s);
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    size_t pos = 0, got = 0;
    bool end = false;
    while (n - pos >= SHIM_REC_HEAD && room->left > 0) {
        size_t len = shim_rx_record_len(buf + pos), plain = 0;
        uint8_t type = 0, *p = buf + pos + SHIM_REC_HEAD;
        if (len == 0 || len > n - pos || tls->open(&key, buf + pos, len, p, &plain, &type)) {
            end = len == 0 || len <= n - pos; /* an error: the next take tells it */
            break;
        }
        pos += len;
        if (type != SHIM_REC_DATA) {
            end = true; /* close_notify is the end; what follows a KeyUpdate waits for take */
            break;
        }
        if (shim_mark_is(type, len, plain)) {
            if (pos == n) {
                break;
            }
            pos += buf[pos] == 0;
        }
        plain = plain < room->left ? plain : room->left;
        shim_iov_put(room, p, plain);
        got += plain;
    }
    tls->wipe(&key, sizeof(key));
    return got || end ? (ssize_t)got : -EAGAIN;
}

/* Moves an incomplete record's bytes out of the kernel, never its last one. */
static ssize_t
absorb(int fd, struct shim_slot *s, uint8_t *buf)
{
    static const struct iovec none = {NULL, 0};
    struct shim_iov nowhere = {.iov = &none, .cnt = 1};
    bool more = false;
    return shim_rx_round(fd, s, &nowhere, buf, &more);
}

/* Room for all that the kernel holds, so that a look sees as far as a bare one would. */
struct window {
    uint8_t *buf;
    size_t size;
};

static bool
window_open(int fd, struct window *w)
{
    int queued = 0;
    (void)sys_call(SYS_ioctl, fd, FIONREAD, &queued, 0);
    w->size = SHIM_SCRATCH;
    if (queued < 0 || (size_t)queued + SHIM_SPILL_SIZE <= SHIM_SCRATCH) {
        w->buf = shim_scratch_get();
        return w->buf != NULL;
    }
    w->size = (size_t)queued + SHIM_SPILL_SIZE;
    w->buf = mmap(NULL, w->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return w->buf != MAP_FAILED;
}

static void
window_close(struct window *w)
{
    if (w->size == SHIM_SCRATCH) {
        shim_scratch_put(w->buf);
    } else {
        munmap(w->buf, w->size);
    }
}

/* The kernel hides its mark, or shows it where the byte before it is data. */
static size_t
peek_mark(int fd, const struct shim_slot *s, struct shim_iov *room)
{
    if (!shim_mark_is_data(fd, s)) {
        return 0;
    }
    shim_iov_put(room, &s->urgent_byte, 1);
    return 1;
}

ssize_t
shim_rx_peek(int fd, struct shim_slot *s, struct shim_iov *room)
{
    if (room->left > 0 && !shim_slot_has(s, SHIM_SF_MARK) && atomic_load(&s->urgent)) {
        (void)shim_mark_settle(fd, s); /* what is behind a mark is seen from there only */
    }
    const struct shim_part plain = shim_rx_plain(s), head = shim_rx_head(s);
    size_t total = plain.len < room->left ? plain.len : room->left, held = head.len;
    struct window win;
    if (!window_open(fd, &win)) {
        return -ENOBUFS;
    }
    uint8_t *buf = win.buf;
    if (total) {
        shim_iov_put(room, plain.at, total);
    } else if (held) {
        memcpy(buf, head.at, held);
    }
    ssize_t r = -EAGAIN;
    if (room->left > 0 && shim_slot_has(s, SHIM_SF_RX_DEAD | SHIM_SF_RX_EOF)) {
        r = shim_slot_has(s, SHIM_SF_RX_EOF) ? 0 : -mesh_err_errno((enum mesh_err)s->err);
    } else if (room->left > 0) {
        bool mark = shim_slot_has(s, SHIM_SF_MARK);
        size_t skip = mark ? peek_mark(fd, s, room) : shim_rx_last_byte(s);
        bool may_absorb = skip == 0 && !mark;
        total += mark ? skip : 0;
        long n = sys_recv(fd, buf + held, win.size - held, MSG_PEEK | MSG_DONTWAIT);
        if (n > 0) {
            r = peek_records(s, buf + skip, held + (size_t)n - skip, room);
            if (r == 0 && may_absorb) { /* a control record or a fault comes first: take it */
                r = absorb(fd, s, buf);
            }
        } else {
            r = n < 0 ? n : (held ? -ECONNRESET : 0);
        }
        if (r == -EAGAIN && n > 0 && may_absorb) {
            r = absorb(fd, s, buf); /* frees the window, so that the rest can come */
            shim_rx_set_lowat(fd, s);
        }
    }
    window_close(&win);
    total += r > 0 ? (size_t)r : 0;
    if (total && room->beside) {
        shim_beside_look(room->beside, fd);
    }
    return total ? (ssize_t)total : r;
}
