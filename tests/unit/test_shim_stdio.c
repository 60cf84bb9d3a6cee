/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_stdio: the slots of libc's stream tables are replaced when everything is as known, and only
 * then. Each test runs in a process of its own.
 */
#include <check.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "shim/core/fdtab.h"
#include "shim/core/stat.h"
#include "shim/core/stdio.h"
#include "shim/real.h"

static int reads, writes, closes, pipes[2];

/* The test library has streams too. */
static int
is_watched(FILE *fp)
{
    return fileno(fp) == pipes[0] || fileno(fp) == pipes[1];
}

static ssize_t
count_read(FILE *fp, void *buf, ssize_t n)
{
    reads += is_watched(fp);
    return read(fileno(fp), buf, (size_t)n);
}

static ssize_t
count_write(FILE *fp, const void *buf, ssize_t n)
{
    writes += is_watched(fp);
    return write(fileno(fp), buf, (size_t)n);
}

static int
count_close(FILE *fp)
{
    closes += is_watched(fp);
    return close(fileno(fp));
}

static const struct shim_stdio_slots slots = {count_read, count_write, count_close};

static uint64_t
refusals(void)
{
    return atomic_load(&atomic_load(&shim_page)->err[MESH_E_STDIO]);
}

/* The permissions of the page at `at`, as the kernel tells them. */
static void
permissions(const void *at, char out[5])
{
    char line[512];
    FILE *f = fopen("/proc/self/maps", "r");
    ck_assert_ptr_nonnull(f);
    out[0] = 0;
    while (fgets(line, sizeof(line), f)) {
        unsigned long from, to;
        char perm[5];
        if (sscanf(line, "%lx-%lx %4s", &from, &to, perm) == 3 && (uintptr_t)at >= from &&
            (uintptr_t)at < to) {
            memcpy(out, perm, sizeof(perm));
        }
    }
    fclose(f);
}

START_TEST(the_streams_of_this_libc_are_carried)
{
    char perm[5], b[8] = "";
    shim_real_init();
    shim_stdio_init(&slots);
    permissions(shim_real_stdio.file, perm);
    ck_assert_str_eq(perm, "r--p");
    ck_assert_int_eq(atomic_load(&shim_stdio_state), SHIM_STDIO_BARE);
    ck_assert(shim_fdtab_set(900, SHIM_FD_FRESH, 0)); /* no connection: no change */
    ck_assert_int_eq(atomic_load(&shim_stdio_state), SHIM_STDIO_BARE);
    ck_assert(shim_fdtab_set(900, SHIM_FD_CONN, 1));
    ck_assert_int_eq(atomic_load(&shim_stdio_state), SHIM_STDIO_CARRIED);
    ck_assert(!shim_stdio_refused());
    permissions(shim_real_stdio.file, perm);
    ck_assert_str_eq(perm, "r--p");
    permissions(shim_real_stdio.wfile + 17, perm);
    ck_assert_str_eq(perm, "r--p");
    ck_assert_uint_eq(refusals(), 0);

    ck_assert_int_eq(pipe(pipes), 0);
    FILE *in = fdopen(pipes[0], "r"), *out = fdopen(pipes[1], "w");
    ck_assert(in && out);
    ck_assert_int_ge(fputs("hello\n", out), 0);
    ck_assert_int_eq(fclose(out), 0);
    ck_assert_ptr_nonnull(fgets(b, sizeof(b), in));
    ck_assert_str_eq(b, "hello\n");
    ck_assert_int_eq(fclose(in), 0);
    ck_assert_int_eq(reads, 1);
    ck_assert_int_eq(writes, 1);
    ck_assert_int_eq(closes, 2);
}
END_TEST

#define WORDS 21

/* Two tables as libc has them, on a read-only page. */
static void **
make_tables(void)
{
    struct shim_real_stdio *io = &shim_real_stdio;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void **t = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(t, MAP_FAILED);
    shim_real_init();
    shim_stdio_init(&slots);
    for (int i = 0; i < 2; i++) {
        t[i * WORDS + 14] = (void *)io->read;
        t[i * WORDS + 15] = (void *)io->write;
        t[i * WORDS + 17] = (void *)io->close;
    }
    io->file = t;
    io->wfile = t + WORDS;
    io->relro = (uintptr_t)t;
    io->relro_end = io->relro + page;
    return t;
}

static void
must_refuse(void **t)
{
    void *before[2 * WORDS];
    char perm[5];
    memcpy(before, t, sizeof(before));
    shim_stdio_ready();
    ck_assert(shim_stdio_refused());
    ck_assert_uint_eq(refusals(), 1);
    ck_assert_mem_eq(before, t, sizeof(before));
    shim_stdio_ready(); /* once is enough */
    ck_assert_uint_eq(refusals(), 1);
    permissions(t, perm);
    ck_assert_str_eq(perm, "rw-p");
}

START_TEST(known_tables_are_changed)
{
    char perm[5];
    void **t = make_tables();
    shim_stdio_ready();
    ck_assert_int_eq(atomic_load(&shim_stdio_state), SHIM_STDIO_CARRIED);
    for (int i = 0; i < 2; i++) {
        ck_assert_uint_eq((uintptr_t)t[i * WORDS + 14], (uintptr_t)count_read);
        ck_assert_uint_eq((uintptr_t)t[i * WORDS + 15], (uintptr_t)count_write);
        ck_assert_uint_eq((uintptr_t)t[i * WORDS + 17], (uintptr_t)count_close);
    }
    permissions(t, perm);
    ck_assert_str_eq(perm, "r--p");
}
END_TEST

START_TEST(another_function_in_a_slot_is_refused)
{
    static const int at[] = {14, 15, 17, WORDS + 14, WORDS + 15, WORDS + 17};
    void **t = make_tables();
    t[at[_i]] = (void *)(uintptr_t)&abort;
    must_refuse(t);
}
END_TEST

START_TEST(a_missing_symbol_is_refused)
{
    struct shim_real_stdio *io = &shim_real_stdio;
    void **t = make_tables();
    static const int at[] = {14, 15, 17};
    uintptr_t *const fn[] = {&io->read, &io->write, &io->close};
    if (_i < 3) {
        *fn[_i] = 0; /* nothing is not the right thing, even where nothing stands */
        t[at[_i]] = t[WORDS + at[_i]] = NULL;
    }
    io->file = _i == 3 ? NULL : io->file;
    io->wfile = _i == 4 ? NULL : io->wfile;
    io->list_lock = _i == 5 ? NULL : io->list_lock;
    io->list_unlock = _i == 6 ? NULL : io->list_unlock;
    io->list_reset = _i == 7 ? NULL : io->list_reset;
    io->list = _i == 8 ? NULL : io->list;
    must_refuse(t);
}
END_TEST

START_TEST(tables_outside_of_the_read_only_pages_are_refused)
{
    struct shim_real_stdio *io = &shim_real_stdio;
    void **t = make_tables();
    if (_i == 0) {
        io->relro = io->relro_end = 0;
    } else if (_i == 1) {
        io->relro_end = (uintptr_t)(io->wfile + 17); /* one word short */
    } else {
        io->relro = (uintptr_t)(io->file + 1);
    }
    must_refuse(t);
}
END_TEST

START_TEST(a_filter_that_denies_is_refused)
{
    void **t = make_tables();
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(uintptr_t)t, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {6, code};
    ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
    must_refuse(t);
}
END_TEST

static pthread_barrier_t all;

static void *
make_ready(void *arg)
{
    (void)pthread_barrier_wait(&all);
    shim_stdio_ready();
    return arg;
}

#define THREADS 4

/* One that found the pages closed under its hand would crash. */
START_TEST(threads_may_come_at_once)
{
    pthread_t t[THREADS];
    void **tables = make_tables();
    ck_assert_int_eq(pthread_barrier_init(&all, NULL, THREADS), 0);
    for (int round = 0; round < 500; round++) {
        ck_assert_int_eq(mprotect(tables, 4096, PROT_READ | PROT_WRITE), 0);
        for (int i = 0; i < 2; i++) {
            tables[i * WORDS + 14] = (void *)shim_real_stdio.read;
            tables[i * WORDS + 15] = (void *)shim_real_stdio.write;
            tables[i * WORDS + 17] = (void *)shim_real_stdio.close;
        }
        ck_assert_int_eq(mprotect(tables, 4096, PROT_READ), 0);
        atomic_store(&shim_stdio_state, SHIM_STDIO_BARE);
        for (int i = 0; i < THREADS; i++) {
            ck_assert_int_eq(pthread_create(&t[i], NULL, make_ready, NULL), 0);
        }
        for (int i = 0; i < THREADS; i++) {
            ck_assert_int_eq(pthread_join(t[i], NULL), 0);
        }
        ck_assert_int_eq(atomic_load(&shim_stdio_state), SHIM_STDIO_CARRIED);
    }
}
END_TEST

START_TEST(fork_leaves_the_lock_free)
{
    void **tables = make_tables();
    shim_stdio_before_fork();
    shim_stdio_after_fork(true);
    shim_stdio_before_fork();
    shim_stdio_after_fork(false);
    shim_stdio_ready();
    ck_assert_int_eq(atomic_load(&shim_stdio_state), SHIM_STDIO_CARRIED);
    ck_assert_uint_eq((uintptr_t)tables[14], (uintptr_t)count_read);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("shim stdio");
    TCase *t = tcase_create("stdio");
    tcase_add_test(t, the_streams_of_this_libc_are_carried);
    tcase_add_test(t, known_tables_are_changed);
    tcase_add_loop_test(t, another_function_in_a_slot_is_refused, 0, 6);
    tcase_add_loop_test(t, a_missing_symbol_is_refused, 0, 9);
    tcase_add_loop_test(t, tables_outside_of_the_read_only_pages_are_refused, 0, 3);
    tcase_add_test(t, a_filter_that_denies_is_refused);
    tcase_add_test(t, threads_may_come_at_once);
    tcase_add_test(t, fork_leaves_the_lock_free);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
