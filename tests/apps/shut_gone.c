/* SPDX-License-Identifier: Apache-2.0
 *
 * shut_gone: a client has closed without a byte; its server, in mode strict, ends its own side, then writes: that is EPIPE.
 * In mode permissive: unsaid.
 */
/* run: modes read first */
/* run: nomesh */
/* run: config mode = "strict"; */
#include "app_bare.h"

int
main(int argc, char **argv)
{
    char b[10];
    app_main(argc, argv);
    int lfd = app_listen();
    int c = app_bare_client();
    CK(close(c));
    int fd = (int)CK(accept(lfd, NULL, NULL));
    if (strcmp(app_mode, "read") == 0)
        RES(read(fd, b, sizeof b));
    RES(shutdown(fd, SHUT_WR));
    RES(send(fd, "x", 1, MSG_NOSIGNAL));
    RES(send(fd, "x", 1, MSG_NOSIGNAL));
    CK(close(fd));
    return 0;
}
