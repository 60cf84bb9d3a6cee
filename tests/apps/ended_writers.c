/* SPDX-License-Identifier: Apache-2.0
 *
 * ended_writers: a client that libmesh is not in sends its end and nothing else; two threads of its server, or two processes,
 * write at once, while a third reads.
 */
/* run: modes threads processes reader */
/* run: nomesh */
#include "app_bare.h"

#include <sys/mman.h>

#define ROUNDS 100

static pthread_barrier_t *at;
static _Atomic int *failed;
static int conn;

static int
is(const char *mode)
{
    return strcmp(app_mode, mode) == 0;
}

static void
client(int lfd)
{
    char b[100];
    int lost = 0;
    (void)lfd;
    for (int i = 0; i < ROUNDS; i++) {
        int fd = app_bare_client();
        CK(shutdown(fd, SHUT_WR));
        lost += app_get(fd, b, sizeof b) != 20;
        CK(close(fd));
    }
    say("lost %d\n", lost);
}

static void *
writer(void *arg)
{
    (void)arg;
    pthread_barrier_wait(at);
    for (int i = 0; i < 2; i++)
        if (send(conn, "hello", 5, MSG_NOSIGNAL) != 5)
            (*failed)++;
    return NULL;
}

static void *
reader(void *arg)
{
    char b[10];
    (void)arg;
    for (int i = 0; i < 20; i++)
        if (recv(conn, b, sizeof b, 0) != 0)
            (*failed)++;
    return NULL;
}

static void
both(void)
{
    pthread_t w[3];
    pid_t pid = 0;
    int n = is("processes") ? 1 : is("reader") ? 3 : 2;
    if (is("processes") && (pid = (pid_t)CK(fork())) == 0) {
        (void)writer(NULL);
        _exit(0);
    }
    for (int k = 0; k < n; k++)
        MUST(pthread_create(&w[k], NULL, k == 2 ? reader : writer, NULL) == 0);
    for (int k = 0; k < n; k++)
        MUST(pthread_join(w[k], NULL) == 0);
    if (pid)
        MUST(waitpid(pid, NULL, 0) == pid);
}

int
main(int argc, char **argv)
{
    struct app_task t;
    pthread_barrierattr_t shared;
    char b[10];
    app_main(argc, argv);
    at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(at != MAP_FAILED);
    failed = (_Atomic int *)(at + 1);
    MUST(pthread_barrierattr_init(&shared) == 0 && pthread_barrierattr_setpshared(&shared, 1) == 0);
    MUST(pthread_barrier_init(at, &shared, 2) == 0);
    int lfd = app_listen();
    app_start_fork(&t, client, lfd);
    for (int i = 0; i < ROUNDS; i++) {
        conn = (int)CK(accept(lfd, NULL, NULL));
        if (!is("reader"))
            MUST(read(conn, b, sizeof b) == 0);
        both();
        CK(close(conn));
    }
    say("failed %d\n", *failed);
    app_join(&t, "client");
    return 0;
}
