/* SPDX-License-Identifier: Apache-2.0
 *
 * caller: a client that lives for long and is told what to do, a line on standard input each, and
 * answers with a line. It knows nothing of the mesh.
 *
 *   caller PORT
 *     c        connects, echoes SIZE bytes, closes        ok, or the call that failed and its errno
 *     k        the same on a connection that is kept open (made at the first time)
 *     o N      opens N more connections and keeps them    the number that is open now
 *     x N      closes the oldest N of them                the number that is open now
 *     e        echoes on each of them                     ok, or what failed
 *     b        sends, without waiting or reading, until it must stop: what stopped it
 *     f        "descriptors N": how many are open
 *     l N      sets RLIMIT_NOFILE so that N more numbers are free; -1: as many as possible
 *     L N      the same for the hard limit, for good; some numbers are taken before that
 *     u        gives those back
 *     s        listens on an ephemeral port and closes    ok, or what failed
 */
#include "app.h"

#define SIZE 600
#define MOST 20000
#define SPARES 8

static int held[MOST], n_held, kept = -1;
static char answer[64];

static const char *
failed(const char *what)
{
    snprintf(answer, sizeof answer, "%s %s", what, strerrorname_np(errno));
    return answer;
}

static const char *
echo(int fd)
{
    char b[SIZE], back[SIZE];
    app_fill(b, SIZE, 0);
    if (send(fd, b, SIZE, MSG_NOSIGNAL) != SIZE)
        return failed("send");
    for (size_t got = 0; got < SIZE;) {
        ssize_t r = recv(fd, back + got, SIZE - got, 0);
        if (r <= 0)
            return r ? failed("recv") : "EOF";
        got += (size_t)r;
    }
    return memcmp(b, back, SIZE) ? "WRONG" : "ok";
}

static const char *
dial(int *out)
{
    struct timeval tv = {60, 0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        return failed("socket");
    CK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    if (connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) < 0) {
        const char *why = failed("connect");
        close(fd);
        return why;
    }
    *out = fd;
    return "ok";
}

static const char *
call(void)
{
    int fd = -1;
    const char *r = dial(&fd);
    if (fd >= 0) {
        r = echo(fd);
        close(fd);
    }
    return r;
}

static const char *
keep(void)
{
    const char *r = kept < 0 ? dial(&kept) : "ok";
    return kept < 0 ? r : echo(kept);
}

static const char *
hold(int n)
{
    const char *r = "ok";
    for (int i = 0; i < n && n_held < MOST && strcmp(r, "ok") == 0; i++) {
        r = dial(&held[n_held]);
        n_held += strcmp(r, "ok") == 0;
    }
    if (strcmp(r, "ok"))
        return r;
    snprintf(answer, sizeof answer, "%d", n_held);
    return answer;
}

static const char *
drop(int n)
{
    n = n < n_held ? n : n_held;
    for (int i = 0; i < n; i++)
        close(held[i]);
    n_held -= n;
    memmove(held, held + n, (size_t)n_held * sizeof *held);
    snprintf(answer, sizeof answer, "%d", n_held);
    return answer;
}

static const char *
echo_all(void)
{
    const char *r = "ok";
    for (int i = 0; i < n_held && strcmp(r, "ok") == 0; i++)
        r = echo(held[i]);
    return r;
}

static const char *
blast(void)
{
    static char b[1 << 20];
    int fd = -1;
    const char *r = dial(&fd);
    app_fill(b, sizeof b, 0);
    while (fd >= 0 && send(fd, b, sizeof b, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
        r = "ok";
    r = fd >= 0 ? failed("send") : r;
    close(fd);
    return r;
}

static int
lowest_free(void)
{
    int fd = (int)CK(open("/dev/null", O_RDONLY));
    close(fd);
    return fd;
}

static const char *
descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < MOST; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    snprintf(answer, sizeof answer, "descriptors %d", n);
    return answer;
}

static int spare[SPARES];

static void
take_spares(void)
{
    for (int i = 0; i < SPARES; i++)
        spare[i] = (int)CK(dup(STDIN_FILENO));
}

static const char *
give_spares(void)
{
    for (int i = 0; i < SPARES; i++)
        CK(close(spare[i]));
    return "ok";
}

/* What is open lies densely, so the limit counts the free numbers. */
static const char *
limit(int n, int hard)
{
    struct rlimit lim;
    CK(getrlimit(RLIMIT_NOFILE, &lim));
    lim.rlim_cur = lim.rlim_max;
    CK(setrlimit(RLIMIT_NOFILE, &lim));
    if (n >= 0) {
        if (hard)
            take_spares();
        lim.rlim_cur = (rlim_t)(lowest_free() + n);
        lim.rlim_max = hard ? lim.rlim_cur : lim.rlim_max;
        CK(setrlimit(RLIMIT_NOFILE, &lim));
    }
    return "ok";
}

static const char *
serve(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        return failed("socket");
    CK(bind(fd, (struct sockaddr *)&any, sizeof any));
    const char *r = listen(fd, 8) < 0 ? failed("listen") : "ok";
    close(fd);
    return r;
}

static const char *
obey(const char *line)
{
    int n = atoi(line + 1);
    switch (line[0]) {
    case 'c': return call();
    case 'k': return keep();
    case 'o': return hold(n);
    case 'x': return drop(n);
    case 'e': return echo_all();
    case 'b': return blast();
    case 'f': return descriptors();
    case 'l': return limit(n, 0);
    case 'L': return limit(n, 1);
    case 'u': return give_spares();
    case 's': return serve();
    default: return "what?";
    }
}

int
main(int argc, char **argv)
{
    char line[64];
    MUST(argc == 2);
    app_addr = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                    .sin_port = htons((in_port_t)atoi(argv[1]))};
    limit(-1, 0);
    while (fgets(line, sizeof line, stdin))
        say("%s\n", obey(line));
    return 0;
}
