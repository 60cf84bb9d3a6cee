/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_handoff: delivers to a TLS server of the mesh, and to nobody else. The server is a child
 * that accepts once and writes what it got, and from whom, to a pipe.
 */
#include "meshd/ident/handoff.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/ident/ca.h"
#include "meshd/ident/cert.h"
#include "tests/unit/unit.h"

#define SERVER "spiffe://mesh.local/ns/default/sa/server"
#define CLIENT "spiffe://mesh.local/ns/default/sa/client"

static const char *dir;
static char state[512];

static void
setup(void)
{
    meshd_log_set(MESHD_LOG_ERROR);
    signal(SIGPIPE, SIG_IGN);
    dir = unit_mkdir();
    snprintf(state, sizeof(state), "%s/state", dir);
    ck_assert_int_eq(meshd_loop_init(), MESH_OK);
    ck_assert_int_eq(meshd_ca_init(state, "mesh.local"), MESH_OK);
}

static void
teardown(void)
{
    meshd_handoff_fini();
    meshd_ca_fini();
    meshd_loop_fini();
    unit_rmdir(dir);
}

static SSL_CTX *
server_ctx(void)
{
    struct meshd_svid s;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    ck_assert_int_eq(meshd_ca_issue("server", SERVER, 60, 1, &s), MESH_OK);
    const unsigned char *p = s.chain;
    X509 *leaf = d2i_X509(NULL, &p, (long)s.chain_len);
    X509 *mid = d2i_X509(NULL, &p, s.chain + s.chain_len - p);
    p = s.key;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &p, (long)s.key_len);
    p = s.bundle;
    X509 *root = d2i_X509(NULL, &p, (long)s.bundle_len);
    ck_assert(SSL_CTX_use_certificate(ctx, leaf) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1 &&
              SSL_CTX_add0_chain_cert(ctx, mid) == 1 &&
              X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), root) == 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    X509_free(leaf);
    X509_free(root);
    EVP_PKEY_free(key);
    meshd_svid_fini(&s);
    return ctx;
}

struct report {
    char id[MESH_ID_MAX];
    size_t n;
    int clean; /* close_notify was seen */
    uint32_t sum;
};

static void
serve(int listener, int out)
{
    struct report r = {0};
    char buf[8192];
    SSL *ssl = SSL_new(server_ctx());
    int fd = accept(listener, NULL, NULL);
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
        X509 *x = SSL_get1_peer_certificate(ssl);
        meshd_ident_is_svid(x, r.id);
        int n;
        while ((n = SSL_read(ssl, buf, sizeof(buf))) > 0) {
            for (int i = 0; i < n; i++) {
                r.sum = r.sum * 31 + (uint8_t)buf[i];
            }
            r.n += (size_t)n;
        }
        r.clean = SSL_get_error(ssl, n) == SSL_ERROR_ZERO_RETURN;
    }
    if (write(out, &r, sizeof(r)) != (ssize_t)sizeof(r)) {
        _exit(1);
    }
    SSL_shutdown(ssl);
    close(fd);
    _exit(0);
}

static struct report
deliver(const char *expect, const uint8_t *data, size_t len, int brought)
{
    struct report r = {0};
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t sl = sizeof(sa);
    int out[2], fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    ck_assert_int_eq(listen(fd, 4), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&sa, &sl), 0);
    ck_assert_int_eq(pipe(out), 0);
    pid_t pid = fork();
    if (pid == 0) {
        serve(fd, out[1]);
    }
    close(fd);
    close(out[1]);
    struct meshd_handoff_job job = {
        .to = {.ip = {[10] = 0xff, [11] = 0xff, 127, 0, 0, 1}, .port = ntohs(sa.sin_port)},
        .service = "client", .id = CLIENT, .expect_id = expect, .data = data, .len = len, .pid = 9, .fd = brought,
    };
    ck_assert_int_eq(meshd_handoff_start(&job), MESH_OK);
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        event_base_loop(meshd_loop(), EVLOOP_NONBLOCK);
    }
    ck_assert_int_eq(read(out[0], &r, sizeof(r)), sizeof(r));
    close(out[0]);
    return r;
}

static uint32_t
sum_of(const uint8_t *p, size_t n)
{
    uint32_t s = 0;
    for (size_t i = 0; i < n; i++) {
        s = s * 31 + p[i];
    }
    return s;
}

START_TEST(delivers)
{
    static uint8_t data[65536];
    const size_t sizes[] = {0, 1, 16384, sizeof(data)};
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 7);
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct report r = deliver(SERVER, data, sizes[i], i % 2 ? socket(AF_INET, SOCK_STREAM, 0) : -1);
        ck_assert_str_eq(r.id, CLIENT);
        ck_assert_uint_eq(r.n, sizes[i]);
        ck_assert_uint_eq(r.sum, sum_of(data, sizes[i]));
        ck_assert_int_eq(r.clean, 1);
    }
}
END_TEST

START_TEST(not_to_somebody_else)
{
    struct report r = deliver("spiffe://mesh.local/ns/default/sa/other", (const uint8_t *)"x", 1, -1);
    ck_assert_uint_eq(r.n, 0);
    ck_assert_str_eq(r.id, "");
}
END_TEST

START_TEST(bounded)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t sl = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* never answers */
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    ck_assert_int_eq(listen(fd, 128), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&sa, &sl), 0);
    struct meshd_handoff_job job = {
        .to = {.ip = {[10] = 0xff, [11] = 0xff, 127, 0, 0, 1}, .port = ntohs(sa.sin_port)},
        .service = "client", .id = CLIENT, .expect_id = SERVER, .data = (const uint8_t *)"x",
        .len = 1, .pid = 9, .fd = -1,
    };
    for (int i = 0; i < MESHD_HANDOFFS_MAX; i++) {
        ck_assert_int_eq(meshd_handoff_start(&job), MESH_OK);
    }
    ck_assert_int_eq(meshd_handoff_start(&job), MESH_E_NO_MEMORY);
    enum mesh_err e = MESH_E_NO_MEMORY;
    while (e == MESH_E_NO_MEMORY) { /* until their time is over, or the test's */
        event_base_loop(meshd_loop(), EVLOOP_ONCE);
        e = meshd_handoff_start(&job);
    }
    ck_assert_int_eq(e, MESH_OK);
    close(fd);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("handoff");
    TCase *t = tcase_create("handoff");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 40);
    tcase_add_test(t, delivers);
    tcase_add_test(t, not_to_somebody_else);
    tcase_add_test(t, bounded);
    suite_add_tcase(s, t);
    return unit_run(s);
}
