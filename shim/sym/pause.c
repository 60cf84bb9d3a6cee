/* SPDX-License-Identifier: Apache-2.0
 *
 * Exported symbols: waits that have nothing to do with descriptors. A program may sit in one of
 * them while the peer waits for its handshake, so they drive our work first [DESIGN D11].
 */
#include <sys/wait.h>
#include <unistd.h>

#include "shim/ready/ready.h"
#include "shim/sym/sym.h"

/* Drives until nothing is left, the deadline, or a signal; true when a handler has run. */
static bool
drive_until(uint64_t deadline)
{
    int saved = errno;
    pthread_testcancel(); /* there may be nothing to sleep for */
    while (shim_work_any() && shim_now() < deadline) {
        if (shim_work_wait(NULL, 0, deadline, NULL, NULL) == -EINTR) {
            errno = saved;
            return true;
        }
    }
    errno = saved;
    return false;
}

#define CHILD_TICK UINT64_C(5000000)

/* A child's end is no descriptor: looked for in between. Not for connections that end by time, which may do
 * so for hours; who waits here looks at none of them. */
SHIM_EXPORT pid_t
wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
    while (shim_work_items() && !(options & WNOHANG) && shim_fdtab_may_write()) {
        pid_t r = shim_real.wait4(pid, status, options | WNOHANG, usage);
        if (r != 0) {
            return r;
        }
        if (drive_until(shim_now() + CHILD_TICK) && !shim_io_restarts()) {
            errno = EINTR;
            return -1;
        }
    }
    return shim_real.wait4(pid, status, options, usage);
}

SHIM_EXPORT pid_t
waitpid(pid_t pid, int *status, int options)
{
    return shim_work_items() ? wait4(pid, status, options, NULL)
                             : shim_real.waitpid(pid, status, options);
}

SHIM_EXPORT pid_t
wait(int *status)
{
    return shim_work_items() ? wait4(-1, status, 0, NULL) : shim_real.wait(status);
}

/* What is left of a relative sleep after driving; interrupted: as the handler left it. */
static int
sleep_rest(uint64_t deadline, struct timespec *rest, bool interrupted)
{
    uint64_t now = shim_now(), left = deadline > now ? deadline - now : 0;
    struct timespec ts = {(time_t)(left / 1000000000), (long)(left % 1000000000)};
    if (interrupted) {
        if (rest) {
            *rest = ts;
        }
        errno = EINTR;
        return -1;
    }
    return left ? shim_real.nanosleep(&ts, rest) : 0;
}

static bool
is_valid(const struct timespec *ts)
{
    return ts && ts->tv_sec >= 0 && ts->tv_nsec >= 0 && ts->tv_nsec < 1000000000;
}

SHIM_EXPORT int
nanosleep(const struct timespec *ts, struct timespec *rest)
{
    if (!shim_work_any() || !is_valid(ts)) {
        return shim_real.nanosleep(ts, rest);
    }
    uint64_t deadline = shim_ready_deadline(ts);
    return sleep_rest(deadline, rest, drive_until(deadline));
}

SHIM_EXPORT int
clock_nanosleep(clockid_t clock, int flags, const struct timespec *ts, struct timespec *rest)
{
    struct timespec now;
    if (!shim_work_any() || !is_valid(ts) || clock_gettime(clock, &now) != 0) {
        return shim_real.clock_nanosleep(clock, flags, ts, rest);
    }
    int64_t left = (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
    if (flags & TIMER_ABSTIME) {
        left -= (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }
    uint64_t deadline = shim_now() + (left > 0 ? (uint64_t)left : 0);
    bool interrupted = drive_until(deadline);
    if (flags & TIMER_ABSTIME) {
        return interrupted ? EINTR : shim_real.clock_nanosleep(clock, flags, ts, rest);
    }
    int saved = errno;
    int r = sleep_rest(deadline, rest, interrupted) == 0 ? 0 : errno;
    errno = saved;
    return r;
}

SHIM_EXPORT unsigned
sleep(unsigned seconds)
{
    struct timespec ts = {(time_t)seconds, 0}, rest = {0, 0};
    if (!shim_work_any()) {
        return shim_real.sleep(seconds);
    }
    return nanosleep(&ts, &rest) == 0 ? 0 : (unsigned)rest.tv_sec + (rest.tv_nsec >= 500000000);
}

SHIM_EXPORT int
usleep(useconds_t us)
{
    struct timespec ts = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    return shim_work_any() ? nanosleep(&ts, NULL) : shim_real.usleep(us);
}
