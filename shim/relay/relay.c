/* SPDX-License-Identifier: Apache-2.0
 *
 * libmesh-relay CONNECTION STREAM [CONNECTION STREAM]...: carries bytes between mesh connections and
 * socket pairs, for a program that cannot be under libmesh (flow/relay.h starts it). It is an
 * ordinary program: a connection works in it because libmesh.so is preloaded, as in any other.
 *
 * It returns to its starter at once, by a fork, and goes on in a session of its own. Streams end as
 * TCP's do: an end in one direction is passed on, the other goes on; an error ends both.
 *
 * Who opened a connection may still use it, and what is read here is lost to it. CONNECTION is a number
 * and, after a comma, an enum shim_relay_use, which says what may be read while others hold it, too. Nor
 * is the program's end the connection's then.
 *
 * Exit status of the first process: 0, or 1 when there could be no second.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shim/flow/relay.h"

#define LOOK_MS 20

struct way {
    bool ended; /* its source has no more */
    bool done;  /* and its target was told */
    size_t at, len;
    char buf[16384];
};

struct line {
    int conn, stream; /* -1: over */
    enum shim_relay_use use; /* SHIM_RELAY_READ as soon as we may */
    struct way down, up; /* connection to stream, stream to connection */
};

static struct line *lines;
static int count;

/* Takes what there is, once there is nothing left to give. False: broken. */
static bool
take(struct way *w, int from)
{
    if (w->ended || w->len > 0) {
        return true;
    }
    ssize_t n = recv(from, w->buf, sizeof(w->buf), MSG_DONTWAIT);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    w->len = (size_t)n;
    w->ended = n == 0;
    return true;
}

static bool
give(struct way *w, int to)
{
    while (w->len > 0) {
        ssize_t n = send(to, w->buf + w->at, w->len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        w->at += (size_t)n;
        w->len -= (size_t)n;
    }
    w->at = 0;
    if (w->ended && !w->done) {
        w->done = true;
        (void)shutdown(to, SHUT_WR); /* it may be gone: then the other way finds out */
    }
    return true;
}

static bool
is_alone(const struct line *l)
{
    int others = 0;
    socklen_t len = sizeof(others);
    return getsockopt(l->conn, SHIM_RELAY_LEVEL, SHIM_RELAY_OTHERS, &others, &len) != 0 || others == 0;
}

static void
end(struct line *l, bool orderly)
{
    struct linger now = {1, 0};
    if (!orderly && is_alone(l)) { /* the peer sees a reset */
        (void)setsockopt(l->conn, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    }
    (void)close(l->conn);
    (void)close(l->stream);
    l->conn = l->stream = -1;
}

/* The program has ended, or closed its descriptors; a mere shutdown is something else. */
static bool
is_left(const struct line *l)
{
    struct pollfd p = {l->stream, 0, 0};
    return l->up.ended && l->up.len == 0 && poll(&p, 1, 0) == 1 && (p.revents & POLLHUP);
}

static void
step(struct line *l)
{
    bool ok = take(&l->up, l->stream);
    if (ok && l->use == SHIM_RELAY_ACCIDENT && l->up.len > 0) {
        l->use = SHIM_RELAY_READ;
    }
    if (l->use != SHIM_RELAY_READ && is_alone(l)) {
        l->use = SHIM_RELAY_READ;
    }
    ok = ok && (l->use != SHIM_RELAY_READ || (take(&l->down, l->conn) && give(&l->down, l->stream)));
    if (ok && is_left(l) && !is_alone(l)) {
        end(l, true); /* to its other holders nothing happened */
        return;
    }
    if (!ok || !give(&l->up, l->conn)) {
        end(l, false);
    } else if (l->down.done && l->up.done) {
        end(l, true);
    }
}

/* HUP of a descriptor of which nothing is wanted would spin: it is left out. */
static void
want(const struct line *l, struct pollfd p[2])
{
    short conn = l->up.len > 0 ? POLLOUT : 0, stream = 0;
    if (l->use == SHIM_RELAY_READ) {
        conn |= !l->down.ended && l->down.len == 0 ? POLLIN : 0;
    }
    stream |= !l->up.ended && l->up.len == 0 ? POLLIN : 0;
    stream |= l->down.len > 0 ? POLLOUT : 0;
    p[0] = (struct pollfd){conn ? l->conn : -1, conn, 0};
    p[1] = (struct pollfd){stream ? l->stream : -1, stream, 0};
}

static int
carry(void)
{
    struct pollfd *p = calloc((size_t)count, 2 * sizeof(*p));
    int left = count, wait = LOOK_MS;
    while (p && left > 0) {
        bool waits = false; /* for the others to let go, of which nobody tells */
        for (int i = 0; i < count; i++) {
            want(&lines[i], &p[2 * i]);
            waits = waits || (lines[i].conn >= 0 && lines[i].use != SHIM_RELAY_READ);
        }
        int n = poll(p, 2 * (nfds_t)count, waits ? wait : -1);
        if (n < 0 && errno != EINTR) {
            return 1;
        }
        wait = n > 0 ? LOOK_MS : (wait < 1000 ? wait * 2 : wait); /* less and less often */
        left = 0;
        for (int i = 0; i < count; i++) {
            if (lines[i].conn >= 0) {
                step(&lines[i]);
            }
            left += lines[i].conn >= 0;
        }
    }
    return 0;
}

/* Only our own descriptors stay: in order, so that what lies between two of them can go at once. */
static int
by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void
close_others(void)
{
    int *own = calloc((size_t)count, 2 * sizeof(*own));
    unsigned from = 0;
    for (int i = 0; own && i < count; i++) {
        own[2 * i] = lines[i].conn;
        own[2 * i + 1] = lines[i].stream;
    }
    if (own) {
        qsort(own, 2 * (size_t)count, sizeof(*own), by_number);
    }
    for (int i = 0; own && i < 2 * count; i++) {
        if ((unsigned)own[i] > from) {
            (void)close_range(from, (unsigned)own[i] - 1, 0);
        }
        from = (unsigned)own[i] + 1;
    }
    (void)close_range(from, ~0u, 0);
    free(own);
}

int
main(int argc, char **argv)
{
    count = (argc - 1) / 2;
    lines = calloc((size_t)count + 1, sizeof(*lines));
    if (count == 0 || !lines) {
        return 2;
    }
    for (int i = 0; i < count; i++) {
        char *comma = strchr(argv[2 * i + 1], ',');
        lines[i].conn = atoi(argv[2 * i + 1]);
        lines[i].use = comma ? (enum shim_relay_use)atoi(comma + 1) : SHIM_RELAY_READ;
        lines[i].stream = atoi(argv[2 * i + 2]);
    }
    pid_t pid = fork();
    if (pid != 0) {
        for (int i = 0; i < count; i++) {
            (void)close(lines[i].conn);
        }
        return pid < 0;
    }
    (void)setsid();
    (void)prctl(PR_SET_NAME, "libmesh-relay", 0, 0, 0);
    for (int sig = 1; sig < 32; sig++) {
        (void)signal(sig, sig == SIGCHLD || sig == SIGTERM ? SIG_DFL : SIG_IGN);
    }
    (void)chdir("/");
    close_others();
    return carry();
}
