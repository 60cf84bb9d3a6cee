/* SPDX-License-Identifier: Apache-2.0
 *
 * exit_notify.so: a library that a program loads. Its destructor runs after those of everything that
 * was there before, and is the last to write to the connection: by itself, through a stream, and into a
 * stream that exit flushes.
 */
#include <stdio.h>
#include <unistd.h>

extern int late_conn;
extern FILE *late_stream;
int late_conn = -1;
FILE *late_stream;

__attribute__((destructor)) static void
say_last(void)
{
    static const char bare[] = "from a library ";
    if (late_conn < 0)
        return;
    if (write(late_conn, bare, sizeof bare - 1) < 0)
        _exit(9);
    fputs("and its stream ", late_stream);
    fflush(NULL);
    fputs("to the end", late_stream);
}
