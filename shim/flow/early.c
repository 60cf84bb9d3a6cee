/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_early: see early.h.
 */
#include "shim/flow/early.h"

#include <errno.h>
#include <sys/mman.h>

#include "shim/core/stat.h"
#include "shim/flow/hs.h"
#include "shim/flow/hs_int.h"
#include "shim/real.h"

/* Bytes that were written early and then copied by fork go out once, before what either process wrote
 * after that: whoever is the first to send has them. Under tx_lock but for plaintext. */
static size_t
common(const struct shim_work *w, size_t n)
{
    return n < w->early_common ? n : w->early_common;
}

void
shim_early_begin(struct shim_work *w)
{
    size_t sent = common(w, atomic_load(&shim_hs_slot(w)->early_sent));
    w->early_off = sent > w->early_off ? sent : w->early_off;
}

void
shim_early_went(struct shim_work *w, size_t n)
{
    w->early_off += n;
    if (common(w, w->early_off) > atomic_load(&shim_hs_slot(w)->early_sent)) {
        atomic_store(&shim_hs_slot(w)->early_sent, (uint32_t)common(w, w->early_off));
    }
}

/* What goes next of them: up to the urgent one, that one, or the rest. */
struct iovec
shim_early_part(const struct shim_work *w, bool *urgent)
{
    size_t end = w->early_len, at = w->early_urgent;
    *urgent = at == w->early_off + 1;
    if (at > w->early_off) {
        end = *urgent ? at : at - 1;
    }
    return (struct iovec){w->early + w->early_off, end - w->early_off};
}

/* What was taken early goes nowhere any more: nobody's write waits for it. The kernel has told us the error, and tells it
 * once only: the program's next call has it. */
__attribute__((cold)) void
shim_early_failed(struct shim_work *w, int no)
{
    struct shim_slot *s = shim_hs_slot(w);
    w->early_off = w->early_len;
    atomic_fetch_and(&s->flags, ~(uint32_t)(SHIM_SF_EARLY | SHIM_SF_EARLY_FULL));
    if (no != EPIPE && !w->owned) {
        shim_stat_conn_broke(s, -no);
        atomic_store(&s->so_error, no);
    }
}

size_t
shim_early_put(struct shim_work *w, const struct shim_iov *data)
{
    struct shim_iov c = *data;
    struct shim_slot *s = shim_hs_slot(w);
    if (!w->early) {
        void *p = mmap(NULL, SHIM_EARLY_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                       -1, 0);
        if (p == MAP_FAILED) {
            return 0;
        }
        w->early = p;
    }
    size_t n = SHIM_EARLY_MAX - w->early_len;
    n = n < c.left ? n : c.left;
    shim_iov_get(&c, w->early + w->early_len, n);
    w->early_len += n;
    atomic_fetch_or(&s->flags,
                    SHIM_SF_EARLY | (w->early_len == SHIM_EARLY_MAX ? SHIM_SF_EARLY_FULL : 0));
    shim_hs_spoke(w);
    return n;
}
