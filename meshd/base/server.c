/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_server: see server.h.
 *
 * A client's life: reading -> (handler) -> held, if the handler says so -> writing, if the socket was full ->
 * reading ... It has
 * CLIENT_MS for each request, counted from the last reply, not from the last byte. When all places
 * are taken the client that has waited longest goes: whoever only holds a place loses it first.
 */
#include "meshd/base/server.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utlist.h>

#include "mesh/wire.h"
#include "meshd/base/fdpass.h"
#include "meshd/base/frame.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"

#define CLIENT_MS    5000
#define EXPIRE_MS    500
#define CLIENTS_MAX  4096
#define ACCEPT_BATCH 64
#define PAUSE_MS     100 /* after accept() found no descriptor */

struct client {
    int fd, passed;
    uint64_t deadline_ns;
    struct event *ev;
    struct meshd_frame in;
    struct mesh_wire_head out_head;
    struct meshd_reply out;
    size_t sent;
    bool writing, last; /* last: hang up after the reply */
    struct client *prev, *next;
};

static struct client *clients; /* longest waiting first */
static struct meshd_timer *expire_timer;
static uint32_t count;
static int listener = -1, abstract = -1;
static struct event *accept_ev, *pause_ev, *abstract_ev;
static meshd_server_handler *handle;

static void
reply_fini(struct meshd_reply *r)
{
    if (r->body) {
        explicit_bzero(r->body, r->len);
        free(r->body);
    }
    for (int i = 0; i < 2; i++) {
        if (r->fd[i] >= 0) {
            close(r->fd[i]);
        }
    }
    *r = (struct meshd_reply){.fd = {-1, -1}};
}

static void
client_free(struct client *c)
{
    DL_DELETE(clients, c);
    count--;
    event_free(c->ev);
    meshd_frame_fini(&c->in);
    reply_fini(&c->out);
    if (c->passed >= 0) {
        close(c->passed);
    }
    close(c->fd);
    free(c);
}

static void on_client(evutil_socket_t fd, short what, void *arg);

/* Waits for input or room. The clock starts anew; libevent's own timeouts start anew with every
 * byte, and a client that sends one at a time would never time out. */
static void
await(struct client *c, short what)
{
    event_del(c->ev);
    event_assign(c->ev, meshd_loop(), c->fd, (short)(what | EV_PERSIST), on_client, c);
    event_add(c->ev, NULL);
    c->deadline_ns = meshd_now_ns() + CLIENT_MS * UINT64_C(1000000);
    DL_DELETE(clients, c);
    DL_APPEND(clients, c);
}

/* What of head and body is still to be sent. */
static int
pending(struct client *c, struct iovec *iov)
{
    size_t hs = sizeof(c->out_head), n = 0;
    if (c->sent < hs) {
        iov[n++] = (struct iovec){(char *)&c->out_head + c->sent, hs - c->sent};
    }
    size_t done = c->sent > hs ? c->sent - hs : 0;
    if (done < c->out.len) {
        iov[n++] = (struct iovec){c->out.body + done, c->out.len - done};
    }
    return (int)n;
}

/* False when the client is gone. */
static bool
flush(struct client *c)
{
    struct iovec iov[2];
    int n;
    while ((n = pending(c, iov)) > 0) {
        int nfds = c->sent || c->out.fd[0] < 0 ? 0 : 1 + (c->out.fd[1] >= 0);
        ssize_t r = meshd_fdpass_send(c->fd, iov, n, c->out.fd, nfds);
        if (r > 0) {
            c->sent += (size_t)r;
        } else if (r < 0 && errno == EAGAIN) {
            if (!c->writing) {
                c->writing = true;
                await(c, EV_WRITE);
            }
            return true;
        } else if (r == 0 || errno != EINTR) {
            client_free(c);
            return false;
        }
    }
    if (c->last) {
        client_free(c);
        return false;
    }
    reply_fini(&c->out);
    meshd_frame_fini(&c->in);
    c->writing = false;
    await(c, EV_READ);
    return true;
}

static bool
answer(struct client *c)
{
    if (c->passed >= 0) {
        close(c->passed);
        c->passed = -1;
    }
    if (c->out.err != MESH_OK) {
        enum mesh_err e = c->out.err;
        reply_fini(&c->out);
        c->out.err = e;
    }
    c->out_head = (struct mesh_wire_head){
        .magic = MESH_WIRE_MAGIC,
        .version = MESH_WIRE_VERSION,
        .type = (uint16_t)(c->in.head.type | MESH_WIRE_REPLY),
        .len = (uint32_t)c->out.len,
        .err = (uint32_t)c->out.err,
    };
    c->sent = 0;
    return flush(c);
}

static bool
refuse(struct client *c, enum mesh_err e)
{
    c->last = true;
    c->out.err = e;
    return answer(c);
}

static bool
serve(struct client *c)
{
    struct meshd_request req = {.sock = c->fd, .type = c->in.head.type, .body = c->in.body,
                                .len = c->in.head.len, .fd = c->passed};
    handle(&req, &c->out);
    c->passed = req.fd;
    if (c->out.held) {
        event_del(c->ev);
        return true;
    }
    return answer(c);
}

void
meshd_server_release(uint64_t number, enum mesh_err e)
{
    struct client *c;
    DL_SEARCH_SCALAR(clients, c, out.held, number);
    if (c) {
        c->out.held = 0;
        c->out.err = e == MESH_OK ? c->out.err : e;
        (void)answer(c);
    }
}

/* Reads one request at most; the event fires again for the next one. */
static void
read_client(struct client *c)
{
    while (!meshd_frame_is_done(&c->in)) {
        size_t want = 0;
        void *room = meshd_frame_room(&c->in, &want);
        if (!room) {
            refuse(c, MESH_E_NO_MEMORY);
            return;
        }
        ssize_t r = meshd_fdpass_recv(c->fd, room, want, &c->passed);
        if (r < 0 && errno == EAGAIN) {
            return;
        }
        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r <= 0) {
            client_free(c);
            return;
        }
        enum mesh_err e = meshd_frame_fed(&c->in, (size_t)r);
        if (e != MESH_OK) {
            refuse(c, e);
            return;
        }
    }
    serve(c);
}

static void
on_client(evutil_socket_t fd, short what, void *arg)
{
    struct client *c = arg;
    (void)fd;
    if (what & EV_WRITE) {
        flush(c);
    } else {
        read_client(c);
    }
}

static void
client_new(int fd)
{
    if (count >= CLIENTS_MAX) {
        client_free(clients);
    }
    struct client *c = calloc(1, sizeof(*c));
    if (!c) {
        close(fd);
        return;
    }
    c->fd = fd;
    c->passed = -1;
    c->out.fd[0] = c->out.fd[1] = -1;
    c->ev = event_new(meshd_loop(), fd, EV_READ | EV_PERSIST, on_client, c);
    if (!c->ev) {
        close(fd);
        free(c);
        return;
    }
    DL_APPEND(clients, c);
    count++;
    await(c, EV_READ);
}

/* The list is in the order of deadlines. */
static void
expire(void *arg)
{
    uint64_t now = meshd_now_ns();
    (void)arg;
    while (clients && clients->deadline_ns <= now) {
        client_free(clients);
    }
}

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    (void)arg;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        int s = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (s >= 0) {
            client_new(s);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            struct timeval tv = {0, PAUSE_MS * 1000};
            log_warn("accept: %s; pausing", strerror(errno));
            event_del(accept_ev);
            if (abstract_ev) {
                event_del(abstract_ev);
            }
            event_add(pause_ev, &tv);
        }
        if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

static void
on_pause(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    event_add(accept_ev, NULL);
    if (abstract_ev) {
        event_add(abstract_ev, NULL);
    }
}

enum mesh_err
meshd_server_listen(const char *path, unsigned mode, int *fd)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(sa.sun_path)) {
        log_error("%s: longer than a Unix socket's name may be (%zu bytes)", path,
                  sizeof(sa.sun_path) - 1);
        return MESH_E_CONFIG;
    }
    memcpy(sa.sun_path, path, strlen(path) + 1);
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s < 0) {
        return MESH_E_SYSTEM;
    }
    unlink(path);
    mode_t old = umask(0777 & ~mode);
    int r = bind(s, (struct sockaddr *)&sa, sizeof(sa));
    umask(old);
    if (r != 0 || listen(s, SOMAXCONN) != 0) {
        log_error("%s: %s", path, strerror(errno));
        close(s);
        return MESH_E_SYSTEM;
    }
    *fd = s;
    return MESH_OK;
}

/* The same name in the abstract space, for programs that have gone into a chroot. Somebody else may
 * sit on it: shims look whose it is, and we do without. */
static int
listen_abstract(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n + 1 > sizeof(sa.sun_path)) {
        return -1;
    }
    memcpy(sa.sun_path + 1, path, n);
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s >= 0 && (bind(s, (struct sockaddr *)&sa, (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
                                                               1 + n)) != 0 ||
                   listen(s, SOMAXCONN) != 0)) {
        log_warn("@%s: %s; programs in a chroot cannot reach us", path, strerror(errno));
        close(s);
        s = -1;
    }
    return s;
}

enum mesh_err
meshd_server_init(const char *path, meshd_server_handler *handler)
{
    enum mesh_err e = meshd_server_listen(path, 0666, &listener);
    if (e != MESH_OK) {
        return e;
    }
    handle = handler;
    accept_ev = event_new(meshd_loop(), listener, EV_READ | EV_PERSIST, on_accept, NULL);
    abstract = listen_abstract(path);
    if (abstract >= 0) {
        abstract_ev = event_new(meshd_loop(), abstract, EV_READ | EV_PERSIST, on_accept, NULL);
    }
    pause_ev = event_new(meshd_loop(), -1, 0, on_pause, NULL);
    expire_timer = meshd_timer_new(EXPIRE_MS, expire, NULL);
    if (!accept_ev || !pause_ev || !expire_timer || (abstract >= 0 && !abstract_ev)) {
        meshd_server_fini();
        return MESH_E_NO_MEMORY;
    }
    event_add(accept_ev, NULL);
    if (abstract_ev) {
        event_add(abstract_ev, NULL);
    }
    return MESH_OK;
}

void
meshd_server_fini(void)
{
    while (clients) {
        client_free(clients);
    }
    if (accept_ev) {
        event_free(accept_ev);
    }
    if (pause_ev) {
        event_free(pause_ev);
    }
    meshd_timer_free(expire_timer);
    expire_timer = NULL;
    if (abstract_ev) {
        event_free(abstract_ev);
    }
    if (listener >= 0) {
        close(listener);
    }
    if (abstract >= 0) {
        close(abstract);
    }
    accept_ev = pause_ev = abstract_ev = NULL;
    listener = abstract = -1;
}

uint32_t
meshd_server_clients(void)
{
    return count;
}
