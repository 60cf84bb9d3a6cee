/* SPDX-License-Identifier: Apache-2.0
 *
 * thread_ends: hundreds of threads, one after the other, each with a connection of its own. What a
 * thread needed is free again when it ends: the process does not grow with their number.
 */
/* run: modes memory */
/* run: noasan memory */
/* run: notsan (the sanitizers remember threads) */
#include "app.h"

#define THREADS 300
#define LIMIT   1024 /* KB; the key schedules of so many connections are a third of it */

static int lfd;

static void *
client(void *arg)
{
    char b = 'x';
    int fd = app_connect();
    MUST(send(fd, &b, 1, 0) == 1 && recv(fd, &b, 1, 0) == 1);
    CK(close(fd));
    return arg;
}

static void *
server(void *arg)
{
    for (int i = 0; i < 2 * THREADS; i++) {
        char b;
        int fd = (int)CK(accept(lfd, NULL, NULL));
        while (recv(fd, &b, 1, 0) == 1)
            MUST(send(fd, &b, 1, 0) == 1);
        CK(close(fd));
    }
    return arg;
}

static void
clients(void)
{
    for (int i = 0; i < THREADS; i++) {
        pthread_t t;
        MUST(pthread_create(&t, NULL, client, NULL) == 0);
        MUST(pthread_join(t, NULL) == 0);
    }
}

static long
memory(void)
{
    char line[200];
    long kb = -1;
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    MUST(f);
    while (kb < 0 && fgets(line, sizeof line, f))
        (void)sscanf(line, "Private_Dirty: %ld kB", &kb);
    fclose(f);
    return kb;
}

int
main(int argc, char **argv)
{
    pthread_t t;
    app_main(argc, argv);
    lfd = app_listen();
    MUST(pthread_create(&t, NULL, server, NULL) == 0);
    clients();
    long before = memory();
    clients();
    long grown = memory() - before;
    MUST(pthread_join(t, NULL) == 0);
    if (grown < LIMIT)
        say("%d threads leave next to nothing\n", THREADS);
    else
        say("%ld KB for %d threads\n", grown, THREADS);
    return 0;
}
