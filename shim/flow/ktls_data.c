/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_ktls, records in and out of a connection that the kernel encrypts: see ktls.h.
 *
 * Data is received without room for a control message: then the kernel refuses a record that is no
 * data with EIO and keeps it, so that nothing of it lands in the program's buffer. It is fetched
 * from there into one of ours.
 *
 * MSG_MORE never reaches the kernel: TCP sends such bytes after a moment all the same, while kernel
 * TLS would keep its record open until the next call.
 *
 * A filter of the program's may forbid sendmsg and recvmsg. Data then goes as in user space, piece by piece;
 * of a record that is no data only EIO is seen, which is the end if nothing follows it but FIN, and no
 * close_notify can be sent: FIN is.
 *
 * An error is told once by TCP, and then it is EPIPE and the end. Kernel TLS repeats it, or takes bytes
 * that can go nowhere [net/tls/tls_sw.c]; SHIM_SF_TOLD makes it TCP's way again.
 */
#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "shim/core/stat.h"
#include "shim/filter.h"
#include "shim/flow/ident.h"
#include "shim/flow/ktls.h"
#include "shim/flow/sockopt.h"
#include "shim/flow/ktls_int.h"
#include "shim/flow/rx.h"
#include "shim/flow/rx_int.h"
#include "shim/flow/tx.h"
#include "shim/real.h"

#define PIECES  16
#define CONTROL 8 /* control records in a row that are looked at */

/* ---- records of every type ---- */

struct typed {
    struct msghdr m;
    struct iovec v;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(1)];
};

static void
typed_init(struct typed *t, void *p, size_t n)
{
    *t = (struct typed){.v = {p, n}};
    t->m.msg_iov = &t->v;
    t->m.msg_iovlen = 1;
    t->m.msg_control = t->control;
    t->m.msg_controllen = sizeof(t->control);
}

static long
send_typed(int fd, uint8_t type, const uint8_t *body, size_t n)
{
    struct typed t;
    typed_init(&t, (void *)(uintptr_t)body, n);
    struct cmsghdr *c = CMSG_FIRSTHDR(&t.m);
    c->cmsg_level = SOL_TLS;
    c->cmsg_type = TLS_SET_RECORD_TYPE;
    c->cmsg_len = CMSG_LEN(1);
    *CMSG_DATA(c) = type;
    return sys_call(SYS_sendmsg, fd, &t.m, MSG_DONTWAIT | MSG_NOSIGNAL, 0);
}

static long
recv_typed(int fd, uint8_t *buf, size_t n, int flags, uint8_t *type)
{
    struct typed t;
    typed_init(&t, buf, n);
    long r = sys_call(SYS_recvmsg, fd, &t.m, MSG_DONTWAIT | flags, 0);
    struct cmsghdr *c = r >= 0 ? CMSG_FIRSTHDR(&t.m) : NULL;
    bool told = c && c->cmsg_level == SOL_TLS && c->cmsg_type == TLS_GET_RECORD_TYPE;
    *type = told ? *CMSG_DATA(c) : SHIM_REC_DATA;
    return r;
}

static bool
is_forbidden(long r)
{
    return r == -EPERM && shim_filter_any();
}

/* The record at the head of the queue is no data, and it cannot be fetched. Its kind is unknown, but not
 * that the peer sent it. Where poll cannot tell either, it is what nearly every such record is. */
#define FIN_MS 1000
static ssize_t
take_unseen(int fd, struct shim_slot *s)
{
    struct pollfd p = {fd, POLLRDHUP, 0};
    int more = 0;
    long r = sys_poll(&p, 1, FIN_MS);
    if (r == 0 || (sys_call(SYS_ioctl, fd, FIONREAD, &more, 0) == 0 && more > 0)) {
        return shim_rx_die(fd, s, MESH_E_KERNEL_TLS);
    }
    atomic_fetch_or(&s->flags, SHIM_SF_RX_EOF);
    return 0;
}

/* The record at the head of the queue is no data: 0 when it is dealt with, or -errno. */
static ssize_t
take_control(int fd, struct shim_slot *s)
{
    struct shim_key next = *shim_rx_key(s);
    uint8_t type = SHIM_REC_DATA, *buf = shim_scratch_get();
    if (!buf) {
        return -ENOBUFS;
    }
    ssize_t r = recv_typed(fd, buf, SHIM_REC_PLAIN_MAX, MSG_PEEK, &type);
    if (is_forbidden(r)) {
        r = take_unseen(fd, s);
    } else if (r > 0 && type != SHIM_REC_DATA) {
        r = recv_typed(fd, buf, (size_t)r, 0, &type);
        enum mesh_err e = shim_rx_control(s, type, buf, r > 0 ? (size_t)r : 0);
        if (e == MESH_OK && next.generation != shim_rx_key(s)->generation &&
            shim_ktls_install(fd, TLS_RX, &next) != 0) {
            e = MESH_E_KERNEL_TLS;
        }
        r = e == MESH_OK ? 0 : shim_rx_die(fd, s, e);
    } else if (r >= 0 || r == -EIO) {
        r = r > 0 ? 0 : shim_rx_die(fd, s, MESH_E_BAD_RECORD);
    }
    shim_scratch_put(buf);
    explicit_bzero(&next, sizeof(next));
    return r;
}

/* ---- receive ---- */

static bool
is_passing(ssize_t r)
{
    return r == -EAGAIN || r == -EINTR || r == -ENOBUFS || r == -ENOMEM || r == -EFAULT;
}

void
shim_ktls_told(struct shim_slot *s, ssize_t r)
{
    if (r < 0 && !is_passing(r) && shim_slot_phase(s) == SHIM_PHASE_KERNEL) {
        atomic_fetch_or(&s->flags, SHIM_SF_TOLD);
    }
}

/* An error of the kernel: the first time itself, then the end. What is no TLS any more ends the
 * connection as it does in user space. */
ssize_t
shim_ktls_failed(int fd, struct shim_slot *s, ssize_t r)
{
    if (is_passing(r) || shim_slot_phase(s) != SHIM_PHASE_KERNEL) {
        return r;
    }
    if (shim_slot_has(s, SHIM_SF_TOLD)) {
        return 0;
    }
    shim_ktls_told(s, r);
    switch (-r) {
    case EBADMSG:
        return shim_rx_die(fd, s, MESH_E_BAD_MAC);
    case EMSGSIZE:
    case EINVAL:
        return shim_rx_die(fd, s, MESH_E_BAD_RECORD);
    default:
        return r;
    }
}

static int
queued(int fd)
{
    int n = 0;
    (void)sys_call(SYS_ioctl, fd, FIONREAD, &n, 0);
    return n;
}

static long
receive(int fd, const struct shim_iov *room, int flags, size_t *asked)
{
    struct iovec v[PIECES];
    struct shim_iov c = *room;
    struct msghdr m = {.msg_iov = v};
    uint8_t *p, *drop = NULL;
    *asked = 0;
    if (!c.iov) { /* counted, not copied */
        drop = shim_scratch_get();
        *asked = c.left < SHIM_SCRATCH ? c.left : SHIM_SCRATCH;
        v[m.msg_iovlen++] = (struct iovec){drop, *asked};
    }
    while (c.iov && c.left && m.msg_iovlen < PIECES) {
        size_t n = shim_iov_piece(&c, &p);
        v[m.msg_iovlen++] = (struct iovec){p, n};
        shim_iov_skip(&c, n);
        *asked += n;
    }
    long r = c.iov || drop ? sys_call(SYS_recvmsg, fd, &m, flags | MSG_DONTWAIT, 0) : -ENOBUFS;
    if (is_forbidden(r)) {
        *asked = v[0].iov_len;
        r = sys_recv(fd, v[0].iov_base, *asked, flags | MSG_DONTWAIT);
    }
    if (drop) {
        shim_scratch_put(drop);
    }
    return r;
}

/* A count, 0 at the end, -EIO when control records went by, or -errno. */
static ssize_t
receive_data(int fd, struct shim_slot *s, struct shim_iov *room, int flags, bool *more)
{
    size_t asked;
    *more = false;
    long r = receive(fd, room, flags, &asked);
    if (r == -EIO) {
        r = take_control(fd, s);
        *more = r == 0;
        return r == 0 ? -EAGAIN : r;
    }
    if (r > 0) {
        shim_iov_skip(room, (size_t)r);
        *more = (size_t)r == asked && !(flags & MSG_PEEK);
        return r;
    }
    return r < 0 ? shim_ktls_failed(fd, s, r) : shim_rx_fin(fd, s, queued(fd) > 0);
}

static ssize_t
receive_all(int fd, struct shim_slot *s, struct shim_iov *room, int flags)
{
    size_t total = 0;
    ssize_t r = -EAGAIN;
    bool more = true;
    for (int i = 0; more && room->left > 0; i++) {
        if (shim_slot_has(s, SHIM_SF_RX_DEAD | SHIM_SF_RX_EOF)) {
            r = shim_slot_has(s, SHIM_SF_RX_EOF) ? 0 : -mesh_err_errno((enum mesh_err)s->err);
            break;
        }
        int no = shim_rx_errno(s, total > 0);
        if (no) {
            r = total ? -EAGAIN : -no;
            break;
        }
        r = receive_data(fd, s, room, flags, &more);
        total += r > 0 ? (size_t)r : 0;
        more = more && (r > 0 || i < CONTROL) && !(total && shim_filter_any() && shim_filter_blind());
    }
    if (total && r < 0 && r != -EAGAIN) {
        s->rx_errno = (int32_t)-r; /* the kernel tells it once only */
    }
    return total ? (ssize_t)total : r;
}

ssize_t
shim_ktls_take(int fd, struct shim_slot *s, struct shim_iov *room)
{
    ssize_t r = receive_all(fd, s, room, 0);
    if (r > 0) {
        shim_rx_count(s, (size_t)r);
    }
    return r;
}

ssize_t
shim_ktls_peek(int fd, struct shim_slot *s, struct shim_iov *room)
{
    return receive_all(fd, s, room, MSG_PEEK);
}

/* The kernel's FIONREAD is ciphertext, and knows nothing of what is decrypted already. A look tells
 * how much plaintext there is; at most what the buffer holds. */
ssize_t
shim_ktls_available(int fd, struct shim_slot *s)
{
    size_t size = (size_t)queued(fd) + SHIM_SCRATCH;
    void *buf = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct iovec v = {buf, size};
    struct shim_iov room;
    if (buf == MAP_FAILED) {
        return 0;
    }
    (void)shim_iov_init(&room, &v, 1);
    ssize_t r = receive_all(fd, s, &room, MSG_PEEK);
    munmap(buf, size);
    return r > 0 ? r : 0;
}

bool
shim_ktls_drain_control(int fd, struct shim_slot *s)
{
    uint8_t b;
    long r = -EIO;
    for (int i = 0; r == -EIO && i < CONTROL; i++) {
        r = sys_recv(fd, &b, 1, MSG_PEEK | MSG_DONTWAIT);
        if (r == -EIO && take_control(fd, s) != 0) {
            break;
        }
    }
    return r > 0;
}

/* ---- send ---- */

static int
send_key_update(int fd, struct shim_slot *s)
{
    static const uint8_t msg[5] = {24, 0, 0, 1, 0};
    long r = send_typed(fd, SHIM_REC_HANDSHAKE, msg, sizeof(msg));
    if (r < 0) {
        return (int)r;
    }
    atomic_fetch_and(&s->flags, ~(uint32_t)SHIM_SF_KU_DUE);
    shim_stat_add(MESH_STAT_KEY_UPDATES, 1);
    if (shim_ktls_install(fd, TLS_TX, shim_ktls_tx_key(s)) != 0 || atomic_load(&shim_tls)->key_update(shim_ktls_tx_key(s)) != MESH_OK) {
        atomic_fetch_or(&s->flags, SHIM_SF_TX_DEAD);
        shim_stat_err(MESH_E_KERNEL_TLS);
        return -mesh_err_errno(MESH_E_KERNEL_TLS);
    }
    return 0;
}

ssize_t
shim_ktls_put(int fd, struct shim_slot *s, struct shim_iov *data)
{
    size_t total = 0, asked = 0;
    long r = 0;
    if (shim_slot_has(s, SHIM_SF_TX_DEAD | SHIM_SF_TOLD)) {
        return shim_slot_has(s, SHIM_SF_TOLD) ? -EPIPE : -ECONNRESET;
    }
    if (shim_slot_has(s, SHIM_SF_KU_DUE)) {
        r = send_key_update(fd, s);
        r = is_forbidden(r) ? 0 : r; /* the peer asked in vain */
    }
    if (s->share && shim_slot_has(s, SHIM_SF_PACED)) {
        shim_sockopt_share(fd, s);
    }
    while (r >= 0 && data->left > 0 && (size_t)r == asked) {
        struct iovec v[PIECES];
        struct shim_iov c = *data;
        struct msghdr m = {.msg_iov = v};
        uint8_t *p;
        for (asked = 0; c.left && m.msg_iovlen < PIECES; m.msg_iovlen++) {
            size_t n = shim_iov_piece(&c, &p);
            n = n < c.left ? n : c.left; /* a part of what the program gave may be meant */
            v[m.msg_iovlen] = (struct iovec){p, n};
            shim_iov_skip(&c, n);
            asked += n;
        }
        r = sys_call(SYS_sendmsg, fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL, 0);
        if (is_forbidden(r)) {
            asked = v[0].iov_len;
            r = sys_send(fd, v[0].iov_base, asked, MSG_DONTWAIT);
        }
        if (r > 0) {
            shim_iov_skip(data, (size_t)r);
            total += (size_t)r;
        }
    }
    if (total) {
        shim_tx_count(s, total);
    }
    shim_ktls_told(s, total ? 0 : r);
    return total ? (ssize_t)total : r;
}

/* Only into a socket that has room: then what stands before it in the kernel's own queue goes too, and
 * not behind the FIN. Corked until that FIN, which follows at once: a peer that answers what it takes
 * for the end must not find us still open, and be reset. */
int
shim_ktls_close_notify(int fd, struct shim_slot *s)
{
    static const uint8_t msg[2] = {1, 0};
    static const int one = 1;
    struct pollfd p = {fd, POLLOUT, 0};
    if (shim_slot_has(s, SHIM_SF_TX_SHUT | SHIM_SF_TX_DEAD)) {
        return 0;
    }
    if (sys_poll(&p, 1, 0) == 0) {
        return -EAGAIN;
    }
    (void)sys_setsockopt(fd, IPPROTO_TCP, TCP_CORK, &one, sizeof(one));
    long r = send_typed(fd, SHIM_REC_ALERT, msg, sizeof(msg));
    if (r == -EAGAIN) {
        return -EAGAIN;
    }
    atomic_fetch_or(&s->flags, SHIM_SF_TX_SHUT);
    return r < 0 ? (int)r : 0;
}
