/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_drain: what orders cover, in the snapshot and over a restart; and listeners that are not chosen
 * because they do not listen yet, or are about to be closed.
 */
#include <signal.h>
#include <sys/wait.h>

#include "meshd/stats/stats.h"
#include "tests/unit/registry_kit.h"

static bool
is_draining(const char *ip, uint16_t port)
{
    struct mesh_snap_hit hit;
    ck_assert(look(ip, port, &hit)); /* its own address always leads to it */
    return hit.endpoint.flags & MESH_EP_DRAINING;
}

static struct meshd_drain
order(const char *service, const char *addr)
{
    struct meshd_drain d = {.since_ns = 1};
    snprintf(d.service, sizeof(d.service), "%s", service ? service : "");
    ck_assert(!addr || meshd_config_addr(addr, &d.addr));
    return d;
}

static void
drain(const char *service, const char *addr)
{
    struct meshd_drain d = order(service, addr);
    struct meshd_registry_info info;
    ck_assert_int_eq(meshd_registry_drain(&d), MESH_OK);
    meshd_registry_info(&info);
    ck_assert_uint_eq(d.generation, info.generation);
}

static bool
undrain(const char *service, const char *addr)
{
    struct meshd_drain d = order(service, addr);
    bool was = false;
    ck_assert_int_eq(meshd_registry_undrain(&d, &was), MESH_OK);
    return was;
}

static int
enlisted(const char *ip, uint16_t *port)
{
    struct meshd_peer me = peer_of(getpid());
    int fd = listener(ip, port);
    struct mesh_wire_listen_req q = request(fd, ip, *port);
    q.flags = strcmp(ip, "0.0.0.0") == 0 ? MESH_EP_ANY : 0;
    (void)enlist(&me, &q);
    return fd;
}

static int
count_drain(const struct meshd_drain *d, void *arg)
{
    (void)d;
    ++*(int *)arg;
    return 0;
}

static int
drains(void)
{
    int n = 0;
    meshd_registry_visit_drains(count_drain, &n);
    return n;
}

/* What cannot be published does not hold, for the next meshd either. */
START_TEST(not_published_not_ordered)
{
    char path[512], text[256] = "";
    struct meshd_drain d = order("web", NULL), kept = order("db", NULL);
    bool was = false;
    drain("db", NULL);
    snprintf(path, sizeof(path), "%s/snapshot", dir);
    meshd_snapfile_close(); /* nothing can be written */
    ck_assert_int_ne(meshd_registry_drain(&d), MESH_OK);
    ck_assert_int_ne(meshd_registry_undrain(&kept, &was), MESH_OK);
    ck_assert(was);
    ck_assert_int_eq(meshd_snapfile_open(path, MESH_SNAP_AREA), MESH_OK);
    ck_assert_int_eq(drains(), 1);
    snprintf(path, sizeof(path), "%s/drains", dir);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert(fread(text, 1, sizeof(text) - 1, f) > 0);
    fclose(f);
    ck_assert_msg(strstr(text, "service db ") && !strstr(text, "web"), "%s", text);
    ck_assert(undrain("db", NULL));
    ck_assert_int_eq(drains(), 0);
}
END_TEST

START_TEST(of_a_service)
{
    uint16_t one = 0, two = 0;
    int a = enlisted("127.0.0.1", &one), b = -1;
    ck_assert(!is_draining("127.0.0.1", one));
    drain("other", NULL);
    ck_assert(!is_draining("127.0.0.1", one));
    drain("web", NULL);
    ck_assert(is_draining("127.0.0.1", one));
    b = enlisted("127.0.0.1", &two); /* the order is for those that come, too */
    ck_assert(is_draining("127.0.0.1", two));
    ck_assert(undrain("web", NULL));
    ck_assert(!undrain("web", NULL));
    ck_assert(!is_draining("127.0.0.1", one) && !is_draining("127.0.0.1", two));
    close(a);
    close(b);
}
END_TEST

START_TEST(of_an_address)
{
    uint16_t one = 0, two = 0, wild = 0;
    char addr[64];
    int a = enlisted("127.0.0.1", &one), b = enlisted("127.0.0.1", &two), c = enlisted("0.0.0.0", &wild);
    snprintf(addr, sizeof(addr), "127.0.0.1:%u", one);
    drain(NULL, addr);
    ck_assert(is_draining("127.0.0.1", one) && !is_draining("127.0.0.1", two));
    snprintf(addr, sizeof(addr), "127.0.0.2:%u", two);
    drain(NULL, addr);
    ck_assert(!is_draining("127.0.0.1", two));
    snprintf(addr, sizeof(addr), "127.0.0.1:%u", wild); /* an address at which the wildcard answers */
    drain(NULL, addr);
    ck_assert(is_draining("127.0.0.1", wild));
    ck_assert(undrain(NULL, addr));
    snprintf(addr, sizeof(addr), "0.0.0.0:%u", wild);
    ck_assert(!is_draining("127.0.0.1", wild));
    drain(NULL, addr);
    ck_assert(is_draining("127.0.0.1", wild));
    close(a);
    close(b);
    close(c);
}
END_TEST

START_TEST(the_same_order_is_one)
{
    struct meshd_drain first = order("web", NULL), again = order("web", NULL);
    struct meshd_registry_info before, after;
    again.since_ns = 2;
    ck_assert_int_eq(meshd_registry_drain(&first), MESH_OK);
    meshd_registry_info(&before);
    ck_assert_int_eq(meshd_registry_drain(&again), MESH_OK);
    meshd_registry_info(&after);
    ck_assert_uint_eq(again.since_ns, 1);
    ck_assert_uint_eq(again.generation, first.generation);
    ck_assert_uint_eq(before.generation, after.generation); /* nothing to publish */
}
END_TEST

START_TEST(over_a_restart)
{
    uint16_t one = 0, two = 0;
    char addr[64];
    int a = enlisted("127.0.0.1", &one), b = enlisted("127.0.0.1", &two);
    snprintf(addr, sizeof(addr), "127.0.0.1:%u", one);
    drain(NULL, addr);
    drain("gone", NULL);
    stop();
    start();
    ck_assert(is_draining("127.0.0.1", one) && !is_draining("127.0.0.1", two));
    ck_assert_int_eq(meshd_registry_publish(), MESH_OK); /* a reload */
    ck_assert(is_draining("127.0.0.1", one));
    ck_assert(undrain(NULL, addr) && undrain("gone", NULL));
    stop();
    start();
    ck_assert(!is_draining("127.0.0.1", one)); /* the flag in the snapshot is no order */
    close(a);
    close(b);
}
END_TEST

static void
write_file(const char *text)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/drains", dir);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static int
count_order(const struct meshd_drain *d, void *arg)
{
    (void)d;
    ++*(int *)arg;
    return 0;
}

START_TEST(damaged_file)
{
    static const char *const bad[] = {
        "", "libmesh-drains 2\nservice web 1\n", "libmesh-drains 1\nservice\n", "libmesh-drains 1\nservice ../x 1\n",
        "libmesh-drains 1\nendpoint here 1\n", "libmesh-drains 1\nall web 1\n", "\x01\xff\xfe",
    };
    char path[512];
    int n = 0;
    stop();
    write_file(bad[_i]);
    meshd_log_set(MESHD_LOG_ERROR);
    start();
    meshd_registry_visit_drains(count_order, &n);
    ck_assert_int_eq(n, 0);
    snprintf(path, sizeof(path), "%s/drains.bad", dir);
    ck_assert_int_eq(access(path, F_OK), 0);
    drain("web", NULL);
    stop();
    start();
    meshd_registry_visit_drains(count_order, &n);
    ck_assert_int_eq(n, 1);
}
END_TEST

/* -- about to listen, about to close ------------------------------------------------------------ */

static int
bound(uint16_t *port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, len), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    *port = ntohs(sa.sin_port);
    return fd;
}

START_TEST(not_before_it_listens)
{
    uint16_t port = 0;
    int fd = bound(&port);
    struct meshd_peer me = peer_of(getpid()), other = {.pid = 1, .uid = me.uid + 1};
    struct mesh_wire_listen_req q = request(fd, "127.0.0.1", port);
    struct mesh_wire_unlisten_req un = {q.netns, q.cookie};
    (void)enlist(&me, &q);
    ck_assert(is_draining("127.0.0.1", port)); /* listed, but not chosen */
    ck_assert_int_eq(listen(fd, 8), 0);
    meshd_registry_listens(&other, &un);
    ck_assert(is_draining("127.0.0.1", port));
    meshd_registry_listens(&me, &un);
    ck_assert(!is_draining("127.0.0.1", port));
    close(fd);
}
END_TEST

/* This process has a page; `pid` is another one on it, 0: none. */
static struct mesh_page *
attach(pid_t pid)
{
    struct meshd_peer me = peer_of(getpid());
    uint64_t id;
    int fd = -1;
    ck_assert_int_eq(meshd_stats_init(dir), MESH_OK);
    ck_assert_int_eq(meshd_stats_attach(&me, &web, 5, &id, &fd), MESH_OK);
    struct mesh_page *m = mmap(NULL, MESH_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(m, MAP_FAILED);
    close(fd);
    m->pids[0] = getpid();
    m->pids[1] = pid;
    return m;
}

START_TEST(not_while_it_is_closed)
{
    uint16_t port = 0;
    int fd = enlisted("127.0.0.1", &port);
    struct meshd_peer me = peer_of(getpid()), other = {.pid = 1, .uid = me.uid + 1};
    struct mesh_wire_unlisten_req un = {sock_u64(fd, SO_NETNS_COOKIE), sock_u64(fd, SO_COOKIE)};
    struct mesh_snap_hit hit;
    meshd_registry_leave(&me, &un); /* nothing is known of who else may have it */
    ck_assert(!is_draining("127.0.0.1", port));
    (void)attach(0);
    meshd_registry_leave(&other, &un);
    ck_assert(!is_draining("127.0.0.1", port));
    meshd_registry_leave(&me, &un);
    ck_assert(is_draining("127.0.0.1", port));
    meshd_registry_unlisten(&me, &un); /* not true: somebody had it after all */
    ck_assert(!is_draining("127.0.0.1", port));
    meshd_registry_leave(&me, &un);
    close(fd);
    meshd_registry_unlisten(&me, &un);
    ck_assert(!look("127.0.0.1", port, &hit));
    meshd_stats_fini();
}
END_TEST

static pid_t
sleeper(void)
{
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    ck_assert_int_gt(child, 0);
    return child;
}

static void
end_sleeper(pid_t child)
{
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
}

START_TEST(the_last_of_the_tree_leaves)
{
    uint16_t port = 0;
    int fd = enlisted("127.0.0.1", &port);
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_unlisten_req un = {sock_u64(fd, SO_NETNS_COOKIE), sock_u64(fd, SO_COOKIE)};
    pid_t child = sleeper();
    struct meshd_peer its = peer_of(child);
    its.uid = me.uid + 1; /* it has dropped its privileges */
    struct mesh_page *m = attach(child);
    meshd_registry_leave(&me, &un); /* the child still serves */
    ck_assert(!is_draining("127.0.0.1", port));
    meshd_registry_leave(&its, &un);
    ck_assert(is_draining("127.0.0.1", port));
    m->pids[1] = 0;
    end_sleeper(child);
    close(fd);
    ck_assert(becomes(port, false, 5000)); /* the kernel's word, without an unlisten */
    meshd_stats_fini();
}
END_TEST

/* Two leave, and the first to close sees that the kernel still shows what the other is about to close. */
START_TEST(not_while_another_closes)
{
    uint16_t port = 0;
    int fd = enlisted("127.0.0.1", &port);
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_unlisten_req un = {sock_u64(fd, SO_NETNS_COOKIE), sock_u64(fd, SO_COOKIE)};
    pid_t child = sleeper();
    struct meshd_peer its = peer_of(child);
    its.uid = me.uid + 1;
    struct mesh_page *m = attach(child);
    meshd_registry_leave(&me, &un);
    meshd_registry_leave(&its, &un);
    ck_assert(is_draining("127.0.0.1", port));
    meshd_registry_unlisten(&me, &un);
    ck_assert(is_draining("127.0.0.1", port));
    meshd_registry_unlisten(&its, &un); /* now it is somebody else's */
    ck_assert(!is_draining("127.0.0.1", port));
    meshd_registry_leave(&its, &un);
    ck_assert(is_draining("127.0.0.1", port));
    m->pids[1] = 0;
    siginfo_t info;
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    meshd_registry_unlisten(&me, &un); /* who died is not waited for, even if nobody has asked for his end */
    ck_assert(!is_draining("127.0.0.1", port));
    end_sleeper(child);
    close(fd);
    meshd_registry_unlisten(&me, &un);
    meshd_stats_fini();
}
END_TEST

/* What exits leaves, and says no more; somebody of whom nothing is known holds the listener. */
START_TEST(who_ends_has_closed)
{
    uint16_t port = 0;
    int fd = enlisted("127.0.0.1", &port);
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_unlisten_req un = {sock_u64(fd, SO_NETNS_COOKIE), sock_u64(fd, SO_COOKIE)};
    pid_t child = sleeper();
    struct meshd_peer its = peer_of(child);
    its.uid = me.uid + 1;
    struct mesh_page *m = attach(child);
    m->left[0] = MESH_PAGE_LISTENER(un.cookie);
    meshd_registry_leave(&its, &un);
    ck_assert(is_draining("127.0.0.1", port));
    end_sleeper(child);
    meshd_registry_gone(its.pid, its.starttime);
    ck_assert(!is_draining("127.0.0.1", port));
    close(fd);
    meshd_registry_unlisten(&me, &un);
    meshd_stats_fini();
}
END_TEST

/* Its child has noted on the page that it let go of this listener, or of another one, which is not enough. */
START_TEST(who_left_by_the_page)
{
    uint16_t port = 0;
    int fd = enlisted("127.0.0.1", &port);
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_unlisten_req un = {sock_u64(fd, SO_NETNS_COOKIE), sock_u64(fd, SO_COOKIE)};
    struct mesh_page *m = attach(getppid());
    m->left[1] = MESH_PAGE_LISTENER(un.cookie + 1);
    meshd_registry_leave(&me, &un);
    ck_assert(!is_draining("127.0.0.1", port));
    m->left[1] |= MESH_PAGE_LISTENER(un.cookie);
    meshd_registry_leave(&me, &un);
    ck_assert(is_draining("127.0.0.1", port));
    close(fd);
    meshd_registry_unlisten(&me, &un);
    meshd_stats_fini();
}
END_TEST

int
main(void)
{
    TCase *t = tcase_create("drain");
    tcase_add_test(t, of_a_service);
    tcase_add_test(t, not_published_not_ordered);
    tcase_add_test(t, of_an_address);
    tcase_add_test(t, the_same_order_is_one);
    tcase_add_test(t, over_a_restart);
    tcase_add_loop_test(t, damaged_file, 0, 7);
    tcase_add_test(t, not_before_it_listens);
    tcase_add_test(t, not_while_it_is_closed);
    tcase_add_test(t, the_last_of_the_tree_leaves);
    tcase_add_test(t, not_while_another_closes);
    tcase_add_test(t, who_ends_has_closed);
    tcase_add_test(t, who_left_by_the_page);
    return run_case("registry drain", t);
}
