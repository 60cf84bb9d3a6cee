/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_source: see source.h. Everything that can fail happens while sets are staged and counted; what
 * follows is a row of pointers that change place.
 */
#include "meshd/registry/source.h"

#include <string.h>

#include "meshd/policy/config.h"
#include "meshd/registry/front.h"
#include "meshd/registry/given.h"
#include "meshd/registry/listener.h"
#include "meshd/registry/service.h"
#include "meshd/registry/snapfile.h"

enum mesh_err
meshd_source_stage(struct meshd_source *src, const char *service,
                   const struct meshd_endpoint_rule *list, size_t n)
{
    struct meshd_given_set *set = meshd_given_make(src->rank, service, list, n);
    if (!set) {
        return MESH_E_NO_MEMORY;
    }
    set->next = src->staged;
    src->staged = set;
    return MESH_OK;
}

void
meshd_source_recall(const struct meshd_source *src, const char *service, meshd_source_visit *visit,
                    void *arg)
{
    meshd_given_recall(src->rank, service, visit, arg);
}

void
meshd_source_abort(struct meshd_source *src)
{
    struct meshd_given_set *next;
    for (struct meshd_given_set *s = src->staged; s; s = next) {
        next = s->next;
        meshd_given_free(s);
    }
    src->staged = NULL;
}

/* What goes with `all` is not taken off: on the safe side. Staged sets hold their services already. */
static bool
has_room(const struct meshd_source *src)
{
    uint64_t more = 0, less = 0;
    for (const struct meshd_given_set *s = src->staged; s; s = s->next) {
        more += s->count;
        less += meshd_given_size(s);
    }
    uint64_t now = (uint64_t)meshd_listener_entries() + meshd_given_count() + meshd_front_count();
    return more <= less || meshd_snapfile_has_room(meshd_service_count(), now + more - less);
}

enum mesh_err
meshd_source_commit(struct meshd_source *src, bool all)
{
    if (!has_room(src)) {
        meshd_source_abort(src);
        return MESH_E_NO_MEMORY;
    }
    struct meshd_given_set *next;
    for (struct meshd_given_set *s = src->staged; s; s = next) {
        next = s->next;
        meshd_given_put(s);
    }
    src->staged = NULL;
    meshd_given_settle(src->rank, all);
    return MESH_OK;
}
