/* SPDX-License-Identifier: Apache-2.0
 *
 * streams: a program that would use streams on a connection, where that cannot work (otherlibc.c).
 *
 *   streams PORT     connects to an echo server; prints what each attempt gave
 *   streams PORT LIB executes `streams` with the connection as its standard output and LIB preloaded
 *   streams          prints, and says how that went
 */
#include "app.h"

static int
inherit(char **argv, int fd)
{
    char preload[8192];
    const char *had = getenv("LD_PRELOAD");
    if (had) {
        snprintf(preload, sizeof preload, "%s %s", had, argv[2]);
        CK(setenv("LD_PRELOAD", preload, 1));
    }
    app_put(fd, "PLAINMARKER", 11); /* TLS is up */
    MUST(app_get(fd, preload, 11) == 11);
    CK(dup2(fd, 1));
    CK(close(fd));
    CK(execl(argv[0], argv[0], (char *)NULL));
    return 1;
}

int
main(int argc, char **argv)
{
    char b[64] = "";
    signal(SIGPIPE, SIG_IGN);
    if (argc == 1) {
        int bad = printf("PLAINMARKER out of a stream\n") < 0 || fflush(stdout);
        fprintf(stderr, "printf %s\n", bad ? strerrorname_np(errno) : "works");
        return 0;
    }
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0)), out = (int)CK(dup(1));
    app_addr = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                    .sin_port = htons((in_port_t)atoi(argv[1]))};
    CK(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
    if (argc == 3)
        return inherit(argv, fd);
    FILE *f = fdopen(fd, "r+");
    say("fdopen %s\n", f ? "works" : strerrorname_np(errno));
    RES(dup2(fd, 1) < 0 ? -1 : 0);
    CK(dup2(out, 1));
    RES(dup3(fd, 2, O_CLOEXEC) < 0 ? -1 : 0);
    CK(close(0));
    RES(dup(fd) < 0 ? -1 : 0);
    RES(fcntl(fd, F_DUPFD, 0) < 0 ? -1 : 0);
    RES(fcntl(0, F_GETFD));
    RES(fcntl(fd, F_DUPFD, 20) >= 20);
    RES(dprintf(fd, "PLAINMARKER %d\n", 17) > 0);
    MUST(app_get(fd, b, 15) == 15);
    say("%s", b);
    f = tmpfile();
    MUST(f && fputs("other streams work\n", f) >= 0);
    rewind(f);
    say("%s", fgets(b, sizeof b, f));
    RES(fclose(f));
    return 0;
}
