/* SPDX-License-Identifier: Apache-2.0
 *
 * names: getsockname and getpeername on both ends tell the same two addresses, for IPv4, ::1,
 * v4-mapped on a dual-stack listener, wildcards and other loopback addresses; families, lengths
 * and truncation; socket options that programs ask for.
 */
/* run: modes thread fork */
#include "app.h"

union any {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    char raw[64];
};

static const struct {
    const char *name;
    int lfamily;
    const char *listen;
    int v6only;
    int cfamily;
    const char *connect;
} cases[] = {
    {"IPv4 loopback", AF_INET, "127.0.0.1", 0, AF_INET, "127.0.0.1"},
    {"IPv4 other loopback", AF_INET, "127.0.0.7", 0, AF_INET, "127.0.0.7"},
    {"IPv4 wildcard", AF_INET, "0.0.0.0", 0, AF_INET, "127.0.0.1"},
    {"IPv4 wildcard, other address", AF_INET, "0.0.0.0", 0, AF_INET, "127.9.9.9"},
    {"IPv4 wildcard, connect to 0.0.0.0", AF_INET, "0.0.0.0", 0, AF_INET, "0.0.0.0"},
    {"IPv6 loopback", AF_INET6, "::1", 0, AF_INET6, "::1"},
    {"IPv6 wildcard", AF_INET6, "::", 1, AF_INET6, "::1"},
    {"dual stack by IPv6", AF_INET6, "::", 0, AF_INET6, "::1"},
    {"dual stack by IPv4", AF_INET6, "::", 0, AF_INET, "127.0.0.1"},
    {"mapped client, IPv4 listener", AF_INET, "127.0.0.1", 0, AF_INET6, "::ffff:127.0.0.1"},
    {"mapped client, dual stack", AF_INET6, "::", 0, AF_INET6, "::ffff:127.0.0.1"},
    {"mapped listener", AF_INET6, "::ffff:127.0.0.1", 0, AF_INET, "127.0.0.1"},
};
#define CASES ((int)(sizeof cases / sizeof *cases))

static socklen_t
make(union any *a, int family, const char *text, in_port_t port)
{
    memset(a, 0, sizeof *a);
    a->sa.sa_family = (sa_family_t)family;
    MUST(inet_pton(family, text,
                   family == AF_INET ? (void *)&a->in.sin_addr : (void *)&a->in6.sin6_addr));
    if (family == AF_INET)
        a->in.sin_port = port;
    else
        a->in6.sin6_port = port;
    return family == AF_INET ? sizeof a->in : sizeof a->in6;
}

static in_port_t
port(const union any *a)
{
    return a->sa.sa_family == AF_INET ? a->in.sin_port : a->in6.sin6_port;
}

static void
show(const char *what, const union any *a, socklen_t len)
{
    char t[64];
    inet_ntop(a->sa.sa_family,
              a->sa.sa_family == AF_INET ? (const void *)&a->in.sin_addr
                                         : (const void *)&a->in6.sin6_addr,
              t, sizeof t);
    say("%s: %s, %u bytes\n", what, t, len);
}

static in_port_t ports[CASES];
static int listeners[CASES], pipe_fd[2];

static void
client(int unused)
{
    char b[100];
    (void)unused;
    for (int i = 0; i < CASES; i++) {
        union any to, mine, peer;
        socklen_t len = make(&to, cases[i].cfamily, cases[i].connect, ports[i]), ml = sizeof mine,
                  pl = sizeof peer;
        int fd = (int)CK(socket(cases[i].cfamily, SOCK_STREAM, 0));
        RES(connect(fd, &to.sa, len));
        CK(getsockname(fd, &mine.sa, &ml));
        CK(getpeername(fd, &peer.sa, &pl));
        show("mine", &mine, ml);
        show("peer", &peer, pl);
        say("peer's port %s\n", port(&peer) == ports[i] ? "right" : "WRONG");
        in_port_t p = port(&mine);
        app_put(pipe_fd[1], &p, sizeof p);
        app_fill(b, sizeof b, 0);
        app_put(fd, b, sizeof b);
        say("got %zu\n", app_get(fd, b, sizeof b));
        pl = 4;
        memset(&peer, 'u', sizeof peer);
        RES(getpeername(fd, &peer.sa, &pl));
        say("cut: length %u, byte 4 %s\n", pl, peer.raw[4] == 'u' ? "kept" : "written");
        RES(getpeername(fd, NULL, &pl));
        close(fd);
    }
}

static void
options(int fd)
{
    static const struct {
        int level, name;
        const char *text;
    } opts[] = {
        {SOL_SOCKET, SO_TYPE, "SO_TYPE"},           {SOL_SOCKET, SO_DOMAIN, "SO_DOMAIN"},
        {SOL_SOCKET, SO_PROTOCOL, "SO_PROTOCOL"},   {SOL_SOCKET, SO_ACCEPTCONN, "SO_ACCEPTCONN"},
        {SOL_SOCKET, SO_ERROR, "SO_ERROR"},         {SOL_SOCKET, SO_RCVLOWAT, "SO_RCVLOWAT"},
        {SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE"}, {SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR"},
        {IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY"},  {IPPROTO_TCP, TCP_CORK, "TCP_CORK"},
        {SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF"}};
    for (size_t i = 0; i < sizeof opts / sizeof *opts; i++) {
        int v = -1;
        socklen_t l = sizeof v;
        int r = getsockopt(fd, opts[i].level, opts[i].name, &v, &l);
        if (opts[i].name == SO_SNDBUF && opts[i].level == SOL_SOCKET)
            v = v > 0;
        say("%s %d %d %u\n", opts[i].text, r, v, l);
    }
    struct tcp_info ti;
    socklen_t l = sizeof ti;
    CK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &l));
    say("TCP_INFO %s\n", l > 100 ? "whole" : "short");
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    CK(pipe(pipe_fd));
    for (int i = 0; i < CASES; i++) {
        union any a;
        socklen_t len = make(&a, cases[i].lfamily, cases[i].listen, 0);
        listeners[i] = (int)CK(socket(cases[i].lfamily, SOCK_STREAM, 0));
        if (cases[i].lfamily == AF_INET6)
            CK(setsockopt(listeners[i], IPPROTO_IPV6, IPV6_V6ONLY, &cases[i].v6only, sizeof(int)));
        CK(bind(listeners[i], &a.sa, len));
        CK(listen(listeners[i], 5));
        CK(getsockname(listeners[i], &a.sa, &len));
        ports[i] = port(&a);
    }
    app_start(&t, client, -1);
    for (int i = 0; i < CASES; i++) {
        char b[100];
        union any from, mine, peer;
        in_port_t p = 0;
        socklen_t fl = sizeof from, ml = sizeof mine, pl = sizeof peer;
        say("-- %s\n", cases[i].name);
        int fd = (int)CK(accept(listeners[i], &from.sa, &fl));
        CK(getsockname(fd, &mine.sa, &ml));
        CK(getpeername(fd, &peer.sa, &pl));
        show("accepted from", &from, fl);
        show("mine", &mine, ml);
        say("getpeername %s\n", fl == pl && memcmp(&from, &peer, fl) == 0 ? "same" : "DIFFERENT");
        MUST(app_get(pipe_fd[0], &p, sizeof p) == sizeof p);
        say("ports %s\n", p == port(&from) && port(&mine) == ports[i] ? "right" : "WRONG");
        app_put(fd, b, app_get(fd, b, sizeof b));
        if (i == 0 || i == 5)
            options(fd);
        RES(read(fd, b, 1));
        close(fd);
        if (i == 0)
            options(listeners[i]);
        RES(getpeername(listeners[i], &peer.sa, &pl));
        close(listeners[i]);
    }
    app_join(&t, "client");
    return 0;
}
