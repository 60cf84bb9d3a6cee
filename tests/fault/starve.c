/* SPDX-License-Identifier: Apache-2.0
 *
 * starve: talks to itself over TCP, both ends in one thread, while memory runs out (nomem.c). It
 * allocates nothing itself.
 *
 *   starve cold N LASTING   the first conversation of the process meets the lack
 *   starve warm LASTING     a good one first, then one for each of many N until none is met
 *
 * A line for each lack: what the conversation ended with, and what the next one, without lack.
 */
#include "app.h"

#include <dlfcn.h>

#define SIZE 40000

static long (*arm)(long n, int lasting);
static char answer[64];
static int listener, ends[2];

static const char *
failed(const char *what)
{
    snprintf(answer, sizeof answer, "%s %s", what, strerrorname_np(errno));
    return answer;
}

static const char *
pass(int from, int to)
{
    static char b[SIZE], back[SIZE];
    app_fill(b, SIZE, 0);
    for (size_t got = 0, put = 0; got < SIZE;) {
        ssize_t r = put < SIZE ? send(from, b + put, SIZE - put, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
        if (r < 0 && errno != EAGAIN)
            return failed("send");
        put += r > 0 ? (size_t)r : 0;
        r = recv(to, back + got, SIZE - got, put < SIZE ? MSG_DONTWAIT : 0);
        if (r == 0)
            return "EOF";
        if (r < 0 && (errno != EAGAIN || put == SIZE))
            return failed("recv");
        got += r > 0 ? (size_t)r : 0;
    }
    return memcmp(b, back, SIZE) ? "WRONG" : "ok";
}

static const char *
talk(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval tv = {10, 0};
    socklen_t len = sizeof at;
    listener = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    ends[0] = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    CK(bind(listener, (struct sockaddr *)&at, len));
    CK(getsockname(listener, (struct sockaddr *)&at, &len));
    CK(setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    if (listen(listener, 8) < 0)
        return failed("listen");
    if (connect(ends[0], (struct sockaddr *)&at, sizeof at) < 0)
        return failed("connect");
    ends[1] = accept(listener, NULL, NULL);
    if (ends[1] < 0)
        return failed("accept");
    for (int i = 0; i < 2; i++)
        CK(setsockopt(ends[i], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    const char *r = pass(ends[0], ends[1]);
    return strcmp(r, "ok") ? r : pass(ends[1], ends[0]);
}

static const char *
conversation(void)
{
    listener = ends[0] = ends[1] = -1;
    const char *r = talk();
    close(ends[0]);
    close(ends[1]);
    close(listener);
    return r;
}

/* A library's own numbers are high. */
static int
open_count(void)
{
    int n = 0;
    for (int fd = 0; fd < 700; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static long
starve(long n, int lasting)
{
    char first[64];
    int before = open_count();
    arm(n, lasting);
    const char *r = conversation();
    long seen = arm(0, 0);
    snprintf(first, sizeof first, "%s", r);
    r = conversation();
    say("%ld: %s, then %s%s\n", n, first, r, open_count() > before ? ", LEFT OPEN" : "");
    return seen;
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    void *sym = dlsym(RTLD_DEFAULT, "nomem_arm");
    MUST(sym && argc >= 3);
    memcpy(&arm, &sym, sizeof arm);
    static char buf[65536];
    setvbuf(stdout, buf, _IOLBF, sizeof buf);
    alarm(100);
    say("-\n"); /* whatever stdio allocates */
    if (strcmp(app_mode, "cold") == 0) {
        long n = atol(argv[2]), seen = starve(n, atoi(argv[3]));
        say("%s\n", seen < n ? "not met" : "met");
        return 0;
    }
    say("0: %s\n", conversation());
    for (long n = 1; starve(n, atoi(argv[2])) >= n; n += 1 + n / 24)
        ;
    return 0;
}
