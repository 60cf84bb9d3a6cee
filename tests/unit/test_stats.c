/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_stats: pages of live, dead and hostile processes, totals over death and restart.
 */
#include "meshd/stats/quota.h"
#include "meshd/stats/stats.h"

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "meshd/attest/attest.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/base/proc.h"
#include "tests/unit/unit.h"

static const char *dir;
static const struct meshd_identity web = {"web", "spiffe://mesh.local/ns/default/sa/web"};

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
setup(void)
{
    meshd_log_set(MESHD_LOG_ERROR);
    signal(SIGIO, SIG_IGN);
    dir = unit_mkdir();
    start();
}

static void
teardown(void)
{
    stop();
    unit_rmdir(dir);
}

static void
run_for(int ms)
{
    uint64_t end = meshd_now_ns() + (uint64_t)ms * 1000000;
    while (meshd_now_ns() < end) {
        event_base_loop(meshd_loop(), EVLOOP_NONBLOCK);
    }
}

/* A process that does nothing until its pipe closes. */
struct idle {
    pid_t pid;
    int go;
};

static struct idle
idle_start(int page_fd)
{
    int p[2];
    ck_assert_int_eq(pipe(p), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        void *m = page_fd >= 0
                      ? mmap(NULL, MESH_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, page_fd, 0)
                      : NULL;
        close(p[1]);
        if (page_fd >= 0) {
            close(page_fd);
        }
        _exit(m == MAP_FAILED || read(p[0], &c, 1) < 0);
    }
    close(p[0]);
    fcntl(p[1], F_SETFD, FD_CLOEXEC);
    return (struct idle){pid, p[1]};
}

static void
idle_stop(struct idle *i)
{
    close(i->go);
    kill(i->pid, SIGKILL); /* its sibling may hold the other end too */
    waitpid(i->pid, NULL, 0);
}

static struct meshd_peer
peer_of(pid_t pid)
{
    return (struct meshd_peer){.pid = pid, .uid = 1000, .gid = 1000,
                               .starttime = meshd_proc_starttime(pid), .exe = "/bin/web",
                               .unit = "web.service"};
}

static struct mesh_page *
attach(pid_t pid, uint64_t *id, int *keep_fd)
{
    struct meshd_peer p = peer_of(pid);
    int fd = -1;
    ck_assert_int_eq(meshd_stats_attach(&p, &web, 5, id, &fd), MESH_OK);
    struct mesh_page *m = mmap(NULL, MESH_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(m, MAP_FAILED);
    if (keep_fd) {
        *keep_fd = fd;
    } else {
        close(fd);
    }
    return m;
}

static void
detach(struct mesh_page *m)
{
    munmap(m, MESH_PAGE_SIZE);
}

static void
fill_conn(struct mesh_page *m, unsigned i, uint32_t state, uint16_t port)
{
    struct mesh_page_conn *c = mesh_page_conns(m) + i;
    c->outbound = 1;
    c->local_addr[10] = c->local_addr[11] = 0xff;
    c->local_addr[12] = 127;
    c->local_addr[15] = 1;
    c->local_port = port;
    c->cipher = 0x1301;
    c->opened_ns = 1;
    memcpy(c->peer_id, "spiffe://x/y", 12);
    atomic_store(&c->state, state);
}

static int
take_workload(const struct meshd_workload *w, void *arg)
{
    *(struct meshd_workload *)arg = *w;
    return 0;
}

static int
count_conn(const struct meshd_conn *c, void *arg)
{
    ck_assert_uint_lt(strlen(c->peer_id), MESH_ID_MAX);
    ++*(unsigned *)arg;
    return 0;
}

static unsigned
active(void)
{
    unsigned n = 0;
    meshd_stats_visit_active(count_conn, &n);
    return n;
}

static unsigned
closed(void)
{
    unsigned n = 0;
    meshd_stats_visit_closed(count_conn, &n);
    return n;
}

static uint64_t
sum(enum mesh_stat s)
{
    struct meshd_counters c;
    meshd_stats_sum(&c);
    return c.stat[s];
}

START_TEST(head_and_counters)
{
    uint64_t id = 0;
    struct mesh_page *m = attach(getpid(), &id, NULL);
    struct meshd_workload w = {0};
    ck_assert_uint_eq(m->magic, MESH_PAGE_MAGIC);
    ck_assert_uint_eq(m->page_id, id);
    ck_assert_uint_eq(m->size, MESH_PAGE_SIZE);
    ck_assert_str_eq(m->service, "web");
    ck_assert_str_eq(m->unit, "web.service");
    atomic_store(&m->pids[3], getpid());
    atomic_fetch_add(&m->stat[MESH_STAT_TX_BYTES], 123);
    atomic_fetch_add(&m->err[MESH_E_BAD_MAC], 2);
    meshd_stats_visit_workloads(take_workload, &w);
    ck_assert_uint_eq(w.counters.stat[MESH_STAT_TX_BYTES], 123);
    ck_assert_uint_eq(w.counters.err[MESH_E_BAD_MAC], 2);
    ck_assert_uint_eq(w.processes, 1);
    ck_assert_int_eq(w.pid, getpid());
    ck_assert_uint_eq(sum(MESH_STAT_TX_BYTES), 123);
    detach(m);
}
END_TEST

START_TEST(same_process_same_page)
{
    uint64_t a = 0, b = 0, c = 0;
    int fd = -1;
    detach(attach(getpid(), &a, NULL));
    detach(attach(getpid(), &b, NULL));
    ck_assert_uint_eq(a, b);
    struct meshd_peer p = peer_of(getpid());
    const struct meshd_identity other = {"db", "spiffe://mesh.local/ns/default/sa/db"};
    ck_assert_int_eq(meshd_stats_attach(&p, &other, 5, &c, &fd), MESH_OK); /* after an exec */
    close(fd);
    ck_assert_uint_ne(a, c);
}
END_TEST

START_TEST(connections)
{
    uint64_t id = 0;
    struct mesh_page *m = attach(getpid(), &id, NULL);
    fill_conn(m, 0, MESH_CONN_OPEN, 1000);
    fill_conn(m, 1, MESH_CONN_CLAIMED, 1001);
    fill_conn(m, 2, MESH_CONN_HANDSHAKE, 1002);
    fill_conn(m, 100, MESH_CONN_CLOSED, 1003);
    fill_conn(m, MESH_PAGE_CONNS - 1, MESH_CONN_OPEN, 1004);
    ck_assert_uint_eq(active(), 3);
    ck_assert_uint_eq(closed(), 1);
    detach(m);
}
END_TEST

static int
take_service(const struct meshd_conn *c, void *arg)
{
    snprintf(arg, MESH_SERVICE_MAX, "%s", c->service);
    ck_assert_ptr_nonnull(strstr(c->id, c->service));
    return 0;
}

/* A connection that inetd made, held by cat: while inetd lives, when it is gone, and when cat is too. */
START_TEST(whose_certificate)
{
    uint64_t id = 0, cats = 0;
    int fd = -1;
    char service[MESH_SERVICE_MAX] = "";
    struct idle inetd = idle_start(-1);
    struct meshd_peer was = peer_of(inetd.pid);
    struct mesh_page *first = attach(inetd.pid, &id, NULL);
    struct meshd_peer p = peer_of(getpid());
    const struct meshd_identity cat = {"cat", "spiffe://mesh.local/ns/default/sa/cat"};
    ck_assert_int_eq(meshd_stats_attach(&p, &cat, 5, &cats, &fd), MESH_OK);
    struct mesh_page *m = mmap(NULL, MESH_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    ck_assert_uint_ne(first->mark, 0);
    ck_assert_uint_ne(first->mark, m->mark);
    fill_conn(m, 0, MESH_CONN_OPEN, 1000);
    meshd_stats_visit_active(take_service, service);
    ck_assert_str_eq(service, "cat"); /* no mark, or one that nobody has */
    mesh_page_conns(m)[0].mark = first->mark + 1;
    meshd_stats_visit_active(take_service, service);
    ck_assert_str_eq(service, "cat");
    mesh_page_conns(m)[0].mark = first->mark;
    meshd_stats_visit_active(take_service, service);
    ck_assert_str_eq(service, "web");
    detach(first);
    idle_stop(&inetd);
    meshd_stats_gone(was.pid, was.starttime);
    ck_assert_uint_eq(meshd_stats_attached(), 1);
    service[0] = '\0';
    meshd_stats_visit_active(take_service, service);
    ck_assert_str_eq(service, "web");
    detach(m);
}
END_TEST

START_TEST(who_is_a_client)
{
    uint64_t id = 0;
    struct mesh_page *m = attach(getpid(), &id, NULL);
    struct mesh_addr a = {.ip = {[10] = 0xff, [11] = 0xff, 127, 0, 0, 1}, .port = 1000};
    ck_assert(!meshd_stats_is_client(5, &a, UINT64_MAX));
    fill_conn(m, 7, MESH_CONN_HANDSHAKE, 1000);
    ck_assert(meshd_stats_is_client(5, &a, UINT64_MAX));
    ck_assert(!meshd_stats_is_client(6, &a, UINT64_MAX)); /* another namespace */
    a.port = 1001;
    ck_assert(!meshd_stats_is_client(5, &a, UINT64_MAX));
    a.port = 1000;
    struct mesh_addr far = a;
    far.ip[12] = 10; /* the interface of a namespace that the server sees from another one */
    memcpy(mesh_page_conns(m)[7].local_addr, far.ip, 16);
    ck_assert(meshd_stats_is_client(5, &far, UINT64_MAX));
    ck_assert(meshd_stats_is_client(6, &far, UINT64_MAX));
    ck_assert(!meshd_stats_is_client(5, &a, UINT64_MAX));
    struct mesh_page_conn *c = &mesh_page_conns(m)[7];
    const uint8_t *tail = c->peer_addr + 12, other[4] = {1, 2, 3, 4};
    ck_assert(!meshd_stats_is_coming(5, tail, c->peer_port, 0));
    c->local_port = 0; /* it has begun to connect */
    ck_assert(!meshd_stats_is_coming(5, tail, c->peer_port, 0)); /* no attempt yet: a fault puts it off */
    c->attempts = 1;
    ck_assert(meshd_stats_is_coming(5, tail, c->peer_port, 0));
    ck_assert(!meshd_stats_is_coming(5, tail, (uint16_t)(c->peer_port + 1), 0));
    ck_assert(!meshd_stats_is_coming(5, other, c->peer_port, 0));
    ck_assert(!meshd_stats_is_coming(5, tail, c->peer_port, c->opened_ns + 1));
    c->outbound = 0;
    ck_assert(!meshd_stats_is_client(5, &far, UINT64_MAX));
    ck_assert(!meshd_stats_is_coming(5, tail, c->peer_port, 0));
    detach(m);
}
END_TEST

static enum mesh_err
attach_as(uid_t uid, unsigned n)
{
    struct meshd_peer p = peer_of(getpid());
    struct meshd_identity id = web;
    uint64_t page = 0;
    int fd = -1;
    p.uid = uid;
    snprintf(id.id, sizeof(id.id), "spiffe://td/ns/default/sa/%u", n); /* another program: it gets another page */
    enum mesh_err e = meshd_stats_attach(&p, &id, 5, &page, &fd);
    if (e == MESH_OK) {
        close(fd);
    }
    return e;
}

static uint64_t
refused(void)
{
    struct meshd_counters c;
    meshd_stats_sum(&c);
    return c.err[MESH_E_PAGES_FULL];
}

START_TEST(one_user_leaves_room_for_others)
{
    for (unsigned i = 0; i < MESHD_PAGES_USER; i++) {
        ck_assert_int_eq(attach_as(1000, i), MESH_OK);
    }
    ck_assert_int_eq(attach_as(1000, MESHD_PAGES_USER), MESH_E_PAGES_FULL);
    ck_assert_int_eq(attach_as(1000, 0), MESH_E_PAGES_FULL);
    ck_assert_uint_eq(refused(), 2);
    ck_assert_int_eq(attach_as(1001, 0), MESH_OK);
    ck_assert_int_eq(attach_as(0, 0), MESH_OK);
    UNIT_BECOMES(attach_as(1000, 1) == MESH_OK); /* when nobody holds the pages any more */
    struct meshd_peer p = peer_of(getpid()), root = p;
    root.uid = 0;
    ck_assert_int_eq(meshd_quota_check(&p, MESHD_PAGES_MAX - MESHD_PAGES_KEPT, 0), MESH_E_PAGES_FULL);
    ck_assert_int_eq(meshd_quota_check(&root, MESHD_PAGES_MAX - 1, MESHD_PAGES_MAX - 1), MESH_OK);
    ck_assert_int_eq(meshd_quota_check(&root, MESHD_PAGES_MAX, 0), MESH_E_PAGES_FULL);
}
END_TEST

START_TEST(death_folds)
{
    uint64_t id = 0;
    struct idle i = idle_start(-1);
    struct mesh_page *m = attach(i.pid, &id, NULL);
    atomic_fetch_add(&m->stat[MESH_STAT_OPEN_OUT], 2);
    atomic_fetch_add(&m->stat[MESH_STAT_ACTIVE], 1);
    atomic_fetch_add(&m->stat[MESH_STAT_CLOSED], 1);
    fill_conn(m, 0, MESH_CONN_OPEN, 1);
    fill_conn(m, 1, MESH_CONN_CLOSED, 2);
    detach(m);
    ck_assert_uint_eq(meshd_stats_attached(), 1);
    idle_stop(&i);
    UNIT_BECOMES(meshd_stats_attached() == 0);
    ck_assert_uint_eq(sum(MESH_STAT_OPEN_OUT), 2);
    ck_assert_uint_eq(sum(MESH_STAT_CLOSED), 2); /* opened = closed + active still holds */
    ck_assert_uint_eq(sum(MESH_STAT_ACTIVE), 0);
    ck_assert_uint_eq(active(), 0);
    ck_assert_uint_eq(closed(), 2);
    stop();
    start();
    ck_assert_uint_eq(sum(MESH_STAT_OPEN_OUT), 2); /* and after a restart */
    ck_assert_uint_eq(meshd_stats_attached(), 0);
}
END_TEST

/* The page lives as long as somebody maps it, whatever its pids say. */
START_TEST(child_keeps_the_page)
{
    uint64_t id = 0;
    int fd = -1;
    struct idle parent = idle_start(-1);
    struct mesh_page *m = attach(parent.pid, &id, &fd);
    struct idle child = idle_start(fd);
    close(fd);
    atomic_fetch_add(&m->stat[MESH_STAT_TX_BYTES], 10);
    idle_stop(&parent);
    detach(m);
    run_for(1500);
    ck_assert_uint_eq(meshd_stats_attached(), 1);
    idle_stop(&child);
    UNIT_BECOMES(meshd_stats_attached() == 0);
    ck_assert_uint_eq(sum(MESH_STAT_TX_BYTES), 10);
}
END_TEST

START_TEST(restart_keeps_live_pages)
{
    uint64_t a = 0, b = 0;
    struct mesh_page *m = attach(getpid(), &a, NULL);
    atomic_fetch_add(&m->stat[MESH_STAT_TX_BYTES], 10);
    stop();
    atomic_fetch_add(&m->stat[MESH_STAT_TX_BYTES], 5);
    start();
    ck_assert_uint_eq(sum(MESH_STAT_TX_BYTES), 15);
    detach(attach(getpid(), &b, NULL));
    ck_assert_uint_eq(a, b);
    detach(m);
}
END_TEST

START_TEST(death_while_away)
{
    uint64_t id = 0;
    struct idle i = idle_start(-1);
    struct mesh_page *m = attach(i.pid, &id, NULL);
    atomic_fetch_add(&m->stat[MESH_STAT_TX_BYTES], 10);
    detach(m);
    stop();
    idle_stop(&i);
    start();
    ck_assert_uint_eq(sum(MESH_STAT_TX_BYTES), 10);
    ck_assert_uint_eq(meshd_stats_attached(), 0);
    stop();
    start();
    ck_assert_uint_eq(sum(MESH_STAT_TX_BYTES), 10); /* counted once */
}
END_TEST

START_TEST(hostile_page)
{
    uint64_t id = 0;
    char path[512];
    struct meshd_workload w = {0};
    struct mesh_page *m = attach(getpid(), &id, NULL);
    memset((char *)m + sizeof(uint64_t), 0xff, MESH_PAGE_SIZE - sizeof(uint64_t));
    meshd_stats_visit_workloads(take_workload, &w);
    ck_assert_str_eq(w.service, "web"); /* ours, not the page's */
    ck_assert_uint_eq(w.counters.stat[MESH_STAT_TX_BYTES], 0);
    ck_assert_uint_ge(w.processes, 1);
    ck_assert_uint_eq(active(), 0);
    for (unsigned i = 0; i < MESH_PAGE_CONNS; i++) {
        atomic_store(&mesh_page_conns(m)[i].state, MESH_CONN_OPEN);
    }
    ck_assert_uint_eq(active(), MESH_PAGE_CONNS); /* strings without end, every enum wrong */
    detach(m);
    snprintf(path, sizeof(path), "%s/pages/%016llx", dir, (unsigned long long)id);
    ck_assert_int_eq(truncate(path, 100), 0);
    meshd_stats_visit_workloads(take_workload, &w);
    ck_assert_uint_eq(active(), 0);
    ck_assert_int_eq(truncate(path, 0), 0);
    meshd_stats_visit_workloads(take_workload, &w);
    ck_assert_uint_eq(w.counters.stat[MESH_STAT_TX_BYTES], 0);
}
END_TEST

START_TEST(damaged_totals_are_put_aside)
{
    char path[512];
    struct stat st;
    stop();
    snprintf(path, sizeof(path), "%s/totals", dir);
    FILE *f = fopen(path, "w");
    fputs("libmesh-totals 1\nstat x 1\n", f);
    fclose(f);
    start();
    ck_assert_int_ne(stat(path, &st), 0);
    snprintf(path, sizeof(path), "%s/totals.bad", dir);
    ck_assert_int_eq(stat(path, &st), 0);
}
END_TEST

START_TEST(too_large_totals_are_put_aside)
{
    char path[600];
    struct stat st;
    stop();
    snprintf(path, sizeof(path), "%s/totals", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(ftruncate(fd, 65 << 20), 0);
    close(fd);
    start();
    snprintf(path, sizeof(path), "%s/totals.bad", dir);
    ck_assert_int_eq(stat(path, &st), 0);
}
END_TEST

START_TEST(recent_is_a_ring)
{
    uint64_t id = 0;
    struct idle i = idle_start(-1);
    struct mesh_page *m = attach(i.pid, &id, NULL);
    for (unsigned k = 0; k < 1000; k++) {
        fill_conn(m, k, MESH_CONN_CLOSED, (uint16_t)k);
        mesh_page_conns(m)[k].closed_ns = k + 1;
    }
    detach(m);
    idle_stop(&i);
    UNIT_BECOMES(closed() == MESHD_STATS_RECENT);
}
END_TEST

/* Each process has to be seen without a decision since the order, and not all at the same moment. */
START_TEST(who_still_decides)
{
    uint64_t id;
    struct mesh_page *m = attach(getpid(), &id, NULL);
    struct idle other = idle_start(-1);
    ck_assert_uint_eq(meshd_stats_deciding(7, 7), 0);
    m->pids[0] = getpid();
    m->pids[1] = other.pid;
    m->deciding[0] = 1;
    ck_assert_uint_eq(meshd_stats_deciding(7, 9), 0); /* 7 is over for ever */
    ck_assert_uint_eq(meshd_stats_deciding(8, 9), 1);
    m->deciding[0] = 0;
    m->deciding[1] = 1;
    ck_assert_uint_eq(meshd_stats_deciding(8, 9), 0); /* the other one was idle at the first look */
    ck_assert_uint_eq(meshd_stats_deciding(9, 9), 0);
    ck_assert_uint_eq(meshd_stats_deciding(10, 10), 1);
    idle_stop(&other);
    ck_assert_uint_eq(meshd_stats_deciding(10, 10), 0); /* the dead decide nothing */
    m->deciding[MESH_PAGE_PIDS] = 1;
    ck_assert_uint_eq(meshd_stats_deciding(11, 11), 1);
    m->pids[0] = 0; /* other numbers than ours: who is dead cannot be told */
    m->deciding[MESH_PAGE_PIDS] = 0;
    m->deciding[1] = 1;
    ck_assert_uint_eq(meshd_stats_deciding(12, 12), 1);
    detach(m);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("stats");
    TCase *t = tcase_create("stats");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, head_and_counters);
    tcase_add_test(t, same_process_same_page);
    tcase_add_test(t, connections);
    tcase_add_test(t, whose_certificate);
    tcase_add_test(t, who_is_a_client);
    tcase_add_test(t, one_user_leaves_room_for_others);
    tcase_add_test(t, death_folds);
    tcase_add_test(t, child_keeps_the_page);
    tcase_add_test(t, restart_keeps_live_pages);
    tcase_add_test(t, death_while_away);
    tcase_add_test(t, hostile_page);
    tcase_add_test(t, damaged_totals_are_put_aside);
    tcase_add_test(t, too_large_totals_are_put_aside);
    tcase_add_test(t, recent_is_a_ring);
    tcase_add_test(t, who_still_decides);
    suite_add_tcase(s, t);
    return unit_run(s);
}
