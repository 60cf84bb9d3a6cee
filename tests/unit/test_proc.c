/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_proc: the life and death of processes, zombies and main threads that end first.
 */
#include "meshd/base/proc.h"

#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "meshd/base/loop.h"
#include "tests/unit/unit.h"

static unsigned gone;
static pid_t gone_pid;

static void
on_gone(pid_t pid, uint64_t starttime)
{
    (void)starttime;
    gone++;
    gone_pid = pid;
}

static void
setup(void)
{
    gone = 0;
    ck_assert_int_eq(meshd_loop_init(), MESH_OK);
    ck_assert_int_eq(meshd_proc_init(on_gone), MESH_OK);
}

static void
teardown(void)
{
    meshd_proc_fini();
    meshd_loop_fini();
}

static void
run_for(int ms)
{
    uint64_t end = meshd_now_ns() + (uint64_t)ms * 1000000;
    while (meshd_now_ns() < end) {
        event_base_loop(meshd_loop(), EVLOOP_NONBLOCK);
    }
}

static pid_t
child(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    return pid;
}

START_TEST(alive)
{
    uint64_t t = meshd_proc_starttime(getpid());
    ck_assert_uint_gt(t, 0);
    ck_assert(meshd_proc_is_alive(getpid(), t));
    ck_assert(!meshd_proc_is_alive(getpid(), t + 1));
    ck_assert(!meshd_proc_is_alive(0, 0));
    ck_assert(!meshd_proc_is_alive(-1, t));
}
END_TEST

START_TEST(death_is_told_once)
{
    pid_t pid = child();
    uint64_t t = meshd_proc_starttime(pid);
    ck_assert_int_eq(meshd_proc_watch(pid, t), MESH_OK);
    ck_assert_int_eq(meshd_proc_watch(pid, t), MESH_OK);
    run_for(50);
    ck_assert_uint_eq(gone, 0);
    kill(pid, SIGKILL); /* and nobody waits: a zombie is dead */
    UNIT_BECOMES(gone == 1);
    ck_assert_int_eq(gone_pid, pid);
    waitpid(pid, NULL, 0);
    run_for(600);
    ck_assert_uint_eq(gone, 1);
}
END_TEST

START_TEST(already_dead)
{
    pid_t pid = child();
    uint64_t t = meshd_proc_starttime(pid);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    ck_assert_int_eq(meshd_proc_watch(pid, t), MESH_OK);
    UNIT_BECOMES(gone == 1);
}
END_TEST

static void *
stay(void *arg)
{
    (void)arg;
    pause();
    return NULL;
}

START_TEST(main_thread_first)
{
    int up[2];
    char c;
    ck_assert_int_eq(pipe(up), 0);
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t t;
        if (pthread_create(&t, NULL, stay, NULL) == 0 && write(up[1], "x", 1) == 1) {
            pthread_exit(NULL);
        }
        _exit(1);
    }
    ck_assert_int_eq(read(up[0], &c, 1), 1);
    uint64_t t = meshd_proc_starttime(pid);
    ck_assert_uint_gt(t, 0);
    ck_assert_int_eq(meshd_proc_watch(pid, t), MESH_OK);
    run_for(700);
    ck_assert(meshd_proc_is_alive(pid, t));
    ck_assert_uint_eq(gone, 0);
    kill(pid, SIGKILL);
    UNIT_BECOMES(gone == 1);
    waitpid(pid, NULL, 0);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("proc");
    TCase *t = tcase_create("proc");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 20);
    tcase_add_test(t, alive);
    tcase_add_test(t, death_is_told_once);
    tcase_add_test(t, already_dead);
    tcase_add_test(t, main_thread_first);
    suite_add_tcase(s, t);
    return unit_run(s);
}
