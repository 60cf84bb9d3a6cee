/* SPDX-License-Identifier: Apache-2.0
 *
 * many_messages: sendmmsg sends at most 1024 messages [__sys_sendmmsg].
 */
#include "app.h"

int
main(void)
{
    static struct mmsghdr m[1500], q[1500];
    static char b[1500];
    static struct iovec v[1500], w[1500];
    int c, s;
    app_pair(&c, &s);
    for (int i = 0; i < 1500; i++) {
        v[i] = (struct iovec){b + i, 1};
        w[i] = (struct iovec){b + i, 1};
        m[i].msg_hdr = (struct msghdr){.msg_iov = &v[i], .msg_iovlen = 1};
        q[i].msg_hdr = (struct msghdr){.msg_iov = &w[i], .msg_iovlen = 1};
    }
    RES(sendmmsg(c, m, 1500, 0));
    say("arrived %d\n", app_arrived(s, 1024));
    app_put(c, b, 1024);
    app_arrived(s, 1500);
    RES(recvmmsg(s, q, 1500, MSG_DONTWAIT, NULL));
    return 0;
}
