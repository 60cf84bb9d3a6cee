/* SPDX-License-Identifier: Apache-2.0
 *
 * serve: the servers for which no program is wanted: one thread, epoll, any number of connections.
 */
#ifndef MESHLOAD_SERVE_H
#define MESHLOAD_SERVE_H

#include <stddef.h>
#include <sys/socket.h>

struct ssl_ctx_st;

enum serve_kind {
    SERVE_ECHO, /* what comes goes back */
    SERVE_SINK, /* one byte for each `size` that came */
    SERVE_HTTP, /* each request is answered 200 with `size` bytes */
};

struct serve_spec {
    struct sockaddr_storage at;
    socklen_t at_len;
    struct ssl_ctx_st *tls; /* or NULL */
    enum serve_kind kind;
    size_t size;
};

/* Prints "ready" when it listens, and serves until the process is ended. Returns only to say that it failed. */
int serve_run(const struct serve_spec *spec);

#endif
