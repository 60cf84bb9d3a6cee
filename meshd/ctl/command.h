/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_command: one line of the status socket in, its answer out. Inside ctl/ only. Main thread
 * only.
 */
#ifndef MESHD_CTL_COMMAND_H
#define MESHD_CTL_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

struct evbuffer;

#define MESHD_COMMAND_LINE_MAX 4096u /* bytes of a line, without its end */

/* sock: the asker's, for commands that not everybody may give. Appends the whole answer to line[0..len) (any bytes, no line end): text with an empty line behind
 * it, or one line of JSON; nothing to an empty line. False: the client said quit. */
bool meshd_command_answer(int sock, const char *line, size_t len, struct evbuffer *out);

/* An error as text: "error: TEXT", and the empty line. */
void meshd_command_error(struct evbuffer *out, const char *text);

/* Forgets kept answers. */
void meshd_command_fini(void);

#endif
