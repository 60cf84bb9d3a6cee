/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_snapcopy: the file beside the snapshot that holds its last commit, without the pool, and that nobody maps.
 * For snapfile.c only.
 */
#ifndef MESHD_REGISTRY_SNAPCOPY_H
#define MESHD_REGISTRY_SNAPCOPY_H

#include <stddef.h>

/* `path`.copy. Without it meshd goes on. */
void meshd_snapcopy_open(const char *path);
void meshd_snapcopy_close(void);
int meshd_snapcopy_fd(void); /* borrowed; -1: there is none */
/* What was written a moment ago, `used` bytes at `area`, and the head: each to its place in a file of `size` bytes. */
void meshd_snapcopy_write(const void *head, size_t size, const void *area, size_t used);

#endif
