/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_gate: the epoll half of gating [DESIGN D3].
 *
 * A gated socket stays in the program's epoll set, but under a registration of ours: with the
 * events that the handshake wants and with data that we recognise. So a thread that already sleeps
 * in epoll_wait is woken to drive the handshake, and the program never sees the event. DEL and ADD
 * instead of MOD: EPOLLEXCLUSIVE refuses MOD, and ADD gives edge-triggered callers their edge.
 *
 * The table holds registrations of sockets that are not connected yet or whose handshake runs, and
 * nothing else: an open connection's registration is the kernel's alone.
 */
#include "shim/ready/ready.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/core/fdtab.h"
#include "shim/core/lock.h"
#include "shim/flow/conn.h"
#include "shim/flow/fresh.h"
#include "shim/flow/io.h"
#include "shim/flow/urgent.h"
#include "shim/flow/work.h"
#include "shim/real.h"

#define MAGIC   UINT64_C(0x6d65736800000000)
#define PASSING UINT64_C(0x6d65737000000000) /* of a registration whose events are handed on */
#define BUCKETS 1024u
#define CHUNK   512u

struct reg {
    struct reg *next;
    uint32_t set; /* which, whatever descriptor leads to it */
    int epfd, fd; /* epfd: one of those */
    struct epoll_event ev; /* the program's */
    bool gated;            /* the kernel has ours */
    bool spent;            /* one-shot: delivered, not armed again; edge: POLLOUT told */
    bool passing;          /* open, but the kernel keeps our data for good: see pass_through */
    bool told;             /* passing: the next EPOLLOUT was told before the gate opened */
    uint32_t of;           /* as `forks`, when this process put it in */
};

_Atomic int shim_gate_count;
_Atomic uint32_t shim_gate_made;
static struct reg *bucket[BUCKETS], *unused;
static uint32_t forks; /* that lead to this process */
static struct shim_private lock;

/* Descriptors of one set have one word; of a set that we did not see made each number counts as its own. */
static uint32_t
set_of(int epfd)
{
    return shim_fd_kind(epfd) == SHIM_FD_EPOLL ? shim_fd_word(epfd) : (uint32_t)epfd;
}

static struct reg **
find(uint32_t set, int fd)
{
    struct reg **at = &bucket[(unsigned)fd % BUCKETS];
    while (*at && !((*at)->fd == fd && (*at)->set == set)) {
        at = &(*at)->next;
    }
    return at;
}

static struct reg *
add(int epfd, int fd)
{
    if (!unused) {
        struct reg *r = mmap(NULL, CHUNK * sizeof(*r), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (r == MAP_FAILED) {
            return NULL;
        }
        for (unsigned i = 0; i < CHUNK; i++) {
            r[i].next = unused;
            unused = &r[i];
        }
    }
    struct reg *r = unused;
    unused = r->next;
    *r = (struct reg){.next = bucket[(unsigned)fd % BUCKETS], .set = set_of(epfd), .epfd = epfd, .fd = fd, .of = forks};
    bucket[(unsigned)fd % BUCKETS] = r;
    atomic_fetch_add(&shim_gate_made, 1);
    atomic_fetch_add(&shim_gate_count, 1);
    return r;
}

static void
del(struct reg **at)
{
    struct reg *r = *at;
    *at = r->next;
    r->next = unused;
    unused = r;
    atomic_fetch_sub(&shim_gate_count, 1);
}

static long
ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
    return sys_call(SYS_epoll_ctl, epfd, op, fd, ev);
}

/* Registers r anew. One that a parent made is in its set, too, and there only if it has not taken it out since. */
static void
replace(const struct reg *r, struct epoll_event *ev)
{
    if (r->of != forks && !(r->ev.events & EPOLLEXCLUSIVE)) {
        (void)ctl(r->epfd, EPOLL_CTL_MOD, r->fd, ev);
        return;
    }
    (void)ctl(r->epfd, EPOLL_CTL_DEL, r->fd, NULL);
    (void)ctl(r->epfd, EPOLL_CTL_ADD, r->fd, ev);
}

/* A connecting socket is writable when TCP is up; after that the handshake reads. Where the program
 * may write already (accepted, or declared established), its own interest in that is added. */
static struct epoll_event
private_event(const struct reg *r)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = MAGIC | (uint32_t)r->fd};
    struct shim_slot *s = shim_slot_current(SHIM_FD_INDEX(shim_fd_word(r->fd)));
    if (s && shim_slot_phase(s) == SHIM_PHASE_CONNECTING) {
        /* between two attempts the socket hangs up, which cannot be masked: once is enough */
        ev.events = shim_slot_has(s, SHIM_SF_PAUSED) ? EPOLLONESHOT : EPOLLOUT;
    } else if (shim_conn_visible(r->fd) & POLLOUT && !r->spent) {
        ev.events |= r->ev.events & EPOLLOUT;
    }
    return ev;
}

static bool
is_gated(int fd)
{
    return shim_conn_visible(fd) != (short)~0;
}

/* A write has met its end since, so the program waits for the next edge. */
static bool
is_owed_edge(const struct reg *r)
{
    const struct shim_slot *s = shim_slot_current(SHIM_FD_INDEX(shim_fd_word(r->fd)));
    return s && shim_fd_is_mesh(r->fd) && atomic_load(&s->watched) & SHIM_WATCHED_LACKS;
}

/* An edge-triggered program that was told EPOLLOUT while its connection was lazy must not be told
 * again when TLS is up, unless it found no room meanwhile; but any new registration makes an edge. So ours stays, with
 * the program's events, its first EPOLLOUT is swallowed if it comes alone, and the rest is handed on under the program's
 * data. */
static void
pass_through(struct reg *r)
{
    struct epoll_event ev = {.events = r->ev.events, .data.u64 = PASSING | (uint32_t)r->fd};
    r->gated = false;
    r->passing = r->told = true;
    (void)ctl(r->epfd, EPOLL_CTL_MOD, r->fd, &ev);
}

/* The program waits for urgent data of an open connection, or has had some: what carries that makes it readable, which
 * is taken out of the events [flow/mark.h]. So ours stays here, too. */
static bool
wants_urgent(int fd, uint32_t events)
{
    const struct shim_slot *s = shim_fd_is_mesh(fd) ? shim_conn_slot(fd) : NULL;
    return s && (events & EPOLLPRI || atomic_load(&s->urgent) & SHIM_URGENT_ASKED);
}

static void
pass_urgent(struct reg *r)
{
    struct epoll_event ev = {.events = r->ev.events, .data.u64 = PASSING | (uint32_t)r->fd};
    if (r->spent && ev.events & EPOLLONESHOT) {
        ev.events &= EPOLLONESHOT | EPOLLET;
    }
    if (r->gated) {
        replace(r, &ev);
    } else {
        (void)ctl(r->epfd, EPOLL_CTL_MOD, r->fd, &ev);
    }
    r->gated = r->told = false;
    r->passing = true;
}

/* Puts one registration in line; true when the table need not hold it any longer. */
static bool
sync_one(struct reg *r)
{
    bool gate = is_gated(r->fd);
    shim_io_watched(r->fd, r->epfd, r->ev.events & EPOLLET); /* it may have been no connection yet when it was put in */
    if (gate) {
        struct epoll_event ev = private_event(r);
        if (r->gated) {
            (void)ctl(r->epfd, EPOLL_CTL_MOD, r->fd, &ev);
        } else {
            replace(r, &ev);
        }
        r->gated = true;
        return false;
    }
    if (r->passing) {
        return false;
    }
    if (r->gated && r->spent && r->ev.events & EPOLLET && !(r->ev.events & EPOLLONESHOT)) {
        pass_through(r);
        return false;
    }
    if (wants_urgent(r->fd, r->ev.events)) {
        pass_urgent(r);
        return false;
    }
    if (r->gated) {
        struct epoll_event ev = r->ev;
        if (r->spent && ev.events & EPOLLONESHOT) {
            ev.events &= EPOLLONESHOT | EPOLLET;
        }
        replace(r, &ev);
        r->gated = false;
    }
    return !shim_fresh_is(r->fd);
}

static unsigned
first_bucket(int fd, bool all)
{
    return all ? 0 : (unsigned)fd % BUCKETS;
}

/* Duplicates of fd have registrations of their own; when the connection turned out plain, they have
 * lost its word by now, and are known by a gate that is no longer due. */
static bool
concerns(const struct reg *r, int fd)
{
    uint32_t word = shim_fd_word(fd);
    return r->fd == fd || (r->gated && !is_gated(r->fd)) ||
           (shim_fd_is_mesh(fd) && shim_fd_word(r->fd) == word);
}

void
shim_gate_update(int fd)
{
    bool all = shim_conn_has_aliases();
    if (!shim_gate_any() || !shim_private_enter(&lock)) {
        return;
    }
    for (unsigned b = first_bucket(fd, all), n = all ? BUCKETS : 1; n > 0; b++, n--) {
        for (struct reg **at = &bucket[b]; *at;) {
            if (concerns(*at, fd) && sync_one(*at)) {
                del(at);
            } else {
                at = &(*at)->next;
            }
        }
    }
    shim_private_leave(&lock);
}

void
shim_gate_init(void)
{
    shim_work_on_change = shim_gate_update;
}

/* Gated from the first moment: who sleeps in this set must not be woken by what is hidden. */
static int
add_gated(int epfd, int fd, const struct epoll_event *ev)
{
    struct reg *r = add(epfd, fd);
    if (!r) {
        return -ENOMEM;
    }
    r->ev = *ev;
    r->gated = true;
    shim_io_watched(fd, epfd, ev->events & EPOLLET);
    struct epoll_event mine = private_event(r);
    int e = (int)ctl(epfd, EPOLL_CTL_ADD, fd, &mine);
    if (e != 0) {
        del(find(r->set, fd));
    }
    return e;
}

static int
ctl_locked(int epfd, int op, int fd, struct epoll_event *ev)
{
    struct reg **at = find(set_of(epfd), fd), *r = *at;
    bool gate = is_gated(fd);
    long e = 0;
    if (op == EPOLL_CTL_ADD && ev && gate && !r && !(ev->events & EPOLLEXCLUSIVE)) { /* the kernel knows what goes with that */
        return add_gated(epfd, fd, ev);
    }
    if (op == EPOLL_CTL_DEL) {
        e = ctl(epfd, op, fd, ev);
        if (r) {
            del(at);
        }
        return (int)e;
    }
    if (op == EPOLL_CTL_MOD && r && r->gated && (r->ev.events | ev->events) & EPOLLEXCLUSIVE) {
        return -EINVAL; /* as the kernel, which has ours without it */
    }
    if (op == EPOLL_CTL_MOD && r && r->gated) {
        r->of = forks;
        r->ev = *ev;
        r->spent = false;
        struct epoll_event mine = private_event(r);
        return (int)ctl(epfd, EPOLL_CTL_MOD, fd, &mine);
    }
    e = ctl(epfd, op, fd, ev);
    if (e != 0) {
        return (int)e;
    }
    if (!r) {
        r = add(epfd, fd);
        at = r ? find(r->set, fd) : NULL;
    }
    if (!r) {
        (void)ctl(epfd, EPOLL_CTL_DEL, fd, NULL);
        return -ENOMEM;
    }
    r->of = forks;
    r->ev = *ev;
    r->spent = r->gated = r->passing = false;
    if ((gate || !shim_fresh_is(fd)) && sync_one(r)) {
        del(at);
    }
    return 0;
}

int
shim_gate_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
    bool needs = shim_fresh_is(fd) || is_gated(fd) || shim_gate_any() ||
                 (op != EPOLL_CTL_DEL && ev && wants_urgent(fd, ev->events));
    if (op != EPOLL_CTL_DEL && is_gated(fd)) {
        shim_conn_wake(fd);
    }
    int r;
    if (!needs || (op != EPOLL_CTL_DEL && !ev) || !shim_private_enter(&lock)) {
        r = (int)ctl(epfd, op, fd, ev);
    } else {
        r = ctl_locked(epfd, op, fd, ev);
        shim_private_leave(&lock);
    }
    if (r == 0 && op != EPOLL_CTL_DEL) { /* so it can be read */
        shim_io_watched(fd, epfd, ev->events & EPOLLET);
    } else if (r == 0) {
        shim_io_unwatched(fd, epfd);
    }
    return r;
}

/* Another descriptor, or process, keeps the connection in the set [epoll(7), Questions and answers]: what is told of it
 * carries the program's data at least. Where a parent put it in, that one sees to it. Else it is in no set any more. */
static void
leave_behind(const struct reg *r)
{
    const struct shim_slot *s = shim_slot_current(SHIM_FD_INDEX(shim_fd_word(r->fd)));
    struct epoll_event ev = r->ev;
    if (!(r->gated || r->passing) || !s || !shim_fd_is_mesh(r->fd)) {
        return;
    }
    if (atomic_load(&s->refs) <= 1) {
        (void)ctl(r->epfd, EPOLL_CTL_DEL, r->fd, NULL);
    } else if (r->of == forks) {
        replace(r, &ev);
    }
}

void
shim_gate_forget(int fd)
{
    if (!shim_gate_any() || !shim_private_enter(&lock)) {
        return;
    }
    bool is_set = shim_fd_kind(fd) == SHIM_FD_EPOLL;
    uint32_t set = set_of(fd);
    int other = is_set ? shim_fdtab_other(set, fd) : -1; /* leads there, too */
    for (unsigned b = first_bucket(fd, is_set), n = is_set ? BUCKETS : 1; n > 0; b++, n--) {
        for (struct reg **at = &bucket[b]; *at;) {
            bool within = is_set && (*at)->set == set;
            if (within && other >= 0) {
                (*at)->epfd = other;
            }
            if ((*at)->fd == fd || (within && other < 0)) {
                if (!is_set) {
                    leave_behind(*at);
                }
                del(at);
            } else {
                at = &(*at)->next;
            }
        }
    }
    shim_private_leave(&lock);
}

static bool
is_passing(const struct epoll_event *ev)
{
    return (ev->data.u64 & ~UINT64_C(0xffffffff)) == PASSING;
}

static bool
is_ours(const struct epoll_event *ev)
{
    return (ev->data.u64 & ~UINT64_C(0xffffffff)) == MAGIC || is_passing(ev);
}

/* What the program asked for under an event of ours; false: it is let go already. */
static bool
recall(int epfd, const struct epoll_event *ev, struct epoll_event *theirs)
{
    if (!shim_private_enter(&lock)) {
        return false;
    }
    struct reg *r = *find(set_of(epfd), (int)(uint32_t)ev->data.u64);
    if (r) {
        *theirs = r->ev;
    }
    shim_private_leave(&lock);
    return r != NULL;
}

/* The gate has opened under this very event: what a level-triggered program would have been told in
 * the same call. Edge-triggered and one-shot ones get theirs by the registration made anew. */
static bool
tell_now(struct epoll_event *ev, const struct epoll_event *theirs)
{
    struct pollfd p = {(int)(uint32_t)ev->data.u64, 0, 0};
    p.events = (short)(theirs->events & (EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP));
    if (theirs->events & (EPOLLET | EPOLLONESHOT) || sys_poll(&p, 1, 0) <= 0) {
        return false;
    }
    *ev = (struct epoll_event){.events = (uint32_t)p.revents, .data = theirs->data};
    return true;
}

/* What is left of the events of one that is passing. */
static uint32_t
pass_on(const struct reg *r, uint32_t bits)
{
    if (bits == EPOLLOUT && r->told && !is_owed_edge(r)) {
        return 0; /* beside others it is no new edge's */
    }
    if (bits & (EPOLLIN | EPOLLRDNORM) && wants_urgent(r->fd, r->ev.events) && shim_urgent_hides(r->fd)) {
        bits &= ~(uint32_t)(EPOLLIN | EPOLLRDNORM);
        if (bits == 0 && r->ev.events & EPOLLONESHOT) {
            struct epoll_event again = {.events = r->ev.events, .data.u64 = PASSING | (uint32_t)r->fd};
            (void)ctl(r->epfd, EPOLL_CTL_MOD, r->fd, &again);
        }
    }
    return bits;
}

/* What the program may learn from an event of ours; false: nothing. Another thread may have opened the gate since the
 * kernel told it: then it speaks of the handshake's bytes. */
static bool
translate(int epfd, struct epoll_event *ev, const struct epoll_event *theirs)
{
    bool tell = false;
    if (!shim_private_enter(&lock)) {
        return false;
    }
    struct reg *r = *find(set_of(epfd), (int)(uint32_t)ev->data.u64);
    if (r && r->passing && is_passing(ev)) {
        uint32_t bits = pass_on(r, ev->events);
        ev->events = bits;
        ev->data = r->ev.data;
        tell = bits != 0;
        r->told = false;
    } else if (!r || !r->gated) {
        tell = theirs && tell_now(ev, theirs);
    } else if (r->gated && ev->events & EPOLLOUT && r->ev.events & EPOLLOUT && !r->spent &&
               shim_conn_visible(r->fd) == POLLOUT) {
        *ev = (struct epoll_event){.events = EPOLLOUT, .data = r->ev.data};
        r->spent = r->ev.events & (EPOLLONESHOT | EPOLLET);
        if (r->spent) {
            (void)sync_one(r);
        }
        tell = true;
    }
    shim_private_leave(&lock);
    return tell;
}

#define RECALLED 64

static int
strip(int epfd, struct epoll_event *ev, int n)
{
    struct epoll_event theirs[RECALLED];
    bool known[RECALLED];
    int kept = 0, mine = 0;
    for (int i = 0; i < n; i++) { /* before driving: that may empty the table */
        if (is_ours(&ev[i])) {
            if (mine < RECALLED) {
                known[mine] = recall(epfd, &ev[i], &theirs[mine]);
            }
            mine++;
        }
    }
    if (mine == 0) {
        return n;
    }
    for (int i = 0; i < n; i++) {
        struct shim_slot *s = is_ours(&ev[i]) ? shim_conn_slot((int)(uint32_t)ev[i].data.u64) : NULL;
        if (s) {
            shim_work_drive_slot(s);
        }
    }
    mine = 0;
    for (int i = 0; i < n; i++) {
        struct epoll_event e = ev[i];
        if (is_ours(&e)) {
            const struct epoll_event *t = mine < RECALLED && known[mine] ? &theirs[mine] : NULL;
            mine++;
            if (!translate(epfd, &e, t)) {
                continue;
            }
        }
        ev[kept++] = e;
    }
    return kept;
}

/* Adds e to ev[0, n), or to the entry that speaks of the same registration. */
static int
merge(struct epoll_event *ev, int n, struct epoll_event e)
{
    for (int i = 0; i < n; i++) {
        if (ev[i].data.u64 == e.data.u64) {
            ev[i].events |= e.events;
            return n;
        }
    }
    ev[n] = e;
    return n + 1;
}

int
shim_gate_strip(int epfd, struct epoll_event *ev, int n, int max)
{
    struct epoll_event late[RECALLED];
    int kept = strip(epfd, ev, n);
    if (kept == n || kept == 0) {
        return kept;
    }
    /* A gate that opened under one of our events left a fresh registration: what it has to say
     * belongs into this answer, as it would have been there without us. */
    int room = max - kept < RECALLED ? max - kept : RECALLED;
    int more = room > 0 ? shim_real.epoll_wait(epfd, late, room, 0) : 0;
    more = more > 0 ? strip(epfd, late, more) : 0;
    for (int i = 0; i < more; i++) {
        kept = merge(ev, kept, late[i]);
    }
    return kept;
}

void
shim_gate_forked(void)
{
    forks++;
    shim_private_forked(&lock, false);
}
