/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_target: the table of what is checked: an address of a service, be it listed once or more often.
 * Inside health/ only.
 */
#ifndef MESHD_HEALTH_TARGET_H
#define MESHD_HEALTH_TARGET_H

#include <uthash.h>

#include "common/addr.h"
#include "meshd/health/state.h"
#include "meshd/health/watch.h"

struct event;
struct meshd_endpoint;

/* netns: 0 where the address is the same in all. */
struct meshd_target_key {
    uint64_t netns;
    uint8_t ip[16];
    char service[MESH_SERVICE_MAX];
    uint32_t port;
    uint32_t pad;
};

struct meshd_target {
    struct meshd_target_key key;
    struct meshd_watch *watch;
    uint32_t version; /* of watch's rule */
    struct mesh_addr to;
    char id[MESH_ID_MAX]; /* that the peer must show; "": no TLS */
    struct meshd_health_state state;
    const char *skipped; /* why it is not checked, or NULL */
    struct event *timer; /* until it is due */
    struct meshd_network_check *network;
    struct meshd_program_check *command;
    bool queued, fresh;
    uint32_t newest; /* id of the listener that was registered last */
    uint32_t round; /* of the last look at the endpoints */
    struct meshd_target *prev, *next; /* in the queue */
    UT_hash_handle hh;
};

/* Where the endpoint is reached from meshd's namespace; a wildcard at the loopback address. */
struct mesh_addr meshd_target_reach(const struct meshd_endpoint *e);
/* NULL: it is not checked. */
struct meshd_target *meshd_target_find(const struct meshd_endpoint *e);
/* A new one, unknown and fresh, whose timer calls due(fd, what, target); NULL without memory. */
typedef void meshd_target_due(int fd, short what, void *target);
struct meshd_target *meshd_target_new(const struct meshd_endpoint *e, struct meshd_watch *w,
                                      meshd_target_due *due);
/* Nothing of it is running or queued any more. */
void meshd_target_free(struct meshd_target *t);
struct meshd_target *meshd_target_first(void);
struct meshd_target *meshd_target_next(const struct meshd_target *t);
bool meshd_target_is_unhealthy(const struct meshd_target *t);

#endif
