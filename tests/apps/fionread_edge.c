/* SPDX-License-Identifier: Apache-2.0
 *
 * fionread_edge: a reader that waits for edges and asks FIONREAD after a full read how much more is here. When it
 * has read that much it waits for the next edge without another look, as nginx does. Buffers from smaller
 * than a record to larger, a sender that is always ahead: the receive buffer is full whenever the reader stops.
 */
/* run: modes thread fork */
#include "app.h"

enum { TOTAL = 3 << 20 };

static const size_t sizes[] = {1000, 4096, 8192, 10000, 16384, 40000};

static void
sender(int fd)
{
    static char b[65536];
    for (size_t sent = 0; sent < TOTAL; sent += sizeof b) {
        app_fill(b, sizeof b, sent);
        app_put(fd, b, sizeof b);
    }
}

/* Reads until there is nothing more to its knowledge; how much it has got in all. */
static size_t
one_edge(int fd, size_t size, size_t at)
{
    static char b[40000];
    long known = -1; /* bytes that are here still; -1: not known */
    while (at < TOTAL && known != 0) {
        ssize_t n = recv(fd, b, size, MSG_DONTWAIT);
        if (n < 0) {
            MUST(errno == EAGAIN);
            break;
        }
        if (app_match(b, (size_t)n, at) != (size_t)n)
            app_die(__FILE__, __LINE__, "other bytes than were sent");
        at += (size_t)n;
        if (known > 0) {
            known = n < known ? known - n : 0; /* more than that came later: there is an edge */
        } else if ((size_t)n == size) {
            int more = -1;
            CK(ioctl(fd, FIONREAD, &more));
            known = more;
        }
        if ((size_t)n < size)
            break;
    }
    return at;
}

static size_t size_now;

static void
receiver(int fd)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};
    int ep = (int)CK(epoll_create1(0));
    CK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
    size_t at = 0;
    while (at < TOTAL) {
        if (CK(epoll_wait(ep, &ev, 1, APP_WAIT)) != 1) {
            say("no edge at %zu\n", at);
            break;
        }
        at = one_edge(fd, size_now, at);
    }
    say("%zu at a time: %s\n", size_now, at == TOTAL ? "all" : "NOT all");
    close(ep);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_now = sizes[i];
        app_talk("edges", receiver, sender);
    }
    return 0;
}
