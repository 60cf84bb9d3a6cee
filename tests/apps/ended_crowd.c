/* SPDX-License-Identifier: Apache-2.0
 *
 * ended_crowd: clients that libmesh is not in end without a byte, and are answered, while others of the mesh connect to the
 * same server all the time.
 */
#include "app_bare.h"

#define ROUNDS 300
#define OTHERS 3

static int over, lfd;

static void
crowd(int unused)
{
    (void)unused;
    while (app_poll(over, POLLIN, 0) == 0) {
        char b;
        int fd = app_connect();
        (void)read(fd, &b, 1);
        CK(close(fd));
    }
}

static void
client(int unused)
{
    char b[100];
    int lost = 0;
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        int fd = app_bare_client();
        CK(shutdown(fd, SHUT_WR));
        lost += app_get(fd, b, sizeof b) != 5;
        CK(close(fd));
    }
    say("lost %d\n", lost);
    for (int i = 0; i < OTHERS; i++)
        app_open(over);
}

static void *
serve(void *arg)
{
    char b[10];
    (void)arg;
    for (;;) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        if (app_poll(fd, POLLIN, 20) & POLLIN)
            (void)read(fd, b, sizeof b);
        (void)send(fd, "hello", 5, MSG_NOSIGNAL);
        CK(close(fd));
    }
    return NULL;
}

int
main(int argc, char **argv)
{
    struct app_task t, o[OTHERS];
    pthread_t s[4];
    app_main(argc, argv);
    over = app_gate();
    lfd = app_listen();
    for (int i = 0; i < OTHERS; i++)
        app_start_fork(&o[i], crowd, -1);
    app_start_fork(&t, client, -1);
    for (int i = 0; i < 4; i++)
        MUST(pthread_create(&s[i], NULL, serve, NULL) == 0);
    app_join(&t, "client");
    for (int i = 0; i < OTHERS; i++)
        app_join(&o[i], "other");
    return 0;
}
