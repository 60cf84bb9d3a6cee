/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_sockopt: see sockopt.h.
 */
#include "shim/flow/sockopt.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "shim/core/live.h"
#include "shim/core/stat.h"
#include "shim/real.h"

#define UNLIMITED UINT64_MAX /* of pacing, as the kernel says it */
#define LEAST     1024u      /* bytes a second */
#define SEGMENT   32767      /* the largest TCP_MAXSEG that the kernel lets a program set: its MAX_TCP_WINDOW */

enum { ALIVE, TIMEOUT, FIRST_TIME, IDLE = FIRST_TIME, INTERVAL, PROBES, OPTIONS };
#define FAST_OPEN (1u << OPTIONS) /* in .tuned, too: the program had set TCP_FASTOPEN_CONNECT */
static const struct {
    int level, opt;
} tuned[OPTIONS] = {
    [ALIVE] = {SOL_SOCKET, SO_KEEPALIVE},
    [TIMEOUT] = {IPPROTO_TCP, TCP_USER_TIMEOUT},
    [IDLE] = {IPPROTO_TCP, TCP_KEEPIDLE},
    [INTERVAL] = {IPPROTO_TCP, TCP_KEEPINTVL},
    [PROBES] = {IPPROTO_TCP, TCP_KEEPCNT},
};

static int
get(int fd, unsigned i)
{
    int val = 0;
    socklen_t len = sizeof(val);
    return sys_getsockopt(fd, tuned[i].level, tuned[i].opt, &val, &len) == 0 ? val : -1;
}

/* Of a socket that nobody has touched, as this process finds it at first. A time of keepalive that differs is
 * the program's wish, also where it has not switched it on yet. */
static int
untouched(unsigned i)
{
    static _Atomic int known[OPTIONS]; /* no time can be 0, and the others are */
    int fd = i < FIRST_TIME || atomic_load(&known[i]) ? -1 : (int)sys_call(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, 0);
    if (fd >= 0) {
        atomic_store(&known[i], get(fd, i));
        (void)sys_close(fd);
    }
    return atomic_load(&known[i]);
}

/* What is as nobody has touched it; so the program's value need not be kept. */
static void
set(int fd, struct shim_slot *s, unsigned i, uint32_t n)
{
    int val = (int)n;
    if (n > 0 && get(fd, i) == untouched(i) &&
        sys_setsockopt(fd, tuned[i].level, tuned[i].opt, &val, sizeof(val)) == 0) {
        atomic_fetch_or(&s->tuned, (uint8_t)(1u << i));
        atomic_fetch_or(&s->flags, SHIM_SF_KEPT);
    }
}

static void
keep_alive(int fd, struct shim_slot *s, const struct mesh_snap_limits *l)
{
    const uint32_t times[] = {l->keepalive_time_s, l->keepalive_interval_s, l->keepalive_probes};
    for (unsigned i = FIRST_TIME; i < OPTIONS; i++) {
        set(fd, s, i, times[i - FIRST_TIME]);
    }
    set(fd, s, ALIVE, 1);
}

/* Everybody writes there: NULL, or an entry of the table. */
static const struct mesh_limit *
shared(const struct shim_slot *s)
{
    uint32_t i = SHIM_ONCE(s->share);
    return i > 0 && i <= MESH_LIMITS ? &shim_live_limits()[i - 1] : NULL;
}

static uint32_t
sharing(const struct mesh_limit *l)
{
    uint32_t n = atomic_load_explicit(&l->active, memory_order_relaxed);
    return n ? n : 1;
}

/* Never nothing at all: what is sent must leave some time. */
static uint64_t
part_of(const struct shim_slot *s)
{
    const struct mesh_limit *l = shared(s);
    uint32_t among = SHIM_ONCE(s->share_of), rate = l ? atomic_load_explicit(&l->rate, memory_order_relaxed) : 0;
    uint32_t part = rate / (among ? among : 1);
    return rate == 0 ? UNLIMITED : part > LEAST ? part : LEAST;
}

static bool
pace(int fd, struct shim_slot *s, uint64_t own)
{
    uint64_t rate = s->pacing && s->pacing < own ? s->pacing : own;
    uint64_t part = part_of(s);
    rate = part < rate ? part : rate;
    s->pacing_own = own;
    return sys_setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof(rate)) == 0;
}

/* Where many come and go, one more or less is not worth a call: parts may be wrong by an eighth. */
void
shim_sockopt_share(int fd, struct shim_slot *s)
{
    const struct mesh_limit *l = shared(s);
    uint32_t was = s->share_of, n = l ? sharing(l) : was, more = n > was ? n - was : was - n;
    if (more > was / 8) {
        s->share_of = n;
        (void)pace(fd, s, s->pacing_own);
        shim_stat_add(MESH_STAT_SHARES, 1);
    }
}

void
shim_sockopt_open(int fd, struct shim_slot *s, const struct mesh_snap_limits *l)
{
    const struct mesh_limit *of = shared(s);
    uint64_t own = UNLIMITED;
    socklen_t len = sizeof(own);
    if ((l->bandwidth || of) && sys_getsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &own, &len) == 0) {
        s->pacing = (uint32_t)l->bandwidth;
        s->share_of = of ? sharing(of) : 0;
        atomic_fetch_or(&s->flags, pace(fd, s, own) ? SHIM_SF_PACED : 0);
    }
    if (l->keepalive_time_s && get(fd, ALIVE) == 0) {
        keep_alive(fd, s, l);
    }
    set(fd, s, TIMEOUT, l->user_timeout_ms);
}

/* The option, if what the kernel has there is ours; OPTIONS: it is not. */
static unsigned
option_of(const struct shim_slot *s, int level, int opt)
{
    unsigned i = 0;
    while (i < OPTIONS && (tuned[i].level != level || tuned[i].opt != opt || !(atomic_load(&s->tuned) & 1u << i))) {
        i++;
    }
    return i;
}

static bool
is_pacing(const struct shim_slot *s, int level, int opt)
{
    return level == SOL_SOCKET && opt == SO_MAX_PACING_RATE && shim_slot_has(s, SHIM_SF_PACED);
}

/* The call has been answered by the kernel, with its rules of lengths and pointers: the value becomes ours. */
static void
answer(void *val, socklen_t len, uint64_t own)
{
    uint32_t low = own > UINT32_MAX ? UINT32_MAX : (uint32_t)own;
    if (len >= sizeof(own)) {
        memcpy(val, &own, sizeof(own));
    } else {
        memcpy(val, &low, len < sizeof(low) ? len : sizeof(low));
    }
}

static _Atomic bool corks; /* nobody asks the kernel in a process that has never used it */

void
shim_sockopt_cork(void)
{
    if (!atomic_load_explicit(&corks, memory_order_relaxed)) {
        atomic_store(&corks, true);
    }
}

static bool
is_corked(int fd)
{
    int cork = 0;
    socklen_t len = sizeof(cork);
    return atomic_load_explicit(&corks, memory_order_relaxed) &&
           sys_getsockopt(fd, IPPROTO_TCP, TCP_CORK, &cork, &len) == 0 && cork;
}

/* TCP_NODELAY pushes what is there, past a cork too, which stays [tcp(7)]. It is as it was afterwards, unless another
 * thread sets it at this very moment. */
static void
push(int fd)
{
    int was = 1, on = 1;
    socklen_t len = sizeof(was);
    (void)sys_getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &was, &len);
    (void)sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (!was) {
        (void)sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &was, sizeof(was));
    }
}

void
shim_sockopt_push(int fd)
{
    if (is_corked(fd)) {
        push(fd);
    }
}

void
shim_sockopt_first(int fd)
{
    int unsent = 0;
    if (sys_call(SYS_ioctl, fd, SIOCOUTQNSD, &unsent, 0) == 0 && unsent > 0 && !is_corked(fd)) {
        push(fd);
    }
}

void
shim_sockopt_fast_open(int fd, struct shim_slot *s)
{
    int on = 0, off = 0;
    socklen_t len = sizeof(on);
    if (sys_getsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, &len) == 0 && on) {
        (void)sys_setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &off, sizeof(off));
        atomic_fetch_or(&s->tuned, (uint8_t)FAST_OPEN);
    }
}

void
shim_sockopt_fast_open_again(int fd, const struct shim_slot *s)
{
    static const int on = 1;
    if (atomic_load(&s->tuned) & FAST_OPEN) {
        (void)sys_setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on));
    }
}

bool
shim_sockopt_was_fast_open(const struct shim_slot *s, int level, int opt)
{
    return level == IPPROTO_TCP && opt == TCP_FASTOPEN_CONNECT && atomic_load(&s->tuned) & FAST_OPEN;
}

bool
shim_sockopt_get(int fd, struct shim_slot *s, int level, int opt, void *val, socklen_t *len, int *r)
{
    unsigned i = option_of(s, level, opt);
    if (i == OPTIONS && !is_pacing(s, level, opt)) {
        return false;
    }
    uint64_t own = i < OPTIONS ? (uint64_t)untouched(i) : s->pacing_own;
    *r = shim_real.getsockopt(fd, level, opt, val, len);
    if (*r == 0) {
        answer(val, *len, own);
    }
    return true;
}

/* A client's segments are at first bound by half the window that came with the SYN. By our handshake the peer's window
 * has grown, and theirs beyond what can be set: programs that set what they read there (py-amqp) would get EINVAL. */
void
shim_sockopt_segment(const struct shim_slot *s, int level, int opt, void *val, socklen_t len)
{
    int size = 0;
    if (level == IPPROTO_TCP && opt == TCP_MAXSEG && !shim_slot_has(s, SHIM_SF_SERVER) && len == sizeof(size)) {
        memcpy(&size, val, sizeof(size));
        size = size < SEGMENT ? size : SEGMENT;
        memcpy(val, &size, sizeof(size));
    }
}

static void
pace_anew(int fd, struct shim_slot *s, const void *val, socklen_t len)
{
    uint64_t own = 0;
    uint32_t low = 0;
    int saved = errno;
    if (len == sizeof(own)) {
        memcpy(&own, val, sizeof(own));
    } else {
        memcpy(&low, val, sizeof(low));
        own = low == UINT32_MAX ? UNLIMITED : low;
    }
    (void)pace(fd, s, own);
    errno = saved;
}

bool
shim_sockopt_set(int fd, struct shim_slot *s, int level, int opt, const void *val, socklen_t len, int *r)
{
    unsigned i = option_of(s, level, opt);
    if (i == OPTIONS && !is_pacing(s, level, opt)) {
        return false;
    }
    *r = shim_real.setsockopt(fd, level, opt, val, len);
    if (*r == 0 && i < OPTIONS) {
        atomic_fetch_and(&s->tuned, (uint8_t)~(1u << i)); /* from now on it is the program's */
    } else if (*r == 0) {
        pace_anew(fd, s, val, len);
    }
    return true;
}
