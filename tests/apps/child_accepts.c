/* SPDX-License-Identifier: Apache-2.0
 *
 * child_accepts: a parent makes a listener, a child that inherits it accepts, and the parent is a client there: it
 * connects, writes, closes, and then waits in a futex only, where nobody drives anything. The child gets all of it and
 * the end at once, as from any client.
 */
#include "app_proc.h"

#include <semaphore.h>
#include <sys/mman.h>

#define TIMES 3

static void
serve(int lfd, sem_t *done)
{
    char b[20];
    for (int i = 0; i < TIMES; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        size_t n = app_get(fd, b, sizeof b);
        MUST(n == 5 && memcmp(b, "hello", 5) == 0);
        close(fd);
        sem_post(done);
    }
    _exit(0);
}

int
main(void)
{
    sem_t *done = mmap(NULL, sizeof *done, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(done != MAP_FAILED && sem_init(done, 1, 0) == 0);
    int lfd = app_listen();
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0)
        serve(lfd, done);
    for (int i = 0; i < TIMES; i++) {
        struct timespec until;
        int fd = app_connect();
        app_put(fd, "hello", 5);
        close(fd);
        CK(clock_gettime(CLOCK_REALTIME, &until));
        until.tv_sec += APP_WAIT / 1000;
        say("%s\n", sem_timedwait(done, &until) == 0 ? "all and the end" : "nothing");
    }
    app_ended("child", pid);
    return 0;
}
