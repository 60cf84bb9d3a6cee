/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_listener: the registry's table of listeners, by (namespace, cookie), and how they become
 * snapshot entries. Inside registry/ only.
 */
#ifndef MESHD_REGISTRY_LISTENER_H
#define MESHD_REGISTRY_LISTENER_H

#include <uthash.h>

#include "meshd/registry/left.h"
#include "meshd/registry/registry.h"

struct meshd_identity;
struct meshd_service_entry;

struct meshd_listener_key {
    uint64_t netns, cookie;
};

struct meshd_listener {
    struct meshd_endpoint e; /* .mode is filled when somebody looks */
    struct meshd_service_entry *service;
    struct meshd_listener_key key;
    uint64_t starttime; /* of e.pid */
    uint64_t added_ns;  /* monotonic */
    bool seen;          /* the kernel has listed it */
    bool global;        /* may be visible outside its namespace */
    uint32_t round;     /* of the last check */
    char *exe, *unit;   /* of who registered it, for the rules; NULL: not known */
    uint64_t ruled_by;  /* serial of the configuration that .e's weight, zone, region and labels are of */
    struct meshd_left left;
    uint64_t left_at;    /* the generation that says .e.leaving */
    uint64_t leaving_ns; /* monotonic: since when .e.leaving */
    UT_hash_handle hh;
};

struct meshd_listener *meshd_listener_find(uint64_t netns, uint64_t cookie);
struct meshd_listener *meshd_listener_first(void);
struct meshd_listener *meshd_listener_next(const struct meshd_listener *l);
struct meshd_listener *meshd_listener_unchecked(uint32_t round);
bool meshd_listener_has_netns(uint64_t netns);
uint32_t meshd_listener_count(void);
/* Who registers it, for meshd_listener_rule; copied. */
void meshd_listener_note_peer(struct meshd_listener *l, const struct meshd_peer *peer);
/* Makes weight, zone, region and labels what the rules in force say of who registered it. */
void meshd_listener_rule(struct meshd_listener *l);
enum mesh_mode meshd_listener_mode(const struct meshd_listener *l);

/* Which of ANY, V6ONLY and NETNS hold for .addr; V6ONLY is believed. */
void meshd_listener_set_flags(struct meshd_listener *l);
/* Takes the other addresses of a wildcard listener; `verify`: only those that are really ours. */
void meshd_listener_set_ifaddrs(struct meshd_listener *l, const struct mesh_wire_listen_req *req,
                                bool verify);

/* Is it an address of meshd's own namespace? */
bool meshd_listener_is_own_address(const struct mesh_addr *a);
/* The same for where fd, a socket that is not bound, stands; it is bound then. */
bool meshd_listener_binds(int fd, const struct mesh_addr *a);

/* Adds a copy of *want, or updates the entry of its key (which keeps its id). */
enum mesh_err meshd_listener_put(const struct meshd_listener *want, const struct meshd_identity *id,
                                 struct meshd_listener **out) MESH_MUST_CHECK;
void meshd_listener_free(struct meshd_listener *l);
void meshd_listener_free_all(void);

/* The snapshot file is open: ids go on where they were. */
void meshd_listener_begin(void);
/* An endpoint id that was never used. */
uint32_t meshd_listener_next_id(void);

/* Snapshot entries that write() makes; write them between meshd_snapfile_begin and commit, after
 * meshd_service_write. */
uint32_t meshd_listener_entries(void);
void meshd_listener_write(void);
/* A meshd_snapfile_visit_fn: an entry that a former meshd wrote. */
void meshd_listener_restore(const struct mesh_snap_endpoint *e, const struct mesh_snap_service *s,
                            void *arg);

#endif
