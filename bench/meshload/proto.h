/* SPDX-License-Identifier: Apache-2.0
 *
 * proto: what is asked, and whether the answer is right. Requests are made once, in one piece of memory that
 * all connections share (the script); a connection sends spans of it, so that neither is anything copied nor
 * made while time is measured. All requests of a script are equally long.
 */
#ifndef MESHLOAD_PROTO_H
#define MESHLOAD_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each error that a run counts: symbol, name in the report. */
#define LOAD_ERRORS(X)                                                                                       \
    X(CONNECT, connect)   /* the connection could not be had, or its TLS */                                  \
    X(RESET, reset)       /* it failed in use */                                                             \
    X(EOF, eof)           /* it ended while an answer was due */                                             \
    X(REPLY, reply)       /* an answer that says no: -ERR, 404, a value that is not there */                 \
    X(CONTENT, content)   /* an answer that is not what was asked, or no answer of this protocol */          \
    X(UNANSWERED, unanswered) /* not answered when the run was over */

enum load_err {
    LOAD_OK,
#define X(symbol, name) LOAD_##symbol,
    LOAD_ERRORS(X)
#undef X
    LOAD_ERR_COUNT
};

struct proto_spec {
    const char *name;    /* echo, sink, resp, http */
    const char *command; /* resp: get, set, ping */
    const char *prefix;  /* resp: three letters with which keys begin */
    const char *path;    /* http */
    size_t size;         /* echo, sink: of a request; resp: of a value */
    unsigned keys;       /* resp: how many there are */
    bool close;          /* http: a connection for each request */
};

struct proto {
    const struct proto_ops *ops;
    size_t size;
    unsigned requests; /* in the script */
    size_t request_len;
    uint8_t *script;
};

/* How far a connection has read its answers. All zero at its begin. */
struct answer {
    int state;
    uint64_t left; /* bytes of the body, or how far into it */
    bool close;    /* the server ends the connection after this answer */
    bool no;       /* the answer says no */
    unsigned line_len;
    char line[512];
};

/* False, with a line on stderr, if there is no such protocol, or no memory. */
bool proto_init(struct proto *p, const struct proto_spec *spec);
void proto_fini(struct proto *p);

/* Reads on: adds the answers that are complete to *done, those of them that say no to *refused. */
enum load_err proto_feed(const struct proto *p, struct answer *a, const uint8_t *in, size_t n, unsigned *done,
                         unsigned *refused);

#endif
