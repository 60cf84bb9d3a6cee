/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_pass: see pass.h. Here: a descriptor that was taken out of another process [pidfd_getfd(2)]. Its
 * owner knows nothing of it, and so has lent nothing. But whoever may take one descriptor may take
 * another: the region's.
 */
#include "shim/flow/pass.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shim/core/region.h"
#include "shim/flow/carry_int.h"
#include "shim/real.h"

struct owner {
    int pid, pidfd;
    uint64_t cookie; /* of the socket that was taken */
    bool found;      /* the region in which it lives is mapped */
};

/* "Pid:" in /proc/self/fdinfo/PIDFD [pidfd_open(2)]; 0 if it cannot be told. */
static int
pid_of(int pidfd)
{
    char path[64], text[512];
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
    int fd = (int)sys_call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    long n = fd >= 0 ? sys_call(SYS_read, fd, text, sizeof(text) - 1, 0) : -1;
    if (fd >= 0) {
        (void)sys_close(fd);
    }
    text[n > 0 ? n : 0] = '\0';
    const char *at = strstr(text, "\nPid:");
    return at ? atoi(at + strlen("\nPid:")) : 0;
}

/* Those of whom meshd would lend it to us. */
static bool
is_ours(int fd)
{
    struct stat st;
    uid_t me = (uid_t)sys_call(SYS_geteuid, 0, 0, 0, 0);
    return me == 0 || (sys_call(SYS_fstat, fd, &st, 0, 0) == 0 && st.st_uid == me);
}

static void
try_one(int n, void *arg)
{
    struct owner *o = arg;
    char path[64], name[32];
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", o->pid, n);
    long len = o->found ? -1
                        : sys_call(SYS_readlinkat, AT_FDCWD, path, name, sizeof(name));
    if (len < (long)strlen(SHIM_REGION_LINK) ||
        memcmp(name, SHIM_REGION_LINK, strlen(SHIM_REGION_LINK)) != 0) {
        return;
    }
    int fd = (int)sys_call(SYS_pidfd_getfd, o->pidfd, n, 0, 0);
    if (fd >= 0) {
        o->found = is_ours(fd) && shim_pass_join(fd) && shim_slot_find(o->cookie);
        (void)sys_close(fd);
    }
}

void
shim_pass_taken(int pidfd, int fd)
{
    char path[64];
    struct owner o = {pid_of(pidfd), pidfd, shim_cookie(fd), false};
    if (o.pid > 0 && o.cookie && !shim_slot_find(o.cookie)) {
        snprintf(path, sizeof(path), "/proc/%d/fd", o.pid);
        (void)shim_carry_each_listed(path, try_one, &o);
    }
    shim_pass_received(fd, true);
}
