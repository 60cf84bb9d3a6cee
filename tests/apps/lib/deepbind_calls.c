/* SPDX-License-Identifier: Apache-2.0
 *
 * deepbind_calls.so: an ordinary library. It calls what the program may have, and is bound when it first does.
 */
/* cc: -Wl,-z,lazy */
#include <sys/socket.h>

int calls(int fd);

int
calls(int fd)
{
    return sockatmark(fd);
}
