/* SPDX-License-Identifier: Apache-2.0
 *
 * hold: see hold.h. One after the other.
 */
#include "bench/meshload/hold.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/meshload/stream.h"

/* `want` is EPOLLIN or EPOLLOUT, which are POLLIN and POLLOUT. */
static bool
wait_for(const struct stream *s)
{
    struct pollfd p = {.fd = s->fd, .events = (short)s->want};
    return errno == EAGAIN && poll(&p, 1, 30000) == 1;
}

static bool
open_one(const struct load_spec *spec, struct stream *s)
{
    if (stream_connect(s, (const struct sockaddr *)&spec->to, spec->to_len, spec->tls) != 0) {
        return false;
    }
    errno = EAGAIN;
    if (!wait_for(s)) {
        return false;
    }
    while (stream_ready(s) != 0) {
        if (!wait_for(s)) {
            return false;
        }
    }
    return true;
}

static bool
ask_once(const struct load_spec *spec, struct stream *s)
{
    const struct proto *p = spec->proto;
    struct answer a = {0};
    unsigned done = 0, refused = 0;
    uint8_t buf[4096];
    ssize_t n;
    for (size_t at = 0; at < p->request_len; at += (size_t)n) {
        while ((n = stream_write(s, p->script + at, p->request_len - at)) < 0) {
            if (!wait_for(s)) {
                return false;
            }
        }
    }
    while (done == 0) {
        n = stream_read(s, buf, sizeof(buf));
        if ((n < 0 && !wait_for(s)) || n == 0 ||
            (n > 0 && proto_feed(p, &a, buf, (size_t)n, &done, &refused) != LOAD_OK)) {
            return false;
        }
    }
    return refused == 0;
}

static bool
open_all(const struct load_spec *spec, struct stream *s, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (!open_one(spec, &s[i]) || !ask_once(spec, &s[i])) {
            perror("meshload hold");
            return false;
        }
    }
    return true;
}

int
hold_run(const struct load_spec *spec, unsigned warm)
{
    struct stream *s = calloc(warm + spec->connections, sizeof(*s));
    bool ok = s != NULL && open_all(spec, s, warm);
    if (ok) {
        puts("warm");
        fflush(stdout);
        ok = getchar() == '\n' && open_all(spec, s + warm, spec->connections);
    }
    if (ok) {
        puts("held");
        fflush(stdout);
        (void)getchar();
    }
    free(s);
    return ok ? 0 : 1;
}
