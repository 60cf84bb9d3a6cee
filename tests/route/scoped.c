/* SPDX-License-Identifier: Apache-2.0
 *
 * scoped: a server listens at a link-local address, which is none without its interface (sin6_scope_id). Its service
 * has a fault (meshd.conf), so that the connect is begun later, by other hands: it goes to that interface all the
 * same, and getpeername says so.
 */
#include "app.h"

#include <linux/ipv6.h>
#include <net/if.h>

static struct sockaddr_in6 at = {.sin6_family = AF_INET6};

/* To the loopback interface, of a network of our own. */
static int
add_address(void)
{
    struct in6_ifreq req = {.ifr6_addr = at.sin6_addr, .ifr6_prefixlen = 128, .ifr6_ifindex = (int)at.sin6_scope_id};
    int fd = (int)CK(socket(AF_INET6, SOCK_DGRAM, 0));
    int r = ioctl(fd, SIOCSIFADDR, &req) == 0 || errno == EEXIST;
    close(fd);
    return r;
}

static int
listen_there(void)
{
    socklen_t len = sizeof at;
    int fd = (int)CK(socket(AF_INET6, SOCK_STREAM, 0));
    for (int i = 0; bind(fd, (struct sockaddr *)&at, sizeof at) < 0; i++) {
        MUST(errno == EADDRNOTAVAIL && i < APP_WAIT); /* until the address is known to be nobody else's */
        CK(poll(NULL, 0, 1));
    }
    CK(listen(fd, 10));
    CK(getsockname(fd, (struct sockaddr *)&at, &len));
    return fd;
}

static void
call(int nonblock, uint32_t scope)
{
    struct sockaddr_in6 to = at, peer = {0};
    socklen_t len = sizeof peer;
    char b[20];
    int fd = (int)CK(socket(AF_INET6, SOCK_STREAM | (nonblock ? SOCK_NONBLOCK : 0), 0));
    to.sin6_scope_id = scope;
    RES(connect(fd, (struct sockaddr *)&to, sizeof to));
    if (nonblock)
        say("events %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
    say("SO_ERROR %s\n", app_so_error_name(fd));
    RES(getpeername(fd, (struct sockaddr *)&peer, &len));
    say("peer is %s, of %u bytes\n", memcmp(&peer, &to, sizeof to) ? "ANOTHER" : "the address asked for", len);
    app_nonblock(fd, 0);
    app_fill(b, sizeof b, 0);
    RES(send(fd, b, sizeof b, 0));
    RES(recv(fd, b, sizeof b, MSG_WAITALL));
    say("match %zu\n", app_match(b, sizeof b, 0));
    CK(close(fd));
}

static void
ask(int lfd)
{
    (void)lfd;
    call(0, at.sin6_scope_id);
    call(1, at.sin6_scope_id);
}

int
main(void)
{
    struct app_task t;
    char b[20];
    inet_pton(AF_INET6, "fe80::71", &at.sin6_addr);
    at.sin6_scope_id = if_nametoindex("lo");
    if (!add_address()) {
        say("no such address here: %s\n", strerrorname_np(errno));
        return 0;
    }
    int lfd = listen_there();
    app_start_thread(&t, ask, lfd);
    for (int i = 0; i < 2; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        app_put(fd, b, app_get(fd, b, sizeof b));
        RES(read(fd, b, 1));
        CK(close(fd));
    }
    app_join(&t, "client");
    return 0;
}
