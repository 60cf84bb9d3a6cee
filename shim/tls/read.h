/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_read: a cursor over bytes from the network. What is not there is 0, and `bad` stays set.
 */
#ifndef SHIM_TLS_READ_H
#define SHIM_TLS_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shim_read {
    const uint8_t *p;
    size_t left;
    bool bad;
};

static inline const uint8_t *
shim_read_bytes(struct shim_read *r, size_t n)
{
    const uint8_t *p = r->p;
    if (r->bad || n > r->left) {
        r->bad = true;
        return NULL;
    }
    r->p += n;
    r->left -= n;
    return p;
}

/* A big-endian number of up to four bytes. */
static inline uint32_t
shim_read_number(struct shim_read *r, size_t bytes)
{
    uint32_t v = 0;
    const uint8_t *p = shim_read_bytes(r, bytes);
    for (size_t i = 0; p != NULL && i < bytes; i++)
        v = v << 8 | p[i];
    return v;
}

/* A vector whose length comes first, in so many bytes; empty when it is bad. */
static inline struct shim_read
shim_read_vector(struct shim_read *r, size_t bytes)
{
    struct shim_read v = {0};
    size_t n = shim_read_number(r, bytes);
    v.p = shim_read_bytes(r, n);
    v.left = v.p != NULL ? n : 0;
    v.bad = r->bad;
    return v;
}

static inline bool
shim_read_more(const struct shim_read *r)
{
    return !r->bad && r->left > 0;
}

#endif
