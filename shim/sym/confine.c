/* SPDX-License-Identifier: Apache-2.0
 *
 * Exported symbols: how a program shuts itself in. A filter of system calls is the program's own and
 * goes to the kernel as it is; we only read it (flow/confine.h). seccomp(2) has no name in libc: it
 * comes through syscall() (fd.c). Before chroot we take what lies outside.
 */
#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "shim/core/env.h"
#include "shim/core/log.h"
#include "shim/filter.h"
#include "shim/flow/confine.h"
#include "shim/flow/ident.h"
#include "shim/link/link.h"
#include "shim/sym/sym.h"

/* -1: no filter, or none that we have to know. In a child of vfork we would write the parent's
 * memory. */
static int
expect_filter(const struct sock_fprog *prog)
{
    int saved = errno;
    int id = shim_env.on && shim_fdtab_may_write() ? shim_filter_add(prog) : -1;
    if (id >= 0) {
        shim_confine_prepare(id);
        shim_filter_use(id, true);
    }
    errno = saved;
    return id;
}

/* The processor's time stamp counter, which is behind the vDSO's clocks. Strict mode takes it away, too
 * [arch/x86/kernel/process.c: disable_TSC]. */
static void
expect_counter(bool lost)
{
    if (shim_env.on && shim_fdtab_may_write()) {
        shim_real_use_counter(!lost);
    }
}

/* Before it is lost by PR_SET_TSC: OpenSSL's random numbers begin with it. */
static void
settle(void)
{
    int saved = errno;
    if (shim_env.on && shim_fdtab_may_write()) {
        shim_confine_settle();
    }
    errno = saved;
}

SHIM_EXPORT int
chroot(const char *path)
{
    if (shim_env.on && shim_fdtab_may_write()) {
        int saved = errno;
        (void)shim_link_try();
        if (shim_ident_engine() != MESH_OK) {
            shim_log_info("chroot: what lies outside is not there");
        }
        errno = saved;
    }
    return shim_real.chroot(path);
}

SHIM_EXPORT int
prctl(int option, ...)
{
    unsigned long a[4];
    int id = -1;
    va_list ap;
    va_start(ap, option);
    for (int i = 0; i < 4; i++) {
        a[i] = va_arg(ap, unsigned long);
    }
    va_end(ap);
    bool strict = option == PR_SET_SECCOMP && a[0] == SECCOMP_MODE_STRICT;
    bool loses = strict || (option == PR_SET_TSC && a[0] == PR_TSC_SIGSEGV);
    if (strict) {
        id = expect_filter(NULL);
    } else if (option == PR_SET_SECCOMP && a[0] == SECCOMP_MODE_FILTER && a[1]) {
        id = expect_filter((const struct sock_fprog *)a[1]);
    }
    if (loses && !strict) {
        settle();
    }
    if (loses) {
        expect_counter(true);
    }
    int r = shim_real.prctl(option, a[0], a[1], a[2], a[3]);
    if (r < 0) {
        shim_filter_use(id, false);
    }
    if (r < 0 ? loses : option == PR_SET_TSC && !loses) {
        expect_counter(false);
    }
    return r;
}

long
sym_seccomp(unsigned op, unsigned flags, const struct sock_fprog *prog)
{
    int id = -1;
    bool strict = op == SECCOMP_SET_MODE_STRICT;
    if (strict) {
        id = expect_filter(NULL);
        expect_counter(true);
    } else if (op == SECCOMP_SET_MODE_FILTER && prog) {
        id = expect_filter(prog);
    }
    long r = shim_real.syscall(SYS_seccomp, op, flags, prog);
    if (r < 0 || (r > 0 && !(flags & SECCOMP_FILTER_FLAG_NEW_LISTENER))) { /* > 0: another thread's id */
        shim_filter_use(id, false);
        if (strict) {
            expect_counter(false);
        }
    }
    return r;
}
