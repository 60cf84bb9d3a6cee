/* SPDX-License-Identifier: Apache-2.0
 *
 * What the exported wrappers share. A wrapper asks the descriptor table, and for everything that
 * is not of the mesh goes straight on to libc: no lock, no allocation, no system call, errno
 * untouched.
 */
#ifndef SHIM_SYM_SYM_H
#define SHIM_SYM_SYM_H

#include <errno.h>

#include "shim/core/fdtab.h"
#include "shim/flow/io.h"
#include "shim/flow/work.h"
#include "shim/real.h"

#define SHIM_EXPORT __attribute__((visibility("default")))

/* Names that no header declares: FORTIFY's twins. */
ssize_t __read_chk(int, void *, size_t, size_t);
ssize_t __recv_chk(int, void *, size_t, size_t, int);
ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *);
int __poll_chk(struct pollfd *, nfds_t, int, size_t);
int __ppoll_chk(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t);

/* From the engine's -errno to the program's -1; errno stays as it was on success. */
static inline ssize_t
sym_result(ssize_t r, int saved)
{
    errno = r < 0 ? (int)-r : saved;
    return r < 0 ? -1 : r;
}

/* If fd is a mesh connection, `call` answers; SHIM_PASS falls through to the real call. */
#define SYM_MESH(fd, call)                            \
    do {                                              \
        if (shim_fd_is_mesh(fd)) {                    \
            int saved_ = errno;                       \
            ssize_t r_ = (call);                      \
            if (r_ != SHIM_PASS) {                    \
                return sym_result(r_, saved_);        \
            }                                         \
            errno = saved_;                           \
        }                                             \
    } while (0)

/* A call on another descriptor that may sleep, while we have work to drive [DESIGN D11]. */
#define SYM_BEFORE(fd, events)                                          \
    do {                                                                \
        if (shim_work_any() && shim_io_before((fd), (events)) < 0) {    \
            errno = EINTR;                                              \
            return -1;                                                  \
        }                                                               \
    } while (0)

#endif
