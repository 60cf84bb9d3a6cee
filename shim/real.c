/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_real: see real.h. Until the constructor has run, each entry is a thunk: a bare system call
 * where the symbol is one, else a lookup on demand.
 */
#include "shim/real.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <unistd.h>

/* Architectures younger than x86-64 have only the general forms of these. */
#ifndef SYS_poll
#define SYS_poll -1
#endif
#ifndef SYS_select
#define SYS_select -1
#endif
#ifndef SYS_epoll_create
#define SYS_epoll_create -1
#endif
#ifndef SYS_epoll_wait
#define SYS_epoll_wait -1
#endif
#ifndef SYS_dup2
#define SYS_dup2 -1
#endif

/* Six words cover every system call here; the callee ignores what it does not use. */
static long
early_call(long nr, long a, long b, long c, long d, long e, long f)
{
    long r = sys_call6(nr, a, b, c, d, e, f);
    if (r < 0 && r > -4096) {
        errno = (int)-r;
        return -1;
    }
    return r;
}

/* The thunks take eight words whatever the symbol's type: on the supported calling conventions integer
 * and pointer arguments travel in the same registers, and those beyond in the caller's frame, where what
 * was not passed is still memory. */
#define SYM(ret, name, nr, params)                                                             \
    static long early_##name(long a, long b, long c, long d, long e, long f, long g, long h)   \
    {                                                                                          \
        if ((nr) >= 0) {                                                                       \
            return early_call((nr), a, b, c, d, e, f);                                         \
        }                                                                                      \
        long (*fn)(long, long, long, long, long, long, long, long) =                           \
            (long (*)(long, long, long, long, long, long, long, long))(uintptr_t)dlsym(        \
                RTLD_NEXT, #name);                                                             \
        if (!fn) {                                                                             \
            errno = ENOSYS;                                                                    \
            return -1;                                                                         \
        }                                                                                      \
        return fn(a, b, c, d, e, f, g, h);                                                     \
    }
#include "shim/sym/symbols.def"
#undef SYM

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wcast-function-type"
struct shim_real shim_real = {
#define SYM(ret, name, nr, params) .name = (ret(*) params)early_##name,
#include "shim/sym/symbols.def"
#undef SYM
};
#pragma GCC diagnostic pop

struct shim_real_stdio shim_real_stdio;

static int
kernel_clock(clockid_t clock, struct timespec *ts)
{
    return (int)sys_call(SYS_clock_gettime, clock, ts, 0, 0);
}

typedef int clock_fn(clockid_t, struct timespec *);

clock_fn *_Atomic shim_real_clock = kernel_clock;
static clock_fn *exact = kernel_clock;

static void
find_clock(void)
{
    void *libc = shim_real.dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    void *p = libc ? dlsym(libc, "clock_gettime") : NULL;
    if (p) {
        exact = (clock_fn *)(uintptr_t)p;
        shim_real_clock = exact;
    }
}

/* These alone need no more than memory. */
static int
tick_clock(clockid_t clock, struct timespec *ts)
{
    return exact(clock == CLOCK_REALTIME ? CLOCK_REALTIME_COARSE : CLOCK_MONOTONIC_COARSE, ts);
}

void
shim_real_use_counter(bool may)
{
    shim_real_clock = may ? exact : tick_clock;
}

/* Which pages the loader made read-only, in the object that holds the tables [elf(5)]. */
static int
find_relro(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct shim_real_stdio *io = arg;
    uintptr_t at = (uintptr_t)io->file, page = getauxval(AT_PAGESZ);
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + p->p_vaddr, to = from + p->p_memsz;
        if (p->p_type == PT_GNU_RELRO && at >= from && at < to) {
            io->relro = from & -page;
            io->relro_end = to & -page;
            return 1;
        }
    }
    return 0;
}

static void
find_stdio(struct shim_real_stdio *io)
{
    io->file = dlsym(RTLD_NEXT, "_IO_file_jumps");
    io->wfile = dlsym(RTLD_NEXT, "_IO_wfile_jumps");
    io->read = (uintptr_t)dlsym(RTLD_NEXT, "_IO_file_read");
    io->write = (uintptr_t)dlsym(RTLD_NEXT, "_IO_file_write");
    io->close = (uintptr_t)dlsym(RTLD_NEXT, "_IO_file_close");
    io->err = dlsym(RTLD_NEXT, "_IO_2_1_stderr_");
    io->list = dlsym(RTLD_NEXT, "_IO_list_all");
    io->list_lock = (void (*)(void))(uintptr_t)dlsym(RTLD_NEXT, "_IO_list_lock");
    io->list_unlock = (void (*)(void))(uintptr_t)dlsym(RTLD_NEXT, "_IO_list_unlock");
    io->list_reset = (void (*)(void))(uintptr_t)dlsym(RTLD_NEXT, "_IO_list_resetlock");
    if (io->file) {
        (void)dl_iterate_phdr(find_relro, io);
    }
}

void
shim_real_init(void)
{
    void *p;
    find_clock();
    find_stdio(&shim_real_stdio);
#define SYM(ret, name, nr, params)                                  \
    p = dlsym(RTLD_NEXT, #name);                                    \
    if (p) {                                                        \
        shim_real.name = (ret(*) params)(uintptr_t)p;               \
    }
#include "shim/sym/symbols.def"
#undef SYM
}

void *
shim_real_load(const char *path, const char *symbol)
{
    void *lib = shim_real.dlopen(path, RTLD_NOW | RTLD_LOCAL);
    return lib ? dlsym(lib, symbol) : NULL;
}

uintptr_t
shim_real_symbol(void *lib, const char *name)
{
    void *p = dlsym(lib, name);
    if (!p) {
        (void)dlerror();
    }
    return (uintptr_t)p;
}

uintptr_t
shim_real_dlopen(void)
{
    return shim_real_is_ready() ? (uintptr_t)shim_real.dlopen : (uintptr_t)dlsym(RTLD_NEXT, "dlopen");
}

bool
shim_real_is_ready(void)
{
    return (uintptr_t)shim_real.dlopen != (uintptr_t)early_dlopen;
}

const char *
shim_real_self(void)
{
    Dl_info info;
    if (!dladdr((void *)(uintptr_t)&shim_real_self, &info) || !info.dli_fname) {
        return "";
    }
    return info.dli_fname;
}
