/* SPDX-License-Identifier: Apache-2.0
 *
 * The shim's core: slots and their generations, the spill pool, locks whose holder dies, the
 * descriptor table, and the cursor over a program's buffers.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/core/fdtab.h"
#include "shim/core/slot.h"
#include "shim/flow/iov.h"

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
    while (n <= SHIM_SPILLS && (all[n] = shim_spill_get()) != 0) {
        n++;
    }
    ck_assert_uint_eq(n, SHIM_SPILLS);
    memset(shim_spill_at(all[5]), 7, SHIM_SPILL_SIZE);
    shim_spill_put(all[5]);
    uint32_t again = shim_spill_get();
    ck_assert_uint_eq(again, all[5]);
    ck_assert_uint_eq(shim_spill_at(again)[SHIM_SPILL_SIZE - 1], 0);
    for (unsigned i = 0; i < n; i++) {
        shim_spill_put(all[i]);
    }
    shim_spill_put(0);
    ck_assert_ptr_null(shim_spill_at(0));
    ck_assert_ptr_null(shim_spill_at(SHIM_SPILLS + 1));
}
END_TEST

START_TEST(a_lock_survives_its_holder)
{
    struct shim_lock *l = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(l, MAP_FAILED);
    pid_t pid = fork();
    if (pid == 0) {
        shim_lock_forked();
        _exit(shim_lock_get(l, NULL) ? 0 : 1); /* dies with it */
    }
    int st = 0;
    ck_assert_int_eq(waitpid(pid, &st, 0), pid);
    ck_assert_int_eq(st, 0);
    bool died = false;
    ck_assert(shim_lock_get(l, &died));
    ck_assert(died);
    shim_lock_put(l);
    munmap(l, 4096);
}
END_TEST

START_TEST(a_lock_tells_its_own_thread)
{
    struct shim_lock l = {0, 0};
    ck_assert(shim_lock_get(&l, NULL));
    ck_assert(!shim_lock_get(&l, NULL)); /* as a signal handler would find it */
    ck_assert(!shim_lock_try(&l));
    shim_lock_put(&l);
    ck_assert(shim_lock_try(&l));
    shim_lock_put(&l);
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
        ck_assert(shim_lock_get(&c->lock, NULL));
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

int
main(void)
{
    Suite *s = suite_create("shim core");
    TCase *t = tcase_create("core");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_freed_slot_is_not_found_by_its_old_handle);
    tcase_add_test(t, slots_run_out_and_come_back);
    tcase_add_test(t, spills_are_bounded_and_wiped);
    tcase_add_test(t, a_lock_survives_its_holder);
    tcase_add_test(t, a_lock_tells_its_own_thread);
    tcase_add_test(t, a_lock_excludes);
    tcase_add_test(t, the_table_knows_its_bounds);
    tcase_add_test(t, a_cursor_walks_all_shapes);
    tcase_add_test(t, a_cursor_refuses_what_cannot_be);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
