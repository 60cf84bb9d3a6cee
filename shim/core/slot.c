/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_slot: see slot.h. Allocation is lock-free: a bit a slot (and a spill) in the region,
 * claimed by compare-and-swap, so a process that dies while allocating blocks nobody. Pages are
 * real only where used.
 */
#include "shim/core/slot.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/core/fdtab.h"
#include "shim/core/region.h"
#include "shim/real.h"

/* Claims a free bit of `words` words, starting at *hint; -1 when all are taken. */
static int
bit_get(_Atomic uint64_t *bits, unsigned words, _Atomic uint32_t *hint)
{
    unsigned start = atomic_load_explicit(hint, memory_order_relaxed);
    for (unsigned i = 0; i < words; i++) {
        unsigned w = (start + i) % words;
        uint64_t v = atomic_load(&bits[w]);
        while (~v) {
            int b = __builtin_ctzll(~v);
            if (atomic_compare_exchange_weak(&bits[w], &v, v | UINT64_C(1) << b)) {
                atomic_store_explicit(hint, w, memory_order_relaxed);
                return (int)w * 64 + b;
            }
        }
    }
    return -1;
}

static void
bit_put(_Atomic uint64_t *bits, unsigned i, _Atomic uint32_t *hint)
{
    atomic_fetch_and(&bits[i / 64], ~(UINT64_C(1) << (i % 64)));
    if (i / 64 < atomic_load_explicit(hint, memory_order_relaxed)) {
        atomic_store_explicit(hint, i / 64, memory_order_relaxed); /* low slots are warm */
    }
}

/* A handle: region << 25 | generation << 16 | index, which is what a descriptor word has room for. */
#define GENERATIONS 0x1ffu
#define REGION_SHIFT 25
_Static_assert(SHIM_REGIONS << REGION_SHIFT <= 1u << SHIM_FD_KIND_SHIFT && SHIM_SLOTS == 1u << 16, "handle");

struct shim_slot *
shim_slot_at(uint32_t handle)
{
    struct shim_region *r = shim_region_at(handle >> REGION_SHIFT);
    return r ? &r->slot[handle % SHIM_SLOTS] : NULL;
}

__attribute__((hot)) struct shim_slot *
shim_slot_current(uint32_t handle)
{
    struct shim_slot *s = shim_slot_at(handle);
    uint32_t generation = handle >> 16 & GENERATIONS;
    bool same = s && (atomic_load_explicit(&s->generation, memory_order_acquire) & GENERATIONS) ==
                         generation;
    return same ? s : NULL;
}

static struct shim_region *
region_of(const struct shim_slot *s)
{
    return shim_region_at(shim_region_index(s));
}

static uint32_t
index_of(const struct shim_slot *s)
{
    return (uint32_t)(s - region_of(s)->slot);
}

uint32_t
shim_slot_handle(const struct shim_slot *s)
{
    return shim_region_index(s) << REGION_SHIFT |
           (atomic_load(&s->generation) & GENERATIONS) << 16 | index_of(s);
}

unsigned
shim_slot_region(uint32_t handle)
{
    return handle >> REGION_SHIFT;
}

struct shim_slot *
shim_slot_alloc(void)
{
    struct shim_region *r = shim_region();
    int i = r ? bit_get(r->slot_bits, SHIM_SLOTS / 64, &r->slot_hint) : -1;
    if (i < 0) {
        return NULL;
    }
    struct shim_slot *s = &r->slot[i];
    memset((char *)s + offsetof(struct shim_slot, phase), 0,
           sizeof(*s) - offsetof(struct shim_slot, phase));
    atomic_fetch_add_explicit(&r->allocs, 1, memory_order_relaxed);
    shim_slot_hold(s, shim_fdtab_owner(), 1);
    return s;
}

/* A holder's word: pid, since when, its share. Numbers of processes come round (on a busy host in
 * minutes), so when the process was there first tells it from one that has its number later. */
static int
pid_in(uint64_t word)
{
    return (int)(word >> 42); /* [proc(5)] pid_max is at most 2^22 */
}

static uint32_t
since_in(uint64_t word)
{
    return (uint32_t)(word >> 16) & 0x3ffffff; /* seconds since boot: two years */
}

static uint32_t
share_in(uint64_t word)
{
    return (uint32_t)word & 0xffff;
}

static uint64_t
holder(int pid, uint32_t since, uint32_t n)
{
    return (uint64_t)(uint32_t)pid << 42 | (uint64_t)(since & 0x3ffffff) << 16 | n;
}

static uint32_t
seconds_since_boot(void)
{
    struct timespec ts = {0, 0};
    (void)shim_real_clock(CLOCK_BOOTTIME, &ts);
    return (uint32_t)ts.tv_sec;
}

static bool
name(struct shim_slot *s, int pid, uint32_t n)
{
    for (unsigned i = 0; i < 2 * SHIM_HOLDERS; i++) { /* its own entry first, then a free one */
        _Atomic uint64_t *h = &s->holder[i % SHIM_HOLDERS];
        uint64_t seen = atomic_load(h);
        while ((i < SHIM_HOLDERS ? seen && pid_in(seen) == pid : share_in(seen) == 0) &&
               share_in(seen) + n <= 0xffff) {
            uint32_t since = pid_in(seen) == pid && share_in(seen) ? since_in(seen) : seconds_since_boot();
            if (atomic_compare_exchange_weak(h, &seen, holder(pid, since, share_in(seen) + n))) {
                return true;
            }
        }
    }
    return false;
}

void
shim_slot_hold(struct shim_slot *s, int pid, uint32_t n)
{
    atomic_fetch_add(&s->refs, n);
    shim_slot_name(s, pid, n);
}

uint32_t
shim_slot_release(struct shim_slot *s, int pid, uint32_t n)
{
    for (unsigned i = 0; i < SHIM_HOLDERS; i++) {
        uint64_t seen = atomic_load(&s->holder[i]);
        while (pid_in(seen) == pid && share_in(seen) > 0) {
            uint32_t rest = share_in(seen) > n ? share_in(seen) - n : 0;
            uint64_t less = holder(pid, since_in(seen), rest);
            if (!atomic_compare_exchange_weak(&s->holder[i], &seen, less)) {
                continue;
            }
            uint32_t left = atomic_fetch_sub(&s->refs, n) - n;
            if (left > 0 && rest == 0) { /* else the name stays: we are to end it */
                atomic_compare_exchange_strong(&s->holder[i], &less, 0);
            }
            return left;
        }
    }
    return atomic_fetch_sub(&s->refs, n) - n; /* one of those for whom there was no room */
}

static struct shim_slot *
find_in(struct shim_region *r, uint64_t cookie)
{
    for (unsigned w = 0; w < SHIM_SLOTS / 64; w++) {
        uint64_t v = atomic_load_explicit(&r->slot_bits[w], memory_order_relaxed);
        for (; v; v &= v - 1) {
            struct shim_slot *s = &r->slot[w * 64 + (unsigned)__builtin_ctzll(v)];
            if (atomic_load(&s->cookie) == cookie) {
                return s;
            }
        }
    }
    return NULL;
}

struct shim_slot *
shim_slot_find(uint64_t cookie)
{
    struct shim_slot *s = NULL;
    for (unsigned i = 0; i < SHIM_REGIONS && cookie && !s; i++) {
        struct shim_region *r = shim_region_at(i);
        s = r ? find_in(r, cookie) : NULL;
    }
    return s;
}

/* Takes back the shares of processes that are no more; *alive: others hold s, or one of them is about
 * to end it (whoever took the last share left his name). True when something was taken back. */
static bool
prune(struct shim_slot *s, int but, bool *alive)
{
    bool dead = false;
    *alive = atomic_load(&s->crowded);
    for (unsigned i = 0; i < SHIM_HOLDERS && !atomic_load(&s->crowded); i++) {
        uint64_t seen = atomic_load(&s->holder[i]);
        if (seen == 0 || pid_in(seen) == but) {
            continue;
        }
        if (!shim_lock_is_gone_since(pid_in(seen), since_in(seen))) {
            *alive = true;
        } else if (atomic_compare_exchange_strong(&s->holder[i], &seen, holder(pid_in(seen), since_in(seen), 0))) {
            atomic_fetch_sub(&s->refs, share_in(seen));
            dead = true;
        }
    }
    return dead;
}

void
shim_slot_name(struct shim_slot *s, int pid, uint32_t n)
{
    bool alive;
    if (n == 0 || name(s, pid, n)) {
        return;
    }
    bool room = shim_region_index(s) == 0 && shim_region_pids_visible() && prune(s, pid, &alive);
    if (!room || !name(s, pid, n)) {
        atomic_store(&s->crowded, 1);
    }
}

static bool
take_back(struct shim_slot *s)
{
    bool alive;
    return prune(s, 0, &alive) && !alive && atomic_load(&s->refs) == 0;
}

bool
shim_slot_is_only(struct shim_slot *s, int pid)
{
    bool alive;
    uint32_t mine = shim_slot_share(s, pid);
    if (atomic_load(&s->refs) != mine && shim_region_index(s) == 0 && shim_region_pids_visible()) {
        (void)prune(s, pid, &alive);
    }
    return atomic_load(&s->refs) == mine;
}

uint32_t
shim_slot_share(const struct shim_slot *s, int pid)
{
    uint32_t had = 0;
    for (unsigned i = 0; i < SHIM_HOLDERS; i++) {
        uint64_t seen = atomic_load(&s->holder[i]);
        had += pid_in(seen) == pid ? share_in(seen) : 0;
    }
    return had;
}

/* The share of pid in s becomes n; true when nobody is left. */
static bool
correct(struct shim_slot *s, int pid, uint32_t n)
{
    uint32_t had = shim_slot_share(s, pid);
    if (n > had) {
        shim_slot_hold(s, pid, n - had);
    }
    return n < had && shim_slot_release(s, pid, had - n) == 0;
}

void
shim_slot_end_unheld(struct shim_slot *s, void (*last)(struct shim_slot *s))
{
    uint32_t generation = atomic_load(&s->generation);
    if (!shim_lock_get(&s->rx_lock)) {
        return;
    }
    if (shim_lock_get(&s->tx_lock)) {
        if (atomic_load(&s->generation) == generation && atomic_load(&s->cookie) &&
            atomic_load(&s->refs) == 0) {
            last(s);
        }
        shim_lock_put(&s->tx_lock);
    }
    shim_lock_put(&s->rx_lock);
}

static void
for_slots(struct shim_region *r, void (*each)(struct shim_slot *s, void *arg), void *arg)
{
    for (unsigned w = 0; w < SHIM_SLOTS / 64; w++) {
        uint64_t v = atomic_load_explicit(&r->slot_bits[w], memory_order_relaxed);
        for (; v; v &= v - 1) {
            each(&r->slot[w * 64 + (unsigned)__builtin_ctzll(v)], arg);
        }
    }
}

struct recount {
    int pid;
    void (*last)(struct shim_slot *s);
};

static void
recount_one(struct shim_slot *s, void *arg)
{
    const struct recount *c = arg;
    uint32_t word = SHIM_FD_WORD(SHIM_FD_CONN, shim_slot_handle(s)), n = 0;
    for (int fd = 0, end = shim_fdtab_limit(); fd < end; fd++) {
        n += shim_fd_word(fd) == word;
    }
    if (atomic_load(&s->cookie) && correct(s, c->pid, n)) {
        shim_slot_end_unheld(s, c->last);
    }
}

void
shim_slot_recount(int pid, void (*last)(struct shim_slot *s))
{
    struct recount c = {pid, last};
    for_slots(shim_region(), recount_one, &c);
}

#define SWEEP_EVERY 1024u

static void
sweep_one(struct shim_slot *s, void *arg)
{
    void (**last)(struct shim_slot *) = arg;
    if (atomic_load(&s->cookie) && take_back(s)) {
        shim_slot_end_unheld(s, *last);
    }
}

void
shim_slot_sweep(void (*last)(struct shim_slot *s))
{
    struct shim_region *r = shim_region();
    uint32_t n = r ? atomic_load_explicit(&r->allocs, memory_order_relaxed) : 0;
    if (n < SWEEP_EVERY || !atomic_compare_exchange_strong(&r->allocs, &n, 0)) {
        return;
    }
    if (!shim_region_pids_visible()) {
        return;
    }
    for_slots(r, sweep_one, &last);
}

void
shim_slot_whole(struct shim_slot *s, bool on)
{
    if (shim_slot_has(s, SHIM_SF_RX_WHOLE) != on) {
        struct shim_region *r = region_of(s);
        atomic_fetch_xor(&s->flags, SHIM_SF_RX_WHOLE);
        atomic_fetch_add(&r->whole, on ? 1 : (uint32_t)-1);
    }
}

void
shim_slot_ask(struct shim_slot *s)
{
    if (!(atomic_fetch_or(&s->urgent, SHIM_URGENT_ASKED) & SHIM_URGENT_ASKED)) {
        atomic_fetch_add(&region_of(s)->whole, 1);
    }
}

bool
shim_slot_any_whole(void)
{
    for (unsigned i = 0; i <= atomic_load_explicit(&shim_region_last, memory_order_relaxed); i++) {
        const struct shim_region *r = shim_region_at(i);
        if (r && atomic_load_explicit(&r->whole, memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

static void
empty(struct shim_slot *s)
{
    shim_slot_whole(s, false);
    if (atomic_exchange(&s->urgent, 0) & SHIM_URGENT_ASKED) {
        atomic_fetch_sub(&region_of(s)->whole, 1);
    }
    shim_spill_put(s, SHIM_ONCE(s->rx_spill));
    shim_spill_put(s, atomic_load(&s->tx_spill));
    s->rx_spill = 0; /* atomic: no chain of assignments, for clang */
    s->tx_spill = 0;
    explicit_bzero(s->rx_key, sizeof(s->rx_key));
    explicit_bzero(s->tx_key, sizeof(s->tx_key));
}

/* Copies of the handshake that other processes have are none of the next one's: hs_step goes on. */
void
shim_slot_renew(struct shim_slot *s)
{
    uint32_t step = atomic_load(&s->hs_step) + 1;
    uint8_t crowded = atomic_load(&s->crowded);
    const size_t until = offsetof(struct shim_slot, hs_step), from = until + sizeof(s->hs_step);
    empty(s);
    atomic_store(&s->hs_step, step);
    memset((char *)s + offsetof(struct shim_slot, flags), 0, until - offsetof(struct shim_slot, flags));
    memset((char *)s + from, 0, sizeof(*s) - from);
    atomic_store(&s->early_sent, 0);
    atomic_store(&s->crowded, crowded);
    atomic_store(&s->phase, SHIM_PHASE_FRESH);
}

void
shim_slot_free(struct shim_slot *s)
{
    struct shim_region *r = region_of(s);
    atomic_fetch_add(&s->generation, 1); /* first: from here on it is nobody's */
    atomic_store(&s->cookie, 0);
    atomic_store(&s->phase, SHIM_PHASE_FREE);
    empty(s);
    bit_put(r->slot_bits, index_of(s), &r->slot_hint);
}

bool
shim_slot_free_once(struct shim_slot *s, uint64_t cookie)
{
    bool mine = atomic_compare_exchange_strong(&s->cookie, &cookie, 0);
    if (mine) {
        shim_slot_free(s);
    }
    return mine;
}

uint32_t
shim_spill_get(const struct shim_slot *s)
{
    struct shim_region *r = region_of(s);
    return (uint32_t)(bit_get(r->spill_bits, SHIM_SPILLS / 64, &r->spill_hint) + 1);
}

void
shim_spill_put(const struct shim_slot *s, uint32_t spill)
{
    struct shim_region *r = region_of(s);
    if (spill > 0 && spill <= SHIM_SPILLS) {
        explicit_bzero(r->spill[spill - 1], SHIM_SPILL_SIZE);
        bit_put(r->spill_bits, spill - 1, &r->spill_hint);
    }
}

uint8_t *
shim_spill_at(const struct shim_slot *s, uint32_t spill)
{
    struct shim_region *r = region_of(s);
    return spill > 0 && spill <= SHIM_SPILLS ? r->spill[spill - 1] : NULL;
}

struct shim_part
shim_spill_part(const struct shim_slot *s, uint32_t spill, uint32_t off, uint32_t len)
{
    uint8_t *at = shim_spill_at(s, spill);
    size_t end = len < SHIM_SPILL_SIZE ? len : SHIM_SPILL_SIZE - 1;
    size_t from = off < end ? off : end;
    return at ? (struct shim_part){at + from, end - from} : (struct shim_part){NULL, 0};
}

/* A few buffers are kept for reuse, each claimed by exchange; more are mapped and unmapped. */
#define KEPT 16
static uint8_t *_Atomic kept[KEPT];

__attribute__((hot)) uint8_t *
shim_scratch_get(void)
{
    for (unsigned i = 0; i < KEPT; i++) {
        if (atomic_load_explicit(&kept[i], memory_order_relaxed)) {
            uint8_t *p = atomic_exchange(&kept[i], NULL);
            if (p) {
                return p;
            }
        }
    }
    void *p = mmap(NULL, SHIM_SCRATCH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

__attribute__((hot)) void
shim_scratch_put(uint8_t *p)
{
    for (unsigned i = 0; p && i < KEPT; i++) {
        uint8_t *none = NULL;
        if (!atomic_load_explicit(&kept[i], memory_order_relaxed) &&
            atomic_compare_exchange_strong(&kept[i], &none, p)) {
            return;
        }
    }
    if (p) {
        munmap(p, SHIM_SCRATCH);
    }
}

uint64_t
shim_cookie(int fd)
{
    uint64_t v = 0;
    socklen_t len = sizeof(v);
    return sys_getsockopt(fd, SOL_SOCKET, 57 /* SO_COOKIE */, &v, &len) == 0 ? v : 0;
}
