/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_frame: every truncation, every split, wrong heads, lengths at and beyond the limits.
 */
#include "meshd/base/frame.h"

#include "tests/unit/unit.h"

static struct mesh_wire_head
head(uint16_t type, uint32_t len)
{
    return (struct mesh_wire_head){MESH_WIRE_MAGIC, MESH_WIRE_VERSION, type, len, 0};
}

/* Feeds n bytes in pieces of at most `step`. */
static enum mesh_err
feed(struct meshd_frame *f, const uint8_t *p, size_t n, size_t step)
{
    for (size_t at = 0; at < n;) {
        size_t want = 0;
        void *room = meshd_frame_room(f, &want);
        if (!room) {
            return MESH_OK; /* it takes no more: complete */
        }
        size_t k = n - at < step ? n - at : step;
        k = k < want ? k : want;
        memcpy(room, p + at, k);
        enum mesh_err e = meshd_frame_fed(f, k);
        if (e != MESH_OK) {
            return e;
        }
        at += k;
    }
    return MESH_OK;
}

static enum mesh_err
feed_head(struct mesh_wire_head h)
{
    struct meshd_frame f = {0};
    enum mesh_err e = feed(&f, (const uint8_t *)&h, sizeof(h), sizeof(h));
    meshd_frame_fini(&f);
    return e;
}

START_TEST(every_truncation_waits)
{
    struct {
        struct mesh_wire_head h;
        struct mesh_wire_listen_req b;
    } m = {head(MESH_WIRE_LISTEN, sizeof(struct mesh_wire_listen_req)), {.cookie = 7}};
    for (size_t n = 0; n < sizeof(m); n++) {
        struct meshd_frame f = {0};
        ck_assert_int_eq(feed(&f, (uint8_t *)&m, n, n ? n : 1), MESH_OK);
        ck_assert(!meshd_frame_is_done(&f));
        meshd_frame_fini(&f);
    }
}
END_TEST

START_TEST(every_split_gives_the_same)
{
    struct {
        struct mesh_wire_head h;
        struct mesh_wire_unlisten_req b;
    } m = {head(MESH_WIRE_UNLISTEN, sizeof(m.b)), {1, 2}};
    for (size_t step = 1; step <= sizeof(m); step++) {
        struct meshd_frame f = {0};
        ck_assert_int_eq(feed(&f, (uint8_t *)&m, sizeof(m), step), MESH_OK);
        ck_assert(meshd_frame_is_done(&f));
        ck_assert_int_eq(memcmp(f.body, &m.b, sizeof(m.b)), 0);
        meshd_frame_fini(&f);
    }
}
END_TEST

START_TEST(never_takes_the_next_request)
{
    uint8_t two[2 * sizeof(struct mesh_wire_head)];
    struct mesh_wire_head h = head(MESH_WIRE_CERT, 0);
    struct meshd_frame f = {0};
    size_t want = 1;
    memcpy(two, &h, sizeof(h));
    memcpy(two + sizeof(h), &h, sizeof(h));
    ck_assert_int_eq(feed(&f, two, sizeof(two), sizeof(two)), MESH_OK);
    ck_assert(meshd_frame_is_done(&f));
    ck_assert_ptr_null(meshd_frame_room(&f, &want));
    ck_assert_uint_eq(want, 0);
    meshd_frame_fini(&f);
}
END_TEST

START_TEST(wrong_heads)
{
    struct mesh_wire_head h = head(MESH_WIRE_CERT, 0);
    ck_assert_int_eq(feed_head(h), MESH_OK);
    h.magic ^= 1;
    ck_assert_int_eq(feed_head(h), MESH_E_PROTOCOL);
    h = head(MESH_WIRE_CERT, 0);
    h.version = 2;
    ck_assert_int_eq(feed_head(h), MESH_E_VERSION);
    h = head(MESH_WIRE_CERT, 0);
    h.err = 1;
    ck_assert_int_eq(feed_head(h), MESH_E_PROTOCOL);
    for (unsigned type = 0; type < 65536; type++) {
        bool known = type >= MESH_WIRE_ATTACH && type <= MESH_WIRE_LIVE;
        if (!known) {
            ck_assert_int_eq(feed_head(head((uint16_t)type, 0)), MESH_E_PROTOCOL);
        }
    }
}
END_TEST

START_TEST(lengths)
{
    uint32_t handoff = sizeof(struct mesh_wire_handoff_req);
    ck_assert_int_eq(feed_head(head(MESH_WIRE_ATTACH, sizeof(struct mesh_wire_attach_req))),
                     MESH_OK);
    ck_assert_int_eq(feed_head(head(MESH_WIRE_ATTACH, sizeof(struct mesh_wire_attach_req) - 1)),
                     MESH_E_PROTOCOL);
    ck_assert_int_eq(feed_head(head(MESH_WIRE_ATTACH, sizeof(struct mesh_wire_attach_req) + 1)),
                     MESH_E_PROTOCOL);
    ck_assert_int_eq(feed_head(head(MESH_WIRE_CERT, MESH_SERVICE_MAX + 1)), MESH_E_PROTOCOL);
    ck_assert_int_eq(feed_head(head(MESH_WIRE_HANDOFF, handoff + (64u << 10))), MESH_OK);
    ck_assert_int_eq(feed_head(head(MESH_WIRE_HANDOFF, handoff + (64u << 10) + 1)),
                     MESH_E_PROTOCOL);
    ck_assert_int_eq(feed_head(head(MESH_WIRE_HANDOFF, UINT32_MAX)), MESH_E_PROTOCOL);
}
END_TEST

START_TEST(grows_with_what_arrives)
{
    size_t n = sizeof(struct mesh_wire_handoff_req) + (64u << 10), total = n + 16;
    struct mesh_wire_head h = head(MESH_WIRE_HANDOFF, (uint32_t)n);
    struct meshd_frame f = {0};
    uint8_t *m = malloc(total);
    ck_assert_ptr_nonnull(m);
    for (size_t i = 0; i < total; i++) {
        m[i] = (uint8_t)(i * 31);
    }
    memcpy(m, &h, sizeof(h));
    ck_assert_int_eq(feed(&f, m, 100, 100), MESH_OK);
    ck_assert_uint_le(f.body_cap, 4096);
    ck_assert_int_eq(feed(&f, m + 100, total - 100, 1000), MESH_OK);
    ck_assert(meshd_frame_is_done(&f));
    ck_assert_int_eq(memcmp(f.body, m + sizeof(h), n), 0);
    meshd_frame_fini(&f);
    free(m);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("frame");
    TCase *t = tcase_create("frame");
    tcase_add_test(t, every_truncation_waits);
    tcase_add_test(t, every_split_gives_the_same);
    tcase_add_test(t, never_takes_the_next_request);
    tcase_add_test(t, wrong_heads);
    tcase_add_test(t, lengths);
    tcase_add_test(t, grows_with_what_arrives);
    suite_add_tcase(s, t);
    return unit_run(s);
}
