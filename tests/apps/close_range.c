/* SPDX-License-Identifier: Apache-2.0
 *
 * close_range: programs that close descriptors they do not know: close_range, closefrom, loops
 * over every number, as daemons and process launchers do. Connections below the range go on, the
 * ones inside end for the peer; new connections work afterwards.
 */
/* run: modes range loop from cloexec */
#include "app.h"

static void
close_from(int low)
{
    if (strcmp(app_mode, "range") == 0)
        RES(close_range((unsigned)low, ~0u, 0));
    else if (strcmp(app_mode, "from") == 0)
        closefrom(low);
    else if (strcmp(app_mode, "cloexec") == 0)
        RES(close_range((unsigned)low, ~0u, CLOSE_RANGE_CLOEXEC));
    else
        for (int i = low; i < 1024; i++)
            close(i);
}

static void
use(int c, int s)
{
    char b[5000];
    app_fill(b, sizeof b, 0);
    RES(write(c, b, sizeof b));
    say("got %zu\n", app_get(s, b, sizeof b));
    RES(write(s, b, 100));
    memset(b, 0, sizeof b);
    say("got %zu\n", app_get(c, b, 100));
    say("match %zu\n", app_match(b, 100, 0));
}

int
main(int argc, char **argv)
{
    int c = 0, s = 0, c2 = 0, s2 = 0, p[2];
    char b[1];
    app_main(argc, argv);
    app_pair(&c, &s);
    app_pair(&c2, &s2);
    use(c, s);
    use(c2, s2);
    CK(pipe(p));
    int keep = s > c ? s : c;
    keep = s2 > keep ? s2 : keep;
    keep = c2 > keep ? c2 : keep;
    say("unrelated only\n");
    close_from(keep + 1);
    RES(write(p[1], "x", 1));
    use(c, s);
    use(c2, s2);
    say("one end too\n");
    CK(dup2(c2, keep + 1));
    CK(close(c2));
    use(keep + 1, s2);
    close_from(keep + 1);
    if (strcmp(app_mode, "cloexec") != 0) {
        RES(read(s2, b, 1));
        RES(write(keep + 1, "x", 1));
    } else {
        use(keep + 1, s2);
        say("F_GETFD %d\n", fcntl(keep + 1, F_GETFD));
    }
    use(c, s);
    app_pair(&c2, &s2);
    use(c2, s2);
    use(c, s);
    RES(close_range(10, 5, 0));
    return 0;
}
