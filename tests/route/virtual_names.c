/* SPDX-License-Identifier: Apache-2.0
 *
 * virtual_names: a host name that bare stands in /etc/hosts, with an IPv4 and an IPv6 address; meshed
 * (meshd.conf) it is a service's. Each way to look it up, with each hint, gives the same but for the
 * addresses; lists can be freed and leave nothing; from many threads; and connect() to them reaches the
 * server, or is refused where it has no such port.
 */
#include "app.h"

#include <malloc.h>
#include <netdb.h>
#include <sched.h>
#include <sys/mount.h>

#define NAME "vname.internal"
#define PORT 21020

/* A file of our own over /etc/hosts, for us and our children. */
static void
own_hosts(void)
{
    static const char text[] = "127.0.0.1 localhost\n127.71.0.20 " NAME "\nfd77::20 " NAME "\n";
    char path[] = "/tmp/virtual_names.XXXXXX";
    int fd = (int)CK(mkstemp(path));
    MUST(write(fd, text, sizeof text - 1) == sizeof text - 1);
    CK(fchmod(fd, 0644));
    CK(unshare(CLONE_NEWNS));
    CK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    CK(mount(path, "/etc/hosts", NULL, MS_BIND, NULL));
    CK(unlink(path));
    CK(close(fd));
}

static int
by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* In an order of ours: which family comes first is a matter of tables and routes. */
static void
show_list(const struct addrinfo *list)
{
    char line[16][160];
    size_t n = 0;
    for (const struct addrinfo *a = list; a && n < 16; a = a->ai_next, n++) {
        int port = a->ai_family == AF_INET ? ((struct sockaddr_in *)a->ai_addr)->sin_port
                                           : ((struct sockaddr_in6 *)a->ai_addr)->sin6_port;
        int mapped = a->ai_family == AF_INET6 &&
                     IN6_IS_ADDR_V4MAPPED(&((struct sockaddr_in6 *)a->ai_addr)->sin6_addr);
        snprintf(line[n], sizeof line[n], "  family %d/%d%s type %d protocol %d flags %x port %d length %u",
                 a->ai_family, a->ai_addr->sa_family, mapped ? " mapped" : "", a->ai_socktype, a->ai_protocol,
                 a->ai_flags, ntohs((uint16_t)port), a->ai_addrlen);
    }
    const char *first = list && list->ai_canonname ? list->ai_canonname : "-";
    qsort(line, n, sizeof line[0], by_text);
    for (size_t i = 0; i < n; i++)
        say("%s\n", line[i]);
    say("  canonical %s", first);
    for (const struct addrinfo *a = list ? list->ai_next : NULL; a; a = a->ai_next)
        say("%s", a->ai_canonname ? " AND ANOTHER" : "");
    say("\n");
}

static void
hints_matrix(void)
{
    static const char *const names[] = {NAME, "VNAME.internal"};
    static const char *const services[] = {NULL, "8080", "http", "no-such-service"};
    static const int families[] = {AF_UNSPEC, AF_INET, AF_INET6, AF_UNIX};
    static const int types[] = {0, SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    static const int flags[] = {0,
                                AI_CANONNAME,
                                AI_ADDRCONFIG,
                                AI_V4MAPPED,
                                AI_V4MAPPED | AI_ALL,
                                AI_ALL,
                                AI_NUMERICHOST,
                                AI_NUMERICSERV | AI_CANONNAME,
                                AI_CANONNAME | AI_V4MAPPED | AI_ADDRCONFIG,
                                1 << 28};
    for (int i = 0; i < 2 * 4 * 4 * 4 * 10; i++) {
        const char *name = names[i / 640], *service = services[i / 160 % 4];
        struct addrinfo h = {.ai_family = families[i / 40 % 4],
                             .ai_socktype = types[i / 10 % 4],
                             .ai_flags = flags[i % 10]},
                        *list = NULL;
        /* What a file says in another case of letters is its own. */
        if (i >= 640 && h.ai_flags & AI_CANONNAME)
            continue;
        int r = getaddrinfo(name, service, &h, &list);
        say("%s %s family %d type %d flags %x: %s\n", i < 640 ? "name" : "NAME", service ? service : "-",
            h.ai_family, h.ai_socktype, h.ai_flags, r ? gai_strerror(r) : "found");
        if (r == 0) {
            show_list(list);
            freeaddrinfo(list);
        }
    }
    struct addrinfo *list = NULL;
    int r = getaddrinfo(NAME, "80", NULL, &list);
    say("without hints: %d\n", r);
    if (r == 0) {
        show_list(list);
        freeaddrinfo(list);
    }
}

static void
show_host(const char *what, const struct hostent *h)
{
    say("%s: ", what);
    if (!h) {
        say("none, %d\n", h_errno);
        return;
    }
    int n = 0, aliases = 0;
    while (h->h_addr_list[n])
        n++;
    while (h->h_aliases[aliases])
        aliases++;
    say("%s, family %d, length %d, %d addresses, %d aliases\n", h->h_name, h->h_addrtype, h->h_length, n, aliases);
}

static void
older_calls(void)
{
    static const int families[] = {AF_INET, AF_INET6};
    show_host("gethostbyname", gethostbyname(NAME));
    for (int i = 0; i < 2; i++) {
        struct hostent h, *result = NULL, *rev;
        char buf[2048], addr[16];
        int no = 0, r;
        size_t len = 0;
        show_host("gethostbyname2", gethostbyname2(NAME, families[i]));
        do { /* a buffer that is too small says so, and nothing else */
            r = gethostbyname2_r(NAME, families[i], &h, buf, len, &result, &no);
            MUST(r == 0 || (r == ERANGE && !result && no == NETDB_INTERNAL));
            len += 8;
        } while (r != 0 && len < sizeof buf);
        show_host("gethostbyname2_r", result);
        MUST(result == &h && h.h_name >= buf && h.h_name + strlen(h.h_name) < buf + len - 8);
        memcpy(addr, h.h_addr_list[0], (size_t)h.h_length);
        rev = gethostbyaddr(addr, (socklen_t)h.h_length, families[i]);
        say("gethostbyaddr: %s\n", rev && memcmp(rev->h_addr_list[0], addr, (size_t)rev->h_length) == 0 ? "the address" : "NONE");
        r = gethostbyaddr_r(addr, (socklen_t)h.h_length, families[i], &h, buf, sizeof buf, &result, &no);
        say("gethostbyaddr_r: %d %s\n", r, result == &h ? "found" : "NONE");
    }
    struct hostent h, *result = &h;
    char buf[2048];
    int no = 0;
    say("gethostbyname_r: %d\n", gethostbyname_r(NAME, &h, buf, sizeof buf, &result, &no));
    show_host("gethostbyname_r", result);
}

static void
numbers_to_names(void)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    MUST(getaddrinfo(NAME, "80", &hints, &list) == 0);
    for (const struct addrinfo *a = list; a; a = a->ai_next) {
        char host[256] = "", serv[64] = "";
        int r = getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof host, serv, sizeof serv, NI_NAMEREQD);
        say("getnameinfo %d, a name %d, %s\n", r, strspn(host, "0123456789.") < strlen(host) && !strchr(host, ':'), serv);
        say("only the port: %d", getnameinfo(a->ai_addr, a->ai_addrlen, NULL, 0, serv, sizeof serv, NI_NUMERICSERV));
        say(" %s\n", serv);
        say("no room: %s\n", gai_strerror(getnameinfo(a->ai_addr, a->ai_addrlen, host, 2, NULL, 0, 0)));
        say("nothing asked: %s\n", gai_strerror(getnameinfo(a->ai_addr, a->ai_addrlen, NULL, 0, NULL, 0, 0)));
        r = getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST);
        say("number %d: %d\n", r, strspn(host, "0123456789abcdef.:") == strlen(host));
    }
    freeaddrinfo(list);
}

static void
asynchronous(void)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct gaicb a = {.ar_name = NAME, .ar_service = "80", .ar_request = &hints},
                 b = {.ar_name = "127.0.0.1", .ar_service = "80", .ar_request = &hints}, *list[] = {&a, NULL, &b};
    say("wait %d", getaddrinfo_a(GAI_WAIT, list, 3, NULL));
    say(": %d %d\n", gai_error(&a), gai_error(&b));
    show_list(a.ar_result);
    freeaddrinfo(a.ar_result);
    freeaddrinfo(b.ar_result);
    say("no wait %d\n", getaddrinfo_a(GAI_NOWAIT, list, 3, NULL));
    while (gai_error(&a) == EAI_INPROGRESS || gai_error(&b) == EAI_INPROGRESS)
        (void)gai_suspend((const struct gaicb *const *)list, 3, NULL);
    say("then %d %d\n", gai_error(&a), gai_error(&b));
    show_list(b.ar_result);
    freeaddrinfo(a.ar_result);
    freeaddrinfo(b.ar_result);
}

static void *
looker(void *arg)
{
    uintptr_t wrong = 0;
    for (int i = 0; i < 100; i++) {
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_CANONNAME}, *list = NULL;
        struct hostent h, *result = NULL;
        char buf[1024];
        int no;
        wrong += getaddrinfo(NAME, "80", &hints, &list) != 0 || strcmp(list->ai_canonname, NAME) != 0;
        wrong += gethostbyname_r(NAME, &h, buf, sizeof buf, &result, &no) != 0 || strcmp(h.h_name, NAME) != 0;
        freeaddrinfo(list);
    }
    (void)arg;
    return (void *)wrong;
}

static void
leaves_nothing(void)
{
    struct addrinfo hints = {.ai_flags = AI_CANONNAME}, *list = NULL;
    size_t before = 0;
    for (int i = 0; i < 1100; i++) {
        if (i == 100)
            before = mallinfo2().uordblks;
        MUST(getaddrinfo(NAME, "80", &hints, &list) == 0);
        freeaddrinfo(list);
    }
    say("1000 look-ups left %s\n", mallinfo2().uordblks > before + 10000 ? "SOMETHING" : "nothing");
}

static void
serve(int gate)
{
    char b[64];
    struct pollfd p[2];
    for (int i = 0; i < 2; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(0x7f470014)};
        struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
        int one = 1, fd = (int)CK(socket(i ? AF_INET6 : AF_INET, SOCK_STREAM, 0));
        CK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
        if (i) {
            CK(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one));
            inet_pton(AF_INET6, "fd77::20", &a6.sin6_addr);
            CK(bind(fd, (struct sockaddr *)&a6, sizeof a6));
        } else {
            CK(bind(fd, (struct sockaddr *)&a, sizeof a));
        }
        CK(listen(fd, 50));
        p[i] = (struct pollfd){fd, POLLIN, 0};
    }
    app_open(gate);
    for (;;) {
        CK(poll(p, 2, -1));
        int fd = accept(p[0].revents ? p[0].fd : p[1].fd, NULL, NULL);
        size_t n = fd < 0 ? 0 : app_get(fd, b, 20);
        if (n == 20)
            app_put(fd, b, n);
        close(fd);
    }
}

static void
reach(int family, uint16_t port)
{
    struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM}, *list = NULL;
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    char service[8], b[64];
    snprintf(service, sizeof service, "%u", port);
    MUST(getaddrinfo(NAME, service, &hints, &list) == 0);
    int fd = (int)CK(socket(list->ai_family, list->ai_socktype, list->ai_protocol));
    if (RES(connect(fd, list->ai_addr, list->ai_addrlen)) == 0) {
        RES(getpeername(fd, (struct sockaddr *)&peer, &len));
        say("peer is %s\n", len == list->ai_addrlen && memcmp(&peer, list->ai_addr, len) == 0 ? "the address asked for" : "ANOTHER");
        app_fill(b, sizeof b, 0);
        RES(send(fd, b, 20, 0));
        RES(recv(fd, b, sizeof b, MSG_WAITALL));
    }
    CK(close(fd));
    freeaddrinfo(list);
}

/* Whoever wants to listen at the name, and a host that has it, mean the real addresses. */
static void
really(int flags)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags}, *list = NULL;
    char text[16][INET6_ADDRSTRLEN];
    size_t n = 0;
    MUST(getaddrinfo(NAME, "80", &hints, &list) == 0);
    for (const struct addrinfo *a = list; a && n < 16; a = a->ai_next, n++)
        MUST(getnameinfo(a->ai_addr, a->ai_addrlen, text[n], sizeof text[n], NULL, 0, NI_NUMERICHOST) == 0);
    qsort(text, n, sizeof text[0], by_text);
    for (size_t i = 0; i < n; i++)
        say("really %s\n", text[i]);
    freeaddrinfo(list);
}

/* Once names were looked up: what goes to everybody is no service's. */
static void
broadcast(void)
{
    struct sockaddr_in all = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {INADDR_BROADCAST}};
    int fd = (int)CK(socket(AF_INET, SOCK_DGRAM, 0)), on = 1;
    CK(setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof on));
    CK(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
    ssize_t r = sendto(fd, "x", 1, 0, (struct sockaddr *)&all, sizeof all);
    say("broadcast: %zd %s\n", r, r < 0 ? strerrorname_np(errno) : "sent");
    r = connect(fd, (struct sockaddr *)&all, sizeof all);
    say("connected: %zd %s\n", r, r < 0 ? strerrorname_np(errno) : "so");
    CK(close(fd));
}

int
main(void)
{
    pthread_t t[8];
    own_hosts();
    MUST(system("ip addr add fd77::20/128 dev lo nodad 2>/dev/null || :") == 0);
    int gate = app_gate();
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0)
        serve(gate);
    app_pass(gate);
    hints_matrix();
    older_calls();
    numbers_to_names();
    asynchronous();
    leaves_nothing();
    for (int i = 0; i < 8; i++)
        MUST(pthread_create(&t[i], NULL, looker, NULL) == 0);
    for (int i = 0; i < 8; i++) {
        void *wrong = NULL;
        MUST(pthread_join(t[i], &wrong) == 0);
        say("thread %d: %d wrong\n", i, (int)(uintptr_t)wrong);
    }
    for (int i = 0; i < 4; i++) {
        reach(AF_INET, PORT);
        reach(AF_INET6, PORT);
    }
    reach(AF_INET, PORT + 1);
    reach(AF_INET6, PORT + 1);
    broadcast();
    really(AI_PASSIVE);
    CK(unshare(CLONE_NEWUTS));
    CK(sethostname(NAME, strlen(NAME)));
    really(0);
    CK(sethostname("vname", 5)); /* another host */
    say("another host: %d\n", gethostbyname(NAME) != NULL);
    CK(kill(pid, SIGKILL));
    CK(waitpid(pid, NULL, 0));
    return 0;
}
