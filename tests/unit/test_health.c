/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_health_state and meshd_http: the thresholds, what the status of an answer means, and answers that
 * are none.
 */
#include "meshd/health/http.h"

#include <event2/buffer.h>

#include "tests/unit/unit.h"

/* Outcomes: g good, n network, f failed, x at once. After each the state: . unknown, h healthy, S unhealthy. */
static const struct {
    uint32_t bad, good; /* thresholds */
    const char *outcomes, *states;
} sequences[] = {
    {3, 1, "g", "h"},
    {3, 1, "nnn", "..S"},
    {3, 1, "nfn", "..S"},
    {3, 2, "g", "h"},              /* the first success after start suffices */
    {3, 5, "nng", "..h"},          /* also after failures that were too few */
    {3, 1, "nngnnn", "..hhhS"},    /* a success begins the count anew */
    {1, 1, "gngn", "hShS"},
    {3, 1, "gnnngnng", "hhhShhhh"},
    {3, 3, "gnnnggg", "hhhSSSh"},
    {2, 3, "gnnggnggg", "hhSSSSSSh"}, /* a failure begins the other count anew */
    {3, 1, "x", "S"},              /* an unexpected status, at once */
    {3, 1, "gx", "hS"},
    {3, 2, "gxgg", "hSSh"},
    {1000, 1, "nnnnx", "....S"},
    {2, 1, "nx", ".S"},
    {2, 1000, "nngggg", ".SSSSS"},
    {3, 1, "ggnngnng", "hhhhhhhh"},
};

static struct meshd_outcome
outcome(char c)
{
    struct meshd_outcome o = {.verdict = c == 'g'   ? MESHD_CHECK_GOOD
                                         : c == 'n' ? MESHD_CHECK_NETWORK
                                         : c == 'f' ? MESHD_CHECK_FAILED
                                                    : MESHD_CHECK_AT_ONCE};
    if (o.verdict != MESHD_CHECK_GOOD) {
        snprintf(o.why, sizeof(o.why), "because of %c", c);
    }
    return o;
}

START_TEST(thresholds)
{
    static const char *const letter[] = {[MESHD_HEALTH_UNKNOWN] = ".",
                                         [MESHD_HEALTH_HEALTHY] = "h",
                                         [MESHD_HEALTH_UNHEALTHY] = "S"};
    const struct meshd_health_rule rule = {.unhealthy_threshold = sequences[_i].bad,
                                           .healthy_threshold = sequences[_i].good};
    struct meshd_health_state s;
    uint64_t now = 100, since = now, goods = 0, bads = 0;
    meshd_health_state_init(&s, "", now);
    ck_assert_int_eq(s.info.is, MESHD_HEALTH_UNKNOWN);
    for (size_t i = 0; sequences[_i].outcomes[i]; i++) {
        const struct meshd_outcome o = outcome(sequences[_i].outcomes[i]);
        enum meshd_health was = s.info.is;
        bool changed = meshd_health_state_note(&s, &rule, &o, ++now);
        ck_assert_msg(letter[s.info.is][0] == sequences[_i].states[i], "%s, outcome %zu: %s",
                      sequences[_i].outcomes, i, letter[s.info.is]);
        ck_assert_int_eq(changed, was != s.info.is);
        since = changed ? now : since;
        goods += o.verdict == MESHD_CHECK_GOOD;
        bads += o.verdict != MESHD_CHECK_GOOD;
        ck_assert(s.info.since_ns == since && s.info.checked_ns == now);
        ck_assert(s.info.successes == goods && s.info.failures == bads);
        if (o.why[0]) {
            ck_assert_str_eq(s.info.reason, o.why);
        }
    }
}
END_TEST

static struct meshd_status_rule ranges[] = {{.range = {200, 204}}, {.range = {301, 301}}};
static struct meshd_status_rule later[] = {{.range = {502, 504}}, {.range = {204, 204}}};

static const struct {
    bool expected, retriable;
    int status;
    enum meshd_verdict verdict;
} statuses[] = {
    {false, false, 200, MESHD_CHECK_GOOD},    {false, false, 201, MESHD_CHECK_AT_ONCE},
    {false, false, 503, MESHD_CHECK_AT_ONCE}, {false, true, 503, MESHD_CHECK_FAILED},
    {false, true, 505, MESHD_CHECK_AT_ONCE},  {true, true, 200, MESHD_CHECK_GOOD},
    {true, false, 199, MESHD_CHECK_AT_ONCE},  {true, true, 204, MESHD_CHECK_GOOD}, /* expected goes first */
    {true, false, 205, MESHD_CHECK_AT_ONCE},  {true, false, 301, MESHD_CHECK_GOOD},
    {true, false, 302, MESHD_CHECK_AT_ONCE},  {true, true, 502, MESHD_CHECK_FAILED},
    {true, true, 501, MESHD_CHECK_AT_ONCE},   {false, false, -1, MESHD_CHECK_NETWORK},
    {true, true, -1, MESHD_CHECK_NETWORK},    {false, false, 101, MESHD_CHECK_AT_ONCE},
};

START_TEST(what_a_status_means)
{
    const struct meshd_health_rule rule = {
        .expected = ranges, .expected_count = statuses[_i].expected ? 2 : 0,
        .retriable = later, .retriable_count = statuses[_i].retriable ? 2 : 0,
    };
    struct meshd_outcome o;
    meshd_http_judge(&rule, statuses[_i].status, &o);
    ck_assert_int_eq(o.verdict, statuses[_i].verdict);
    ck_assert_int_eq(o.why[0] == '\0', o.verdict == MESHD_CHECK_GOOD);
}
END_TEST

static const struct {
    const char *text;
    int status;
} answers[] = {
    {"HTTP/1.1 200 OK\r\n", 200},
    {"HTTP/1.0 404 Not Found\r\nA: b\r\n\r\nbody", 404},
    {"HTTP/1.1 204\r\n", 204},
    {"HTTP/1.1 204 \r\n", 204},
    {"HTTP/1.1 200 OK\n", 200}, /* a lone LF [RFC9112 2.2] */
    {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n", 200},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 P\r\nA: HTTP/1.1 500 x\r\n\r\nHTTP/1.1 503 no\r\n", 503},
    {"HTTP/1.1 101 Switching Protocols\r\n", 101},
    {"HTTP/1.1 599 x\r\n", 599},
    {"HTTP/1.1 999 x\r\n", 999},
    {"", 0},
    {"HTTP/1.1 200 OK", 0},
    {"HTTP/1.1 100 Continue\r\nHTTP/1.1 200 OK\r\n", 0}, /* a header of the interim answer */
    {"\r\n", -1},
    {"HTTP/1.1 20 OK\r\n", -1},
    {"HTTP/1.1 2000 OK\r\n", -1},
    {"HTTP/1.1 099 OK\r\n", -1},
    {"HTTP/1.1  200 OK\r\n", -1},
    {"HTTP/1.1 200OK\r\n", -1},
    {"HTTP/1.1\r\n", -1},
    {"HTTP/1.\r\n", -1},
    {"HTTP/2 200\r\n", -1},
    {"http/1.1 200 OK\r\n", -1},
    {"SSH-2.0-OpenSSH\r\n", -1},
    {"+PONG\r\n", -1},
};

/* In one piece, and byte by byte: then nothing is known before the last one. */
START_TEST(what_an_answer_says)
{
    const char *text = answers[_i].text;
    struct evbuffer *in = evbuffer_new();
    bool interim = false;
    evbuffer_add(in, text, strlen(text));
    ck_assert_int_eq(meshd_http_status(in, &interim), answers[_i].status);
    evbuffer_free(in);
    in = evbuffer_new();
    interim = false;
    int got = 0;
    for (const char *p = text; *p && got == 0; p++) {
        evbuffer_add(in, p, 1);
        got = meshd_http_status(in, &interim);
    }
    ck_assert_int_eq(got, answers[_i].status);
    evbuffer_free(in);
}
END_TEST

START_TEST(hostile_answers)
{
    struct evbuffer *in = evbuffer_new();
    bool interim = false;
    int got = 0;
    size_t n = 0;
    for (; got == 0; n++) { /* a line without an end */
        evbuffer_add(in, "H", 1);
        got = meshd_http_status(in, &interim);
    }
    ck_assert(got == -1 && n == MESHD_HTTP_LINE_MAX + 1);
    evbuffer_free(in);
    in = evbuffer_new();
    interim = false;
    evbuffer_add(in, "HTTP/1.1 200\0 OK\r\n", 18);
    ck_assert_int_eq(meshd_http_status(in, &interim), -1);
    for (unsigned seed = 1; seed < 20000; seed++) { /* an answer, more, or no HTTP, and never a crash */
        unsigned x = seed * 2654435761u;
        char text[] = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n";
        text[x % sizeof(text)] = (char)(x >> 16);
        text[(x >> 8) % sizeof(text)] = (char)(x >> 24);
        evbuffer_drain(in, evbuffer_get_length(in));
        evbuffer_add(in, text, sizeof(text));
        interim = false;
        got = meshd_http_status(in, &interim);
        ck_assert(got >= -1 && got <= 999 && (got <= 0 || got == 101 || got >= 200));
    }
    evbuffer_free(in);
}
END_TEST

START_TEST(the_request)
{
    struct evbuffer *out = evbuffer_new();
    ck_assert(meshd_http_ask(out, "web", "/healthz?a=b"));
    evbuffer_add(out, "", 1);
    ck_assert_str_eq((char *)evbuffer_pullup(out, -1),
                     "GET /healthz?a=b HTTP/1.1\r\nHost: web\r\nUser-Agent: libmesh/HC\r\nAccept: */*\r\n"
                     "Connection: close\r\n\r\n");
    evbuffer_free(out);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("health");
    TCase *t = tcase_create("all");
    tcase_add_loop_test(t, thresholds, 0, sizeof(sequences) / sizeof(sequences[0]));
    tcase_add_loop_test(t, what_a_status_means, 0, sizeof(statuses) / sizeof(statuses[0]));
    tcase_add_loop_test(t, what_an_answer_says, 0, sizeof(answers) / sizeof(answers[0]));
    tcase_add_test(t, hostile_answers);
    tcase_add_test(t, the_request);
    suite_add_tcase(s, t);
    return unit_run(s);
}
