/* SPDX-License-Identifier: Apache-2.0
 *
 * stdio_fork: one thread flushes all streams, over and over, among them one on a connection that
 * nobody has accepted yet; another forks. Both want libc's list of streams and whatever else a
 * write needs; neither may wait for the other for ever, nor find it locked in the child.
 */
/* run: timeout 60 */
#include "app.h"

#define FORKS 200
#define BYTES 60000

static _Atomic int forked;

static void *
forks(void *arg)
{
    for (int i = 0; i < FORKS; i++) {
        int st = 0;
        pid_t pid = (pid_t)CK(fork());
        if (pid == 0) {
            FILE *f = fopen("/dev/null", "w"); /* takes the list */
            MUST(f);
            fputs("child\n", f);
            _exit(fflush(f) ? 1 : 0);
        }
        CK(waitpid(pid, &st, 0));
        MUST(st == 0);
    }
    forked = 1;
    return arg;
}

int
main(void)
{
    pthread_t t;
    struct pollfd p;
    int lfd = app_listen(), n = 0;
    FILE *f = fdopen(app_connect(), "w");
    MUST(f);
    app_nonblock(fileno(f), 1);
    setvbuf(stdout, NULL, _IOFBF, 0);
    MUST(pthread_create(&t, NULL, forks, NULL) == 0);
    for (; n < BYTES && !(forked && n > 5000); n++) {
        MUST(fputc(app_byte((uint64_t)n), f) != EOF);
        MUST(fflush(NULL) == 0);
    }
    MUST(pthread_join(t, NULL) == 0);
    p = (struct pollfd){lfd, POLLIN, 0};
    CK(poll(&p, 1, APP_WAIT));
    int fd = (int)CK(accept(lfd, NULL, NULL));
    RES(fclose(f));
    char *b = malloc(BYTES);
    size_t got = app_get(fd, b, BYTES);
    say("all of it %d, right %d\n", got == (size_t)n, app_match(b, got, 0) == got);
    return 0;
}
