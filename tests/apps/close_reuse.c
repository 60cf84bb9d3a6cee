/* SPDX-License-Identifier: Apache-2.0
 *
 * close_reuse: one thread reads connections to their end and closes them, others open files meanwhile, which get the numbers
 * that become free: read and write them, some through streams. A file is never at a connection's end.
 */
/* run: timeout 60 */
#include "app.h"

#include <sys/mman.h>

#define CONNECTIONS 800
#define READERS     3

static _Atomic int over, wrong;
static char path[64];

static void *
dial(void *unused)
{
    (void)unused;
    for (int i = 0; i < CONNECTIONS; i++) {
        int fd = app_connect();
        app_put(fd, "x", 1);
        close(fd);
    }
    return NULL;
}

static void
look(int by_stream)
{
    char b[4];
    int fd = (int)CK(open(path, O_RDWR | O_CLOEXEC));
    FILE *f = by_stream ? fdopen(fd, "r+") : NULL;
    if (f)
        wrong += fread(b, 1, 4, f) != 4;
    else
        wrong += read(fd, b, 4) != 4 || pwrite(fd, b, 4, 0) != 4 || write(fd, b, 4) != 4;
    CK(f ? fclose(f) : close(fd));
}

static void *
reader(void *arg)
{
    while (!over)
        look(arg != NULL);
    return NULL;
}

int
main(void)
{
    pthread_t d, r[READERS];
    char b[8];
    int lfd = app_listen(), file = (int)CK(memfd_create("file", MFD_CLOEXEC));
    app_put(file, "12345678", 8);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    MUST(pthread_create(&d, NULL, dial, NULL) == 0);
    for (intptr_t i = 0; i < READERS; i++)
        MUST(pthread_create(&r[i], NULL, reader, (void *)(i & 1)) == 0);
    for (int i = 0; i < CONNECTIONS; i++) {
        int fd = (int)CK(accept4(lfd, NULL, NULL, SOCK_CLOEXEC));
        while (CK(read(fd, b, sizeof b)) > 0)
            ;
        CK(close(fd));
    }
    over = 1;
    MUST(pthread_join(d, NULL) == 0);
    for (int i = 0; i < READERS; i++)
        MUST(pthread_join(r[i], NULL) == 0);
    say("files that were taken for connections: %d\n", wrong);
    return 0;
}
