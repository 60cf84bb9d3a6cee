/* SPDX-License-Identifier: Apache-2.0
 *
 * The record layer's keys: updates, limits, wiping, and the cache of contexts behind them: identity,
 * fork, and no allocation while hot. Linked with CRYPTO_set_mem_functions wrapped, to
 * count.
 */
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "tests/unit/tls_rec.h"

static unsigned long allocations;

static CRYPTO_malloc_fn real_malloc;

int __real_CRYPTO_set_mem_functions(CRYPTO_malloc_fn m, CRYPTO_realloc_fn r, CRYPTO_free_fn f);
int __wrap_CRYPTO_set_mem_functions(CRYPTO_malloc_fn m, CRYPTO_realloc_fn r, CRYPTO_free_fn f);

static void *
counted(size_t n, const char *file, int line)
{
    __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
    return real_malloc(n, file, line);
}

int
__wrap_CRYPTO_set_mem_functions(CRYPTO_malloc_fn m, CRYPTO_realloc_fn r, CRYPTO_free_fn f)
{
    real_malloc = m;
    return __real_CRYPTO_set_mem_functions(counted, r, f);
}

START_TEST(key_updates)
{
    struct shim_key tx = key_of(suites[_i], 2), rx = tx;
    uint8_t rec[64], out[64], type = 0;
    size_t len = 0;
    for (uint32_t g = 1; g < 20; g++) {
        struct shim_key was = tx;
        ck_assert_uint_ne(ops->seal(&tx, 23, out, 0, rec), 0);
        ck_assert_int_eq(ops->key_update(&tx), MESH_OK);
        ck_assert_uint_eq(tx.generation, g);
        ck_assert_uint_eq(tx.seq, 0);
        ck_assert_mem_ne(tx.secret, was.secret, was.secret_len);
        ck_assert_mem_ne(tx.key, was.key, was.key_len);
        ck_assert_mem_ne(tx.iv, was.iv, 12);
        ck_assert_uint_eq(ops->seal(&tx, 23, (const uint8_t *)"hello", 5, rec), 27);
        ck_assert_int_eq(ops->open(&rx, rec, 27, out, &len, &type), MESH_E_BAD_MAC);
        ck_assert_int_eq(ops->key_update(&rx), MESH_OK);
        ck_assert_int_eq(ops->open(&rx, rec, 27, out, &len, &type), MESH_OK);
        ck_assert_mem_eq(out, "hello", 5);
    }
    tx.suite = 0;
    ck_assert_int_ne(ops->key_update(&tx), MESH_OK);
}
END_TEST

/* [RFC8446 5.5] AES-GCM: an update is due in good time, and the end comes before 2^24.5. */
START_TEST(key_limit)
{
    struct shim_key k = key_of(suites[_i], 2);
    uint8_t rec[64], out[64], type = 0;
    size_t len = 0;
    ck_assert(!ops->key_update_due(&k));
    k.seq = (UINT64_C(1) << 23) - 1;
    ck_assert(!ops->key_update_due(&k));
    ck_assert_uint_ne(ops->seal(&k, 23, rec, 0, rec), 0);
    ck_assert_int_eq(ops->key_update_due(&k), _i < 2);
    k.seq = 23726566; /* 2^24.5 */
    ck_assert_int_eq(ops->seal(&k, 23, rec, 0, rec) == 0, _i < 2);
    k.seq = UINT64_MAX;
    ck_assert_uint_eq(ops->seal(&k, 23, rec, 0, rec), 0);
    ck_assert_uint_eq(k.seq, UINT64_MAX);
    memcpy(rec, "\x17\x03\x03\x00\x11", 5);
    ck_assert_int_eq(ops->open(&k, rec, 22, out, &len, &type), MESH_E_KEY_LIMIT);
    ck_assert_int_eq(ops->key_update(&k), MESH_OK);
    ck_assert(!ops->key_update_due(&k));
    ck_assert_uint_ne(ops->seal(&k, 23, rec, 0, rec), 0);
}
END_TEST

START_TEST(wiping)
{
    struct shim_key k = key_of(0x1301, 2), none = {0}, again = k;
    uint8_t rec[64], buf[7] = "secret";
    ck_assert_uint_ne(ops->seal(&k, 23, rec, 0, rec), 0);
    ops->wipe(&k, sizeof(k));
    ck_assert_mem_eq(&k, &none, sizeof(k));
    ck_assert_uint_ne(ops->seal(&again, 23, rec, 0, rec), 0);
    ops->wipe(buf, sizeof(buf));
    ck_assert_mem_eq(buf, "\0\0\0\0\0\0", 7);
    ops->wipe(NULL, 0);
    ops->wipe(NULL, 5);
}
END_TEST

/* ---- the cache ---- */

START_TEST(hot_records_allocate_nothing)
{
    struct shim_key tx = key_of(suites[_i], 2), rx = tx;
    uint8_t *in = pattern(16384), *rec = malloc(SHIM_REC_MAX), *out = malloc(16384), type = 0;
    size_t len = 0;
    ck_assert_uint_ne(ops->seal(&tx, 23, in, 1, rec), 0);
    ck_assert_int_eq(ops->open(&rx, rec, 23, out, &len, &type), MESH_OK);
    unsigned long before = allocations;
    int ok = 1;
    for (size_t n = 0; n <= 16384; n += 1 + n / 4)
        ok &= ops->seal(&tx, 23, in, n, rec) == n + 22 &&
              ops->open(&rx, rec, n + 22, out, &len, &type) == MESH_OK;
    before = allocations - before;
    ck_assert_uint_eq(before, 0);
    ck_assert(ok);
    free(in);
    free(rec);
    free(out);
}
END_TEST

/* Many more connections than entries: all stay right, and once the contexts exist the key
 * schedules change place without allocating. */
START_TEST(more_keys_than_entries)
{
    enum { KEYS = 2000 };
    struct shim_key *tx = calloc(KEYS, sizeof(*tx)), *rx = calloc(KEYS, sizeof(*rx));
    uint8_t rec[64], out[64], secret[48] = {0}, type = 0;
    size_t len = 0;
    unsigned long before = 0;
    int ok = 1;
    for (int i = 0; i < KEYS; i++) {
        memcpy(secret, &i, sizeof(i));
        uint16_t suite = suites[i % (_i == 0 ? 1 : 3)];
        ck_assert_int_eq(shim_suite_key_init(&tx[i], suite, secret, suite == 0x1302 ? 48 : 32),
                         MESH_OK);
        rx[i] = tx[i];
    }
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < KEYS; i++)
            ok &= ops->seal(&tx[i], 23, (const uint8_t *)&i, 4, rec) == 26 &&
                  ops->open(&rx[i], rec, 26, out, &len, &type) == MESH_OK &&
                  memcmp(out, &i, 4) == 0;
        if (round == 1)
            before = allocations;
    }
    before = allocations - before;
    ck_assert_uint_eq(before, 0);
    ck_assert(ok);
    free(tx);
    free(rx);
}
END_TEST

/* A set whose entries are all in use by others: a temporary context does it. */
START_TEST(all_entries_taken)
{
    struct shim_key k = key_of(suites[_i], 2), other = k, rx = k;
    const struct shim_suite *s = shim_suite_find(suites[_i]);
    struct shim_cache_use use[SHIM_CACHE_WAYS] = {0}, more = {0};
    uint8_t rec[64], out[64], type = 0;
    size_t len = 0;
    for (unsigned i = 0; i < SHIM_CACHE_WAYS; i++) {
        other.key[0] = k.key[0] ^ (uint8_t)(i + 1);
        ck_assert(shim_cache_get(s, &other, 1, &use[i]));
        ck_assert_uint_ne(use[i].entry, 0);
        for (unsigned j = 0; j < i; j++)
            ck_assert_uint_ne(use[i].entry, use[j].entry);
    }
    ck_assert(!shim_cache_get_gcm(s, &k, 1, &more));
    ck_assert_uint_ne(ops->seal(&k, 23, (const uint8_t *)"x", 1, rec), 0);
    ck_assert_int_eq(ops->open(&rx, rec, 23, out, &len, &type), MESH_OK);
    ck_assert_uint_eq(out[0], 'x');
    for (unsigned i = 0; i < SHIM_CACHE_WAYS; i++)
        shim_cache_put(&use[i]);
}
END_TEST

/* What a key schedule makes of sixteen zeros. */
static void
block_of(const struct shim_cache_use *use, int seal, uint8_t out[16])
{
    static const uint8_t zero[16];
    struct shim_gcm_record r = {zero, zero, 5};
    uint8_t tag[16];
    int l = 0;
    memset(out, 0, 16);
    if (use->gcm != NULL) {
        ck_assert(shim_gcm_seal(use->gcm, &r, out, 15, out[15], out, tag));
        return;
    }
    ck_assert_int_eq(EVP_CipherInit_ex(use->ctx, NULL, NULL, NULL, zero, seal), 1);
    ck_assert_int_eq(EVP_CipherUpdate(use->ctx, out, &l, zero, 16), 1);
}

/* A dropped key is in no schedule any more, of neither direction and neither shape. */
START_TEST(dropped)
{
    const struct shim_suite *s = shim_suite_find(suites[_i]);
    struct shim_key k = key_of(suites[_i], 2);
    struct shim_cache_use use[4] = {{0}};
    uint8_t before[4][16], after[16];
    for (int i = 0; i < 4; i++) {
        if (i >= 2 && s->gcm_longest == 0)
            break;
        ck_assert(i < 2 ? shim_cache_get(s, &k, i % 2, &use[i])
                        : shim_cache_get_gcm(s, &k, i % 2, &use[i]));
        ck_assert_uint_ne(use[i].entry, 0);
        block_of(&use[i], i % 2, before[i]);
        shim_cache_put(&use[i]);
    }
    shim_cache_drop(&k);
    for (int i = 0; i < 4 && use[i].entry != 0; i++) {
        block_of(&use[i], i % 2, after);
        ck_assert_mem_ne(after, before[i], 16);
    }
}
END_TEST

/* The key may be anywhere, and two keys that differ in one bit are two keys. */
START_TEST(identity_of_entries)
{
    struct shim_key k = key_of(suites[_i], 2);
    const struct shim_suite *s = shim_suite_find(suites[_i]);
    ck_assert_ptr_nonnull(s);
    for (int bit = 0; bit < s->key_len * 8; bit++) {
        struct shim_key other = k;
        uint8_t a[64], b[64], ref[64], inner[2] = {1, 23};
        other.key[bit / 8] ^= (uint8_t)(1u << bit % 8);
        raw_seal(&other, inner, 2, ref);
        ck_assert_uint_ne(ops->seal(&k, 23, inner, 1, a), 0);
        ck_assert_uint_ne(ops->seal(&other, 23, inner, 1, b), 0);
        ck_assert_mem_eq(b, ref, 23);
        k.seq = 0;
    }
}
END_TEST

/* [DESIGN D5] the child goes on with the same keys, whatever the parent's cache was doing. */
START_TEST(after_fork)
{
    struct shim_key tx = key_of(suites[_i], 2), rx = tx, busy = key_of(suites[_i], 3);
    const struct shim_suite *s = shim_suite_find(suites[_i]);
    struct shim_cache_use use = {0};
    uint8_t rec[64], out[64], type = 0;
    size_t len = 0;
    int status = -1;
    ck_assert_uint_eq(ops->seal(&tx, 23, (const uint8_t *)"1", 1, rec), 23);
    ck_assert_int_eq(ops->open(&rx, rec, 23, out, &len, &type), MESH_OK);
    /* An entry locked at the moment of the fork must not be shut in the child. */
    ck_assert(shim_cache_get(s, &busy, 1, &use));
    pid_t pid = fork();
    if (pid == 0) {
        unsigned long before = allocations;
        int ok = ops->seal(&tx, 23, (const uint8_t *)"2", 1, rec) == 23 &&
                 ops->open(&rx, rec, 23, out, &len, &type) == MESH_OK && out[0] == '2' &&
                 ops->seal(&busy, 23, rec, 0, rec) == 22 && allocations == before &&
                 ops->key_update(&tx) == MESH_OK && ops->key_update(&rx) == MESH_OK &&
                 ops->seal(&tx, 23, (const uint8_t *)"3", 1, rec) == 23 &&
                 ops->open(&rx, rec, 23, out, &len, &type) == MESH_OK && out[0] == '3';
        _exit(ok ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    shim_cache_put(&use);
    ck_assert_uint_eq(ops->seal(&tx, 23, (const uint8_t *)"4", 1, rec), 23);
    ck_assert_int_eq(ops->open(&rx, rec, 23, out, &len, &type), MESH_OK);
}
END_TEST

static TCase *
keys(void)
{
    TCase *tc = tcase_create("keys");
    tcase_add_loop_test(tc, key_updates, 0, 3);
    tcase_add_loop_test(tc, key_limit, 0, 3);
    tcase_add_test(tc, wiping);
    tcase_add_loop_test(tc, hot_records_allocate_nothing, 0, 3);
    tcase_add_loop_test(tc, more_keys_than_entries, 0, 2);
    tcase_add_loop_test(tc, all_entries_taken, 0, 2);
    tcase_add_loop_test(tc, dropped, 0, 3);
    tcase_add_loop_test(tc, identity_of_entries, 0, 3);
    tcase_add_loop_test(tc, after_fork, 0, 3);
    return tc;
}

int
main(void)
{
    TCase *all[] = {keys()};
    return run_cases("tls key", all, 1);
}
