/* SPDX-License-Identifier: Apache-2.0
 *
 * exec_static: a server hands its connections to a static program, which no preload can follow: by
 * fork or vfork and exec, as standard input and output, and by number. Before exec it has already
 * read, or not; both ends see the same bytes and ends.
 */
/* run: modes fork vfork */
#include "app_proc.h"

static char image[PATH_MAX];

static pid_t
start(int fd, int stdio)
{
    char number[12], *args[] = {image, stdio ? NULL : number, NULL};
    snprintf(number, sizeof number, "%d", fd);
    return app_exec(image, args, fd, stdio);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_image(image, "static_image");
    app_serve_by_images(start);
    MUST(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD); /* no child that we did not make */
    return 0;
}
