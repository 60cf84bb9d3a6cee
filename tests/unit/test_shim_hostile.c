/* SPDX-License-Identifier: Apache-2.0
 *
 * What other processes can write: they map the region too. A slot is filled with what cannot be, before
 * and while the paths run that receive, look, count and send. The connection may end or say nonsense;
 * nothing outside of its buffers may be read, written, delivered or sent.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shim/core/region.h"
#include "shim/core/stat.h"
#include "shim/flow/ident.h"
#include "shim/flow/limit.h"
#include "shim/flow/retry.h"
#include "shim/flow/rx.h"
#include "shim/flow/rx_int.h"
#include "shim/flow/tx.h"

/* What shape.c asks of the work list and of connect(): nothing under way, nothing chosen. */
bool shim_work_enter(void) { return false; }
void shim_work_leave(void) {}
void shim_work_wake(const struct shim_slot *s) { (void)s; }
struct shim_work *shim_work_of(const struct shim_slot *s) { (void)s; return NULL; }
struct shim_work *shim_work_new(struct shim_slot *s, int fd) { (void)s; (void)fd; return NULL; }
void shim_retry_leave(struct shim_slot *s) { (void)s; }
void shim_limit_leave(struct shim_slot *s) { (void)s; }

#define LEN(a)  (sizeof(a) / sizeof((a)[0]))
#define ROOM    100u
#define SECRET  0x5a /* in the spill behind, another connection's */
#define FOREIGN 0x3c /* in the program's memory behind its buffer */

/* ---- an engine that neither encrypts nor checks ---- */

const struct shim_tls_ops *_Atomic shim_tls;

static size_t
seal(struct shim_key *key, uint8_t type, const uint8_t *in, size_t n, uint8_t *out)
{
    size_t len = n + 17;
    memmove(out + SHIM_REC_HEAD, in, n);
    memset(out + SHIM_REC_HEAD + n, type, 17);
    memcpy(out, (uint8_t[]){23, 3, 3, (uint8_t)(len >> 8), (uint8_t)len}, SHIM_REC_HEAD);
    key->seq++;
    return len + SHIM_REC_HEAD;
}

static enum mesh_err
open_record(struct shim_key *key, const uint8_t *rec, size_t len, uint8_t *out, size_t *out_len, uint8_t *type)
{
    if (len < SHIM_REC_OVERHEAD || len > SHIM_REC_MAX || shim_rx_record_len(rec) != len) {
        return MESH_E_BAD_RECORD;
    }
    *type = rec[len - 17];
    *out_len = len - SHIM_REC_OVERHEAD;
    memmove(out, rec + SHIM_REC_HEAD, *out_len);
    key->seq++;
    return MESH_OK;
}

static enum mesh_err
key_update(struct shim_key *key)
{
    key->generation++;
    return MESH_OK;
}

static int
key_update_due(const struct shim_key *key)
{
    (void)key;
    return 0;
}

static void
wipe(void *p, size_t n)
{
    explicit_bzero(p, n);
}

static const struct shim_tls_ops engine = {.seal = seal, .open = open_record, .key_update = key_update,
                                           .key_update_due = key_update_due, .wipe = wipe};

/* ---- a connection ---- */

struct conn {
    int fd, peer;
    struct shim_slot *s;
    uint32_t spill, behind;
};

static const uint32_t sizes[] = {0, 1, 4, 5, 100, 200, SHIM_SPILL_SIZE - 1, SHIM_SPILL_SIZE, SHIM_SPILL_SIZE + 1,
                                 INT32_MAX, UINT32_MAX};
static const uint64_t places[] = {0, 1, 60, 5000, UINT32_MAX, INT64_MAX, UINT64_MAX - 100, UINT64_MAX};
static const int32_t errnos[] = {0, ECONNRESET, -1000, INT32_MIN, INT32_MAX};
static const size_t heads[] = {30, 105, 300, SHIM_REC_MAX, 0};

/* Some small records and a large one from the peer, and the spill begins with a record's head. */
static void
conn_open(struct conn *c, size_t head)
{
    static uint8_t rec[SHIM_REC_MAX], data[SHIM_REC_MAX];
    struct shim_key key = {0};
    int p[2];
    ck_assert(shim_region_init());
    atomic_store(&shim_tls, &engine);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
    c->fd = p[0];
    c->peer = p[1];
    c->s = shim_slot_alloc();
    c->spill = shim_spill_get(c->s);
    c->behind = shim_spill_get(c->s);
    ck_assert(c->spill && c->behind == c->spill + 1);
    memset(shim_spill_at(c->s, c->behind), SECRET, SHIM_SPILL_SIZE);
    memset(shim_spill_at(c->s, c->spill), 'a', SHIM_SPILL_SIZE);
    memset(data, 'd', sizeof(data));
    for (int i = 0; i < 3; i++) {
        size_t n = seal(&key, SHIM_REC_DATA, data, i == 2 ? 5000 : 40, rec);
        ck_assert_int_eq(send(c->peer, rec, n, 0), n);
    }
    if (head) {
        (void)seal(&key, SHIM_REC_DATA, data, head - SHIM_REC_OVERHEAD, rec);
        memcpy(shim_spill_at(c->s, c->spill), rec, SHIM_REC_HEAD);
    }
    atomic_store(&c->s->phase, SHIM_PHASE_OPEN);
}

static void
check_no_secret(const uint8_t *p, size_t n)
{
    ck_assert_msg(!memchr(p, SECRET, n) && !memchr(p, FOREIGN, n), "of %zu bytes some are not ours", n);
}

static bool
is_all(const uint8_t *p, size_t n, uint8_t b)
{
    return p[0] == b && memcmp(p, p + 1, n - 1) == 0;
}

static void
conn_close(struct conn *c)
{
    static uint8_t got[1 << 16];
    for (ssize_t n; (n = recv(c->peer, got, sizeof(got), MSG_DONTWAIT)) > 0;) {
        check_no_secret(got, (size_t)n);
    }
    ck_assert(is_all(shim_spill_at(c->s, c->behind), SHIM_SPILL_SIZE, SECRET));
    c->s->rx_spill = 0; /* as it is nobody's, whatever was written there */
    c->s->tx_spill = 0;
    shim_spill_put(c->s, c->spill);
    shim_spill_put(c->s, c->behind);
    shim_slot_free(c->s);
    close(c->fd);
    close(c->peer);
}

/* ---- what the program does with it ---- */

/* Into the middle of memory that a sanitizer guards, or that is looked at afterwards. */
static void
receive(struct conn *c, ssize_t (*get)(int fd, struct shim_slot *s, struct shim_iov *room))
{
    uint8_t *buf = malloc(ROOM + 64);
    struct iovec v = {buf, ROOM};
    struct shim_iov room;
    ck_assert_ptr_nonnull(buf);
    memset(buf, 0, ROOM);
    memset(buf + ROOM, FOREIGN, 64);
    ck_assert_int_eq(shim_iov_init(&room, &v, 1), 0);
    ssize_t r = get(c->fd, c->s, &room);
    ck_assert_int_le(r, ROOM);
    ck_assert_int_gt(r, -4096);
    check_no_secret(buf, ROOM);
    ck_assert(is_all(buf + ROOM, 64, FOREIGN));
    free(buf);
}

static void
take(struct conn *c)
{
    for (int i = 0; i < 4; i++) {
        receive(c, shim_rx_take);
    }
}

static void
look(struct conn *c)
{
    receive(c, shim_rx_peek);
    receive(c, shim_rx_peek);
}

static void
count(struct conn *c)
{
    for (int i = 0; i < 2; i++) {
        ssize_t n = shim_rx_available(c->fd, c->s);
        ck_assert_int_ge(n, 0);
        ck_assert_int_lt(n, 4 << 20);
    }
}

static void
drain(struct conn *c)
{
    shim_rx_drain_control(c->fd, c->s);
}

static void
skip_message(struct conn *c)
{
    uint8_t *msg = calloc(1, 50);
    ck_assert_ptr_nonnull(msg);
    msg[0] = 4; /* NewSessionTicket, and the rest of it later */
    (void)shim_rx_control(c->s, SHIM_REC_HANDSHAKE, msg, 50);
    (void)shim_rx_control(c->s, SHIM_REC_HANDSHAKE, msg, 50);
    free(msg);
}

static void
flush(struct conn *c)
{
    ck_assert_int_le(shim_tx_flush(c->fd, c->s), 0);
}

static void
put(struct conn *c)
{
    uint8_t data[ROOM];
    struct iovec v = {data, ROOM};
    struct shim_iov room;
    memset(data, 'p', ROOM);
    ck_assert_int_eq(shim_iov_init(&room, &v, 1), 0);
    ck_assert_int_le(shim_tx_put(c->fd, c->s, &room, 0), ROOM);
    (void)shim_tx_close_notify(c->fd, c->s);
}

static void (*const paths[])(struct conn *c) = {take, look, count, drain, skip_message, flush, put};

/* ---- who writes there ---- */

static const uint8_t states[] = {SHIM_RX_NONE, SHIM_RX_PARTIAL, SHIM_RX_PLAIN, 255};

static void
write_rx(struct conn *c, uint8_t state, uint32_t spill, uint32_t len, uint32_t off)
{
    c->s->rx_spill = spill;
    c->s->rx_len = len;
    c->s->rx_off = off;
    c->s->rx_state = state;
}

static void
write_tx(struct conn *c, uint32_t spill, uint32_t len, uint32_t off)
{
    c->s->tx_len = len;
    c->s->tx_off = off;
    c->s->tx_spill = spill;
}

static void
write_ahead(struct conn *c, uint64_t raw, uint64_t place, uint32_t len)
{
    c->s->rx_raw = raw;
    c->s->rx_plain = place;
    c->s->ahead_raw = c->s->ahead_plain = place;
    c->s->ahead_len = len;
}

START_TEST(all_ones_harm_nobody)
{
    for (size_t i = 0; i < LEN(paths); i++) {
        for (size_t k = 0; k < LEN(states); k++) {
            struct conn c;
            conn_open(&c, 0);
            memset((char *)c.s + offsetof(struct shim_slot, rx_state), 0xff,
                   sizeof(*c.s) - offsetof(struct shim_slot, rx_state));
            c.s->rx_state = states[k];
            atomic_store(&c.s->rx_sleepers, 0);
            paths[i](&c);
            conn_close(&c);
        }
    }
}
END_TEST

/* Lengths, offsets and numbers of spills that do not go together. */
START_TEST(nonsense_in_a_slot_harms_nobody)
{
    size_t head = heads[_i];
    for (size_t k = 0; k < LEN(states) * 3 * LEN(sizes) * LEN(sizes); k++) {
        struct conn c;
        conn_open(&c, head);
        uint32_t spills[] = {c.spill, 0, UINT32_MAX};
        uint32_t len = sizes[k % LEN(sizes)], off = sizes[k / LEN(sizes) % LEN(sizes)];
        size_t rest = k / LEN(sizes) / LEN(sizes);
        write_rx(&c, states[rest / 3], spills[rest % 3], len, off);
        write_tx(&c, spills[rest % 3], len, off);
        paths[k % LEN(paths)](&c);
        paths[(k + rest) % LEN(paths)](&c);
        conn_close(&c);
    }
}
END_TEST

START_TEST(nonsense_about_the_stream_harms_nobody)
{
    for (size_t k = 0; k < LEN(places) * LEN(places) * LEN(sizes); k++) {
        struct conn c;
        conn_open(&c, 105);
        write_rx(&c, states[k % 3], c.spill, 60, 0);
        write_ahead(&c, places[k % LEN(places)], places[k / LEN(places) % LEN(places)],
                    sizes[k / LEN(places) / LEN(places)]);
        count(&c);
        conn_close(&c);
    }
}
END_TEST

/* An error that waits is no count of bytes. */
START_TEST(an_errno_stays_one)
{
    struct conn c;
    conn_open(&c, 0);
    c.s->rx_errno = errnos[_i];
    receive(&c, shim_rx_take);
    conn_close(&c);
    ck_assert_int_ge(shim_slot_errno(errnos[_i]), 0);
    ck_assert_int_lt(shim_slot_errno(errnos[_i]), 4096);
}
END_TEST

struct writer {
    struct conn *c;
    _Atomic int stop;
};

static void *
write_on(void *arg)
{
    struct writer *w = arg;
    unsigned seed = 1;
    while (!atomic_load(&w->stop)) {
        struct conn *c = w->c;
        uint32_t spills[] = {c->spill, 0, UINT32_MAX};
        uint32_t len = sizes[(unsigned)rand_r(&seed) % LEN(sizes)], off = sizes[(unsigned)rand_r(&seed) % LEN(sizes)];
        uint32_t spill = spills[(unsigned)rand_r(&seed) % 3];
        write_rx(c, states[(unsigned)rand_r(&seed) % LEN(states)], spill, len, off);
        write_tx(c, spill, len, off);
        write_ahead(c, places[(unsigned)rand_r(&seed) % LEN(places)], places[(unsigned)rand_r(&seed) % LEN(places)], len);
        c->s->rx_msg = len;
        c->s->rx_errno = errnos[(unsigned)rand_r(&seed) % LEN(errnos)];
        c->s->conn = off;
    }
    return NULL;
}

/* Checked and then used: in between it is something else. */
START_TEST(writing_meanwhile_harms_nobody)
{
    for (unsigned k = 0; k < 400; k++) {
        struct conn c;
        struct writer w = {&c, 0};
        pthread_t t;
        conn_open(&c, heads[k % LEN(heads)]);
        ck_assert_int_eq(pthread_create(&t, NULL, write_on, &w), 0);
        for (unsigned i = 0; i < 50; i++) {
            paths[(i + k) % LEN(paths)](&c);
            atomic_fetch_and(&c.s->flags, ~(uint32_t)(SHIM_SF_RX_DEAD | SHIM_SF_TX_DEAD));
        }
        atomic_store(&w.stop, 1);
        pthread_join(t, NULL);
        conn_close(&c);
    }
}
END_TEST

/* To kill(2) a number that is none is a group of processes, or all of them. */
START_TEST(a_holder_that_cannot_be_is_not_asked_for)
{
    static const int nobody = -(1 << 29);
    ck_assert(shim_region_init());
    struct shim_slot *s = shim_slot_alloc();
    uint64_t held = 1; /* of process 0 */
    atomic_store(&s->cookie, 1);
    atomic_store(&s->holder[1], held);
    ck_assert(!shim_lock_is_gone(nobody));
    ck_assert(!shim_lock_is_gone(0));
    (void)shim_slot_is_only(s, getpid());
    ck_assert(atomic_load(&s->holder[1]) == held);
    shim_slot_free(s);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("shim hostile");
    TCase *t = tcase_create("hostile");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, all_ones_harm_nobody);
    tcase_add_loop_test(t, nonsense_in_a_slot_harms_nobody, 0, LEN(heads));
    tcase_add_test(t, nonsense_about_the_stream_harms_nobody);
    tcase_add_loop_test(t, an_errno_stays_one, 0, LEN(errnos));
    tcase_add_test(t, writing_meanwhile_harms_nobody);
    tcase_add_test(t, a_holder_that_cannot_be_is_not_asked_for);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
