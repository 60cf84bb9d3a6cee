/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_confwatch: which changes beside a configuration file lead to a reload, and which do not.
 */
#include "meshd/discovery/confwatch.h"

#include <event2/event.h>
#include <sys/stat.h>

#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/policy/config.h"
#include "tests/unit/unit.h"

#define LINGER(ms) "linger = \"" #ms "ms\"; log = { level = \"error\"; };\n"

static const char *dir;
static int reloads;

static const char *
path(const char *name)
{
    static char text[2][512];
    static int turn;
    turn = !turn;
    snprintf(text[turn], sizeof(text[turn]), "%s/%s", dir, name);
    return text[turn];
}

static void
write_file(const char *name, const char *text)
{
    FILE *f = fopen(path(name), "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void
on_reload(void)
{
    meshd_confwatch_note();
    reloads++;
    enum mesh_err e = meshd_config_reload();
    (void)e; /* the tests look at what is in force */
}

static void
begin(void)
{
    dir = unit_mkdir();
    ck_assert_int_eq(meshd_loop_init(), MESH_OK);
    reloads = 0;
}

static void
load(void)
{
    ck_assert_int_eq(meshd_config_load(path("meshd.conf"), dir), MESH_OK);
    ck_assert_int_eq(meshd_confwatch_init(on_reload), MESH_OK);
}

static void
setup(void)
{
    begin();
    write_file("meshd.conf", LINGER(1));
    load();
}

static void
teardown(void)
{
    meshd_confwatch_fini();
    meshd_loop_fini();
    unit_rmdir(dir);
}

/* Runs the loop until so many reloads have been. */
static void
until(int n)
{
    uint64_t end = meshd_now_ns() + UINT64_C(60000000000);
    while (reloads < n && meshd_now_ns() < end) {
        event_base_loop(meshd_loop(), EVLOOP_ONCE);
    }
    ck_assert_int_eq(reloads, n);
}

static void
becomes(uint32_t linger_ms)
{
    until(reloads + 1);
    ck_assert_uint_eq(meshd_config_current()->linger_ms, linger_ms);
}

/* Long enough for a change to be noticed. */
static void
linger(void)
{
    const struct timeval tv = {0, 800000};
    event_base_loopexit(meshd_loop(), &tv);
    event_base_dispatch(meshd_loop());
}

/* What was done before leads to no reload, and what is done then, to one. */
static void
only_that_one(void)
{
    int before = reloads;
    linger();
    ck_assert_int_eq(reloads, before);
    write_file("meshd.conf", LINGER(77));
    becomes(77);
    ck_assert_int_eq(reloads, before + 1);
}

START_TEST(written_in_place)
{
    write_file("meshd.conf", LINGER(2));
    becomes(2);
    write_file("meshd.conf", LINGER(3));
    becomes(3);
}
END_TEST

START_TEST(renamed)
{
    write_file("new", LINGER(2));
    ck_assert_int_eq(rename(path("new"), path("meshd.conf")), 0);
    becomes(2);
    ck_assert_int_eq(rename(path("meshd.conf"), path("meshd.conf~")), 0); /* as editors do */
    write_file("meshd.conf", LINGER(3));
    becomes(3);
}
END_TEST

START_TEST(drop_ins)
{
    ck_assert_int_eq(mkdir(path("conf.d"), 0700), 0); /* was not there at the start */
    write_file("conf.d/a.conf", LINGER(2));
    becomes(2);
    write_file("conf.d/b.conf", LINGER(3));
    becomes(3);
    ck_assert_int_eq(unlink(path("conf.d/b.conf")), 0);
    becomes(2);
    ck_assert_int_eq(rename(path("conf.d/a.conf"), path("conf.d/a.off")), 0);
    becomes(1);
    ck_assert_int_eq(rename(path("conf.d"), path("conf.old")), 0); /* another directory of the name */
    ck_assert_int_eq(mkdir(path("conf.d"), 0700), 0);
    write_file("conf.d/c.conf", LINGER(4));
    becomes(4);
}
END_TEST

/* As mounted config maps are: meshd.conf -> ..data/meshd.conf, ..data -> ..1 */
START_TEST(swapped_links)
{
    begin();
    ck_assert_int_eq(mkdir(path("..1"), 0700), 0);
    ck_assert_int_eq(mkdir(path("..2"), 0700), 0);
    write_file("..1/meshd.conf", LINGER(1));
    write_file("..2/meshd.conf", LINGER(2));
    ck_assert_int_eq(symlink("..1", path("..data")), 0);
    ck_assert_int_eq(symlink("..data/meshd.conf", path("meshd.conf")), 0);
    load();
    ck_assert_int_eq(symlink("..2", path("..tmp")), 0);
    ck_assert_int_eq(rename(path("..tmp"), path("..data")), 0);
    becomes(2);
    write_file("..2/meshd.conf", LINGER(3)); /* where the link leads */
    becomes(3);
    teardown();
}
END_TEST

START_TEST(broken)
{
    write_file("meshd.conf", "linger = 3;\n");
    becomes(1);
    struct meshd_config_info info;
    meshd_config_info(&info);
    ck_assert(!info.last_ok);
    only_that_one(); /* tried once */
}
END_TEST

START_TEST(of_no_interest)
{
    write_file("other", "x");
    write_file("meshd.conf.bak", LINGER(9));
    ck_assert_int_eq(mkdir(path("conf.d"), 0700), 0);
    write_file("conf.d/README", "x");
    only_that_one();
}
END_TEST

static int writes;

static void
on_write(void *arg)
{
    (void)arg;
    ck_assert_int_eq(reloads, 0);
    write_file("meshd.conf", writes++ % 2 ? LINGER(8) : LINGER(9));
}

/* One loop for writer and watcher: however slow the machine is, there is a write between two looks. */
START_TEST(restless)
{
    struct meshd_timer *t = meshd_timer_new(50, on_write, NULL);
    linger();
    meshd_timer_free(t);
    ck_assert_int_ge(writes, 2);
    write_file("meshd.conf", LINGER(5));
    ck_assert_int_eq(reloads, 0);
    becomes(5);
}
END_TEST

/* A signal came first: the same change is not taken twice. */
START_TEST(noted)
{
    write_file("meshd.conf", LINGER(2));
    on_reload();
    ck_assert_uint_eq(meshd_config_current()->linger_ms, 2);
    only_that_one();
}
END_TEST

START_TEST(switched_off)
{
    write_file("meshd.conf", "watch_config = false; " LINGER(2));
    becomes(2);
    write_file("meshd.conf", LINGER(3));
    linger();
    ck_assert_int_eq(reloads, 1);
    on_reload();
    only_that_one(); /* and on again */
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("confwatch");
    TCase *t = tcase_create("confwatch"), *links = tcase_create("links");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_set_timeout(links, 60);
    tcase_add_test(t, written_in_place);
    tcase_add_test(t, renamed);
    tcase_add_test(t, drop_ins);
    tcase_add_test(links, swapped_links);
    tcase_add_test(t, broken);
    tcase_add_test(t, of_no_interest);
    tcase_add_test(t, restless);
    tcase_add_test(t, noted);
    tcase_add_test(t, switched_off);
    suite_add_tcase(s, t);
    suite_add_tcase(s, links);
    return unit_run(s);
}
