/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_network_check and meshd_program_check against real sockets and programs: what is a failure and
 * what is said of it, the time, what a program finds, and that nothing of it stays.
 */
#include "meshd/health/check.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/ident/ca.h"
#include "meshd/ident/probe.h"
#include "tests/unit/unit.h"

#define SERVER "spiffe://mesh.local/ns/default/sa/server"

static const char *dir;
static unsigned rooms;

static void
on_room(void)
{
    rooms++;
}

static void
setup(void)
{
    char state[300];
    dir = unit_mkdir();
    snprintf(state, sizeof(state), "%s/state", dir);
    ck_assert_int_eq(meshd_config_load(NULL, dir), MESH_OK);
    meshd_log_set(MESHD_LOG_ERROR);
    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(meshd_loop_init(), MESH_OK);
    ck_assert_int_eq(meshd_ca_init(state, "mesh.local"), MESH_OK);
    ck_assert_int_eq(meshd_program_init(on_room), MESH_OK);
}

static void
teardown(void)
{
    meshd_program_fini();
    meshd_probe_fini();
    meshd_ca_fini();
    meshd_loop_fini();
    unit_rmdir(dir);
}

static int
listener(uint16_t *port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    ck_assert_int_eq(listen(fd, 16), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    *port = ntohs(sa.sin_port);
    return fd;
}

static struct mesh_addr
loopback(uint16_t port)
{
    return (struct mesh_addr){.ip = {[10] = 0xff, [11] = 0xff, 127, 0, 0, 1}, .port = port};
}

struct ending {
    struct meshd_outcome o;
    unsigned calls;
};

static void
on_end(const struct meshd_outcome *o, void *arg)
{
    struct ending *e = arg;
    e->o = *o;
    e->calls++;
}

static struct meshd_health_rule
rule_of(enum meshd_health_type type)
{
    return (struct meshd_health_rule){.type = (uint8_t)type, .timeout_ms = 30000, .path = "/healthz"};
}

static struct meshd_outcome
check(const struct meshd_health_rule *rule, const char *id, uint16_t port)
{
    const struct meshd_check_job job = {.rule = rule, .service = "web", .id = id, .to = loopback(port)};
    struct ending e = {.calls = 0};
    ck_assert_ptr_nonnull(meshd_network_start(&job, on_end, &e));
    ck_assert_uint_eq(e.calls, 0);
    while (e.calls == 0) {
        event_base_loop(meshd_loop(), EVLOOP_ONCE);
    }
    ck_assert_uint_eq(e.calls, 1);
    return e.o;
}

static void
is_bad(struct meshd_outcome o, const char *why)
{
    ck_assert_int_eq(o.verdict, MESHD_CHECK_NETWORK);
    ck_assert_msg(strncmp(o.why, why, strlen(why)) == 0, "%s, not %s", o.why, why);
}

START_TEST(tcp)
{
    const struct meshd_health_rule rule = rule_of(MESHD_HEALTH_TCP);
    uint16_t port = 0;
    int fd = listener(&port);
    ck_assert_int_eq(check(&rule, NULL, port).verdict, MESHD_CHECK_GOOD);
    close(fd);
    is_bad(check(&rule, NULL, port), "connect: Connection refused");
}
END_TEST

/* ---- a plain server: says `answer` to whoever asks, and closes; nothing when it is NULL ---- */

static const char *answer;
static char asked[1024];

static void
plain_asked(struct bufferevent *bev, void *arg)
{
    struct evbuffer *in = bufferevent_get_input(bev);
    (void)arg;
    asked[evbuffer_copyout(in, asked, sizeof(asked) - 1)] = '\0';
    if (strstr(asked, "\r\n\r\n") && answer) {
        bufferevent_write(bev, answer, strlen(answer));
    }
}

static void
plain_written(struct bufferevent *bev, void *arg)
{
    (void)arg;
    if (asked[0]) {
        bufferevent_free(bev);
    }
}

static void
plain_ended(struct bufferevent *bev, short what, void *arg)
{
    (void)what;
    (void)arg;
    bufferevent_free(bev);
}

static void
plain_accepted(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa, int len, void *arg)
{
    struct bufferevent *bev = bufferevent_socket_new(meshd_loop(), fd, BEV_OPT_CLOSE_ON_FREE);
    (void)l;
    (void)sa;
    (void)len;
    (void)arg;
    asked[0] = '\0';
    bufferevent_setcb(bev, plain_asked, plain_written, plain_ended, NULL);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
}

static struct evconnlistener *
plain_server(uint16_t *port)
{
    return evconnlistener_new(meshd_loop(), plain_accepted, NULL, LEV_OPT_CLOSE_ON_FREE, 0, listener(port));
}

START_TEST(http)
{
    struct meshd_health_rule rule = rule_of(MESHD_HEALTH_HTTP);
    uint16_t port = 0;
    struct evconnlistener *l = plain_server(&port);
    answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    ck_assert_int_eq(check(&rule, NULL, port).verdict, MESHD_CHECK_GOOD);
    ck_assert_ptr_nonnull(strstr(asked, "GET /healthz HTTP/1.1\r\nHost: web\r\n"));
    answer = "HTTP/1.0 503 later\r\n\r\n";
    ck_assert_int_eq(check(&rule, NULL, port).verdict, MESHD_CHECK_AT_ONCE);
    answer = "-ERR unknown command\r\n";
    is_bad(check(&rule, NULL, port), "the answer is no HTTP");
    answer = "HTTP/1.1";
    is_bad(check(&rule, NULL, port), "closed without an answer");
    answer = NULL;
    rule.timeout_ms = 50;
    is_bad(check(&rule, NULL, port), "no answer in time");
    evconnlistener_free(l);
    is_bad(check(&rule, NULL, port), "connect: Connection refused");
}
END_TEST

/* ---- a server of the mesh: a child that answers each one with 204 ---- */

static SSL_CTX *
server_ctx(void)
{
    struct meshd_svid s;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    ck_assert_int_eq(meshd_ca_issue("server", SERVER, 60, 1, &s), MESH_OK);
    const unsigned char *p = s.chain;
    X509 *leaf = d2i_X509(NULL, &p, (long)s.chain_len);
    X509 *mid = d2i_X509(NULL, &p, s.chain + s.chain_len - p);
    p = s.key;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &p, (long)s.key_len);
    p = s.bundle;
    X509 *root = d2i_X509(NULL, &p, (long)s.bundle_len);
    ck_assert(SSL_CTX_use_certificate(ctx, leaf) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1 &&
              SSL_CTX_add0_chain_cert(ctx, mid) == 1 &&
              X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), root) == 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    X509_free(leaf);
    X509_free(root);
    EVP_PKEY_free(key);
    meshd_svid_fini(&s);
    return ctx;
}

static void
serve(int fd)
{
    static const char text[] = "HTTP/1.1 204 No Content\r\n\r\n";
    SSL_CTX *ctx = server_ctx();
    char buf[4096];
    (void)fcntl(fd, F_SETFL, 0);
    for (int c; (c = accept(fd, NULL, NULL)) >= 0; close(c)) {
        SSL *ssl = SSL_new(ctx);
        SSL_set_fd(ssl, c);
        if (SSL_accept(ssl) == 1 && SSL_read(ssl, buf, sizeof(buf)) > 0) {
            SSL_write(ssl, text, sizeof(text) - 1);
            SSL_shutdown(ssl);
        }
        SSL_free(ssl);
    }
    _exit(0);
}

static pid_t
tls_server(uint16_t *port)
{
    int fd = listener(port);
    pid_t pid = fork();
    if (pid == 0) {
        serve(fd);
    }
    close(fd);
    return pid;
}

START_TEST(tls)
{
    struct meshd_health_rule rule = rule_of(MESHD_HEALTH_TLS), get = rule_of(MESHD_HEALTH_HTTP);
    struct meshd_status_rule status = {.range = {204, 204}};
    const char *other = "spiffe://mesh.local/ns/default/sa/other";
    uint16_t port = 0, plain = 0, silent = 0;
    pid_t pid = tls_server(&port);
    ck_assert_int_eq(check(&rule, SERVER, port).verdict, MESHD_CHECK_GOOD);
    is_bad(check(&rule, other, port), "TLS: the peer shows another identity");
    get.expected = &status;
    get.expected_count = 1;
    ck_assert_int_eq(check(&get, SERVER, port).verdict, MESHD_CHECK_GOOD);
    is_bad(check(&get, other, port), "TLS: the peer shows another identity");
    ck_assert_int_eq(check(&rule, SERVER, port).verdict, MESHD_CHECK_GOOD);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    is_bad(check(&rule, SERVER, port), "connect: Connection refused");
    struct evconnlistener *l = plain_server(&plain);
    answer = NULL;
    rule.timeout_ms = 50;
    is_bad(check(&rule, SERVER, plain), "TLS timed out");
    evconnlistener_free(l);
    int fd = listener(&silent); /* connected by the kernel, and never accepted: a program that is stopped */
    is_bad(check(&rule, SERVER, silent), "TLS timed out");
    close(fd);
}
END_TEST

/* Of a meshed server plaintext gets no answer, and of another authority no certificate is believed. */
START_TEST(tls_not_of_this_mesh)
{
    const struct meshd_health_rule rule = rule_of(MESHD_HEALTH_TLS), get = rule_of(MESHD_HEALTH_HTTP);
    char other[300];
    uint16_t port = 0;
    pid_t pid = tls_server(&port);
    ck_assert_int_ne(check(&get, NULL, port).verdict, MESHD_CHECK_GOOD);
    meshd_probe_fini();
    meshd_ca_fini();
    snprintf(other, sizeof(other), "%s/other", dir);
    ck_assert_int_eq(meshd_ca_init(other, "mesh.local"), MESH_OK);
    is_bad(check(&rule, SERVER, port), "TLS: ");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
END_TEST

START_TEST(cancelled_ones_are_not_told)
{
    const struct meshd_health_rule rule = rule_of(MESHD_HEALTH_TLS);
    uint16_t port = 0;
    int fd = listener(&port);
    const struct meshd_check_job job = {.rule = &rule, .service = "web", .id = SERVER, .to = loopback(port)};
    struct ending e = {.calls = 0};
    struct meshd_network_check *all[MESHD_CHECKS_MAX];
    for (unsigned i = 0; i < MESHD_CHECKS_MAX; i++) {
        ck_assert(meshd_network_has_room());
        all[i] = meshd_network_start(&job, on_end, &e);
        ck_assert_ptr_nonnull(all[i]);
        event_base_loop(meshd_loop(), EVLOOP_NONBLOCK);
    }
    ck_assert(!meshd_network_has_room());
    for (unsigned i = 0; i < MESHD_CHECKS_MAX; i++) {
        meshd_network_cancel(all[i]);
    }
    ck_assert(meshd_network_has_room());
    event_base_loop(meshd_loop(), EVLOOP_NONBLOCK);
    ck_assert_uint_eq(e.calls, 0);
    close(fd);
}
END_TEST

/* ---- programs ---- */

static struct meshd_argument_rule script[] = {{.text = "/bin/sh"}, {.text = "-c"}, {.text = ""}};

static struct meshd_health_rule
sh(const char *text, uint32_t timeout_ms)
{
    snprintf(script[2].text, sizeof(script[2].text), "%s", text);
    return (struct meshd_health_rule){.type = MESHD_HEALTH_COMMAND, .timeout_ms = timeout_ms,
                                      .command = script, .command_count = 3};
}

static struct meshd_program_check *
begin(const struct meshd_health_rule *rule, struct ending *e)
{
    const struct meshd_check_job job = {
        .rule = rule, .service = "orders",
        .to = {.ip = {0xfd, [15] = 7}, .port = 8080},
    };
    struct meshd_program_check *c = meshd_program_start(&job, on_end, e);
    ck_assert_ptr_nonnull(c);
    ck_assert_uint_eq(e->calls, 0);
    return c;
}

static struct meshd_outcome
run(const char *text, uint32_t timeout_ms)
{
    const struct meshd_health_rule rule = sh(text, timeout_ms);
    struct ending e = {.calls = 0};
    (void)begin(&rule, &e);
    while (e.calls == 0) {
        event_base_loop(meshd_loop(), EVLOOP_ONCE);
    }
    return e.o;
}

static bool
has_children(void)
{
    siginfo_t info;
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static void
wait_for_none(void)
{
    while (has_children()) {
        event_base_loop(meshd_loop(), EVLOOP_ONCE | EVLOOP_NONBLOCK);
    }
}

/* Signals are not ignored, nothing is open but /dev/null, variables of ours are the endpoint's. */
static const struct {
    const char *text, *why; /* "": good */
} programs[] = {
    {"exit 0", ""},
    {"exit 3", "the command's exit code is 3"},
    {"kill -KILL $$", "the command was ended by signal 9"},
    {"kill -PIPE $$; exit 0", "the command was ended by signal 13"},
    {"test \"$MESH_ENDPOINT_ADDR\" = fd00::7", ""},
    {"test \"$MESH_ENDPOINT_PORT $MESH_ENDPOINT_SERVICE\" = '8080 orders'", ""},
    {"test -z \"$MESH_ENDPOINT_OLD\" -a \"$KEPT\" = kept", ""},
    {"test $(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2 | sort -u) = /dev/null", ""},
    {"! test -e /proc/$$/fd/20", ""},
    {"test -n \"$(grep -x 'SigBlk:.0*' /proc/self/status)\"", ""},
};

START_TEST(program)
{
    int twenty = dup2(2, 20);
    setenv("MESH_ENDPOINT_ADDR", "forged", 1);
    setenv("MESH_ENDPOINT_OLD", "stays", 1);
    setenv("KEPT", "kept", 1);
    const struct meshd_outcome o = run(programs[_i].text, 30000);
    ck_assert_msg(strcmp(o.why, programs[_i].why) == 0, "%s: %s", programs[_i].text, o.why);
    ck_assert_int_eq(o.verdict, programs[_i].why[0] ? MESHD_CHECK_FAILED : MESHD_CHECK_GOOD);
    ck_assert(!has_children());
    ck_assert_uint_eq(rooms, 1);
    close(twenty);
}
END_TEST

/* What it has started is gone with it, whether it ends or is killed: the pipe has no writer left. */
START_TEST(nothing_stays)
{
    char path[300], text[700], buf[8];
    snprintf(path, sizeof(path), "%s/pipe", dir);
    for (int kind = 0; kind < 2; kind++) {
        ck_assert_int_eq(mkfifo(path, 0600), 0);
        int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        snprintf(text, sizeof(text), "sleep 1000 >%s & %s", path, kind ? "wait" : "exit 0");
        struct meshd_outcome o = run(text, kind ? 300 : 30000);
        ck_assert_int_eq(o.verdict, kind ? MESHD_CHECK_FAILED : MESHD_CHECK_GOOD);
        ck_assert_str_eq(o.why, kind ? "the command was killed: out of time" : "");
        wait_for_none();
        while (read(fd, buf, sizeof(buf)) != 0) {
            event_base_loop(meshd_loop(), EVLOOP_NONBLOCK);
        }
        close(fd);
        unlink(path);
    }
}
END_TEST

START_TEST(what_cannot_be_started)
{
    static struct meshd_argument_rule none[] = {{.text = "/nowhere/check"}};
    const struct meshd_health_rule rule = {.type = MESHD_HEALTH_COMMAND, .timeout_ms = 30000,
                                           .command = none, .command_count = 1};
    struct ending e = {.calls = 0};
    (void)begin(&rule, &e);
    while (e.calls == 0) {
        event_base_loop(meshd_loop(), EVLOOP_ONCE);
    }
    ck_assert_int_eq(e.o.verdict, MESHD_CHECK_FAILED);
    ck_assert_str_eq(e.o.why, "the command cannot be started: No such file or directory");
    meshd_program_cancel(begin(&rule, &(struct ending){.calls = 0}));
    ck_assert(meshd_program_has_room() && !has_children());
}
END_TEST

/* A place is free only when the process is gone, not when it is given up. */
START_TEST(programs_are_bounded)
{
    const struct meshd_health_rule rule = sh("sleep 1000", 30000);
    struct meshd_program_check *all[MESHD_PROGRAMS_MAX];
    struct ending e = {.calls = 0};
    for (unsigned i = 0; i < MESHD_PROGRAMS_MAX; i++) {
        ck_assert(meshd_program_has_room());
        all[i] = begin(&rule, &e);
    }
    ck_assert(!meshd_program_has_room());
    for (unsigned i = 0; i < MESHD_PROGRAMS_MAX; i++) {
        meshd_program_cancel(all[i]);
    }
    ck_assert(!meshd_program_has_room() && rooms == 0);
    wait_for_none();
    event_base_loop(meshd_loop(), EVLOOP_NONBLOCK);
    ck_assert(meshd_program_has_room() && rooms > 0);
    ck_assert_uint_eq(e.calls, 0);
    (void)begin(&rule, &e);
    meshd_program_fini();
    ck_assert(!has_children());
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("health_checks");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, tcp);
    tcase_add_test(t, http);
    tcase_add_test(t, tls);
    tcase_add_test(t, tls_not_of_this_mesh);
    tcase_add_test(t, cancelled_ones_are_not_told);
    tcase_add_loop_test(t, program, 0, sizeof(programs) / sizeof(programs[0]));
    tcase_add_test(t, nothing_stays);
    tcase_add_test(t, what_cannot_be_started);
    tcase_add_test(t, programs_are_bounded);
    suite_add_tcase(s, t);
    return unit_run(s);
}
