/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_ctl: see ctl.h. Whoever can reach the socket may be hostile, and meshd serves others.
 *
 *   reading --a line--> answering --all is read--> reading ...      (several commands, one at a time)
 *      |                    |
 *      +--- no line or no progress for IDLE_MS, line too long, quit, end of input: closed
 *
 * While an answer is under way nothing is read, so what one client can make meshd hold is one answer.
 * All answers together may hold OUT_MOST bytes: beyond that the client that has been reading for
 * longest goes. Likewise for places: whoever waited longest makes room for who comes.
 */
#include "meshd/ctl/ctl.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <utlist.h>

#include "meshd/base/file.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/base/server.h"
#include "meshd/ctl/command.h"
#include "meshd/ctl/show.h"

#define IDLE_MS     30000
#define EXPIRE_MS   1000
#define PAUSE_MS    100 /* after accept() found no descriptor */
#define CLIENTS_MAX 4096u
#define OUT_MOST    (64u << 20)

struct client {
    struct bufferevent *bev;
    uint64_t deadline_ns;
    size_t out; /* bytes of the answer under way, 0: none */
    bool last;  /* hang up after the answer */
    bool ended; /* the client will send nothing more */
    struct client *prev, *next;
};

static struct client *clients; /* longest waiting first */
static uint32_t count, places;
static size_t held;
static struct evconnlistener *listener;
static struct event *resume_ev;
static struct meshd_timer *expire_timer;
static char path[PATH_MAX];

static void
client_free(struct client *c)
{
    DL_DELETE(clients, c);
    count--;
    held -= c->out;
    bufferevent_free(c->bev);
    free(c);
}

/* The clock starts with each answer and each end of one, not with bytes. */
static void
touch(struct client *c)
{
    c->deadline_ns = meshd_now_ns() + IDLE_MS * UINT64_C(1000000);
    DL_DELETE(clients, c);
    DL_APPEND(clients, c);
}

static void
make_memory(const struct client *keep)
{
    struct client *c, *tmp;
    DL_FOREACH_SAFE(clients, c, tmp) {
        if (held <= OUT_MOST) {
            return;
        }
        if (c != keep && c->out > 0) {
            client_free(c);
        }
    }
}

/* Answers the next command that is there. False: there is none. */
static bool
answer_one(struct client *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    struct evbuffer *out = bufferevent_get_output(c->bev);
    size_t len = 0;
    char *line = evbuffer_readln(in, &len, EVBUFFER_EOL_LF);
    if (line && len <= MESHD_COMMAND_LINE_MAX) {
        c->last = !meshd_command_answer(bufferevent_getfd(c->bev), line, len, out);
    } else if (line || evbuffer_get_length(in) > MESHD_COMMAND_LINE_MAX) {
        meshd_command_error(out, "line too long");
        c->last = true;
    } else if (c->ended && evbuffer_get_length(in) > 0) {
        meshd_command_error(out, "the last line has no end");
        c->last = true;
    } else {
        return false;
    }
    free(line);
    return true;
}

/* Goes on until an answer is under way or there is nothing to answer. May free c. */
static void
proceed(struct client *c)
{
    bool any = true;
    while (any && c->out == 0 && !c->last) {
        any = answer_one(c);
        c->out = evbuffer_get_length(bufferevent_get_output(c->bev));
    }
    held += c->out;
    if (c->out == 0) {
        if (c->last || c->ended) {
            client_free(c);
        } else {
            bufferevent_enable(c->bev, EV_READ);
        }
        return;
    }
    bufferevent_disable(c->bev, EV_READ);
    touch(c);
    make_memory(c);
}

static void
on_read(struct bufferevent *bev, void *arg)
{
    struct client *c = arg;
    (void)bev;
    if (c->out == 0) {
        proceed(c);
    }
}

/* The output buffer is empty. */
static void
on_written(struct bufferevent *bev, void *arg)
{
    struct client *c = arg;
    if (c->out == 0 || evbuffer_get_length(bufferevent_get_output(bev)) > 0) {
        return;
    }
    held -= c->out;
    c->out = 0;
    touch(c);
    proceed(c);
}

/* A client may close its writing side and still read: what it asked is answered. */
static void
on_event(struct bufferevent *bev, short what, void *arg)
{
    struct client *c = arg;
    (void)bev;
    if ((what & BEV_EVENT_EOF) && (what & BEV_EVENT_READING)) {
        c->ended = true;
        if (c->out == 0) {
            proceed(c);
        }
        return;
    }
    client_free(c);
}

static void
on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa, int len, void *arg)
{
    (void)l;
    (void)sa;
    (void)len;
    (void)arg;
    if (count >= places) {
        client_free(clients);
    }
    struct client *c = calloc(1, sizeof(*c));
    struct bufferevent *bev =
        c ? bufferevent_socket_new(meshd_loop(), fd, BEV_OPT_CLOSE_ON_FREE) : NULL;
    if (!bev) {
        free(c);
        close(fd);
        return;
    }
    c->bev = bev;
    DL_APPEND(clients, c);
    count++;
    touch(c);
    bufferevent_setcb(bev, on_read, on_written, on_event, c);
    bufferevent_setwatermark(bev, EV_READ, 0, MESHD_COMMAND_LINE_MAX + 2);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
}

static void
on_accept_error(struct evconnlistener *l, void *arg)
{
    struct timeval tv = {0, PAUSE_MS * 1000};
    (void)arg;
    log_warn("status socket: accept: %s; pausing", strerror(errno));
    evconnlistener_disable(l);
    event_add(resume_ev, &tv);
}

static void
on_resume(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    evconnlistener_enable(listener);
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

/* Most descriptors are for shims. */
static uint32_t
count_places(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur / 4 > CLIENTS_MAX) {
        return CLIENTS_MAX;
    }
    return files.rlim_cur / 4 > 0 ? (uint32_t)(files.rlim_cur / 4) : 1;
}

enum mesh_err
meshd_ctl_init(const char *run_dir)
{
    int fd = -1;
    if (!meshd_path(path, sizeof(path), run_dir, "status.sock")) {
        return MESH_E_CONFIG;
    }
    enum mesh_err e = meshd_server_listen(path, 0666, &fd);
    if (e != MESH_OK) {
        return e;
    }
    meshd_show_init();
    places = count_places();
    resume_ev = event_new(meshd_loop(), -1, 0, on_resume, NULL);
    expire_timer = meshd_timer_new(EXPIRE_MS, expire, NULL);
    listener = evconnlistener_new(meshd_loop(), on_accept, NULL,
                                  LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (!listener) {
        close(fd);
    }
    if (!resume_ev || !expire_timer || !listener) {
        meshd_ctl_fini();
        return MESH_E_NO_MEMORY;
    }
    evconnlistener_set_error_cb(listener, on_accept_error);
    return MESH_OK;
}

void
meshd_ctl_fini(void)
{
    while (clients) {
        client_free(clients);
    }
    if (listener) {
        evconnlistener_free(listener);
        unlink(path);
    }
    if (resume_ev) {
        event_free(resume_ev);
    }
    meshd_timer_free(expire_timer);
    listener = NULL;
    resume_ev = NULL;
    expire_timer = NULL;
    meshd_command_fini();
}

uint32_t
meshd_ctl_clients(void)
{
    return count;
}
