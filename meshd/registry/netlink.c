/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_netlink: see netlink.h. [sock_diag(7)]
 *
 * Questions are asked synchronously: the kernel makes a dump while it is received, nothing waits.
 * Destroy events that arrive in between are queued and told from the loop. A filter in the kernel
 * passes events of sockets without a remote port only, so that a busy host's thousands of closing
 * connections a second do not wake us.
 */
#include "meshd/registry/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "meshd/base/log.h"
#include "meshd/base/loop.h"

#define LISTED_MAX (1u << 20)
#define DATAGRAMS_MAX 65536 /* of one dump; a flooder must not hold us */
#define RCVBUF     (1 << 20)

struct sock {
    uint64_t netns;
    uid_t uid;
    bool trusted;
    int fd;
    uint32_t seq;
    struct event *ev;
    struct sock *next;
};

/* Events seen, perhaps while a dump was read; told from the loop. Cookie 0: some were lost. */
struct event_note {
    uint64_t netns, cookie;
    uid_t uid;
    bool trusted;
    struct event_note *next;
};

static struct sock *socks;
static struct event_note *notes;
static struct event *notes_ev;
static uint64_t own_netns;
static meshd_netlink_gone *tell_gone;
static meshd_netlink_told *tell_told;

uint64_t
meshd_netlink_of(int fd)
{
    uint64_t v = 0;
    socklen_t len = sizeof(v);
    return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &v, &len) == 0 ? v : 0;
}

static int
open_diag(void)
{
    struct sockaddr_nl sa = {.nl_family = AF_NETLINK,
                             .nl_groups = 1u << (SKNLGRP_INET_TCP_DESTROY - 1) |
                                          1u << (SKNLGRP_INET6_TCP_DESTROY - 1)};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Replaces whatever filter is there, and for good: the sender may hold a copy of the socket. */
static bool
set_filter(int fd)
{
    enum { TYPE = offsetof(struct nlmsghdr, nlmsg_type),
           DPORT = sizeof(struct nlmsghdr) + offsetof(struct inet_diag_msg, id.idiag_dport) };
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, TYPE),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(SOCK_DIAG_BY_FAMILY), 0, 2),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, DPORT),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog prog = {sizeof(code) / sizeof(code[0]), code};
    int one = 1, size = RCVBUF;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof(one)) == 0;
}

static void on_readable(evutil_socket_t fd, short what, void *arg);

static enum mesh_err
sock_add(uint64_t netns, uid_t uid, bool trusted, int fd)
{
    struct sock *s = calloc(1, sizeof(*s));
    if (!s) {
        return MESH_E_NO_MEMORY;
    }
    *s = (struct sock){.netns = netns, .uid = uid, .trusted = trusted, .fd = fd};
    s->ev = event_new(meshd_loop(), fd, EV_READ | EV_PERSIST, on_readable, s);
    if (!s->ev || event_add(s->ev, NULL) != 0) {
        free(s);
        return MESH_E_NO_MEMORY;
    }
    LL_PREPEND(socks, s);
    return MESH_OK;
}

static void
sock_free(struct sock *s)
{
    LL_DELETE(socks, s);
    event_free(s->ev);
    close(s->fd);
    free(s);
}

static struct sock *
find(uint64_t netns, uid_t uid)
{
    struct sock *s;
    LL_FOREACH(socks, s)
    {
        if (s->netns == netns && (s->trusted || s->uid == uid)) {
            return s;
        }
    }
    return NULL;
}

static uint64_t
cookie_of(const struct inet_diag_msg *m)
{
    return m->id.idiag_cookie[0] | (uint64_t)m->id.idiag_cookie[1] << 32;
}

static void
note_event(const struct sock *s, uint64_t cookie)
{
    struct event_note *n = calloc(1, sizeof(*n));
    if (!n) {
        return; /* the slow sweep finds it */
    }
    *n = (struct event_note){.netns = s->netns, .cookie = cookie, .uid = s->uid,
                             .trusted = s->trusted};
    LL_PREPEND(notes, n);
    event_active(notes_ev, EV_TIMEOUT, 0);
}

static void
on_notes(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    bool lost = false;
    while (notes) {
        struct event_note *n = notes;
        LL_DELETE(notes, n);
        if (n->cookie) {
            tell_gone(n->netns, n->uid, n->trusted, n->cookie);
        }
        lost |= n->cookie == 0;
        free(n);
    }
    tell_told(lost);
}

struct list {
    struct meshd_listening *at;
    size_t n, cap;
    uint32_t seq;
    bool done, failed;
};

static void
list_add(struct list *l, const struct inet_diag_msg *m)
{
    static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 16;
        struct meshd_listening *p = cap <= LISTED_MAX ? realloc(l->at, cap * sizeof(*p)) : NULL;
        if (!p) {
            l->failed = true;
            return;
        }
        l->at = p;
        l->cap = cap;
    }
    struct meshd_listening *e = &l->at[l->n++];
    *e = (struct meshd_listening){.cookie = cookie_of(m), .uid = m->idiag_uid,
                                  .inode = m->idiag_inode};
    e->addr.port = ntohs(m->id.idiag_sport);
    if (m->idiag_family == AF_INET) {
        memcpy(e->addr.ip, v4, sizeof(v4));
        memcpy(e->addr.ip + 12, m->id.idiag_src, 4);
    } else {
        memcpy(e->addr.ip, m->id.idiag_src, 16);
    }
}

/* One message: an answer to the dump `l` (may be NULL) or a destroy event. */
static void
take_message(struct sock *s, const struct nlmsghdr *h, struct list *l)
{
    bool ours = l && h->nlmsg_seq == l->seq;
    if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR) {
        if (ours) {
            l->done = true;
            l->failed |= h->nlmsg_type == NLMSG_ERROR;
        }
        return;
    }
    if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
        h->nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg))) {
        return;
    }
    struct inet_diag_msg m;
    memcpy(&m, (const char *)h + NLMSG_HDRLEN, sizeof(m));
    if (!(h->nlmsg_flags & NLM_F_MULTI)) {
        note_event(s, cookie_of(&m));
    } else if (ours) {
        l->failed |= (h->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
        list_add(l, &m);
    }
}

/* One datagram. False when there is none. */
static bool
take_datagram(struct sock *s, struct list *l)
{
    static _Alignas(struct nlmsghdr) char buf[32768];
    struct sockaddr_nl from = {0};
    socklen_t from_len = sizeof(from);
    ssize_t n = recvfrom(s->fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
    if (n < 0 && errno == ENOBUFS) {
        log_warn("socket events of namespace %llu were lost", (unsigned long long)s->netns);
        note_event(s, 0);
        return true;
    }
    if (n < 0) {
        return errno == EINTR;
    }
    if (from.nl_pid != 0) {
        return true; /* not the kernel */
    }
    unsigned left = (unsigned)n;
    for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
        take_message(s, h, l);
    }
    return true;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    for (int i = 0; i < 64 && take_datagram(arg, NULL); i++) {
    }
}

static enum mesh_err
dump(struct sock *s, uint8_t family, uint16_t port, struct list *l)
{
    struct {
        struct nlmsghdr h;
        struct inet_diag_req_v2 r;
    } q = {
        .h = {.nlmsg_len = sizeof(q), .nlmsg_type = SOCK_DIAG_BY_FAMILY,
              .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP, .nlmsg_seq = ++s->seq},
        .r = {.sdiag_family = family, .sdiag_protocol = IPPROTO_TCP,
              .idiag_states = 1u << TCP_LISTEN, .id = {.idiag_sport = htons(port)}},
    };
    l->seq = s->seq;
    l->done = false;
    if (send(s->fd, &q, sizeof(q), MSG_DONTWAIT) != (ssize_t)sizeof(q)) {
        return MESH_E_SYSTEM;
    }
    for (uint32_t i = 0; i < DATAGRAMS_MAX && !l->done && take_datagram(s, l); i++) {
    }
    return l->done && !l->failed ? MESH_OK : MESH_E_SYSTEM;
}

enum mesh_err
meshd_netlink_list(uint64_t netns, uid_t uid, uint16_t port, struct meshd_listening **out, size_t *n)
{
    struct sock *s = find(netns, uid);
    struct list l = {0};
    if (!s) {
        return MESH_E_SYSTEM;
    }
    enum mesh_err e = dump(s, AF_INET, port, &l);
    if (e == MESH_OK) {
        e = dump(s, AF_INET6, port, &l);
    }
    if (e != MESH_OK) {
        free(l.at);
        return e;
    }
    *out = l.at;
    *n = l.n;
    return MESH_OK;
}

enum mesh_err
meshd_netlink_init(meshd_netlink_gone *gone, meshd_netlink_told *told)
{
    tell_gone = gone;
    tell_told = told;
    notes_ev = event_new(meshd_loop(), -1, 0, on_notes, NULL);
    if (!notes_ev) {
        return MESH_E_NO_MEMORY;
    }
    int fd = open_diag();
    if (fd < 0) {
        log_warn("NETLINK_SOCK_DIAG: %s; listeners of dead processes go, inherited ones too",
                 strerror(errno));
        return MESH_OK;
    }
    own_netns = meshd_netlink_of(fd);
    if (!set_filter(fd) || sock_add(own_netns, 0, true, fd) != MESH_OK) {
        close(fd);
        return MESH_E_SYSTEM;
    }
    return MESH_OK;
}

void
meshd_netlink_fini(void)
{
    while (socks) {
        sock_free(socks);
    }
    while (notes) {
        struct event_note *n = notes;
        LL_DELETE(notes, n);
        free(n);
    }
    if (notes_ev) {
        event_free(notes_ev);
    }
    notes_ev = NULL;
}

bool
meshd_netlink_covers(uint64_t netns, uid_t uid)
{
    return find(netns, uid) != NULL;
}

/* Makes a socket inside pid's namespace and comes back. Only this thread's namespace changes, and
 * nothing else runs in it meanwhile. */
static int
open_inside(pid_t pid)
{
    char path[64];
    int fd = -1;
    snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
    int there = open(path, O_RDONLY | O_CLOEXEC);
    int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (there >= 0 && here >= 0 && setns(there, CLONE_NEWNET) == 0) {
        fd = open_diag();
        if (setns(here, CLONE_NEWNET) != 0) {
            log_error("cannot return to the own network namespace: %s", strerror(errno));
            abort(); /* everything after this would happen in the wrong place */
        }
    }
    if (there >= 0) {
        close(there);
    }
    if (here >= 0) {
        close(here);
    }
    return fd;
}

bool
meshd_netlink_open(uint64_t netns, pid_t pid)
{
    struct sock *s;
    LL_FOREACH(socks, s)
    {
        if (s->netns == netns && s->trusted) {
            return true;
        }
    }
    int fd = pid > 0 ? open_inside(pid) : -1;
    if (fd < 0) {
        return false;
    }
    if (meshd_netlink_of(fd) != netns || !set_filter(fd) || sock_add(netns, 0, true, fd) != MESH_OK) {
        close(fd);
        return false;
    }
    return true;
}

static bool
is_option(int fd, int option, int want)
{
    int v = -1;
    socklen_t len = sizeof(v);
    return getsockopt(fd, SOL_SOCKET, option, &v, &len) == 0 && v == want;
}

/* Is it joined to both groups? The list is a bit map of 32-bit words. */
static bool
is_joined(int fd)
{
    uint32_t groups[8] = {0};
    uint32_t want = 1u << (SKNLGRP_INET_TCP_DESTROY - 1) | 1u << (SKNLGRP_INET6_TCP_DESTROY - 1);
    socklen_t len = sizeof(groups);
    return getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &len) == 0 &&
           (groups[0] & want) == want;
}

enum mesh_err
meshd_netlink_adopt(uint64_t netns, uid_t uid, int *fd)
{
    if (!is_option(*fd, SO_DOMAIN, AF_NETLINK) || !is_option(*fd, SO_PROTOCOL, NETLINK_SOCK_DIAG) ||
        netns == 0 || meshd_netlink_of(*fd) != netns || !is_joined(*fd)) {
        return MESH_E_PROTOCOL;
    }
    if (find(netns, uid)) {
        return MESH_OK; /* nothing to gain; the caller closes it */
    }
    if (!set_filter(*fd)) {
        return MESH_E_PROTOCOL; /* a filter of the sender's is locked in */
    }
    enum mesh_err e = sock_add(netns, uid, false, *fd);
    if (e == MESH_OK) {
        *fd = -1;
    }
    return e;
}

void
meshd_netlink_drop(uint64_t netns)
{
    struct sock *s, *tmp;
    LL_FOREACH_SAFE(socks, s, tmp)
    {
        if (s->netns == netns && netns != own_netns) {
            sock_free(s);
        }
    }
}

uint32_t
meshd_netlink_namespaces(void)
{
    struct sock *s;
    uint32_t n = 0;
    LL_COUNT(socks, s, n);
    return n;
}

uint64_t
meshd_netlink_own(void)
{
    return own_netns;
}
