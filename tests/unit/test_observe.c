/* SPDX-License-Identifier: Apache-2.0
 *
 * What becomes of ended connections: the ring on a page, written by honest and hostile processes; the
 * access log's lines and file; and sums by both sides, which never fall.
 */
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <sys/stat.h>

#include "common/limits.h"
#include "meshd/attest/attest.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/base/proc.h"
#include "meshd/policy/config.h"
#include "meshd/stats/access.h"
#include "meshd/stats/ended.h"
#include "meshd/stats/stats.h"
#include "shim/core/edge.h"
#include "tests/unit/unit.h"

static const char *dir;
static char conf[300], log_path[300];
static const struct meshd_identity web = {"web", "spiffe://mesh.local/ns/default/sa/web"};
static struct mesh_page *page;
static struct meshd_page_info info;
static struct meshd_ended_cursor cursor;

static void
configure(const char *path, const char *filter)
{
    FILE *f = fopen(conf, "w");
    ck_assert_ptr_nonnull(f);
    fprintf(f, "access_log = { path = \"%s\"; filter = \"%s\"; };\n", path, filter);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(meshd_config_load(conf, dir), MESH_OK);
}

static void
start(void)
{
    ck_assert_int_eq(meshd_loop_init(), MESH_OK);
    ck_assert_int_eq(meshd_proc_init(meshd_stats_gone), MESH_OK);
    ck_assert_int_eq(meshd_stats_init(dir), MESH_OK);
}

static void
stop(void)
{
    meshd_stats_fini();
    meshd_proc_fini();
    meshd_loop_fini();
}

static void
attach(void)
{
    struct meshd_peer p = {.pid = getpid(), .uid = 1000, .starttime = meshd_proc_starttime(getpid()),
                           .exe = "/bin/we\"b"};
    int fd = -1;
    ck_assert_int_eq(meshd_stats_attach(&p, &web, 5, &info.page_id, &fd), MESH_OK);
    page = mmap(NULL, MESH_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(page, MAP_FAILED);
    close(fd);
    memcpy(info.service, web.service, sizeof(web.service));
    memcpy(info.id, web.id, sizeof(web.id));
    snprintf(info.exe, sizeof(info.exe), "%s", p.exe);
}

static void
setup(void)
{
    meshd_log_set(MESHD_LOG_ERROR);
    signal(SIGIO, SIG_IGN);
    dir = unit_mkdir();
    snprintf(conf, sizeof(conf), "%s/meshd.conf", dir);
    snprintf(log_path, sizeof(log_path), "%s/access.log", dir);
    configure("off", "all");
    start();
    attach();
    cursor = (struct meshd_ended_cursor){0};
    meshd_ended_begin(info.page_id, &cursor, MESHD_ENDED_NOW);
}

static void
teardown(void)
{
    munmap(page, MESH_PAGE_SIZE);
    stop();
    unit_rmdir(dir);
}

/* A connection as the shim lists it, in the next entry. */
static struct mesh_page_conn *
open_one(const char *peer, const char *service, uint64_t tx)
{
    static uint32_t turn;
    struct mesh_page_conn *c = mesh_page_conns(page) + turn++ % MESH_PAGE_CONNS;
    memset(c, 0, sizeof(*c));
    c->outbound = 1;
    c->attempts = 2;
    c->opened_ns = UINT64_C(1700000000000000000);
    c->cipher = 0x1301;
    c->how = MESH_HOW_OPENED;
    c->peer_port = 80;
    snprintf(c->peer_id, sizeof(c->peer_id), "%s", peer);
    snprintf(c->service, sizeof(c->service), "%s", service);
    c->handshake_us = 300;
    shim_edge_opened(page, c);
    shim_edge_connected(page, c, 700);
    c->tx_bytes = tx;
    c->state = MESH_CONN_OPEN;
    return c;
}

static void
end_one(struct mesh_page_conn *c, enum mesh_err why)
{
    c->closed_ns = c->opened_ns + 1234567;
    c->reason = why;
    shim_edge_ended(page, c);
    shim_edge_number(page, c);
    c->state = MESH_CONN_CLOSED;
    shim_edge_publish(page, (uint64_t)(c - mesh_page_conns(page)), c->number);
}

#define PEER "spiffe://mesh.local/ns/default/sa/db"

static uint64_t next_number;
static int
in_turn(const struct meshd_conn *c, void *arg)
{
    ck_assert_uint_ge(c->number, next_number);
    next_number = c->number + 1;
    ++*(unsigned *)arg;
    return 0;
}

static struct meshd_ended_count
fetch(bool last)
{
    struct meshd_ended_count n;
    unsigned seen = 0;
    meshd_ended_fetch(&info, &cursor, last, in_turn, &seen, &n);
    ck_assert_uint_eq(n.fetched, seen);
    ck_assert_uint_le(seen, MESH_PAGE_CONNS);
    return n;
}

START_TEST(each_once_in_turn)
{
    next_number = 1;
    for (int i = 0; i < 3000; i++) {
        end_one(open_one(PEER, "db", 1), MESH_OK);
    }
    struct meshd_ended_count n = fetch(false);
    ck_assert_uint_eq(n.fetched, 3000);
    ck_assert_uint_eq(n.lost, 0);
    ck_assert_uint_eq(fetch(false).fetched, 0);
    for (int i = 0; i < 3000; i++) { /* over the ring's end */
        end_one(open_one(PEER, "db", 1), MESH_OK);
    }
    n = fetch(false);
    ck_assert_uint_eq(n.fetched + n.lost, 3000);
    ck_assert_uint_eq(n.lost, 0);
}
END_TEST

START_TEST(too_many_are_counted)
{
    next_number = 1;
    for (unsigned i = 0; i < MESH_PAGE_CONNS + 904; i++) {
        end_one(open_one(PEER, "db", 1), MESH_OK);
    }
    atomic_store(&page->conns_full, 7);
    struct meshd_ended_count n = fetch(false);
    ck_assert_uint_eq(n.fetched, MESH_PAGE_CONNS);
    ck_assert_uint_eq(n.lost, 904);
    ck_assert_uint_eq(n.unlisted, 7);
    ck_assert_uint_eq(fetch(false).unlisted, 0);
}
END_TEST

START_TEST(number_without_entry)
{
    next_number = 1;
    atomic_fetch_add(&page->ended, 1); /* and its process was killed */
    end_one(open_one(PEER, "db", 1), MESH_OK);
    ck_assert_uint_eq(fetch(false).fetched, 0); /* it may still come */
    struct meshd_ended_count n = fetch(false);
    ck_assert_uint_eq(n.fetched, 1);
    ck_assert_uint_eq(n.lost, 1);
    atomic_fetch_add(&page->ended, 1);
    ck_assert_uint_eq(fetch(true).lost, 1); /* nobody is left who could write it */
}
END_TEST

START_TEST(claimed_anew)
{
    next_number = 1;
    struct mesh_page_conn *c = open_one(PEER, "db", 1);
    end_one(c, MESH_OK);
    c->state = MESH_CONN_CLAIMED;
    c = open_one(PEER, "db", 1);
    end_one(c, MESH_OK);
    c->number = 77; /* another's by now */
    ck_assert_uint_eq(fetch(false).lost, 2);
    /* What looks like an entry where none is: behind the last one. */
    const uint64_t number = atomic_fetch_add(&page->ended, 1) + 1, index = MESH_PAGE_CONNS + 100;
    c = mesh_page_conns(page) + index;
    c->state = MESH_CONN_CLOSED;
    c->number = number;
    shim_edge_publish(page, index, number);
    ck_assert_uint_eq(fetch(false).lost, 1);
}
END_TEST

/* A meshd that goes on with a page, after one with a log and after one without. */
START_TEST(where_it_begins)
{
    next_number = 1;
    end_one(open_one(PEER, "db", 1), MESH_OK);
    ck_assert_uint_eq(fetch(false).fetched, 1);
    end_one(open_one(PEER, "db", 1), MESH_OK);
    meshd_ended_begin(info.page_id, &cursor, MESHD_ENDED_RESUME);
    ck_assert_uint_eq(fetch(false).fetched, 1); /* the one that ended meanwhile */
    end_one(open_one(PEER, "db", 1), MESH_OK);
    meshd_ended_stop(info.page_id, &cursor);
    ck_assert_uint_eq(fetch(false).fetched, 0);
    meshd_ended_begin(info.page_id, &cursor, MESHD_ENDED_RESUME);
    ck_assert_uint_eq(fetch(false).fetched, 0); /* nobody logged when it ended */
    page->taken = UINT64_MAX;
    meshd_ended_begin(info.page_id, &cursor, MESHD_ENDED_RESUME);
    end_one(open_one(PEER, "db", 1), MESH_OK);
    ck_assert_uint_eq(fetch(false).fetched, 1);
}
END_TEST

static void
scribble(unsigned seed)
{
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    uint64_t *w = (uint64_t *)(void *)mesh_page_conns(page);
    for (size_t i = 0; i < (MESH_PAGE_SIZE - MESH_PAGE_CONNS_OFF) / 8; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        w[i] = x;
    }
    for (unsigned i = 0; i < MESH_PAGE_CONNS; i++) { /* so that something is believed */
        struct mesh_page_conn *c = mesh_page_conns(page) + i;
        c->state = MESH_CONN_CLOSED;
        c->number = i + (seed % 2);
        atomic_store(&mesh_page_ring(page)[c->number % MESH_PAGE_CONNS],
                     MESH_RING_WORD(c->number, seed % 3 ? i : (x + i) & 0xffff));
    }
    for (unsigned i = 0; i < MESH_PAGE_EDGES; i++) {
        mesh_page_edges(page)[i].state = MESH_EDGE_READY;
    }
}

static int
is_json(const struct meshd_conn *c, void *arg)
{
    char line[MESHD_ACCESS_LINE_MAX];
    size_t n = meshd_access_line(c, &info, line);
    ck_assert_uint_lt(n, sizeof(line));
    ck_assert_ptr_eq(memchr(line, '\n', n), line + n - 1);
    json_t *j = json_loadb(line, n, 0, NULL);
    ck_assert_msg(j != NULL, "%s", line);
    json_decref(j);
    ++*(unsigned *)arg;
    return 0;
}

START_TEST(anything_may_be_there)
{
    static const uint64_t ended[] = {4096, 5000, 1, 0, UINT64_MAX, UINT64_C(1) << 62, 3, 8191};
    unsigned seen = 0;
    for (unsigned i = 0; i < 24; i++) {
        struct meshd_ended_count n;
        unsigned before = seen;
        scribble(i);
        atomic_store(&page->ended, ended[i % 8]);
        cursor.taken = i % 5 ? 0 : cursor.taken;
        meshd_ended_fetch(&info, &cursor, i % 2, is_json, &seen, &n);
        ck_assert_uint_le(seen - before, MESH_PAGE_CONNS);
        ck_assert_uint_le(n.lost, 1u << 24);
    }
    ck_assert_uint_gt(seen, 1000);
    ck_assert_int_eq(ftruncate(meshd_page_open(info.page_id), 100), 0);
    struct meshd_ended_count n;
    meshd_ended_fetch(&info, &cursor, false, is_json, &seen, &n);
}
END_TEST

/* -- lines and their file --------------------------------------------------------------------- */

static json_t *
line_of(struct mesh_page_conn *raw)
{
    struct meshd_conn c;
    char line[MESHD_ACCESS_LINE_MAX];
    raw->state = MESH_CONN_CLOSED;
    ck_assert(meshd_page_copy_conn(&c, raw, &info));
    json_t *j = json_loadb(line, meshd_access_line(&c, &info, line), 0, NULL);
    ck_assert_ptr_nonnull(j);
    return j;
}

static void
has(const json_t *j, const char *key, const char *value)
{
    const json_t *v = json_object_get(j, key);
    ck_assert_msg(v != NULL, "no %s", key);
    if (!value) {
        ck_assert_msg(json_is_null(v), "%s is not null", key);
    } else {
        ck_assert_str_eq(json_string_value(v), value);
    }
}

START_TEST(what_a_line_says)
{
    struct mesh_page_conn *c = open_one(PEER, "cache", 5);
    c->before_tx = 2;
    c->rx_bytes = 9;
    c->closed_ns = c->opened_ns + 1500000;
    json_t *j = line_of(c);
    has(j, "start_time", "2023-11-14T22:13:20.000Z");
    has(j, "response_flags", "-");
    has(j, "reporter", "source");
    has(j, "source_principal", web.id);
    has(j, "destination_principal", PEER);
    has(j, "destination_workload", "db");
    has(j, "upstream_cluster", "cache");
    has(j, "exe", "/bin/we\"b");
    has(j, "tls_cipher", "TLS_AES_128_GCM_SHA256");
    has(j, "connection_security_policy", "mutual_tls");
    has(j, "reason", NULL);
    has(j, "upstream_transport_failure_reason", NULL);
    has(j, "route_name", NULL);
    has(j, "requested_server_name", "cache"); /* its endpoint's own address */
    ck_assert_int_eq(json_integer_value(json_object_get(j, "bytes_received")), 7);
    ck_assert_int_eq(json_integer_value(json_object_get(j, "bytes_sent")), 9);
    ck_assert_int_eq(json_integer_value(json_object_get(j, "attempts")), 2);
    ck_assert_double_eq_tol(json_real_value(json_object_get(j, "duration")), 1.5, 1e-9);
    json_decref(j);

    c->how = MESH_HOW_EXHAUSTED;
    c->reason = MESH_E_CONNECT_FAILED;
    c->cipher = 0;
    j = line_of(c);
    has(j, "response_flags", "UF,URX");
    has(j, "reason", "connect_failed");
    has(j, "connection_security_policy", "none");
    ck_assert(!json_is_null(json_object_get(j, "upstream_transport_failure_reason")));
    json_decref(j);

    c->outbound = 0;
    c->reason = MESH_E_CERT_UNTRUSTED;
    j = line_of(c);
    has(j, "response_flags", "UAEX");
    has(j, "reporter", "destination");
    has(j, "destination_principal", web.id);
    has(j, "upstream_cluster", "web");
    has(j, "upstream_transport_failure_reason", NULL);
    ck_assert_int_eq(json_integer_value(json_object_get(j, "bytes_received")), 9);
    json_decref(j);
}
END_TEST

static size_t
lines_in(const char *path)
{
    size_t n = 0;
    char line[MESHD_ACCESS_LINE_MAX];
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f)) {
        json_t *j = json_loads(line, 0, NULL);
        ck_assert_msg(j != NULL, "%s", line);
        json_decref(j);
        n++;
    }
    if (f) {
        fclose(f);
    }
    return n;
}

static void
put(unsigned n, enum mesh_err why)
{
    struct meshd_conn c = {.state = MESH_CONN_CLOSED, .outbound = true, .how = MESH_HOW_OPENED,
                           .reason = why, .pid = 1};
    for (unsigned i = 0; i < n; i++) {
        meshd_access_put(&c, &info);
    }
    meshd_access_flush();
}

static struct meshd_access_info
state(void)
{
    struct meshd_access_info i;
    meshd_access_info(&i);
    return i;
}

/* By hashes of names that somebody gave out; nobody else's. */
START_TEST(what_was_asked_for)
{
    struct mesh_page_conn *c = open_one(PEER, "cache-far", 1);
    meshd_stats_learn("cache-asked");
    meshd_stats_learn("cache-asked/2");
    c->asked_service = mesh_limit_hash("cache-asked");
    json_t *j = line_of(c);
    has(j, "requested_server_name", "cache-asked");
    has(j, "route_name", "default");
    has(j, "upstream_cluster", "cache-far");
    json_decref(j);
    c->route = mesh_limit_hash("cache-asked/2");
    j = line_of(c);
    has(j, "route_name", "cache-asked/2");
    json_decref(j);
    c->route = mesh_limit_hash("never heard of");
    c->asked_service = 77;
    j = line_of(c);
    has(j, "route_name", NULL);
    has(j, "requested_server_name", NULL);
    json_decref(j);
    c->outbound = 0;
    j = line_of(c);
    has(j, "requested_server_name", NULL);
    json_decref(j);
}
END_TEST

START_TEST(file_and_filter)
{
    char old[310];
    ck_assert(!meshd_access_on());
    configure(log_path, "all");
    meshd_stats_reload();
    ck_assert(meshd_access_on());
    put(3, MESH_OK);
    ck_assert_uint_eq(lines_in(log_path), 3);
    snprintf(old, sizeof(old), "%s.1", log_path);
    ck_assert_int_eq(rename(log_path, old), 0);
    put(1, MESH_OK); /* logrotate has not told us yet */
    ck_assert_uint_eq(lines_in(old), 4);
    meshd_access_reopen();
    put(2, MESH_OK);
    ck_assert_uint_eq(lines_in(old), 4);
    ck_assert_uint_eq(lines_in(log_path), 2);
    configure(log_path, "errors");
    meshd_stats_reload();
    put(5, MESH_OK);
    put(1, MESH_E_BAD_MAC);
    ck_assert_uint_eq(lines_in(log_path), 3);
    ck_assert_uint_eq(state().lines, 7);
    configure("off", "all");
    meshd_stats_reload();
    ck_assert(!meshd_access_on());
}
END_TEST

START_TEST(no_room)
{
    configure("/dev/full", "all");
    meshd_stats_reload();
    put(10000, MESH_OK); /* more than the buffer */
    struct meshd_access_info i = state();
    ck_assert(i.failing);
    ck_assert_uint_gt(i.lost[MESHD_ACCESS_WRITE], 0);
    ck_assert_uint_eq(i.lines + i.lost[MESHD_ACCESS_WRITE], 10000);
    configure(log_path, "all"); /* what is in the buffer is not lost */
    meshd_stats_reload();
    meshd_access_flush();
    ck_assert_uint_eq(lines_in(log_path), i.lines);
    ck_assert(!state().failing);
}
END_TEST

START_TEST(nobody_reads)
{
    char fifo[300];
    snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    configure(fifo, "all");
    meshd_stats_reload(); /* does not wait for a reader */
    put(10, MESH_OK);
    int fd = open(fifo, O_RDONLY | O_NONBLOCK);
    meshd_access_reopen();
    put(5000, MESH_OK); /* nor for one that reads slowly */
    ck_assert_uint_gt(state().lost[MESHD_ACCESS_WRITE], 0);
    char c[100];
    ck_assert_int_eq(read(fd, c, sizeof(c)), sizeof(c));
    ck_assert_int_eq(c[0], '{');
    meshd_access_flush(); /* now the midst of a line is its end */
    configure(log_path, "all");
    meshd_stats_reload();
    put(1, MESH_OK);
    ck_assert_uint_gt(lines_in(log_path), 100); /* all of them whole */
    close(fd);
}
END_TEST

/* -- sums --------------------------------------------------------------------------------------- */

struct seen {
    struct meshd_series_values db;
    unsigned n, dbs;
};

static int
on_series(const struct meshd_series_key *k, const struct meshd_series_values *v, void *arg)
{
    struct seen *s = arg;
    s->n++;
    ck_assert(k->peer_id[0] && (k->destination[0] || !k->outbound));
    if (strcmp(k->peer_id, PEER) == 0 && strcmp(k->destination, "db") == 0) {
        ck_assert_str_eq(k->service, "web");
        s->db = *v;
        s->dbs++;
    }
    return 0;
}

static struct seen
look(void)
{
    struct seen s = {0};
    meshd_stats_visit_series(on_series, &s);
    ck_assert_uint_le(s.dbs, 1);
    return s;
}

START_TEST(sums_of_open_and_ended)
{
    struct mesh_page_conn *a = open_one(PEER, "db", 100), *b = open_one(PEER, "db", 10);
    struct seen s = look();
    ck_assert_uint_eq(s.db.opened, 2);
    ck_assert_uint_eq(s.db.tx_bytes, 110);
    ck_assert_uint_eq(s.db.attempts, 4);
    ck_assert_uint_eq(s.db.retries, 2);
    ck_assert_uint_eq(s.db.connect[2], 2);   /* 700 us */
    ck_assert_uint_eq(s.db.handshake[1], 2); /* 300 us */
    end_one(a, MESH_OK);
    s = look();
    ck_assert_uint_eq(s.db.tx_bytes, 110);
    ck_assert_uint_eq(s.db.closed[MESH_FLAG_NONE], 1);
    end_one(b, MESH_E_BAD_MAC);
    ck_assert_uint_eq(look().db.closed[MESH_FLAG_UPE], 1);
    struct mesh_page_conn *f = mesh_page_conns(page) + 4000;
    memset(f, 0, sizeof(*f));
    f->outbound = 1;
    f->reason = MESH_E_NO_ENDPOINT;
    shim_edge_ended(page, f);
    f->how = MESH_HOW_RETRIED; /* another attempt follows, whose count has this one in it */
    f->reason = MESH_E_CONNECT_FAILED;
    shim_edge_ended(page, f);
    snprintf(f->service, sizeof(f->service), "other");
    shim_edge_ended(page, f);
    s = look();
    ck_assert_uint_eq(s.n, 2);
    ck_assert_uint_eq(s.db.opened, 2);
}
END_TEST

/* Between the reading of the sums and of the entries a connection ends: it is in neither. */
START_TEST(never_less)
{
    struct mesh_page_conn *a = open_one(PEER, "db", 1000);
    ck_assert_uint_eq(look().db.tx_bytes, 1000);
    a->state = MESH_CONN_CLOSED;
    ck_assert_uint_eq(look().db.tx_bytes, 1000);
    struct mesh_page_edge *e = mesh_page_edges(page) + a->edge - 1;
    atomic_store(&e->opened, 0);
    ck_assert_uint_eq(look().db.opened, 1);
    atomic_store(&e->opened, UINT64_MAX); /* no honest counter */
    ck_assert_uint_eq(look().db.opened, 1);
    atomic_store(&e->opened, 5);
    ck_assert_uint_eq(look().db.opened, 5);
}
END_TEST

START_TEST(over_restart_and_death)
{
    end_one(open_one(PEER, "db", 100), MESH_OK);
    struct mesh_page_conn *b = open_one(PEER, "db", 10);
    ck_assert_uint_eq(look().db.tx_bytes, 110);
    stop();
    start();
    ck_assert_uint_eq(look().db.tx_bytes, 110); /* from the page */
    ck_assert_uint_eq(look().db.closed[MESH_FLAG_NONE], 1);
    b->tx_bytes = 20;
    munmap(page, MESH_PAGE_SIZE);
    meshd_stats_gone(getpid(), meshd_proc_starttime(getpid()));
    ck_assert_uint_eq(meshd_stats_attached(), 0);
    for (int i = 0; i < 2; i++) {
        struct seen s = look();
        ck_assert_uint_eq(s.db.tx_bytes, 120);
        ck_assert_uint_eq(s.db.opened, 2);
        ck_assert_uint_eq(s.db.closed[MESH_FLAG_NONE], 1);
        ck_assert_uint_eq(s.db.closed[MESH_FLAG_DC], 1); /* it was open when its process died */
        stop();
        start(); /* now from the totals' file */
    }
    attach();
}
END_TEST

/* Whatever a process writes, one set of labels is one series. */
START_TEST(labels_are_unique)
{
    struct mesh_page_edge *e = mesh_page_edges(page);
    for (unsigned i = 2; i < 8; i++) {
        e[i].state = MESH_EDGE_READY;
        e[i].outbound = (uint8_t)(1 + i); /* all mean yes */
        snprintf(e[i].peer_id, sizeof(e[i].peer_id), PEER);
        snprintf(e[i].service, sizeof(e[i].service), "%s", i % 2 ? "db" : "");
        memcpy(e[i].service + 8, &i, sizeof(i)); /* behind the NUL */
        e[i].opened = 1;
    }
    struct seen s = look();
    ck_assert_uint_eq(s.n, 1);
    ck_assert_uint_eq(s.db.opened, 6);
    for (unsigned i = 0; i < 8; i++) {
        scribble(i);
        ck_assert_uint_le(look().n, MESH_PAGE_EDGES * (i + 1) + 1);
    }
}
END_TEST

START_TEST(more_edges_than_room)
{
    char peer[64];
    for (unsigned i = 0; i < 2 * MESH_PAGE_EDGES; i++) {
        snprintf(peer, sizeof(peer), "spiffe://mesh.local/ns/default/sa/s%u", i);
        end_one(open_one(peer, peer + 34, 1), MESH_OK);
    }
    struct seen s = look();
    ck_assert_uint_le(s.n, MESH_PAGE_EDGES);
    uint64_t all = 0;
    for (unsigned i = 0; i < MESH_PAGE_EDGES; i++) {
        all += mesh_page_edges(page)[i].opened;
    }
    ck_assert_uint_eq(all, 2 * MESH_PAGE_EDGES); /* none is left out */
}
END_TEST

/* A page that an older meshd made is counted on, and a library that wants another one gets it. */
START_TEST(page_of_another_version)
{
    uint64_t was = info.page_id;
    end_one(open_one(PEER, "db", 100), MESH_OK);
    page->version = MESH_PAGE_VERSION - 1;
    stop();
    start();
    munmap(page, MESH_PAGE_SIZE);
    attach();
    ck_assert_uint_ne(info.page_id, was);
    ck_assert_uint_eq(page->version, MESH_PAGE_VERSION);
    ck_assert_uint_eq(look().db.tx_bytes, 100);
}
END_TEST

START_TEST(wrong_configuration)
{
    static const char *const bad[] = {"access.log", "", "/var/log/", "of"};
    configure(log_path, "all");
    for (unsigned i = 0; i < 4; i++) {
        FILE *f = fopen(conf, "w");
        fprintf(f, "access_log = { path = \"%s\"; };\n", bad[i]);
        ck_assert_int_eq(fclose(f), 0);
        ck_assert_int_ne(meshd_config_reload(), MESH_OK);
        ck_assert_str_eq(meshd_config_current()->access_log_path, log_path); /* the old one stays */
    }
}
END_TEST

/* -- flags ------------------------------------------------------------------------------------- */

START_TEST(every_reason_has_a_flag)
{
    static const uint8_t has_line[MESH_ERR_COUNT] = {
#define FLAG(name, code, text)
#define CAUSE(reason, out, in) [MESH_E_##reason] = 1,
#include "mesh/flag.def"
#undef FLAG
#undef CAUSE
    };
    for (unsigned i = MESH_OK + 1; i < MESH_ERR_COUNT; i++) {
        ck_assert_msg(has_line[i], "%s: no line in flag.def", mesh_err_reason((enum mesh_err)i));
    }
    ck_assert_int_eq(mesh_flag_of(true, MESH_OK, MESH_HOW_OPENED), MESH_FLAG_NONE);
    ck_assert_int_eq(mesh_flag_of(true, MESH_OK, 0), MESH_FLAG_DC);
    ck_assert_int_eq(mesh_flag_of(true, MESH_OK, MESH_HOW_OPENED | MESH_HOW_RESET), MESH_FLAG_UC);
    ck_assert_int_eq(mesh_flag_of(false, MESH_OK, MESH_HOW_OPENED | MESH_HOW_RESET), MESH_FLAG_DC);
    ck_assert_int_eq(mesh_flag_of(true, MESH_E_IDENTITY, 0), MESH_FLAG_UF);
    ck_assert_int_eq(mesh_flag_of(true, MESH_E_SYSTEM, MESH_HOW_OPENED), MESH_FLAG_UC);
    ck_assert_int_eq(mesh_flag_of(true, MESH_E_CONNECT_TIMEOUT, MESH_HOW_EXHAUSTED), MESH_FLAG_UF_URX);
    ck_assert_int_eq(mesh_flag_of(true, MESH_E_CONNECT_FAILED, MESH_HOW_OVERFLOW | MESH_HOW_EXHAUSTED), MESH_FLAG_UF_UO);
    ck_assert_int_eq(mesh_flag_of(true, (enum mesh_err)9999, 0), MESH_FLAG_LR);
    ck_assert_str_eq(mesh_flag_code((enum mesh_flag)99), "-");
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("observe");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, each_once_in_turn);
    tcase_add_test(t, too_many_are_counted);
    tcase_add_test(t, number_without_entry);
    tcase_add_test(t, claimed_anew);
    tcase_add_test(t, where_it_begins);
    tcase_add_test(t, anything_may_be_there);
    tcase_add_test(t, what_a_line_says);
    tcase_add_test(t, what_was_asked_for);
    tcase_add_test(t, file_and_filter);
    tcase_add_test(t, no_room);
    tcase_add_test(t, nobody_reads);
    tcase_add_test(t, sums_of_open_and_ended);
    tcase_add_test(t, never_less);
    tcase_add_test(t, over_restart_and_death);
    tcase_add_test(t, labels_are_unique);
    tcase_add_test(t, more_edges_than_room);
    tcase_add_test(t, page_of_another_version);
    tcase_add_test(t, wrong_configuration);
    tcase_add_test(t, every_reason_has_a_flag);
    suite_add_tcase(s, t);
    return unit_run(s);
}
