/* SPDX-License-Identifier: Apache-2.0
 *
 * proto: see proto.h.
 */
#include "bench/meshload/proto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SCRIPT_MAX      (4u << 20)
#define SCRIPT_REQUESTS 1024u

struct feed {
    const uint8_t *in;
    size_t n;
    unsigned done, refused;
};

struct proto_ops {
    const char *name;
    /* Writes one request; with `buf` NULL only says how long it is. */
    size_t (*make)(const struct proto_spec *spec, char *buf, size_t cap, uint64_t *seed);
    /* Takes some of f->in. */
    enum load_err (*take)(const struct proto *p, struct answer *a, struct feed *f);
};

static void
answer_end(struct answer *a, struct feed *f)
{
    f->done++;
    f->refused += a->no;
    a->no = false;
    a->state = 0;
    a->left = 0;
}

static void
consume(struct feed *f, size_t n)
{
    f->in += n;
    f->n -= n;
}

/* True when a line is complete: a->line has it without its end. A line that does not fit is cut. */
static bool
line_take(struct answer *a, struct feed *f)
{
    const uint8_t *end = memchr(f->in, '\n', f->n);
    size_t n = end != NULL ? (size_t)(end - f->in) : f->n, room = sizeof(a->line) - 1 - a->line_len;
    memcpy(a->line + a->line_len, f->in, n < room ? n : room);
    a->line_len += (unsigned)(n < room ? n : room);
    consume(f, end != NULL ? n + 1 : n);
    if (end == NULL) {
        return false;
    }
    a->line_len -= a->line_len > 0 && a->line[a->line_len - 1] == '\r';
    a->line[a->line_len] = '\0';
    a->line_len = 0;
    return true;
}

/* ---- echo: what was sent comes back; sink: one byte for each request ---- */

static size_t
bytes_make(const struct proto_spec *spec, char *buf, size_t cap, uint64_t *seed)
{
    (void)seed;
    for (size_t i = 0; buf != NULL && i < spec->size && i < cap; i++) {
        buf[i] = (char)(i * 31 + 7 + (i >> 8));
    }
    return spec->size;
}

static enum load_err
echo_take(const struct proto *p, struct answer *a, struct feed *f)
{
    size_t n = p->size - a->left;
    n = n < f->n ? n : f->n;
    if (memcmp(p->script + a->left, f->in, n) != 0) {
        return LOAD_CONTENT;
    }
    consume(f, n);
    a->left += n;
    if (a->left == p->size) {
        answer_end(a, f);
    }
    return LOAD_OK;
}

static enum load_err
sink_take(const struct proto *p, struct answer *a, struct feed *f)
{
    (void)p;
    consume(f, 1);
    answer_end(a, f);
    return LOAD_OK;
}

/* ---- RESP ---- */

static size_t
resp_make(const struct proto_spec *spec, char *buf, size_t cap, uint64_t *seed)
{
    /* One after the other, so that who writes as many as there are has written all. */
    unsigned key = (unsigned)(spec->keys > 0 ? *seed % spec->keys : 0);
    int n;
    *seed += buf != NULL;
    if (strcmp(spec->command, "ping") == 0) {
        return (size_t)snprintf(buf, cap, "*1\r\n$4\r\nPING\r\n");
    }
    if (strcmp(spec->command, "get") == 0) {
        return (size_t)snprintf(buf, cap, "*2\r\n$3\r\nGET\r\n$16\r\n%.3s:%012u\r\n", spec->prefix, key);
    }
    n = snprintf(buf, cap, "*3\r\n$3\r\nSET\r\n$16\r\n%.3s:%012u\r\n$%zu\r\n", spec->prefix, key, spec->size);
    if (buf != NULL && (size_t)n + spec->size + 2 <= cap) {
        memset(buf + n, 'x', spec->size);
        memcpy(buf + n + spec->size, "\r\n", 2);
    }
    return (size_t)n + spec->size + 2;
}

enum { RESP_LINE, RESP_BODY };

static enum load_err
resp_line(const struct proto *p, struct answer *a, struct feed *f)
{
    switch (a->line[0]) {
    case '-':
        a->no = true;
        answer_end(a, f);
        return LOAD_OK;
    case '+':
    case ':':
        answer_end(a, f);
        return LOAD_OK;
    case '$':
        if (a->line[1] == '-') {
            a->no = true;
            answer_end(a, f);
            return LOAD_OK;
        }
        a->left = strtoull(a->line + 1, NULL, 10) + 2;
        a->state = RESP_BODY;
        return a->left == p->size + 2 ? LOAD_OK : LOAD_CONTENT;
    default:
        return LOAD_CONTENT;
    }
}

static enum load_err
resp_take(const struct proto *p, struct answer *a, struct feed *f)
{
    if (a->state == RESP_LINE) {
        return line_take(a, f) ? resp_line(p, a, f) : LOAD_OK;
    }
    size_t n = a->left < f->n ? (size_t)a->left : f->n;
    consume(f, n);
    a->left -= n;
    if (a->left == 0) {
        answer_end(a, f);
    }
    return LOAD_OK;
}

/* ---- HTTP/1.1 ---- */

static size_t
http_make(const struct proto_spec *spec, char *buf, size_t cap, uint64_t *seed)
{
    (void)seed;
    return (size_t)snprintf(buf, cap, "GET %s HTTP/1.1\r\nHost: bench\r\n%s\r\n", spec->path,
                            spec->close ? "Connection: close\r\n" : "");
}

enum { HTTP_STATUS, HTTP_FIELD, HTTP_BODY };

static enum load_err
http_line(struct answer *a, struct feed *f)
{
    if (a->state == HTTP_STATUS) {
        if (strncmp(a->line, "HTTP/1.", 7) != 0 || strlen(a->line) < 12) {
            return LOAD_CONTENT;
        }
        a->no = a->line[9] != '2';
        a->left = UINT64_MAX;
        a->state = HTTP_FIELD;
        return LOAD_OK;
    }
    if (strncasecmp(a->line, "Content-Length:", 15) == 0) {
        a->left = strtoull(a->line + 15, NULL, 10);
    } else if (strcasecmp(a->line, "Connection: close") == 0) {
        a->close = true;
    } else if (a->line[0] == '\0') {
        if (a->left == UINT64_MAX) {
            return LOAD_CONTENT; /* chunked, or until the end: not in these measurements */
        }
        a->state = HTTP_BODY;
        if (a->left == 0) {
            answer_end(a, f);
        }
    }
    return LOAD_OK;
}

static enum load_err
http_take(const struct proto *p, struct answer *a, struct feed *f)
{
    (void)p;
    if (a->state != HTTP_BODY) {
        return line_take(a, f) ? http_line(a, f) : LOAD_OK;
    }
    size_t n = a->left < f->n ? (size_t)a->left : f->n;
    consume(f, n);
    a->left -= n;
    if (a->left == 0) {
        answer_end(a, f);
    }
    return LOAD_OK;
}

static const struct proto_ops protocols[] = {
    {"echo", bytes_make, echo_take},
    {"sink", bytes_make, sink_take},
    {"resp", resp_make, resp_take},
    {"http", http_make, http_take},
};

bool
proto_init(struct proto *p, const struct proto_spec *spec)
{
    uint64_t seed = 0;
    size_t cap;
    *p = (struct proto){.size = spec->size};
    for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
        if (strcmp(protocols[i].name, spec->name) == 0) {
            p->ops = &protocols[i];
        }
    }
    if (p->ops == NULL || (p->size == 0 && p->ops->make == bytes_make)) {
        fprintf(stderr, "meshload: no protocol %s of this size\n", spec->name);
        return false;
    }
    p->request_len = p->ops->make(spec, NULL, 0, &seed);
    p->requests = (unsigned)(SCRIPT_MAX / p->request_len);
    p->requests = p->requests < 1 ? 1 : p->requests < SCRIPT_REQUESTS ? p->requests : SCRIPT_REQUESTS;
    cap = p->request_len * p->requests + 1; /* snprintf's end */
    p->script = malloc(cap);
    if (p->script == NULL) {
        perror("meshload");
        return false;
    }
    for (unsigned i = 0; i < p->requests; i++) {
        size_t at = i * p->request_len;
        (void)p->ops->make(spec, (char *)p->script + at, cap - at, &seed);
    }
    return true;
}

void
proto_fini(struct proto *p)
{
    free(p->script);
    p->script = NULL;
}

enum load_err
proto_feed(const struct proto *p, struct answer *a, const uint8_t *in, size_t n, unsigned *done, unsigned *refused)
{
    struct feed f = {.in = in, .n = n};
    enum load_err e = LOAD_OK;
    while (f.n > 0 && e == LOAD_OK) {
        e = p->ops->take(p, a, &f);
    }
    *done += f.done;
    *refused += f.refused;
    return e;
}
