/* SPDX-License-Identifier: Apache-2.0
 *
 * fionread: FIONREAD (SIOCINQ) says exactly what can be read, after sends of several sizes, after
 * each small read and at the end; SIOCOUTQ comes back to 0; a read of exactly that much does not
 * block and leaves nothing.
 */
/* run: modes thread fork */
#include "app.h"

static const int sizes[] = {1, 2, 100, 4096, 16383, 16384, 16385, 20000};
#define SIZES ((int)(sizeof sizes / sizeof *sizes))

static int
inq(int fd)
{
    int n = -1;
    RES(ioctl(fd, FIONREAD, &n));
    return n;
}

static void
sender(int fd)
{
    static char b[20000];
    char c;
    app_fill(b, sizeof b, 0);
    for (int i = 0; i < SIZES; i++)
        for (int pieces = 1; pieces <= 3; pieces++) {
            for (int k = 0; k < pieces; k++)
                app_put(fd, b, (size_t)sizes[i]);
            MUST(app_get(fd, &c, 1) == 1);
        }
    int left = 1;
    while (left)
        CK(ioctl(fd, TIOCOUTQ, &left));
    say("TIOCOUTQ %d, FIONREAD %d\n", left, inq(fd));
}

static void
receiver(int fd)
{
    static char b[60000];
    for (int i = 0; i < SIZES; i++)
        for (int pieces = 1; pieces <= 3; pieces++) {
            int n = sizes[i] * pieces, left = n;
            say("%d times %d: %d\n", pieces, sizes[i], app_arrived(fd, n));
            for (int k = 1; k < left && k < 9000; k *= 3) {
                left -= (int)CK(read(fd, b, (size_t)k));
                say("read %d: %d left\n", k, inq(fd));
            }
            RES(recv(fd, b, (size_t)left, MSG_PEEK));
            RES(read(fd, b, (size_t)left));
            say("nothing left: %d\n", inq(fd));
            app_put(fd, "k", 1);
        }
    say("poll %s\n", app_events(app_poll(fd, POLLIN, APP_WAIT)));
    say("at the end: %d\n", inq(fd));
    RES(read(fd, b, 10));
    say("after the end: %d\n", inq(fd));
    int mark = -1;
    RES(ioctl(fd, SIOCATMARK, &mark));
    RES(ioctl(fd, FIONREAD, NULL));
    RES(ioctl(fd, TCGETS, b));
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_talk("FIONREAD", receiver, sender);
    int lfd = app_listen(), n = 5;
    RES(ioctl(lfd, FIONREAD, &n));
    return 0;
}
