/* SPDX-License-Identifier: Apache-2.0
 *
 * sym_target: see target.h.
 */
#include "shim/sym/target.h"

#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "shim/core/env.h"
#include "shim/real.h"

#define SCRIPTS 5 /* the kernel follows as many interpreters [execve(2)] */
#define HEAD    512

void
sym_target_search(const char *file, char *path, size_t room)
{
    const char *dirs = strchr(file, '/') ? NULL : getenv("PATH");
    for (size_t len; dirs; dirs = dirs[len] ? dirs + len + 1 : NULL) {
        len = strcspn(dirs, ":");
        int n = snprintf(path, room, "%.*s%s%s", (int)len, dirs, len ? "/" : "", file);
        if (n > 0 && (size_t)n < room &&
            sys_call(SYS_faccessat, AT_FDCWD, path, X_OK, 0) == 0) {
            return;
        }
    }
    snprintf(path, room, "%s", file);
}

static long
read_head(const char *path, char *buf, size_t n, long at)
{
    int fd = (int)sys_call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) {
        return fd;
    }
    long r = sys_call(SYS_pread64, fd, buf, n, at);
    (void)sys_close(fd);
    return r;
}

/* [capabilities(7)] What it may inherit only gives it nothing of its own. Without new privileges it gains none, but one
 * that is to have them in effect counts all the same. */
static bool
has_capabilities(const char *path, bool gains)
{
    struct vfs_ns_cap_data cap;
    long n = sys_call(SYS_getxattr, path, "security.capability", &cap, sizeof(cap));
    return n >= (long)XATTR_CAPS_SZ_1 &&
           (cap.magic_etc & htole32(VFS_CAP_FLAGS_EFFECTIVE) ||
            (gains && (cap.data[0].permitted || (n >= (long)XATTR_CAPS_SZ_2 && cap.data[1].permitted))));
}

/* As the kernel's cap_bprm_creds_from_file, of a file that is no script. */
static bool
is_secure(const char *path)
{
    struct stat st;
    struct statfs fs;
    uid_t real = (uid_t)sys_call(SYS_getuid, 0, 0, 0, 0), uid = (uid_t)sys_call(SYS_geteuid, 0, 0, 0, 0);
    gid_t gid = (gid_t)sys_call(SYS_getegid, 0, 0, 0, 0);
    if (sys_call6(SYS_newfstatat, AT_FDCWD, (long)path, (long)&st, 0, 0, 0) != 0) {
        return false; /* exec will say why */
    }
    if (uid != real || gid != (gid_t)sys_call(SYS_getgid, 0, 0, 0, 0)) {
        return true;
    }
    if (sys_call(SYS_statfs, path, &fs, 0, 0) == 0 && fs.f_flags & ST_NOSUID) {
        return false;
    }
    bool gains = sys_call(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0) != 1;
    bool set_id = (st.st_mode & S_ISUID && st.st_uid != uid) ||
                  ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != gid);
    return (gains && set_id) || (real != 0 && has_capabilities(path, gains));
}

/* "#! interpreter argument" -> interpreter, in place. */
static bool
interpreter(char *head, long n)
{
    head[n] = '\0';
    char *p = head + 2 + strspn(head + 2, " \t");
    size_t len = strcspn(p, " \t\n");
    memmove(head, p, len);
    head[len] = '\0';
    return len > 0;
}

/* From a script to the file that is loaded in the end, whose name may be in name[HEAD]; how much of its head was read,
 * or -errno. */
static long
follow(const char **path, char *name, char *head)
{
    for (int i = 0; i <= SCRIPTS; i++) {
        long n = read_head(*path, head, HEAD - 1, 0);
        if (n < 3 || memcmp(head, "#!", 2) != 0) {
            return n;
        }
        if (!interpreter(head, n)) {
            return -ENOEXEC;
        }
        snprintf(name, HEAD, "%s", head);
        *path = name;
    }
    return -ELOOP;
}

/* A script's own bits mean nothing, those of its interpreter do [bprm_creds_from_file]. */
bool
sym_target_is_secure(const char *path)
{
    char head[HEAD], name[HEAD];
    if (sys_call(SYS_faccessat2, AT_FDCWD, path, X_OK, AT_EACCESS) == -EACCES) {
        return false; /* exec will say so */
    }
    (void)follow(&path, name, head);
    return is_secure(path);
}

/* [elf(5)] A dynamic program names its loader; glibc's are called ld-linux*. */
static bool
has_our_loader(const char *path, const char *head, long n)
{
    Elf64_Ehdr e;
    Elf64_Phdr ph;
    char loader[256];
    if (n < (long)sizeof(e)) {
        return false;
    }
    memcpy(&e, head, sizeof(e));
    if (memcmp(e.e_ident, ELFMAG, SELFMAG) != 0 || e.e_ident[EI_CLASS] != ELFCLASS64 ||
#if defined(__x86_64__)
        e.e_machine != EM_X86_64 ||
#elif defined(__aarch64__)
        e.e_machine != EM_AARCH64 ||
#endif
        e.e_phentsize != sizeof(ph)) {
        return false;
    }
    for (unsigned i = 0; i < e.e_phnum; i++) {
        long at = (long)(e.e_phoff + i * sizeof(ph));
        if (read_head(path, (char *)&ph, sizeof(ph), at) != (long)sizeof(ph)) {
            return false;
        }
        if (ph.p_type == PT_INTERP) {
            long len = read_head(path, loader, sizeof(loader) - 1, (long)ph.p_offset);
            loader[len > 0 ? len : 0] = '\0';
            const char *base = strrchr(loader, '/');
            return base && strncmp(base, "/ld-linux", 9) == 0;
        }
    }
    return false;
}

bool
sym_target_can_follow(const char *path)
{
    char head[HEAD], name[HEAD];
    const char *own = strstr(shim_env.preload, "libmesh.so");
    while (own && own > shim_env.preload && own[-1] != ':' && own[-1] != ' ') {
        own--;
    }
    size_t len = own ? strcspn(own, ": ") : 0;
    if (len == 0 || len >= sizeof(name)) {
        return false;
    }
    memcpy(name, own, len);
    name[len] = '\0';
    if (sys_call(SYS_faccessat, AT_FDCWD, name, R_OK, 0) != 0) {
        return false; /* in a chroot, say */
    }
    long n = follow(&path, name, head);
    if (n == -ENOENT || n == -ENOTDIR) {
        return true; /* exec fails, and the caller still has its connections */
    }
    return n > 0 && !is_secure(path) && has_our_loader(path, head, n);
}
