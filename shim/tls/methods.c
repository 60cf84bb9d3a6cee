/* SPDX-License-Identifier: Apache-2.0
 *
 * What OpenSSL 3.0 looks up by name over and over in one handshake, through hashes of folded names and the
 * locks around them: digests, MACs, key derivations and signatures, and which names a digest or a kind of key
 * has. The linker leads the public functions here (--wrap); what they found the first time is kept, with a
 * reference, for good. Nothing else can be found later: no provider is loaded or let go, no default properties
 * are set, and all of a method's names are known before there is one.
 *
 * No lock, because of fork and of signal handlers: places are filled one after the other, each once.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#define METHODS   24u
#define NAMED     48u
#define NAMES_MAX 256u /* bytes, of all the names of one */

struct method {
    void *it;
    char name[];
};

struct kind {
    int (*up_ref)(void *);
    struct method *_Atomic known[METHODS];
};

struct names {
    const void *of;
    size_t len;
    char text[]; /* each with its end */
};

/* ---- methods ---- */

/* OpenSSL's own context, and no wishes. */
static int
is_plain(const OSSL_LIB_CTX *ctx, const char *name, const char *props)
{
    return name != NULL && (props == NULL || *props == '\0') &&
           (ctx == NULL || ctx == OSSL_LIB_CTX_get0_global_default());
}

static void *
method_find(struct kind *k, const char *name)
{
    for (unsigned i = 0; i < METHODS; i++) {
        struct method *m = atomic_load_explicit(&k->known[i], memory_order_acquire);
        if (m == NULL)
            break;
        if (strcmp(m->name, name) == 0)
            return k->up_ref(m->it) == 1 ? m->it : NULL;
    }
    return NULL;
}

static void
method_keep(struct kind *k, const char *name, void *it)
{
    size_t n = strlen(name) + 1;
    if (atomic_load_explicit(&k->known[METHODS - 1], memory_order_relaxed) != NULL)
        return;
    struct method *m = OPENSSL_malloc(sizeof(*m) + n);
    if (m == NULL)
        return;
    m->it = it;
    memcpy(m->name, name, n);
    for (unsigned i = 0; i < METHODS; i++) {
        struct method *none = NULL;
        if (atomic_compare_exchange_strong(&k->known[i], &none, m)) {
            (void)k->up_ref(it); /* the caller's reference held it so far */
            return;
        }
        if (strcmp(none->name, name) == 0)
            break;
    }
    OPENSSL_free(m);
}

#define FETCH(TYPE)                                                                                \
    EVP_##TYPE *__real_EVP_##TYPE##_fetch(OSSL_LIB_CTX *ctx, const char *name, const char *props); \
    EVP_##TYPE *__wrap_EVP_##TYPE##_fetch(OSSL_LIB_CTX *ctx, const char *name, const char *props); \
    static int TYPE##_up_ref(void *m)                                                              \
    {                                                                                              \
        return EVP_##TYPE##_up_ref(m);                                                             \
    }                                                                                              \
    EVP_##TYPE *__wrap_EVP_##TYPE##_fetch(OSSL_LIB_CTX *ctx, const char *name, const char *props)  \
    {                                                                                              \
        static struct kind k = {.up_ref = TYPE##_up_ref};                                          \
        int plain = is_plain(ctx, name, props);                                                    \
        EVP_##TYPE *m = plain ? method_find(&k, name) : NULL;                                      \
        if (m == NULL && (m = __real_EVP_##TYPE##_fetch(ctx, name, props)) != NULL && plain)       \
            method_keep(&k, name, m);                                                              \
        return m;                                                                                  \
    }

FETCH(MD)
FETCH(MAC)
FETCH(KDF)
FETCH(SIGNATURE)

/* ---- names ---- */

typedef void on_name(const char *name, void *arg);

struct list {
    size_t len; /* above NAMES_MAX: too many */
    char text[NAMES_MAX];
};

static void
list_add(const char *name, void *arg)
{
    struct list *l = arg;
    size_t n = strlen(name) + 1;
    if (l->len + n <= NAMES_MAX)
        memcpy(l->text + l->len, name, n);
    l->len += n;
}

/* Those of `m`, or a free place for them; NULL when all are taken. */
static struct names *_Atomic *
place_of(struct names *_Atomic *place, const void *m)
{
    for (unsigned i = 0; i < NAMED; i++) {
        const struct names *n = atomic_load_explicit(&place[i], memory_order_acquire);
        if (n == NULL || n->of == m)
            return &place[i];
    }
    return NULL;
}

/* False when another thread was faster. */
static int
names_keep(struct names *_Atomic *place, const void *m, const struct list *l)
{
    struct names *none = NULL, *n = OPENSSL_malloc(sizeof(*n) + l->len);
    if (n == NULL)
        return 0;
    n->of = m;
    n->len = l->len;
    memcpy(n->text, l->text, l->len);
    if (atomic_compare_exchange_strong(place, &none, n))
        return 1;
    OPENSSL_free(n);
    return 0;
}

static int
names_have(const struct names *n, const char *name)
{
    const char *s = n->text, *end = n->text + n->len;
    while (s < end && OPENSSL_strcasecmp(s, name) != 0)
        s += strlen(s) + 1;
    return s < end;
}

/* With the reference no other one gets the address. What has no provider has no names here. */
#define NAMES(TYPE)                                                                                 \
    int __real_EVP_##TYPE##_names_do_all(const EVP_##TYPE *m, on_name *fn, void *arg);              \
    int __wrap_EVP_##TYPE##_names_do_all(const EVP_##TYPE *m, on_name *fn, void *arg);              \
    int __real_EVP_##TYPE##_is_a(const EVP_##TYPE *m, const char *name);                            \
    int __wrap_EVP_##TYPE##_is_a(const EVP_##TYPE *m, const char *name);                            \
    static const struct names *TYPE##_names(const EVP_##TYPE *m)                                    \
    {                                                                                               \
        static struct names *_Atomic all[NAMED];                                                    \
        struct names *_Atomic *place = place_of(all, m);                                            \
        const struct names *n = place != NULL ? atomic_load(place) : NULL;                          \
        struct list l;                                                                              \
        if (n != NULL)                                                                              \
            return n->of == m ? n : NULL; /* the place is another's, just now */                    \
        if (place == NULL)                                                                          \
            return NULL;                                                                            \
        l.len = 0;                                                                                  \
        if (__real_EVP_##TYPE##_names_do_all(m, list_add, &l) == 1 && l.len > 0 &&                  \
            l.len <= NAMES_MAX && names_keep(place, m, &l))                                         \
            (void)EVP_##TYPE##_up_ref((EVP_##TYPE *)(uintptr_t)m);                                  \
        return NULL; /* from the next time on */                                                    \
    }                                                                                               \
    int __wrap_EVP_##TYPE##_names_do_all(const EVP_##TYPE *m, on_name *fn, void *arg)               \
    {                                                                                               \
        const struct names *n = m != NULL ? TYPE##_names(m) : NULL;                                 \
        if (n == NULL)                                                                              \
            return __real_EVP_##TYPE##_names_do_all(m, fn, arg);                                    \
        for (const char *s = n->text; s < n->text + n->len; s += strlen(s) + 1)                     \
            fn(s, arg);                                                                             \
        return 1;                                                                                   \
    }                                                                                               \
    int __wrap_EVP_##TYPE##_is_a(const EVP_##TYPE *m, const char *name)                             \
    {                                                                                               \
        const struct names *n = m != NULL && name != NULL ? TYPE##_names(m) : NULL;                 \
        return n != NULL ? names_have(n, name) : __real_EVP_##TYPE##_is_a(m, name);                 \
    }

NAMES(KEYMGMT)
NAMES(MD)
