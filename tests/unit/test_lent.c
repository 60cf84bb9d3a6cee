/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_lent: who gets the memory of a connection, what is taken for one, and the bound.
 */
#include "meshd/registry/lent.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "tests/unit/unit.h"

static const struct meshd_peer alice = {.pid = 10, .uid = 1000}, bob = {.pid = 11, .uid = 1001},
                               root = {.pid = 12, .uid = 0};
static int a, b; /* sockets, as a program shows them */

static void
setup(void)
{
    int p[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
    a = p[0];
    b = p[1];
    ck_assert(meshd_lent_cookie(a) != 0 && meshd_lent_cookie(a) != meshd_lent_cookie(b));
}

static void
teardown(void)
{
    meshd_lent_fini();
    close(a);
    close(b);
}

static int
region(void)
{
    int fd = memfd_create("region", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static bool
is_same(int one, int other)
{
    struct stat x, y;
    return fstat(one, &x) == 0 && fstat(other, &y) == 0 && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

/* Lends `fd`, which the caller keeps. */
static enum mesh_err
lend(const struct meshd_peer *peer, uint64_t cookie, int fd)
{
    int copy = dup(fd);
    ck_assert_int_ge(copy, 0);
    enum mesh_err e = meshd_lent_put(peer, cookie, &copy);
    if (copy >= 0) {
        close(copy);
    }
    return e;
}

/* Does peer, who shows sock, get memory? `known`: that there is some. */
static bool
gets(const struct meshd_peer *peer, int sock, bool *known)
{
    int fd = 99;
    *known = meshd_lent_get(peer, sock, &fd);
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

START_TEST(the_same_user_gets_it)
{
    struct meshd_peer other = alice;
    int fd = region(), given = fd, got = -1;
    ck_assert_int_eq(meshd_lent_put(&alice, meshd_lent_cookie(a), &given), MESH_OK);
    ck_assert_int_eq(given, -1); /* taken */
    other.pid = 4711;
    ck_assert(meshd_lent_get(&other, a, &got));
    ck_assert_int_ge(got, 0);
    ck_assert_int_ne(got, fd);
    ck_assert(is_same(got, fd));
    ck_assert(fcntl(got, F_GETFD) & FD_CLOEXEC);
    close(got);
}
END_TEST

START_TEST(nobody_else_gets_it)
{
    int fd = region();
    bool known;
    ck_assert_int_eq(lend(&alice, meshd_lent_cookie(a), fd), MESH_OK);
    ck_assert_int_eq(lend(&root, meshd_lent_cookie(b), region()), MESH_OK);
    ck_assert(!gets(&bob, a, &known) && known); /* a connection of the mesh, and not theirs */
    ck_assert(!gets(&alice, b, &known) && known);
    ck_assert(gets(&root, a, &known) && known); /* as Dovecot's imap takes over from imap-login */
    ck_assert(gets(&alice, a, &known) && known);
    close(fd);
}
END_TEST

START_TEST(another_socket_shows_nothing)
{
    int fd = region();
    bool known;
    ck_assert_int_eq(lend(&alice, meshd_lent_cookie(a), fd), MESH_OK);
    ck_assert(!gets(&alice, b, &known) && !known);
    ck_assert(!gets(&alice, fd, &known) && !known);
    ck_assert(!gets(&alice, -1, &known) && !known);
    close(fd);
}
END_TEST

START_TEST(only_a_memfd_is_taken)
{
    const char *dir = unit_mkdir();
    char path[512];
    int p[2], fd, file;
    snprintf(path, sizeof(path), "%s/file", dir);
    ck_assert_int_eq(pipe(p), 0);
    ck_assert_int_ge(file = open(path, O_RDWR | O_CREAT, 0600), 0);
    for (int i = 0; i < 4; i++) {
        int bad[] = {-1, p[0], a, file};
        fd = bad[i];
        ck_assert_int_eq(meshd_lent_put(&alice, meshd_lent_cookie(a), &fd), MESH_E_PROTOCOL);
        ck_assert_int_eq(fd, bad[i]); /* still the caller's */
    }
    ck_assert_int_eq(lend(&alice, 0, region()), MESH_E_PROTOCOL);
    bool known;
    ck_assert(!gets(&alice, a, &known) && !known);
    unit_rmdir(dir);
}
END_TEST

START_TEST(what_is_lent_stays_its_users)
{
    int fd = region(), other = region(), got = -1;
    bool known;
    ck_assert_int_eq(lend(&alice, meshd_lent_cookie(a), fd), MESH_OK);
    ck_assert_int_eq(lend(&bob, meshd_lent_cookie(a), other), MESH_E_DENIED);
    ck_assert_int_ne(lend(&bob, meshd_lent_cookie(b), fd), MESH_OK); /* it is alice's memory */
    ck_assert(!gets(&bob, b, &known) && !known);
    ck_assert_int_eq(lend(&alice, meshd_lent_cookie(a), other), MESH_OK); /* she may change her mind */
    ck_assert(meshd_lent_get(&alice, a, &got));
    ck_assert(is_same(got, other));
    close(got);
}
END_TEST

START_TEST(the_oldest_is_forgotten)
{
    const uint64_t others = UINT64_C(1) << 50;
    int fd = region(), before = dup(fd), after;
    bool known;
    ck_assert_int_eq(lend(&alice, meshd_lent_cookie(a), fd), MESH_OK);
    ck_assert_int_eq(lend(&alice, meshd_lent_cookie(b), fd), MESH_OK);
    for (unsigned i = 2; i < MESHD_LENT_MAX; i++) {
        ck_assert(lend(&alice, others + i, fd) == MESH_OK);
    }
    ck_assert(gets(&alice, a, &known));
    ck_assert_int_eq(lend(&alice, meshd_lent_cookie(b), fd), MESH_OK); /* the youngest again */
    ck_assert(gets(&alice, a, &known));
    ck_assert_int_eq(lend(&alice, others, fd), MESH_OK);
    ck_assert(!gets(&alice, a, &known) && !known);
    for (unsigned i = 2; i < MESHD_LENT_MAX; i++) {
        ck_assert(lend(&alice, others + MESHD_LENT_MAX + i, fd) == MESH_OK);
    }
    ck_assert(gets(&alice, b, &known));
    ck_assert_int_eq(lend(&alice, others + 1, fd), MESH_OK);
    ck_assert(!gets(&alice, b, &known) && !known);
    meshd_lent_fini();
    after = dup(fd);
    ck_assert_int_eq(after, before + 1); /* one memory, one descriptor, and that is closed */
    close(after);
    close(before);
    close(fd);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("lent");
    TCase *t = tcase_create("lent");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, the_same_user_gets_it);
    tcase_add_test(t, nobody_else_gets_it);
    tcase_add_test(t, another_socket_shows_nothing);
    tcase_add_test(t, only_a_memfd_is_taken);
    tcase_add_test(t, what_is_lent_stays_its_users);
    tcase_add_test(t, the_oldest_is_forgotten);
    suite_add_tcase(s, t);
    return unit_run(s);
}
