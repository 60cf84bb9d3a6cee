/* SPDX-License-Identifier: Apache-2.0
 *
 * sym_target: what a program is about to execute, as far as we have to know: can libmesh.so be in
 * it? No allocation, no private state: it may run in a child of vfork.
 */
#ifndef SHIM_SYM_TARGET_H
#define SHIM_SYM_TARGET_H

#include <stdbool.h>
#include <stddef.h>

/* The file that execvp() would take for `file`: PATH is searched where it has no slash. Left as
 * `file` when nothing is found. */
void sym_target_search(const char *file, char *path, size_t room);
/* ld.so will not load what LD_PRELOAD names (AT_SECURE): other privileges than the caller's. */
bool sym_target_is_secure(const char *path);
/* A dynamic program for this processor and this C library, which will find our own file; a script's
 * interpreter decides for the script. */
bool sym_target_can_follow(const char *path);

#endif
