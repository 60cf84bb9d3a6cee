/* SPDX-License-Identifier: Apache-2.0
 *
 * serve: see serve.h. What a connection is to be sent is a number of bytes of one constant answer (sink, http),
 * or a copy of what the kernel did not take (echo); while there is some, nothing is read from it.
 */
#include "bench/meshload/serve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bench/meshload/stream.h"

#define EVENTS    256
#define READ_SIZE 65536

struct client {
    struct stream s;
    bool up, last; /* last: to be closed when all is sent */
    uint32_t watched;
    size_t owed, at; /* bytes of the answer, or of `copy` */
    size_t got;      /* sink: of the present request */
    unsigned match;  /* http: how much of the empty line was seen */
    uint8_t *copy;
};

struct serve {
    const struct serve_spec *spec;
    int epoll, listener;
    char *answer;
    size_t answer_len;
    uint8_t buf[READ_SIZE];
};

static void
watch(const struct serve *v, struct client *c, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (c->watched != events) {
        (void)epoll_ctl(v->epoll, c->watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->s.fd, &e);
        c->watched = events;
    }
}

static void
client_end(struct client *c)
{
    stream_close(&c->s);
    free(c->copy);
    free(c);
}

/* False: the connection is over. */
static bool
client_send(struct serve *v, struct client *c, const uint8_t *from, size_t len)
{
    while (c->owed > 0) {
        size_t n = c->owed < len - c->at ? c->owed : len - c->at;
        ssize_t w = stream_write(&c->s, from + c->at, n);
        if (w < 0 && errno == EAGAIN) {
            watch(v, c, EPOLLOUT);
            return true;
        }
        if (w <= 0) {
            return false;
        }
        c->owed -= (size_t)w;
        c->at = (c->at + (size_t)w) % len;
    }
    free(c->copy);
    c->copy = NULL;
    c->at = 0;
    watch(v, c, EPOLLIN);
    return !c->last;
}

/* The rest of an echo is kept until it can go. */
static bool
echo(struct serve *v, struct client *c, size_t n)
{
    c->owed = n;
    if (!client_send(v, c, v->buf, n)) {
        return false;
    }
    if (c->owed > 0) {
        c->copy = malloc(c->owed);
        if (c->copy == NULL) {
            return false;
        }
        memcpy(c->copy, v->buf + c->at, c->owed);
        c->at = 0;
    }
    return true;
}

/* How many requests end in what came. */
static size_t
requests_count(const struct serve *v, struct client *c, size_t n)
{
    static const char end[] = "\r\n\r\n";
    size_t count = 0;
    if (v->spec->kind == SERVE_SINK) {
        c->got += n;
        count = c->got / v->spec->size;
        c->got %= v->spec->size;
        return count;
    }
    c->last = c->last || memmem(v->buf, n, "Connection: close", 17) != NULL;
    for (size_t i = 0; i < n; i++) {
        c->match = (char)v->buf[i] == end[c->match] ? c->match + 1 : v->buf[i] == '\r';
        if (c->match == 4) {
            c->match = 0;
            count++;
        }
    }
    return count;
}

static bool
client_read(struct serve *v, struct client *c)
{
    ssize_t n;
    do {
        n = stream_read(&c->s, v->buf, sizeof(v->buf));
        if (n <= 0) {
            return n < 0 && errno == EAGAIN;
        }
        if (v->spec->kind == SERVE_ECHO) {
            if (!echo(v, c, (size_t)n)) {
                return false;
            }
        } else {
            c->owed += requests_count(v, c, (size_t)n) * v->answer_len;
            if (c->owed > 0 && !client_send(v, c, (const uint8_t *)v->answer, v->answer_len)) {
                return false;
            }
        }
    } while (c->owed == 0 && stream_more(&c->s, (size_t)n, sizeof(v->buf)));
    return true;
}

/* The size of a copy is what is left of it: it is sent from its front. */
static bool
client_go_on(struct serve *v, struct client *c)
{
    if (c->copy != NULL) {
        return client_send(v, c, c->copy, c->at + c->owed);
    }
    return client_send(v, c, (const uint8_t *)v->answer, v->answer_len);
}

static bool
client_event(struct serve *v, struct client *c)
{
    if (!c->up) {
        if (stream_ready(&c->s) != 0) {
            watch(v, c, c->s.want);
            return errno == EAGAIN;
        }
        c->up = true;
        watch(v, c, EPOLLIN);
        return c->s.ssl == NULL || client_read(v, c);
    }
    if (c->owed > 0 && !client_go_on(v, c)) {
        return false;
    }
    return c->owed > 0 || client_read(v, c);
}

static void
clients_accept(struct serve *v)
{
    for (;;) {
        struct client *c = calloc(1, sizeof(*c));
        if (c == NULL || stream_accept(&c->s, v->listener, v->spec->tls) != 0) {
            free(c);
            return;
        }
        c->up = c->s.ssl == NULL;
        watch(v, c, EPOLLIN);
    }
}

static bool
answer_make(struct serve *v)
{
    char head[128];
    int n = 0;
    if (v->spec->kind == SERVE_HTTP) {
        n = snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", v->spec->size);
    }
    v->answer_len = v->spec->kind == SERVE_HTTP ? (size_t)n + v->spec->size : 1;
    v->answer = malloc(v->answer_len);
    if (v->answer == NULL) {
        return false;
    }
    memset(v->answer, 'x', v->answer_len);
    memcpy(v->answer, head, (size_t)n);
    return true;
}

int
serve_run(const struct serve_spec *spec)
{
    static struct serve v;
    struct epoll_event e[EVENTS], in = {.events = EPOLLIN};
    int one = 1;
    v.spec = spec;
    v.epoll = epoll_create1(EPOLL_CLOEXEC);
    v.listener = socket(spec->at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (v.epoll < 0 || v.listener < 0 || !answer_make(&v) ||
        setsockopt(v.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        bind(v.listener, (const struct sockaddr *)&spec->at, spec->at_len) != 0 || listen(v.listener, 4096) != 0 ||
        epoll_ctl(v.epoll, EPOLL_CTL_ADD, v.listener, &in) != 0) {
        perror("meshload serve");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(v.epoll, e, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct client *c = e[i].data.ptr;
            if (c == NULL) {
                clients_accept(&v);
            } else if (!client_event(&v, c)) {
                client_end(c);
            }
        }
    }
}
