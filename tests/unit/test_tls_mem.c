/* SPDX-License-Identifier: Apache-2.0
 *
 * Nothing secret is left in freed memory. Linked with free wrapped: while watching, every block
 * that is freed must be zero behind its head.
 */
#include <check.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "shim/tls/cache.h"
#include "shim/tls/ctx.h"
#include "tests/unit/tls_pki.h"
#include "tests/unit/tls_talk.h"

#define HEAD 16u /* of a block in shim/tls/mem.c: its size, padding */

static const struct shim_tls_ops *ops;
static struct pki_cert root, web;
static struct pki_identity web_id;
static int watching;
static size_t blocks, dirty;

void __real_free(void *p);
void __wrap_free(void *p);

void
__wrap_free(void *p)
{
    if (watching && p != NULL) {
        const uint8_t *b = p;
        size_t n = 0;
        memcpy(&n, p, sizeof(n));
        blocks++;
        for (size_t i = 0; n <= malloc_usable_size(p) - HEAD && i < n; i++) {
            if (b[HEAD + i] == 0)
                continue;
            dirty++;
            break;
        }
        if (n > malloc_usable_size(p) - HEAD)
            dirty++;
    }
    __real_free(p);
}

static void
setup(void)
{
    ops = shim_tls_engine();
    ck_assert_ptr_nonnull(ops);
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
    for (size_t n = 11; n < 5000; n += n / 3) {
        p = OPENSSL_realloc(p, n);
        for (size_t i = 0; i < 10; i++)
            ck_assert_uint_eq(p[i], 7);
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

int
main(void)
{
    Suite *s = suite_create("tls memory");
    TCase *tc = tcase_create("wiping");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, openssl_blocks);
    tcase_add_test(tc, resizing_keeps_content);
    tcase_add_loop_test(tc, handshake_blocks, 0, 2);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
