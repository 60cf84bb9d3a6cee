/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap_read: the reader of the snapshot, for the shim and for meshd's own tests. Lock-free,
 * allocates nothing, trusts nothing; any thread, signal-safe.
 */
#ifndef MESH_COMMON_SNAP_H
#define MESH_COMMON_SNAP_H

#include <stdbool.h>
#include <stddef.h>

#include "common/addr.h"
#include "mesh/snapshot.h"

struct mesh_snap_cache;

/* A mapping of `size` bytes; not owned, nor is the cache [snap_cache.h]. */
struct mesh_snap {
    const void *map;
    size_t size;
    struct mesh_snap_cache *cache; /* of this process, or NULL */
};

struct mesh_snap_hit {
    struct mesh_snap_endpoint endpoint;
    struct mesh_snap_service service; /* strings are NUL-terminated in the copy */
    bool needs_local; /* a wildcard matched a non-loopback address: it is a hit only if that
                         address is one of this namespace's own */
    uint32_t live;      /* as registry_only: the settings' live */
    bool registry_only; /* of the settings of the same moment; also when nothing was found */
};

/* The check sum of n bytes (a multiple of four) that belong to entry `index` of an area: against
 * damage, not against forgery. The area's own is `index` MESH_SNAP_NONE. */
uint32_t mesh_snap_sum(uint64_t generation, uint32_t index, const void *p, size_t n);
size_t mesh_snap_entry_size(enum mesh_snap_tables t);
/* Where the chain of an address begins; a wildcard listener's has address zero. */
uint32_t mesh_snap_bucket(const uint8_t ip[16], uint16_t port);
uint32_t mesh_snap_cookie_bucket(uint64_t cookie);

/* MESH_OK when the head is usable, else MESH_E_SNAPSHOT or MESH_E_VERSION. */
enum mesh_err mesh_snap_check(const struct mesh_snap *s) MESH_MUST_CHECK;
/* The same for all of the current area; takes as long as it is large. */
enum mesh_err mesh_snap_verify(const struct mesh_snap *s) MESH_MUST_CHECK;

/* Where hit->endpoint says MESH_EP_SERVICE, `a` is an address of the service itself. */
/* Looks `a` up as a client in namespace `netns` would. *found tells; best match first: exact
 * address, then wildcard. MESH_E_SNAPSHOT when the content is damaged or never still: then nobody
 * can say that `a` is no endpoint. hit->registry_only is set whenever it is MESH_OK. An address of a
 * service goes before all; then hit->endpoint is that address, with MESH_EP_SERVICE. */
enum mesh_err mesh_snap_find(const struct mesh_snap *s, uint64_t netns, const struct mesh_addr *a,
                             struct mesh_snap_hit *hit, bool *found) MESH_MUST_CHECK;

/* The same among endpoints alone. */
enum mesh_err mesh_snap_find_endpoint(const struct mesh_snap *s, uint64_t netns,
                                      const struct mesh_addr *a, struct mesh_snap_hit *hit,
                                      bool *found) MESH_MUST_CHECK;

/* ---- an address of a service: where a connection to it may go ---- */

/* As mesh_snap_find of an address of a service, with `choose` called: again if the snapshot changes
 * meanwhile; what it returns is returned, and *hit is what was asked for where *found says so. Not called when
 * *found is false or the address is no service's. The functions below are for `choose` only; all copy, and say
 * MESH_E_SNAPSHOT where something is damaged. */
struct mesh_snap_plan;
struct mesh_snap_choice {
    const void *view;
    const struct mesh_snap_hit *hit;
    const struct mesh_snap_plan *plan; /* what of the below is known already, or NULL */
};
typedef enum mesh_err mesh_snap_choose_fn(const struct mesh_snap_choice *c, void *arg);
enum mesh_err mesh_snap_choose(const struct mesh_snap *s, uint64_t netns, const struct mesh_addr *a,
                               struct mesh_snap_hit *hit, bool *found, mesh_snap_choose_fn *choose,
                               void *arg) MESH_MUST_CHECK;

/* Who connects; never NULL, "" if unknown. */
struct mesh_snap_client {
    const char *service;
    const char *unit; /* systemd's */
    uint32_t uid;
};
/* The router: what the first rule that takes the client and the address says, drawn by weight: `draw` is
 * any number, the same for the attempts of one connect(). *rule: which one, MESH_SNAP_NONE: none, then it is
 * the service itself. */
enum mesh_err mesh_snap_route(const struct mesh_snap_choice *c, const struct mesh_snap_client *who,
                              const struct mesh_addr *asked, uint32_t draw, struct mesh_snap_target *out,
                              uint32_t *rule) MESH_MUST_CHECK;
/* That rule's name, as mesh_snap_route.name. */
enum mesh_err mesh_snap_route_name(const struct mesh_snap_choice *c, uint32_t rule, uint64_t *out) MESH_MUST_CHECK;
/* The i-th target of that rule; MESH_E_NO_ENDPOINT: it has fewer. */
enum mesh_err mesh_snap_split(const struct mesh_snap_choice *c, uint32_t rule, uint32_t i,
                              struct mesh_snap_target *out) MESH_MUST_CHECK;
/* The i-th target to try when no endpoint of a service with these as its `failover` is left.
 * MESH_E_NO_ENDPOINT: there is none. */
enum mesh_err mesh_snap_failover(const struct mesh_snap_choice *c, const struct mesh_snap_part *targets,
                                 uint32_t i, struct mesh_snap_target *out) MESH_MUST_CHECK;
/* *out: the one that was asked for, where it is in c, or another one, copied to *room. */
enum mesh_err mesh_snap_target_service(const struct mesh_snap_choice *c, const struct mesh_snap_target *t,
                                       struct mesh_snap_service *room,
                                       const struct mesh_snap_service **out) MESH_MUST_CHECK;
/* The service's endpoints of that subset (0: all) and port (0: all). MESH_E_NO_ENDPOINT: it has no such group. */
enum mesh_err mesh_snap_group(const struct mesh_snap_choice *c, const struct mesh_snap_service *s,
                              uint32_t subset, uint16_t port, struct mesh_snap_group *out) MESH_MUST_CHECK;
/* The group's i-th best tier. MESH_E_NO_ENDPOINT: it has fewer. */
enum mesh_err mesh_snap_tier(const struct mesh_snap_choice *c, const struct mesh_snap_group *g, uint32_t i,
                             struct mesh_snap_tier *out) MESH_MUST_CHECK;

/* Where to begin among them, by what is healthy: a tier that is whole takes all that reaches it, and what one cannot
 * bear goes to the next. `draw` is any number, the same for the attempts of one connect(). *lacks: all together
 * cannot bear all. MESH_E_NO_ENDPOINT: there is none. */
enum mesh_err mesh_snap_first_tier(const struct mesh_snap_choice *c, const struct mesh_snap_group *g, uint32_t draw,
                                   uint32_t *first, bool *lacks) MESH_MUST_CHECK;

/* Members of a tier. */
struct mesh_snap_list {
    const void *view;
    const struct mesh_snap_service *service;
    uint32_t first, count;
    uint32_t total; /* of the weights */
};
/* Those that are healthy, or all. */
enum mesh_err mesh_snap_list(const struct mesh_snap_choice *c, const struct mesh_snap_service *s,
                             const struct mesh_snap_tier *t, bool all, struct mesh_snap_list *out) MESH_MUST_CHECK;
/* Which member has the n-th unit of weight, n < total; in the logarithm of count. */
enum mesh_err mesh_snap_weigh(const struct mesh_snap_list *l, uint32_t n, uint32_t *index) MESH_MUST_CHECK;
/* That member, its weight, and its endpoint. */
enum mesh_err mesh_snap_member_at(const struct mesh_snap_list *l, uint32_t n, uint32_t *index,
                                  struct mesh_snap_endpoint *ep, uint32_t *weight) MESH_MUST_CHECK;
/* Member i, its weight, and its endpoint. */
enum mesh_err mesh_snap_member(const struct mesh_snap_list *l, uint32_t i, struct mesh_snap_endpoint *ep,
                               uint32_t *weight) MESH_MUST_CHECK;

/* ---- egress: where connections may leave the mesh, though it is registry_only (snap_egress.c) ---- */

/* Was the program told `a` for a name that this pattern takes? `pattern` is what mesh_snap_patterns gave. */
typedef bool mesh_snap_told_fn(const struct mesh_addr *a, uint64_t pattern);
/* By its network, or, where `told` (NULL: nobody was told anything) says so, by a name. */
enum mesh_err mesh_snap_allows(const struct mesh_snap *s, const struct mesh_addr *a, mesh_snap_told_fn *told,
                               bool *allowed) MESH_MUST_CHECK;

#define MESH_SNAP_PATTERNS 16u
struct mesh_snap_patterns {
    uint64_t key[MESH_SNAP_PATTERNS]; /* of the pattern's text, each once */
    uint32_t count;
};
/* The listed patterns that take `name`, in any case of letters and with or without a dot at its end. */
enum mesh_err mesh_snap_patterns(const struct mesh_snap *s, const char *name,
                                 struct mesh_snap_patterns *out) MESH_MUST_CHECK;
/* Does it: all of it, or "*." and what `name` ends in, behind one label at least? Both in lower case. */
bool mesh_snap_pattern_takes(const char *pattern, const char *name);

/* The effective inbound mode of the listener with this cookie on `port`; false if not listed. */
bool mesh_snap_listener(const struct mesh_snap *s, uint64_t netns, uint64_t cookie, uint16_t port,
                        struct mesh_snap_hit *hit);

/* The limits and faults of a service that was read a moment ago; false when it has none (any more). */
bool mesh_snap_limits(const struct mesh_snap *s, const struct mesh_snap_service *service,
                      struct mesh_snap_limits *out);

/* A consistent copy of the settings; built-in defaults when the snapshot is unusable. */
void mesh_snap_settings(const struct mesh_snap *s, struct mesh_snap_settings *out);
void mesh_snap_settings_default(struct mesh_snap_settings *out);

#endif
