/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_lent: see lent.h.
 */
#include "meshd/registry/lent.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uthash.h>

#ifndef SO_COOKIE
#define SO_COOKIE 57
#endif

/* One memory, lent for any number of connections. */
struct region {
    uint64_t ino;
    uid_t uid;
    int fd;
    unsigned users;
    UT_hash_handle hh;
};

struct lent {
    uint64_t cookie;
    struct region *region;
    UT_hash_handle hh; /* in order of arrival */
};

static struct region *regions;
static struct lent *all;

/* A region is a memfd: an unlinked file of tmpfs that can be sized and sealed [memfd_create(2)]. */
static bool
is_memfd(int fd, uint64_t *ino)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink != 0 ||
        fcntl(fd, F_GET_SEALS) < 0) {
        return false;
    }
    *ino = st.st_ino;
    return true;
}

static void
leave(struct region *r)
{
    if (--r->users == 0) {
        HASH_DEL(regions, r);
        (void)close(r->fd);
        free(r);
    }
}

static void
forget(struct lent *l)
{
    HASH_DEL(all, l);
    leave(l->region);
    free(l);
}

static struct region *
enter(uint64_t ino, uid_t uid, int *fd)
{
    struct region *r;
    HASH_FIND(hh, regions, &ino, sizeof(ino), r);
    if (r && r->uid != uid) {
        return NULL; /* somebody lends what is another user's */
    }
    if (!r) {
        r = calloc(1, sizeof(*r));
        if (!r) {
            return NULL;
        }
        *r = (struct region){.ino = ino, .uid = uid, .fd = *fd};
        *fd = -1;
        HASH_ADD(hh, regions, ino, sizeof(r->ino), r);
    }
    r->users++;
    return r;
}

enum mesh_err
meshd_lent_put(const struct meshd_peer *peer, uint64_t cookie, int *fd)
{
    uint64_t ino = 0;
    struct lent *l;
    if (cookie == 0 || !is_memfd(*fd, &ino)) {
        return MESH_E_PROTOCOL;
    }
    HASH_FIND(hh, all, &cookie, sizeof(cookie), l);
    if (l && l->region->uid != peer->uid && peer->uid != 0) {
        return MESH_E_DENIED;
    }
    if (l) {
        forget(l);
    }
    if (HASH_COUNT(all) >= MESHD_LENT_MAX) {
        forget(all);
    }
    l = calloc(1, sizeof(*l));
    struct region *r = l ? enter(ino, peer->uid, fd) : NULL;
    if (!r) {
        free(l);
        return MESH_E_NO_MEMORY;
    }
    l->cookie = cookie;
    l->region = r;
    HASH_ADD(hh, all, cookie, sizeof(l->cookie), l);
    return MESH_OK;
}

uint64_t
meshd_lent_cookie(int sock)
{
    uint64_t cookie = 0;
    socklen_t len = sizeof(cookie);
    return sock >= 0 && getsockopt(sock, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

bool
meshd_lent_get(const struct meshd_peer *peer, int sock, int *fd)
{
    uint64_t cookie = meshd_lent_cookie(sock);
    struct lent *l = NULL;
    *fd = -1;
    if (cookie == 0) {
        return false;
    }
    HASH_FIND(hh, all, &cookie, sizeof(cookie), l);
    /* The same user; or root, who could read it anyway. What is written there is believed by neither. */
    if (l && (peer->uid == l->region->uid || peer->uid == 0)) {
        *fd = fcntl(l->region->fd, F_DUPFD_CLOEXEC, 0);
    }
    return l != NULL;
}

void
meshd_lent_fini(void)
{
    while (all) {
        forget(all);
    }
}
