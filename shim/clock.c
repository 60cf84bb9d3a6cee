/* SPDX-License-Identifier: Apache-2.0
 *
 * The time of day for libmesh-engine.so, OpenSSL included: the kernel's. A program may have been given
 * another one by a library that replaces libc's functions, and certificates must not care. The linker
 * leads the names here (--wrap); asked a few times a handshake, so the system call will do.
 */
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

time_t __wrap_time(time_t *out);
int __wrap_gettimeofday(struct timeval *tv, void *zone);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);

int
__wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
    return syscall(SYS_clock_gettime, clock, ts) == 0 ? 0 : -1;
}

time_t
__wrap_time(time_t *out)
{
    struct timespec ts = {0, 0};
    (void)__wrap_clock_gettime(CLOCK_REALTIME, &ts);
    if (out) {
        *out = ts.tv_sec;
    }
    return ts.tv_sec;
}

int
__wrap_gettimeofday(struct timeval *tv, void *zone)
{
    struct timespec ts = {0, 0};
    (void)zone;
    (void)__wrap_clock_gettime(CLOCK_REALTIME, &ts);
    *tv = (struct timeval){ts.tv_sec, ts.tv_nsec / 1000};
    return 0;
}
