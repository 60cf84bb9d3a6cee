/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_listener: see listener.h.
 */
#include "shim/flow/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "common/snap.h"
#include "shim/core/env.h"
#include "shim/core/fdtab.h"
#include "shim/core/lock.h"
#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/flow/conn.h"
#include "shim/flow/ident.h"
#include "shim/link/link.h"
#include "shim/real.h"

#define LISTENERS 4096

struct listener {
    _Atomic uint64_t cookie; /* 0: free */
    int32_t pid;             /* that called listen(): a child of fork only inherited it */
    uint16_t port;
    uint8_t mode; /* as meshd said at registration; the snapshot overrides */
};
static struct listener table[LISTENERS];

bool
shim_listener_is_own(uint64_t cookie)
{
    for (unsigned i = 0; cookie && i < LISTENERS; i++) {
        if (atomic_load_explicit(&table[i].cookie, memory_order_relaxed) == cookie) {
            return table[i].pid == sys_getpid();
        }
    }
    return false;
}

static struct listener *
claim(uint64_t cookie)
{
    for (unsigned i = 0; i < LISTENERS; i++) {
        uint64_t zero = 0;
        if (atomic_load_explicit(&table[i].cookie, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong(&table[i].cookie, &zero, cookie)) {
            return &table[i];
        }
    }
    return NULL;
}

enum mesh_mode
shim_listener_mode(int fd)
{
    struct listener *l = &table[SHIM_FD_INDEX(shim_fd_word(fd)) % LISTENERS];
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_hit hit;
    if (mesh_snap_listener(&snap, shim_link_netns(), atomic_load(&l->cookie), l->port, &hit)) {
        return (enum mesh_mode)hit.endpoint.mode;
    }
    return (enum mesh_mode)l->mode;
}

void
shim_listener_closed(int fd, uint32_t word)
{
    struct listener *l = &table[SHIM_FD_INDEX(word) % LISTENERS];
    uint64_t cookie = atomic_load(&l->cookie);
    if (shim_fdtab_other(word, fd) < 0 && cookie) {
        atomic_store(&l->cookie, 0);
        shim_link_unlisten(cookie);
    }
}

static enum mesh_err
register_fd(int fd, const struct mesh_addr *at, int family)
{
    int v6only = 0;
    socklen_t len = sizeof(v6only);
    uint64_t cookie = shim_cookie(fd);
    uint8_t mode = MESH_MODE_PERMISSIVE;
    if (family == AF_INET6) {
        (void)sys_getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &len);
    }
    if (!cookie || fd >= SHIM_FD_MAX) {
        return MESH_E_NO_FD;
    }
    enum mesh_err e = shim_link_listen(fd, at, v6only != 0, cookie, &mode);
    if (e != MESH_OK) {
        return e;
    }
    struct listener *l = claim(cookie);
    if (!l) {
        return MESH_E_NO_MEMORY;
    }
    l->port = at->port;
    l->pid = sys_getpid();
    l->mode = mode;
    (void)shim_fdtab_set(fd, SHIM_FD_LISTENER, (uint32_t)(l - table));
    return mode == MESH_MODE_OFF ? MESH_OK : shim_ident_ready();
}

/* The address that fd will listen on; an unbound socket is bound as listen() would [ip(7)]. */
static bool
address_of(int fd, struct mesh_addr *at, int *family)
{
    struct sockaddr_storage sa;
    for (int tries = 0; tries < 2; tries++) {
        socklen_t len = sizeof(sa);
        if (sys_call(SYS_getsockname, fd, &sa, &len, 0) != 0 ||
            !mesh_addr_from(at, (struct sockaddr *)&sa, len)) {
            return false;
        }
        *family = sa.ss_family;
        if (at->port != 0) {
            return true;
        }
        if (sys_call(SYS_bind, fd, &sa, len, 0) != 0) {
            return false; /* listen() will say why */
        }
    }
    return false;
}

void
shim_conn_listen_failed(int fd)
{
    uint32_t word = shim_fd_word(fd);
    if (word >> SHIM_FD_KIND_SHIFT == SHIM_FD_LISTENER) {
        (void)shim_fdtab_set(fd, SHIM_FD_FRESH, 0);
        shim_listener_closed(fd, word);
    }
}

int
shim_conn_listen(int fd)
{
    struct mesh_addr at;
    int family = AF_UNSPEC;
    if (shim_fd_kind(fd) == SHIM_FD_LISTENER || !address_of(fd, &at, &family)) {
        return 0; /* listen() again only changes the backlog */
    }
    enum mesh_err e = shim_link_ready();
    if (e == MESH_OK) {
        e = register_fd(fd, &at, family);
    }
    if (e == MESH_OK || shim_env.fallback_pass) {
        return 0;
    }
    shim_stat_err(e);
    shim_log_error("listen: %s (%s)", mesh_err_text(e), mesh_err_reason(e));
    return mesh_err_errno(e);
}
