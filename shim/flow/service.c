/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_service: see service.h.
 */
#include "shim/flow/service.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "shim/core/fdtab.h"
#include "shim/core/stat.h"
#include "shim/flow/audit.h"
#include "shim/flow/breaker.h"
#include "shim/flow/conn.h"
#include "shim/flow/conn_int.h"
#include "shim/flow/io_int.h"
#include "shim/flow/limit.h"
#include "shim/flow/io.h"
#include "shim/flow/retry.h"
#include "shim/flow/shape.h"
#include "shim/link/link.h"
#include "shim/real.h"

_Atomic bool shim_service_used;

/* A blocking connect that failed leaves a socket that can connect again [connect(2)]; the kernel, which was
 * asked not to wait, would do that only once it had told the error. */
static int
ended(int fd, struct shim_slot *s, uint32_t handle)
{
    int no = atomic_exchange(&s->so_error, 0);
    if (!shim_conn_reset(fd, SHIM_FD_WORD(SHIM_FD_CONN, handle))) {
        return shim_fail(ECONNABORTED); /* another thread has been told, and may use the socket again */
    }
    return shim_fail(no ? no : ECONNRESET);
}

static int
pending_error(int fd)
{
    int no = 0;
    socklen_t len = sizeof(no);
    (void)sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &no, &len);
    if (no == 0) {
        return shim_conn_ask_kernel(fd);
    }
    shim_retry_disconnect(fd);
    return shim_fail(no);
}

/* Waits as connect(2) does in the kernel: SO_SNDTIMEO ends it with EINPROGRESS, or with EALREADY when it had begun
 * before; a handler without SA_RESTART ends it with EINTR, and so does any where SO_SNDTIMEO is set [signal(7)]. The
 * connection goes on. From an attempt's TCP being up until it fails, bare connect would have returned: who is
 * interrupted then learns it only if that was not the end. */
int
shim_service_await(int fd, struct shim_slot *s, bool again, bool *gated)
{
    uint32_t handle = shim_slot_handle(s);
    uint64_t deadline = shim_io_timeout_of(fd, SO_SNDTIMEO);
    bool interrupted = false;
    *gated = true;
    while (shim_slot_current(handle)) {
        struct shim_work_seen seen = shim_work_see(s);
        if (seen.phase >= SHIM_PHASE_OPEN || seen.lazy) {
            break;
        }
        if (interrupted && seen.phase == SHIM_PHASE_CONNECTING) {
            return shim_fail(EINTR);
        }
        int r = shim_work_wait_since(&seen, NULL, 0, deadline, NULL, s);
        if (r == -EINTR && (deadline != SHIM_NEVER || !shim_io_restarts())) {
            interrupted = true;
        }
        if (r < 0 && r != -EINTR) {
            break;
        }
        if (deadline != SHIM_NEVER && shim_now() >= deadline) {
            return shim_fail(again ? EALREADY : EINPROGRESS);
        }
    }
    *gated = false;
    if (!shim_slot_current(handle) || shim_slot_phase(s) == SHIM_PHASE_FRESH) {
        return pending_error(fd); /* the last endpoint refused, which the kernel knows */
    }
    bool over = shim_slot_phase(s) == SHIM_PHASE_FAILED && !shim_slot_has(s, SHIM_SF_LAZY);
    if (over) {
        return ended(fd, s, handle);
    }
    atomic_fetch_or(&s->flags, SHIM_SF_ASKED);
    shim_retry_settle(fd, s);
    return 0;
}

bool
shim_service_renew(int fd, struct shim_slot *s)
{
    uint32_t word = SHIM_FD_WORD(SHIM_FD_CONN, shim_slot_handle(s));
    if (!shim_slot_has(s, SHIM_SF_ROUTED) || shim_slot_has(s, SHIM_SF_LAZY) ||
        shim_slot_phase(s) != SHIM_PHASE_FAILED || atomic_load(&s->so_error)) {
        return false;
    }
    (void)shim_conn_reset(fd, word); /* if another thread was first, it is to be found out again what fd is */
    return true;
}

/* Chooses, and begins. 0: it is under way, or up already, with *out its slot; -1 with errno; SHIM_CONN_TAKEN. */
static int
begin(int fd, const struct shim_asked *asked, const struct mesh_snap_hit *hit, const struct shim_faults *f,
      struct shim_slot **out)
{
    struct shim_retry_plan plan;
    const struct mesh_addr *to = &asked->addr;
    enum mesh_err e = hit->endpoint.flags & MESH_EP_SERVICE ? shim_retry_plan(&plan, fd, to)
                                                            : shim_retry_plan_one(&plan, fd, to, hit);
    if (e != MESH_OK) {
        return shim_conn_refuse(to, hit->service.name, e);
    }
    plan.tries.scope = asked->scope;
    const struct mesh_snap_live *set = &plan.first.service->live;
    e = shim_breaker_enter(set);
    if (e != MESH_OK) {
        shim_outlier_release(plan.first.endpoint.id, plan.first.probe);
        return shim_conn_refuse(to, hit->service.name, e);
    }
    uint32_t flags = SHIM_SF_ROUTED | (plan.hit.service.strict_close ? SHIM_SF_STRICT_CLOSE : 0);
    struct shim_work *w = shim_conn_begin(fd, flags, SHIM_PHASE_CONNECTING);
    if (!w) {
        shim_breaker_cancel(set);
        shim_outlier_release(plan.first.endpoint.id, plan.first.probe);
        return shim_conn_refuse(to, hit->service.name, MESH_E_NO_MEMORY);
    }
    *out = shim_slot_at(w->slot);
    shim_breaker_hold(*out, set);
    if (!shim_conn_enter(w, fd)) {
        w->held = true; /* nobody else drops it */
        shim_work_leave();
        shim_conn_undo(w, fd);
        shim_outlier_release(plan.first.endpoint.id, plan.first.probe);
        return SHIM_CONN_TAKEN;
    }
    shim_shape_begin(*out, f);
    shim_limit_note(&plan.hit.service, &w->limit);
    int r = shim_retry_start(w, &plan, f);
    if (r < 0 && r != -EINPROGRESS) {
        w->held = true;
        shim_retry_note(w);
        shim_stat_conn_note(*out, 0, -r);
        shim_stat_conn_closed(*out, MESH_E_CONNECT_FAILED);
    }
    shim_work_leave();
    if (r < 0 && r != -EINPROGRESS) {
        shim_conn_undo(w, fd);
        return shim_fail(-r);
    }
    return 0;
}

int
shim_service_connect(int fd, const struct shim_asked *to, const struct mesh_snap_hit *hit,
                     const struct shim_faults *f, bool *gated)
{
    struct shim_slot *s = NULL;
    atomic_store_explicit(&shim_service_used, true, memory_order_relaxed);
    shim_link_live(hit->live);
    struct shim_deciding d = shim_stat_decide();
    int r = begin(fd, to, hit, f, &s);
    shim_stat_decided(d);
    if (r != 0) {
        return r;
    }
    if (!shim_conn_is_nonblocking(fd)) {
        return shim_service_await(fd, s, false, gated);
    }
    *gated = true;
    return shim_fail(EINPROGRESS);
}

void
shim_service_peername(const struct shim_slot *s, struct sockaddr *sa, socklen_t room, socklen_t *len)
{
    struct sockaddr_storage real;
    if (mesh_addr_eq(&s->asked, &s->peer)) {
        return; /* and the kernel knows more of it: an interface */
    }
    if (*len >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(s->asked.port)};
        memcpy(&in6.sin6_addr, s->asked.ip, 16);
        memcpy(&real, &in6, sizeof(in6));
    } else {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(s->asked.port)};
        memcpy(&in.sin_addr, s->asked.ip + 12, 4);
        memcpy(&real, &in, sizeof(in));
    }
    memcpy(sa, &real, room < *len ? room : *len); /* cut as the kernel cuts [getpeername(2)] */
}

/* A server that dies between its flight and the client's last one leaves a reset, where bare TCP, on
 * which nothing was sent, ends in order. EPIPE is never seen by who has not written [tcp_reset]; a reset
 * may be the server's own wish, so only the first question after a connect() to a service is spared it. */
static bool
is_untouched(const struct shim_slot *s)
{
    return shim_slot_phase(s) == SHIM_PHASE_OPEN && !shim_audit_has_sent(s) && s->rx_plain == 0 &&
           !shim_slot_has(s, SHIM_SF_SERVER);
}

bool
shim_service_excuses(struct shim_slot *s, int no)
{
    bool untouched = is_untouched(s);
    bool first = shim_slot_has(s, SHIM_SF_ROUTED) &&
                 !(atomic_fetch_or(&s->flags, SHIM_SF_ASKED) & SHIM_SF_ASKED);
    return untouched && (no == EPIPE || (no == ECONNRESET && first));
}

/* Nothing was sent and nothing shut down: only a reset makes the kernel say POLLHUP of such a socket. */
void
shim_service_mend(struct pollfd *p, nfds_t n)
{
    const short flow = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLRDHUP;
    for (nfds_t i = 0; i < n; i++) {
        struct shim_slot *s = p[i].revents & POLLHUP && p[i].events & flow ? shim_conn_slot(p[i].fd) : NULL;
        if (s && is_untouched(s) && shim_slot_has(s, SHIM_SF_ROUTED) && !shim_slot_has(s, SHIM_SF_ASKED)) {
            p[i].revents = p[i].events & flow;
        }
    }
}
