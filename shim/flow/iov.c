/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_iov: a cursor over buffers that the program gave us.
 */
#include "shim/flow/iov.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define LOWEST  4096u
#if defined(__x86_64__)
#define HIGHEST ((uintptr_t)0x7ffffffff000)
#else
#define HIGHEST ((uintptr_t)1 << 52)
#endif

__attribute__((hot)) int
shim_iov_init(struct shim_iov *c, const struct iovec *iov, int cnt)
{
    size_t left = 0;
    *c = (struct shim_iov){.iov = iov, .cnt = cnt};
    for (int i = 0; i < cnt; i++) {
        if (iov[i].iov_len > (size_t)SSIZE_MAX - left) {
            return -EINVAL;
        }
        /* The kernel would say EFAULT; we can only tell what no mapping can ever be. */
        uintptr_t at = (uintptr_t)iov[i].iov_base;
        if (iov[i].iov_len && (at < LOWEST || at > HIGHEST || iov[i].iov_len > HIGHEST - at)) {
            return -EFAULT;
        }
        c->left = left += iov[i].iov_len;
    }
    return 0;
}

size_t
shim_iov_piece_next(struct shim_iov *c, uint8_t **p)
{
    while (c->cnt > 0 && c->off == c->iov->iov_len) {
        c->iov++;
        c->cnt--;
        c->off = 0;
    }
    *p = c->cnt > 0 ? (uint8_t *)c->iov->iov_base + c->off : NULL;
    return c->cnt > 0 ? c->iov->iov_len - c->off : 0;
}

void
shim_iov_skip_many(struct shim_iov *c, size_t n)
{
    c->left -= n;
    if (!c->iov) {
        return;
    }
    while (n > 0) {
        uint8_t *p;
        size_t have = shim_iov_piece(c, &p);
        size_t step = n < have ? n : have;
        c->off += step;
        n -= step;
    }
}

__attribute__((hot)) void
shim_iov_put(struct shim_iov *c, const uint8_t *src, size_t n)
{
    while (c->iov && n > 0) {
        uint8_t *p;
        size_t have = shim_iov_piece(c, &p);
        size_t step = n < have ? n : have;
        memcpy(p, src, step);
        c->off += step;
        c->left -= step;
        src += step;
        n -= step;
    }
    c->left -= n; /* dropped */
}

void
shim_iov_get(struct shim_iov *c, uint8_t *dst, size_t n)
{
    c->left -= n;
    while (n > 0) {
        uint8_t *p;
        size_t have = shim_iov_piece(c, &p);
        size_t step = n < have ? n : have;
        memcpy(dst, p, step);
        c->off += step;
        dst += step;
        n -= step;
    }
}
