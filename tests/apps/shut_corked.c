/* SPDX-License-Identifier: Apache-2.0
 *
 * shut_corked: the peer has closed; what a cork, or MSG_MORE, holds goes with the end of shutdown(), and is answered by a
 * reset, which is told.
 */
/* run: modes cork more */
#include "app.h"

int
main(int argc, char **argv)
{
    char b[10];
    int on = 1, peer, fd, corked;
    app_main(argc, argv);
    corked = strcmp(app_mode, "cork") == 0;
    app_pair(&peer, &fd);
    app_put(peer, "hello", 5);
    MUST(app_get(fd, b, 5) == 5);
    CK(close(peer));
    MUST(app_poll(fd, POLLRDHUP, APP_WAIT));
    RES(read(fd, b, 5));
    if (corked)
        CK(setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on));
    RES(send(fd, "x", 1, corked ? 0 : MSG_MORE));
    RES(shutdown(fd, SHUT_WR));
    app_hung_up(fd);
    say("poll %s\n", app_events(app_poll(fd, POLLIN | POLLOUT, 0)));
    say("SO_ERROR %s\n", app_so_error_name(fd));
    RES(read(fd, b, 5));
    return 0;
}
