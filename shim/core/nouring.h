/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_nouring: system calls by instruction, which no library sees, and of which one kind must not be:
 * io_uring reads and writes sockets past us. A filter of the kernel denies it, only if the environment
 * asks (LIBMESH_IO_URING=deny), because it needs no_new_privs: nothing that the process executes gains
 * privileges any more.
 */
#ifndef SHIM_CORE_NOURING_H
#define SHIM_CORE_NOURING_H

/* In the constructor. For the process, all that it starts, and for good. */
void shim_nouring_start(void);

#endif
