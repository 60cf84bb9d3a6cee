/* SPDX-License-Identifier: Apache-2.0
 *
 * Exported symbols: how a process becomes two. libc's fork() runs the handlers that we leave with it;
 * everything else that copies a process runs none: _Fork, clone(2) without CLONE_VM, and the calls by
 * their numbers. What shares the memory (threads, vfork, posix_spawn and their like) is no copy: it is
 * libc's alone, and told apart by its pid where it matters (shim_fdtab_may_write).
 */
#include <linux/sched.h>
#include <pthread.h>
#include <stdarg.h>
#include <unistd.h>

#include "shim/core/env.h"
#include "shim/core/rand.h"
#include "shim/core/room.h"
#include "shim/core/stat.h"
#include "shim/core/stdio.h"
#include "shim/flow/conn.h"
#include "shim/flow/ident.h"
#include "shim/flow/listener.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/ready/ready.h"
#include "shim/sym/sym.h"

static void
before_fork(void)
{
    shim_listener_child();
    shim_work_before_fork();
    shim_stdio_before_fork();
    shim_conn_before_fork();
}

static void
in_parent(void)
{
    shim_stdio_after_fork(false);
    shim_work_after_fork(false);
}

static void
in_child(void)
{
    shim_fdtab_forked();
    shim_conn_forked();
    shim_stdio_after_fork(true);
    shim_link_forked();
    shim_ident_forked();
    shim_gate_forked();
    shim_stat_forked();
    shim_rand_forked();
    shim_room_forked();
    shim_work_after_fork(true); /* the last: from here on signals come */
}

static void
before_libc_fork(void)
{
    sym_stdio_before_fork();
    before_fork();
}

static void
in_libc_parent(void)
{
    in_parent();
    sym_stdio_after_fork(false);
}

static void
in_libc_child(void)
{
    in_child();
    sym_stdio_after_fork(true);
}

void
sym_fork_start(void)
{
    pthread_atfork(before_libc_fork, in_libc_parent, in_libc_child);
}

/* Where the call returned; `pid` as by fork, errno as it left it. */
static void
after_fork(long pid)
{
    int saved = errno;
    if (pid == 0) {
        in_child();
    } else {
        in_parent();
        if (pid < 0) {
            shim_conn_fork_failed();
        }
    }
    errno = saved;
}

SHIM_EXPORT pid_t
_Fork(void)
{
    if (!shim_env.on) {
        return shim_real._Fork();
    }
    before_fork();
    pid_t pid = shim_real._Fork();
    after_fork(pid);
    return pid;
}

struct start {
    int (*fn)(void *);
    void *arg;
};

/* In the child, which has a copy of its parent's stack beside its own. When fn returns libc ends the
 * process by the system call. */
static int
start_child(void *arg)
{
    struct start s = *(struct start *)arg;
    in_child();
    int status = s.fn(s.arg);
    sym_finish(true);
    return status;
}

SHIM_EXPORT int
clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
    va_list ap;
    va_start(ap, arg);
    void *ptid = va_arg(ap, void *), *tls = va_arg(ap, void *), *ctid = va_arg(ap, void *);
    va_end(ap);
    if (!shim_env.on || flags & CLONE_VM || !fn || !stack) {
        return shim_real.clone(fn, stack, flags, arg, ptid, tls, ctid);
    }
    struct start s = {fn, arg};
    before_fork();
    int pid = shim_real.clone(start_child, stack, flags, &s, ptid, tls, ctid);
    after_fork(pid);
    return pid;
}

/* A child with a stack of its own does not come back to us. */
static bool
is_copy(long n, const long a[6])
{
#ifdef SYS_fork
    if (n == SYS_fork) {
        return true;
    }
#endif
    if (n == SYS_clone) {
        return !(a[0] & CLONE_VM) && a[1] == 0;
    }
    const struct clone_args *c = (const struct clone_args *)a[0];
    return n == SYS_clone3 && c && (size_t)a[1] >= CLONE_ARGS_SIZE_VER0 && !(c->flags & CLONE_VM) &&
           c->stack == 0;
}

bool
sym_fork_by_number(long n, const long a[6], long *r)
{
    if (!is_copy(n, a)) {
        return false;
    }
    before_fork();
    *r = shim_real.syscall(n, a[0], a[1], a[2], a[3], a[4], a[5]);
    after_fork(*r);
    return true;
}

/* libc's parent leaves by a way that nobody sees. */
SHIM_EXPORT int
daemon(int stay, int keep)
{
    if (shim_env.on && shim_work_any() && shim_fdtab_may_write()) {
        shim_work_finish(true);
    }
    return shim_real.daemon(stay, keep);
}
