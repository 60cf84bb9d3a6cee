/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_network_check: see check.h.
 *
 *   connecting --(tcp)--------------------------------------> done
 *        |-----> TLS handshake --(tls)----------------------> done
 *        |            |
 *        +--(http)----+---> request ---> status line -------> done
 *
 * The socket connects before any bufferevent has it, so that the errno is the kernel's own.
 */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "meshd/base/loop.h"
#include "meshd/health/check.h"
#include "meshd/health/http.h"
#include "meshd/ident/probe.h"

struct meshd_network_check {
    struct meshd_check_job job;
    meshd_check_done *done;
    void *arg;
    int fd; /* while connecting, then bev's */
    int error; /* of connect(), if it failed at once */
    bool secure, interim;
    struct event *ready, *timer;
    struct bufferevent *bev;
};

static unsigned running;

bool
meshd_network_has_room(void)
{
    return running < MESHD_CHECKS_MAX;
}

void
meshd_network_cancel(struct meshd_network_check *c)
{
    if (c->ready) {
        event_free(c->ready);
    }
    if (c->timer) {
        event_free(c->timer);
    }
    if (c->bev && c->job.id) {
        meshd_probe_free(c->bev);
    } else if (c->bev) {
        bufferevent_free(c->bev);
    } else if (c->fd >= 0) {
        close(c->fd);
    }
    running--;
    free(c);
}

static void
end(struct meshd_network_check *c, const struct meshd_outcome *o)
{
    meshd_check_done *done = c->done;
    void *arg = c->arg;
    meshd_network_cancel(c);
    done(o, arg);
}

static void
end_bad(struct meshd_network_check *c, const char *what, const char *why)
{
    struct meshd_outcome o = {.verdict = MESHD_CHECK_NETWORK};
    snprintf(o.why, sizeof(o.why), "%s%s%s", what, *why ? ": " : "", why);
    end(c, &o);
}

static void
end_good(struct meshd_network_check *c)
{
    end(c, &(struct meshd_outcome){.verdict = MESHD_CHECK_GOOD});
}

static void
on_timeout(evutil_socket_t fd, short what, void *arg)
{
    struct meshd_network_check *c = arg;
    (void)fd;
    (void)what;
    end_bad(c,
            !c->bev                     ? "connect timed out"
            : c->job.id && !c->secure ? "TLS timed out"
                                      : "no answer in time",
            "");
}

static void
on_read(struct bufferevent *bev, void *arg)
{
    struct meshd_network_check *c = arg;
    struct meshd_outcome o;
    if (c->job.rule->type != MESHD_HEALTH_HTTP) {
        return; /* greeted: it is about to be closed */
    }
    int status = meshd_http_status(bufferevent_get_input(bev), &c->interim);
    if (status != 0) {
        meshd_http_judge(c->job.rule, status, &o);
        end(c, &o);
    }
}

static bool
ask(struct meshd_network_check *c)
{
    return meshd_http_ask(bufferevent_get_output(c->bev), c->job.service, c->job.rule->path);
}

static void
on_event(struct bufferevent *bev, short what, void *arg)
{
    struct meshd_network_check *c = arg;
    int error = EVUTIL_SOCKET_ERROR();
    if (what & BEV_EVENT_CONNECTED) {
        c->secure = true;
        if (c->job.rule->type != MESHD_HEALTH_HTTP) {
            end_good(c);
        } else if (!ask(c)) {
            end_bad(c, "out of memory", "");
        }
    } else if (c->job.id && !c->secure) {
        end_bad(c, "TLS", meshd_probe_why(bev));
    } else if (what & BEV_EVENT_ERROR && !c->job.id) {
        end_bad(c, "no answer", strerror(error));
    } else {
        end_bad(c, "closed without an answer", "");
    }
}

static bool
go_on(struct meshd_network_check *c)
{
    bool http = c->job.rule->type == MESHD_HEALTH_HTTP;
    c->bev = c->job.id ? meshd_probe_new(c->fd, c->job.id)
                       : bufferevent_socket_new(meshd_loop(), c->fd,
                                                BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    if (!c->bev) {
        return false;
    }
    bufferevent_setwatermark(c->bev, EV_READ, 0, 2 * MESHD_HTTP_LINE_MAX);
    bufferevent_setcb(c->bev, on_read, NULL, on_event, c);
    if (bufferevent_enable(c->bev, EV_READ | EV_WRITE) != 0) {
        return false;
    }
    return c->job.id || !http || ask(c);
}

static void
on_connected(evutil_socket_t fd, short what, void *arg)
{
    struct meshd_network_check *c = arg;
    int error = c->error;
    socklen_t len = sizeof(error);
    (void)what;
    if (error == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) {
        error = errno;
    }
    if (error != 0) {
        end_bad(c, "connect", strerror(error));
    } else if (c->job.rule->type == MESHD_HEALTH_TCP) {
        end_good(c);
    } else if (!go_on(c)) {
        end_bad(c, "out of memory", "");
    }
}

static int
start_connect(struct meshd_network_check *c)
{
    const struct mesh_addr *to = &c->job.to;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(to->port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(to->port)};
    bool v4 = mesh_addr_is_v4(to);
    memcpy(&in.sin_addr, to->ip + 12, 4);
    memcpy(&in6.sin6_addr, to->ip, 16);
    int fd = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    int r = v4 ? connect(fd, (struct sockaddr *)&in, sizeof(in))
               : connect(fd, (struct sockaddr *)&in6, sizeof(in6));
    c->error = r != 0 && errno != EINPROGRESS ? errno : 0;
    return fd;
}

static bool
prepare(struct meshd_network_check *c)
{
    uint32_t ms = c->job.rule->timeout_ms;
    const struct timeval tv = {ms / 1000, (long)(ms % 1000) * 1000};
    c->fd = start_connect(c);
    if (c->fd < 0) {
        return false;
    }
    c->ready = event_new(meshd_loop(), c->fd, EV_WRITE, on_connected, c);
    c->timer = event_new(meshd_loop(), -1, 0, on_timeout, c);
    if (!c->ready || !c->timer || event_add(c->timer, &tv) != 0 || event_add(c->ready, NULL) != 0) {
        return false;
    }
    if (c->error) {
        event_active(c->ready, EV_WRITE, 1); /* told from the loop, like all else */
    }
    return true;
}

struct meshd_network_check *
meshd_network_start(const struct meshd_check_job *job, meshd_check_done *done, void *arg)
{
    struct meshd_network_check *c = calloc(1, sizeof(*c));
    if (!c) {
        return NULL;
    }
    *c = (struct meshd_network_check){.job = *job, .done = done, .arg = arg, .fd = -1};
    running++;
    if (!prepare(c)) {
        meshd_network_cancel(c);
        return NULL;
    }
    return c;
}
