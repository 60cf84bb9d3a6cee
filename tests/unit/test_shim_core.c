/* SPDX-License-Identifier: Apache-2.0
 *
 * The shim's core: slots and their generations, the spill pool, locks whose holder dies, the
 * descriptor table, the cursor over a program's buffers, and room for numbers.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/core/env.h"
#include "shim/core/fdtab.h"
#include "shim/core/region.h"
#include "shim/core/room.h"
#include "shim/core/slot.h"
#include "shim/core/stat.h"
#include "shim/flow/audit.h"
#include "shim/flow/iov.h"
#include "shim/real.h"

START_TEST(a_freed_slot_is_not_found_by_its_old_handle)
{
    ck_assert(shim_region_init());
    struct shim_slot *s = shim_slot_alloc();
    ck_assert_ptr_nonnull(s);
    uint32_t handle = shim_slot_handle(s);
    ck_assert_ptr_eq(shim_slot_current(handle), s);
    ck_assert_uint_eq(atomic_load(&s->refs), 1);
    memset(s->rx_key, 0x5a, sizeof(s->rx_key));
    shim_slot_free(s);
    ck_assert_ptr_null(shim_slot_current(handle));
    for (size_t i = 0; i < sizeof(s->rx_key); i++) {
        ck_assert_uint_eq(s->rx_key[i], 0); /* keys are wiped */
    }
    struct shim_slot *again = shim_slot_alloc();
    ck_assert_uint_ne(shim_slot_handle(again), handle);
    shim_slot_free(again);
}
END_TEST

START_TEST(slots_run_out_and_come_back)
{
    static struct shim_slot *all[SHIM_SLOTS];
    unsigned n = 0;
    ck_assert(shim_region_init());
    while (n < SHIM_SLOTS && (all[n] = shim_slot_alloc()) != NULL) {
        n++;
    }
    ck_assert_uint_eq(n, SHIM_SLOTS);
    ck_assert_ptr_null(shim_slot_alloc());
    shim_slot_free(all[777]);
    struct shim_slot *s = shim_slot_alloc();
    ck_assert_ptr_eq(s, all[777]);
    for (unsigned i = 0; i < n; i++) {
        shim_slot_free(all[i]);
    }
}
END_TEST

START_TEST(spills_are_bounded_and_wiped)
{
    static uint32_t all[SHIM_SPILLS + 1];
    unsigned n = 0;
    ck_assert(shim_region_init());
    const struct shim_slot *s = shim_slot_at(0);
    while (n <= SHIM_SPILLS && (all[n] = shim_spill_get(s)) != 0) {
        n++;
    }
    ck_assert_uint_eq(n, SHIM_SPILLS);
    memset(shim_spill_at(s, all[5]), 7, SHIM_SPILL_SIZE);
    shim_spill_put(s, all[5]);
    uint32_t again = shim_spill_get(s);
    ck_assert_uint_eq(again, all[5]);
    ck_assert_uint_eq(shim_spill_at(s, again)[SHIM_SPILL_SIZE - 1], 0);
    for (unsigned i = 0; i < n; i++) {
        shim_spill_put(s, all[i]);
    }
    shim_spill_put(s, 0);
    ck_assert_ptr_null(shim_spill_at(s, 0));
    ck_assert_ptr_null(shim_spill_at(s, SHIM_SPILLS + 1));
}
END_TEST

/* Of this build, and as large as it has to be. */
static int
another_region(void)
{
    int fd = memfd_create("region", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, sizeof(struct shim_region)), 0);
    ck_assert_int_eq(pwrite(fd, shim_region()->build, sizeof(shim_region()->build), 0),
                     sizeof(shim_region()->build));
    return fd;
}

START_TEST(a_region_that_can_shrink_is_not_joined)
{
    ck_assert(shim_region_init());
    int fd = another_region(), own = shim_region_fd();
    ck_assert(!shim_region_join(fd, 0));
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
    ck_assert(!shim_region_join(fd, 0));
    ck_assert_ptr_null(shim_region_at(1));
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    ck_assert(shim_region_join(fd, 0));
    ck_assert_ptr_nonnull(shim_region_at(1));
    ck_assert(shim_region_join(fd, 0)); /* again: it is there */
    ck_assert_ptr_null(shim_region_at(2));
    close(fd);
    ck_assert_int_ge(own, 0); /* ours is one that others can join, and nobody can cut */
    ck_assert_int_ne(ftruncate(own, 4096), 0);
    ck_assert_int_eq(fcntl(own, F_GET_SEALS) & F_SEAL_SHRINK, F_SEAL_SHRINK);
    ck_assert(shim_region_join(own, 0));
    ck_assert_ptr_null(shim_region_at(2));
}
END_TEST

START_TEST(a_region_takes_the_place_of_one_that_is_not_needed)
{
    ck_assert(shim_region_init());
    for (unsigned i = 1; i <= SHIM_REGIONS + 1; i++) {
        int fd = another_region();
        struct shim_region *before = shim_region_at(3), *first = shim_region_at(1);
        ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
        if (i < SHIM_REGIONS) {
            ck_assert(shim_region_join(fd, ~0u));
        } else {
            ck_assert(!shim_region_join(fd, ~0u));
            atomic_store(&before->slot[70].rx_sleepers, 1);
            atomic_store(&before->slot_bits[1], 1 << 6);
            ck_assert(!shim_region_join(fd, ~8u)); /* somebody sleeps there */
            atomic_store(&before->slot[70].rx_sleepers, 0);
            ck_assert(shim_region_join(fd, ~8u));
            ck_assert_ptr_ne(shim_region_at(3), before);
            ck_assert_ptr_eq(shim_region_at(1), first);
        }
        close(fd);
    }
}
END_TEST

START_TEST(a_region_of_another_size_or_build_is_not_joined)
{
    ck_assert(shim_region_init());
    int fd = memfd_create("region", MFD_CLOEXEC | MFD_ALLOW_SEALING), p[2];
    ck_assert_int_eq(ftruncate(fd, sizeof(struct shim_region) - 1), 0);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    ck_assert(!shim_region_join(fd, 0));
    close(fd);
    fd = another_region();
    ck_assert_int_eq(pwrite(fd, "x", 1, 3), 1);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    ck_assert(!shim_region_join(fd, 0));
    close(fd);
    ck_assert_int_eq(pipe(p), 0);
    ck_assert(!shim_region_join(p[0], 0));
    ck_assert(!shim_region_join(-1, 0));
    ck_assert_ptr_null(shim_region_at(1));
}
END_TEST

/* The test program stands for the library: it is loaded under a name of its own. */
static void
check_preload(const char *given, const char *before, const char *after)
{
    char want[4096], *self = realpath("/proc/self/exe", NULL);
    ck_assert_int_eq(given ? setenv("LD_PRELOAD", given, 1) : unsetenv("LD_PRELOAD"), 0);
    shim_env_init();
    snprintf(want, sizeof(want), "%s%s%s", before, self, after);
    free(self);
    ck_assert_str_eq(shim_env.preload, want);
}

START_TEST(the_child_gets_us_once)
{
    char self[1100], *path = realpath("/proc/self/exe", NULL), many[2100] = "/a.so:";
    check_preload(NULL, "", "");
    check_preload("", "", "");
    check_preload("/a.so", "/a.so:", "");
    check_preload("/a.so /b.so:", "/a.so:/b.so:", "");
    check_preload("/x/libmesh.so", "", "");
    check_preload("/a.so:/x/libmesh.so /b.so", "/a.so:", ":/b.so");
    check_preload("libmesh.so:/b.so:/x/libmesh.so", "", ":/b.so");
    snprintf(self, sizeof(self), "/a.so:%s:/b.so", path);
    free(path);
    check_preload(self, "/a.so:", ":/b.so");
    check_preload("/x/notlibmesh.so", "/x/notlibmesh.so:", "");
    memset(many + 6, 'x', 2000);
    check_preload(many, "", "");
    ck_assert_int_eq(unsetenv("LD_PRELOAD"), 0);
}
END_TEST

static void
never(struct shim_slot *s)
{
    (void)s;
    ck_abort_msg("it is held");
}

static unsigned ended;
static void
end(struct shim_slot *s)
{
    ended++;
    shim_slot_free(s);
}

static void
sweep(void (*last)(struct shim_slot *))
{
    atomic_store(&shim_region()->allocs, 100000);
    shim_slot_sweep(last);
}

static uint32_t
seconds_since_boot(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint32_t)ts.tv_sec;
}

static pid_t
idle_child(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (;;) {
            pause();
        }
    }
    return pid;
}

/* Numbers of processes come round: who has the number now is not who held the connection. */
START_TEST(a_number_that_is_used_again)
{
    struct shim_slot *s;
    FILE *f;
    int go[2];
    char c;
    ck_assert(shim_region_init());
    s = shim_slot_alloc();
    atomic_store(&s->cookie, 4711);
    ck_assert_int_eq(pipe(go), 0);
    pid_t pid = fork();
    if (pid == 0) {
        shim_slot_hold(s, getpid(), 1);
        _exit(write(go[1], "x", 1) != 1);
    }
    ck_assert_int_eq(read(go[0], &c, 1), 1);
    ck_assert_uint_eq(shim_slot_release(s, shim_fdtab_owner(), 1), 1);
    for (uint32_t now = seconds_since_boot(); seconds_since_boot() == now;) {
        (void)poll(NULL, 0, 10); /* a process of a later second */
    }
    waitpid(pid, NULL, 0);
    f = fopen("/proc/sys/kernel/ns_last_pid", "w");
    if (f) {
        fprintf(f, "%d", (int)pid - 1);
    }
    pid_t again = f && fclose(f) == 0 ? idle_child() : 0;
    sweep(end);
    ck_assert_uint_eq(ended, 1);
    if (again > 0) {
        kill(again, SIGKILL);
        waitpid(again, NULL, 0);
    }
    printf("the number %s\n", again == pid ? "was used again" : "could not be used again here");

    s = shim_slot_alloc(); /* and who is there is left alone, how ever long */
    atomic_store(&s->cookie, 4712);
    pid = idle_child();
    for (uint32_t now = seconds_since_boot(); seconds_since_boot() == now;) {
        (void)poll(NULL, 0, 10);
    }
    shim_slot_hold(s, pid, 1);
    ck_assert_uint_eq(shim_slot_release(s, shim_fdtab_owner(), 1), 1);
    sweep(never);
    ck_assert_uint_eq(shim_slot_share(s, pid), 1);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    sweep(end);
    ck_assert_uint_eq(ended, 2);
}
END_TEST

START_TEST(a_lock_survives_its_holder)
{
    struct shim_lock *l = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(l, MAP_FAILED);
    pid_t pid = fork();
    if (pid == 0) {
        shim_lock_forked(false);
        _exit(shim_lock_get(l) ? 0 : 1); /* dies with it */
    }
    siginfo_t si;
    int st = 0;
    ck_assert_int_eq(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0); /* a zombie */
    ck_assert_int_eq(shim_lock_wait(l), SHIM_LOCK_INHERITED);
    shim_lock_put(l);
    ck_assert_int_eq(waitpid(pid, &st, 0), pid);
    ck_assert_int_eq(st, 0);
    munmap(l, 4096);
}
END_TEST

/* A child that takes the lock of s, stops, and puts it back when it may go on. */
static pid_t
stopped_holder(struct shim_slot *s)
{
    int st = 0;
    pid_t pid = fork();
    if (pid == 0) {
        shim_lock_forked(false);
        bool got = shim_lock_get(&s->tx_lock);
        raise(SIGSTOP);
        shim_lock_put(&s->tx_lock);
        _exit(got && shim_slot_has(s, SHIM_SF_TX_DEAD) ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &st, WUNTRACED), pid);
    ck_assert(WIFSTOPPED(st));
    return pid;
}

static uint64_t
died(void)
{
    return atomic_load(&atomic_load(&shim_page)->err[MESH_E_HOLDER_DIED]);
}

START_TEST(nobody_waits_for_ever_for_one_that_is_stopped)
{
    int p[2], st = 0;
    char c;
    ck_assert(shim_region_init());
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
    struct shim_slot *s = shim_slot_alloc();
    pid_t pid = stopped_holder(s);
    shim_lock_stuck_ns = UINT64_C(200000000);
    uint64_t before = died(), start = shim_now();
    ck_assert_int_eq(shim_audit_tx(p[0], s, true), -EAGAIN); /* a look does not wait */
    ck_assert_int_eq(shim_audit_tx(p[0], s, false), -ECONNRESET);
    ck_assert_uint_ge(shim_now() - start, shim_lock_stuck_ns);
    ck_assert(shim_slot_has(s, SHIM_SF_RX_DEAD) && shim_slot_has(s, SHIM_SF_TX_DEAD));
    ck_assert_uint_eq(died(), before + 1);
    ck_assert_int_eq(read(p[1], &c, 1), 0); /* and the holder's socket is shut down */
    shim_lock_stuck_ns = UINT64_C(3600000000000);
    ck_assert_int_eq(shim_audit_tx(p[0], s, false), -ECONNRESET); /* at once */
    ck_assert_uint_eq(died(), before + 1);
    ck_assert_int_eq(kill(pid, SIGCONT), 0);
    ck_assert_int_eq(waitpid(pid, &st, 0), pid);
    ck_assert_int_eq(st, 0);
    ck_assert_int_eq(shim_audit_tx(p[0], s, false), 0); /* it gave the lock back */
    shim_lock_put(&s->tx_lock);
    shim_slot_free(s);
    close(p[0]);
    close(p[1]);
}
END_TEST

/* Stopped and gone on in time: as if nothing had been. */
START_TEST(one_that_goes_on_is_waited_for)
{
    int st = 0;
    ck_assert(shim_region_init());
    struct shim_slot *s = shim_slot_alloc();
    pid_t pid = stopped_holder(s), other = fork();
    if (other == 0) {
        shim_lock_forked(false);
        _exit(shim_audit_tx(-1, s, false) == 0 ? 0 : 1);
    }
    while (atomic_load(&s->tx_lock.waiters) == 0) {
        sched_yield();
    }
    atomic_fetch_or(&s->flags, SHIM_SF_TX_DEAD); /* what the first one looks for */
    ck_assert_int_eq(kill(pid, SIGCONT), 0);
    ck_assert_int_eq(waitpid(other, &st, 0), other);
    ck_assert_int_eq(st, 0);
    ck_assert_int_eq(waitpid(pid, &st, 0), pid);
    ck_assert_int_eq(st, 0);
    shim_slot_free(s);
}
END_TEST

START_TEST(what_the_dead_held_comes_back)
{
    ck_assert(shim_region_init());
    struct shim_slot *s = shim_slot_alloc(), *other = shim_slot_alloc();
    atomic_store(&s->cookie, 1);
    atomic_store(&other->cookie, 2);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    shim_slot_hold(s, pid, 2);
    shim_slot_hold(other, pid, 1);
    ck_assert_uint_eq(shim_slot_release(s, shim_fdtab_owner(), 1), 2);
    siginfo_t si;
    ck_assert_int_eq(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
    for (int i = 0; i < 3000; i++) { /* it sweeps once in many allocations */
        shim_slot_free(shim_slot_alloc());
        shim_slot_sweep(shim_slot_free);
    }
    ck_assert_uint_eq(atomic_load(&s->cookie), 0);
    ck_assert_uint_eq(atomic_load(&other->cookie), 2);
    ck_assert_uint_eq(atomic_load(&other->refs), 1);
    shim_slot_free(other);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}
END_TEST

static struct shim_lock held;
static enum shim_lock_result seen_by_handler;
static sigjmp_buf way_out;

static void
look(int sig)
{
    (void)sig;
    seen_by_handler = shim_lock_poll(&held);
}

static void
leave(int sig)
{
    look(sig);
    siglongjmp(way_out, 1);
}

static __attribute__((noinline)) void
take_and_raise(void (*handler)(int), int flags)
{
    struct sigaction sa = {.sa_handler = handler, .sa_flags = flags};
    ck_assert(sigaction(SIGUSR1, &sa, NULL) == 0);
    seen_by_handler = SHIM_LOCK_BUSY;
    ck_assert(shim_lock_poll(&held) == SHIM_LOCK_OK);
    raise(SIGUSR1);
    ck_assert_int_eq(seen_by_handler, SHIM_LOCK_OWN);
    shim_lock_put(&held);
}

START_TEST(a_lock_tells_its_own_thread)
{
    static char above[64 << 10]; /* beside the stack or far from it: another one */
    stack_t other = {.ss_sp = above, .ss_size = sizeof(above)};
    take_and_raise(look, 0);
    ck_assert(sigaltstack(&other, NULL) == 0);
    take_and_raise(look, SA_ONSTACK);
    other.ss_flags = SS_DISABLE;
    ck_assert(sigaltstack(&other, NULL) == 0);
}
END_TEST

/* The frame that took it is gone: as if its thread had died. However many others were taken since. */
START_TEST(a_lock_that_was_left_can_be_taken)
{
    struct shim_lock rx = {0}, tx = {0};
    for (int i = 0; i < 20; i++) {
        if (sigsetjmp(way_out, 1) == 0) {
            take_and_raise(leave, 0);
        }
        ck_assert_int_eq(seen_by_handler, SHIM_LOCK_OWN);
        for (int j = 0; j < 20; j++) {
            ck_assert(shim_lock_wait(&rx) == SHIM_LOCK_OK && shim_lock_wait(&tx) == SHIM_LOCK_OK);
            ck_assert(shim_lock_poll(&tx) == SHIM_LOCK_INHERITED); /* not deeper than who took it */
            shim_lock_put(&tx);
            shim_lock_put(&rx);
        }
        ck_assert(shim_lock_poll(&held) == SHIM_LOCK_INHERITED);
        shim_lock_put(&held);
        ck_assert(shim_lock_wait(&held) == SHIM_LOCK_OK);
        shim_lock_put(&held);
    }
}
END_TEST

struct counting {
    struct shim_lock lock;
    unsigned long n;
};

static void *
count(void *arg)
{
    struct counting *c = arg;
    for (int i = 0; i < 20000; i++) {
        ck_assert(shim_lock_get(&c->lock));
        c->n++;
        shim_lock_put(&c->lock);
    }
    return NULL;
}

START_TEST(a_lock_excludes)
{
    struct counting c = {{0, 0}, 0};
    pthread_t t[4];
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_create(&t[i], NULL, count, &c), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
    }
    ck_assert_uint_eq(c.n, 80000);
}
END_TEST

/* What the whole process has read, in calls [proc_pid_io(5)]; a call of its own for each look. */
static unsigned long
reads(void)
{
    unsigned long n = 0;
    FILE *f = fopen("/proc/self/io", "r");
    ck_assert(f != NULL && fscanf(f, "%*s %*u %*s %*u syscr: %lu", &n) == 1);
    fclose(f);
    return n;
}

static void *
hold_once(void *arg)
{
    struct counting *c = arg;
    ck_assert(shim_lock_get(&c->lock));
    c->n++;
    shim_lock_put(&c->lock);
    return NULL;
}

#define TURNS 500

/* Whether a holder died is looked for in /proc, by a descriptor that another thread could have got: only when nothing
 * happens for long, not each time that the lock was put and somebody else was quicker. */
START_TEST(who_waits_for_a_lock_takes_no_descriptor)
{
    struct counting c = {{0, 0}, 0};
    pthread_t t;
    unsigned long before = reads();
    ck_assert(shim_lock_get(&c.lock));
    ck_assert_int_eq(pthread_create(&t, NULL, hold_once, &c), 0);
    for (int woken = 0; woken < TURNS;) {
        long r = syscall(SYS_futex, &c.lock.owner, FUTEX_WAKE, 1, NULL);
        ck_assert_int_ge(r, 0);
        woken += (int)r;
        sched_yield(); /* until it sleeps again */
    }
    shim_lock_put(&c.lock);
    pthread_join(t, NULL);
    ck_assert_uint_eq(c.n, 1);
    ck_assert_uint_lt(reads() - before, TURNS / 2);
}
END_TEST

START_TEST(the_table_knows_its_bounds)
{
    ck_assert(shim_fdtab_set(5, SHIM_FD_CONN, 77));
    ck_assert(shim_fd_is_mesh(5));
    ck_assert_uint_eq(SHIM_FD_INDEX(shim_fd_word(5)), 77);
    ck_assert_int_eq(shim_fdtab_other(shim_fd_word(5), 6), 5);
    ck_assert_int_eq(shim_fdtab_other(shim_fd_word(5), 5), -1);
    ck_assert(!shim_fdtab_set(SHIM_FD_MAX, SHIM_FD_CONN, 1));
    ck_assert(!shim_fdtab_set(-1, SHIM_FD_CONN, 1));
    ck_assert(shim_fdtab_set(SHIM_FD_MAX, SHIM_FD_NONE, 0));
    ck_assert(!shim_fd_is_mesh(-1));
    ck_assert(!shim_fd_is_mesh(SHIM_FD_MAX));
    shim_fdtab_clear_if(5, SHIM_FD_WORD(SHIM_FD_CONN, 78));
    ck_assert(shim_fd_is_mesh(5));
    shim_fdtab_clear_if(5, SHIM_FD_WORD(SHIM_FD_CONN, 77));
    ck_assert(!shim_fd_is_mesh(5));
}
END_TEST

START_TEST(a_cursor_walks_all_shapes)
{
    char a[3] = {0}, b[1] = {0}, d[4] = {0}, out[9] = {0};
    struct iovec v[] = {{a, 3}, {NULL, 0}, {b, 1}, {NULL, 0}, {d, 4}};
    struct shim_iov c;
    ck_assert_int_eq(shim_iov_init(&c, v, 5), 0);
    ck_assert_uint_eq(c.left, 8);
    shim_iov_put(&c, (const uint8_t *)"ab", 2);
    shim_iov_put(&c, (const uint8_t *)"cdef", 4);
    shim_iov_put(&c, (const uint8_t *)"gh", 2);
    ck_assert_uint_eq(c.left, 0);
    ck_assert_int_eq(shim_iov_init(&c, v, 5), 0);
    shim_iov_skip(&c, 1);
    shim_iov_get(&c, (uint8_t *)out, 7);
    ck_assert_str_eq(out, "bcdefgh");
}
END_TEST

START_TEST(a_cursor_refuses_what_cannot_be)
{
    char a[8];
    struct shim_iov c;
    struct iovec low = {(void *)16, 4}, high = {(void *)UINTPTR_MAX, 1};
    struct iovec sum[] = {{a, SIZE_MAX / 2}, {a, SIZE_MAX / 2}}, empty = {NULL, 0};
    ck_assert_int_eq(shim_iov_init(&c, &low, 1), -EFAULT);
    ck_assert_int_eq(shim_iov_init(&c, &high, 1), -EFAULT);
    ck_assert_int_lt(shim_iov_init(&c, sum, 2), 0);
    ck_assert_int_eq(shim_iov_init(&c, &empty, 1), 0);
    ck_assert_uint_eq(c.left, 0);
}
END_TEST

static rlim_t
soft_limit(void)
{
    struct rlimit l;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &l), 0);
    return l.rlim_cur;
}

static _Atomic int makers;

static void *
makes_room(void *made)
{
    atomic_fetch_add(&makers, 1);
    *(bool *)made = shim_room_make();
    atomic_fetch_add(&makers, 1);
    if (*(bool *)made) {
        shim_room_end();
    }
    return NULL;
}

/* The second one must not take the first one's limit for the program's, which has nothing above it. */
START_TEST(threads_make_room_one_after_the_other)
{
    struct rlimit l = {50, 100};
    bool second = false;
    pthread_t t;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &l), 0);
    ck_assert(shim_room_make());
    ck_assert_uint_eq(soft_limit(), 100);
    ck_assert_int_eq(pthread_create(&t, NULL, makes_room, &second), 0);
    while (atomic_load(&makers) == 0) {
        sched_yield();
    }
    for (int i = 0; i < 50 && atomic_load(&makers) == 1; i++) { /* long enough to be told no */
        (void)poll(NULL, 0, 2);
    }
    shim_room_end();
    ck_assert_int_eq(pthread_join(t, NULL), 0);
    ck_assert(second);
    ck_assert_uint_eq(soft_limit(), 50);
}
END_TEST

START_TEST(a_child_has_the_programs_limit)
{
    struct rlimit l = {50, 100};
    int st;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &l), 0);
    ck_assert(shim_room_make());
    pid_t pid = fork();
    if (pid == 0) {
        shim_room_forked();
        bool good = soft_limit() == 50 && shim_room_make();
        shim_room_end();
        _exit(good && soft_limit() == 50 ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &st, 0), pid);
    ck_assert_int_eq(st, 0);
    shim_room_end();
    ck_assert_uint_eq(soft_limit(), 50);
}
END_TEST

/* What the program sets meanwhile stays. */
START_TEST(room_gives_way_to_the_program)
{
    struct rlimit l = {50, 100}, own = {70, 100};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &l), 0);
    ck_assert(shim_room_make());
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &own), 0);
    shim_room_end();
    ck_assert_uint_eq(soft_limit(), 70);
    own.rlim_cur = 100;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &own), 0);
    ck_assert(!shim_room_make());
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("shim core");
    TCase *t = tcase_create("core");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_freed_slot_is_not_found_by_its_old_handle);
    tcase_add_test(t, slots_run_out_and_come_back);
    tcase_add_test(t, spills_are_bounded_and_wiped);
    tcase_add_test(t, a_region_that_can_shrink_is_not_joined);
    tcase_add_test(t, a_region_of_another_size_or_build_is_not_joined);
    tcase_add_test(t, a_region_takes_the_place_of_one_that_is_not_needed);
    tcase_add_test(t, the_child_gets_us_once);
    tcase_add_test(t, a_number_that_is_used_again);
    tcase_add_test(t, a_lock_survives_its_holder);
    tcase_add_test(t, nobody_waits_for_ever_for_one_that_is_stopped);
    tcase_add_test(t, one_that_goes_on_is_waited_for);
    tcase_add_test(t, what_the_dead_held_comes_back);
    tcase_add_test(t, a_lock_tells_its_own_thread);
    tcase_add_test(t, a_lock_that_was_left_can_be_taken);
    tcase_add_test(t, a_lock_excludes);
    tcase_add_test(t, who_waits_for_a_lock_takes_no_descriptor);
    tcase_add_test(t, the_table_knows_its_bounds);
    tcase_add_test(t, a_cursor_walks_all_shapes);
    tcase_add_test(t, a_cursor_refuses_what_cannot_be);
    tcase_add_test(t, threads_make_room_one_after_the_other);
    tcase_add_test(t, a_child_has_the_programs_limit);
    tcase_add_test(t, room_gives_way_to_the_program);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
