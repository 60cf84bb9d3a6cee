/* SPDX-License-Identifier: Apache-2.0
 *
 * The allocator: blocks are aligned, apart from each other, wiped when they are freed, and used again;
 * threads, signal handlers and children of fork find it whole. Linked with CRYPTO_set_mem_functions
 * wrapped, to see what OpenSSL frees.
 */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "shim/tls/cache.h"
#include "shim/tls/ctx.h"
#include "shim/tls/mem.h"
#include "tests/unit/tls_pki.h"
#include "tests/unit/tls_talk.h"

#define SIZE_AT   8u     /* before a block, in shim/tls/mem.c */
#define READABLE  32000u /* when freed; larger ones may be unmapped */

static const struct shim_tls_ops *ops;
static struct pki_cert root, web;
static struct pki_identity web_id;
static int watching;
static size_t blocks, dirty;
static CRYPTO_realloc_fn real_resize;
static CRYPTO_free_fn real_free;

int __real_CRYPTO_set_mem_functions(CRYPTO_malloc_fn m, CRYPTO_realloc_fn r, CRYPTO_free_fn f);
int __wrap_CRYPTO_set_mem_functions(CRYPTO_malloc_fn m, CRYPTO_realloc_fn r, CRYPTO_free_fn f);

static size_t
size_of(const uint8_t *block)
{
    uint32_t n;
    memcpy(&n, block - SIZE_AT, sizeof(n));
    return n;
}

/* A freed block: the sanitizer may not be asked. */
__attribute__((no_sanitize("address"))) static void
judge(const volatile uint8_t *p, size_t n)
{
    size_t i = 0;
    while (n < READABLE && i < n && p[i] == 0)
        i++;
    blocks++;
    dirty += n < READABLE && i < n;
}

static void
watched_free(void *p, const char *file, int line)
{
    size_t n = watching && p != NULL ? size_of(p) : 0;
    real_free(p, file, line);
    if (n > 0)
        judge(p, n);
}

static void *
watched_resize(void *p, size_t n, const char *file, int line)
{
    const uint8_t *was = p;
    size_t had = watching && p != NULL ? size_of(p) : 0;
    uint8_t *q = real_resize(p, n, file, line);
    if (had > 0 && q != was)
        judge(was, had);
    return q;
}

int
__wrap_CRYPTO_set_mem_functions(CRYPTO_malloc_fn m, CRYPTO_realloc_fn r, CRYPTO_free_fn f)
{
    real_resize = r;
    real_free = f;
    return __real_CRYPTO_set_mem_functions(m, watched_resize, watched_free);
}

static void
setup(void)
{
    ops = shim_tls_engine(NULL);
    ck_assert_ptr_nonnull(ops);
    ck_assert_ptr_nonnull((void *)(uintptr_t)real_free);
    root = pki_root("root");
    web = pki_leaf("URI:" PKI_WEB, &root);
    pki_identity(&web_id, &web, NULL, &root);
    ck_assert_int_eq(ops->identity_set(&web_id.id), MESH_OK);
}

static void
teardown(void)
{
    pki_identity_free(&web_id);
    pki_free(&web);
    pki_free(&root);
    shim_ctx_fini();
    shim_cache_fini();
}

START_TEST(openssl_blocks)
{
    uint8_t *p = OPENSSL_malloc(100);
    memset(p, 0x55, 100);
    watching = 1;
    p = OPENSSL_realloc(p, 50);
    p = OPENSSL_realloc(p, 5000); /* moves: the old place is freed */
    size_t after_move = blocks;
    memset(p, 0x55, 5000);
    OPENSSL_free(p);
    OPENSSL_free(NULL);
    watching = 0;
    ck_assert_uint_eq(after_move, 1);
    ck_assert_uint_eq(blocks, 2);
    ck_assert_uint_eq(dirty, 0);
}
END_TEST

START_TEST(resizing_keeps_content)
{
    uint8_t *p = OPENSSL_realloc(NULL, 10);
    memset(p, 7, 10);
    for (size_t n = 11; n < 3000000; n += n / 3) {
        p = OPENSSL_realloc(p, n);
        for (size_t i = 0; i < 10; i++)
            ck_assert_uint_eq(p[i], 7);
        p[n - 1] = 1;
    }
    ck_assert_ptr_null(OPENSSL_realloc(p, 0));
}
END_TEST

/* All that OpenSSL frees during handshakes, SSL objects with their secrets included. The last
 * step of each end frees its SSL. */
START_TEST(handshake_blocks)
{
    struct talk_pair *p = talk_new();
    p->client.hs = ops->hs_new(0, _i ? PKI_ORDERS : PKI_WEB); /* fails, or not */
    p->server.hs = ops->hs_new(1, NULL);
    watching = 1;
    talk_run(&p->client, &p->server);
    watching = 0;
    ck_assert_int_eq(p->client.res.err, _i ? MESH_E_IDENTITY : MESH_OK);
    ck_assert_uint_gt(blocks, 100);
    ck_assert_uint_eq(dirty, 0);
    talk_free(p);
}
END_TEST

/* After the first ones no handshake needs more, but for a few bytes because signatures differ in length:
 * nothing leaks, and what is freed is used again. */
START_TEST(handshakes_leave_nothing)
{
    size_t after_some = 0;
    for (int i = 0; i < 150; i++) {
        struct talk_pair *p = talk_new();
        p->client.hs = ops->hs_new(0, i % 3 ? PKI_WEB : PKI_ORDERS);
        p->server.hs = ops->hs_new(1, NULL);
        if (i % 7) /* else it is given up before it begins */
            talk_run(&p->client, &p->server);
        talk_free(p);
        shim_cache_fini(); /* key schedules */
        after_some = i == 49 ? shim_mem_taken() : after_some;
    }
    ck_assert_uint_le(shim_mem_taken() - after_some, 2000);
}
END_TEST

/* Of all sizes at once: aligned, none overlaps another. */
START_TEST(sizes)
{
    enum { N = 3000 };
    static uint8_t *p[N];
    static size_t size[N];
    for (size_t i = 0; i < N; i++) {
        size[i] = i < 2000 ? i + 1 : i * 37;
        p[i] = OPENSSL_malloc(size[i]);
        ck_assert_uint_eq((uintptr_t)p[i] % 16, 0);
        memset(p[i], (int)(i % 251), size[i]);
    }
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < size[i]; k += size[i] / 7 + 1)
            ck_assert_uint_eq(p[i][k], i % 251);
        ck_assert_uint_eq(p[i][size[i] - 1], i % 251);
    }
    for (size_t i = 0; i < N; i++)
        OPENSSL_free(p[i * 7 % N]);
    ck_assert_ptr_null(OPENSSL_malloc(SIZE_MAX));
    ck_assert_ptr_null(OPENSSL_malloc(SIZE_MAX - 16));
    ck_assert_ptr_null(OPENSSL_malloc((size_t)1 << 32));
}
END_TEST

/* ---- many at once ---- */

struct juggler {
    uint32_t seed;
    uint8_t *p[32];
    size_t n[32];
};

/* Gives one of its blocks back, if it is still as it was left, and takes another. */
static int
juggle(struct juggler *j)
{
    j->seed = j->seed * 1664525 + 1013904223;
    unsigned i = j->seed >> 27;
    uint8_t mark = (uint8_t)(uintptr_t)j;
    int ok = 1;
    for (size_t k = 0; k < j->n[i]; k += 1 + k / 2)
        ok &= j->p[i][k] == mark;
    OPENSSL_free(j->p[i]);
    j->n[i] = j->seed >> 8 & (i < 30 ? 511 : 16383);
    j->p[i] = OPENSSL_malloc(j->n[i]);
    if (j->p[i] != NULL)
        memset(j->p[i], mark, j->n[i]);
    return ok && (j->p[i] != NULL || j->n[i] == 0);
}

static void
drop(struct juggler *j)
{
    for (unsigned i = 0; i < 32; i++)
        OPENSSL_free(j->p[i]);
}

static atomic_int stop, broken;

static void *
juggle_on(void *arg)
{
    struct juggler j = {.seed = (uint32_t)(uintptr_t)arg};
    while (!atomic_load(&stop))
        broken += !juggle(&j);
    drop(&j);
    return NULL;
}

static void
threads(void (*meanwhile)(void))
{
    pthread_t t[3];
    for (uintptr_t i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, juggle_on, (void *)(i + 1)), 0);
    meanwhile();
    atomic_store(&stop, 1);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_join(t[i], NULL), 0);
    ck_assert_int_eq(broken, 0);
}

static void
juggle_here(void)
{
    struct juggler j = {.seed = 99};
    for (int i = 0; i < 200000; i++)
        broken += !juggle(&j);
    drop(&j);
}

static void
fork_often(void)
{
    for (int i = 0; i < 40; i++) {
        int status = -1;
        pid_t pid = fork();
        if (pid == 0) {
            struct juggler j = {.seed = (uint32_t)i};
            int ok = 1;
            for (int k = 0; k < 5000; k++)
                ok &= juggle(&j);
            _exit(!ok);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
    }
}

START_TEST(in_threads)
{
    threads(juggle_here);
}
END_TEST

START_TEST(in_children_of_threads)
{
    threads(fork_often);
}
END_TEST

static struct juggler above;
static volatile sig_atomic_t fires;

static void
on_signal(int sig)
{
    (void)sig;
    fires++;
    for (int i = 0; i < 20; i++)
        broken += !juggle(&above);
}

START_TEST(in_handlers)
{
    struct sigaction sa = {.sa_handler = on_signal};
    struct itimerval it = {{0, 50}, {0, 50}};
    struct juggler j = {.seed = 5};
    above.seed = 6;
    ck_assert_int_eq(sigaction(SIGALRM, &sa, NULL), 0);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &it, NULL), 0);
    while (fires < 2000)
        broken += !juggle(&j);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL), 0);
    ck_assert_int_eq(broken, 0);
    drop(&j);
    drop(&above);
}
END_TEST

/* The handler takes what the main code is just taking, and what comes next, and puts only the first one
 * back: the list begins as before and is another one [ABA]. */
static uint8_t *held;

static int
is_all(const uint8_t *p, uint8_t mark)
{
    int ok = 1;
    for (unsigned i = 0; i < 100; i++)
        ok &= p[i] == mark;
    return ok;
}

static void
take_the_next(int sig)
{
    (void)sig;
    fires++;
    void *first = OPENSSL_malloc(100);
    uint8_t *next = OPENSSL_malloc(100);
    memset(next, 1, 100);
    broken += held != NULL && !is_all(held, 1);
    OPENSSL_free(held);
    OPENSSL_free(first);
    held = next;
}

START_TEST(same_first_block)
{
    struct sigaction sa = {.sa_handler = take_the_next};
    struct itimerval it = {{0, 50}, {0, 50}};
    ck_assert_int_eq(sigaction(SIGALRM, &sa, NULL), 0);
    ck_assert_int_eq(setitimer(ITIMER_REAL, &it, NULL), 0);
    while (fires < 4000) {
        uint8_t *p[4];
        for (uint8_t i = 0; i < 4; i++) {
            p[i] = OPENSSL_malloc(100);
            memset(p[i], 2 + i, 100);
        }
        for (uint8_t i = 0; i < 4; i++) {
            broken += !is_all(p[i], 2 + i);
            OPENSSL_free(p[i]);
        }
    }
    ck_assert_int_eq(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL), 0);
    ck_assert_int_eq(broken, 0);
}
END_TEST

/* A sanitizer's own memory does not live under such a limit. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
START_TEST(no_more_memory)
{
    struct rlimit was, none = {0, 0};
    struct list {
        struct list *next;
    } *all = NULL, *l;
    unsigned n = 0, lacks = shim_mem_lacks();
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &was), 0);
    none.rlim_max = was.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &none), 0);
    for (; (l = OPENSSL_malloc(400)) != NULL; all = l, n++)
        l->next = all;
    ck_assert_ptr_null(OPENSSL_malloc(100000));
    ck_assert_uint_eq(shim_mem_lacks(), lacks + 2);
    while (all != NULL) {
        l = all;
        all = l->next;
        OPENSSL_free(l);
    }
    while (n-- > 0)
        ck_assert_ptr_nonnull(OPENSSL_malloc(400)); /* those again */
    ck_assert_ptr_null(OPENSSL_malloc(400));
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &was), 0);
    ck_assert_ptr_nonnull(OPENSSL_malloc(400));
}
END_TEST
#endif

int
main(void)
{
    Suite *s = suite_create("tls memory");
    TCase *tc = tcase_create("wiping");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, openssl_blocks);
    tcase_add_test(tc, resizing_keeps_content);
    tcase_add_loop_test(tc, handshake_blocks, 0, 2);
    tcase_add_test(tc, handshakes_leave_nothing);
    tcase_add_test(tc, sizes);
    tcase_add_test(tc, in_threads);
    tcase_add_test(tc, in_children_of_threads);
    tcase_add_test(tc, in_handlers);
    tcase_add_test(tc, same_first_block);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    tcase_add_test(tc, no_more_memory);
#endif
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
