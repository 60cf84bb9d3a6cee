/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap_cache: what is kept is what a look-up would find, under its own number and no other; whoever comes in
 * between, whatever the snapshot says. Whether an answer was kept shows where the snapshot is damaged: nobody else
 * could have given it.
 */
#include "common/snap_cache.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/core/rand.h"
#include "shim/link/link.h"
#include "shim/real.h"
#include "shim/route/pick.h"
#include "tests/unit/snap_kit.h"
#include "tests/unit/unit.h"

#define AREA (4u << 20)

static struct mesh_snap_cache cache;

uint64_t
shim_link_netns(int fd)
{
    (void)fd;
    return 1;
}

const char *
shim_link_id(void)
{
    return "spiffe://td/ns/default/sa/client";
}

static void
setup(void)
{
    shim_real_init();
    memset(&cache, 0, sizeof(cache));
    kit_open(AREA);
}

static struct mesh_addr
address(uint32_t k)
{
    return (struct mesh_addr){
        .ip = {[10] = 0xff, [11] = 0xff, 10, (uint8_t)(k >> 16), (uint8_t)(k >> 8), (uint8_t)k}, .port = 80};
}

/* n services; the k-th has address k, one endpoint with id k + 1, and `tag` in its name, identity and cookies. */
static void
publish(uint32_t n, uint64_t tag)
{
    struct mesh_snap_settings set;
    mesh_snap_settings_default(&set);
    set.live = (uint32_t)tag;
    meshd_snapfile_begin();
    for (uint32_t k = 0; k < n; k++) {
        struct mesh_snap_service s = {.max_attempts = 3};
        struct mesh_addr a = address(k);
        struct mesh_snap_endpoint e = {.port = 81, .mode = MESH_MODE_STRICT, .service = k, .id = k + 1, .cookie = tag};
        struct mesh_snap_endpoint front = {.port = a.port, .flags = MESH_EP_SERVICE, .service = k, .cookie = tag};
        snprintf(s.name, sizeof(s.name), "%llu-%u", (unsigned long long)tag, k);
        snprintf(s.id, sizeof(s.id), "spiffe://td/ns/default/sa/%llu-%u", (unsigned long long)tag, k);
        (void)meshd_snapfile_add(MESH_SNAP_SERVICES, &s);
        memcpy(e.addr, a.ip, 16);
        memcpy(front.addr, a.ip, 16);
        (void)meshd_snapfile_endpoint(&e);
        (void)meshd_snapfile_endpoint(&front);
        kit_group(k, 0, 0, &(struct kit_tier){.first = 2 * k, .count = 1, .healthy = 1}, 1);
    }
    ck_assert_int_eq(meshd_snapfile_commit(&set), MESH_OK);
}

/* The file's content at an address of its own, as another process sees it; `p` is to be written to. */
static struct mesh_snap
copy(uint8_t **p)
{
    struct mesh_snap whole = meshd_snapfile_view();
    *p = mmap(NULL, whole.size, PROT_READ | PROT_WRITE, MAP_PRIVATE, meshd_snapfile_fd(), 0);
    ck_assert_ptr_ne(*p, MAP_FAILED);
    return (struct mesh_snap){*p, whole.size, &cache};
}

static bool
find(const struct mesh_snap *s, uint32_t k, struct mesh_snap_hit *hit)
{
    struct mesh_addr a = address(k);
    bool found = false;
    ck_assert_int_eq(mesh_snap_find(s, 1, &a, hit, &found), MESH_OK);
    return found;
}

static void
expect(const struct mesh_snap *s, uint32_t k, uint64_t tag)
{
    struct mesh_snap_hit hit;
    char name[MESH_SERVICE_MAX];
    snprintf(name, sizeof(name), "%llu-%u", (unsigned long long)tag, k);
    ck_assert(find(s, k, &hit));
    ck_assert_str_eq(hit.service.name, name);
    ck_assert_str_eq(strrchr(hit.service.id, '/') + 1, name);
    ck_assert_uint_eq(hit.endpoint.cookie, tag);
    ck_assert_uint_eq(hit.live, (uint32_t)tag);
}

/* Can it still be answered when nothing behind the area's front can be believed? */
static bool
is_kept(const struct mesh_snap *s, uint8_t *p, uint32_t k)
{
    const size_t behind = offsetof(struct mesh_snap_area, bucket);
    uint8_t *area = p + MESH_SNAP_HEAD + (meshd_snapfile_generation() & 1) * AREA;
    static uint8_t was[AREA];
    struct mesh_addr a = address(k);
    struct mesh_snap_hit hit;
    bool found = false;
    memcpy(was, area, AREA);
    memset(area + behind, 0xa5, AREA - behind);
    enum mesh_err e = mesh_snap_find(s, 1, &a, &hit, &found);
    memcpy(area, was, AREA);
    ck_assert(e == MESH_E_SNAPSHOT || (e == MESH_OK && found));
    return e == MESH_OK;
}

START_TEST(the_same_as_without)
{
    uint8_t *p;
    publish(20, 7);
    struct mesh_snap s = copy(&p), plain = {s.map, s.size, NULL};
    for (uint32_t k = 0; k < 20; k++) {
        struct mesh_snap_hit want, first, kept;
        memset(&want, 0, sizeof(want));
        memset(&first, 1, sizeof(first));
        memset(&kept, 2, sizeof(kept));
        ck_assert(find(&plain, k, &want));
        ck_assert(!is_kept(&plain, p, k) && !is_kept(&s, p, k));
        ck_assert(find(&s, k, &first) && is_kept(&s, p, k) && find(&s, k, &kept));
        ck_assert_mem_eq(&first.endpoint, &want.endpoint, sizeof(want.endpoint));
        ck_assert_mem_eq(&kept.endpoint, &want.endpoint, sizeof(want.endpoint));
        ck_assert_mem_eq(&first.service, &want.service, sizeof(want.service));
        ck_assert_mem_eq(&kept.service, &want.service, sizeof(want.service));
        ck_assert(kept.needs_local == want.needs_local && kept.live == want.live &&
                  kept.registry_only == want.registry_only);
    }
}
END_TEST

/* An identity as long as there is room, and an empty one after it in the same slot. */
START_TEST(identities_of_any_length)
{
    for (uint32_t n = 0; n < MESH_ID_MAX; n++) {
        struct mesh_snap_key k = {.generation = n};
        struct mesh_snap_asked a = {.port = 80};
        struct mesh_snap_hit in = {.live = 0}, out;
        struct mesh_snap_plan plan = {.total = n}, back;
        memset(&out, 0xff, sizeof(out));
        memset(in.service.id, 'x', n % 2 ? n : MESH_ID_MAX - 1 - n);
        mesh_snap_cache_keep(&cache, &k, &a, &in, &plan);
        ck_assert(mesh_snap_cache_find(&cache, &k, &a, &out, &back));
        ck_assert_mem_eq(&out.service, &in.service, sizeof(in.service));
        ck_assert_uint_eq(back.total, n);
    }
    ck_assert_uint_eq(cache.next, 1);
}
END_TEST

START_TEST(another_number_is_another_content)
{
    uint8_t *p;
    publish(3, 1);
    for (uint64_t tag = 2; tag < 10; tag++) {
        publish(3, tag);
        struct mesh_snap s = meshd_snapfile_view();
        s.cache = &cache;
        for (uint32_t k = 0; k < 3; k++) {
            expect(&s, k, tag);
            expect(&s, k, tag);
        }
    }
    publish(2, 10); /* address 2 is no service's any more */
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_snap_hit hit;
    s.cache = &cache;
    ck_assert(!find(&s, 2, &hit));
    expect(&s, 1, 10);
    ck_assert_uint_eq(cache.next, 3); /* each address has kept its slot */
    s = copy(&p); /* the same number elsewhere */
    ck_assert(!is_kept(&s, p, 1));
    expect(&s, 1, 10);
    ck_assert(is_kept(&s, p, 1));
    ((struct mesh_snap_head *)(void *)p)->epoch ^= 1;
    ck_assert(!is_kept(&s, p, 1));
    expect(&s, 1, 10);
    ck_assert(is_kept(&s, p, 1));
    struct mesh_addr a = address(1);
    bool found = true;
    ck_assert_int_eq(mesh_snap_find_endpoint(&s, 1, &a, &hit, &found), MESH_OK);
    ck_assert(!found); /* among endpoints it is none, kept or not */
}
END_TEST

/* The number stands in the head and the area is being written: nothing is to be had, kept or not. */
START_TEST(an_area_that_is_written)
{
    uint8_t *p;
    publish(1, 1);
    struct mesh_snap s = copy(&p);
    expect(&s, 0, 1);
    *(uint64_t *)(void *)(p + MESH_SNAP_HEAD + (meshd_snapfile_generation() & 1) * AREA) = 0;
    struct mesh_addr a = address(0);
    struct mesh_snap_hit hit;
    bool found;
    ck_assert_int_eq(mesh_snap_find(&s, 1, &a, &hit, &found), MESH_E_SNAPSHOT);
}
END_TEST

/* Tables that are said to be elsewhere are damage, also when it was known where they are. */
START_TEST(a_front_that_is_damaged)
{
    uint8_t *p;
    publish(2, 5);
    struct mesh_snap s = copy(&p);
    uint8_t *area = p + MESH_SNAP_HEAD + (meshd_snapfile_generation() & 1) * AREA;
    expect(&s, 0, 5);
    for (size_t i = offsetof(struct mesh_snap_area, table); i < offsetof(struct mesh_snap_area, bucket); i++) {
        struct mesh_addr a = address(0);
        struct mesh_snap_hit hit;
        bool found;
        area[i] ^= 1;
        ck_assert_int_eq(mesh_snap_find(&s, 1, &a, &hit, &found), MESH_E_SNAPSHOT);
        area[i] ^= 1;
        expect(&s, 0, 5);
    }
}
END_TEST

START_TEST(more_than_have_room)
{
    uint8_t *p;
    const uint32_t n = 3 * MESH_SNAP_SLOTS;
    publish(n, 5);
    struct mesh_snap s = copy(&p);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < n; i++) {
            expect(&s, round == 1 ? n - 1 - i : i, 5);
        }
    }
    for (uint32_t i = 0; i < 1000; i++) { /* a few of them, from then on, are kept: none drives another out for ever */
        expect(&s, i % 10 * 300, 5);
    }
    for (uint32_t i = 0; i < 10; i++) {
        ck_assert(is_kept(&s, p, i * 300));
    }
}
END_TEST

/* Whoever was killed while he wrote: others pass the place over, and keep theirs in the next one. */
START_TEST(a_writer_that_was_killed)
{
    uint8_t *p;
    publish(2, 5);
    struct mesh_snap s = copy(&p);
    expect(&s, 0, 5);
    ck_assert(is_kept(&s, p, 0));
    cache.slot[0].turn |= 1;
    cache.slot[1].turn |= 1;
    cache.slot[0].name[0] = UINT64_MAX;
    ck_assert(!is_kept(&s, p, 0));
    expect(&s, 0, 5); /* the second one is taken, too */
    expect(&s, 0, 5);
    ck_assert(is_kept(&s, p, 0));
    cache.front[meshd_snapfile_generation() & 1].turn |= 1;
    ck_assert(is_kept(&s, p, 0)); /* the front is summed, as without */
    expect(&s, 0, 5);
    publish(2, 6);
    s = copy(&p);
    expect(&s, 1, 6);
    ck_assert(is_kept(&s, p, 1));
}
END_TEST

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define VFORK_SHARES false /* it makes fork of vfork */
#else
#define VFORK_SHARES true
#endif

/* What a child of vfork keeps, which has its parent's memory, is right for the parent. */
START_TEST(child_of_vfork)
{
    static struct mesh_snap s;
    uint8_t *p;
    publish(1, 5);
    s = copy(&p);
    pid_t pid = vfork();
    if (pid == 0) {
        static struct mesh_snap_hit hit;
        _exit(find(&s, 0, &hit) ? 0 : 1);
    }
    int status = -1;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert(is_kept(&s, p, 0) == VFORK_SHARES);
    expect(&s, 0, 5);
}
END_TEST

static uint8_t *
entry(uint8_t *area, enum mesh_snap_tables t, uint32_t i)
{
    return area + ((struct mesh_snap_area *)(void *)area)->table[t].off + i * mesh_snap_entry_size(t);
}

/* Random words with right sums in all that is kept; the epoch is another one each time, so nothing of before counts. An
 * answer is an endpoint of the table, or that it is damaged, and the second time the same; and nothing stays for
 * a content that is whole. */
START_TEST(hostile)
{
    static const uint32_t evil[] = {0, 1, 2, 3, 7, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff, AREA};
    static const enum mesh_snap_tables kinds[] = {MESH_SNAP_SERVICES, MESH_SNAP_GROUPS, MESH_SNAP_TIERS, MESH_SNAP_MEMBERS,
                                                  MESH_SNAP_ENDPOINTS};
    uint8_t *p, was[sizeof(struct mesh_snap_service)];
    uint32_t answers = 0, refused = 0;
    publish(3, 5);
    struct mesh_snap s = copy(&p);
    const uint64_t g = meshd_snapfile_generation();
    uint8_t *area = p + MESH_SNAP_HEAD + (g & 1) * AREA;
    for (int round = 0; round < 20000; round++) {
        enum mesh_snap_tables t = kinds[shim_rand_below(5)];
        uint32_t n = ((struct mesh_snap_area *)(void *)area)->table[t].count, i = shim_rand_below(n);
        const size_t size = mesh_snap_entry_size(t);
        uint8_t *at = entry(area, t, i);
        memcpy(was, at, size);
        for (uint32_t k = shim_rand_below(3) + 1; k > 0; k--) {
            uint32_t word = shim_rand_below(2) ? evil[shim_rand_below(10)] : shim_rand_below(UINT32_MAX);
            memcpy(at + 4 * shim_rand_below((uint32_t)size / 4 - 1), &word, 4);
        }
        uint32_t sum = mesh_snap_sum(g, i, at, size - 4);
        memcpy(at + size - 4, &sum, 4);
        for (uint32_t k = 0; k < 6; k++) {
            struct shim_pick who = {.netns = 1, .family = AF_INET6};
            struct shim_candidate c;
            struct mesh_snap_hit hit;
            struct mesh_addr a = address(k % 3);
            enum mesh_err e = shim_pick(&who, &s, &a, &hit, &c);
            ck_assert(e == MESH_OK || e == MESH_E_SNAPSHOT || e == MESH_E_NO_ENDPOINT || e == MESH_E_OVERFLOW);
            ck_assert(e != MESH_OK || (memchr(c.service->id, 0, MESH_ID_MAX) && memchr(hit.service.name, 0, MESH_SERVICE_MAX)));
            answers += e == MESH_OK;
            refused += e != MESH_OK;
        }
        memcpy(at, was, size);
        ((struct mesh_snap_head *)(void *)p)->epoch++;
        expect(&s, i % 3, 5);
        ((struct mesh_snap_head *)(void *)p)->epoch++;
    }
    printf("%u answers, %u refused\n", answers, refused);
    ck_assert(answers > 0 && refused > 0);
}
END_TEST

/* ---- beside a writer, with each other, and above themselves ---- */

#define SOME 40u

static _Atomic bool stop;
static _Atomic uint64_t looks;
static struct mesh_snap shared; /* a mapping that the writer does not write through */

static void *
writer(void *arg)
{
    (void)arg;
    for (uint64_t tag = 2; !atomic_load(&stop); tag++) {
        uint64_t from = atomic_load(&looks);
        publish(SOME, tag);
        while (atomic_load(&looks) - from < 3 * SOME && !atomic_load(&stop)) { /* each is found, kept, and found again */
            sched_yield();
        }
    }
    return NULL;
}

/* The tag of what was found; 0: there was no rest. Of one generation all, and of none that is older than `least`. */
static uint64_t
look(uint32_t k, uint64_t least)
{
    struct shim_pick who = {.netns = 1, .family = AF_INET};
    struct mesh_addr a = address(k);
    struct mesh_snap_hit hit;
    struct shim_candidate c;
    enum mesh_err e = shim_pick(&who, &shared, &a, &hit, &c);
    atomic_fetch_add(&looks, 1);
    if (e != MESH_OK) {
        return e == MESH_E_SNAPSHOT ? 0 : UINT64_MAX; /* a writer may starve a reader */
    }
    uint64_t tag = hit.endpoint.cookie;
    char name[MESH_SERVICE_MAX];
    snprintf(name, sizeof(name), "%llu-%u", (unsigned long long)tag, k);
    bool good = strcmp(name, hit.service.name) == 0 && strcmp(strrchr(hit.service.id, '/') + 1, name) == 0 &&
                hit.live == (uint32_t)tag && c.endpoint.cookie == tag && c.endpoint.id == k + 1 && tag >= least;
    return good ? tag : UINT64_MAX;
}

static _Atomic uint64_t wrong;

static uint64_t
look_on(uint32_t turns)
{
    uint64_t newest = 0;
    for (uint32_t i = 0; i < turns; i++) {
        uint64_t tag = look(i % SOME, newest);
        if (tag == UINT64_MAX) {
            atomic_fetch_add(&wrong, 1);
        } else if (tag) {
            newest = tag;
        }
    }
    return newest;
}

static void *
reader(void *arg)
{
    (void)arg;
    return (void *)(uintptr_t)look_on(100000);
}

static _Atomic uint32_t handled;

static void
on_alarm(int sig)
{
    (void)sig;
    uint32_t n = atomic_fetch_add(&handled, 1);
    if (look(n % SOME, 0) == UINT64_MAX) {
        atomic_fetch_add(&wrong, 1);
    }
}

START_TEST(threads_beside_a_writer)
{
    uint8_t *p = NULL;
    pthread_t w, r[2];
    void *newest[2];
    publish(SOME, 1);
    struct mesh_snap whole = meshd_snapfile_view();
    p = mmap(NULL, whole.size, PROT_READ, MAP_SHARED, meshd_snapfile_fd(), 0);
    ck_assert_ptr_ne(p, MAP_FAILED);
    shared = (struct mesh_snap){p, whole.size, &cache};
    struct sigaction act = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    ck_assert_int_eq(sigaction(SIGALRM, &act, NULL), 0);
    ck_assert_int_eq(pthread_create(&w, NULL, writer, NULL), 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_create(&r[i], NULL, reader, NULL), 0);
    }
    const struct itimerval often = {{0, 150}, {0, 150}}, never = {{0, 0}, {0, 0}};
    ck_assert_int_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_join(r[i], &newest[i]), 0);
    }
    while (atomic_load(&handled) < 100) {
        (void)look_on(100);
    }
    ck_assert_int_eq(setitimer(ITIMER_REAL, &never, NULL), 0);
    atomic_store(&stop, true);
    ck_assert_int_eq(pthread_join(w, NULL), 0);
    printf("%u signals; the readers saw up to %lu and %lu\n", atomic_load(&handled), (unsigned long)(uintptr_t)newest[0],
           (unsigned long)(uintptr_t)newest[1]);
    ck_assert_uint_eq(atomic_load(&wrong), 0);
    ck_assert(newest[0] && newest[1]);
    ck_assert_uint_ge(cache.next, SOME);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("snap_cache");
    TCase *t = tcase_create("snap_cache");
    tcase_add_checked_fixture(t, setup, kit_close);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, the_same_as_without);
    tcase_add_test(t, identities_of_any_length);
    tcase_add_test(t, another_number_is_another_content);
    tcase_add_test(t, an_area_that_is_written);
    tcase_add_test(t, a_front_that_is_damaged);
    tcase_add_test(t, more_than_have_room);
    tcase_add_test(t, a_writer_that_was_killed);
    tcase_add_test(t, child_of_vfork);
    tcase_add_test(t, hostile);
    tcase_add_test(t, threads_beside_a_writer);
    suite_add_tcase(s, t);
    return unit_run(s);
}
