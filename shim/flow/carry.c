/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_carry: see carry.h.
 *
 * References: a process that executes keeps its pid, so what it holds stays in its name; only
 * connections that close on exec are given up beforehand, as long as others hold them too. A vfork
 * child names itself. The new image then counts what it really has and corrects its share.
 */
#include "shim/flow/carry_int.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shim/core/fdtab.h"
#include "shim/core/log.h"
#include "shim/core/region.h"
#include "shim/core/stat.h"
#include "shim/flow/conn.h"
#include "shim/flow/fresh.h"
#include "shim/flow/hs.h"
#include "shim/flow/ktls.h"
#include "shim/flow/listener.h"
#include "shim/flow/plain.h"
#include "shim/flow/relay.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/real.h"

#define WITHOUT_PROC 1024 /* descriptors looked at where /proc is not there */

struct kernel_dirent {
    uint64_t ino, off;
    uint16_t len;
    uint8_t type;
    char name[];
};

bool
shim_carry_each_listed(const char *path, void (*each)(int fd, void *arg), void *arg)
{
    _Alignas(8) char buf[2048];
    int dir = (int)sys_call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (dir < 0) {
        return false;
    }
    for (long n; (n = sys_call(SYS_getdents64, dir, buf, sizeof(buf), 0)) > 0;) {
        for (long at = 0; at < n;) {
            const struct kernel_dirent *d = (const void *)(buf + at);
            if (d->name[0] != '.' && atoi(d->name) != dir) {
                each(atoi(d->name), arg);
            }
            at += d->len;
        }
    }
    (void)sys_close(dir);
    return true;
}

void
shim_carry_each_fd(void (*each)(int fd, void *arg), void *arg)
{
    int end = shim_fdtab_limit();
    if (shim_carry_each_listed("/proc/self/fd", each, arg)) {
        return;
    }
    for (int fd = 0; fd < (end > WITHOUT_PROC ? end : WITHOUT_PROC); fd++) {
        each(fd, arg);
    }
}

struct shim_slot *
shim_carry_slot(int fd)
{
    return shim_slot_find(shim_cookie(fd));
}

/* Of a connection, not of a socket that may become one. */
static struct shim_slot *
conn_slot(int fd)
{
    struct shim_slot *s = shim_carry_slot(fd);
    return s && shim_slot_phase(s) != SHIM_PHASE_FRESH ? s : NULL;
}

bool
shim_carry_is_inherited(int fd)
{
    long fl = sys_fcntl(fd, F_GETFD, 0);
    return fl >= 0 && !(fl & FD_CLOEXEC);
}

/* One pass over the handshake of s with the number that is valid in this process: the item's own may
 * be closed here when we are the child of vfork. */
static bool
drive_as(int fd, struct shim_slot *s)
{
    struct shim_work *w;
    if (!shim_work_enter()) {
        return true;
    }
    w = shim_work_of(s);
    if (w && !w->owned) {
        int number = w->fd;
        w->dormant = false;
        w->fd = fd;
        shim_hs_spoke(w); /* the image may be the one that speaks first */
        bool done = shim_hs_drive(w);
        w->fd = number;
        if (done) {
            shim_work_drop(w);
            w = NULL;
        }
    }
    shim_work_leave();
    return w == NULL;
}

uint64_t
shim_carry_until(bool ends)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    mesh_snap_settings(&snap, &set);
    return shim_now() + (uint64_t)(ends ? set.handshake_timeout_ms : set.accept_grace_ms) * 1000000;
}

void
shim_carry_settle_until(int fd, uint64_t until)
{
    struct shim_slot *s = conn_slot(fd);
    uint64_t cookie = s ? atomic_load(&s->cookie) : 0;
    if (s) {
        shim_work_wake(s);
    }
    if (s && shim_slot_phase(s) == SHIM_PHASE_FAILED && shim_slot_has(s, SHIM_SF_SILENT)) {
        (void)shim_plain_late(fd, s, true); /* the image is the one that speaks */
        return;
    }
    while (s && !drive_as(fd, s) && atomic_load(&s->cookie) == cookie && shim_now() < until) {
        bool open = shim_slot_phase(s) == SHIM_PHASE_OPEN;
        struct pollfd p = {fd, open ? POLLOUT : POLLIN, 0};
        (void)sys_poll(&p, 1, 5);
    }
}

void
shim_carry_settle(int fd)
{
    if (conn_slot(fd)) {
        shim_carry_settle_until(fd, shim_carry_until(true));
    }
}

void
shim_carry_describe(struct shim_slot *s)
{
    struct shim_region *r = shim_region_at(shim_region_index(s));
    const struct mesh_page_conn *c = shim_stat_conn(s);
    if (c) { /* but for what other threads count meanwhile: it stays with this process */
        struct mesh_page_conn *to = &r->carried[s - r->slot];
        const size_t begin = offsetof(struct mesh_page_conn, outbound);
        const size_t end = offsetof(struct mesh_page_conn, tx_bytes);
        const size_t again = offsetof(struct mesh_page_conn, reason);
        memcpy((char *)to + begin, (const char *)c + begin, end - begin);
        memcpy((char *)to + again, (const char *)c + again, sizeof(*c) - again);
        to->before_tx = c->before_tx + c->tx_bytes;
        to->before_rx = c->before_rx + c->rx_bytes;
    }
}

/* Raw bytes of ours must not reach a program that is not under libmesh, nor its plaintext the wire. */
void
shim_carry_dead_end(int fd)
{
    int pair[2];
    if (sys_call(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0) {
        (void)sys_call(SYS_dup3, pair[0], fd, 0, 0);
        (void)sys_close(pair[0]);
        (void)sys_close(pair[1]);
    } else {
        (void)sys_close(fd);
    }
    shim_stat_err(MESH_E_EXEC);
    shim_log_error("descriptor %d: %s", fd, mesh_err_text(MESH_E_EXEC));
}

struct tally {
    unsigned conns;
    int pid;        /* of a vfork child, 0 otherwise */
    uint64_t grace; /* for handshakes that another process goes on with; 0: the image could not use them */
};

bool
shim_carry_is_near(const struct shim_slot *s)
{
    return !shim_slot_has(s, SHIM_SF_SERVER) && shim_listener_has_port(s->peer.port);
}

/* Is the handshake that of the process from which we were forked, and which goes on with it? */
static bool
is_parents(const struct shim_slot *s)
{
    bool theirs = false;
    if (shim_work_enter()) {
        const struct shim_work *w = shim_work_of(s);
        int pid = atomic_load(&s->hs_pid);
        theirs = w && w->dormant && pid && pid != sys_getpid() && !shim_lock_is_gone_since(pid, UINT32_MAX);
        shim_work_leave();
    }
    return theirs;
}

/* A client's handshake that goes on elsewhere is given a moment where the peer may be what we execute: a listener of
 * this port is in our hands. The image then waits for it as we would. */
static void
settle_here(int fd, const struct shim_slot *s, const struct tally *t)
{
    bool near = t->grace && shim_carry_is_near(s);
    while (near && !t->pid && shim_now() < t->grace && is_parents(s)) {
        (void)sys_poll(NULL, 0, 5);
    }
    if (!near || t->pid || !is_parents(s)) { /* after vfork the item lies in the parent's memory */
        shim_carry_settle_until(fd, near && t->pid ? t->grace : shim_carry_until(true));
    }
}

static void
tally_one(int fd, void *arg)
{
    struct tally *t = arg;
    if (!shim_carry_is_inherited(fd) || !shim_carry_slot(fd)) {
        return;
    }
    struct shim_slot *s = conn_slot(fd);
    if (s) {
        settle_here(fd, s, t);
    }
    s = shim_carry_slot(fd); /* plaintext is no connection of ours */
    if (s && shim_slot_phase(s) == SHIM_PHASE_FRESH) {
        t->conns += shim_region_index(s) == 0; /* a child of vfork's image counts itself */
    } else if (s && shim_region_index(s) > 0) {
        shim_carry_dead_end(fd); /* only the own region goes with us */
    } else if (s) {
        t->conns++;
        shim_carry_describe(s);
        atomic_fetch_or(&s->flags, SHIM_SF_GIVEN);
        if (t->pid) {
            shim_slot_hold(s, t->pid, 1);
        } else if (shim_slot_share(s, shim_fdtab_owner()) == atomic_load(&s->refs)) {
            shim_stat_conn_moved(s);
        }
    }
}

static void
untally_one(int fd, void *arg)
{
    struct shim_slot *s = shim_carry_is_inherited(fd) ? conn_slot(fd) : NULL;
    if (s) {
        (void)shim_slot_release(s, *(int *)arg, 1);
    }
}

static uint32_t
words(uint32_t word)
{
    uint32_t n = 0;
    for (int fd = 0, end = shim_conn_has_aliases() ? shim_fdtab_limit() : 0; fd < end; fd++) {
        n += shim_fd_word(fd) == word;
    }
    return n ? n : 1;
}

/* Descriptors that exec closes: the other processes that hold them are to see themselves as last. */
static void
let_go(bool back)
{
    int pid = shim_fdtab_owner();
    for (int fd = 0, end = shim_fdtab_limit(); fd < end; fd++) {
        uint32_t word = shim_fd_word(fd);
        struct shim_slot *s = word >> SHIM_FD_KIND_SHIFT == SHIM_FD_CONN
                                  ? shim_slot_current(SHIM_FD_INDEX(word))
                                  : NULL;
        if (word >> SHIM_FD_KIND_SHIFT != SHIM_FD_CONN || shim_carry_is_inherited(fd)) {
            continue;
        }
        if (s && back && shim_slot_share(s, pid) < words(word)) {
            shim_slot_hold(s, pid, 1);
        } else if (s && !back && atomic_load(&s->refs) > 1) {
            (void)shim_slot_release(s, pid, 1);
        }
    }
}

void
shim_carry_offer(struct shim_carry *c)
{
    struct stat st;
    int own = shim_region_fd();
    c->fd = own >= 0 && sys_fcntl(own, F_SETFD, 0) == 0 ? own : -1;
    if (c->fd < 0 || sys_call(SYS_fstat, c->fd, &st, 0, 0) != 0) {
        snprintf(c->value, sizeof(c->value), "-1:0:0:-1"); /* the image refuses what it inherits */
        return;
    }
    snprintf(c->value, sizeof(c->value), "%d:%llu:%d:%d", c->fd, (unsigned long long)st.st_ino,
             sys_getpid(), own);
}

void
shim_carry_prepare(struct shim_carry *c, bool can_follow)
{
    memset(c, 0, sizeof(*c));
    c->fd = -1;
    struct tally t = {0, shim_fdtab_may_write() ? 0 : sys_getpid(), can_follow ? shim_carry_until(false) : 0};
    if (!t.pid && shim_work_enter()) {
        shim_fresh_share(true); /* the image that has it may fork */
        shim_work_leave();
    }
    if (!shim_region_any()) {
        return;
    }
    shim_carry_each_fd(tally_one, &t);
    c->conns = t.conns;
    if (c->conns) {
        shim_carry_offer(c);
    }
    if (!t.pid) {
        shim_work_finish(false);
        let_go(false);
    }
}

void
shim_carry_undo(const struct shim_carry *c)
{
    int pid = sys_getpid();
    if (c->fd >= 0) {
        (void)sys_fcntl(c->fd, F_SETFD, FD_CLOEXEC);
    }
    if (!shim_region_any()) {
        return;
    }
    if (shim_fdtab_may_write()) {
        let_go(true);
    } else if (c->conns) {
        shim_carry_each_fd(untally_one, &pid);
    }
}

struct gather {
    struct shim_relay *relay;
    uint64_t cookie[SHIM_RELAY_MAX];
};

static enum shim_relay_use
relay_use(int fd)
{
    return fd == 0 ? SHIM_RELAY_READ : (fd <= 2 ? SHIM_RELAY_OUTPUT : SHIM_RELAY_ACCIDENT);
}

static void
gather_one(int fd, void *arg)
{
    struct gather *g = arg;
    struct shim_relay *r = g->relay;
    uint64_t cookie = shim_carry_is_inherited(fd) && conn_slot(fd) ? shim_cookie(fd) : 0;
    unsigned i = 0;
    while (i < r->n && g->cookie[i] != cookie) {
        i++;
    }
    if (cookie == 0 || i == SHIM_RELAY_MAX) {
        return;
    }
    bool kernel = shim_slot_phase(conn_slot(fd)) == SHIM_PHASE_KERNEL || shim_ktls_always();
    if (kernel && shim_ktls_give_away(fd, conn_slot(fd))) {
        return;
    }
    if (i == r->n) {
        r->n++;
        g->cookie[i] = cookie;
        r->line[i].conn = fd;
        r->line[i].use = SHIM_RELAY_ACCIDENT;
    }
    enum shim_relay_use use = relay_use(fd);
    r->line[i].use = use < r->line[i].use ? use : r->line[i].use;
}

/* Every number under which the next image would have found the connection. */
static void
replace_one(int fd, void *arg)
{
    const struct gather *g = arg;
    uint64_t cookie = shim_carry_is_inherited(fd) && conn_slot(fd) ? shim_cookie(fd) : 0;
    for (unsigned i = 0; cookie && i < g->relay->n; i++) {
        if (g->cookie[i] == cookie) {
            if (!shim_fdtab_may_write()) {
                (void)shim_slot_release(conn_slot(fd), sys_getpid(), 1); /* as it was tallied */
            } else if (shim_fd_word(fd)) {
                shim_conn_replaced(fd);
            }
            (void)sys_call(SYS_dup3, g->relay->line[i].stream, fd, 0, 0);
            return;
        }
    }
    if (cookie && !shim_ktls_give_away(fd, conn_slot(fd))) {
        shim_carry_dead_end(fd);
    }
}

void
shim_carry_refuse(struct shim_carry *c)
{
    struct shim_relay r = {.n = 0};
    struct gather g = {&r, {0}};
    shim_carry_each_fd(gather_one, &g);
    int e = r.n ? shim_relay_start(&r, c->value) : 0;
    if (e < 0) {
        shim_log_error("no relay: errno %d", -e);
        r.n = 0;
    }
    shim_carry_each_fd(replace_one, &g);
    for (unsigned i = 0; i < r.n; i++) {
        (void)sys_close(r.line[i].stream);
    }
    shim_stat_add(MESH_STAT_RELAYS, r.n);
    if (c->fd >= 0) {
        (void)sys_fcntl(c->fd, F_SETFD, FD_CLOEXEC);
        c->fd = -1;
    }
    c->conns = 0;
    c->value[0] = '\0';
}
