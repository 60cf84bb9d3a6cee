/* SPDX-License-Identifier: Apache-2.0
 *
 * reuseport: two listeners share a port by SO_REUSEPORT; every client is served by one of them;
 * when one is closed the other one gets all. A closed listener's port refuses; listened on again
 * it works again.
 */
/* run: modes thread fork */
#include "app.h"

#define CLIENTS 16

static int
listen_shared(void)
{
    int on = 1, fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    socklen_t len = sizeof app_addr;
    CK(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
    CK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    CK(bind(fd, (struct sockaddr *)&app_addr, len));
    CK(listen(fd, 64));
    CK(getsockname(fd, (struct sockaddr *)&app_addr, &len));
    return fd;
}

static int rounds_gate, done_gate, first[2];

static void
clients(int unused)
{
    char b[300];
    (void)unused;
    if (strcmp(app_mode, "fork") == 0) {
        close(first[0]);
        close(first[1]);
    }
    for (int round = 0; round < 3; round++) {
        app_pass(rounds_gate);
        int right = 0;
        for (int i = 0; i < CLIENTS; i++) {
            int fd = app_connect();
            app_fill(b, sizeof b, (uint64_t)i);
            app_put(fd, b, sizeof b);
            right += app_get(fd, b, sizeof b) == sizeof b &&
                     app_match(b, sizeof b, (uint64_t)i) == sizeof b;
            close(fd);
        }
        say("right %d\n", right);
        if (round == 1) {
            app_open(done_gate);
            app_pass(rounds_gate);
            int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
            RES(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
            close(fd);
            app_open(done_gate);
        }
    }
}

/* Serves n clients on whichever listeners are open (-1: closed). */
static int
serve(int a, int b, int n)
{
    char buf[300];
    int by_a = 0;
    for (int i = 0; i < n; i++) {
        struct pollfd p[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
        MUST(poll(p, 2, APP_WAIT) > 0);
        by_a += p[0].revents != 0;
        int fd = (int)CK(accept(p[0].revents ? a : b, NULL, NULL));
        app_put(fd, buf, app_get(fd, buf, sizeof buf));
        MUST(read(fd, buf, 1) == 0);
        close(fd);
    }
    return by_a;
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    rounds_gate = app_gate();
    done_gate = app_gate();
    app_addr =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int a = first[0] = listen_shared(), b = first[1] = listen_shared();
    app_start(&t, clients, -1);
    app_open(rounds_gate);
    serve(a, b, CLIENTS);
    RES(close(a));
    app_open(rounds_gate);
    say("by the closed one %d\n", serve(-1, b, CLIENTS));
    app_pass(done_gate);
    RES(close(b));
    app_open(rounds_gate);
    app_pass(done_gate);
    a = listen_shared();
    RES(listen(a, 10));
    app_open(rounds_gate);
    say("by the new one %d\n", serve(a, -1, CLIENTS));
    app_join(&t, "clients");
    return 0;
}
