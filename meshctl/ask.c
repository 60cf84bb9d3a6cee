/* SPDX-License-Identifier: Apache-2.0
 *
 * ask: see ask.h. The timeout is for the whole exchange, however slowly bytes come.
 */
#include "meshctl/ask.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MOST (256u << 20)
#define FIRST_ROOM  65536u

struct answer {
    char *text;
    size_t len, room;
};

static double
now(void)
{
    struct timespec ts = {0};
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Waits until fd is ready; false with errno at the end of time. */
static bool
await(int fd, short events, double end)
{
    struct pollfd p = {.fd = fd, .events = events};
    for (;;) {
        double left = end - now();
        int r = left > 0 ? poll(&p, 1, (int)(left * 1000) + 1) : 0;
        if (r > 0) {
            return true;
        }
        if (r == 0) {
            errno = ETIMEDOUT;
            return false;
        }
        if (errno != EINTR) {
            return false;
        }
    }
}

/* A connected socket, or -1 with errno. EAGAIN: the listener's queue is full. */
static int
dial(const char *path, double end)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(sa.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(sa.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    while (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
        if ((errno != EAGAIN && errno != EINTR) || now() >= end) {
            int e = errno == EAGAIN ? ETIMEDOUT : errno;
            close(fd);
            errno = e;
            return -1;
        }
        poll(NULL, 0, 10);
    }
    return fd;
}

static bool
send_all(int fd, const char *at, size_t n, double end)
{
    while (n > 0) {
        ssize_t r = send(fd, at, n, MSG_NOSIGNAL);
        if (r > 0) {
            at += r;
            n -= (size_t)r;
        } else if (r < 0 && errno != EINTR && (errno != EAGAIN || !await(fd, POLLOUT, end))) {
            return false;
        }
    }
    return true;
}

static bool
grow(struct answer *a)
{
    size_t room = a->room ? a->room * 2 : FIRST_ROOM;
    if (a->len + 1 < a->room) {
        return true;
    }
    char *text = room <= ANSWER_MOST ? realloc(a->text, room) : NULL;
    if (!text) {
        errno = EMSGSIZE;
        return false;
    }
    a->text = text;
    a->room = room;
    return true;
}

static bool
is_whole(const struct answer *a, bool json)
{
    if (a->len == 0 || a->text[a->len - 1] != '\n') {
        return false;
    }
    return json || a->len == 1 || a->text[a->len - 2] == '\n';
}

static bool
receive(int fd, bool json, double end, struct answer *a)
{
    while (!is_whole(a, json)) {
        if (!grow(a)) {
            return false;
        }
        ssize_t r = recv(fd, a->text + a->len, a->room - a->len - 1, 0);
        if (r > 0) {
            a->len += (size_t)r;
        } else if (r == 0) {
            errno = ECONNRESET;
            return false;
        } else if (errno != EINTR && (errno != EAGAIN || !await(fd, POLLIN, end))) {
            return false;
        }
    }
    a->len -= json ? 0 : 1;
    a->text[a->len] = '\0';
    return true;
}

bool
ask(const char *path, const char *command, bool json, double timeout_s, char **text, char *why,
    size_t cap)
{
    char line[512];
    struct answer a = {0};
    double end = now() + timeout_s;
    int n = snprintf(line, sizeof(line), "%s%s\n", command, json ? " json" : "");
    int fd = dial(path, end);
    bool ok = fd >= 0 && n > 0 && (size_t)n < sizeof(line) &&
              send_all(fd, line, (size_t)n, end) && receive(fd, json, end, &a);
    if (ok) {
        *text = a.text;
    } else {
        snprintf(why, cap, "%s", errno == ETIMEDOUT ? "no answer in time" : strerror(errno));
        free(a.text);
    }
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}
