/* SPDX-License-Identifier: Apache-2.0
 *
 * Many threads at once: handshakes while the identity changes, more keys than the cache has room
 * for, and forks in the midst of it. To be run under ThreadSanitizer, too.
 */
#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/tls/cache.h"
#include "shim/tls/ctx.h"
#include "shim/tls/suite.h"
#include "tests/unit/tls_pki.h"
#include "tests/unit/tls_talk.h"

#define THREADS 4

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

static const struct shim_tls_ops *ops;
static struct pki_cert root, web;
static struct pki_identity web_id;
static atomic_int stop, wrong;

static void
setup(void)
{
    ops = shim_tls_engine(NULL);
    ck_assert_ptr_nonnull(ops);
    root = pki_root("root");
    web = pki_leaf("URI:" PKI_WEB, &root);
    pki_identity(&web_id, &web, NULL, &root);
    ck_assert_int_eq(ops->identity_set(&web_id.id), MESH_OK);
    atomic_store(&stop, 0);
    atomic_store(&wrong, 0);
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

static int
records_exchange(struct talk_pair *p, int n)
{
    uint8_t rec[128], out[128], type = 0;
    size_t len = 0;
    for (int i = 0; i < n; i++) {
        size_t r = ops->seal(&p->client.res.tx, 23, (const uint8_t *)&i, sizeof(i), rec);
        if (r != sizeof(i) + 22 ||
            ops->open(&p->server.res.rx, rec, r, out, &len, &type) != MESH_OK ||
            memcmp(out, &i, sizeof(i)) != 0)
            return 0;
    }
    return 1;
}

/* Some handshakes; until told to stop if there is an argument. */
static void *
handshakes(void *arg)
{
    for (int i = 0; i < 15 || (arg != NULL && !atomic_load(&stop)); i++) {
        struct talk_pair *p = talk_new();
        p->client.hs = ops->hs_new(0, PKI_WEB);
        p->server.hs = ops->hs_new(1, NULL);
        talk_run(&p->client, &p->server);
        if (p->client.state != SHIM_HS_DONE || p->server.state != SHIM_HS_DONE ||
            !records_exchange(p, 50))
            atomic_store(&wrong, 1);
        talk_free(p);
    }
    return NULL;
}

static void *
identities(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop))
        if (ops->identity_set(&web_id.id) != MESH_OK)
            atomic_store(&wrong, 1);
    return NULL;
}

static void
join(pthread_t *t, int n)
{
    for (int i = 0; i < n; i++)
        ck_assert_int_eq(pthread_join(t[i], NULL), 0);
}

START_TEST(handshakes_and_new_identities)
{
    pthread_t t[THREADS], changer;
    ck_assert_int_eq(pthread_create(&changer, NULL, identities, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, handshakes, NULL), 0);
    join(t, THREADS);
    atomic_store(&stop, 1);
    join(&changer, 1);
    ck_assert(!atomic_load(&wrong));
}
END_TEST

/* Each thread has keys of its own; all fight for the same few entries. */
static void *
records(void *arg)
{
    enum { KEYS = 40 };
    static const uint16_t suites[] = {0x1301, 0x1302, 0x1303};
    struct shim_key tx[KEYS], rx[KEYS];
    uint8_t secret[48] = {0}, rec[64], out[64], type = 0;
    size_t len = 0, me = (size_t)arg;
    for (size_t i = 0; i < KEYS; i++) {
        secret[0] = (uint8_t)i;
        secret[1] = (uint8_t)me;
        uint16_t s = suites[i % 3];
        if (shim_suite_key_init(&tx[i], s, secret, s == 0x1302 ? 48 : 32) != MESH_OK)
            atomic_store(&wrong, 1);
        tx[i].iv[0] = (uint8_t)(i % 4);
        rx[i] = tx[i];
    }
    for (unsigned n = 0; n < 4000 || (arg == NULL && !atomic_load(&stop)); n++) {
        size_t i = n % KEYS;
        if (ops->seal(&tx[i], 23, (const uint8_t *)&n, 4, rec) != 26 ||
            ops->open(&rx[i], rec, 26, out, &len, &type) != MESH_OK || memcmp(out, &n, 4) != 0)
            atomic_store(&wrong, 1);
    }
    return NULL;
}

START_TEST(records_of_many_keys)
{
    pthread_t t[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, records, (void *)(i + 1)), 0);
    join(t, THREADS);
    ck_assert(!atomic_load(&wrong));
}
END_TEST

/* Children of a process whose other thread is inside seal and open. */
START_TEST(forks_under_way)
{
    pthread_t t;
    ck_assert_int_eq(pthread_create(&t, NULL, records, NULL), 0);
    for (int i = 0; i < 30; i++) {
        int status = -1;
        pid_t pid = fork();
        if (pid == 0) {
            records((void *)9);
            _exit(atomic_load(&wrong));
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
    }
    atomic_store(&stop, 1);
    join(&t, 1);
    ck_assert(!atomic_load(&wrong));
}
END_TEST

#ifndef WITH_ASAN
/* A whole handshake in the child while another thread of the parent makes handshakes. */
START_TEST(handshakes_after_fork)
{
    pthread_t t[2];
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, handshakes, &stop), 0);
    for (int i = 0; i < 60; i++) {
        int status = -1;
        pid_t pid = fork();
        if (pid == 0) {
            alarm(20); /* a deadlock must not hang the tests */
            handshakes(NULL);
            _exit(atomic_load(&wrong));
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
    }
    atomic_store(&stop, 1);
    join(t, 2);
    ck_assert(!atomic_load(&wrong));
}
END_TEST
#endif

int
main(void)
{
    Suite *s = suite_create("tls threads");
    TCase *tc = tcase_create("threads");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, handshakes_and_new_identities);
    tcase_add_test(tc, records_of_many_keys);
    tcase_add_test(tc, forks_under_way);
#ifndef WITH_ASAN /* whose allocator does not survive a fork among threads */
    tcase_add_test(tc, handshakes_after_fork);
#endif
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
