/* SPDX-License-Identifier: Apache-2.0
 *
 * stream: see stream.h.
 */
#include "bench/meshload/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

struct ssl_ctx_st *
stream_tls_new(const struct stream_tls *files, bool server)
{
    char groups[] = "X25519";
    SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (ctx == NULL || SSL_CTX_use_certificate_chain_file(ctx, files->cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, files->key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(ctx, files->ca, NULL) != 1 ||
        SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") != 1 || SSL_CTX_set1_groups_list(ctx, groups) != 1) {
        ERR_print_errors_fp(stderr);
        SSL_CTX_free(ctx);
        return NULL;
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    return ctx;
}

static int
start(struct stream *s, struct ssl_ctx_st *ctx, bool server)
{
    int one = 1;
    (void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (ctx != NULL) {
        s->ssl = SSL_new(ctx);
        if (s->ssl == NULL || SSL_set_fd(s->ssl, s->fd) != 1) {
            stream_close(s);
            errno = ENOMEM;
            return -1;
        }
        if (server) {
            SSL_set_accept_state(s->ssl);
        } else {
            SSL_set_connect_state(s->ssl);
        }
    }
    return 0;
}

int
stream_connect(struct stream *s, const struct sockaddr *to, socklen_t len, struct ssl_ctx_st *ctx)
{
    *s = (struct stream){.fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (s->fd < 0) {
        return -1;
    }
    if (connect(s->fd, to, len) != 0 && errno != EINPROGRESS) {
        int e = errno;
        stream_close(s);
        errno = e;
        return -1;
    }
    s->want = EPOLLOUT;
    return start(s, ctx, false);
}

int
stream_accept(struct stream *s, int listener, struct ssl_ctx_st *ctx)
{
    *s = (struct stream){.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), .tcp_up = true};
    return s->fd < 0 ? -1 : start(s, ctx, true);
}

/* What an SSL_ call's result means, as errno. */
static ssize_t
ssl_result(struct stream *s, int r)
{
    int e = errno;
    if (r > 0) {
        return r;
    }
    switch (SSL_get_error(s->ssl, r)) {
    case SSL_ERROR_WANT_READ:
        s->want = EPOLLIN;
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_WANT_WRITE:
        s->want = EPOLLOUT;
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        ERR_clear_error();
        errno = e != 0 ? e : EPROTO;
        return -1;
    default:
        ERR_clear_error();
        errno = EPROTO;
        return -1;
    }
}

int
stream_ready(struct stream *s)
{
    int e = 0;
    socklen_t len = sizeof(e);
    if (!s->tcp_up) {
        if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &e, &len) != 0 || e != 0) {
            errno = e != 0 ? e : errno;
            return -1;
        }
        s->tcp_up = true;
    }
    if (s->ssl == NULL || SSL_is_init_finished(s->ssl)) {
        return 0;
    }
    ERR_clear_error();
    errno = 0;
    return ssl_result(s, SSL_do_handshake(s->ssl)) > 0 ? 0 : -1;
}

ssize_t
stream_read(struct stream *s, void *buf, size_t n)
{
    if (s->ssl != NULL) {
        ERR_clear_error();
        errno = 0;
        return ssl_result(s, SSL_read(s->ssl, buf, (int)n));
    }
    s->want = EPOLLIN;
    return recv(s->fd, buf, n, 0);
}

ssize_t
stream_write(struct stream *s, const void *buf, size_t n)
{
    if (s->ssl != NULL) {
        ERR_clear_error();
        errno = 0;
        return ssl_result(s, SSL_write(s->ssl, buf, (int)n));
    }
    s->want = EPOLLOUT;
    return send(s->fd, buf, n, MSG_NOSIGNAL);
}

bool
stream_more(const struct stream *s, size_t got, size_t asked)
{
    /* SSL_read() gives one record at a time. A wait wakes up again for what is still in the kernel. */
    return s->ssl != NULL ? SSL_has_pending(s->ssl) : got == asked;
}

void
stream_close(struct stream *s)
{
    if (s->ssl != NULL) {
        if (SSL_is_init_finished(s->ssl)) {
            (void)SSL_shutdown(s->ssl);
            ERR_clear_error();
        }
        SSL_free(s->ssl);
        s->ssl = NULL;
    }
    if (s->fd >= 0) {
        (void)close(s->fd);
    }
    s->fd = -1;
}
