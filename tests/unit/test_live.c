/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_live: what is handed out can be written and not cut; counts that no page explains go away, but
 * not at once, and those that one explains stay.
 */
#include "meshd/registry/live.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mesh/live.h"
#include "meshd/attest/attest.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/base/peer.h"
#include "meshd/base/proc.h"
#include "meshd/stats/stats.h"
#include "tests/unit/unit.h"

static const char *dir;
static struct mesh_live *live;

static void
setup(void)
{
    meshd_log_set(MESHD_LOG_ERROR);
    dir = unit_mkdir();
    ck_assert_int_eq(meshd_loop_init(), MESH_OK);
    ck_assert_int_eq(meshd_proc_init(meshd_stats_gone), MESH_OK);
    ck_assert_int_eq(meshd_stats_init(dir), MESH_OK);
    meshd_live_init();
    ck_assert_uint_ne(meshd_live_id(), 0);
    int fd = meshd_live_fd();
    live = mmap(NULL, sizeof(*live), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(live, MAP_FAILED);
    close(fd);
}

static void
teardown(void)
{
    munmap(live, sizeof(*live));
    meshd_live_fini();
    ck_assert_uint_eq(meshd_live_id(), 0);
    meshd_stats_fini();
    meshd_proc_fini();
    meshd_loop_fini();
    unit_rmdir(dir);
}

START_TEST(nobody_cuts_it)
{
    int fd = meshd_live_fd();
    ck_assert_int_eq(ftruncate(fd, 0), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(ftruncate(fd, 1 << 24), -1);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    ck_assert_uint_eq(live->magic, MESH_LIVE_MAGIC);
    close(fd);
}
END_TEST

static void
connected(struct mesh_page *page, unsigned i, uint32_t id)
{
    struct mesh_page_conn *c = &mesh_page_conns(page)[i];
    c->outbound = 1;
    c->endpoint = id + 1;
    atomic_store(&c->state, MESH_CONN_OPEN);
}

static uint64_t
realtime(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static struct mesh_live_endpoint *
use(uint32_t i)
{
    atomic_fetch_or(&live->used[i / 64], UINT64_C(1) << i % 64);
    return &live->endpoint[i];
}

static struct mesh_page *
attach(int *fd)
{
    const struct meshd_identity web = {"web", "spiffe://mesh.local/ns/default/sa/web"};
    struct meshd_peer me = {.pid = getpid(), .uid = geteuid(), .starttime = meshd_proc_starttime(getpid())};
    uint64_t page_id;
    ck_assert_int_eq(meshd_stats_attach(&me, &web, 1, &page_id, fd), MESH_OK);
    struct mesh_page *page = mmap(NULL, MESH_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    ck_assert_ptr_ne(page, MAP_FAILED);
    return page;
}

/* Pages show what began and ended while they were read: more than there are at any time, round after round. */
START_TEST(coming_and_going_adds_nothing)
{
    int fd = -1;
    struct mesh_page *page = attach(&fd);
    connected(page, 0, 5);
    atomic_store(&use(5)->active, 1);
    for (unsigned i = 1; i < 20; i++) {
        connected(page, 1 + i % 2, 5);
        connected(page, 3 + i % 3, 5);
        for (unsigned k = 1; k < 6; k++) {
            mesh_page_conns(page)[k].opened_ns = realtime();
        }
        meshd_live_correct();
        ck_assert_uint_eq(live->endpoint[5].active, 1);
    }
    meshd_live_correct(); /* those stay: they are missing for two rounds */
    meshd_live_correct();
    meshd_live_correct();
    ck_assert_uint_eq(live->endpoint[5].active, 6);
    munmap(page, MESH_PAGE_SIZE);
    close(fd);
}
END_TEST

START_TEST(lasting_excess_goes)
{
    int fd = -1;
    struct mesh_page *page = attach(&fd);
    connected(page, 0, 5);
    connected(page, 1, 5);
    connected(page, 2, MESH_LIVE_ENDPOINTS + 6);
    connected(page, 3, 5);
    mesh_page_conns(page)[3].uncounted = 1;
    atomic_store(&use(5)->active, 7);
    atomic_store(&use(6)->active, 1);
    atomic_store(&use(9)->active, UINT32_MAX); /* somebody's joke */
    meshd_live_correct();
    ck_assert_uint_eq(live->endpoint[5].active, 7); /* it may be about to show them */
    atomic_store(&use(5)->active, 4);
    meshd_live_correct();
    ck_assert_uint_eq(live->endpoint[5].active, 2); /* two of the excess were there both times */
    ck_assert_uint_eq(live->endpoint[6].active, 1);
    ck_assert_uint_eq(live->endpoint[9].active, 0);
    meshd_live_correct();
    meshd_live_correct();
    ck_assert_uint_eq(live->endpoint[5].active, 2);
    atomic_store(&use(5)->active, 0); /* fewer than there are: they were there before meshd was */
    meshd_live_correct();
    ck_assert_uint_eq(live->endpoint[5].active, 0);
    meshd_live_correct();
    ck_assert_uint_eq(live->endpoint[5].active, 2);
    munmap(page, MESH_PAGE_SIZE);
    close(fd);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("live");
    TCase *t = tcase_create("live");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, nobody_cuts_it);
    tcase_add_test(t, coming_and_going_adds_nothing);
    tcase_add_test(t, lasting_excess_goes);
    suite_add_tcase(s, t);
    return unit_run(s);
}
