/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_probe: see probe.h. One certificate serves all checks until it is due; its key lives here only.
 */
#include "meshd/ident/probe.h"

#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include "meshd/attest/attest.h"
#include "meshd/base/log.h"
#include "meshd/ident/ca.h"
#include "meshd/ident/cert.h"
#include "meshd/ident/client.h"

#define LEAF_S 86400

static SSL_CTX *ctx;
static uint64_t renew_at;

static SSL_CTX *
current(void)
{
    char id[MESH_ID_MAX];
    struct meshd_svid svid = {0};
    if (ctx && (uint64_t)time(NULL) < renew_at) {
        return ctx;
    }
    if (meshd_attest_id(MESHD_PROBE_SERVICE, id) == MESH_OK &&
        meshd_ca_issue(MESHD_PROBE_SERVICE, id, LEAF_S, getpid(), &svid) == MESH_OK) {
        SSL_CTX *fresh = meshd_ident_client_ctx(&svid);
        if (fresh) {
            SSL_CTX_set_session_cache_mode(fresh, SSL_SESS_CACHE_OFF);
            SSL_CTX_free(ctx); /* connections hold theirs */
            ctx = fresh;
            renew_at = svid.info.renew_at;
        }
    }
    meshd_svid_fini(&svid);
    return ctx;
}

struct bufferevent *
meshd_probe_new(int fd, const char *id)
{
    SSL *ssl = current() ? SSL_new(ctx) : NULL;
    if (!ssl) {
        log_warn("no certificate for health checks: %s", meshd_ident_why());
        return NULL;
    }
    meshd_ident_client_expect(ssl, id);
    struct bufferevent *bev =
        bufferevent_openssl_socket_new(meshd_loop(), fd, ssl, BUFFEREVENT_SSL_CONNECTING,
                                       BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    if (!bev) {
        SSL_free(ssl);
    }
    return bev;
}

const char *
meshd_probe_why(struct bufferevent *bev)
{
    const SSL *ssl = bufferevent_openssl_get_ssl(bev);
    unsigned long error = bufferevent_get_openssl_error(bev);
    long verified = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;
    const char *why = error ? ERR_reason_error_string(error) : NULL;
    ERR_clear_error();
    if (verified == X509_V_ERR_APPLICATION_VERIFICATION) {
        return "the peer shows another identity";
    }
    if (verified != X509_V_OK) {
        return X509_verify_cert_error_string(verified);
    }
    return why ? why : "the peer ended the TLS handshake";
}

void
meshd_probe_free(struct bufferevent *bev)
{
    SSL *ssl = bufferevent_openssl_get_ssl(bev);
    if (ssl && SSL_is_init_finished(ssl)) {
        SSL_shutdown(ssl);
        ERR_clear_error();
    }
    bufferevent_free(bev);
}

void
meshd_probe_fini(void)
{
    SSL_CTX_free(ctx);
    ctx = NULL;
    renew_at = 0;
}
