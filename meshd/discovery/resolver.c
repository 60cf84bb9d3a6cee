/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_resolver: see resolver.h.
 *
 * A round has a channel of c-ares of its own, so that resolv.conf is read anew each time, nothing is
 * remembered from one round to the next, and ending one is ending its channel. c-ares says which
 * descriptors it waits for, and asks for a timer; both are events of the loop. A channel is not ended
 * from within one of its own callbacks: they only count, and what follows from it is an event again.
 */
#define CARES_NO_DEPRECATED /* what replaces ares_query is not in 1.18, Debian 12's */

#include "meshd/discovery/resolver.h"

#include <ares.h>
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <ctype.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meshd/base/log.h"
#include "meshd/base/loop.h"

#define TRY_MS 1500 /* the second try waits twice as long */
#define TRIES  2

struct watch {
    struct event *ev;
    int fd;
    struct watch *next;
};

/* An A or AAAA question: which target's it is. */
struct question {
    struct meshd_round *round;
    uint32_t target;
    bool v4;
};

struct meshd_round {
    ares_channel channel;
    bool open;
    struct watch *watches;
    struct event *timer;
    struct event *end; /* activated when nothing is awaited any more */
    uint32_t pending;
    bool asking; /* more questions are coming: not the end yet */
    char name[MESHD_CONFIG_DNS_MAX];
    struct meshd_reply reply;
    struct question *questions;
    char why[128];
    meshd_round_done *done;
    void *arg;
};

/* ---- what c-ares waits for ---- */

static void
arm(struct meshd_round *r)
{
    struct timeval room, *tv = ares_timeout(r->channel, NULL, &room);
    if (tv) {
        event_add(r->timer, tv);
    } else {
        event_del(r->timer);
    }
}

static void
on_ready(evutil_socket_t fd, short what, void *arg)
{
    struct meshd_round *r = arg;
    ares_process_fd(r->channel, what & EV_READ ? (ares_socket_t)fd : ARES_SOCKET_BAD,
                    what & EV_WRITE ? (ares_socket_t)fd : ARES_SOCKET_BAD);
    arm(r);
}

static void
on_time(evutil_socket_t fd, short what, void *arg)
{
    struct meshd_round *r = arg;
    (void)fd;
    (void)what;
    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    arm(r);
}

static void
unwatch(struct meshd_round *r, int fd)
{
    for (struct watch **at = &r->watches; *at; at = &(*at)->next) {
        struct watch *w = *at;
        if (w->fd == fd) {
            *at = w->next;
            event_free(w->ev);
            free(w);
            return;
        }
    }
}

/* Without memory the socket is not watched, and its questions end by time. */
static void
on_socket(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct meshd_round *r = arg;
    short what = (short)((readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));
    unwatch(r, fd);
    struct watch *w = what ? calloc(1, sizeof(*w)) : NULL;
    if (!w) {
        return;
    }
    w->fd = fd;
    w->ev = event_new(meshd_loop(), fd, (short)(what | EV_PERSIST), on_ready, r);
    if (!w->ev || event_add(w->ev, NULL) != 0) {
        if (w->ev) {
            event_free(w->ev);
        }
        free(w);
        return;
    }
    w->next = r->watches;
    r->watches = w;
}

/* ---- answers ---- */

static enum meshd_heard
heard(struct meshd_round *r, int status, const char *name)
{
    if (status == ARES_SUCCESS) {
        return MESHD_HEARD_SOME;
    }
    if (status == ARES_ENOTFOUND || status == ARES_ENODATA) {
        return MESHD_HEARD_NONE;
    }
    if (!r->why[0]) {
        snprintf(r->why, sizeof(r->why), "%.80s: %s", name, ares_strerror(status));
    }
    return MESHD_HEARD_FAILED;
}

/* The least TTL in the answer counts, that of an alias on the way too. */
static void
note_ttl(struct meshd_round *r, const unsigned char *buf, int len)
{
    ns_msg msg;
    if (ns_initparse(buf, len, &msg) != 0) {
        return;
    }
    for (int i = 0; i < ns_msg_count(msg, ns_s_an); i++) {
        ns_rr rr;
        if (ns_parserr(&msg, ns_s_an, i, &rr) != 0) {
            return;
        }
        uint32_t ttl = ns_rr_ttl(rr) > INT32_MAX ? 0 : (uint32_t)ns_rr_ttl(rr); /* [RFC2181 8] */
        r->reply.ttl_s = !r->reply.seen_ttl || ttl < r->reply.ttl_s ? ttl : r->reply.ttl_s;
        r->reply.seen_ttl = true;
    }
}

static void
answered(struct meshd_round *r)
{
    r->pending--;
    if (r->pending == 0 && !r->asking) {
        event_active(r->end, EV_TIMEOUT, 0);
    }
}

static int
take_v4(struct meshd_addresses *to, const unsigned char *buf, int len)
{
    struct ares_addrttl at[MESHD_ANSWER_ADDRESSES];
    int n = (int)MESHD_ANSWER_ADDRESSES, e = ares_parse_a_reply(buf, len, NULL, at, &n);
    for (int i = 0; e == ARES_SUCCESS && i < n; i++) {
        uint8_t *ip = to->ip[to->count++];
        memcpy(ip, (const uint8_t[12]){[10] = 0xff, [11] = 0xff}, 12);
        memcpy(ip + 12, &at[i].ipaddr, 4);
    }
    return e == ARES_SUCCESS && to->count == 0 ? ARES_ENODATA : e;
}

static int
take_v6(struct meshd_addresses *to, const unsigned char *buf, int len)
{
    struct ares_addr6ttl at[MESHD_ANSWER_ADDRESSES];
    int n = (int)MESHD_ANSWER_ADDRESSES, e = ares_parse_aaaa_reply(buf, len, NULL, at, &n);
    for (int i = 0; e == ARES_SUCCESS && i < n; i++) {
        memcpy(to->ip[to->count++], &at[i].ip6addr, 16);
    }
    return e == ARES_SUCCESS && to->count == 0 ? ARES_ENODATA : e;
}

static void
on_address(void *arg, int status, int timeouts, unsigned char *buf, int len)
{
    const struct question *q = arg;
    struct meshd_round *r = q->round;
    struct meshd_target *t = &r->reply.targets[q->target];
    struct meshd_addresses *to = q->v4 ? &t->v4 : &t->v6;
    (void)timeouts;
    if (status == ARES_EDESTRUCTION) {
        return; /* the round is being freed */
    }
    if (status == ARES_SUCCESS) {
        status = q->v4 ? take_v4(to, buf, len) : take_v6(to, buf, len);
    }
    to->heard = heard(r, status, t->host);
    if (to->heard == MESHD_HEARD_SOME) {
        note_ttl(r, buf, len);
    }
    answered(r);
}

/* A target that several records name is asked for once for each: they are few, and servers know it. */
static void
ask_addresses(struct meshd_round *r)
{
    r->asking = true;
    for (uint32_t i = 0; i < 2 * r->reply.count; i++) {
        struct question *q = &r->questions[i];
        *q = (struct question){.round = r, .target = i / 2, .v4 = i % 2 == 0};
        r->pending++;
        ares_query(r->channel, r->reply.targets[q->target].host, ns_c_in, q->v4 ? ns_t_a : ns_t_aaaa,
                   on_address, q);
    }
    r->asking = false;
}

static bool
make_room(struct meshd_round *r, uint32_t targets)
{
    r->reply.targets = calloc(targets, sizeof(*r->reply.targets));
    r->questions = calloc(2 * (size_t)targets, sizeof(*r->questions));
    return r->reply.targets && r->questions;
}

static void
add_target(struct meshd_round *r, const char *host, uint16_t port)
{
    struct meshd_target *t = &r->reply.targets[r->reply.count++];
    *t = (struct meshd_target){.port = port};
    for (size_t i = 0; host[i] && i + 1 < sizeof(t->host); i++) {
        t->host[i] = (char)tolower((unsigned char)host[i]);
    }
}

static uint32_t
count_srv(const struct ares_srv_reply *list)
{
    uint32_t n = 0;
    for (; list; list = list->next) {
        n++;
    }
    if (n > MESHD_ANSWER_TARGETS) {
        log_warn("dns: %u SRV records; only the first %u are used", n, MESHD_ANSWER_TARGETS);
        n = MESHD_ANSWER_TARGETS;
    }
    return n;
}

static int
take_srv(struct meshd_round *r, const unsigned char *buf, int len)
{
    struct ares_srv_reply *list = NULL;
    int e = ares_parse_srv_reply(buf, len, &list);
    uint32_t n = count_srv(list);
    if (e == ARES_SUCCESS && n > 0 && !make_room(r, n)) {
        e = ARES_ENOMEM;
    }
    for (const struct ares_srv_reply *s = list; e == ARES_SUCCESS && s; s = s->next) {
        /* A target of "." says that the service is decidedly not available [RFC2782]. */
        if (r->reply.count < n && s->host[0] && strcmp(s->host, ".") != 0 && s->port) {
            add_target(r, s->host, s->port);
            r->reply.targets[r->reply.count - 1].priority = s->priority;
            r->reply.targets[r->reply.count - 1].weight = s->weight;
        }
    }
    if (list) {
        ares_free_data(list);
    }
    return e == ARES_SUCCESS && r->reply.count == 0 ? ARES_ENODATA : e;
}

static void
on_srv(void *arg, int status, int timeouts, unsigned char *buf, int len)
{
    struct meshd_round *r = arg;
    (void)timeouts;
    if (status == ARES_EDESTRUCTION) {
        return;
    }
    if (status == ARES_SUCCESS) {
        status = take_srv(r, buf, len);
    }
    r->reply.heard = heard(r, status, r->name);
    if (r->reply.heard == MESHD_HEARD_SOME) {
        note_ttl(r, buf, len);
        ask_addresses(r);
    }
    answered(r);
}

/* ---- a round ---- */

enum mesh_err
meshd_resolver_init(void)
{
    return ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS ? MESH_OK : MESH_E_NO_MEMORY;
}

void
meshd_resolver_fini(void)
{
    ares_library_cleanup();
}

static void
on_end(evutil_socket_t fd, short what, void *arg)
{
    struct meshd_round *r = arg;
    (void)fd;
    (void)what;
    r->done(&r->reply, r->why, r->arg);
}

static bool
set_servers(struct meshd_round *r, const struct meshd_dns_rule *rule)
{
    char list[MESHD_CONFIG_RESOLVERS_MAX * (MESH_ADDR_TEXT + 1)] = "", text[MESH_ADDR_TEXT];
    size_t n = 0;
    for (size_t i = 0; i < rule->resolver_count; i++) {
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i ? "," : "",
                              mesh_addr_text(&rule->resolvers[i].addr, text));
        if (n >= sizeof(list)) {
            return false;
        }
    }
    return rule->resolver_count == 0 || ares_set_servers_ports_csv(r->channel, list) == ARES_SUCCESS;
}

static bool
open_channel(struct meshd_round *r, const struct meshd_dns_rule *rule)
{
    static char lookups[] = "b";
    struct ares_options o = {
        .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
        .timeout = TRY_MS,
        .tries = TRIES,
        .lookups = lookups,
        .sock_state_cb = on_socket,
        .sock_state_cb_data = r,
    };
    int e = ares_init_options(&r->channel, &o,
                              ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
                                  ARES_OPT_SOCK_STATE_CB);
    r->open = e == ARES_SUCCESS;
    return r->open && set_servers(r, rule);
}

struct meshd_round *
meshd_round_new(const struct meshd_dns_rule *rule, meshd_round_done *done, void *arg)
{
    struct meshd_round *r = calloc(1, sizeof(*r));
    if (!r) {
        return NULL;
    }
    r->done = done;
    r->arg = arg;
    snprintf(r->name, sizeof(r->name), "%s", rule->name);
    r->timer = event_new(meshd_loop(), -1, 0, on_time, r);
    r->end = event_new(meshd_loop(), -1, 0, on_end, r);
    bool srv = rule->type == MESHD_DNS_SRV;
    if (!r->timer || !r->end || !open_channel(r, rule) || (!srv && !make_room(r, 1))) {
        meshd_round_free(r);
        return NULL;
    }
    if (srv) {
        r->pending++;
        ares_query(r->channel, r->name, ns_c_in, ns_t_srv, on_srv, r);
    } else {
        r->reply.heard = MESHD_HEARD_SOME;
        add_target(r, r->name, rule->port);
        ask_addresses(r);
        if (r->pending == 0) {
            event_active(r->end, EV_TIMEOUT, 0);
        }
    }
    arm(r);
    return r;
}

void
meshd_round_free(struct meshd_round *r)
{
    if (!r) {
        return;
    }
    if (r->open) {
        ares_destroy(r->channel);
    }
    while (r->watches) {
        unwatch(r, r->watches->fd);
    }
    if (r->timer) {
        event_free(r->timer);
    }
    if (r->end) {
        event_free(r->end);
    }
    free(r->reply.targets);
    free(r->questions);
    free(r);
}
