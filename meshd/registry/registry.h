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
#include "mesh/err.h"
#include "mesh/snapshot.h"
#include "mesh/wire.h"

struct meshd_service {
    char name[MESH_SERVICE_MAX];
    char id[MESH_ID_MAX];
    enum mesh_mode mode; /* of the service; an endpoint's port may override it */
    bool strict_close;
    uint32_t endpoints; /* listeners now, and configured ones */
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
    uint8_t ifaddrs; /* other addresses of a wildcard listener */
    struct mesh_addr ifaddr[MESH_WIRE_IFADDRS];
};

/* Each stops when visit returns non-zero. The registry must not be changed meanwhile. */
typedef int meshd_service_visit(const struct meshd_service *s, void *arg);
typedef int meshd_endpoint_visit(const struct meshd_endpoint *e, void *arg);
void meshd_registry_visit_services(meshd_service_visit *visit, void *arg);
void meshd_registry_visit_endpoints(meshd_endpoint_visit *visit, void *arg);

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
/* `peer` says it closed its listener: looked up in the kernel, and withdrawn if that is so. */
void meshd_registry_unlisten(const struct meshd_peer *peer,
                             const struct mesh_wire_unlisten_req *req);
/* A process is dead: its listeners are looked up likewise. */
void meshd_registry_gone(pid_t pid, uint64_t starttime);

/* Would a client in netns, which is meshd's own, find a mesh endpoint at this address? */
bool meshd_registry_is_local_endpoint(uint64_t netns, const struct mesh_addr *a);

/* A read-only descriptor of the snapshot for a shim; -1 with errno. The caller's. */
int meshd_registry_snapshot_fd(void);

/* Publishes a new snapshot from the current configuration, with its endpoints: after a reload. */
enum mesh_err meshd_registry_publish(void) MESH_MUST_CHECK;

#endif
