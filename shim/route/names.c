/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_names: see names.h.
 */
#include "shim/route/names.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>

#include "shim/core/env.h"
#include "shim/core/fdtab.h"
#include "shim/link/link.h"
#include "shim/real.h"

/* Once it waits for meshd; a program that only looks names up must not wait each time. */
static bool
is_attached(void)
{
    static atomic_bool waited;
    if (shim_link_snapshot().map) {
        return shim_fdtab_may_write() ? shim_link_ready() == MESH_OK : true;
    }
    if (!shim_fdtab_may_write()) {
        return false; /* in a vfork child */
    }
    enum mesh_err e = atomic_exchange(&waited, true) ? shim_link_try() : shim_link_ready();
    return e == MESH_OK && shim_link_snapshot().map;
}

/* A name in the form of a host's, and no address in one of inet_aton's many forms. */
static bool
is_host_name(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n = strspn(name, allowed);
    struct in_addr a;
    return n > 0 && n < MESH_NAME_TEXT && !name[n] && inet_aton(name, &a) == 0;
}

/* The machine's own name, or its first label: programs ask for it to find out about themselves. */
static bool
is_own(const char *name)
{
    struct utsname u;
    if (sys_call(SYS_uname, &u, 0, 0, 0) != 0) {
        return false;
    }
    u.nodename[sizeof(u.nodename) - 1] = '\0';
    size_t n = strlen(name), label = strcspn(u.nodename, ".");
    n -= n > 1 && name[n - 1] == '.';
    return (n == label || n == strlen(u.nodename)) && strncasecmp(name, u.nodename, n) == 0;
}

static enum mesh_err
look_up(const char *name, struct mesh_named *out)
{
    struct mesh_snap snap = shim_link_snapshot();
    return mesh_snap_name_find(&snap, name, out);
}

enum mesh_err
shim_names_find(const char *name, bool bind, struct mesh_named *out)
{
    memset(out, 0, sizeof(*out));
    if (!name || !is_host_name(name) || !is_attached()) {
        return MESH_OK;
    }
    enum mesh_err e = look_up(name, out);
    if (e == MESH_E_SNAPSHOT && shim_fdtab_may_write()) {
        shim_link_damaged();
        e = shim_link_ready();
        e = e == MESH_OK ? look_up(name, out) : MESH_E_SNAPSHOT;
    }
    if (e != MESH_OK || out->answer != MESH_NAME_FOUND) {
        return e;
    }
    if (out->kind != MESH_NAME_DOMAIN && (bind || is_own(name))) {
        memset(out, 0, sizeof(*out));
    }
    return MESH_OK;
}

enum mesh_err
shim_names_of(const struct mesh_addr *a, struct mesh_named *out)
{
    struct mesh_snap snap = shim_link_snapshot();
    memset(out, 0, sizeof(*out));
    return snap.map ? mesh_snap_name_of(&snap, a, out) : MESH_OK;
}

bool
shim_names_forbid(const struct sockaddr *sa, size_t len)
{
    struct mesh_addr a;
    struct mesh_named who;
    int saved = errno;
    if (!shim_env.on || !mesh_addr_from(&a, sa, len) || !mesh_vaddr_is(&a)) {
        return false;
    }
    (void)is_attached();
    bool ours = shim_names_of(&a, &who) != MESH_OK || who.answer != MESH_NAME_FOREIGN;
    errno = saved;
    return ours;
}
