/* SPDX-License-Identifier: Apache-2.0
 *
 * beside: what recvmsg tells beside the bytes: SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMPING (software) and TCP_INQ,
 * for all of what came, a part of it, a look at it, by recvmmsg, and MSG_CTRUNC where there is no room.
 */
/* run: modes stamp nanoseconds software left */
#include "app.h"

#include <linux/net_tstamp.h>
#include <sys/ioctl.h>

#define N 1000

static const struct {
    const char *name;
    int level, option, value;
} modes[] = {
    {"stamp", SOL_SOCKET, SO_TIMESTAMP, 1},
    {"nanoseconds", SOL_SOCKET, SO_TIMESTAMPNS, 1},
    {"software", SOL_SOCKET, SO_TIMESTAMPING, SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE},
    {"left", IPPROTO_TCP, TCP_INQ, 1},
};

static time_t began;

static void
tell(const char *what, struct msghdr *m, ssize_t n)
{
    say("%s: %zd bytes, flags %x, %zu beside", what, n, m->msg_flags, (size_t)m->msg_controllen);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        say("; %d %d, %zu", c->cmsg_level, c->cmsg_type, (size_t)c->cmsg_len);
        if (c->cmsg_level == IPPROTO_TCP) {
            int left;
            memcpy(&left, CMSG_DATA(c), sizeof left);
            say(", %d are left", left);
        } else {
            time_t at; /* of all three kinds the first word */
            memcpy(&at, CMSG_DATA(c), sizeof at);
            say(", %s", at >= began && at <= time(NULL) ? "in time" : "not in time");
        }
    }
    say("\n");
}

static size_t
get(const char *what, int fd, size_t size, size_t room, int flags)
{
    char b[N + 1], control[256];
    struct iovec v = {b, size};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = room};
    ssize_t n = CK(recvmsg(fd, &m, flags));
    if (what)
        tell(what, &m, n);
    return m.msg_controllen;
}

static void
get_many(int fd)
{
    char b[2][N / 2], control[2][256];
    struct iovec v[2] = {{b[0], N / 2}, {b[1], N / 2}};
    struct mmsghdr m[2];
    for (int i = 0; i < 2; i++)
        m[i].msg_hdr = (struct msghdr){.msg_iov = &v[i], .msg_iovlen = 1, .msg_control = control[i], .msg_controllen = 256};
    MUST(recvmmsg(fd, m, 2, 0, NULL) == 2);
    for (int i = 0; i < 2; i++)
        tell("of two", &m[i].msg_hdr, m[i].msg_len);
}

/* It takes the kernel a moment to begin to stamp. */
static void
begin(int from, int to)
{
    do {
        app_put(from, "x", 1);
    } while (get(NULL, to, 1, 256, 0) == 0);
}

static void
put(int from, int to)
{
    char b[N];
    app_fill(b, N, 0);
    app_put(from, b, N);
    app_arrived(to, N);
}

int
main(int argc, char **argv)
{
    int from, to, k = 0;
    app_main(argc, argv);
    while (strcmp(modes[k].name, app_mode) != 0)
        k++;
    began = time(NULL);
    app_pair(&from, &to);
    put(from, to);
    get("not asked for", to, N, 256, 0);
    RES(setsockopt(to, modes[k].level, modes[k].option, &modes[k].value, sizeof(int)));
    begin(from, to);
    put(from, to);
    get("a look", to, N, 256, MSG_PEEK);
    get("a part", to, 300, 256, 0);
    get("a look at the rest", to, 100, 256, MSG_PEEK);
    get("no room", to, 100, 0, 0);
    get("too little room", to, 100, sizeof(struct cmsghdr), 0);
    get("the rest", to, N, 256, 0);
    put(from, to);
    get("dropped", to, N, 256, MSG_TRUNC);
    put(from, to);
    get_many(to);
    close(from);
    MUST(app_poll(to, POLLRDHUP, APP_WAIT) & POLLRDHUP);
    get("the end", to, N, 256, 0);
    return 0;
}
