/* SPDX-License-Identifier: Apache-2.0
 *
 * The statistics page as the shim keeps it: who is deciding, and who let go of a listener.
 */
#include <check.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/core/stat.h"

static struct mesh_page *
page_new(void)
{
    struct mesh_page *p = mmap(NULL, MESH_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(p, MAP_FAILED);
    return p;
}

/* In its own word of the page, which nobody else takes for his; a child that returns into a choice takes
 * nothing away that its parent counts; and what one that was killed left is cleared by the next in its place. */
START_TEST(who_is_deciding)
{
    struct mesh_page *p = page_new();
    p->pids[0] = getppid();
    p->deciding[1] = 5;
    shim_stat_page(p);
    ck_assert_int_eq(p->pids[1], getpid());
    ck_assert_uint_eq(p->deciding[1], 0);
    struct shim_deciding d = shim_stat_decide(), above = shim_stat_decide();
    ck_assert_uint_eq(p->deciding[1], 2);
    pid_t child = fork();
    if (child == 0) {
        shim_stat_forked();
        shim_stat_decided(d);
        struct shim_deciding its = shim_stat_decide();
        bool ok = p->pids[2] == getpid() && p->deciding[2] == 1;
        shim_stat_decided(its);
        _exit(!ok || p->deciding[2] != 0);
    }
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    ck_assert_uint_eq(p->deciding[1], 2);
    shim_stat_decided(above);
    shim_stat_decided(d);
    ck_assert_uint_eq(p->deciding[1], 0);
    p->deciding[1] = 3; /* of threads that exec ended: the image has the page, the number and the place */
    shim_stat_page(p);
    ck_assert_uint_eq(p->deciding[1], 0);
}
END_TEST

static sigjmp_buf out;

static void
jump(int sig)
{
    siglongjmp(out, sig);
}

/* What would make `drain --wait` wait for this process for ever. */
START_TEST(nobody_jumps_out_of_a_decision)
{
    struct mesh_page *p = page_new();
    const struct sigaction sa = {.sa_handler = jump};
    static volatile int decided;
    sigset_t mask;
    shim_stat_page(p);
    ck_assert_int_eq(sigaction(SIGUSR1, &sa, NULL), 0);
    if (sigsetjmp(out, 1) == 0) {
        struct shim_deciding d = shim_stat_decide(), above = shim_stat_decide();
        raise(SIGUSR1);
        shim_stat_decided(above);
        decided = 1;
        shim_stat_decided(d);
        ck_abort_msg("the signal never came");
    }
    ck_assert_int_eq(decided, 1);
    ck_assert_uint_eq(p->deciding[0], 0);
    ck_assert_int_eq(sigprocmask(SIG_BLOCK, NULL, &mask), 0);
    ck_assert(!sigismember(&mask, SIGUSR1));
}
END_TEST

static int
status_of(pid_t child)
{
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

/* What a child lets go of is in its own word; its children begin with that, whatever their place or number had before. Its
 * parent holds the listener until it says so, or is dead. */
START_TEST(who_lets_go)
{
    struct mesh_page *p = page_new();
    const uint64_t a = 70, b = 71, bit = MESH_PAGE_LISTENER(a);
    pid_t me = getpid();
    p->left[0] = p->left[1] = p->left[2] = UINT64_MAX; /* of processes before */
    shim_stat_page(p);
    ck_assert_uint_eq(p->left[0], 0);
    pid_t child = fork();
    if (child == 0) {
        p->pids[1] = getpid(); /* as of one that is dead */
        shim_stat_forked();
        bool ok = p->left[1] == 0 && shim_stat_let_go(a, me) && p->left[1] == bit && p->left[0] == 0;
        if (ok && fork() == 0) {
            shim_stat_forked();
            ok = p->left[2] == bit;
            shim_stat_holds(a); /* it has come by it again */
            _exit(!ok || p->left[2] != 0);
        }
        int status = -1;
        _exit(!ok || wait(&status) < 0 || status != 0);
    }
    ck_assert_int_eq(status_of(child), 0);
    ck_assert(!shim_stat_let_go(a, me)); /* its own */
    ck_assert_uint_eq(p->left[0], bit);
    child = fork();
    if (child == 0) {
        shim_stat_forked();
        _exit(shim_stat_let_go(a, me) || !shim_stat_let_go(b, me));
    }
    ck_assert_int_eq(status_of(child), 0);
    ck_assert(!shim_stat_let_go(b, child)); /* dead */
}
END_TEST

/* A page on which everybody lives asks for few of them, takes new places in turn and says when there are none; when
 * all but one live, that one's place is found. Processes that come and go share few places. */
START_TEST(places)
{
    struct mesh_page *p = page_new();
    shim_stat_page(p);
    for (unsigned i = 1; i < MESH_PAGE_PIDS - 1; i++) {
        p->pids[i] = getppid();
    }
    pid_t child = fork();
    if (child == 0) {
        shim_stat_forked();
        _exit(p->pids[MESH_PAGE_PIDS - 1] != getpid() || p->pids_full);
    }
    ck_assert_int_eq(status_of(child), 0);
    p->pids[MESH_PAGE_PIDS - 1] = getppid();
    p->pids[100] = child; /* gone, and its number not yet another's */
    child = fork();
    if (child == 0) {
        shim_stat_forked();
        _exit(p->pids[100] != getpid() || p->pids_full);
    }
    ck_assert_int_eq(status_of(child), 0);
    p->pids[100] = getppid();
    child = fork();
    if (child == 0) {
        shim_stat_forked();
        _exit(!p->pids_full);
    }
    ck_assert_int_eq(status_of(child), 0);
    p = page_new();
    shim_stat_page(p);
    for (unsigned i = 0; i < 200; i++) {
        child = fork();
        if (child == 0) {
            shim_stat_forked();
            _exit(0);
        }
        ck_assert_int_eq(status_of(child), 0);
    }
    ck_assert_int_eq(p->pids[20], 0);
}
END_TEST

/* Without a page, or a place on it, nobody can be known to hold anything. */
START_TEST(nobody_is_known)
{
    struct mesh_page *p = page_new();
    ck_assert(!shim_stat_let_go(70, getppid()));
    for (unsigned i = 0; i < MESH_PAGE_PIDS; i++) {
        p->pids[i] = getppid();
    }
    shim_stat_page(p);
    ck_assert(!shim_stat_let_go(70, getppid()));
    shim_stat_holds(70);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("shim stat");
    TCase *t = tcase_create("stat");
    tcase_add_test(t, who_is_deciding);
    tcase_add_test(t, nobody_jumps_out_of_a_decision);
    tcase_add_test(t, who_lets_go);
    tcase_add_test(t, places);
    tcase_add_test(t, nobody_is_known);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
