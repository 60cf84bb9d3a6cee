/* SPDX-License-Identifier: Apache-2.0
 *
 * constructor: a library's constructor connects, under the loader's lock, while another thread is in the first connect of
 * its process.
 */
/* run: timeout 20 */
/* cc: -rdynamic -ldl */
#include "app.h"

#include <dlfcn.h>
#include <stdatomic.h>

#include "asleep.h"

static _Atomic int loading, gone;
static _Atomic pid_t first;
static char lib[PATH_MAX], told; /* what came back */

static char
ask(char c)
{
    int fd = app_connect();
    app_put(fd, &c, 1);
    MUST(app_get(fd, &c, 1) == 1);
    close(fd);
    return c;
}

/* The library's constructor calls it. */
void on_load(void);
void
on_load(void)
{
    atomic_store(&loading, 1);
    while (!atomic_load(&first) || (!atomic_load(&gone) && !app_sleeps(atomic_load(&first))))
        CK(poll(NULL, 0, 1));
    told = ask('b');
}

static void *
load(void *arg)
{
    MUST(dlopen(lib, RTLD_NOW));
    return arg;
}

static void
serve(int to)
{
    int listener = app_listen();
    CK(write(to, &app_addr, sizeof app_addr));
    for (int i = 0; i < 2; i++) {
        char c;
        int fd = (int)CK(accept(listener, NULL, NULL));
        MUST(app_get(fd, &c, 1) == 1);
        app_put(fd, &c, 1);
        close(fd);
    }
    _exit(0);
}

int
main(int argc, char **argv)
{
    pthread_t t;
    int p[2], status;
    app_main(argc, argv);
    CK(pipe(p));
    pid_t server = (pid_t)CK(fork());
    if (server == 0)
        serve(p[1]);
    MUST(read(p[0], &app_addr, sizeof app_addr) == sizeof app_addr);
    ssize_t n = CK(readlink("/proc/self/exe", lib, sizeof lib - 20));
    strcpy(lib + n, ".so");
    MUST(pthread_create(&t, NULL, load, NULL) == 0);
    while (!atomic_load(&loading))
        CK(poll(NULL, 0, 1));
    atomic_store(&first, gettid());
    char c = ask('a');
    atomic_store(&gone, 1);
    MUST(pthread_join(t, NULL) == 0);
    CK(waitpid(server, &status, 0));
    say("main: %c, constructor: %c, server: %d\n", c, told, status);
    return 0;
}
