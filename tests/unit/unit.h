/* SPDX-License-Identifier: Apache-2.0
 *
 * What the unit tests share: a scratch directory, and the main function of a suite.
 */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include <check.h>
#include <stddef.h>
#include <stdint.h>

/* A fresh directory below $TMPDIR, removed with all in it by unit_rmdir. Static buffer. */
static const char *unit_mkdir(void);
static void unit_rmdir(const char *dir);

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static inline const char *
unit_mkdir(void)
{
    static char path[256];
    const char *tmp = getenv("TMPDIR");
    snprintf(path, sizeof(path), "%s/libmesh-unit-XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(path));
    return path;
}

static inline int
unit_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void
unit_rmdir(const char *dir)
{
    nftw(dir, unit_remove, 8, FTW_DEPTH | FTW_PHYS);
}

/* n bytes that end where the next page may not be touched: reading one too many is a crash. */
static inline uint8_t *
unit_guarded(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (n + page - 1) / page * page;
    uint8_t *p = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(p, MAP_FAILED);
    ck_assert_int_eq(mprotect(p + room, page, PROT_NONE), 0);
    return p + room - n;
}

/* Turns meshd's loop until it is true, for longer than a busy machine takes. */
#define UNIT_BECOMES(cond)                                                                         \
    do {                                                                                           \
        time_t end_ = time(NULL) + 60;                                                             \
        while (!(cond) && time(NULL) < end_) {                                                     \
            event_base_loop(meshd_loop(), EVLOOP_NONBLOCK);                                        \
        }                                                                                          \
        ck_assert(cond);                                                                           \
    } while (0)

static inline int
unit_run(Suite *s)
{
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}

#endif
