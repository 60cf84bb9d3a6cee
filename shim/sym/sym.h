/* SPDX-License-Identifier: Apache-2.0
 *
 * What the exported wrappers share. A wrapper asks the descriptor table, and for everything that
 * is not of the mesh goes straight on to libc: no lock, no allocation, no system call, errno
 * untouched.
 */
#ifndef SHIM_SYM_SYM_H
#define SHIM_SYM_SYM_H

#include <errno.h>
#include <pthread.h>

#include "shim/core/fdtab.h"
#include "shim/core/region.h"
#include "shim/flow/io.h"
#include "shim/flow/work.h"
#include "shim/real.h"

#define SHIM_EXPORT __attribute__((visibility("default")))

/* Names that no header declares: FORTIFY's twins, and what glibc has since 2.36. */
int pidfd_getfd(int, int, unsigned);
ssize_t __read_chk(int, void *, size_t, size_t);
ssize_t __recv_chk(int, void *, size_t, size_t, int);
ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *);
const char *__tsan_default_suppressions(void);
int __poll_chk(struct pollfd *, nfds_t, int, size_t);
int __ppoll_chk(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t);

/* If system call n is a fork: true, and its result. */
bool sym_fork_by_number(long n, const long a[6], long *r);
/* seccomp(2), for syscall(). */
struct sock_fprog;
long sym_seccomp(unsigned op, unsigned flags, const struct sock_fprog *prog);
/* Takes over what the image before this one handed on. */
void sym_exec_start(void);

/* From the engine's -errno to the program's -1; errno stays as it was on success. */
static inline ssize_t
sym_result(ssize_t r, int saved)
{
    errno = r < 0 ? (int)-r : saved;
    return r < 0 ? -1 : r;
}

/* The head of a wrapper of which the first argument is fd. Most calls of most programs are no matter of ours:
 * no mesh connection, nothing to drive. They go on to libc before anything is saved for the body, which is a
 * function of its own for that reason: two loads, two branches and a jump. */
#define SYM_BODY(type, name, params, args)                                        \
    static type name##_body params;                                               \
    __attribute__((hot)) SHIM_EXPORT type name params                             \
    {                                                                             \
        bool other = !shim_fd_is_mesh(fd) && !shim_work_any();                    \
        return __builtin_expect(other, 1) ? shim_real.name args : name##_body args; \
    }                                                                             \
    __attribute__((hot)) static __attribute__((noinline)) type name##_body params

/* If fd is a mesh connection, `call` answers; SHIM_PASS falls through to the real call. It is a cancellation point before
 * anything is done, as the bare call, also where it has not to sleep [pthreads(7)]. */
#define SYM_MESH(fd, call)                            \
    do {                                              \
        if (shim_fd_is_mesh(fd)) {                    \
            pthread_testcancel();                     \
            int saved_ = errno;                       \
            ssize_t r_ = (call);                      \
            if (r_ != SHIM_PASS) {                    \
                return sym_result(r_, saved_);        \
            }                                         \
            errno = saved_;                           \
        }                                             \
    } while (0)

/* `call` makes a descriptor. When the program has no number left it gets the one that we keep. */
#define SYM_NUMBER(r, call)                                        \
    do {                                                           \
        int saved_ = errno;                                        \
        (r) = (call);                                              \
        if ((r) < 0 && errno == EMFILE && shim_region_give_up()) { \
            errno = saved_;                                        \
            (r) = (call);                                          \
        }                                                          \
    } while (0)

/* A FILE, and what stands behind each: its table [glibc, libio/libioP.h]. */
struct sym_stream {
    FILE file;
    void **table;
};

/* stdio.c: the slots; the handlers that fork() runs around ours; what streams hold for connections,
 * at exit; another stream, the last of all; a connection cannot be carried into streams: counted, logged, -1 and errno. */
void sym_stdio_init(void);
void sym_stdio_before_fork(void);
void sym_stdio_after_fork(bool child);
void sym_stdio_flush(void);
bool sym_stdio_append(struct sym_stream *stream);
int sym_stdio_refuse(void);

/* fork.c: the handlers that libc's fork runs; true when n was a fork, and is done. */
void sym_fork_start(void);
bool sym_fork_by_number(long n, const long a[6], long *r);

/* aio.c: the kernel's asynchronous I/O, -errno. */
struct iocb;
long sym_io_submit(unsigned long ctx, long n, struct iocb **list);
int io_submit(unsigned long, long, struct iocb **); /* libaio's, which we do not need for building */

/* exit.c. What was written must not be lost because the program ends; for_good: nothing of it follows. */
void sym_exit_start(void);
void sym_finish(bool for_good);
/* After our destructor: what a slot writes then is seen to its end at once. */
void sym_finish_if_ending(void);
/* The stream that tells us of exit's last moment. Its slot comes here. */
bool sym_is_last_stream(const FILE *fp);
void sym_last_moment(void);

/* conn.c: connect() on it is ours, and so is what connects while it sends. */
bool sym_is_tcp(int fd);

/* A call on another descriptor that may sleep, while we have work to drive [DESIGN D11]. */
#define SYM_BEFORE(fd, events)                                          \
    do {                                                                \
        if (shim_work_any() && shim_io_before((fd), (events)) < 0) {    \
            errno = EINTR;                                              \
            return -1;                                                  \
        }                                                               \
    } while (0)

#endif
