/* SPDX-License-Identifier: Apache-2.0
 *
 * exit_late: a client connects, writes and ends, long before the server accepts: it gets the bytes and the end.
 * elsewhere: both are in a network namespace of their own, where meshd is not; address: there, by an address that is
 * not loopback's.
 */
/* run: modes here elsewhere address */
#include "app_proc.h"

#include <sched.h>

static void
client(int listener)
{
    close(listener);
    int fd = app_connect();
    app_put(fd, "the last word", 13);
    exit(0);
}

int
main(int argc, char **argv)
{
    char b[64] = "";
    int status;
    app_main(argc, argv);
    if (strcmp(app_mode, "here") != 0) {
        CK(unshare(CLONE_NEWNET));
        app_loopback_up("lo", "127.0.0.1");
    }
    if (strcmp(app_mode, "address") == 0)
        app_loopback_up("lo:1", "10.11.12.13");
    int listener = (int)CK(app_listen_at(INADDR_ANY, 5, &app_addr));
    app_addr.sin_addr.s_addr = strcmp(app_mode, "address") == 0 ? inet_addr("10.11.12.13") : htonl(INADDR_LOOPBACK);
    fflush(stdout);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0)
        client(listener);
    CK(waitpid(pid, &status, 0));
    say("the client is gone: %x\n", (unsigned)status);
    int fd = (int)CK(accept(listener, NULL, NULL));
    size_t n = app_get(fd, b, sizeof b);
    say("%zu: %s\n", n, b);
    return 0;
}
