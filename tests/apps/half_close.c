/* SPDX-License-Identifier: Apache-2.0
 *
 * half_close: shutdown in each direction by either side; what the other side reads, polls and may
 * still send; end of file after data; the end is reported again and again.
 */
/* run: modes thread fork */
#include "app.h"

static int gate, gate2;

static void
state(const char *when, int fd)
{
    say("%s: %s\n", when, app_events(app_poll(fd, POLLIN | POLLOUT | POLLRDHUP, 0)));
}

/* The client closes its sending side; data goes on the other way. */
static void
wr_server(int fd)
{
    char b[3000];
    say("got %zu\n", app_get(fd, b, sizeof b));
    say("match %zu\n", app_match(b, 1000, 0));
    RES(read(fd, b, 1));
    RES(read(fd, b, 1));
    RES(recv(fd, b, 1, MSG_PEEK));
    RES(recv(fd, b, 1, MSG_DONTWAIT));
    state("client is silent for ever", fd);
    app_fill(b, sizeof b, 0);
    RES(write(fd, b, sizeof b));
    RES(shutdown(fd, SHUT_WR));
    RES(send(fd, b, 1, MSG_NOSIGNAL));
}

static void
wr_client(int fd)
{
    char b[3000];
    app_fill(b, sizeof b, 0);
    RES(write(fd, b, 1000));
    RES(shutdown(fd, SHUT_WR));
    RES(send(fd, b, 1, MSG_NOSIGNAL));
    app_drain(fd, 0);
    RES(read(fd, b, 1));
    say("poll: %s\n", app_events(app_poll(fd, POLLIN | POLLOUT | POLLRDHUP, APP_WAIT)));
}

/* The server speaks and closes its side first, the client answers afterwards. */
static void
reply_client(int fd)
{
    char b[40000];
    app_drain(fd, 50);
    app_fill(b, sizeof b, 0);
    for (int i = 0; i < 3; i++)
        RES(send(fd, b, sizeof b, MSG_NOSIGNAL));
    RES(shutdown(fd, SHUT_WR));
    RES(recv(fd, b, 1, 0));
}

static void
reply_server(int fd)
{
    char b[2000];
    app_fill(b, sizeof b, 50);
    RES(write(fd, b, sizeof b));
    RES(shutdown(fd, SHUT_WR));
    static char big[120001];
    size_t n = app_get(fd, big, sizeof big);
    int wrong = 0;
    for (size_t i = 0; i < 3 && n == 120000; i++)
        wrong |= app_match(big + i * 40000, 40000, 0) != 40000;
    say("got %zu %s\n", n, wrong ? "WRONG" : "right");
}

/* SHUT_RD: reads end, what the peer sends is still taken in by Linux. */
static void
rd_server(int fd)
{
    char b[100];
    app_fill(b, sizeof b, 0);
    RES(shutdown(fd, SHUT_RD));
    state("after SHUT_RD", fd);
    RES(read(fd, b, sizeof b));
    RES(write(fd, b, sizeof b));
    RES(shutdown(fd, SHUT_WR));
    app_pass(gate);
}

static void
rd_client(int fd)
{
    app_drain(fd, 0);
    app_open(gate);
}

/* SHUT_RDWR: both ends see the end; the descriptor stays usable for questions. */
static void
rdwr_server(int fd)
{
    char b[100];
    app_pass(gate);
    while (!(app_poll(fd, POLLRDHUP, APP_WAIT) & POLLRDHUP))
        ;
    state("both ways closed", fd);
    say("got %zu\n", app_get(fd, b, sizeof b));
    app_open(gate2);
}

static void
rdwr_client(int fd)
{
    char b[100];
    app_fill(b, sizeof b, 0);
    RES(write(fd, b, 50));
    RES(shutdown(fd, SHUT_RDWR));
    RES(read(fd, b, sizeof b));
    RES(send(fd, b, 1, MSG_NOSIGNAL));
    say("SO_ERROR %s\n", app_so_error_name(fd));
    app_open(gate);
    app_pass(gate2);
}

static void
bad_server(int fd)
{
    char b[1];
    RES(shutdown(fd, 7));
    RES(shutdown(fd, -1));
    RES(read(fd, b, 1));
}

static void
bad_client(int fd)
{
    RES(shutdown(fd, 3));
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    gate = app_gate();
    gate2 = app_gate();
    app_talk("client SHUT_WR", wr_server, wr_client);
    app_talk("server SHUT_WR", reply_server, reply_client);
    app_talk("SHUT_RD", rd_server, rd_client);
    app_talk("SHUT_RDWR", rdwr_server, rdwr_client);
    app_talk("wrong how", bad_server, bad_client);
    return 0;
}
