/* SPDX-License-Identifier: Apache-2.0
 *
 * aged: its service's connections end by age (meshd.conf), in a day. Once the program has closed them, replaced
 * them and given them other numbers, nothing of that is left: its system calls are those that it makes.
 */
/* run: strace */
#include "app.h"

#define PAIRS 20

static void
round_trip(int from, int to)
{
    char b[100];
    app_fill(b, sizeof b, 0);
    app_put(from, b, sizeof b);
    MUST(app_get(to, b, sizeof b) == sizeof b && app_match(b, sizeof b, 0) == sizeof b);
}

int
main(void)
{
    int c[PAIRS], s[PAIRS], p[2];
    char b[8] = "";
    struct timespec nap = {0, 1000000};
    CK(pipe(p));
    for (int i = 0; i < PAIRS; i++) {
        app_pair(&c[i], &s[i]);
        round_trip(c[i], s[i]);
    }
    for (int i = 0; i < PAIRS; i++) {
        int other = (int)CK(dup(c[i]));
        CK(close(c[i]));
        round_trip(s[i], other);
        if (i % 2)
            CK(dup2(p[0], other));
        CK(close(other));
        CK(close(s[i]));
    }
    access("/app/trace/begin", F_OK);
    for (int i = 0; i < 10; i++) {
        RES(write(p[1], "x", 1));
        say("poll %s\n", app_events(app_poll(p[0], POLLIN, APP_WAIT)));
        RES(read(p[0], b, sizeof b));
        RES(nanosleep(&nap, NULL));
    }
    access("/app/trace/end", F_OK);
    return 0;
}
