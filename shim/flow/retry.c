/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_retry: see retry.h.
 *
 * The socket stays the same, so its options, O_NONBLOCK and epoll registrations do, too. Dissolving a
 * failed attempt makes it readable, writable and hung up in the kernel: the gate is shut meanwhile
 * [DESIGN D3], and its registration asleep (SHIM_SF_PAUSED).
 */
#include "shim/flow/retry.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>

#include "common/limits.h"
#include "shim/core/live.h"
#include "shim/core/log.h"
#include "shim/core/rand.h"
#include "shim/core/stat.h"
#include "shim/flow/breaker.h"
#include "shim/flow/hs_int.h"
#include "shim/flow/ident.h"
#include "shim/flow/listener.h"
#include "shim/flow/sockopt.h"
#include "shim/link/link.h"
#include "shim/real.h"
#include "shim/route/route.h"

#define BACKOFF_MS     25u
#define BACKOFF_MAX_MS 250u
#define MS             UINT64_C(1000000)

enum mesh_err
shim_retry_plan(struct shim_retry_plan *p, int fd, const struct mesh_addr *to)
{
    struct mesh_snap snap = shim_link_snapshot();
    uint64_t now = shim_now();
    memset(p, 0, sizeof(*p));
    p->asked = shim_route_effective(to);
    shim_pick_init(&p->tries.pick, fd);
    enum mesh_err e = shim_pick(&p->tries.pick, &snap, &p->asked, &p->hit, &p->first);
    if (e != MESH_OK) {
        return e;
    }
    uint32_t n = p->hit.service.max_attempts;
    p->tries.left = n > SHIM_PICK_MAX ? SHIM_PICK_MAX - 1 : n ? n - 1 : 0;
    p->tries.deadline = now + p->hit.service.connect_timeout_ms * MS;
    p->tries.asked_service = mesh_limit_hash(p->hit.service.name);
    return MESH_OK;
}

enum mesh_err
shim_retry_plan_one(struct shim_retry_plan *p, int fd, const struct mesh_addr *to,
                    const struct mesh_snap_hit *hit)
{
    memset(p, 0, sizeof(*p));
    p->asked = shim_route_effective(to);
    p->hit = *hit;
    shim_pick_init(&p->tries.pick, fd);
    p->first = (struct shim_candidate){.weight = 1, .endpoint = hit->endpoint, .service = &p->hit.service, .to = p->asked};
    p->tries.pick.tried_count = 1;
    p->tries.deadline = SHIM_NEVER;
    return MESH_OK;
}

static void
leave_endpoint(struct shim_slot *s)
{
    uint32_t id = atomic_exchange(&s->endpoint, 0);
    if (id) {
        shim_live_leave(id - 1);
    }
}

void
shim_retry_leave(struct shim_slot *s)
{
    leave_endpoint(s);
    shim_breaker_leave(s);
}

/* Identity, address and counts of the endpoint that is tried next. */
static void
aim(struct shim_work *w, const struct shim_candidate *c)
{
    struct shim_slot *s = shim_hs_slot(w);
    leave_endpoint(s);
    shim_live_enter(c->endpoint.id);
    shim_outlier_begin(&w->tries.outcome, c->service, c->endpoint.id, c->probe);
    atomic_store(&s->endpoint, c->endpoint.id + 1);
    s->peer = w->to = c->to;
    w->tries.route = c->route;
    memcpy(w->expect_id, c->service->id, sizeof(w->expect_id));
    memcpy(w->service, c->service->name, sizeof(w->service));
    if (shim_listener_is_own(c->endpoint.cookie)) {
        atomic_fetch_or(&s->flags, SHIM_SF_OWN);
    } else {
        atomic_fetch_and(&s->flags, ~(uint32_t)SHIM_SF_OWN);
    }
}

static socklen_t
sockaddr_of(const struct mesh_addr *a, int family, uint32_t scope, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (family == AF_INET6) {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(a->port)};
        memcpy(&in6.sin6_addr, a->ip, 16);
        in6.sin6_scope_id = mesh_addr_is_link_local(a) ? scope : 0;
        memcpy(out, &in6, sizeof(in6));
        return sizeof(in6);
    }
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(a->port)};
    memcpy(&in.sin_addr, a->ip + 12, 4);
    memcpy(out, &in, sizeof(in));
    return sizeof(in);
}

/* connect(2) that does not wait. A blocking socket says O_NONBLOCK for the length of this call: a connect
 * that waited in the kernel could not be given up when its part of the time is over. */
static int
connect_now(const struct shim_work *w, const struct shim_attempts *t)
{
    int fd = w->fd;
    struct sockaddr_storage sa;
    socklen_t len = sockaddr_of(&w->to, t->pick.family, t->scope, &sa);
    long fl = sys_fcntl(fd, F_GETFL, 0);
    bool blocks = fl >= 0 && !(fl & O_NONBLOCK);
    if (blocks) {
        (void)sys_fcntl(fd, F_SETFL, fl | O_NONBLOCK);
    }
    shim_sockopt_fast_open(fd, shim_hs_slot(w));
    int r = (int)sys_call(SYS_connect, fd, &sa, len, 0);
    if (blocks) {
        (void)sys_fcntl(fd, F_SETFL, fl);
    }
    return r;
}

static void
list(struct shim_work *w)
{
    struct shim_attempts *t = &w->tries;
    shim_stat_conn_new(shim_hs_slot(w), w->service, t->pick.tried_count);
    shim_stat_conn_asked(shim_hs_slot(w), t->asked_service, t->route);
}

/* The server asks meshd about a client that it does not hear from, by its address [connect.c]. */
static void
publish(struct shim_work *w)
{
    struct shim_slot *s = shim_hs_slot(w);
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    if (sys_call(SYS_getsockname, w->fd, &sa, &len, 0) == 0) {
        (void)mesh_addr_from(&s->local, (struct sockaddr *)&sa, len);
    }
    shim_stat_conn_local(s);
}

static int
begin_attempt(struct shim_work *w)
{
    struct shim_attempts *t = &w->tries;
    uint64_t now = shim_now(), left = t->deadline > now ? t->deadline - now : 0;
    t->resume_at = 0;
    t->outcome.begun_ns = now;
    t->until = now + left / (t->left + 1);
    shim_stat_add(MESH_STAT_ATTEMPTS, 1);
    shim_hs_slot(w)->local = (struct mesh_addr){0};
    list(w);
    int r = connect_now(w, t);
    if (r == 0 || r == -EINPROGRESS) {
        publish(w);
    }
    return r;
}

/* Of the endpoint or the way to it. What is wrong with the socket is wrong with the next endpoint, too. */
static bool
is_elsewhere(enum mesh_err e, int no)
{
    switch (no) {
    case EBADF:
    case ENOTSOCK:
    case EISCONN:
    case EALREADY:
    case EFAULT:
    case EAFNOSUPPORT:
    case EPROTOTYPE:
    case ECONNABORTED:
        return false;
    default:
        return e != MESH_E_NO_MEMORY && e != MESH_E_ENGINE && e != MESH_E_NO_IDENTITY &&
               e != MESH_E_NO_MESHD;
    }
}

/* A fault: connect() has begun, as far as the program can tell, and nothing goes out yet, or ever. The time
 * that it takes is no attempt's. */
static int
put_off(struct shim_work *w, const struct shim_retry_plan *p, const struct shim_faults *f)
{
    struct shim_attempts *t = &w->tries;
    bool never = f->connect == MESH_FAULT_BLACKHOLE;
    uint64_t wait = (never ? p->hit.service.connect_timeout_ms : f->delay_ms) * MS;
    t->resume_at = shim_now() + wait;
    t->deadline += t->deadline < SHIM_NEVER ? wait : 0;
    atomic_fetch_or(&shim_hs_slot(w)->flags, SHIM_SF_PAUSED);
    shim_stat_conn_new(shim_hs_slot(w), w->service, 0);
    shim_stat_add(MESH_STAT_FAULT_DELAY, !never);
    return -EINPROGRESS;
}

int
shim_retry_start(struct shim_work *w, const struct shim_retry_plan *p, const struct shim_faults *f)
{
    struct shim_slot *s = shim_hs_slot(w);
    w->tries = p->tries;
    w->tries.fault = f->connect;
    s->asked = p->asked;
    aim(w, &p->first);
    if (f->connect != MESH_FAULT_NONE) {
        return put_off(w, p, f);
    }
    int r = begin_attempt(w);
    if (r < 0 && r != -EINPROGRESS && shim_retry_after(w, MESH_E_CONNECT_FAILED, -r)) {
        return -EINPROGRESS;
    }
    return r;
}

void
shim_retry_disconnect(int fd)
{
    struct sockaddr sa = {.sa_family = AF_UNSPEC};
    int no = 0;
    socklen_t len = sizeof(no);
    (void)sys_call(SYS_connect, fd, &sa, sizeof(sa), 0);
    (void)sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &no, &len);
}

/* The first connect(2) on a socket that is connected meanwhile returns 0, the next ones EISCONN. */
void
shim_retry_settle(int fd, const struct shim_slot *s)
{
    struct sockaddr_storage sa;
    bool v4 = mesh_addr_is_v4(&s->peer);
    socklen_t len = sockaddr_of(&s->peer, v4 ? AF_INET : AF_INET6, 0, &sa); /* which it does not look at any more */
    (void)sys_call(SYS_connect, fd, &sa, len, 0);
}

/* Everything that the failed attempt left in item and slot. The caller holds rx_lock, or nobody else
 * has a reason to take it. */
static void
clear(struct shim_work *w)
{
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    struct shim_slot *s = shim_hs_slot(w);
    if (w->hs && tls) {
        tls->hs_free(w->hs);
    }
    w->hs = NULL;
    w->answered = w->looked_up = w->tls_done = w->patient = false;
    w->in_len = w->out_len = w->out_off = 0;
    w->grace_at = w->expires_at = SHIM_NEVER;
    s->rx_raw = s->tx_raw = 0;
    atomic_store(&s->err, MESH_OK);
}

static uint64_t
backoff(const struct shim_attempts *t)
{
    uint32_t n = t->pick.tried_count - 1; /* attempts that failed */
    uint32_t most = n < 5 ? ((1u << n) - 1) * BACKOFF_MS : BACKOFF_MAX_MS;
    return shim_rand_below((most < BACKOFF_MAX_MS ? most : BACKOFF_MAX_MS) * 1000) * UINT64_C(1000);
}

static void
tell(const struct shim_work *w, const struct mesh_addr *was, enum mesh_err e, int no)
{
    char from[MESH_ADDR_TEXT], to[MESH_ADDR_TEXT], asked[MESH_ADDR_TEXT];
    shim_log_info("connect to %s: endpoint %s: %s, errno %d; attempt %u goes to %s",
                  mesh_addr_text(&shim_hs_slot(w)->asked, asked), mesh_addr_text(was, from),
                  mesh_err_reason(e), no, w->tries.pick.tried_count, mesh_addr_text(&w->to, to));
}

bool
shim_retry_after(struct shim_work *w, enum mesh_err e, int no)
{
    struct shim_slot *s = shim_hs_slot(w);
    struct shim_attempts *t = &w->tries;
    struct mesh_snap_hit hit;
    struct shim_candidate next;
    uint64_t now = shim_now();
    if (!shim_slot_has(s, SHIM_SF_ROUTED) || w->owned || !is_elsewhere(e, no)) {
        return false;
    }
    shim_outlier_failed(&t->outcome);
    if (shim_slot_has(s, SHIM_SF_LAZY) || t->left == 0 || now >= t->deadline) {
        return false;
    }
    if (!shim_breaker_retry(s, &t->outcome.set)) {
        t->left = 0;
        shim_stat_conn_note(s, MESH_HOW_OVERFLOW, 0);
        return false;
    }
    struct shim_deciding d = shim_stat_decide();
    struct mesh_snap snap = shim_link_snapshot();
    if (shim_pick(&t->pick, &snap, &s->asked, &hit, &next) != MESH_OK) {
        shim_stat_decided(d);
        return false;
    }
    if (shim_breaker_move(s, &next.service->live) != MESH_OK) {
        shim_stat_decided(d);
        shim_outlier_release(next.endpoint.id, next.probe);
        shim_stat_err(MESH_E_OVERFLOW);
        shim_stat_conn_note(s, MESH_HOW_OVERFLOW, 0);
        t->left = 0;
        return false;
    }
    struct mesh_addr was = w->to;
    socklen_t len = sizeof(no);
    if (no == 0) {
        (void)sys_getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &no, &len);
    }
    shim_stat_err(e);
    shim_stat_conn_note(s, MESH_HOW_RETRIED, no);
    shim_stat_conn_closed(s, e);
    shim_stat_add(MESH_STAT_RETRIES, 1);
    aim(w, &next);
    shim_stat_decided(d); /* from here on it is counted in the live state */
    tell(w, &was, e, no);
    t->left--;
    t->resume_at = now + backoff(t);
    atomic_fetch_or(&s->flags, SHIM_SF_PAUSED); /* before the phase, for who looks without the lock */
    atomic_store_explicit(&s->phase, SHIM_PHASE_CONNECTING, memory_order_release);
    shim_hs_changed(w);
    shim_retry_disconnect(w->fd);
    clear(w);
    return true;
}

void
shim_retry_waits(struct shim_work *w)
{
    if (shim_slot_has(shim_hs_slot(w), SHIM_SF_ROUTED)) {
        shim_outlier_waits(&w->tries.outcome);
        shim_breaker_connected(shim_hs_slot(w));
    }
}

void
shim_retry_won(struct shim_work *w)
{
    if (shim_slot_has(shim_hs_slot(w), SHIM_SF_ROUTED)) {
        shim_outlier_succeeded(&w->tries.outcome);
        shim_breaker_connected(shim_hs_slot(w));
    }
}

void
shim_retry_ended(const struct shim_slot *s)
{
    uint32_t id = atomic_load(&s->endpoint);
    if (id && !shim_slot_has(s, SHIM_SF_SPURNED)) {
        shim_live_answered(id - 1);
    }
}

static void
resume(struct shim_work *w)
{
    struct shim_slot *s = shim_hs_slot(w);
    if (w->tries.fault == MESH_FAULT_BLACKHOLE) {
        w->tries.left = 0;
        (void)shim_hs_fail(w, MESH_E_FAULT_BLACKHOLE, 0);
        return;
    }
    shim_stat_conn_note(s, MESH_HOW_RETRIED, 0); /* the record of a delay, which the attempt's takes the place of */
    shim_stat_conn_closed(s, MESH_OK);
    int r = begin_attempt(w);
    if (r == 0 || r == -EINPROGRESS) {
        atomic_fetch_and(&s->flags, ~(uint32_t)SHIM_SF_PAUSED);
        shim_hs_changed(w);
    } else {
        (void)shim_hs_fail(w, MESH_E_CONNECT_FAILED, -r); /* which tries the next one, if there is one */
    }
}

bool
shim_retry_up(struct shim_work *w, bool *failed)
{
    struct shim_attempts *t = &w->tries;
    struct pollfd p = {w->fd, POLLOUT, 0};
    uint64_t now = shim_now();
    *failed = false;
    if (t->resume_at) {
        if (now >= t->resume_at) {
            resume(w);
        }
        if (shim_slot_has(shim_hs_slot(w), SHIM_SF_PAUSED)) {
            return false;
        }
    }
    if (sys_poll(&p, 1, 0) <= 0) {
        if (now >= t->until) {
            (void)shim_hs_fail(w, MESH_E_CONNECT_TIMEOUT, 0);
        }
        return false;
    }
    if (p.revents & (POLLERR | POLLHUP | POLLNVAL)) {
        *failed = !shim_retry_after(w, MESH_E_CONNECT_FAILED, 0);
        shim_stat_err(*failed ? MESH_E_CONNECT_FAILED : MESH_OK);
        return false;
    }
    return true;
}

/* Established and silent is no failure before the whole time is over [DESIGN D11]; a handshake that has
 * begun and does not go on is, after its attempt's. */
void
shim_retry_expire(struct shim_work *w, uint64_t now)
{
    struct shim_slot *s = shim_hs_slot(w);
    if (shim_slot_has(s, SHIM_SF_ROUTED) && !shim_slot_has(s, SHIM_SF_LAZY) &&
        now >= (w->answered ? w->tries.until : w->tries.deadline)) {
        (void)shim_hs_fail(w, MESH_E_CONNECT_TIMEOUT, 0);
    }
}

void
shim_retry_note(const struct shim_work *w)
{
    const struct shim_slot *s = shim_hs_slot(w);
    if (shim_slot_has(s, SHIM_SF_ROUTED) && !shim_slot_has(s, SHIM_SF_LAZY) && w->tries.left == 0) {
        shim_stat_conn_note(s, MESH_HOW_EXHAUSTED, 0);
    }
}

uint64_t
shim_retry_deadline(const struct shim_work *w)
{
    const struct shim_slot *s = shim_hs_slot(w);
    if (!shim_slot_has(s, SHIM_SF_ROUTED) || shim_slot_has(s, SHIM_SF_LAZY) ||
        shim_slot_phase(s) > SHIM_PHASE_HANDSHAKE) {
        return SHIM_NEVER;
    }
    if (w->tries.resume_at) {
        return w->tries.resume_at;
    }
    bool silent = shim_slot_phase(s) == SHIM_PHASE_HANDSHAKE && !w->answered;
    return silent ? w->tries.deadline : w->tries.until;
}
