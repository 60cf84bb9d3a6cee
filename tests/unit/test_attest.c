/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_attest: names out of paths, units out of cgroup texts, and who is at the other end.
 */
#include "meshd/attest/attest.h"
#include "common/unit.h"

#include <sys/socket.h>
#include <sys/wait.h>

#include "meshd/base/fdpass.h"
#include "meshd/base/proc.h"
#include "meshd/policy/config.h"
#include "tests/unit/unit.h"

static const struct {
    const char *path, *name;
} names[] = {
    {"/usr/bin/python3.11", "python3.11"},
    {"/usr/sbin/nginx", "nginx"},
    {"/opt/a b/my app", "my-app"},
    {"/usr/bin/[", "-"},
    {"/usr/bin/nginx (deleted)", "nginx"},
    {"redis-server", "redis-server"},
    {"/x/caf\xc3\xa9", "caf--"},
    {"/x/a/../..", "unknown"},
    {"/x/.", "unknown"},
    {"/x/", "unknown"},
    {"", "unknown"},
    {"/x/a,URI:spiffe:", "a-URI-spiffe-"},
    {"/x/0123456789012345678901234567890123456789012345678901234567890123456789",
     "012345678901234567890123456789012345678901234567890123456789012"},
};

START_TEST(service_names)
{
    char out[MESH_SERVICE_MAX];
    meshd_attest_service_name(names[_i].path, out);
    ck_assert_str_eq(out, names[_i].name);
    ck_assert(meshd_attest_is_service_name(out));
}
END_TEST

START_TEST(valid_names)
{
    char longest[MESH_SERVICE_MAX + 1];
    memset(longest, 'a', sizeof(longest));
    longest[MESH_SERVICE_MAX] = '\0';
    ck_assert(!meshd_attest_is_service_name(longest));
    longest[MESH_SERVICE_MAX - 1] = '\0';
    ck_assert(meshd_attest_is_service_name(longest));
    ck_assert(!meshd_attest_is_service_name(""));
    ck_assert(!meshd_attest_is_service_name("a/b"));
    ck_assert(!meshd_attest_is_service_name(".."));
}
END_TEST

static const struct {
    const char *cgroup, *unit;
} units[] = {
    {"0::/system.slice/nginx.service\n", "nginx.service"},
    {"0::/system.slice/system-getty.slice/getty@tty1.service\n", "getty@tty1.service"},
    {"0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope"},
    {"0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service\n",
     "user@1000/web.service"},
    {"0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", "user@1000/init.scope"},
    {"0::/user.slice/user-1000.slice/user@1000.service\n", "user@1000"},
    {"12:pids:/x.service\n1:name=systemd:/system.slice/db.service\n0::/\n", "db.service"},
    {"0::/\n", ""},
    {"", ""},
    {"0::/.service\n", ""},
    {"garbage", ""},
    {"0::/system.slice/docker-0123.scope", "docker-0123.scope"},
};

START_TEST(unit_names)
{
    char out[128] = "x";
    mesh_unit_of(units[_i].cgroup, out, sizeof(out));
    ck_assert_str_eq(out, units[_i].unit);
}
END_TEST

START_TEST(unit_is_cut_not_overrun)
{
    char out[8];
    mesh_unit_of("0::/system.slice/averylongname.service\n", out, sizeof(out));
    ck_assert_str_eq(out, "averylo");
}
END_TEST

START_TEST(peer_is_ourselves)
{
    int fds[2];
    struct meshd_peer p;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    ck_assert_int_eq(meshd_attest_peer(fds[0], &p), MESH_OK);
    ck_assert_int_eq(p.pid, getpid());
    ck_assert_uint_eq(p.uid, getuid());
    ck_assert_uint_eq(p.starttime, meshd_proc_starttime(getpid()));
    ck_assert(strstr(p.exe, "test_attest") != NULL);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

/* The credentials of a pair are its maker's: a child makes it, passes one end up, and dies. */
START_TEST(dead_peer_is_denied)
{
    int up[2], pair[2], got = -1;
    char byte = 0;
    struct meshd_peer p = {.pid = 77};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, up), 0);
    pid_t pid = fork();
    if (pid == 0) {
        const struct iovec iov = {&byte, 1};
        bool ok = socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 &&
                  meshd_fdpass_send(up[1], &iov, 1, pair, 1) == 1;
        _exit(ok ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    ck_assert_int_eq(meshd_fdpass_recv(up[0], &byte, 1, &got), 1);
    ck_assert_int_ge(got, 0);
    ck_assert_int_eq(meshd_attest_peer(got, &p), MESH_E_DENIED);
    ck_assert_int_eq(p.pid, 77);
    close(got);
}
END_TEST

static void
configure(const char *text)
{
    const char *dir = unit_mkdir();
    char path[512];
    snprintf(path, sizeof(path), "%s/meshd.conf", dir);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
    ck_assert_int_eq(meshd_config_load(path, dir), MESH_OK);
    unit_rmdir(dir);
}

/* What each configuration makes of curl run by uid 1000 that wants to be called "orders". */
static const struct {
    const char *config, *service;
} wishes[] = {
    {"", "curl"},
    {"allow_requested_service = true;", "orders"},
    {"workloads = ( { service = \"shop\"; uid = 1000; } );", "shop"},
    {"workloads = ( { allow_requested = true; uid = 1000; } );", "orders"},
    {"workloads = ( { service = \"shop\"; uid = 1001; } );", "curl"},
    {"workloads = ( { service = \"shop\"; uid = 1001; }, { service = \"all\"; } );", "all"},
};

START_TEST(wishes_under_rules)
{
    struct meshd_peer p = {.pid = 1, .uid = 1000, .exe = "/usr/bin/curl"};
    struct meshd_identity id;
    configure(wishes[_i].config);
    ck_assert_int_eq(meshd_attest_identity(&p, "orders", &id), MESH_OK);
    ck_assert_str_eq(id.service, wishes[_i].service);
    ck_assert_int_eq(meshd_attest_identity(&p, "or/ders", &id), MESH_OK);
    ck_assert_str_ne(id.service, "or/ders");
}
END_TEST

START_TEST(wishes_need_permission)
{
    struct meshd_peer p = {.pid = 1, .exe = "/usr/bin/curl"};
    struct meshd_identity id;
    ck_assert_int_eq(meshd_config_load(NULL, "/tmp/x"), MESH_OK);
    ck_assert_int_eq(meshd_attest_identity(&p, "orders", &id), MESH_OK);
    ck_assert_str_eq(id.service, "curl");
    ck_assert_str_eq(id.id, "spiffe://mesh.local/ns/default/sa/curl");
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("attest");
    TCase *t = tcase_create("attest");
    tcase_add_loop_test(t, service_names, 0, (int)(sizeof(names) / sizeof(names[0])));
    tcase_add_test(t, valid_names);
    tcase_add_loop_test(t, unit_names, 0, (int)(sizeof(units) / sizeof(units[0])));
    tcase_add_test(t, unit_is_cut_not_overrun);
    tcase_add_test(t, peer_is_ourselves);
    tcase_add_test(t, dead_peer_is_denied);
    tcase_add_test(t, wishes_need_permission);
    tcase_add_loop_test(t, wishes_under_rules, 0, (int)(sizeof(wishes) / sizeof(wishes[0])));
    suite_add_tcase(s, t);
    return unit_run(s);
}
