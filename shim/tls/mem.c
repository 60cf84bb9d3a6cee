/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks of up to SMALL_MAX come from chunks of memory that are mapped one after the other, lie in a list
 * for each size while they are free, and never go back to the system. What is larger is mapped by
 * itself; some of the size of OpenSSL's record buffers are kept for the next one.
 *
 *   | head: next, unit, size, class | block handed out ... |
 *
 * No lock: a handler that interrupts us finds all lists whole, and so does the child of a fork; all that
 * can be lost is the one block that was just on its way. A list is a word with the number of its first
 * block and a count of its changes, so that a compare-and-swap fails if the list was another one
 * meanwhile, even if it begins with the same block again [ABA]. Blocks are numbered in units of 16 bytes,
 * because number and count must fit into the word: 24 bits, and 40 that take hours to come round.
 * A block's head is always readable, whoever has the block.
 *
 * Why not the program's malloc: connect and accept may be called in a signal handler, above it.
 *
 * AddressSanitizer is told which bytes are in use, with a margin behind each block, so it sees the same
 * overflows and uses after free as with its own malloc; and its runs are of this code. That nothing
 * leaks is for tests/unit/test_tls_mem.c to say.
 */
#include "shim/tls/mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <openssl/crypto.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define MARGIN          16u
#define FORBID(p, n)    __asan_poison_memory_region((p), (n))
#define ALLOW(p, n)     __asan_unpoison_memory_region((p), (n))
#else
#define MARGIN          0u
#define FORBID(p, n)    ((void)(p), (void)(n))
#define ALLOW(p, n)     ((void)(p), (void)(n))
#endif

/* In a build for tests, which lets each single request fail. */
#ifdef SHIM_MEM_MAY_LACK
int SHIM_MEM_MAY_LACK(void) __attribute__((weak, visibility("default")));
#define REFUSED() (SHIM_MEM_MAY_LACK && SHIM_MEM_MAY_LACK())
#else
#define REFUSED() 0
#endif

#define UNIT        16u
#define CHUNK_UNITS 4096u /* 64 KB */
#define CHUNKS      4096u
#define SMALL_MAX   8192u /* bytes, head included */
#define CLASSES     31u   /* steps of 16 to 128, then four for each doubling */
#define MAPPED      255u  /* instead of a class */
#define KEPT        8u
#define KEPT_BYTES  32768u /* a record with its head and OpenSSL's */
#define LARGEST     (1u << 30)
#define NUMBER      UINT64_C(0xffffff)

struct head {
    _Atomic uint32_t next; /* number of the next free block, 0: none */
    uint32_t unit;         /* the block's own number; MAPPED: how many it is long */
    uint32_t size;         /* what was asked for */
    uint32_t class;
};
_Static_assert(sizeof(struct head) == UNIT, "keeps malloc's alignment");
_Static_assert(CHUNKS * CHUNK_UNITS - 1 <= NUMBER, "a block's number");

static uint8_t *_Atomic chunk[CHUNKS]; /* the first is never used: no block has number 0 */
static _Atomic uint32_t fresh = CHUNK_UNITS; /* number of the first unit that never was a block */
static _Atomic uint64_t list[CLASSES];
static struct head *_Atomic kept[KEPT];
static _Thread_local unsigned lacks;

unsigned
shim_mem_lacks(void)
{
    return lacks;
}

size_t
shim_mem_taken(void)
{
    return ((size_t)atomic_load(&fresh) - CHUNK_UNITS) * UNIT;
}

void
shim_mem_wipe(void *p, size_t n)
{
    if (p != NULL && n > 0)
        explicit_bzero(p, n);
}

/* Not in core files: much of it is secret. */
static void *
map(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    (void)madvise(p, n, MADV_DONTDUMP);
    return p;
}

/* ---- classes ---- */

static unsigned
class_units(unsigned c)
{
    return c < 7 ? c + 2 : (5 + (c - 7) % 4) << ((c - 7) / 4 + 1);
}

/* The smallest that has room for so many units. */
static unsigned
class_of(unsigned units)
{
    if (units <= 8)
        return units < 2 ? 0 : units - 2;
    unsigned e = 31 - (unsigned)__builtin_clz(units - 1); /* 2^e < units <= 2^(e + 1) */
    return 7 + (e - 3) * 4 + ((units - 1 - (1u << e)) >> (e - 2));
}

/* ---- lists ---- */

static struct head *
block_at(uint32_t number)
{
    uint8_t *base = atomic_load_explicit(&chunk[number / CHUNK_UNITS], memory_order_acquire);
    return (struct head *)(void *)(base + (size_t)(number % CHUNK_UNITS) * UNIT);
}

static uint64_t
changed(uint64_t was, uint32_t first)
{
    return ((was | NUMBER) + 1) | first;
}

/* Release order, and acquire in pop: who takes the block sees it wiped. */
static void
push(struct head *h)
{
    _Atomic uint64_t *l = &list[h->class];
    uint64_t was = atomic_load_explicit(l, memory_order_relaxed);
    do {
        atomic_store_explicit(&h->next, (uint32_t)(was & NUMBER), memory_order_relaxed);
    } while (!atomic_compare_exchange_weak_explicit(l, &was, changed(was, h->unit),
                                                    memory_order_release, memory_order_relaxed));
}

static struct head *
pop(unsigned class)
{
    _Atomic uint64_t *l = &list[class];
    uint64_t was = atomic_load_explicit(l, memory_order_acquire);
    while ((was & NUMBER) != 0) {
        struct head *h = block_at((uint32_t)(was & NUMBER));
        uint32_t next = atomic_load_explicit(&h->next, memory_order_relaxed);
        if (atomic_compare_exchange_weak_explicit(l, &was, changed(was, next),
                                                  memory_order_acquire, memory_order_acquire))
            return h;
    }
    return NULL;
}

/* ---- chunks ---- */

static int
chunk_have(uint32_t i)
{
    uint8_t *none = NULL;
    if (i >= CHUNKS)
        return 0;
    if (atomic_load_explicit(&chunk[i], memory_order_acquire) != NULL)
        return 1;
    uint8_t *p = map((size_t)CHUNK_UNITS * UNIT);
    if (p == NULL)
        return 0;
    if (!atomic_compare_exchange_strong(&chunk[i], &none, p))
        (void)munmap(p, (size_t)CHUNK_UNITS * UNIT); /* another thread's is in place */
    return 1;
}

static struct head *
block_make(uint32_t number, unsigned class)
{
    struct head *h = block_at(number);
    h->unit = number;
    h->class = class;
    FORBID(h + 1, class_units(class) * UNIT - UNIT);
    return h;
}

/* The rest of a chunk, too short for who came last. */
static void
scatter(uint32_t number, unsigned units)
{
    while (units >= 2) {
        unsigned class = class_of(units), n = 0;
        class = class < CLASSES ? class : CLASSES - 1;
        class -= class_units(class) > units;
        n = class_units(class);
        push(block_make(number, class));
        number += n;
        units -= n;
    }
}

static struct head *
carve(unsigned class)
{
    unsigned units = class_units(class);
    uint32_t at = atomic_load(&fresh);
    for (;;) {
        if (!chunk_have(at / CHUNK_UNITS))
            return NULL;
        unsigned left = CHUNK_UNITS - at % CHUNK_UNITS, take = units <= left ? units : left;
        if (!atomic_compare_exchange_weak(&fresh, &at, at + take))
            continue;
        if (take == units)
            return block_make(at, class);
        scatter(at, take);
        at += take;
    }
}

/* ---- blocks of their own ---- */

static struct head *
mapped_new(size_t bytes)
{
    for (unsigned i = 0; bytes <= KEPT_BYTES && i < KEPT; i++) {
        struct head *h = atomic_load(&kept[i]) != NULL ? atomic_exchange(&kept[i], NULL) : NULL;
        if (h != NULL)
            return h;
    }
    bytes = bytes <= KEPT_BYTES ? KEPT_BYTES : bytes;
    struct head *h = map(bytes);
    if (h != NULL) {
        h->unit = (uint32_t)((bytes + UNIT - 1) / UNIT);
        h->class = MAPPED;
    }
    return h;
}

static void
mapped_free(struct head *h)
{
    size_t bytes = (size_t)h->unit * UNIT;
    for (unsigned i = 0; bytes == KEPT_BYTES && i < KEPT; i++) {
        struct head *none = NULL;
        if (atomic_compare_exchange_strong(&kept[i], &none, h))
            return;
    }
    ALLOW(h, bytes);
    (void)munmap(h, bytes);
}

/* ---- what OpenSSL calls ---- */

static size_t
room_of(const struct head *h)
{
    size_t units = h->class == MAPPED ? h->unit : class_units(h->class);
    return units * UNIT - sizeof(*h) - MARGIN;
}

static struct head *
head_of(void *p)
{
    return (struct head *)p - 1;
}

static void
set_size(struct head *h, size_t n)
{
    h->size = (uint32_t)n;
    ALLOW(h + 1, n);
    FORBID((uint8_t *)(h + 1) + n, room_of(h) + MARGIN - n);
}

static void *
block_new(size_t n, const char *file, int line)
{
    (void)file, (void)line;
    struct head *h = NULL;
    size_t bytes = n + sizeof(*h) + MARGIN;
    if (n == 0)
        return NULL;
    if (REFUSED()) {
        lacks++;
        return NULL;
    }
    if (n < SMALL_MAX && bytes <= SMALL_MAX) {
        unsigned class = class_of((unsigned)((bytes + UNIT - 1) / UNIT));
        h = pop(class);
        h = h != NULL ? h : carve(class);
    }
    if (h == NULL && n <= LARGEST)
        h = mapped_new(bytes);
    if (h == NULL) {
        lacks++;
        return NULL;
    }
    set_size(h, n);
    return h + 1;
}

static void
block_free(void *p, const char *file, int line)
{
    (void)file, (void)line;
    if (p == NULL)
        return;
    struct head *h = head_of(p);
    explicit_bzero(p, h->size);
    FORBID(p, room_of(h));
    if (h->class == MAPPED)
        mapped_free(h);
    else
        push(h);
}

static void *
block_resize(void *p, size_t n, const char *file, int line)
{
    if (p == NULL)
        return block_new(n, file, line);
    if (n == 0) {
        block_free(p, file, line);
        return NULL;
    }
    struct head *h = head_of(p);
    size_t had = h->size;
    if (n <= had)
        return p; /* the tail stays under the head's size and is wiped with the rest */
    if (n <= room_of(h)) {
        set_size(h, n);
        return p;
    }
    void *q = block_new(n, file, line);
    if (q == NULL)
        return NULL;
    memcpy(q, p, had);
    block_free(p, file, line);
    return q;
}

void
shim_mem_init(void)
{
    /* Fails only when OpenSSL has allocated already: in a test that made its certificates first. */
    (void)CRYPTO_set_mem_functions(block_new, block_resize, block_free);
}
