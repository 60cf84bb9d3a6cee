/* SPDX-License-Identifier: Apache-2.0
 *
 * killed_any: clients of the mesh are killed at any moment of their connect, and servers speak first.
 */
/* run: modes block nonblock shut forked */
/* run: kills */
/* run: timeout 60 */
#include "app.h"

#define ROUNDS 300

static int over;

static void
serve_one(int fd, int i)
{
    char b[300];
    app_fill(b, sizeof b, 0);
    if (i % 3 == 1)
        (void)app_poll(fd, POLLIN, 3);
    if (i % 5 == 2)
        (void)recv(fd, b + 256, 1, MSG_DONTWAIT);
    for (int k = 0; k < 3; k++)
        if (send(fd, b, 256, MSG_NOSIGNAL) < 0)
            break;
    if (i % 4 == 3)
        (void)recv(fd, b, 1, 0);
    CK(close(fd));
}

static void
server(int lfd)
{
    for (int i = 0;; i++) {
        struct pollfd p[2] = {{lfd, POLLIN, 0}, {over, POLLIN, 0}};
        CK(poll(p, 2, APP_WAIT));
        if (!p[0].revents)
            break;
        int fd = (int)CK(accept(lfd, NULL, NULL));
        if (strcmp(app_mode, "forked") == 0) {
            pid_t pid = (pid_t)CK(fork());
            if (pid == 0) {
                serve_one(fd, i);
                _exit(0);
            }
            CK(close(fd));
            while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
        } else
            serve_one(fd, i);
    }
}

int
main(int argc, char **argv)
{
    struct app_task t;
    uint64_t seed = 7;
    char b[1000];
    app_main(argc, argv);
    over = app_gate();
    int lfd = app_listen();
    app_start_fork(&t, server, lfd);
    for (int i = 0; i < ROUNDS; i++) {
        int gate = app_gate();
        fflush(stdout);
        pid_t pid = (pid_t)CK(fork());
        if (pid == 0) {
            int nb = strcmp(app_mode, "block") != 0;
            int fd = (int)CK(socket(AF_INET, SOCK_STREAM | (nb ? SOCK_NONBLOCK : 0), 0));
            app_open(gate);
            (void)connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr);
            if (strcmp(app_mode, "shut") == 0) {
                (void)shutdown(fd, i % 2 ? SHUT_WR : SHUT_RDWR);
            }
            (void)app_poll(fd, POLLIN, 1000);
            (void)recv(fd, b, sizeof b, 0);
            pause();
        }
        app_pass(gate);
        for (uint32_t n = app_rand(&seed) % 30000; n; n--)
            __asm__ volatile("" ::: "memory");
        if (app_rand(&seed) % 3 == 0)
            usleep(app_rand(&seed) % 1500);
        CK(kill(pid, SIGKILL));
        MUST(waitpid(pid, NULL, 0) == pid);
        CK(close(gate));
    }
    int fd = app_connect();
    say("got %zu\n", app_get(fd, b, 768));
    CK(close(fd));
    app_open(over);
    app_join(&t, "server");
    return 0;
}
