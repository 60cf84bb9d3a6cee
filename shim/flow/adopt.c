/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_carry, the part in the new image: it maps the region, and takes over the connections whose
 * sockets it has.
 */
#include "shim/flow/carry_int.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shim/core/fdtab.h"
#include "shim/core/region.h"
#include "shim/core/stat.h"
#include "shim/core/stdio.h"
#include "shim/flow/conn.h"
#include "shim/flow/fresh.h"
#include "shim/flow/ident.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/real.h"

/* The region that the variable names, under the first of its two names that still leads to it. */
static bool
map_region(const char *value)
{
    int fd = -1, pid = 0, pid_fd = -1;
    unsigned long long ino = 0;
    char path[64];
    struct stat st;
    if (sscanf(value, "%d:%llu:%d:%d", &fd, &ino, &pid, &pid_fd) != 4 || ino == 0) {
        return false;
    }
    if (sys_call(SYS_fstat, fd, &st, 0, 0) == 0 && st.st_ino == ino) {
        bool ok = shim_region_adopt(fd);
        (void)sys_close(fd);
        return ok;
    }
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, pid_fd);
    fd = (int)sys_call(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    bool ok = fd >= 0 && sys_call(SYS_fstat, fd, &st, 0, 0) == 0 && st.st_ino == ino &&
              shim_region_adopt(fd);
    if (fd >= 0) {
        (void)sys_close(fd);
    }
    return ok;
}


/* Without the region an inherited connection would be read and written raw. */
static void
refuse_unknown(int fd)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa), plen = sizeof(int);
    int proto = 0;
    if (sys_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &proto, &plen) == 0 && proto == IPPROTO_TCP &&
        sys_call(SYS_getpeername, fd, &sa, &len, 0) == 0) {
        shim_carry_dead_end(fd);
    }
}

static void
adopt_one(int fd, void *arg)
{
    struct shim_slot *s = shim_carry_slot(fd);
    (void)arg;
    if (!shim_region()) {
        refuse_unknown(fd);
    } else if (s) {
        enum shim_phase phase = shim_slot_phase(s);
        (void)shim_fdtab_set(fd, SHIM_FD_CONN, shim_slot_handle(s));
        if (phase == SHIM_PHASE_FRESH || phase < SHIM_PHASE_OPEN) {
            shim_work_look();
        }
        if (shim_stdio_refused() && fd <= 2 && phase != SHIM_PHASE_FRESH) { /* where a stream lies already */
            (void)shim_fdtab_set(fd, SHIM_FD_NONE, 0);
            shim_carry_dead_end(fd);
        }
    } else {
        shim_conn_inherited(fd);
    }
}

/* What posix_spawn lent is now held in this process's name, or not at all. */
static void
give_back(const char *value)
{
    for (int i = 0; i < 4 && value; i++) {
        value = strchr(value, ':');
        value = value ? value + 1 : NULL;
    }
    while (value) {
        struct shim_slot *s = shim_slot_current((uint32_t)strtoul(value, NULL, 16));
        if (s && atomic_fetch_sub(&s->refs, 1) == 1) {
            shim_slot_end_unheld(s, shim_conn_end);
        }
        value = strchr(value, ':');
        value = value ? value + 1 : NULL;
    }
}

void
shim_carry_adopt(const char *value)
{
    bool mapped = map_region(value);
    shim_carry_each_fd(adopt_one, NULL);
    if (mapped) {
        shim_slot_recount(shim_fdtab_owner(), shim_conn_end);
        give_back(value);
    }
}

/* What it counts as is to be taken back where it was counted: in the host's live state. */
static void
share_counts(const struct shim_slot *s)
{
    struct mesh_snap_settings set;
    if (SHIM_ONCE(s->limit_all) || SHIM_ONCE(s->share) || atomic_load(&s->endpoint) || atomic_load(&s->counted)) {
        struct mesh_snap snap = shim_link_snapshot();
        mesh_snap_settings(&snap, &set);
        shim_link_live(set.live);
    }
}

void
shim_carry_list(struct shim_slot *s)
{
    share_counts(s);
    struct shim_region *r = shim_region_at(shim_region_index(s));
    shim_stat_conn_carried(s, &r->carried[s - r->slot]);
}

void
shim_carry_take_over(void)
{
    if (shim_ident_engine() != MESH_OK) {
        return;
    }
    (void)shim_link_try();
    for (int fd = 0, end = shim_fdtab_limit(); fd < end; fd++) {
        uint32_t word = shim_fd_word(fd);
        struct shim_slot *s = word >> SHIM_FD_KIND_SHIFT == SHIM_FD_CONN
                                  ? shim_slot_current(SHIM_FD_INDEX(word))
                                  : NULL;
        if (!s || shim_slot_phase(s) == SHIM_PHASE_FRESH) {
            continue;
        }
        if (shim_region_at(shim_region_index(s))->carried[SHIM_FD_INDEX(word) % SHIM_SLOTS].cookie == atomic_load(&s->cookie)) {
            shim_carry_list(s);
        } else { /* another process connected it after fork, and lists it */
            share_counts(s);
        }
        if (s->tx_spill) {
            shim_work_tail(s, fd);
        }
    }
}
