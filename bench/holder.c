/* SPDX-License-Identifier: Apache-2.0
 *
 * holder N: N processes that each listen at a port of their own choosing and wait for the end of their standard input,
 * which they share; one is started when the last one listens. Says "ready" when all do.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int
hold(int ready)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char c = 0;
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 || listen(fd, 1) != 0) {
        perror("holder");
        return write(ready, "!", 1) == 1; /* or the parent would wait for it */
    }
    if (write(ready, &c, 1) != 1) {
        return 1;
    }
    return read(STDIN_FILENO, &c, 1) < 0;
}

int
main(int argc, char **argv)
{
    int n = argc > 1 ? atoi(argv[1]) : 1, p[2], seen = 0;
    char c;
    if (pipe(p) != 0) {
        return 1;
    }
    for (int i = 0; i < n && seen == i; i++) {
        pid_t pid = fork();
        if (pid < 0) {
            perror("fork");
            return 1;
        }
        if (pid == 0) {
            return hold(p[1]);
        }
        seen += read(p[0], &c, 1) == 1 && c == 0;
    }
    printf(seen == n ? "ready\n" : "failed\n");
    fflush(stdout);
    return read(STDIN_FILENO, &c, 1) < 0;
}
