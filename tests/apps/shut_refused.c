/* SPDX-License-Identifier: Apache-2.0
 *
 * shut_refused: shutdown() of a socket whose connection has been refused by then.
 */
/* run: modes rdwr wr rd */
/* run: nomesh */
/* run: config services = ({ name = "dead"; endpoints = ({ addr = "127.0.0.1:47111"; }); }); */
#include "app.h"

#define DEAD_PORT 47111 /* in the configuration above; nobody listens */

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    int how = strcmp(app_mode, "wr") == 0 ? SHUT_WR : strcmp(app_mode, "rd") == 0 ? SHUT_RD : SHUT_RDWR;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(DEAD_PORT)};
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    RES(connect(fd, (struct sockaddr *)&at, sizeof at));
    RES(shutdown(fd, how));
    say("SO_ERROR %s\n", app_so_error_name(fd));
    say("poll %s\n", app_events(app_poll(fd, POLLIN | POLLOUT | POLLRDHUP, 0)));
    RES(send(fd, "x", 1, MSG_NOSIGNAL));
    RES(close(fd));
    return 0;
}
