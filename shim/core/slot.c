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

#include "shim/real.h"

struct region {
    _Atomic uint64_t slot_bits[SHIM_SLOTS / 64];
    _Atomic uint64_t spill_bits[SHIM_SPILLS / 64];
    _Atomic uint32_t slot_hint, spill_hint;
    struct shim_slot slot[SHIM_SLOTS];
    uint8_t spill[SHIM_SPILLS][SHIM_SPILL_SIZE];
};

static struct region *_Atomic region;

bool
shim_region_init(void)
{
    if (atomic_load(&region)) {
        return true;
    }
    void *p = mmap(NULL, sizeof(struct region), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        return false;
    }
    (void)madvise(p, sizeof(struct region), MADV_DONTDUMP); /* keys stay out of core files */
    struct region *none = NULL;
    if (!atomic_compare_exchange_strong(&region, &none, p)) {
        munmap(p, sizeof(struct region)); /* another thread was first */
    }
    return true;
}

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

#define GENERATIONS 0xfffu /* what fits a descriptor word beside the index */

struct shim_slot *
shim_slot_at(uint32_t handle)
{
    struct region *r = atomic_load_explicit(&region, memory_order_acquire);
    return r ? &r->slot[handle % SHIM_SLOTS] : NULL;
}

struct shim_slot *
shim_slot_current(uint32_t handle)
{
    struct shim_slot *s = shim_slot_at(handle);
    bool same = s && (atomic_load_explicit(&s->generation, memory_order_acquire) & GENERATIONS) ==
                         handle / SHIM_SLOTS;
    return same ? s : NULL;
}

static uint32_t
index_of(const struct shim_slot *s)
{
    return (uint32_t)(s - atomic_load_explicit(&region, memory_order_acquire)->slot);
}

uint32_t
shim_slot_handle(const struct shim_slot *s)
{
    return index_of(s) + (atomic_load(&s->generation) & GENERATIONS) * SHIM_SLOTS;
}

struct shim_slot *
shim_slot_alloc(void)
{
    struct region *r = atomic_load(&region);
    int i = r ? bit_get(r->slot_bits, SHIM_SLOTS / 64, &r->slot_hint) : -1;
    if (i < 0) {
        return NULL;
    }
    struct shim_slot *s = &r->slot[i];
    memset((char *)s + offsetof(struct shim_slot, phase), 0,
           sizeof(*s) - offsetof(struct shim_slot, phase));
    atomic_store(&s->refs, 1);
    return s;
}

void
shim_slot_free(struct shim_slot *s)
{
    struct region *r = atomic_load(&region);
    atomic_fetch_add(&s->generation, 1); /* first: from here on it is nobody's */
    atomic_store(&s->cookie, 0);
    atomic_store(&s->phase, SHIM_PHASE_FREE);
    shim_spill_put(s->rx_spill);
    shim_spill_put(s->tx_spill);
    s->rx_spill = s->tx_spill = 0;
    explicit_bzero(s->rx_key, sizeof(s->rx_key));
    explicit_bzero(s->tx_key, sizeof(s->tx_key));
    bit_put(r->slot_bits, index_of(s), &r->slot_hint);
}

uint32_t
shim_spill_get(void)
{
    struct region *r = atomic_load(&region);
    return (uint32_t)(bit_get(r->spill_bits, SHIM_SPILLS / 64, &r->spill_hint) + 1);
}

void
shim_spill_put(uint32_t spill)
{
    struct region *r = atomic_load(&region);
    if (spill > 0 && spill <= SHIM_SPILLS) {
        explicit_bzero(r->spill[spill - 1], SHIM_SPILL_SIZE);
        bit_put(r->spill_bits, spill - 1, &r->spill_hint);
    }
}

uint8_t *
shim_spill_at(uint32_t spill)
{
    struct region *r = atomic_load(&region);
    return spill > 0 && spill <= SHIM_SPILLS ? r->spill[spill - 1] : NULL;
}

/* A few buffers are kept for reuse, each claimed by exchange; more are mapped and unmapped. */
#define KEPT 16
static uint8_t *_Atomic kept[KEPT];

uint8_t *
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

void
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
