/* SPDX-License-Identifier: Apache-2.0
 *
 * first_answer: who writes twice waits with the second small piece until the first is acknowledged [RFC896], and the
 * kernel of who only reads does that at once on a new connection: it delays acknowledgements, 40 ms, of answers, and of
 * what it sent first it has none. The quickest of ten first exchanges is far below that. answer: a client asks, the server
 * answers in two pieces, as with a header and a body. greeting: the server greets, the client asks in two pieces.
 */
/* run: modes answer greeting */
#include "app.h"

#define TIMES 10
#define DELAYED_MS 40

/* The side that writes once, and then has two pieces. */
static void
once(int fd)
{
    char b[107];
    app_put(fd, "first", 5);
    MUST(app_get(fd, b, sizeof b) == sizeof b);
    app_put(fd, "x", 1);
}

/* The side that writes twice: how long until both are there, as its peer says. */
static int64_t
twice(int fd)
{
    static const char head[100], body[7];
    char b[5];
    MUST(app_get(fd, b, 5) == 5);
    int64_t begun = app_ms();
    app_put(fd, head, sizeof head);
    app_put(fd, body, sizeof body);
    MUST(app_get(fd, b, 1) == 1);
    return app_ms() - begun;
}

static void
side(int fd, int writes_twice, int64_t *least)
{
    if (!writes_twice) {
        once(fd);
        return;
    }
    int64_t ms = twice(fd);
    *least = ms < *least ? ms : *least;
}

static void
tell(int writes_twice, int64_t least)
{
    if (writes_twice)
        say("both pieces: %s\n", least < DELAYED_MS / 2 ? "at once" : "the second one waits");
}

static void
client(int lfd)
{
    int64_t least = INT64_MAX;
    int mine = strcmp(app_mode, "greeting") == 0;
    (void)lfd;
    for (int i = 0; i < TIMES; i++) {
        int fd = app_connect();
        side(fd, mine, &least);
        CK(close(fd));
    }
    tell(mine, least);
}

int
main(int argc, char **argv)
{
    struct app_task t;
    int64_t least = INT64_MAX;
    app_main(argc, argv);
    int mine = strcmp(app_mode, "answer") == 0, lfd = app_listen();
    app_start_fork(&t, client, lfd);
    for (int i = 0; i < TIMES; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        side(fd, mine, &least);
        CK(close(fd));
    }
    tell(mine, least);
    app_join(&t, "client");
    return 0;
}
