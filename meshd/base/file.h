/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_file: directories and whole files, created and replaced atomically; and who owns the run
 * directory.
 */
#ifndef MESHD_BASE_FILE_H
#define MESHD_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mesh/err.h"

/* Makes the directory (and parents, 0755) unless it is there; a new one gets `mode`. */
enum mesh_err meshd_dir_make(const char *path, mode_t mode) MESH_MUST_CHECK;

/* The lock that says a live meshd owns `dir`; held until the process ends.
 * MESH_E_CONFIG: another one has it. */
enum mesh_err meshd_dir_lock(const char *dir) MESH_MUST_CHECK;

/* *data: malloc'ed, with a NUL behind the *len bytes; the caller's. MESH_E_SYSTEM with errno,
 * ENOENT among others; EFBIG beyond `most` bytes. */
enum mesh_err meshd_file_read(const char *path, size_t most, char **data,
                              size_t *len) MESH_MUST_CHECK;

/* Replaces the file by rename: it is the old one or the new one, never half; with `durable` also
 * after a power failure. */
enum mesh_err meshd_file_write(const char *path, const void *data, size_t len, mode_t mode,
                               bool durable) MESH_MUST_CHECK;

/* Are there blocks for n bytes from `at` on? A store to a mapped hole of a full file system is a SIGBUS: the room is
 * asked for before. A file system that knows no such question has to do without. */
bool meshd_file_has_blocks(int fd, size_t at, size_t n);

/* "dir/name" into out; false when it does not fit. */
bool meshd_path(char *out, size_t cap, const char *dir, const char *name);

#endif
