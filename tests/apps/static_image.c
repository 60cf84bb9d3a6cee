/* SPDX-License-Identifier: Apache-2.0
 *
 * static_image [FD]: linked statically, so libmesh.so is not in it: echoes from FD to itself, or from
 * standard input to standard output. Executed by exec_static; by itself it says so.
 * static_image listen PORT FD: serves one connection on the loopback, and writes eight bytes to FD as
 * soon as it could come. Executed by confined.
 * static_image say TEXT: writes TEXT and a newline to standard output. Executed by exec_static_share.
 */
/* cc: -static */
/* run: nomesh */
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int
accept_at(int port, int ready)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint64_t one = 1;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(l, (struct sockaddr *)&at, sizeof at) != 0 || listen(l, 1) != 0 || write(ready, &one, 8) != 8)
        exit(3);
    return accept(l, NULL, NULL);
}

int
main(int argc, char **argv)
{
    static char b[20000];
    int in = argc > 1 ? atoi(argv[1]) : 0, out = argc > 1 ? in : 1, type = 0;
    socklen_t len = sizeof type;
    ssize_t r = 0;
    if (argc > 2 && strcmp(argv[1], "say") == 0)
        return puts(argv[2]) < 0;
    if (argc > 3 && strcmp(argv[1], "listen") == 0)
        in = out = accept_at(atoi(argv[2]), atoi(argv[3]));
    if (getsockopt(in, SOL_SOCKET, SO_TYPE, &type, &len) != 0) {
        puts("no connection given");
        return 0;
    }
    while ((r = read(in, b, sizeof b)) > 0)
        for (ssize_t at = 0, n = 0; at < r; at += n)
            if ((n = write(out, b + at, (size_t)(r - at))) < 0)
                return 2;
    return r == 0 ? 0 : 1;
}
