/* SPDX-License-Identifier: Apache-2.0
 *
 * limits_exec: a connection that counts against its service's limits outlives exec, and the image that
 * closes it has asked nobody about limits.
 */
#include "app_proc.h"

static int
image(int in, int out)
{
    static char b[20000];
    ssize_t r = 0;
    while ((r = read(in, b, sizeof b)) > 0)
        app_put(out, b, (size_t)r);
    return r == 0 && close(in) == 0 && (in == out || close(out) == 0) ? 0 : 1;
}

static char self[PATH_MAX];

static pid_t
start(int fd, int stdio)
{
    char number[12] = "0", *args[] = {self, number, NULL};
    if (!stdio)
        snprintf(number, sizeof number, "%d", fd);
    return app_exec(self, args, fd, stdio);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    if (argc > 1 && app_mode[0] >= '0' && app_mode[0] <= '9')
        return image(atoi(app_mode), app_mode[0] == '0' ? 1 : atoi(app_mode));
    app_image(self, "limits_exec");
    app_serve_by_images(start);
    return 0;
}
