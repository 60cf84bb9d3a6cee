/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_iov: a cursor over buffers that the program gave us. Callers ask for at most `left` bytes.
 */
#ifndef SHIM_FLOW_IOV_H
#define SHIM_FLOW_IOV_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct shim_beside;

/* iov NULL: bytes put are counted and dropped (MSG_TRUNC on TCP). */
struct shim_iov {
    const struct iovec *iov;
    int cnt;
    size_t off;  /* into iov[0] */
    size_t left; /* bytes of room (or of data) altogether */
    struct shim_beside *beside; /* of a recvmsg(), or NULL */
};

/* -EINVAL when the lengths overflow ssize_t. */
int shim_iov_init(struct shim_iov *c, const struct iovec *iov, int cnt);
/* Skips what is used up: the contiguous piece at the cursor; 0 and NULL at the end. */
size_t shim_iov_piece_next(struct shim_iov *c, uint8_t **p);
void shim_iov_skip_many(struct shim_iov *c, size_t n);
void shim_iov_put(struct shim_iov *c, const uint8_t *src, size_t n);
void shim_iov_get(struct shim_iov *c, uint8_t *dst, size_t n);

static inline size_t
shim_iov_piece(struct shim_iov *c, uint8_t **p)
{
    if (c->cnt > 0 && c->off < c->iov->iov_len) {
        *p = (uint8_t *)c->iov->iov_base + c->off;
        return c->iov->iov_len - c->off;
    }
    return shim_iov_piece_next(c, p);
}

static inline void
shim_iov_skip(struct shim_iov *c, size_t n)
{
    if (c->cnt > 0 && n <= c->iov->iov_len - c->off) {
        c->left -= n;
        c->off += n;
        return;
    }
    shim_iov_skip_many(c, n);
}

#endif
