/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_registry: which listeners exist on this host, of which service, and the snapshot made of
 * them. Registered by the shim's listen(), withdrawn by the kernel's word alone [DESIGN D9]. Main thread
 * only.
 */
#ifndef MESHD_REGISTRY_REGISTRY_H
#define MESHD_REGISTRY_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/addr.h"
#include "common/outlier.h"
#include "mesh/err.h"
#include "mesh/snapshot.h"
#include "mesh/wire.h"

struct meshd_service_rule;
struct meshd_label_rule;
struct mesh_vaddr;

struct meshd_service {
    char name[MESH_SERVICE_MAX];
    char id[MESH_ID_MAX];
    enum mesh_mode mode; /* of the service; an endpoint's port may override it */
    bool strict_close;
    uint32_t endpoints; /* listeners now, and what sources name */
    const struct mesh_vaddr *vaddr; /* the virtual address, or NULL; borrowed for the visit */
    const struct meshd_service_rule *rule; /* what the configuration says of it, or NULL */
};

struct meshd_endpoint {
    uint32_t id;
    struct mesh_addr addr;
    uint8_t flags; /* enum mesh_endpoint_flags */
    enum mesh_mode mode;
    const char *service; /* borrowed for the visit */
    uint64_t netns, cookie, inode;
    uint64_t since_ns; /* CLOCK_REALTIME */
    pid_t pid;         /* who registered it, a child may hold it now; 0: configured */
    uid_t uid;
    uint32_t weight;  /* of connections to the service's addresses */
    uint8_t priority; /* 0 first */
    const char *zone, *region; /* "" if unknown; borrowed */
    const struct meshd_label_rule *labels; /* borrowed; of fixed endpoints their rule has them */
    size_t label_count;
    const char *from; /* "listener", "dns:NAME", or the file; borrowed */
    uint32_t line;    /* of the file, else 0 */
    bool draining;
    bool leaving; /* not chosen: it does not listen yet, or its last holder is about to close it */
    uint8_t ifaddrs; /* other addresses of a wildcard listener */
    struct mesh_addr ifaddr[MESH_WIRE_IFADDRS];
};

/* An order to drain: of a whole service, or, without a name, of what is at an address. */
struct meshd_drain {
    char service[MESH_SERVICE_MAX];
    struct mesh_addr addr;
    uint64_t since_ns;   /* CLOCK_REALTIME */
    uint64_t generation; /* of the snapshot from which on it holds */
};

/* Each stops when visit returns non-zero. The registry must not be changed meanwhile. */
typedef int meshd_service_visit(const struct meshd_service *s, void *arg);
typedef int meshd_endpoint_visit(const struct meshd_endpoint *e, void *arg);
void meshd_registry_visit_services(meshd_service_visit *visit, void *arg);
void meshd_registry_visit_endpoints(meshd_endpoint_visit *visit, void *arg);

/* From now on, until it is taken back, what the order covers is not chosen for connections to a service's
 * addresses; fills since_ns and generation. The same order again is the first one. */
enum mesh_err meshd_registry_drain(struct meshd_drain *d) MESH_MUST_CHECK;
/* *was: there was such an order. */
enum mesh_err meshd_registry_undrain(const struct meshd_drain *d, bool *was) MESH_MUST_CHECK;
bool meshd_registry_drain_covers(const struct meshd_drain *d, const struct meshd_endpoint *e);
typedef int meshd_drain_visit(const struct meshd_drain *d, void *arg);
void meshd_registry_visit_drains(meshd_drain_visit *visit, void *arg);

/* What clients decide by; borrowed until the next publication. */
struct mesh_snap;
struct mesh_snap_service;
struct mesh_snap meshd_registry_view(void);
/* The service of that number in it. */
bool meshd_registry_service_at(uint32_t index, struct mesh_snap_service *out);
/* Where the service's rule of that number in the snapshot stands: "meshd.conf:12"; "" for none. */
void meshd_registry_route_origin(const char *service, uint32_t rule, char *out, size_t cap);

/* Is the published snapshot in the file as it was written? */
bool meshd_registry_is_whole(void);

/* Connections and attempts that the host's processes count for the endpoint with this id. */
uint32_t meshd_registry_live_count(uint32_t id);
/* What the host's processes say of an endpoint and of a service's connections: not to be believed. */
struct meshd_endpoint_live {
    uint32_t active, failures, times; /* connections, failures in a row, ejections */
    enum mesh_outlier state;
    uint64_t until_ms; /* CLOCK_MONOTONIC, of an ejection */
    uint32_t latency_us; /* of connecting, 0: not measured */
};
struct meshd_service_live {
    struct mesh_snap_live set;
    uint32_t active, pending, retries, ejected, ejections, ejections_overflow;
    uint32_t cx_overflow, pending_overflow, retry_overflow;
};
void meshd_registry_endpoint_live(const struct meshd_endpoint *e, struct meshd_endpoint_live *out);
void meshd_registry_service_live(const char *name, struct meshd_service_live *out); /* zeros: unknown */
/* Among how many connections of the host the service's bandwidth is divided, on either side. */
void meshd_registry_sharing(const char *name, uint32_t *opened, uint32_t *accepted);

/* An active health check has passed at the endpoints of this service for which `is_meant` returns non-zero: what
 * of them is ejected is back, unless the configuration says otherwise. */
void meshd_registry_check_passed(const char *service, meshd_endpoint_visit *is_meant, void *arg);

struct meshd_registry_info {
    uint64_t generation, epoch; /* of the snapshot */
    uint32_t services, endpoints;
    uint32_t namespaces; /* network namespaces with a SOCK_DIAG socket */
    uint64_t registered, withdrawn, overflowed; /* since start; overflowed: no room in the snapshot */
};
void meshd_registry_info(struct meshd_registry_info *out);

/* Opens <run_dir>/snapshot, or makes it; what it lists is taken over as far as the kernel confirms
 * it. */
enum mesh_err meshd_registry_init(const char *run_dir) MESH_MUST_CHECK;
/* Leaves the file: the processes that map it go on, and the next meshd too. */
void meshd_registry_fini(void);

/* A listener of `peer`, of `service` with SPIFFE ID `id`. When it returns MESH_OK the snapshot with
 * it is published and *rep filled. *diag_fd: a SOCK_DIAG socket that came along or -1; set to -1
 * when kept. MESH_E_DENIED: the kernel says otherwise. MESH_E_NO_MEMORY: no room. */
struct meshd_peer;
struct meshd_identity;
enum mesh_err meshd_registry_listen(const struct meshd_peer *peer, const struct meshd_identity *id,
                                    const struct mesh_wire_listen_req *req, int *diag_fd,
                                    struct mesh_wire_listen_rep *rep) MESH_MUST_CHECK;
/* The listener that `peer` registered listens now: it may be chosen. */
void meshd_registry_listens(const struct meshd_peer *peer, const struct mesh_wire_unlisten_req *req);
/* The same two, published together with what comes meanwhile: the answer is to be held under that number, 0: not. */
enum mesh_err meshd_registry_listen_later(const struct meshd_peer *peer, const struct meshd_identity *id,
                                          const struct mesh_wire_listen_req *req, int *diag_fd,
                                          struct mesh_wire_listen_rep *rep, uint64_t *held) MESH_MUST_CHECK;
uint64_t meshd_registry_listens_later(const struct meshd_peer *peer, const struct mesh_wire_unlisten_req *req);
/* `peer` is about to close its last descriptor of the listener: unless somebody else is known to hold it,
 * it is not chosen from here on. It stays listed, or what comes in the meantime would be plaintext.
 * Returns how many may still be on their way to it, as meshd_stats_deciding. */
uint32_t meshd_registry_leave(const struct meshd_peer *peer, const struct mesh_wire_unlisten_req *req);
/* `peer` says it closed its listener: looked up in the kernel, and withdrawn if that is so. */
void meshd_registry_unlisten(const struct meshd_peer *peer,
                             const struct mesh_wire_unlisten_req *req);
/* A process is dead: its listeners are looked up likewise. */
void meshd_registry_gone(pid_t pid, uint64_t starttime);

/* Would a client in netns find a mesh endpoint at this address? There stands fd, a TCP socket that is not connected,
 * which may become bound; -1: netns must be meshd's own. */
bool meshd_registry_is_local_endpoint(uint64_t netns, const struct mesh_addr *a, int fd);

/* Whom a program in meshd's namespace has to find at this address: false if it is no mesh endpoint, or one
 * in mode off. id: MESH_ID_MAX bytes, untouched on false. */
bool meshd_registry_peer_at(const struct mesh_addr *a, char *id);
uint64_t meshd_registry_netns(void); /* meshd's own */
bool meshd_registry_is_own_address(const struct mesh_addr *a); /* of its namespace */

/* A read-only descriptor of the snapshot for a shim; -1 with errno. The caller's. */
int meshd_registry_snapshot_fd(void);

/* A descriptor of the host's live state; -1 with errno. The caller's. */
int meshd_registry_live_fd(void);

/* Publishes a new snapshot from the current configuration, with its endpoints: after a reload. */
enum mesh_err meshd_registry_publish(void) MESH_MUST_CHECK;
/* The same endpoints again: their health has changed. */
void meshd_registry_refresh(void);
/* A source's set is another one [source.h]: a new snapshot will be published, within milliseconds, for
 * this change and those that follow at once. */
void meshd_registry_changed(void);
/* The same when the configuration is as it was. */
enum mesh_err meshd_registry_republish(void) MESH_MUST_CHECK;

#endif
