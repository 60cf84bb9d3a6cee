/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_admin: see admin.h. libevent's HTTP server on meshd's loop, with small limits: nobody sends
 * anything of size here. A page that is asked for often is made at most every KEEP_MS.
 */
#include "meshd/admin/admin.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <event2/util.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "meshd/admin/metrics.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/base/server.h"

#define HEADERS_MOST (8 * 1024)
#define BODY_MOST    (64 * 1024)
#define WRITE_MOST   (8 * 1024 * 1024)
#define TIMEOUT_S    5
#define KEEP_MS      100
#define UNIX_PREFIX  "unix:"

static struct evhttp *http;
static char unix_path[sizeof(((struct sockaddr_un *)0)->sun_path)];
static struct evbuffer *page;
static uint64_t page_ns;

static void
write_metrics(struct evbuffer *out)
{
    uint64_t now = meshd_now_ns();
    if (!page) {
        page = evbuffer_new();
        page_ns = 0;
    }
    if (!page) {
        return;
    }
    if (page_ns == 0 || now - page_ns > KEEP_MS * UINT64_C(1000000)) {
        evbuffer_drain(page, evbuffer_get_length(page));
        meshd_metrics_write(page);
        page_ns = now;
    }
    size_t len = evbuffer_get_length(page);
    evbuffer_add(out, evbuffer_pullup(page, -1), len);
}

static void
write_health(struct evbuffer *out)
{
    evbuffer_add_printf(out, "ok\n");
}

static const struct {
    const char *path, *type;
    void (*write)(struct evbuffer *out);
} pages[] = {
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", write_metrics},
    {"/healthz", "text/plain; charset=utf-8", write_health},
};

static void
reply(struct evhttp_request *req, int code, const char *reason, struct evbuffer *body)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
    if (!evhttp_find_header(headers, "Content-Type")) {
        evhttp_add_header(headers, "Content-Type", "text/plain; charset=utf-8");
    }
    if (body && code != HTTP_OK) {
        evbuffer_add_printf(body, "%s\n", reason);
    }
    evhttp_send_reply(req, code, reason, body);
}

static void
serve(struct evhttp_request *req, struct evbuffer *body)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
    enum evhttp_cmd_type method = evhttp_request_get_command(req);
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    if (method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD) {
        evhttp_add_header(headers, "Allow", "GET, HEAD");
        reply(req, HTTP_BADMETHOD, "method not allowed", body);
        return;
    }
    for (size_t i = 0; path && i < sizeof(pages) / sizeof(pages[0]); i++) {
        if (strcmp(path, pages[i].path) == 0) {
            evhttp_add_header(headers, "Content-Type", pages[i].type);
            pages[i].write(body);
            reply(req, HTTP_OK, "OK", body);
            return;
        }
    }
    reply(req, HTTP_NOTFOUND, "not found: try /metrics or /healthz", body);
}

static void
on_request(struct evhttp_request *req, void *arg)
{
    struct evbuffer *body = evbuffer_new();
    (void)arg;
    if (!body) {
        reply(req, HTTP_INTERNAL, "out of memory", NULL);
        return;
    }
    serve(req, body);
    evbuffer_free(body);
}

/* A listening socket, or -1 with a reason. */
static int
open_tcp(const char *listen_at, const char **why)
{
    struct sockaddr_storage sa = {0};
    int len = sizeof(sa), on = 1;
    if (evutil_parse_sockaddr_port(listen_at, (struct sockaddr *)&sa, &len) != 0) {
        *why = "not ADDR:PORT, unix:/PATH or off";
        return -1;
    }
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        *why = strerror(errno);
        return -1;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(fd, (struct sockaddr *)&sa, (socklen_t)len) != 0 || listen(fd, SOMAXCONN) != 0) {
        *why = strerror(errno);
        close(fd);
        return -1;
    }
    return fd;
}

/* Only a socket is replaced, never another file that stands there. */
static int
open_unix(const char *at, const char **why)
{
    struct stat st;
    int fd = -1;
    if (strlen(at) >= sizeof(unix_path)) {
        *why = "the path is too long";
        return -1;
    }
    if (lstat(at, &st) == 0 && !S_ISSOCK(st.st_mode)) {
        *why = "it exists and is no socket";
        return -1;
    }
    if (meshd_server_listen(at, 0666, &fd) != MESH_OK) {
        *why = strerror(errno);
        return -1;
    }
    memcpy(unix_path, at, strlen(at) + 1);
    return fd;
}

/* libevent drops what is unwritten when it sees that the client has shut its side, which HTTP allows: so as much
 * as the socket takes goes at once, not 16 KB. */
static struct bufferevent *
new_stream(struct event_base *base, void *arg)
{
    struct bufferevent *b = bufferevent_socket_new(base, -1, 0);
    (void)arg;
    if (b) {
        (void)bufferevent_set_max_single_write(b, WRITE_MOST);
    }
    return b;
}

static bool
start(int fd)
{
    http = evhttp_new(meshd_loop());
    if (!http) {
        return false;
    }
    evhttp_set_max_headers_size(http, HEADERS_MOST);
    evhttp_set_max_body_size(http, BODY_MOST);
    evhttp_set_timeout(http, TIMEOUT_S);
    evhttp_set_allowed_methods(http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST |
                                         EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS |
                                         EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT |
                                         EVHTTP_REQ_PATCH);
    evhttp_set_gencb(http, on_request, NULL);
    evhttp_set_bevcb(http, new_stream, NULL);
    return evhttp_accept_socket(http, fd) == 0;
}

void
meshd_admin_init(const char *listen_at)
{
    const char *why = "";
    if (listen_at[0] == '\0' || strcmp(listen_at, "off") == 0) {
        return;
    }
    int fd = strncmp(listen_at, UNIX_PREFIX, sizeof(UNIX_PREFIX) - 1) == 0
                 ? open_unix(listen_at + sizeof(UNIX_PREFIX) - 1, &why)
                 : open_tcp(listen_at, &why);
    if (fd < 0) {
        log_warn("no metrics at %s: %s; set admin = { listen = \"ADDR:PORT\"; };", listen_at, why);
        return;
    }
    if (!start(fd)) {
        log_warn("no metrics: out of memory");
        close(fd);
        meshd_admin_fini();
        return;
    }
    log_info("metrics at %s", listen_at);
}

void
meshd_admin_fini(void)
{
    if (http) {
        evhttp_free(http);
    }
    if (page) {
        evbuffer_free(page);
    }
    if (unix_path[0]) {
        unlink(unix_path);
    }
    http = NULL;
    page = NULL;
    unix_path[0] = '\0';
}
