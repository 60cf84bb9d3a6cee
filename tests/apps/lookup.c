/* SPDX-License-Identifier: Apache-2.0
 *
 * lookup: what is no name of the mesh: addresses in every spelling, localhost, none, nonsense. Each look-up
 * and its reverse is libc's, with each hint, result, errno and buffer.
 */
/* run: nomesh */
/* run: notsan */
/* run: config services = ( { name = "lookup"; hosts = ("localnames", "ip6-x", "host:80"); } ); virtual_domain = "m"; */
#include "app.h"

#include <netdb.h>

static void
show_list(const struct addrinfo *list)
{
    for (const struct addrinfo *a = list; a; a = a->ai_next) {
        char text[INET6_ADDRSTRLEN];
        const void *in = a->ai_family == AF_INET ? (const void *)&((struct sockaddr_in *)a->ai_addr)->sin_addr
                                                 : (const void *)&((struct sockaddr_in6 *)a->ai_addr)->sin6_addr;
        inet_ntop(a->ai_family, in, text, sizeof text);
        say("  %s family %d type %d protocol %d flags %x length %u canonical %s\n", text, a->ai_family,
            a->ai_socktype, a->ai_protocol, a->ai_flags, a->ai_addrlen, a->ai_canonname ? a->ai_canonname : "-");
    }
}

static void
lists(const char *const *names, size_t n)
{
    static const char *const services[] = {NULL, "80", "http"};
    static const int families[] = {AF_UNSPEC, AF_INET, AF_INET6};
    static const int flags[] = {0,
                                AI_CANONNAME,
                                AI_ADDRCONFIG,
                                AI_V4MAPPED | AI_ALL,
                                AI_NUMERICHOST,
                                AI_PASSIVE,
                                AI_CANONNAME | AI_PASSIVE | AI_NUMERICSERV,
                                1 << 28};
    for (size_t i = 0; i < n * 3 * 3 * 8; i++) {
        const char *name = names[i / 72], *service = services[i / 24 % 3];
        struct addrinfo h = {.ai_family = families[i / 8 % 3], .ai_socktype = SOCK_STREAM, .ai_flags = flags[i % 8]},
                        *list = NULL;
        if (name && strcasecmp(name, "localhost") == 0 && h.ai_family == AF_INET6)
            continue; /* here and there it is DNS that is asked for that */
        int r = getaddrinfo(name, service, &h, &list);
        say("%s %s family %d flags %x: %s\n", name ? name : "-", service ? service : "-", h.ai_family, h.ai_flags,
            r ? gai_strerror(r) : "found");
        if (r == 0) {
            show_list(list);
            freeaddrinfo(list);
        }
    }
}

static void
show_host(const char *what, const char *name, const struct hostent *h)
{
    say("%s %s: ", what, name);
    if (!h) {
        say("none, %d\n", h_errno);
        return;
    }
    say("%s %d %d", h->h_name, h->h_addrtype, h->h_length);
    for (int i = 0; h->h_addr_list[i]; i++) {
        char text[INET6_ADDRSTRLEN];
        say(" %s", inet_ntop(h->h_addrtype, h->h_addr_list[i], text, sizeof text));
    }
    for (int i = 0; h->h_aliases[i]; i++)
        say(" alias %s", h->h_aliases[i]);
    say("\n");
}

static void
hosts(const char *name)
{
    static const int families[] = {AF_INET, AF_INET6, AF_UNIX};
    struct hostent h, *result = NULL;
    char buf[1024];
    int no = -1;
    show_host("gethostbyname", name, gethostbyname(name));
    for (int i = 0; i < 3 && strcmp(name, "localhost"); i++)
        show_host("gethostbyname2", name, gethostbyname2(name, families[i]));
    for (size_t len = 0; len <= sizeof buf; len += 64) {
        int r = gethostbyname_r(name, &h, buf, len, &result, &no);
        say("%zu: %d %d %s\n", len, r, r ? no : 0, result ? result->h_name : "-");
        r = gethostbyname2_r(name, AF_INET, &h, buf, len, &result, &no);
        say("%zu: %d %d %s\n", len, r, r ? no : 0, result ? result->h_name : "-");
    }
}

static void
reverse(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = htonl(0x7f000001)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(80), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    static const int flags[] = {0, NI_NUMERICHOST, NI_NUMERICSERV, NI_NAMEREQD, NI_DGRAM, NI_NOFQDN, 1 << 28};
    for (int i = 0; i < 14; i++) {
        char host[200] = "", serv[60] = "";
        const struct sockaddr *sa = i < 7 ? (struct sockaddr *)&in : (struct sockaddr *)&in6;
        socklen_t len = i < 7 ? sizeof in : sizeof in6;
        int flag = flags[i % 7] | (i < 7 ? 0 : NI_NUMERICHOST);
        int r = getnameinfo(sa, len, host, sizeof host, serv, sizeof serv, flag);
        say("getnameinfo %x: %d %s %s\n", flag, r, host, serv);
        say("short: %d", getnameinfo(sa, len, host, 3, serv, sizeof serv, flag));
        say(" %d", getnameinfo(sa, 4, host, sizeof host, serv, sizeof serv, flag));
        say(" %d\n", getnameinfo(sa, len, NULL, 0, NULL, 0, flag));
    }
    show_host("gethostbyaddr", "127.0.0.1", gethostbyaddr(&in.sin_addr, 4, AF_INET));
    show_host("gethostbyaddr", "short", gethostbyaddr(&in6.sin6_addr, 3, AF_INET6));
}

static void
all_at_once(void)
{
    struct gaicb a = {.ar_name = "localhost", .ar_service = "80"}, b = {.ar_name = "127.0.0.1"}, *list[] = {&a, &b, NULL};
    say("getaddrinfo_a %d", getaddrinfo_a(GAI_WAIT, list, 3, NULL));
    say(": %d %d\n", gai_error(&a), gai_error(&b));
    freeaddrinfo(a.ar_result);
    freeaddrinfo(b.ar_result);
    say("another mode: %d\n", getaddrinfo_a(7, list, 3, NULL));
}

int
main(void)
{
    char huge[2000];
    memset(huge, 'x', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    const char *const names[] = {NULL,      "127.0.0.1", "127.1",     "0x7f000001", "2130706433", "010.1.1.1",
                                 "::1",     "fe80::1%lo", "240.1.2.3", "localhost",  "LocalHost"};
    lists(names, sizeof names / sizeof *names);
    struct addrinfo *list = NULL;
    say("huge %d\n", getaddrinfo(huge, "80", NULL, &list) != 0);
    say("nothing %d\n", getaddrinfo(NULL, NULL, NULL, &list));
    say("no hints %d\n", getaddrinfo("localhost", "80", NULL, &list));
    show_list(list);
    freeaddrinfo(list);
    hosts("localhost");
    hosts("127.0.0.1");
    hosts("::1");
    reverse();
    all_at_once();
    return 0;
}
