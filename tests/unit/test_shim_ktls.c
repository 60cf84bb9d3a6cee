/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes to a connection that the kernel encrypts, where less than the program's buffers hold may go: a part of a
 * long write. Any socket will do for that.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shim/core/region.h"
#include "shim/flow/ident.h"
#include "shim/flow/ktls.h"
#include "shim/flow/ktls_int.h"
#include "shim/flow/limit.h"
#include "shim/flow/retry.h"
#include "shim/flow/work.h"

/* What no such write comes to. */
const struct shim_tls_ops *_Atomic shim_tls;
bool shim_work_enter(void) { return false; }
void shim_work_leave(void) {}
void shim_work_wake(const struct shim_slot *s) { (void)s; }
struct shim_work *shim_work_of(const struct shim_slot *s) { (void)s; return NULL; }
struct shim_work *shim_work_new(struct shim_slot *s, int fd) { (void)s; (void)fd; return NULL; }
void shim_retry_leave(struct shim_slot *s) { (void)s; }
void shim_limit_leave(struct shim_slot *s) { (void)s; }
struct shim_key *shim_ktls_tx_key(struct shim_slot *s) { return (struct shim_key *)(void *)s->tx_key; }

int
shim_ktls_install(int fd, int direction, const struct shim_key *key)
{
    (void)fd, (void)direction, (void)key;
    return -1;
}

#define PIECE 30000u
#define ALL   (3 * PIECE)

static const size_t parts[] = {1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1, ALL - 1, ALL};

START_TEST(a_part_goes_and_no_more)
{
    static uint8_t bytes[ALL], got[ALL + 1];
    struct iovec v[3] = {{bytes, PIECE}, {bytes + PIECE, PIECE}, {bytes + 2 * PIECE, PIECE}};
    struct shim_iov data;
    size_t n = parts[_i];
    int p[2];
    for (size_t i = 0; i < ALL; i++) {
        bytes[i] = (uint8_t)(i % 251);
    }
    ck_assert(shim_region_init());
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
    struct shim_slot *s = shim_slot_alloc();
    atomic_store(&s->phase, SHIM_PHASE_KERNEL);
    ck_assert_int_eq(shim_iov_init(&data, v, 3), 0);
    data.left = n;
    ck_assert_int_eq(shim_ktls_put(p[0], s, &data), n);
    ck_assert_uint_eq(data.left, 0);
    close(p[0]);
    ck_assert_int_eq(recv(p[1], got, sizeof(got), MSG_WAITALL), n);
    ck_assert_int_eq(memcmp(got, bytes, n), 0);
    close(p[1]);
    shim_slot_free(s);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("shim ktls");
    TCase *t = tcase_create("ktls");
    tcase_add_loop_test(t, a_part_goes_and_no_more, 0, sizeof(parts) / sizeof(parts[0]));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
