/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_nouring: see nouring.h. The number of io_uring_setup is the same on every architecture and for
 * every way in, but for x32's bit [syscalls(2)], so the filter has no need to ask which one it is.
 */
#include "shim/core/nouring.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

#include "shim/core/env.h"
#include "shim/core/log.h"
#include "shim/real.h"

#define X32_BIT 0x40000000u

/* Asked with nothing, the kernel that has it complains of that. */
static bool
is_denied(void)
{
    return sys_call(SYS_io_uring_setup, 0, 0, 0, 0) == -ENOSYS;
}

static long
install(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~X32_BIT),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog all = {sizeof(code) / sizeof(code[0]), code};
    long r = sys_call6(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
    return r ? r : sys_call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &all, 0);
}

void
shim_nouring_start(void)
{
    if (!shim_env.deny_io_uring || is_denied()) { /* inherited, or the kernel has none */
        return;
    }
    long r = install();
    if (r != 0 || !is_denied()) {
        shim_log_always("io_uring cannot be denied: %ld", r);
    }
}
