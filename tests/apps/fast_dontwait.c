/* SPDX-License-Identifier: Apache-2.0
 *
 * fast_dontwait: MSG_FASTOPEN with MSG_DONTWAIT does not wait for the connection [tcp_sendmsg_fastopen].
 */
/* run: modes to many */
#include "app.h"

int
main(int argc, char **argv)
{
    char b[64] = "PLAINMARKER";
    struct iovec v = {b, 11};
    struct mmsghdr m = {.msg_hdr = {.msg_iov = &v, .msg_iovlen = 1}};
    m.msg_hdr.msg_name = &app_addr;
    m.msg_hdr.msg_namelen = sizeof app_addr;
    app_main(argc, argv);
    int lfd = app_listen();
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    if (strcmp(app_mode, "many") == 0)
        RES(sendmmsg(fd, &m, 1, MSG_FASTOPEN | MSG_DONTWAIT));
    else
        RES(sendto(fd, b, 11, MSG_FASTOPEN | MSG_DONTWAIT, (struct sockaddr *)&app_addr, sizeof app_addr));
    say("%s\n", CK(fcntl(fd, F_GETFL)) & O_NONBLOCK ? "non-blocking" : "blocking");
    say("poll %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
    RES(send(fd, b, 11, 0));
    int s = (int)CK(accept(lfd, NULL, NULL));
    say("got %d\n", app_arrived(s, 11));
    return 0;
}
