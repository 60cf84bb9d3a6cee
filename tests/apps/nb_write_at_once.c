/* SPDX-License-Identifier: Apache-2.0
 *
 * nb_write_at_once: a non-blocking connection that polls writable takes a write, however other
 * threads' calls fall in between. Several clients and servers in one process.
 */
/* run: timeout 60 */
#include "app.h"

#define THREADS 4
#define ROUNDS  150

static int listener;
static _Atomic int right, refused;

static void *
serve(void *unused)
{
    char b[20];
    for (int i = 0; i < ROUNDS; i++) {
        int fd = (int)CK(accept(listener, NULL, NULL));
        MUST(app_get(fd, b, sizeof b) == sizeof b);
        app_put(fd, b, sizeof b);
        MUST(app_get(fd, b, 1) == 0);
        close(fd);
    }
    return unused;
}

static void *
ask(void *unused)
{
    char b[20];
    for (int i = 0; i < ROUNDS; i++) {
        int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) == 0 ||
             errno == EINPROGRESS);
        app_fill(b, sizeof b, (uint64_t)i);
        MUST(app_poll(fd, POLLOUT, APP_WAIT) == POLLOUT);
        int took = write(fd, b, sizeof b) == sizeof b;
        refused += !took;
        app_nonblock(fd, 0);
        if (!took)
            app_put(fd, b, sizeof b); /* the server counts on it */
        right += app_get(fd, b, sizeof b) == sizeof b && app_match(b, sizeof b, (uint64_t)i) == 20;
        close(fd);
    }
    return unused;
}

int
main(int argc, char **argv)
{
    pthread_t t[2 * THREADS];
    app_main(argc, argv);
    listener = app_listen();
    for (int i = 0; i < THREADS; i++) {
        MUST(pthread_create(&t[2 * i], NULL, serve, NULL) == 0);
        MUST(pthread_create(&t[2 * i + 1], NULL, ask, NULL) == 0);
    }
    for (int i = 0; i < 2 * THREADS; i++)
        MUST(pthread_join(t[i], NULL) == 0);
    say("right %d, refused %d\n", right, refused);
    close(listener);
    return 0;
}
