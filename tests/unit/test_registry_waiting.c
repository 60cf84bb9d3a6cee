/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_waiting: many listeners at once share a snapshot; when it cannot be written the newest go without.
 */
#include <signal.h>
#include <sys/resource.h>

#include "meshd/registry/waiting.h"
#include "tests/unit/registry_kit.h"

enum { MANY = 50 };

START_TEST(shared)
{
    struct meshd_peer me = peer_of(getpid());
    uint64_t g = meshd_snapfile_generation(), held[MANY];
    uint16_t port[MANY] = {0};
    int fd[MANY], diag = -1;
    for (int i = 0; i < MANY; i++) {
        fd[i] = listener("127.0.0.1", &port[i]);
        struct mesh_wire_listen_req q = request(fd[i], "127.0.0.1", port[i]);
        struct mesh_wire_listen_rep rep;
        ck_assert_int_eq(meshd_registry_listen_later(&me, &web, &q, &diag, &rep, &held[i]), MESH_OK);
        ck_assert_uint_ne(held[i], 0);
        ck_assert_uint_ne(rep.endpoint_id, 0);
        ck_assert(i == 0 || held[i] != held[i - 1]);
    }
    ck_assert_uint_eq(meshd_snapfile_generation(), g);
    ck_assert(becomes(port[0], true, 1000));
    ck_assert_uint_eq(meshd_snapfile_generation(), g + 1);
    for (int i = 0; i < MANY; i++) {
        struct mesh_snap_hit hit;
        ck_assert(look("127.0.0.1", port[i], &hit));
        close(fd[i]);
    }
}
END_TEST

static uint32_t undone[8];
static unsigned count, heals_at;
static struct rlimit whole;

static void
undo(uint32_t id, enum mesh_err e)
{
    ck_assert_int_eq(e, MESH_E_SYSTEM);
    undone[count++] = id;
    if (count == heals_at) {
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &whole), 0);
    }
}

/* The file was cut and cannot grow: no snapshot can be written until that is over. */
static void
spoil(void)
{
    char path[512];
    struct rlimit none;
    snprintf(path, sizeof(path), "%s/snapshot", dir);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(truncate(path, 0), 0);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &whole), 0);
    none = whole;
    none.rlim_cur = 0;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
}

static void
turn(unsigned heals)
{
    count = 0;
    heals_at = heals;
    spoil();
    for (uint32_t id = 1; id <= 4; id++) {
        ck_assert_uint_ne(meshd_waiting_add(id, undo), 0);
    }
    ck_assert_uint_ne(meshd_waiting_add(0, NULL), 0); /* has nothing to lose */
    for (int i = 0; i < 3; i++) {
        event_base_loop(meshd_loop(), EVLOOP_NONBLOCK);
    }
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &whole), 0);
}

START_TEST(newest_go)
{
    turn(2); /* of five waiting the newest three are answered, one of which is not new */
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(undone[0], 4);
    ck_assert_uint_eq(undone[1], 3);
    turn(0);
    ck_assert_uint_eq(count, 4);
    ck_assert_uint_eq(undone[3], 1);
}
END_TEST

int
main(void)
{
    TCase *t = tcase_create("waiting");
    tcase_add_test(t, shared);
    tcase_add_test(t, newest_go);
    return run_case("registry waiting", t);
}
