/* SPDX-License-Identifier: Apache-2.0
 *
 * bench_tls ENGINE: the engine beside OpenSSL used plainly, in memory, on one core, with the same
 * certificates. The two alternate, CPU time is measured and the median counts, for neighbours make
 * noise.
 *
 * Handshakes are whole ones, both ends; plain is SSL objects over memory BIOs with the same suites,
 * groups and mutual verification. "new peer" is a handshake with a peer that was never met under this identity;
 * "resumed" is by a ticket, with a key exchange, the same ticket each time. Records: plain is EVP on one ready context.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/ssl.h>

#include "shim/tls/tls.h"
#include "tests/unit/tls_pki.h"

#define ROUNDS     15
#define HANDSHAKES 500
#define RECORD_NS  15000000.0 /* about so long a round */

static const struct shim_tls_ops *ops;
static struct pki_cert root, mid, leaf;
static struct pki_identity id;
static SSL_CTX *plain;

static double
now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void
must(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "bench_tls: %s failed\n", what);
    exit(1);
}

static int
by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double
median(double *v, size_t n)
{
    qsort(v, n, sizeof(*v), by_value);
    return v[n / 2];
}

/* ---- handshakes ---- */

static void
plain_init(void)
{
    char groups[] = "X25519:P-256";
    plain = SSL_CTX_new(TLS_method());
    must(plain != NULL && SSL_CTX_use_certificate(plain, leaf.x) == 1 &&
             SSL_CTX_use_PrivateKey(plain, leaf.key) == 1 &&
             SSL_CTX_add1_chain_cert(plain, mid.x) == 1 &&
             X509_STORE_add_cert(SSL_CTX_get_cert_store(plain), root.x) == 1 &&
             SSL_CTX_set_min_proto_version(plain, TLS1_3_VERSION) == 1 &&
             SSL_CTX_set_ciphersuites(plain, "TLS_AES_128_GCM_SHA256") == 1 &&
             SSL_CTX_set1_groups_list(plain, groups) == 1 &&
             SSL_CTX_set_num_tickets(plain, 0) == 1,
         "plain setup");
    SSL_CTX_set_session_id_context(plain, (const unsigned char *)"bench", 5);
    SSL_CTX_set_session_cache_mode(plain, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(plain, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
}

static void
bytes_move(SSL *from, SSL *to)
{
    uint8_t buf[8192];
    int n;
    while ((n = BIO_read(SSL_get_wbio(from), buf, sizeof(buf))) > 0)
        must(BIO_write(SSL_get_rbio(to), buf, n) == n, "BIO_write");
}

static int resuming;
static SSL_SESSION *plain_session; /* what the client was given last */

static void
plain_handshake(void)
{
    SSL *c = SSL_new(plain), *s = SSL_new(plain);
    must(!resuming || SSL_set_session(c, plain_session) == 1, "plain session");
    SSL_set_bio(c, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_bio(s, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(c);
    SSL_set_accept_state(s);
    SSL_do_handshake(c);
    bytes_move(c, s);
    SSL_do_handshake(s);
    bytes_move(s, c);
    must(SSL_do_handshake(c) == 1, "plain client");
    bytes_move(c, s);
    must(SSL_do_handshake(s) == 1, "plain server");
    must(SSL_session_reused(c) == resuming && SSL_session_reused(s) == resuming, "plain resumption");
    if (SSL_CTX_get_num_tickets(plain) > 0) {
        uint8_t none;
        bytes_move(s, c);
        must(SSL_read(c, &none, 1) < 0 && (plain_session = SSL_get1_session(c)) != NULL, "plain ticket");
    }
    SSL_set_shutdown(c, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* else its session would count as broken */
    SSL_free(c);
    SSL_free(s);
}

/* Feeds one end record by record, as the contract asks; its output goes to `out`. */
static size_t
engine_feed(struct shim_hs *hs, const uint8_t *in, size_t n, uint8_t *out, size_t cap,
            enum shim_hs_state *st)
{
    size_t made = 0, one = 0;
    for (size_t at = 0; at < n; at += one) {
        size_t got = 0;
        one = SHIM_REC_HEAD + (size_t)(in[at + 3] << 8 | in[at + 4]);
        *st = ops->hs_step(hs, in + at, one, out + made, cap - made, &got);
        made += got;
    }
    return made;
}

static struct shim_ticket client_ticket, server_ticket;

static bool
find_ticket(const uint8_t ticket[32], struct shim_ticket *out)
{
    *out = server_ticket;
    return memcmp(ticket, server_ticket.id, 32) == 0;
}

static void
engine_handshake(void)
{
    static uint8_t a[16384], b[16384];
    enum shim_hs_state cs = SHIM_HS_MORE, ss = SHIM_HS_MORE;
    struct shim_hs_result cr, sr;
    struct shim_hs *c = ops->hs_new(0, PKI_WEB), *s = ops->hs_new(1, NULL);
    size_t n = 0;
    if (resuming)
        ops->hs_offer(c, &client_ticket);
    ops->hs_step(c, NULL, 0, a, sizeof(a), &n);
    n = engine_feed(s, a, n, b, sizeof(b), &ss);
    n = engine_feed(c, b, n, a, sizeof(a), &cs);
    n = engine_feed(s, a, n, b, sizeof(b), &ss);
    must(cs == SHIM_HS_DONE && ss == SHIM_HS_DONE, "engine handshake");
    ops->hs_result(c, &cr);
    ops->hs_result(s, &sr);
    must(cr.resumed == resuming && sr.resumed == resuming, "engine resumption");
    if (!resuming) {
        client_ticket = cr.ticket;
        server_ticket = sr.ticket;
    }
    ops->hs_free(c);
    ops->hs_free(s);
}

static double
handshake_time(void (*one)(void))
{
    double t = now_ns();
    one();
    return now_ns() - t;
}

static void
handshakes_compare(const char *name, int fresh)
{
    static double p[HANDSHAKES], e[HANDSHAKES];
    for (int i = 0; i < HANDSHAKES; i++) {
        if (fresh)
            must(ops->identity_set(&id.id) == MESH_OK, "identity_set");
        e[i] = handshake_time(engine_handshake);
        p[i] = handshake_time(plain_handshake);
    }
    double pm = median(p, HANDSHAKES), em = median(e, HANDSHAKES);
    printf("handshake, %-10s  engine %6.0f/s  plain %6.0f/s  ratio %.2f\n", name, 1e9 / em,
           1e9 / pm, pm / em);
}

/* ---- records ---- */

struct records {
    size_t n; /* content bytes */
    struct shim_key tx, rx;
    EVP_CIPHER_CTX *enc, *dec;
    uint8_t in[16384], rec[SHIM_REC_MAX], out[SHIM_REC_MAX];
};

static void
engine_seal(struct records *r)
{
    r->tx.seq = 0;
    must(ops->seal(&r->tx, SHIM_REC_DATA, r->in, r->n, r->rec) != 0, "seal");
}

static void
engine_open(struct records *r)
{
    size_t len = 0;
    uint8_t type = 0;
    r->rx.seq = 0;
    must(ops->open(&r->rx, r->rec, r->n + SHIM_REC_OVERHEAD, r->out, &len, &type) == MESH_OK,
         "open");
}

static void
plain_seal(struct records *r)
{
    int l = 0, n = (int)r->n;
    must(EVP_EncryptInit_ex(r->enc, NULL, NULL, NULL, r->tx.iv) &&
             EVP_EncryptUpdate(r->enc, NULL, &l, r->rec, 5) &&
             EVP_EncryptUpdate(r->enc, r->out + 5, &l, r->in, n + 1) &&
             EVP_EncryptFinal_ex(r->enc, r->out, &l) &&
             EVP_CIPHER_CTX_ctrl(r->enc, EVP_CTRL_AEAD_GET_TAG, 16, r->out + 6 + n),
         "plain seal");
}

static void
plain_open(struct records *r)
{
    int l = 0, n = (int)r->n;
    must(EVP_DecryptInit_ex(r->dec, NULL, NULL, NULL, r->rx.iv) &&
             EVP_CIPHER_CTX_ctrl(r->dec, EVP_CTRL_AEAD_SET_TAG, 16, r->rec + 6 + n) &&
             EVP_DecryptUpdate(r->dec, NULL, &l, r->rec, 5) &&
             EVP_DecryptUpdate(r->dec, r->out, &l, r->rec + 5, n + 1) &&
             EVP_DecryptFinal_ex(r->dec, r->out, &l),
         "plain open");
}

static double
records_time(void (*one)(struct records *), struct records *r, unsigned times)
{
    double t = now_ns();
    for (unsigned i = 0; i < times; i++)
        one(r);
    return (now_ns() - t) / times;
}

static void
records_compare(struct records *r, const char *name, void (*engine)(struct records *),
                void (*raw)(struct records *))
{
    double p[ROUNDS], e[ROUNDS];
    unsigned times = (unsigned)(RECORD_NS / (records_time(engine, r, 1000) + 1)) + 1;
    for (int i = 0; i < ROUNDS; i++) {
        p[i] = records_time(raw, r, times);
        e[i] = records_time(engine, r, times);
    }
    double pm = median(p, ROUNDS), em = median(e, ROUNDS);
    printf("%-5s %5zu B  engine %7.0f ns  EVP %7.0f ns  ratio %.2f  %.2f GB/s\n", name, r->n, em,
           pm, pm / em, (double)r->n / em);
}

/* Keys of a real handshake. */
static void
keys_make(struct records *r)
{
    enum shim_hs_state st = SHIM_HS_MORE;
    static uint8_t a[16384], b[16384];
    struct shim_hs_result cr, sr;
    struct shim_hs *c = ops->hs_new(0, NULL), *s = ops->hs_new(1, NULL);
    size_t n = 0;
    ops->hs_step(c, NULL, 0, a, sizeof(a), &n);
    n = engine_feed(s, a, n, b, sizeof(b), &st);
    n = engine_feed(c, b, n, a, sizeof(a), &st);
    engine_feed(s, a, n, b, sizeof(b), &st);
    ops->hs_result(c, &cr);
    ops->hs_result(s, &sr);
    r->tx = cr.tx;
    r->rx = sr.rx;
    ops->hs_free(c);
    ops->hs_free(s);
}

/* One record of each of many keys in turn: what a miss in the cache of key schedules costs. */
static void
misses_measure(void)
{
    enum { KEYS = 4096 };
    struct shim_key *k = calloc(KEYS, sizeof(*k));
    uint8_t rec[128], in[64] = {0};
    double best = 1e18;
    must(k != NULL, "calloc");
    for (size_t i = 0; i < KEYS; i++) {
        k[i].suite = 0x1301;
        memcpy(k[i].key, &i, sizeof(i));
        memcpy(k[i].iv, &i, sizeof(i));
    }
    for (int round = 0; round < ROUNDS; round++) {
        double t = now_ns();
        for (size_t i = 0; i < KEYS; i++)
            must(ops->seal(&k[i], SHIM_REC_DATA, in, sizeof(in), rec) != 0, "seal");
        t = (now_ns() - t) / KEYS;
        best = t < best ? t : best;
    }
    printf("seal     64 B  engine %7.0f ns  with a cold key each time\n", best);
    free(k);
}

static void
records_bench(void)
{
    static const size_t sizes[] = {64, 1350, 16384};
    struct records *r = calloc(1, sizeof(*r));
    must(r != NULL, "calloc");
    keys_make(r);
    r->enc = EVP_CIPHER_CTX_new();
    r->dec = EVP_CIPHER_CTX_new();
    must(EVP_EncryptInit_ex(r->enc, EVP_aes_128_gcm(), NULL, r->tx.key, r->tx.iv) &&
             EVP_DecryptInit_ex(r->dec, EVP_aes_128_gcm(), NULL, r->rx.key, r->rx.iv),
         "EVP setup");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        r->n = sizes[i];
        records_compare(r, "seal", engine_seal, plain_seal);
        engine_seal(r);
        records_compare(r, "open", engine_open, plain_open);
    }
    misses_measure();
    EVP_CIPHER_CTX_free(r->enc);
    EVP_CIPHER_CTX_free(r->dec);
    free(r);
}

static void
engine_load(const char *path)
{
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (lib == NULL)
        fprintf(stderr, "%s\n", dlerror());
    must(lib != NULL, "dlopen");
    const struct shim_tls_ops *(*get)(void (*)(void)) = NULL;
    *(void **)&get = dlsym(lib, "shim_tls_engine");
    double t = now_ns();
    ops = get != NULL ? get(NULL) : NULL;
    must(ops != NULL && ops->abi == SHIM_TLS_ABI, "engine");
    printf("setup %.0f us", (now_ns() - t) / 1e3);
}

int
main(int argc, char **argv)
{
    const struct pki_spec issuing = {.name = "issuing",
                                     .basic = "critical,CA:TRUE,pathlen:0",
                                     .usage = "critical,keyCertSign"};
    must(argc == 2, "usage: bench_tls ENGINE");
    engine_load(argv[1]);
    root = pki_root("root");
    mid = pki_new(&issuing, &root);
    leaf = pki_leaf("URI:" PKI_WEB, &mid);
    pki_identity(&id, &leaf, &mid, &root);
    double t = now_ns();
    must(ops->identity_set(&id.id) == MESH_OK, "identity_set");
    printf(", identity %.0f us\n", (now_ns() - t) / 1e3);
    plain_init();
    handshakes_compare("known peer", 0);
    handshakes_compare("new peer", 1);
    SSL_CTX_set_num_tickets(plain, 1);
    plain_handshake();
    SSL_CTX_set_num_tickets(plain, 0);
    ops->tickets(find_ticket);
    resuming = 1;
    handshakes_compare("resumed", 0);
    resuming = 0;
    records_bench();
    pki_identity_free(&id);
    SSL_SESSION_free(plain_session);
    SSL_CTX_free(plain);
    return 0;
}
