/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_source: whoever knows endpoints of services that do not register on this host: the
 * configuration's own lists, DNS [discovery/dns.h], whatever comes next. Main thread only.
 *
 * What a source does:
 *  - It owns one struct meshd_source, with a rank of its own.
 *  - For a service it stages the whole set of endpoints that it knows now, and commits. That
 *    replaces its own previous set of the service, all at once: a connect() chooses from the old set or
 *    from the new one. Sets that it staged for several services come into force together. Other
 *    sources' sets and registered listeners stay as they are.
 *  - What it does not commit, stays. So a source that cannot reach those who know keeps its last
 *    word, without doing anything; an empty set says that it knows that there are none.
 *  - An endpoint that is in the old set and in the new one keeps its id and its age: connections
 *    are counted on, and whatever is known of it stays known.
 *  - It names addresses, never an identity: the endpoints of a service must show the service's own
 *    SPIFFE ID, so that a source that lies makes connections fail and leads none astray.
 *  - It never blocks: what it waits for is an event of the loop.
 *  - It counts and logs its failures; what changed is logged here, a line for each set.
 *
 * The rank says whose word counts when several name the same address for one service: weight, zone
 * and priority are the lowest rank's. A connect() to an endpoint's own address, when several services
 * name it, expects the identity that the configuration names, else that of the listener that is
 * registered there, else the other sources'.
 */
#ifndef MESHD_REGISTRY_SOURCE_H
#define MESHD_REGISTRY_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "mesh/err.h"

struct meshd_endpoint_rule;

enum meshd_rank { MESHD_RANK_CONFIG, MESHD_RANK_DNS, MESHD_RANKS };

struct meshd_source {
    enum meshd_rank rank;
    struct meshd_given_set *staged; /* source.c's */
};

/* The service's whole set, in the configuration's form (.at says where it was learnt; line 0: the
 * name alone, "dns:db.example"). Everything is copied; of one address the first entry counts.
 * MESH_E_NO_MEMORY: nothing is staged for the service. */
enum mesh_err meshd_source_stage(struct meshd_source *src, const char *service,
                                 const struct meshd_endpoint_rule *list, size_t n) MESH_MUST_CHECK;
/* Puts what is staged into force; `all`: services of which nothing is staged lose this source's set.
 * MESH_E_NO_MEMORY: they would not fit into the snapshot; everything stays, nothing is staged. The
 * caller publishes: meshd_registry_publish, or meshd_registry_changed. */
enum mesh_err meshd_source_commit(struct meshd_source *src, bool all) MESH_MUST_CHECK;
/* What this source said last of the service, for a meshd that starts: the former one's endpoints are
 * in force until the first commit. `at` is not known. Stops when visit returns non-zero. */
typedef int meshd_source_visit(const struct meshd_endpoint_rule *r, void *arg);
void meshd_source_recall(const struct meshd_source *src, const char *service,
                         meshd_source_visit *visit, void *arg);
/* Forgets what is staged. */
void meshd_source_abort(struct meshd_source *src);

#endif
