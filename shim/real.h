/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_real: the way down, past our own symbols. Two doors:
 *  - shim_real.NAME: the next definition of NAME in the program (libc's, or another preload's).
 *    Keeps cancellation points and other interposers working. Before the constructor has run they
 *    are bare system calls, so that an allocator that reads a file while it starts is safe.
 *  - sys_*(): system calls by instruction, for what the engine does on its own account. They are
 *    no cancellation points, touch neither errno nor any lock, and return -errno. What a filter
 *    of the program's own forbids is not called at all (filter.h).
 * The only file that calls dlsym or dlopen.
 */
#ifndef SHIM_REAL_H
#define SHIM_REAL_H

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

struct aiocb;
struct aiocb64;
struct iocb;
struct addrinfo;
struct gaicb;
struct hostent;

struct shim_real {
#define SYM(ret, name, nr, params) ret(*name) params;
#include "shim/sym/symbols.def"
#undef SYM
};
extern struct shim_real shim_real;

/* libc's streams, as shim/core/stdio.h needs them; NULL or 0 where this libc is another one. */
struct shim_real_stdio {
    void **file, **wfile;                  /* _IO_file_jumps, _IO_wfile_jumps */
    uintptr_t read, write, close;          /* the functions that their slots are known to hold */
    uintptr_t relro, relro_end;            /* the read-only pages around them */
    void *err;                             /* the object stderr points to when a program starts */
    FILE **list;                           /* _IO_list_all: every open stream */
    void (*list_lock)(void), (*list_unlock)(void), (*list_reset)(void);
};
extern struct shim_real_stdio shim_real_stdio;

/* Resolves everything; once, from the constructor. No system call. */
void shim_real_init(void);
/* A symbol of a library that is loaded for the first time here; NULL on failure. */
void *shim_real_load(const char *path, const char *symbol);
/* What the loader finds by that name for a library that dlopen returned, or 0. dlerror(3) has nothing of it. */
uintptr_t shim_real_symbol(void *lib, const char *name);
/* The next dlopen, also before everything is resolved: for who must jump there, not call. */
uintptr_t shim_real_dlopen(void);
/* False: shim_real_init is still to come, other libraries' constructors run. */
bool shim_real_is_ready(void);
/* The file that holds this code, "" if unknown. */
const char *shim_real_self(void);

static inline long
sys_raw6(long n, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long ret;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
#else
#error "this processor is not supported yet"
#endif
}

/* The program's filters that are in force, and what stands in for a call then (filter.h). */
extern _Atomic int shim_filter_count;
long shim_filter_call(long n, long a, long b, long c, long d, long e, long f);
long shim_filter_recv(int fd, void *buf, size_t n, int flags);
long shim_filter_send(int fd, const void *buf, size_t n, int flags);
long shim_filter_poll(struct pollfd *p, nfds_t n, int ms);

static inline bool
shim_filter_any(void)
{
    return __builtin_expect(atomic_load_explicit(&shim_filter_count, memory_order_relaxed) > 0, 0);
}

static inline long
sys_call6(long n, long a, long b, long c, long d, long e, long f)
{
    return shim_filter_any() ? shim_filter_call(n, a, b, c, d, e, f)
                             : sys_raw6(n, a, b, c, d, e, f);
}

#define sys_call(n, a, b, c, d) \
    sys_call6((n), (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

static inline long
sys_recv(int fd, void *buf, size_t n, int flags)
{
    return shim_filter_any() ? shim_filter_recv(fd, buf, n, flags)
                             : sys_raw6(SYS_recvfrom, fd, (long)buf, (long)n, flags, 0, 0);
}

static inline long
sys_send(int fd, const void *buf, size_t n, int flags)
{
    flags |= MSG_NOSIGNAL;
    return shim_filter_any() ? shim_filter_send(fd, buf, n, flags)
                             : sys_raw6(SYS_sendto, fd, (long)buf, (long)n, flags, 0, 0);
}

static inline long
sys_close(int fd)
{
    return sys_call(SYS_close, fd, 0, 0, 0);
}

static inline long
sys_getsockopt(int fd, int level, int opt, void *val, socklen_t *len)
{
    return sys_call6(SYS_getsockopt, fd, level, opt, (long)val, (long)len, 0);
}

static inline long
sys_setsockopt(int fd, int level, int opt, const void *val, socklen_t len)
{
    return sys_call6(SYS_setsockopt, fd, level, opt, (long)val, (long)len, 0);
}

static inline long
sys_fcntl(int fd, int cmd, long arg)
{
    return sys_call(SYS_fcntl, fd, cmd, arg, 0);
}

static inline int
sys_gettid(void)
{
    return (int)sys_call(SYS_gettid, 0, 0, 0, 0);
}

static inline int
sys_getpid(void)
{
    return (int)sys_call(SYS_getpid, 0, 0, 0, 0);
}

/* poll without a signal mask; timeout in milliseconds, -1 for ever. */
static inline long
sys_poll(struct pollfd *p, nfds_t n, int ms)
{
    struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};
    if (shim_filter_any()) {
        return shim_filter_poll(p, n, ms);
    }
    return sys_raw6(SYS_ppoll, (long)p, (long)n, ms < 0 ? 0 : (long)&ts, 0, 8, 0);
}

/* libc's own clock_gettime, whoever else has replaced it for the program: the vDSO's, no lock,
 * signal-safe. */
extern int (*_Atomic shim_real_clock)(clockid_t clock, struct timespec *ts);

/* May the processor's time stamp counter be read, which the vDSO does? Otherwise the clocks are those of the
 * kernel's last tick. For all threads, also where the kernel forbids it to one [PR_SET_TSC(2const)]. */
void shim_real_use_counter(bool may);

/* CLOCK_MONOTONIC in nanoseconds. */
static inline uint64_t
shim_now(void)
{
    struct timespec ts;
    (void)shim_real_clock(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* The same as of the kernel's last tick, up to SHIM_TICK ago, for an eighth of the time. */
#define SHIM_TICK UINT64_C(10000000)
static inline uint64_t
shim_tick(void)
{
    struct timespec ts;
    (void)shim_real_clock(CLOCK_MONOTONIC_COARSE, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

#endif
