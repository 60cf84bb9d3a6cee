/* SPDX-License-Identifier: Apache-2.0
 *
 * ask: one question to meshd's status socket. Single-threaded.
 */
#ifndef MESHCTL_ASK_H
#define MESHCTL_ASK_H

#include <stdbool.h>
#include <stddef.h>

/* Sends `command` and reads the whole answer: one line of JSON, or text up to its empty line, which is
 * cut off. *text: malloc'ed, NUL-terminated, the caller's. False: meshd could not be reached or did
 * not answer in time; `why` (cap bytes) says what happened. */
bool ask(const char *path, const char *command, bool json, double timeout_s, char **text,
         char *why, size_t cap);

#endif
