/* SPDX-License-Identifier: Apache-2.0
 *
 * fakeshim: plays a shim towards meshd, for tests: does what its arguments say, in order, and prints
 * one line for each.
 *
 *   fakeshim RUN_DIR COMMAND...
 *     wish=NAME        the service name asked for from now on
 *     attach           ATTACH; maps snapshot and page
 *     cert=DIR         CERT; writes leaf.pem, chain.pem, key.pem and bundle.pem to DIR
 *     listen=ADDR:PORT opens a listener and registers it (ADDR: 127.0.0.1, 0.0.0.0, ::1, ::)
 *     unlisten         says that the last listener is closed
 *     close            closes it
 *     find=ADDR:PORT   looks it up in the snapshot
 *     waitgone=ADDR:PORT  until it is not there (2 s)
 *     conn=OUT,PORT    writes an open connection (outbound 0 or 1, local port) to the page
 *     add=N            adds N to the sent bytes
 *     peer=ADDR:PORT   PEER
 *     handoff=ADDR:PORT,ID,TEXT
 *     fork             the rest runs in a child; the parent exits
 *     raw=HEX          sends bytes on a fresh connection, prints the answer's error
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/snap.h"
#include "mesh/wire.h"

static const char *run_dir;
static char wish[MESH_SERVICE_MAX];
static struct mesh_snap snap;
static struct mesh_page *page;
static int listener = -1;
static uint64_t cookie;

static int
dial(void)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct timeval tv = {5, 0};
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/meshd.sock", run_dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
        perror("connect");
        exit(1);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    return fd;
}

static ssize_t
recv_fds(int fd, void *buf, size_t n, int *fds)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } ctl;
    struct iovec iov = {buf, n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl,
                       .msg_controllen = sizeof(ctl)};
    ssize_t r = recvmsg(fd, &m, MSG_WAITALL);
    struct cmsghdr *c = r > 0 ? CMSG_FIRSTHDR(&m) : NULL;
    if (c && c->cmsg_type == SCM_RIGHTS) {
        memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
    }
    return r;
}

static void
send_fd(int fd, const struct mesh_wire_head *h, int pass)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } ctl = {.head = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec iov = {(void *)(uintptr_t)h, sizeof(*h)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (pass >= 0) {
        memcpy(CMSG_DATA(&ctl.head), &pass, sizeof(int));
        m.msg_control = &ctl;
        m.msg_controllen = sizeof(ctl);
    }
    if (sendmsg(fd, &m, MSG_NOSIGNAL) < 0) {
        perror("sendmsg");
    }
}

/* Returns the reply's body (static) or NULL after printing the error. */
static uint8_t *
call(uint16_t type, const void *body, size_t len, int pass, size_t *out_len, int *fds)
{
    static uint8_t buf[MESH_WIRE_MAX];
    struct mesh_wire_head h = {MESH_WIRE_MAGIC, MESH_WIRE_VERSION, type, (uint32_t)len, 0};
    int fd = dial();
    send_fd(fd, &h, pass);
    if (len && send(fd, body, len, MSG_NOSIGNAL) != (ssize_t)len) {
        perror("send");
    }
    ssize_t r = recv_fds(fd, &h, sizeof(h), fds);
    if (r != (ssize_t)sizeof(h) || h.magic != MESH_WIRE_MAGIC || h.err) {
        printf("error %s\n", r == (ssize_t)sizeof(h) ? mesh_err_reason((enum mesh_err)h.err) : "eof");
        close(fd);
        return NULL;
    }
    *out_len = h.len;
    if (h.len && recv(fd, buf, h.len, MSG_WAITALL) != (ssize_t)h.len) {
        printf("error short\n");
        close(fd);
        return NULL;
    }
    close(fd);
    return buf;
}

static uint64_t
sock_u64(int fd, int option)
{
    uint64_t v = 0;
    socklen_t len = sizeof(v);
    getsockopt(fd, SOL_SOCKET, option, &v, &len);
    return v;
}

static uint64_t
netns(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint64_t v = sock_u64(fd, SO_NETNS_COOKIE);
    close(fd);
    return v;
}

static bool
parse_addr(const char *text, struct mesh_addr *a, struct sockaddr_storage *ss)
{
    char ip[64];
    const char *colon = strrchr(text, ':');
    struct sockaddr_in *in = (void *)ss;
    struct sockaddr_in6 *in6 = (void *)ss;
    if (!colon || (size_t)(colon - text) >= sizeof(ip)) {
        return false;
    }
    memset(ss, 0, sizeof(*ss));
    snprintf(ip, sizeof(ip), "%.*s", (int)(colon - text), text);
    if (inet_pton(AF_INET, ip, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)atoi(colon + 1));
    } else if (inet_pton(AF_INET6, ip, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)atoi(colon + 1));
    } else {
        return false;
    }
    return mesh_addr_from(a, (struct sockaddr *)ss, sizeof(*in6));
}

static void
do_attach(void)
{
    struct mesh_wire_attach_req q = {.netns = netns()};
    struct mesh_wire_attach_rep rep;
    int fds[2] = {-1, -1};
    size_t n = 0;
    struct stat st;
    memcpy(q.service, wish, sizeof(q.service));
    uint8_t *b = call(MESH_WIRE_ATTACH, &q, sizeof(q), -1, &n, fds);
    if (!b) {
        return;
    }
    memcpy(&rep, b, sizeof(rep));
    fstat(fds[0], &st);
    snap.size = (size_t)st.st_size;
    snap.map = mmap(NULL, snap.size, PROT_READ, MAP_SHARED, fds[0], 0);
    page = mmap(NULL, MESH_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
    bool writable = mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fds[0], 0) != MAP_FAILED;
    atomic_store(&page->pids[0], getpid());
    printf("attached %s service=%s page=%llu snapshot=%s%s\n", rep.id, rep.service,
           (unsigned long long)rep.page_id, mesh_err_reason(mesh_snap_check(&snap)),
           writable ? " WRITABLE" : "");
    close(fds[0]);
    close(fds[1]);
}

static void
write_file(const char *dir, const char *name, const uint8_t *p, size_t n)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, p, n) != (ssize_t)n) {
        perror(path);
    }
    close(fd);
}

/* The length of the DER object at p. */
static size_t
der_len(const uint8_t *p)
{
    return p[1] < 0x80 ? 2u + p[1] : p[1] == 0x81 ? 3u + p[2] : 4u + ((size_t)p[2] << 8) + p[3];
}

static void
do_cert(const char *dir)
{
    struct mesh_wire_cert_rep rep;
    size_t n = 0;
    int fds[2];
    uint8_t *b = call(MESH_WIRE_CERT, NULL, 0, -1, &n, fds);
    if (!b) {
        return;
    }
    memcpy(&rep, b, sizeof(rep));
    b += sizeof(rep);
    size_t leaf = der_len(b);
    write_file(dir, "leaf.der", b, leaf);
    write_file(dir, "issuing.der", b + leaf, rep.chain_len - leaf);
    write_file(dir, "key.der", b + rep.chain_len, rep.key_len);
    write_file(dir, "bundle.der", b + rep.chain_len + rep.key_len, rep.bundle_len);
    printf("cert %s lifetime=%llu renew_in=%llu\n", rep.id,
           (unsigned long long)(rep.not_after - rep.not_before),
           (unsigned long long)(rep.renew_at - rep.not_before));
}

static int
open_diag(void)
{
    struct sockaddr_nl sa = {.nl_family = AF_NETLINK,
                             .nl_groups = 1u << (SKNLGRP_INET_TCP_DESTROY - 1) |
                                          1u << (SKNLGRP_INET6_TCP_DESTROY - 1)};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    bind(fd, (struct sockaddr *)&sa, sizeof(sa));
    return fd;
}

static void
do_listen(const char *text)
{
    struct mesh_wire_listen_req q = {.netns = netns()};
    struct mesh_wire_listen_rep rep = {0};
    struct sockaddr_storage ss;
    struct mesh_addr a;
    size_t n = 0;
    int fds[2], one = 1;
    if (!parse_addr(text, &a, &ss)) {
        printf("bad address\n");
        return;
    }
    listener = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)&ss,
             ss.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)) ||
        listen(listener, 16)) {
        perror("listen");
    }
    q.cookie = cookie = sock_u64(listener, SO_COOKIE);
    q.port = a.port;
    memcpy(q.addr, a.ip, 16);
    memcpy(q.service, wish, sizeof(q.service));
    for (int i = 0; i < 2; i++) {
        int diag = rep.need_diag ? open_diag() : -1;
        uint8_t *b = call(MESH_WIRE_LISTEN, &q, sizeof(q), diag, &n, fds);
        if (!b) {
            return;
        }
        memcpy(&rep, b, sizeof(rep));
        if (!rep.need_diag) {
            break;
        }
        printf("need_diag\n");
    }
    printf("listen id=%u mode=%u need_diag=%u\n", rep.endpoint_id, rep.mode, rep.need_diag);
}

static bool
find(const char *text, bool say)
{
    struct mesh_addr a;
    struct sockaddr_storage ss;
    struct mesh_snap_hit hit;
    bool found = false;
    if (!parse_addr(text, &a, &ss)) {
        return false;
    }
    enum mesh_err e = mesh_snap_find(&snap, netns(), &a, &hit, &found);
    if (say && e != MESH_OK) {
        printf("find error %s\n", mesh_err_reason(e));
    } else if (say && found) {
        printf("found %s %s flags=%u needs_local=%d\n", hit.service.name, hit.service.id,
               hit.endpoint.flags, hit.needs_local);
    } else if (say) {
        printf("not found\n");
    }
    return found;
}

static void
do_conn(const char *arg)
{
    struct mesh_page_conn *c = mesh_page_conns(page);
    static const uint8_t v4[16] = {[10] = 0xff, [11] = 0xff, 127, 0, 0, 1};
    while (atomic_load(&c->state) != MESH_CONN_FREE) {
        c++;
    }
    c->outbound = (uint8_t)atoi(arg);
    c->local_port = (uint16_t)atoi(strchr(arg, ',') + 1);
    memcpy(c->local_addr, v4, 16);
    memcpy(c->peer_addr, v4, 16);
    c->cipher = 0x1301;
    c->pid = getpid();
    snprintf(c->peer_id, sizeof(c->peer_id), "spiffe://mesh.local/ns/default/sa/other");
    atomic_store_explicit(&c->state, MESH_CONN_OPEN, memory_order_release);
    atomic_fetch_add(&page->stat[MESH_STAT_OPEN_OUT], 1);
    atomic_fetch_add(&page->stat[MESH_STAT_ACTIVE], 1);
    printf("conn\n");
}

static void
do_peer(const char *text)
{
    struct mesh_wire_peer_req q = {.netns = netns()};
    struct mesh_wire_peer_rep rep;
    struct sockaddr_storage ss;
    struct mesh_addr a;
    size_t n = 0;
    int fds[2];
    parse_addr(text, &a, &ss);
    memcpy(q.addr, a.ip, 16);
    q.port = a.port;
    uint8_t *b = call(MESH_WIRE_PEER, &q, sizeof(q), -1, &n, fds);
    if (b) {
        memcpy(&rep, b, sizeof(rep));
        printf("peer known=%u\n", rep.known);
    }
}

static void
do_handoff(char *text)
{
    struct {
        struct mesh_wire_handoff_req q;
        char data[4096];
    } m = {.q = {.netns = netns()}};
    struct sockaddr_storage ss;
    struct mesh_addr a;
    size_t n = 0;
    int fds[2];
    char *id = strchr(text, ',');
    *id++ = '\0';
    char *data = strchr(id, ',');
    *data++ = '\0';
    parse_addr(text, &a, &ss);
    memcpy(m.q.addr, a.ip, 16);
    m.q.port = a.port;
    m.q.len = (uint32_t)strlen(data);
    snprintf(m.q.expect_id, sizeof(m.q.expect_id), "%s", id);
    memcpy((char *)&m + sizeof(m.q), data, m.q.len);
    if (call(MESH_WIRE_HANDOFF, &m, sizeof(m.q) + m.q.len, -1, &n, fds)) {
        printf("handoff accepted\n");
    }
}

static void
do_raw(const char *hex)
{
    struct mesh_wire_head h;
    int fd = dial();
    for (; hex[0] && hex[1]; hex += 2) {
        char two[3] = {hex[0], hex[1], 0};
        uint8_t b = (uint8_t)strtoul(two, NULL, 16);
        send(fd, &b, 1, MSG_NOSIGNAL);
    }
    shutdown(fd, SHUT_WR);
    ssize_t r = recv(fd, &h, sizeof(h), MSG_WAITALL);
    printf("raw %s\n", r == (ssize_t)sizeof(h) ? mesh_err_reason((enum mesh_err)h.err) : "eof");
    close(fd);
}

static void
do_fork(void)
{
    fflush(stdout);
    if (fork() != 0) {
        _exit(0);
    }
    if (page) {
        atomic_store(&page->pids[1], getpid());
    }
    printf("child %d\n", (int)getpid());
}

static void
run(char *cmd)
{
    char *arg = strchr(cmd, '=');
    size_t n = arg ? (size_t)(arg - cmd) : strlen(cmd);
    arg = arg ? arg + 1 : cmd + n;
#define IS(word) (n == sizeof(word) - 1 && memcmp(cmd, word, n) == 0)
    if (IS("wish")) {
        snprintf(wish, sizeof(wish), "%s", arg);
    } else if (IS("attach")) {
        do_attach();
    } else if (IS("cert")) {
        do_cert(arg);
    } else if (IS("listen")) {
        do_listen(arg);
    } else if (IS("unlisten")) {
        struct mesh_wire_unlisten_req q = {netns(), cookie};
        size_t len = 0;
        int fds[2];
        printf("unlisten %s\n",
               call(MESH_WIRE_UNLISTEN, &q, sizeof(q), -1, &len, fds) ? "ok" : "failed");
    } else if (IS("close")) {
        close(listener);
    } else if (IS("find")) {
        find(arg, true);
    } else if (IS("waitgone")) {
        int i = 0;
        while (find(arg, false) && i++ < 2000) {
            usleep(1000); /* the snapshot tells nobody of its changes */
        }
        printf("%s after %d ms\n", i < 2000 ? "gone" : "still there", i);
    } else if (IS("conn")) {
        do_conn(arg);
    } else if (IS("add")) {
        atomic_fetch_add(&page->stat[MESH_STAT_TX_BYTES], (uint64_t)atoll(arg));
    } else if (IS("peer")) {
        do_peer(arg);
    } else if (IS("handoff")) {
        do_handoff(arg);
    } else if (IS("raw")) {
        do_raw(arg);
    } else if (IS("fork")) {
        do_fork();
    } else {
        printf("unknown command %s\n", cmd);
    }
    fflush(stdout);
}

int
main(int argc, char **argv)
{
    run_dir = argc > 1 ? argv[1] : ".";
    for (int i = 2; i < argc; i++) {
        run(argv[i]);
    }
    return 0;
}
