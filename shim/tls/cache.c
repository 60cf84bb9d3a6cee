/* SPDX-License-Identifier: Apache-2.0
 *
 * The cache of key schedules: sets of eight entries, so that some hundred keys in use hardly ever
 * drive each other out; what tells them apart is one cache line. The set is chosen by the IV, not by the key: which set is touched shows
 * to whoever shares the CPU's caches, and an IV need not be secret.
 *
 * Each entry has a try-lock and nobody ever waits for it: who finds all entries of a set locked
 * works with a temporary context. Locks and keys lie in memory that a fork wipes, so that the
 * child finds no lock held by a thread that it does not have. Contexts and shim_gcm lie outside of it
 * and are inherited; whatever a thread of the parent was doing to one, setting a key starts it afresh.
 * For that reason a context is complete before it is published, and never changes its cipher.
 *
 * An entry has the key in two shapes, each made when it is first needed: shim_gcm for short records
 * and a context for the rest. Both are allocated with the entry, so that no record allocates.
 */
#include "shim/tls/cache.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "shim/tls/mem.h"

#define SETS    64u /* a power of two */
#define WAYS    SHIM_CACHE_WAYS
#define ENTRIES (SETS * WAYS)
#define NONE    ENTRIES

struct shim_cache_entry {
    uint8_t seal;
    uint8_t keyed, gcm_keyed; /* the suite's context, shim_gcm has this key; else it has none */
    uint16_t suite;
    uint8_t key[32];
};

/* What a search looks at first, close together. */
struct mark {
    /* From the key's IV; 0: no key. Without the lock it is a hint whether to take it (relaxed). */
    _Atomic uint32_t tag;
    /* Acquire to lock, release to unlock: guards all of the entry. Zero is unlocked. */
    atomic_flag busy;
};

static struct cache {
    struct mark mark[ENTRIES];
    struct shim_cache_entry entry[ENTRIES];
} *cache; /* NULL: none; set once by shim_cache_init */
static EVP_CIPHER_CTX *_Atomic contexts[ENTRIES][SHIM_SUITES];
static struct shim_gcm *_Atomic gcms[ENTRIES];
static _Atomic uint32_t turn[SETS]; /* which entry is the next to go; any value will do (relaxed) */

void
shim_cache_init(void)
{
    size_t n = sizeof(*cache);
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return;
    if (madvise(p, n, MADV_WIPEONFORK) != 0) {
        (void)munmap(p, n);
        return;
    }
    (void)madvise(p, n, MADV_DONTDUMP);
    cache = p;
}

/* Entries go by their number. */
static int
entry_lock(unsigned n)
{
    return !atomic_flag_test_and_set_explicit(&cache->mark[n].busy, memory_order_acquire);
}

static void
entry_unlock(unsigned n)
{
    atomic_flag_clear_explicit(&cache->mark[n].busy, memory_order_release);
}

static uint32_t
tag_of(const struct shim_key *key)
{
    uint32_t tag;
    memcpy(&tag, key->iv + 4, sizeof(tag));
    return tag | 1;
}

static uint32_t
entry_tag(unsigned n)
{
    return atomic_load_explicit(&cache->mark[n].tag, memory_order_relaxed);
}

static void
entry_set_tag(unsigned n, uint32_t tag)
{
    atomic_store_explicit(&cache->mark[n].tag, tag, memory_order_relaxed);
}

static int
entry_has(unsigned n, const struct shim_suite *s, const struct shim_key *key)
{
    const struct shim_cache_entry *e = &cache->entry[n];
    return entry_tag(n) != 0 && e->suite == s->id &&
           CRYPTO_memcmp(e->key, key->key, s->key_len) == 0;
}

/* Where a key's set begins. The two directions of a key, when both are used in one process, do not share one. */
static unsigned
first_of(const struct shim_key *key, int seal)
{
    return (key->iv[0] ^ (seal ? SETS / 2 : 0)) % SETS * WAYS;
}

/* Setting a key overwrites the whole state of a context, the last key's schedule included. */
static int
ctx_key(EVP_CIPHER_CTX *ctx, const uint8_t *key, int seal)
{
    return EVP_CipherInit_ex(ctx, NULL, NULL, key, NULL, seal) == 1;
}

static EVP_CIPHER_CTX *
ctx_new(const struct shim_suite *s, int seal)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (ctx != NULL && EVP_CipherInit_ex2(ctx, s->cipher, NULL, NULL, seal, NULL) == 1)
        return ctx;
    EVP_CIPHER_CTX_free(ctx);
    ERR_clear_error();
    return NULL;
}

/* The entry's context for the suite, made at need; the entry is locked. */
static EVP_CIPHER_CTX *
entry_ctx(unsigned n, const struct shim_suite *s, int seal)
{
    EVP_CIPHER_CTX *ctx = atomic_load_explicit(&contexts[n][s->index], memory_order_acquire);
    if (ctx == NULL && (ctx = ctx_new(s, seal)) != NULL)
        atomic_store_explicit(&contexts[n][s->index], ctx, memory_order_release);
    return ctx;
}

/* The same for shim_gcm, for suites that have it. */
static struct shim_gcm *
entry_gcm(unsigned n, const struct shim_suite *s)
{
    struct shim_gcm *gcm = atomic_load_explicit(&gcms[n], memory_order_acquire);
    if (gcm == NULL && s->gcm_longest > 0 && (gcm = shim_gcm_new()) != NULL)
        atomic_store_explicit(&gcms[n], gcm, memory_order_release);
    return gcm;
}

/* Sets the key where the last one was set. */
static int
entry_rekey(unsigned n, const struct shim_suite *s, const uint8_t *key, int seal)
{
    const struct shim_cache_entry *e = &cache->entry[n];
    if (e->gcm_keyed)
        shim_gcm_key(entry_gcm(n, s), key, s->key_len);
    return !e->keyed || ctx_key(entry_ctx(n, s, seal), key, seal);
}

/* Takes the key out of context and shim_gcm. */
static void
entry_unkey(unsigned n)
{
    static const uint8_t zero[32];
    struct shim_cache_entry *e = &cache->entry[n];
    const struct shim_suite *s = shim_suite_find(e->suite);
    if (s != NULL)
        (void)entry_rekey(n, s, zero, e->seal);
    e->keyed = e->gcm_keyed = 0;
}

static int
entry_fill(unsigned n, const struct shim_suite *s, const struct shim_key *key, int seal)
{
    struct shim_cache_entry *e = &cache->entry[n];
    entry_set_tag(n, 0);
    if (e->suite != s->id)
        entry_unkey(n);
    if (entry_ctx(n, s, seal) == NULL || !entry_rekey(n, s, key->key, seal))
        return 0;
    (void)entry_gcm(n, s); /* without it the context does all */
    e->suite = s->id;
    e->seal = (uint8_t)seal;
    memcpy(e->key, key->key, s->key_len);
    entry_set_tag(n, tag_of(key));
    return 1;
}

/* Locks one of the set that is free or next to go; NONE when all are locked by others. */
static unsigned
set_lock(unsigned first)
{
    for (unsigned n = first; n < first + WAYS; n++) {
        if (entry_tag(n) == 0 && entry_lock(n))
            return n;
    }
    uint32_t start = atomic_fetch_add_explicit(&turn[first / WAYS], 1, memory_order_relaxed);
    for (unsigned i = 0; i < WAYS; i++) {
        unsigned n = first + (start + i) % WAYS;
        if (entry_lock(n))
            return n;
    }
    return NONE;
}

static __attribute__((noinline)) unsigned
entry_new(const struct shim_suite *s, const struct shim_key *key, int seal)
{
    unsigned n = cache != NULL ? set_lock(first_of(key, seal)) : NONE;
    if (n != NONE && !entry_fill(n, s, key, seal)) {
        entry_unlock(n);
        return NONE;
    }
    return n;
}

/* The entry with the key, locked; NONE when all that could have it are in use. */
static inline unsigned
entry_get(const struct shim_suite *s, const struct shim_key *key, int seal)
{
    unsigned first = first_of(key, seal);
    uint32_t tag = tag_of(key);
    for (unsigned n = first; cache != NULL && n < first + WAYS; n++) {
        if (entry_tag(n) != tag || !entry_lock(n))
            continue;
        if (entry_has(n, s, key) && cache->entry[n].seal == seal)
            return n;
        entry_unlock(n);
    }
    return entry_new(s, key, seal);
}

static int
temporary(const struct shim_suite *s, const struct shim_key *key, int seal,
          struct shim_cache_use *use)
{
    EVP_CIPHER_CTX *ctx = ctx_new(s, seal);
    if (ctx == NULL)
        return 0;
    if (!ctx_key(ctx, key->key, seal)) {
        EVP_CIPHER_CTX_free(ctx);
        return 0;
    }
    *use = (struct shim_cache_use){.ctx = ctx};
    return 1;
}

int
shim_cache_get(const struct shim_suite *s, const struct shim_key *key, int seal,
               struct shim_cache_use *use)
{
    unsigned n = entry_get(s, key, seal);
    if (n == NONE)
        return temporary(s, key, seal, use);
    struct shim_cache_entry *e = &cache->entry[n];
    EVP_CIPHER_CTX *ctx = entry_ctx(n, s, seal);
    e->keyed = ctx != NULL && (e->keyed || ctx_key(ctx, key->key, seal));
    if (!e->keyed) {
        entry_unlock(n);
        return 0;
    }
    *use = (struct shim_cache_use){.ctx = ctx, .entry = n + 1};
    return 1;
}

__attribute__((hot)) int
shim_cache_get_gcm(const struct shim_suite *s, const struct shim_key *key, int seal,
                   struct shim_cache_use *use)
{
    unsigned n = entry_get(s, key, seal);
    if (n == NONE)
        return 0;
    struct shim_gcm *gcm = entry_gcm(n, s);
    if (gcm == NULL) {
        entry_unlock(n);
        return 0;
    }
    if (!cache->entry[n].gcm_keyed) {
        shim_gcm_key(gcm, key->key, s->key_len);
        cache->entry[n].gcm_keyed = 1;
    }
    *use = (struct shim_cache_use){.gcm = gcm, .entry = n + 1};
    return 1;
}

__attribute__((hot)) void
shim_cache_put(struct shim_cache_use *use)
{
    if (use->entry != 0)
        entry_unlock(use->entry - 1);
    else
        EVP_CIPHER_CTX_free(use->ctx);
}

void
shim_cache_warm(const struct shim_key *key, int seal)
{
    const struct shim_suite *s = shim_suite_find(key->suite);
    unsigned n = s != NULL ? entry_get(s, key, seal) : NONE;
    if (n != NONE)
        entry_unlock(n);
}

static void
entry_drop(unsigned n)
{
    entry_unkey(n);
    entry_set_tag(n, 0);
    shim_mem_wipe(cache->entry[n].key, sizeof(cache->entry[n].key));
}

void
shim_cache_drop(const struct shim_key *key)
{
    const struct shim_suite *s = shim_suite_find(key->suite);
    if (cache == NULL || s == NULL)
        return;
    for (unsigned i = 0; i < 2 * WAYS; i++) {
        unsigned n = first_of(key, i < WAYS) + i % WAYS;
        if (!entry_lock(n))
            continue;
        if (entry_has(n, s, key))
            entry_drop(n);
        entry_unlock(n);
    }
}

void
shim_cache_fini(void)
{
    for (unsigned i = 0; cache != NULL && i < ENTRIES; i++) {
        entry_drop(i);
        shim_gcm_free(atomic_exchange(&gcms[i], NULL));
        for (unsigned j = 0; j < SHIM_SUITES; j++)
            EVP_CIPHER_CTX_free(atomic_exchange(&contexts[i][j], NULL));
    }
}
