/* SPDX-License-Identifier: Apache-2.0
 *
 * nomem: a preload that stands before libmesh and lets memory run out when the program says so:
 * nomem_arm(n, lasting) lets the n-th request from now on fail, or that and all after it;
 * nomem_arm(0, 0) ends it and tells how many requests there were. malloc, calloc, realloc and mmap;
 * and what the engine asks of its own allocator, if it is the one that was built for this.
 */
/* cc: -shared -fPIC */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int nomem_fails(void);
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t each);
extern void *__libc_realloc(void *p, size_t n);

static atomic_long count, fail_at, lasting;

long
nomem_arm(long n, int all)
{
    long seen = atomic_exchange(&count, 0);
    lasting = all;
    fail_at = n;
    return seen;
}

int
nomem_fails(void)
{
    long at = fail_at, now = at ? ++count : 0;
    if (at == 0 || now < at || (now > at && !lasting))
        return 0;
    errno = ENOMEM;
    return 1;
}

void *
malloc(size_t n)
{
    return nomem_fails() ? NULL : __libc_malloc(n);
}

void *
calloc(size_t n, size_t each)
{
    return nomem_fails() ? NULL : __libc_calloc(n, each);
}

void *
realloc(void *p, size_t n)
{
    return nomem_fails() ? NULL : __libc_realloc(p, n);
}

void *
mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
    if (nomem_fails())
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, n, prot, flags, fd, off);
}
