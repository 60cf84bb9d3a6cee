/* SPDX-License-Identifier: Apache-2.0
 *
 * cancel_set: close() of a thread that is cancelled there has done nothing: what it was to close, a connection under way
 * that is in a set of epoll, or the set, is told of as before.
 */
/* run: modes conn set */
/* run: noasan */
#include "app.h"

static int what;

static void *
closer(void *arg)
{
    (void)arg;
    CK(pthread_cancel(pthread_self()));
    close(what);
    say("not cancelled\n");
    return NULL;
}

int
main(int argc, char **argv)
{
    pthread_t id;
    void *end;
    char b[8];
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = 4711};
    app_main(argc, argv);
    int lfd = app_listen(), ep = (int)CK(epoll_create1(0));
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) < 0 && errno == EINPROGRESS);
    CK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    what = strcmp(app_mode, "set") == 0 ? ep : fd;
    MUST(pthread_create(&id, NULL, closer, NULL) == 0 && pthread_join(id, &end) == 0);
    say("cancelled %d\n", end == PTHREAD_CANCELED);
    int s = (int)CK(accept(lfd, NULL, NULL));
    app_put(s, "hello", 5);
    MUST(app_poll(fd, POLLIN, APP_WAIT) == POLLIN);
    e = (struct epoll_event){0};
    say("epoll %d\n", (int)CK(epoll_wait(ep, &e, 1, 1000)));
    say("%s of %d\n", app_events(e.events), (int)e.data.u64);
    say("got %zu\n", app_get(fd, b, 5));
    return 0;
}
