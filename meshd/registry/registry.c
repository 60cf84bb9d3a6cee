/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_registry: see registry.h.
 *
 *            listen()                     the kernel: last holder gone, or it does not listen
 *   nothing ----------> listed (provisional) ---> listed (seen in the kernel) ---> nothing
 *                            |  not seen for two seconds                            ^
 *                            +-------------------------------------------------------+
 *
 * A process's word adds a listener (enlist.c), the kernel's word takes it away (check.c). Where the kernel cannot be
 * asked, the death of the process that registered it does. What lies in other namespaces is visible
 * from outside only if a privileged user registered it: anybody may own any address in a namespace
 * of his own.
 */
#include "meshd/registry/registry.h"

#include <limits.h>
#include <string.h>

#include "common/snap.h"
#include "meshd/base/file.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/base/proc.h"
#include "meshd/health/health.h"
#include "meshd/policy/config.h"
#include "meshd/registry/configured.h"
#include "meshd/registry/drain.h"
#include "meshd/registry/front.h"
#include "meshd/registry/given.h"
#include "meshd/registry/listener.h"
#include "meshd/registry/live.h"
#include "meshd/registry/member.h"
#include "meshd/registry/names.h"
#include "meshd/registry/netlink.h"
#include "meshd/registry/outlier.h"
#include "meshd/registry/registry_int.h"
#include "meshd/registry/router.h"
#include "meshd/registry/service.h"
#include "meshd/registry/snapfile.h"
#include "meshd/registry/table.h"
#include "meshd/registry/waiting.h"

#define BEAT_MS  500
#define SWEEP_MS 5000
#define CHANGED_MS 5

static struct meshd_timer *beat_timer, *sweep_timer, *changed_timer;
struct meshd_registry_info meshd_registry_counts;

enum mesh_err
meshd_registry_republish(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    const struct mesh_snap_settings set = {
        .accept_grace_ms = cfg->accept_grace_ms,
        .handshake_timeout_ms = cfg->handshake_timeout_ms,
        .detect_timeout_ms = cfg->detect_timeout_ms,
        .linger_ms = cfg->linger_ms,
        .mode = cfg->mode,
        .egress = cfg->egress,
        .strict_close = cfg->strict_close,
        .kernel_tls = cfg->kernel_tls,
        .no_resumption = !cfg->session_resumption,
        .live = meshd_live_id(),
    };
    enum mesh_err e = meshd_names_prepare();
    if (e != MESH_OK) {
        return e;
    }
    meshd_snapfile_begin();
    meshd_service_write();
    meshd_given_write(false);
    meshd_listener_write();
    meshd_given_write(true);
    meshd_front_write();
    meshd_names_write();
    meshd_member_write();
    if (meshd_table_end()) {
        meshd_registry_changed();
    }
    meshd_router_write();
    enum mesh_err done = meshd_snapfile_commit(&set);
    meshd_health_changed();
    return done;
}

enum mesh_err
meshd_registry_publish(void)
{
    enum mesh_err e = meshd_configured_load();
    e = e == MESH_OK ? meshd_front_load() : e;
    e = e == MESH_OK ? meshd_names_load() : e;
    return e == MESH_OK ? meshd_registry_republish() : e;
}

/* Publishes, or says why not. The mesh goes on with the previous snapshot. */
void
meshd_registry_refresh(void)
{
    enum mesh_err e = meshd_registry_republish();
    if (e == MESH_E_NO_MEMORY) {
        meshd_registry_counts.overflowed++;
        log_error("the snapshot is full: %u listeners", meshd_listener_count());
    }
}

static void
on_changed(void *arg)
{
    (void)arg;
    meshd_timer_free(changed_timer);
    changed_timer = NULL;
    meshd_registry_refresh();
}

void
meshd_registry_changed(void)
{
    if (!changed_timer) {
        changed_timer = meshd_timer_new(CHANGED_MS, on_changed, NULL);
    }
}

bool
meshd_registry_is_local_endpoint(uint64_t netns, const struct mesh_addr *a, int fd)
{
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_snap_hit hit;
    bool found = false;
    if (netns == 0 || netns != (fd >= 0 ? meshd_netlink_of(fd) : meshd_netlink_own()) ||
        mesh_snap_find_endpoint(&s, netns, a, &hit, &found) != MESH_OK || !found) {
        return false;
    }
    return !hit.needs_local || (fd >= 0 ? meshd_listener_binds(fd, a) : meshd_listener_is_own_address(a));
}

bool
meshd_registry_peer_at(const struct mesh_addr *a, char *id)
{
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_snap_hit hit;
    bool found = false;
    if (mesh_snap_find_endpoint(&s, meshd_netlink_own(), a, &hit, &found) != MESH_OK || !found ||
        (hit.needs_local && !meshd_listener_is_own_address(a)) || hit.endpoint.mode == MESH_MODE_OFF) {
        return false;
    }
    memcpy(id, hit.service.id, MESH_ID_MAX);
    return true;
}

uint64_t
meshd_registry_netns(void)
{
    return meshd_netlink_own();
}

bool
meshd_registry_is_own_address(const struct mesh_addr *a)
{
    return meshd_listener_is_own_address(a);
}

struct mesh_snap
meshd_registry_view(void)
{
    return meshd_snapfile_view();
}

bool
meshd_registry_service_at(uint32_t index, struct mesh_snap_service *out)
{
    if (index >= meshd_snapfile_count(MESH_SNAP_SERVICES)) {
        return false;
    }
    meshd_snapfile_get(MESH_SNAP_SERVICES, index, out);
    return true;
}

bool
meshd_registry_is_whole(void)
{
    return meshd_snapfile_is_whole();
}

uint32_t
meshd_registry_live_count(uint32_t id)
{
    return meshd_live_count(id);
}

int
meshd_registry_live_fd(void)
{
    return meshd_live_fd();
}

int
meshd_registry_snapshot_fd(void)
{
    return meshd_snapfile_fd();
}

static void
on_sweep(void *arg)
{
    (void)arg;
    meshd_check_all();
    meshd_live_correct();
}

static void
on_beat(void *arg)
{
    (void)arg;
    if (!meshd_snapfile_is_whole()) {
        log_error("the snapshot was damaged by somebody else; it is published anew");
        meshd_registry_refresh();
    }
    meshd_snapfile_beat();
    meshd_outlier_watch();
}

enum mesh_err
meshd_registry_init(const char *run_dir)
{
    char path[PATH_MAX];
    if (!meshd_path(path, sizeof(path), run_dir, "snapshot")) {
        return MESH_E_CONFIG;
    }
    enum mesh_err e = meshd_snapfile_open(path, MESH_SNAP_AREA);
    if (e == MESH_OK) {
        e = meshd_netlink_init(meshd_check_destroyed, meshd_check_told);
    }
    if (e != MESH_OK) {
        return e;
    }
    meshd_live_init();
    meshd_drain_init(run_dir);
    meshd_listener_begin();
    meshd_snapfile_visit(meshd_listener_restore, NULL);
    meshd_snapfile_visit(meshd_given_restore, NULL);
    for (struct meshd_listener *l = meshd_listener_first(); l; l = meshd_listener_next(l)) {
        bool covered = meshd_netlink_open(l->e.netns, l->e.pid);
        bool watched = meshd_proc_watch(l->e.pid, l->starttime) == MESH_OK;
        log_debug("taken over: endpoint %u%s%s", l->e.id, covered ? "" : ", not verifiable",
                  watched ? "" : ", not watched");
    }
    e = meshd_configured_load();
    e = e == MESH_OK ? meshd_front_load() : e;
    e = e == MESH_OK ? meshd_names_load() : e;
    if (e != MESH_OK) {
        return e;
    }
    meshd_check_all();
    meshd_snapfile_beat();
    beat_timer = meshd_timer_new(BEAT_MS, on_beat, NULL);
    sweep_timer = meshd_timer_new(SWEEP_MS, on_sweep, NULL);
    return beat_timer && sweep_timer ? meshd_registry_publish() : MESH_E_NO_MEMORY;
}

void
meshd_registry_fini(void)
{
    meshd_timer_free(beat_timer);
    meshd_timer_free(sweep_timer);
    meshd_timer_free(changed_timer);
    meshd_waiting_fini();
    beat_timer = sweep_timer = changed_timer = NULL;
    meshd_netlink_fini();
    meshd_listener_free_all();
    meshd_given_fini();
    meshd_front_fini();
    meshd_names_fini();
    meshd_member_fini();
    meshd_live_fini();
    meshd_drain_fini();
    meshd_snapfile_close();
}

void
meshd_registry_info(struct meshd_registry_info *out)
{
    *out = meshd_registry_counts;
    out->generation = meshd_snapfile_generation();
    out->epoch = meshd_snapfile_epoch();
    out->services = meshd_service_count();
    out->endpoints = meshd_listener_count() + meshd_given_count();
    out->namespaces = meshd_netlink_namespaces();
}

void
meshd_registry_visit_services(meshd_service_visit *visit, void *arg)
{
    meshd_service_visit_all(visit, arg);
}

void
meshd_registry_visit_endpoints(meshd_endpoint_visit *visit, void *arg)
{
    for (struct meshd_listener *l = meshd_listener_first(); l; l = meshd_listener_next(l)) {
        l->e.mode = meshd_listener_mode(l);
        meshd_listener_rule(l);
        l->e.draining = meshd_drain_has(&l->e);
        if (visit(&l->e, arg) != 0) {
            return;
        }
    }
    meshd_given_visit(visit, arg);
}
