/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_handoff: see handoff.h.
 *
 *   connecting + handshake -> sending -> close_notify, FIN -> the peer's end -> done
 *
 * MESHD_HANDOFF_MS for all of it. What the peer says is read and dropped: unread, it would turn
 * our close into a reset, which could cost the peer our last bytes.
 */
#include "meshd/ident/handoff.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/ident/ca.h"
#include "meshd/ident/cert.h"
#include "meshd/ident/client.h"

#define LEAF_S 3600

struct handoff {
    struct bufferevent *bev;
    struct event *timer;
    SSL *ssl; /* owned by bev */
    uint8_t *data;
    size_t len;
    pid_t pid;
    bool sent;
    char expect_id[MESH_ID_MAX];
    struct handoff *prev, *next;
};

static struct handoff *jobs;
static unsigned count;

static void
job_free(struct handoff *h)
{
    DL_DELETE(jobs, h);
    count--;
    if (h->bev) {
        bufferevent_free(h->bev);
    }
    if (h->timer) {
        event_free(h->timer);
    }
    if (h->data) {
        explicit_bzero(h->data, h->len);
        free(h->data);
    }
    free(h);
}

static void
job_end(struct handoff *h, const char *what)
{
    log_info("handoff of pid %d to %s, %zu bytes: %s", (int)h->pid, h->expect_id, h->len, what);
    job_free(h);
}

static void
on_timeout(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    job_end(arg, "out of time");
}

static void
on_read(struct bufferevent *bev, void *arg)
{
    (void)arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    evbuffer_drain(in, evbuffer_get_length(in));
}

/* All is in the kernel: say so, and wait for the other side's end. */
static void
on_written(struct bufferevent *bev, void *arg)
{
    struct handoff *h = arg;
    if (h->sent || SSL_is_init_finished(h->ssl) == 0) {
        return;
    }
    h->sent = true;
    SSL_shutdown(h->ssl); /* sends close_notify; the answer comes as EOF */
    ERR_clear_error();
    shutdown(bufferevent_getfd(bev), SHUT_WR);
}

static void
on_event(struct bufferevent *bev, short what, void *arg)
{
    struct handoff *h = arg;
    if (what & BEV_EVENT_CONNECTED) {
        if (h->len == 0) {
            on_written(bev, h);
        } else if (bufferevent_write(bev, h->data, h->len) != 0) {
            job_end(h, "out of memory");
        }
        return;
    }
    unsigned long why = bufferevent_get_openssl_error(bev);
    const char *text = why ? ERR_reason_error_string(why) : NULL;
    bool good = h->sent && !text && !(what & BEV_EVENT_ERROR);
    job_end(h, good ? "delivered" : text ? text : h->sent ? "reset after sending" : "not connected");
}

static SSL *
ssl_new(const struct meshd_handoff_job *job)
{
    struct meshd_svid svid = {0};
    SSL *ssl = NULL;
    SSL_CTX *ctx = NULL;
    if (meshd_ca_issue(job->service, job->id, LEAF_S, job->pid, &svid) == MESH_OK) {
        ctx = meshd_ident_client_ctx(&svid);
    }
    ssl = ctx ? SSL_new(ctx) : NULL;
    meshd_svid_fini(&svid);
    SSL_CTX_free(ctx); /* ssl holds it */
    return ssl;
}

static bool
start_connect(int fd, const struct mesh_addr *to)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(to->port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(to->port)};
    memcpy(&in.sin_addr, to->ip + 12, 4);
    memcpy(&in6.sin6_addr, to->ip, 16);
    return evutil_make_socket_nonblocking(fd) == 0 &&
           ((mesh_addr_is_v4(to) ? connect(fd, (struct sockaddr *)&in, sizeof(in))
                                 : connect(fd, (struct sockaddr *)&in6, sizeof(in6))) == 0 ||
            errno == EINPROGRESS);
}

static bool
prepare(struct handoff *h, const struct meshd_handoff_job *job, int fd)
{
    const struct timeval tv = {MESHD_HANDOFF_MS / 1000, 0};
    snprintf(h->expect_id, sizeof(h->expect_id), "%s", job->expect_id);
    h->pid = job->pid;
    h->len = job->len;
    h->data = malloc(job->len + 1);
    h->timer = event_new(meshd_loop(), -1, 0, on_timeout, h);
    h->ssl = ssl_new(job);
    if (!h->data || !h->timer || !h->ssl || event_add(h->timer, &tv) != 0) {
        SSL_free(h->ssl);
        return false;
    }
    memcpy(h->data, job->data, job->len);
    meshd_ident_client_expect(h->ssl, h->expect_id);
    if (start_connect(fd, &job->to)) {
        h->bev = bufferevent_openssl_socket_new(meshd_loop(), fd, h->ssl, BUFFEREVENT_SSL_CONNECTING,
                                                BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    }
    if (!h->bev) {
        SSL_free(h->ssl);
        return false;
    }
    bufferevent_setcb(h->bev, on_read, on_written, on_event, h);
    return bufferevent_enable(h->bev, EV_READ | EV_WRITE) == 0;
}

enum mesh_err
meshd_handoff_start(const struct meshd_handoff_job *job)
{
    struct handoff *h = count < MESHD_HANDOFFS_MAX ? calloc(1, sizeof(*h)) : NULL;
    int fd = job->fd;
    if (!h) {
        if (fd >= 0) {
            close(fd);
        }
        return MESH_E_NO_MEMORY;
    }
    DL_APPEND(jobs, h);
    count++;
    if (fd < 0) {
        fd = socket(mesh_addr_is_v4(&job->to) ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    }
    if (fd < 0 || !prepare(h, job, fd)) {
        log_warn("handoff to %s: %s", job->expect_id, fd < 0 ? strerror(errno) : meshd_ident_why());
        if (fd >= 0 && !h->bev) {
            close(fd);
        }
        job_free(h);
        return MESH_E_SYSTEM;
    }
    return MESH_OK;
}

void
meshd_handoff_fini(void)
{
    while (jobs) {
        job_free(jobs);
    }
}
