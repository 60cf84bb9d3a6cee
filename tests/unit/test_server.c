/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_server: a thousand clients, garbage, slow and silent ones, descriptors that come along. The
 * server runs in the test's own loop, clients in the same thread with sockets that do not block.
 */
#include "meshd/base/server.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "mesh/wire.h"
#include "meshd/base/fdpass.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "tests/unit/unit.h"

static const char *dir;
static char path[512];
static unsigned served, passed;
static bool holds;

/* Echoes the body's length; a handed descriptor is counted. */
static void
echo(struct meshd_request *req, struct meshd_reply *rep)
{
    served++;
    passed += req->fd >= 0;
    if (req->type == MESH_WIRE_UNLISTEN) {
        rep->err = MESH_E_DENIED;
        return;
    }
    rep->held = holds ? served : 0;
    rep->len = req->type == MESH_WIRE_HANDOFF ? MESH_WIRE_MAX : 16;
    rep->body = calloc(1, rep->len);
    if (req->type == MESH_WIRE_ATTACH) {
        rep->fd[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        rep->fd[1] = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    }
}

static void
setup(void)
{
    struct rlimit r;
    meshd_log_set(MESHD_LOG_ERROR);
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    dir = unit_mkdir();
    snprintf(path, sizeof(path), "%s/meshd.sock", dir);
    ck_assert_int_eq(meshd_loop_init(), MESH_OK);
    ck_assert_int_eq(meshd_server_init(path, echo), MESH_OK);
}

static void
teardown(void)
{
    meshd_server_fini();
    meshd_loop_fini();
    unit_rmdir(dir);
}

static int
dial(void)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    memcpy(sa.sun_path, path, strlen(path) + 1);
    while (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
        ck_assert_int_eq(errno, EAGAIN); /* the backlog */
        event_base_loop(meshd_loop(), EVLOOP_NONBLOCK);
    }
    return fd;
}

static void
run_for(int ms)
{
    uint64_t end = meshd_now_ns() + (uint64_t)ms * 1000000;
    do {
        event_base_loop(meshd_loop(), EVLOOP_NONBLOCK);
    } while (meshd_now_ns() < end);
}

static void
put(int fd, const void *p, size_t n)
{
    ck_assert_int_eq(send(fd, p, n, MSG_NOSIGNAL), (ssize_t)n);
}

static void
ask(int fd, uint16_t type, uint32_t len)
{
    struct mesh_wire_head h = {MESH_WIRE_MAGIC, MESH_WIRE_VERSION, type, len, 0};
    put(fd, &h, sizeof(h));
}

/* The next reply's error, or -1 at the end of the connection, -2 when nothing comes. */
static int
reply(int fd, uint32_t *len)
{
    struct mesh_wire_head h;
    for (int i = 0; i < 200; i++) {
        ssize_t r = recv(fd, &h, sizeof(h), MSG_DONTWAIT | MSG_PEEK);
        if (r == 0 || (r < 0 && errno == ECONNRESET)) {
            return -1;
        }
        if (r == (ssize_t)sizeof(h)) {
            r = recv(fd, &h, sizeof(h), MSG_DONTWAIT);
            *len = h.len;
            ck_assert_uint_eq(h.magic, MESH_WIRE_MAGIC);
            return (int)h.err;
        }
        run_for(5);
    }
    return -2;
}

static bool
is_closed(int fd)
{
    char c;
    ssize_t r = recv(fd, &c, 1, MSG_DONTWAIT);
    return r == 0 || (r < 0 && errno == ECONNRESET);
}

START_TEST(mode_and_replacement)
{
    struct stat st;
    int fd = -1;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0666);
    ck_assert_int_eq(meshd_server_listen(path, 0660, &fd), MESH_OK);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0660);
    close(fd);
    char big[200];
    memset(big, 'x', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    ck_assert_int_eq(meshd_server_listen(big, 0666, &fd), MESH_E_CONFIG);
}
END_TEST

/* An answer waits for its release, whatever happens meanwhile; the connection goes on afterwards. */
START_TEST(held)
{
    uint32_t len = 0;
    int a = dial(), b = dial(), c = dial();
    served = 0;
    holds = true;
    for (unsigned i = 0; i < 3; i++) {
        ask(i == 0 ? a : i == 1 ? b : c, MESH_WIRE_CERT, 0);
        while (served == i) {
            event_base_loop(meshd_loop(), EVLOOP_ONCE);
        }
    }
    run_for(20);
    ck_assert_int_eq(recv(a, &len, 1, MSG_DONTWAIT | MSG_PEEK), -1);
    close(c);
    meshd_server_release(2, MESH_E_NO_MEMORY);
    ck_assert_int_eq(reply(b, &len), MESH_E_NO_MEMORY);
    ck_assert_uint_eq(len, 0);
    meshd_server_release(1, MESH_OK);
    ck_assert_int_eq(reply(a, &len), MESH_OK);
    ck_assert_uint_eq(len, 16);
    meshd_server_release(3, MESH_OK);
    meshd_server_release(3, MESH_OK);
    meshd_server_release(99, MESH_OK);
    char body[16];
    ck_assert_int_eq(recv(a, body, sizeof(body), 0), 16);
    holds = false;
    ask(a, MESH_WIRE_CERT, 0);
    ck_assert_int_eq(reply(a, &len), MESH_OK);
    close(a);
    close(b);
}
END_TEST

START_TEST(several_requests)
{
    uint32_t len = 0;
    char body[16];
    int fd = dial();
    ask(fd, MESH_WIRE_CERT, 0);
    ask(fd, MESH_WIRE_CERT, 0); /* pipelined */
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(reply(fd, &len), MESH_OK);
        ck_assert_uint_eq(len, 16);
        ck_assert_int_eq(recv(fd, body, 16, 0), 16);
    }
    close(fd);
    UNIT_BECOMES(meshd_server_clients() == 0);
}
END_TEST

START_TEST(errors_keep_the_connection)
{
    uint32_t len = 1;
    struct mesh_wire_unlisten_req q = {0};
    int fd = dial();
    ask(fd, MESH_WIRE_UNLISTEN, sizeof(q));
    put(fd, &q, sizeof(q));
    ck_assert_int_eq(reply(fd, &len), MESH_E_DENIED);
    ck_assert_uint_eq(len, 0);
    ask(fd, MESH_WIRE_CERT, 0);
    ck_assert_int_eq(reply(fd, &len), MESH_OK);
    close(fd);
}
END_TEST

START_TEST(garbage_gets_an_answer_and_the_door)
{
    uint32_t len = 0;
    char junk[4096];
    int fd = dial();
    memset(junk, 'A', sizeof(junk));
    put(fd, junk, sizeof(junk));
    ck_assert_int_eq(reply(fd, &len), MESH_E_PROTOCOL);
    UNIT_BECOMES(is_closed(fd));
    close(fd);
    fd = dial();
    ask(fd, MESH_WIRE_HANDOFF, UINT32_MAX);
    ck_assert_int_eq(reply(fd, &len), MESH_E_PROTOCOL);
    close(fd);
    fd = dial();
    ask(fd, MESH_WIRE_CERT, 0);
    ck_assert_int_eq(reply(fd, &len), MESH_OK); /* it stays up */
    close(fd);
}
END_TEST

START_TEST(descriptors_both_ways)
{
    struct mesh_wire_head h = {MESH_WIRE_MAGIC, MESH_WIRE_VERSION, MESH_WIRE_CERT, 0, 0};
    const struct iovec iov = {&h, sizeof(h)};
    struct mesh_wire_attach_req q = {0};
    int fd = dial(), null[2] = {open("/dev/null", O_RDONLY), open("/dev/null", O_RDONLY)}, got = -1;
    uint32_t len = 0;
    char body[16];
    for (int i = 0; i < 500; i++) { /* none is kept */
        ck_assert_int_eq(meshd_fdpass_send(fd, &iov, 1, null, 2), sizeof(h));
        ck_assert_int_eq(reply(fd, &len), MESH_OK);
        ck_assert_int_eq(recv(fd, body, 16, 0), 16);
    }
    ck_assert_uint_eq(passed, 500);
    int probe = open("/dev/null", O_RDONLY);
    ck_assert_int_lt(probe, 64);
    ask(fd, MESH_WIRE_ATTACH, sizeof(q));
    put(fd, &q, sizeof(q));
    UNIT_BECOMES(recv(fd, body, 1, MSG_DONTWAIT | MSG_PEEK) == 1);
    ck_assert_int_eq(meshd_fdpass_recv(fd, &h, sizeof(h), &got), sizeof(h));
    ck_assert_int_ge(got, 0);
    close(fd);
}
END_TEST

/* One byte a time keeps nobody's place for longer than the request's time. */
START_TEST(slow_ones_go)
{
    struct mesh_wire_head h = {MESH_WIRE_MAGIC, MESH_WIRE_VERSION, MESH_WIRE_ATTACH,
                               sizeof(struct mesh_wire_attach_req), 0};
    int drip = dial(), silent = dial();
    uint64_t begin = meshd_now_ns();
    bool gone = false;
    put(drip, &h, sizeof(h));
    for (int i = 0; i < 70 && !gone; i++) { /* by then it is */
        run_for(100);
        gone = send(drip, "x", 1, MSG_NOSIGNAL) < 0;
    }
    uint64_t ms = (meshd_now_ns() - begin) / 1000000;
    ck_assert(gone);
    ck_assert_uint_ge(ms, 4500);
    UNIT_BECOMES(is_closed(silent));
    ck_assert_uint_eq(meshd_server_clients(), 0);
    close(drip);
    close(silent);
}
END_TEST

START_TEST(a_reader_that_does_not_read)
{
    struct mesh_wire_head h = {MESH_WIRE_MAGIC, MESH_WIRE_VERSION, MESH_WIRE_HANDOFF,
                               sizeof(struct mesh_wire_handoff_req), 0};
    struct mesh_wire_handoff_req q = {0};
    int fd = dial(), other = dial();
    uint32_t len = 0;
    for (int i = 0; i < 20; i++) { /* 96 KiB answers pile up */
        if (send(fd, &h, sizeof(h), MSG_NOSIGNAL) < 0 || send(fd, &q, sizeof(q), MSG_NOSIGNAL) < 0) {
            break;
        }
    }
    run_for(20);
    ask(other, MESH_WIRE_CERT, 0);
    ck_assert_int_eq(reply(other, &len), MESH_OK);
    UNIT_BECOMES(meshd_server_clients() == 0);
    close(fd);
    close(other);
}
END_TEST

START_TEST(a_thousand_clients)
{
    enum { N = 1000 };
    static int fd[N];
    uint32_t len = 0;
    for (int i = 0; i < N; i++) {
        fd[i] = dial();
        if (i % 3 == 0) {
            put(fd[i], "LBMH", 4); /* and no more */
        }
    }
    UNIT_BECOMES(meshd_server_clients() == N);
    for (int i = 1; i < N; i += 3) {
        ask(fd[i], MESH_WIRE_CERT, 0);
    }
    for (int i = 1; i < N; i += 3) {
        ck_assert_int_eq(reply(fd[i], &len), MESH_OK);
    }
    UNIT_BECOMES(meshd_server_clients() == 0);
    for (int i = 0; i < N; i++) {
        close(fd[i]);
    }
    int last = dial();
    ask(last, MESH_WIRE_CERT, 0);
    ck_assert_int_eq(reply(last, &len), MESH_OK);
    close(last);
}
END_TEST

START_TEST(more_than_there_is_room_for)
{
    enum { N = 5000 };
    static int fd[N];
    uint32_t len = 0;
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    if (r.rlim_cur < 2 * N + 100) {
        return;
    }
    for (int i = 0; i < N; i++) {
        fd[i] = dial();
        if (i % 100 == 0) {
            run_for(1);
        }
    }
    UNIT_BECOMES(is_closed(fd[0])); /* the longest waiting went */
    ck_assert_uint_le(meshd_server_clients(), 4096);
    ask(fd[N - 1], MESH_WIRE_CERT, 0);
    ck_assert_int_eq(reply(fd[N - 1], &len), MESH_OK);
    for (int i = 0; i < N; i++) {
        close(fd[i]);
    }
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("server");
    TCase *t = tcase_create("server");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, mode_and_replacement);
    tcase_add_test(t, held);
    tcase_add_test(t, several_requests);
    tcase_add_test(t, errors_keep_the_connection);
    tcase_add_test(t, garbage_gets_an_answer_and_the_door);
    tcase_add_test(t, descriptors_both_ways);
    tcase_add_test(t, slow_ones_go);
    tcase_add_test(t, a_reader_that_does_not_read);
    tcase_add_test(t, a_thousand_clients);
    tcase_add_test(t, more_than_there_is_room_for);
    suite_add_tcase(s, t);
    return unit_run(s);
}
