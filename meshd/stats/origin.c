/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_origin: see origin.h.
 */
#include "meshd/stats/origin.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <uthash.h>

struct origin {
    uint64_t mark;
    char service[MESH_SERVICE_MAX];
    char id[MESH_ID_MAX];
    UT_hash_handle hh; /* by mark */
};

static struct origin *all;
static uint64_t gone[MESHD_STATS_RECENT]; /* marks, in turn */
static unsigned next_gone;

uint64_t
meshd_origin_mark(void)
{
    uint64_t mark = 0;
    return getrandom(&mark, sizeof(mark), 0) == (ssize_t)sizeof(mark) ? mark : 0;
}

static struct origin *
find(uint64_t mark)
{
    struct origin *o = NULL;
    HASH_FIND(hh, all, &mark, sizeof(mark), o);
    return o;
}

static void
forget(uint64_t mark)
{
    struct origin *o = find(mark);
    if (o) {
        HASH_DEL(all, o);
        free(o);
    }
}

void
meshd_origin_add(const struct meshd_page_info *info)
{
    struct origin *o = info->mark && !find(info->mark) ? calloc(1, sizeof(*o)) : NULL;
    if (o) {
        o->mark = info->mark;
        memcpy(o->service, info->service, sizeof(o->service));
        memcpy(o->id, info->id, sizeof(o->id));
        HASH_ADD(hh, all, mark, sizeof(o->mark), o);
    }
}

void
meshd_origin_gone(const struct meshd_page_info *info)
{
    uint64_t *slot = &gone[next_gone++ % MESHD_STATS_RECENT];
    forget(*slot);
    *slot = info->mark;
}

void
meshd_origin_apply(struct meshd_conn *c, const struct meshd_page_info *holder)
{
    struct origin *o = c->mark && c->mark != holder->mark ? find(c->mark) : NULL;
    if (o) {
        memcpy(c->service, o->service, sizeof(c->service));
        memcpy(c->id, o->id, sizeof(c->id));
    }
}

void
meshd_origin_fini(void)
{
    struct origin *o, *tmp;
    HASH_ITER(hh, all, o, tmp)
    {
        HASH_DEL(all, o);
        free(o);
    }
    memset(gone, 0, sizeof(gone));
}
