/* SPDX-License-Identifier: Apache-2.0
 *
 * stream: a TCP connection that does not block, plain or in TLS 1.3 with certificates on both sides (OpenSSL,
 * X25519, AES-128-GCM: what the mesh uses). Reading and writing follow read(2): -1 and EAGAIN, with `want`
 * saying what to wait for; EPROTO is TLS's failure.
 */
#ifndef MESHLOAD_STREAM_H
#define MESHLOAD_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct ssl_st;
struct ssl_ctx_st;

/* Certificate and key of this side, and who signs the others'; files in PEM. */
struct stream_tls {
    const char *cert, *key, *ca;
};

struct stream {
    int fd;
    uint32_t want; /* EPOLLIN or EPOLLOUT, after EAGAIN */
    bool tcp_up;
    struct ssl_st *ssl;
};

/* NULL, with a line on stderr, if it cannot be had. Lives as long as the process. */
struct ssl_ctx_st *stream_tls_new(const struct stream_tls *files, bool server);

/* `ctx` is NULL for plain TCP. Borrowed. */
int stream_connect(struct stream *s, const struct sockaddr *to, socklen_t len, struct ssl_ctx_st *ctx);
int stream_accept(struct stream *s, int listener, struct ssl_ctx_st *ctx);

/* 0: TCP and TLS are up; else -1. */
int stream_ready(struct stream *s);

ssize_t stream_read(struct stream *s, void *buf, size_t n);
ssize_t stream_write(struct stream *s, const void *buf, size_t n);

/* May more be read without waiting, after a read that returned `got` of `asked`? */
bool stream_more(const struct stream *s, size_t got, size_t asked);

void stream_close(struct stream *s);

#endif
