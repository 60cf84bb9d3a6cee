/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_answer: a service's endpoints after good, partly failed, failed and negative answers of DNS;
 * priorities and weights [RFC2782]; when it is asked again.
 */
#include "meshd/discovery/answer.h"

#include <arpa/inet.h>

#include "tests/unit/unit.h"

static struct meshd_answer a;
static struct meshd_target targets[MESHD_ANSWER_TARGETS + 1];
static struct meshd_reply reply;
static char shown[4096];

static void
setup(void)
{
    memset(&a, 0, sizeof(a));
}

static void
teardown(void)
{
    meshd_answer_fini(&a);
}

static void
begin(void)
{
    memset(targets, 0, sizeof(targets));
    reply = (struct meshd_reply){.heard = MESHD_HEARD_SOME, .targets = targets};
}

static void
put(struct meshd_addresses *to, const char *list)
{
    char copy[512], *save = NULL;
    snprintf(copy, sizeof(copy), "%s", list);
    to->heard = strcmp(list, "fail") == 0 ? MESHD_HEARD_FAILED : *list ? MESHD_HEARD_SOME : MESHD_HEARD_NONE;
    for (char *s = strtok_r(copy, " ", &save); s && to->heard == MESHD_HEARD_SOME; s = strtok_r(NULL, " ", &save)) {
        uint8_t *ip = to->ip[to->count++];
        ip[10] = ip[11] = 0xff;
        if (strchr(s, ':')) {
            ck_assert_int_eq(inet_pton(AF_INET6, s, ip), 1);
        } else {
            ck_assert_int_eq(inet_pton(AF_INET, s, ip + 12), 1);
        }
    }
}

/* v4, v6: addresses, "" for none, "fail" */
static struct meshd_target *
target(const char *host, uint16_t priority, uint16_t weight, const char *v4, const char *v6)
{
    struct meshd_target *t = &targets[reply.count++];
    snprintf(t->host, sizeof(t->host), "%s", host);
    t->port = 80;
    t->priority = priority;
    t->weight = weight;
    put(&t->v4, v4);
    put(&t->v6, v6);
    return t;
}

/* "ADDR:PORT/PRIORITY*WEIGHT ..." */
static const char *
show(void)
{
    size_t n = 0;
    shown[0] = '\0';
    for (size_t i = 0; i < a.count; i++) {
        char text[MESH_ADDR_TEXT];
        n += (size_t)snprintf(shown + n, sizeof(shown) - n, "%s%s/%u*%u", i ? " " : "",
                              mesh_addr_text(&a.at[i].addr, text), a.at[i].priority, a.at[i].weight);
    }
    return shown;
}

static void
take(enum meshd_verdict want, const char *endpoints)
{
    ck_assert_int_eq(meshd_answer_take(&a, &reply), want);
    ck_assert_str_eq(show(), endpoints);
}

static void
answers(const char *v4, const char *v6, enum meshd_verdict want, const char *endpoints)
{
    begin();
    target("db", 0, 0, v4, v6);
    take(want, endpoints);
}

START_TEST(follows)
{
    answers("10.0.0.2 10.0.0.1", "fd00::1", MESHD_VERDICT_TAKEN, "10.0.0.1:80/0*1 10.0.0.2:80/0*1 [fd00::1]:80/0*1");
    answers("10.0.0.3", "", MESHD_VERDICT_TAKEN, "10.0.0.3:80/0*1"); /* what is not there any more is gone at once */
    answers("10.0.0.3 10.0.0.3", "", MESHD_VERDICT_TAKEN, "10.0.0.3:80/0*1");
    answers("0.0.0.0 224.0.0.1 10.0.0.4 0.1.2.3", "fe80::1 :: ff02::1 fd00::4", MESHD_VERDICT_TAKEN,
            "10.0.0.4:80/0*1 [fd00::4]:80/0*1");
}
END_TEST

START_TEST(failure_keeps)
{
    answers("fail", "fail", MESHD_VERDICT_FAILED, "");
    answers("10.0.0.1", "fd00::1", MESHD_VERDICT_TAKEN, "10.0.0.1:80/0*1 [fd00::1]:80/0*1");
    for (int i = 0; i < 5; i++) {
        answers("fail", "fail", MESHD_VERDICT_FAILED, "10.0.0.1:80/0*1 [fd00::1]:80/0*1");
    }
    answers("10.0.0.2", "fail", MESHD_VERDICT_PARTLY, "10.0.0.2:80/0*1 [fd00::1]:80/0*1");
    answers("fail", "", MESHD_VERDICT_PARTLY, "10.0.0.2:80/0*1");
    answers("", "fail", MESHD_VERDICT_FAILED, "10.0.0.2:80/0*1"); /* nothing is left, and not all is known */
    begin();
    reply.heard = MESHD_HEARD_FAILED; /* of the SRV records themselves */
    take(MESHD_VERDICT_FAILED, "10.0.0.2:80/0*1");
}
END_TEST

START_TEST(negative_counts_twice)
{
    answers("", "", MESHD_VERDICT_TAKEN, ""); /* nothing to lose */
    answers("10.0.0.1", "", MESHD_VERDICT_TAKEN, "10.0.0.1:80/0*1");
    answers("", "", MESHD_VERDICT_DOUBTED, "10.0.0.1:80/0*1");
    answers("10.0.0.1", "", MESHD_VERDICT_TAKEN, "10.0.0.1:80/0*1");
    answers("", "", MESHD_VERDICT_DOUBTED, "10.0.0.1:80/0*1");
    answers("fail", "fail", MESHD_VERDICT_FAILED, "10.0.0.1:80/0*1"); /* neither confirms nor denies */
    answers("", "", MESHD_VERDICT_TAKEN, "");
    answers("10.0.0.1", "", MESHD_VERDICT_TAKEN, "10.0.0.1:80/0*1");
    begin();
    reply.heard = MESHD_HEARD_NONE;
    take(MESHD_VERDICT_DOUBTED, "10.0.0.1:80/0*1");
    take(MESHD_VERDICT_TAKEN, "");
}
END_TEST

START_TEST(targets_fail_alone)
{
    begin();
    target("one", 0, 1, "10.0.0.1", "");
    target("two", 0, 1, "10.0.0.2", "");
    take(MESHD_VERDICT_TAKEN, "10.0.0.1:80/0*1 10.0.0.2:80/0*1");
    begin(); /* the record's weight is known, its target's addresses are not */
    target("one", 0, 1, "10.0.0.11", "");
    target("two", 0, 3, "fail", "fail");
    take(MESHD_VERDICT_PARTLY, "10.0.0.2:80/0*3 10.0.0.11:80/0*1");
    begin(); /* no record any more: no endpoint, whatever its name says */
    target("one", 0, 1, "10.0.0.11", "");
    take(MESHD_VERDICT_TAKEN, "10.0.0.11:80/0*1");
    begin(); /* a new one that fails has no last addresses, and not another's */
    target("one", 0, 1, "10.0.0.11", "");
    target("three", 0, 1, "fail", "");
    take(MESHD_VERDICT_PARTLY, "10.0.0.11:80/0*1");
}
END_TEST

/* [RFC2782] the lowest-numbered priority first; proportional weights; 0 a very small chance */
/* What a former meshd was told has no hosts. */
START_TEST(recalled_stays)
{
    answers("10.0.0.1", "fd00::1", MESHD_VERDICT_TAKEN, "10.0.0.1:80/0*1 [fd00::1]:80/0*1");
    for (size_t i = 0; i < a.count; i++) {
        memset(a.at[i].host, 0, sizeof(a.at[i].host));
    }
    answers("10.0.0.2", "fail", MESHD_VERDICT_PARTLY, "10.0.0.2:80/0*1 [fd00::1]:80/0*1");
    answers("10.0.0.2", "", MESHD_VERDICT_TAKEN, "10.0.0.2:80/0*1");
}
END_TEST

START_TEST(priority_and_weight)
{
    begin();
    target("a", 30, 5, "10.0.0.1", "");
    target("b", 10, 20, "10.0.0.2", "");
    target("c", 10, 10, "10.0.0.3", "");
    target("d", 65535, 7, "10.0.0.4", "");
    take(MESHD_VERDICT_TAKEN, "10.0.0.1:80/1*5 10.0.0.2:80/0*20 10.0.0.3:80/0*10 10.0.0.4:80/2*7");
    begin(); /* all of a priority 0: the same chance; others are not concerned */
    target("a", 1, 0, "10.0.0.1", "");
    target("b", 1, 0, "10.0.0.2", "");
    target("c", 2, 10, "10.0.0.3", "");
    take(MESHD_VERDICT_TAKEN, "10.0.0.1:80/0*1 10.0.0.2:80/0*1 10.0.0.3:80/1*10");
    begin();
    target("a", 1, 0, "10.0.0.1", "");
    target("b", 1, 2, "10.0.0.2", "");
    take(MESHD_VERDICT_TAKEN, "10.0.0.1:80/0*1 10.0.0.2:80/0*120");
    begin();
    target("a", 1, 0, "10.0.0.1", "");
    target("b", 1, 65535, "10.0.0.2", "");
    take(MESHD_VERDICT_TAKEN, "10.0.0.1:80/0*1 10.0.0.2:80/0*65535");
    begin(); /* a target's weight is its own, however many addresses it has */
    target("a", 1, 1, "10.0.0.1 10.0.0.2 10.0.0.3", "");
    target("b", 1, 1, "10.0.0.4", "");
    take(MESHD_VERDICT_TAKEN, "10.0.0.1:80/0*20 10.0.0.2:80/0*20 10.0.0.3:80/0*20 10.0.0.4:80/0*60");
    begin();
    target("a", 1, 3, "10.0.0.1", "fd00::1");
    target("b", 1, 1, "10.0.0.4", "fd00::4");
    take(MESHD_VERDICT_TAKEN, "10.0.0.1:80/0*3 10.0.0.4:80/0*1 [fd00::1]:80/0*3 [fd00::4]:80/0*1");
    begin(); /* twice the same address: the first priority's */
    target("a", 2, 3, "10.0.0.1", "");
    target("b", 1, 1, "10.0.0.1", "");
    take(MESHD_VERDICT_TAKEN, "10.0.0.1:80/0*1");
}
END_TEST

START_TEST(too_many)
{
    char list[512] = "";
    size_t n = 0;
    for (unsigned i = 0; i < MESHD_ANSWER_ADDRESSES; i++) {
        n += (size_t)snprintf(list + n, sizeof(list) - n, "10.0.0.%u ", i + 1);
    }
    begin();
    for (unsigned i = 0; i < MESHD_ANSWER_TARGETS; i++) {
        target("x", (uint16_t)(i * 256), 65535, list, "")->port = (uint16_t)(i + 1);
    }
    ck_assert_int_eq(meshd_answer_take(&a, &reply), MESHD_VERDICT_TAKEN);
    ck_assert_uint_eq(a.count, MESHD_ANSWER_ENDPOINTS);
    for (size_t i = 0; i < a.count; i++) {
        ck_assert_uint_gt(a.at[i].weight, 0);
        ck_assert_uint_le(a.at[i].weight, 65535);
    }
    target("y", 0, 0, "10.1.0.1", "");
    ck_assert_int_eq(meshd_answer_take(&a, &reply), MESHD_VERDICT_FAILED);
    ck_assert_uint_eq(a.count, MESHD_ANSWER_ENDPOINTS);
}
END_TEST

static uint32_t
waits(enum meshd_verdict v, bool seen, uint32_t ttl_s)
{
    const struct meshd_reply r = {.seen_ttl = seen, .ttl_s = ttl_s};
    return meshd_answer_wait_ms(v, &r, 5000);
}

START_TEST(ttl)
{
    ck_assert_uint_eq(waits(MESHD_VERDICT_TAKEN, true, 30), 30000);
    ck_assert_uint_eq(waits(MESHD_VERDICT_TAKEN, true, 5), 5000);
    ck_assert_uint_eq(waits(MESHD_VERDICT_TAKEN, true, 4), 5000);
    ck_assert_uint_eq(waits(MESHD_VERDICT_TAKEN, true, 0), 5000);
    ck_assert_uint_eq(waits(MESHD_VERDICT_TAKEN, true, 3600), 3600000);
    ck_assert_uint_eq(waits(MESHD_VERDICT_TAKEN, true, 3601), 3600000);
    ck_assert_uint_eq(waits(MESHD_VERDICT_TAKEN, true, UINT32_MAX), 3600000);
    ck_assert_uint_eq(waits(MESHD_VERDICT_TAKEN, false, 30), 5000); /* no record: no TTL */
    ck_assert_uint_eq(waits(MESHD_VERDICT_PARTLY, true, 30), 5000);
    ck_assert_uint_eq(waits(MESHD_VERDICT_DOUBTED, true, 30), 5000);
    ck_assert_uint_eq(waits(MESHD_VERDICT_FAILED, true, 30), 5000);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("answer");
    TCase *t = tcase_create("answer");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, follows);
    tcase_add_test(t, failure_keeps);
    tcase_add_test(t, negative_counts_twice);
    tcase_add_test(t, targets_fail_alone);
    tcase_add_test(t, recalled_stays);
    tcase_add_test(t, priority_and_weight);
    tcase_add_test(t, too_many);
    tcase_add_test(t, ttl);
    suite_add_tcase(s, t);
    return unit_run(s);
}
