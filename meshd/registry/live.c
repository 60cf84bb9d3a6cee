/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_live: see live.h.
 *
 * Whoever has a writable file could cut it, and its other users would die of SIGBUS: so it is a memfd
 * whose size is sealed. It does not outlive meshd; the next one makes another, with another number, and
 * processes that see that number in the snapshot ask again.
 */
#include "meshd/registry/live.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "common/limits.h"
#include "meshd/base/log.h"
#include "meshd/registry/limits.h"
#include "meshd/registry/registry.h"
#include "meshd/registry/service.h"
#include "meshd/stats/stats.h"

static struct mesh_live *live;
static int file = -1;
static uint32_t number;

/* What the pages know, and how far a count was off in the last round. */
struct tally {
    uint32_t before, known; /* the count before the pages were read, and what they say */
    uint32_t lasting;       /* of what they say: it was there in the last round, too */
    int64_t off;
};
static uint64_t began, last_began; /* this round and the one before, CLOCK_REALTIME ns as on the pages */
static struct {
    struct tally active;
    uint16_t owner; /* its service's entry + 1 */
} endpoint[MESH_LIVE_ENDPOINTS];
static struct {
    bool here;
    struct tally active, pending, retries, ejected;
} service[MESH_LIVE_SERVICES];

void
meshd_live_init(void)
{
    void *p = MAP_FAILED;
    file = memfd_create("mesh-live", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (file >= 0 && ftruncate(file, sizeof(*live)) == 0 &&
        fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0 &&
        getrandom(&number, sizeof(number), 0) == (ssize_t)sizeof(number)) {
        p = mmap(NULL, sizeof(*live), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    if (p == MAP_FAILED) {
        log_warn("no shared live state: %s; each process counts for itself", strerror(errno));
        meshd_live_fini();
        return;
    }
    live = p;
    live->magic = MESH_LIVE_MAGIC;
    number = number ? number : 1;
}

void
meshd_live_fini(void)
{
    if (live) {
        munmap(live, sizeof(*live));
    }
    if (file >= 0) {
        close(file);
    }
    live = NULL;
    file = -1;
    number = 0;
}

uint32_t
meshd_live_id(void)
{
    return live ? number : 0;
}

int
meshd_live_fd(void)
{
    return fcntl(file, F_DUPFD_CLOEXEC, 0);
}

static bool
is_used(uint32_t i)
{
    return atomic_load_explicit(&live->used[i / 64], memory_order_relaxed) >> i % 64 & 1;
}

struct mesh_live_endpoint *
meshd_live_endpoint(uint32_t id)
{
    uint32_t i = id % MESH_LIVE_ENDPOINTS;
    return live && is_used(i) ? &live->endpoint[i] : NULL;
}

struct mesh_live_endpoint *
meshd_live_use(uint32_t id)
{
    uint32_t i = id % MESH_LIVE_ENDPOINTS;
    if (live) {
        atomic_fetch_or_explicit(&live->used[i / 64], UINT64_C(1) << i % 64, memory_order_relaxed);
    }
    return live ? &live->endpoint[i] : NULL;
}

uint32_t
meshd_live_count(uint32_t id)
{
    const struct mesh_live_endpoint *l = meshd_live_endpoint(id);
    return l ? atomic_load_explicit(&l->active, memory_order_relaxed) : 0;
}

struct mesh_live_service *
meshd_live_service(uint32_t entry)
{
    return live ? &live->service[entry % MESH_LIVE_SERVICES] : NULL;
}

static int
own(const struct meshd_endpoint *e, void *arg)
{
    const struct meshd_service_entry *s = meshd_service_find(e->service);
    (void)arg;
    if (s) {
        service[s->live].here = true;
        endpoint[e->id % MESH_LIVE_ENDPOINTS].owner = (uint16_t)(s->live + 1);
    }
    return 0;
}

static void
add(struct tally *t, bool lasting)
{
    t->known++;
    t->lasting += lasting;
}

static int
count_ejected(const struct meshd_endpoint *e, void *arg)
{
    const struct mesh_live_endpoint *l = meshd_live_endpoint(e->id);
    uint32_t s = endpoint[e->id % MESH_LIVE_ENDPOINTS].owner;
    (void)arg;
    if (l && s && atomic_load_explicit(&l->ejected, memory_order_relaxed) >> 24 != 0) {
        add(&service[s - 1].ejected, true);
    }
    return 0;
}

static int
count(const struct meshd_conn *c, void *arg)
{
    (void)arg;
    if (c->endpoint && !c->uncounted) {
        uint32_t i = (c->endpoint - 1) % MESH_LIVE_ENDPOINTS, s = endpoint[i].owner;
        bool lasting = c->opened_ns < last_began;
        add(&endpoint[i].active, lasting);
        if (s) {
            add(&service[s - 1].active, lasting);
            service[s - 1].pending.known += c->state == MESH_CONN_HANDSHAKE;
        }
    }
    return 0;
}

/* What began or ended while the pages were read is no difference: it has to be there before and after, and in
 * two rounds. `adds`: also what is missing, and that only of connections that were there before the last round: one
 * page shows a connection that ends then, the next one another that begins, and never were there both. */
static void
settle(_Atomic uint32_t *counter, struct tally *t, bool adds)
{
    uint32_t n = atomic_load_explicit(counter, memory_order_relaxed);
    uint32_t low = n < t->before ? n : t->before, high = n > t->before ? n : t->before;
    int64_t now = low > t->known ? (int64_t)low - t->known : high < t->lasting ? (int64_t)high - t->lasting : 0;
    int64_t lasting = 0;
    if (now > 0 && t->off > 0) {
        lasting = now < t->off ? now : t->off;
    } else if (now < 0 && t->off < 0 && adds) {
        lasting = now > t->off ? now : t->off;
    }
    if (lasting) {
        (void)atomic_compare_exchange_strong(counter, &n, (uint32_t)(n - lasting));
    }
    t->off = now - lasting;
}

static void
begin(_Atomic uint32_t *counter, struct tally *t)
{
    t->known = t->lasting = 0;
    t->before = atomic_load_explicit(counter, memory_order_relaxed);
}

static void
begin_all(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    last_began = began;
    began = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
    for (uint32_t i = 0; i < MESH_LIVE_ENDPOINTS; i++) {
        endpoint[i].active.known = endpoint[i].active.lasting = endpoint[i].active.before = 0;
        if (is_used(i)) {
            begin(&live->endpoint[i].active, &endpoint[i].active);
        }
    }
    for (uint32_t i = 0; i < MESH_LIVE_SERVICES; i++) {
        struct mesh_live_service *s = &live->service[i];
        if (service[i].here) { /* the others' memory is not made real */
            begin(&s->active, &service[i].active);
            begin(&s->pending, &service[i].pending);
            begin(&s->retries, &service[i].retries);
            begin(&s->ejected, &service[i].ejected);
        }
    }
}

static void
settle_services(void)
{
    for (uint32_t i = 0; i < MESH_LIVE_SERVICES; i++) {
        struct mesh_live_service *s = &live->service[i];
        if (service[i].here) {
            service[i].retries.known = service[i].pending.known; /* no more than these, at most */
            settle(&s->active, &service[i].active, true);
            settle(&s->pending, &service[i].pending, false);
            settle(&s->retries, &service[i].retries, false);
            settle(&s->ejected, &service[i].ejected, true);
        }
    }
}

void
meshd_live_correct(void)
{
    if (!live) {
        return;
    }
    for (uint32_t i = 0; i < MESH_LIVE_ENDPOINTS; i++) {
        endpoint[i].owner = 0;
    }
    meshd_registry_visit_endpoints(own, NULL);
    begin_all();
    meshd_registry_visit_endpoints(count_ejected, NULL);
    meshd_stats_visit_active(count, NULL);
    for (uint32_t i = 0; i < MESH_LIVE_ENDPOINTS; i++) {
        if (is_used(i) || endpoint[i].active.known) {
            settle(&meshd_live_use(i)->active, &endpoint[i].active, true);
        }
    }
    settle_services();
    meshd_limits_correct(live->limit);
}

void
meshd_registry_sharing(const char *name, uint32_t *opened, uint32_t *accepted)
{
    *opened = live ? meshd_limits_count(live->limit, name, MESH_LIMIT_OPENED) : 0;
    *accepted = live ? meshd_limits_count(live->limit, name, MESH_LIMIT_ACCEPTED) : 0;
}
