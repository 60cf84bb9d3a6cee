/* SPDX-License-Identifier: Apache-2.0
 *
 * The record layer: known answers, every size, every truncation and bit flip, and padding.
 * test_tls_key.c has the keys.
 */
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/err.h>

#include "tests/unit/tls_rec.h"

/* ---- known answers: RFC 8448, section 3 ---- */

static size_t
unhex(const char *s, uint8_t *out)
{
    size_t n = 0;
    for (; s[0] != '\0' && s[1] != '\0'; s += 2) {
        char two[3] = {s[0], s[1], 0};
        out[n++] = (uint8_t)strtoul(two, NULL, 16);
    }
    return n;
}

#define CLIENT_SECRET "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"
#define SERVER_SECRET "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"

static const struct {
    const char *secret, *key, *iv;
} derived[] = {
    {CLIENT_SECRET, "17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9"},
    {SERVER_SECRET, "9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984"},
};

static const struct {
    const char *secret;
    uint64_t seq;
    uint8_t type;
    size_t n; /* content: 0, 1, 2 ..., or close_notify */
    const char *record;
} known[] = {
    {CLIENT_SECRET, 0, 23, 50,
     "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a"
     "20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4"},
    {CLIENT_SECRET, 1, 21, 2, "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3"},
    {SERVER_SECRET, 1, 23, 50,
     "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb"
     "501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d"},
    {SERVER_SECRET, 2, 21, 2, "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9"},
};

START_TEST(known_keys)
{
    uint8_t secret[48], key[16], iv[12];
    struct shim_key k = {0};
    size_t n = unhex(derived[_i].secret, secret);
    ck_assert_int_eq(shim_suite_key_init(&k, 0x1301, secret, n), MESH_OK);
    unhex(derived[_i].key, key);
    unhex(derived[_i].iv, iv);
    ck_assert_mem_eq(k.key, key, sizeof(key));
    ck_assert_mem_eq(k.iv, iv, sizeof(iv));
}
END_TEST

START_TEST(known_records)
{
    uint8_t secret[48], in[50], rec[128], out[128], back[128];
    struct shim_key k = {0};
    size_t n = unhex(known[_i].record, rec), len = 0;
    uint8_t type = 0;
    for (size_t i = 0; i < sizeof(in); i++)
        in[i] = (uint8_t)i;
    if (known[_i].n == 2)
        memcpy(in, "\x01\x00", 2);
    ck_assert_int_eq(shim_suite_key_init(&k, 0x1301, secret, unhex(known[_i].secret, secret)),
                     MESH_OK);
    k.seq = known[_i].seq;
    ck_assert_uint_eq(ops->seal(&k, known[_i].type, in, known[_i].n, out), n);
    ck_assert_mem_eq(out, rec, n);
    ck_assert_uint_eq(k.seq, known[_i].seq + 1);
    k.seq = known[_i].seq;
    ck_assert_int_eq(ops->open(&k, rec, n, back, &len, &type), MESH_OK);
    ck_assert_uint_eq(type, known[_i].type);
    ck_assert_uint_eq(len, known[_i].n);
    ck_assert_mem_eq(back, in, len);
}
END_TEST

START_TEST(key_init_refuses)
{
    struct shim_key k = {0}, none = {0};
    uint8_t secret[48] = {0};
    ck_assert_int_ne(shim_suite_key_init(&k, 0x1300, secret, 32), MESH_OK);
    ck_assert_int_ne(shim_suite_key_init(&k, 0x1304, secret, 32), MESH_OK);
    ck_assert_int_ne(shim_suite_key_init(&k, 0x1301, secret, 48), MESH_OK);
    ck_assert_int_ne(shim_suite_key_init(&k, 0x1302, secret, 32), MESH_OK);
    ck_assert_int_ne(shim_suite_key_init(&k, 0x1301, secret, 0), MESH_OK);
    ck_assert_mem_eq(&k, &none, sizeof(k));
}
END_TEST

/* ---- sizes ---- */

static const size_t sizes[] = {0,    1,    2,    15,   16,   17,   63,    64,    65,
                               1350, 2047, 2048, 2049, 4096, 8191, 16383, 16384};
#define SIZES ((int)(sizeof(sizes) / sizeof(sizes[0])))

/* Buffers of exactly the sizes that the contract names, so that a sanitizer sees one byte more. */
START_TEST(round_trip)
{
    size_t n = sizes[_i];
    for (int s = 0; s < 3; s++) {
        struct shim_key tx = key_of(suites[s], 7), rx = tx;
        uint8_t *in = pattern(n), *rec = malloc(n + SHIM_REC_OVERHEAD), *ref = malloc(n + 22);
        uint8_t *out = malloc(n > 0 ? n : 1), type = 0;
        size_t len = 99;
        in[n] = 23;
        raw_seal(&tx, in, n + 1, ref);
        ck_assert_uint_eq(ops->seal(&tx, 23, in, n, rec), n + SHIM_REC_OVERHEAD);
        ck_assert_mem_eq(rec, ref, n + 22);
        ck_assert_int_eq(ops->open(&rx, rec, n + 22, out, &len, &type), MESH_OK);
        ck_assert_uint_eq(len, n);
        ck_assert_uint_eq(type, 23);
        ck_assert(n == 0 || memcmp(in, out, n) == 0);
        ck_assert_mem_eq(&tx, &rx, sizeof(tx));
        free(in);
        free(rec);
        free(ref);
        free(out);
    }
}
END_TEST

START_TEST(in_place)
{
    size_t n = sizes[_i];
    struct shim_key tx = key_of(0x1301, 8), rx = tx;
    uint8_t *rec = malloc(n + SHIM_REC_OVERHEAD), *want = pattern(n), type = 0;
    size_t len = 0;
    memcpy(rec + 5, want, n);
    ck_assert_uint_eq(ops->seal(&tx, 23, rec + 5, n, rec), n + SHIM_REC_OVERHEAD);
    ck_assert_int_eq(ops->open(&rx, rec, n + 22, rec + 5, &len, &type), MESH_OK);
    ck_assert_uint_eq(len, n);
    ck_assert(n == 0 || memcmp(rec + 5, want, n) == 0);
    free(rec);
    free(want);
}
END_TEST

START_TEST(sequence)
{
    struct shim_key tx = key_of(suites[_i], 9), rx = tx;
    uint8_t rec[64], out[64], type = 0;
    size_t len = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        ck_assert_uint_eq(ops->seal(&tx, 23, (const uint8_t *)&i, 8, rec), 30);
        ck_assert_uint_eq(tx.seq, i + 1);
        ck_assert_int_eq(ops->open(&rx, rec, 30, out, &len, &type), MESH_OK);
        ck_assert_mem_eq(out, &i, 8);
        /* the same record again is another sequence number's */
        ck_assert_int_eq(ops->open(&rx, rec, 30, out, &len, &type), MESH_E_BAD_MAC);
    }
}
END_TEST

START_TEST(too_much_to_seal)
{
    struct shim_key k = key_of(0x1301, 1), was = k;
    uint8_t *in = pattern(SHIM_REC_PLAIN_MAX + 1), *out = malloc(SHIM_REC_MAX);
    ck_assert_uint_eq(ops->seal(&k, 23, in, SHIM_REC_PLAIN_MAX + 1, out), 0);
    ck_assert_mem_eq(&k, &was, sizeof(k));
    k.suite = 0;
    ck_assert_uint_eq(ops->seal(&k, 23, in, 1, out), 0);
    free(in);
    free(out);
}
END_TEST

/* ---- hostile records ---- */

static void
assert_refused(const struct shim_key *key, const uint8_t *rec, size_t n, enum mesh_err want)
{
    struct shim_key k = *key;
    uint8_t *copy = malloc(n > 0 ? n : 1), *out = malloc(n > 22 ? n - 22 : 1), type = 77;
    size_t len = 77;
    memcpy(copy, rec, n);
    memset(out, 0xee, n > 22 ? n - 22 : 1);
    ck_assert_int_eq(ops->open(&k, copy, n, out, &len, &type), (int)want);
    ck_assert_mem_eq(&k, key, sizeof(k));
    ck_assert_uint_eq(len, 77);
    ck_assert_uint_eq(type, 77);
    ck_assert_uint_eq(ERR_peek_error(), 0);
    for (size_t i = 0; n > 22 && i < n - 22; i++)
        ck_assert(out[i] == 0 || (want == MESH_E_BAD_RECORD && out[i] == 0xee));
    free(copy);
    free(out);
}

START_TEST(truncations)
{
    struct shim_key tx = key_of(suites[_i], 3), rx = tx;
    uint8_t rec[128], in[100] = {1, 2, 3};
    size_t n = ops->seal(&tx, 23, in, sizeof(in), rec);
    for (size_t i = 0; i < n; i++) {
        assert_refused(&rx, rec, i, MESH_E_BAD_RECORD);
        if (i < 5)
            continue;
        /* cut, and the header made to fit */
        uint8_t cut[128];
        memcpy(cut, rec, i);
        cut[3] = 0;
        cut[4] = (uint8_t)(i - 5);
        assert_refused(&rx, cut, i, i < 22 ? MESH_E_BAD_RECORD : MESH_E_BAD_MAC);
    }
}
END_TEST

START_TEST(bit_flips)
{
    struct shim_key tx = key_of(suites[_i], 4), rx = tx;
    uint8_t rec[128], in[64] = {1, 2, 3};
    size_t n = ops->seal(&tx, 23, in, sizeof(in), rec);
    for (size_t bit = 0; bit < n * 8; bit++) {
        rec[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_refused(&rx, rec, n, bit < 40 ? MESH_E_BAD_RECORD : MESH_E_BAD_MAC);
        rec[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    uint8_t out[64], type = 0;
    size_t len = 0;
    ck_assert_int_eq(ops->open(&rx, rec, n, out, &len, &type), MESH_OK);
}
END_TEST

/* [RFC8446 5.1, 5.2] outer type and version, and what a plain record would look like. */
START_TEST(outer_shape)
{
    struct shim_key tx = key_of(0x1301, 5), rx = tx;
    uint8_t rec[64], in[8] = {0};
    size_t n = ops->seal(&tx, 23, in, sizeof(in), rec);
    for (int t = 0; t < 256; t++) {
        rec[0] = (uint8_t)t;
        if (t != 23)
            assert_refused(&rx, rec, n, MESH_E_BAD_RECORD);
    }
    rec[0] = 23;
    rec[2] = 1;
    assert_refused(&rx, rec, n, MESH_E_BAD_RECORD);
    rec[2] = 3;
    rec[4]++;
    assert_refused(&rx, rec, n, MESH_E_BAD_RECORD);
    rx.suite = 0x1304;
    rec[4]--;
    assert_refused(&rx, rec, n, MESH_E_BAD_RECORD);
}
END_TEST

/* [RFC8446 5.4] padding of every length, content of every small length. */
START_TEST(padding)
{
    struct shim_key k = key_of(suites[_i], 6);
    uint8_t rec[512], out[512], type = 0, inner[300];
    for (size_t n = 0; n < 40; n += 3) {
        for (size_t pad = 0; pad < 200; pad += 1 + pad / 10) {
            struct shim_key rx = k;
            size_t len = 0;
            memset(inner, 0, sizeof(inner));
            memset(inner, 0, n); /* content of zeros: only the type ends the padding */
            inner[n] = 23;
            size_t r = raw_seal(&k, inner, n + 1 + pad, rec);
            ck_assert_int_eq(ops->open(&rx, rec, r, out, &len, &type), MESH_OK);
            ck_assert_uint_eq(len, n);
            ck_assert_uint_eq(type, 23);
            ck_assert_uint_eq(rx.seq, 1);
        }
    }
}
END_TEST

START_TEST(only_zeros)
{
    struct shim_key k = key_of(suites[_i], 6);
    static const size_t lens[] = {1, 2, 17, 300, 16385};
    uint8_t *inner = calloc(1, 16385), *rec = malloc(SHIM_REC_MAX);
    for (int i = 0; i < 5; i++)
        assert_refused(&k, rec, raw_seal(&k, inner, lens[i], rec), MESH_E_BAD_RECORD);
    free(inner);
    free(rec);
}
END_TEST

/* [RFC8446 5.2, 5.4] 2^14 bytes of content are the most, and 2^14+1 with type and padding. */
START_TEST(longest)
{
    struct shim_key k = key_of(0x1301, 6), rx = k;
    uint8_t *inner = calloc(1, 17000), *rec = malloc(17100), *out = malloc(16384), type = 0;
    size_t len = 0;
    inner[16384] = 23;
    ck_assert_int_eq(ops->open(&rx, rec, raw_seal(&k, inner, 16385, rec), out, &len, &type),
                     MESH_OK);
    ck_assert_uint_eq(len, 16384);
    assert_refused(&k, rec, raw_seal(&k, inner, 16386, rec), MESH_E_BAD_RECORD);
    inner[16384] = 0;
    inner[16385] = 23;
    assert_refused(&k, rec, raw_seal(&k, inner, 16386, rec), MESH_E_BAD_RECORD);
    inner[5] = 23; /* short content, but padded beyond the limit */
    inner[16385] = 0;
    assert_refused(&k, rec, raw_seal(&k, inner, 16624, rec), MESH_E_BAD_RECORD);
    assert_refused(&k, rec, raw_seal(&k, inner, 16625, rec), MESH_E_BAD_RECORD);
    free(inner);
    free(rec);
    free(out);
}
END_TEST

/* [RFC8446 5] only alert, handshake and data; [5.1, 5.4] the first two not empty. */
START_TEST(inner_types)
{
    struct shim_key k = key_of(0x1301, 6);
    uint8_t inner[2] = {9, 0}, rec[64], out[64], type = 0;
    size_t len = 0;
    for (int t = 1; t < 256; t++) {
        struct shim_key rx = k;
        inner[1] = (uint8_t)t;
        size_t n = raw_seal(&k, inner, 2, rec);
        if (t < 21 || t > 23)
            assert_refused(&k, rec, n, MESH_E_BAD_RECORD);
        else
            ck_assert_int_eq(ops->open(&rx, rec, n, out, &len, &type), MESH_OK);
        n = raw_seal(&k, inner + 1, 1, rec);
        if (t != 23)
            assert_refused(&k, rec, n, MESH_E_BAD_RECORD);
        else
            ck_assert_int_eq(ops->open(&rx, rec, n, out, &len, &type), MESH_E_BAD_MAC);
    }
}
END_TEST

/* The record's end and the output's end at the edge of unmapped memory. */
START_TEST(guard_page)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), len = 0;
    struct shim_key tx = key_of(suites[_i], 2), rx = tx;
    uint8_t in[64] = {5}, type = 0;
    uint8_t *m = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(m, MAP_FAILED);
    ck_assert_int_eq(mprotect(m + page, page, PROT_NONE), 0);
    ck_assert_int_eq(mprotect(m + 3 * page, page, PROT_NONE), 0);
    for (size_t n = 0; n <= sizeof(in); n++) {
        uint8_t *rec = m + page - n - 22, *out = m + 3 * page - n;
        ck_assert_uint_eq(ops->seal(&tx, 23, in, n, rec), n + 22);
        ck_assert_int_eq(ops->open(&rx, rec, n + 22, out, &len, &type), MESH_OK);
        ck_assert_uint_eq(len, n);
    }
    munmap(m, 4 * page);
}
END_TEST

/* A processor without the instructions: all AES is EVP's. */
static void
by_evp(void)
{
    ck_assert_ptr_nonnull(shim_tls_engine(NULL)); /* which sets it */
    for (size_t i = 0; i < SHIM_SUITES; i++)
        shim_suites[i].gcm_longest = 0;
}

static TCase *
records(const char *name, SFun before)
{
    TCase *tc = tcase_create(name);
    tcase_add_checked_fixture(tc, before, NULL);
    tcase_add_loop_test(tc, known_keys, 0, 2);
    tcase_add_loop_test(tc, known_records, 0, 4);
    tcase_add_test(tc, key_init_refuses);
    tcase_add_loop_test(tc, round_trip, 0, SIZES);
    tcase_add_loop_test(tc, in_place, 0, SIZES);
    tcase_add_loop_test(tc, sequence, 0, 3);
    tcase_add_test(tc, too_much_to_seal);
    tcase_add_loop_test(tc, truncations, 0, 3);
    tcase_add_loop_test(tc, bit_flips, 0, 3);
    tcase_add_test(tc, outer_shape);
    tcase_add_loop_test(tc, padding, 0, 3);
    tcase_add_loop_test(tc, only_zeros, 0, 3);
    tcase_add_test(tc, longest);
    tcase_add_test(tc, inner_types);
    tcase_add_loop_test(tc, guard_page, 0, 3);
    return tc;
}

int
main(void)
{
    TCase *all[] = {records("records", NULL), records("records through EVP", by_evp)};
    return run_cases("tls record", all, 2);
}
