/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_attest: see attest.h. The daemon's one owner of SO_PEERCRED.
 *
 * The pid of SO_PEERCRED may die and be reused while we read /proc. A pidfd of the socket's own
 * peer (Linux 6.5) or the start time, taken before and after, tells; then nothing is granted.
 */
#include "meshd/attest/attest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/unit.h"
#include "meshd/base/log.h"
#include "meshd/base/proc.h"
#include "meshd/policy/config.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

static const char deleted[] = " (deleted)";

enum mesh_err
meshd_attest_cred(int fd, pid_t *pid, uid_t *uid, gid_t *gid)
{
    struct ucred c = {0};
    socklen_t len = sizeof(c);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len) != 0 || len != sizeof(c)) {
        return MESH_E_SYSTEM;
    }
    *pid = c.pid;
    *uid = c.uid;
    *gid = c.gid;
    return MESH_OK;
}

/* True unless the kernel says that the process that connected fd is dead. */
static bool
peer_may_live(int fd)
{
    int pidfd = -1;
    socklen_t len = sizeof(pidfd);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) != 0) {
        return errno != ESRCH && errno != ENODATA && errno != EINVAL;
    }
    struct pollfd p = {pidfd, POLLIN, 0};
    bool dead = poll(&p, 1, 0) > 0;
    close(pidfd);
    return !dead;
}

static ssize_t
read_proc(pid_t pid, const char *name, char *out, size_t cap)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    ssize_t n = read(fd, out, cap - 1);
    close(fd);
    out[n > 0 ? n : 0] = '\0';
    return n;
}

static void
read_exe(pid_t pid, char *out, size_t cap)
{
    char path[64], exe[4096];
    snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    ssize_t n = readlink(path, exe, sizeof(exe) - 1);
    if (n <= 0) { /* another user's process, and we are not root */
        n = read_proc(pid, "comm", exe, sizeof(exe));
        n -= n > 0 && exe[n - 1] == '\n';
    }
    exe[n > 0 ? n : 0] = '\0';
    size_t len = strlen(exe), tail = sizeof(deleted) - 1;
    if (len > tail && strcmp(exe + len - tail, deleted) == 0) {
        exe[len - tail] = '\0';
        len -= tail;
    }
    /* Of a path too long for us, the end tells more. */
    snprintf(out, cap, "%s", len >= cap ? exe + len - (cap - 1) : exe);
}

void
meshd_attest_look(struct meshd_peer *p)
{
    char cgroup[8192];
    read_exe(p->pid, p->exe, sizeof(p->exe));
    if (read_proc(p->pid, "cgroup", cgroup, sizeof(cgroup)) > 0) {
        mesh_unit_of(cgroup, p->unit, sizeof(p->unit));
    }
}

enum mesh_err
meshd_attest_peer(int fd, struct meshd_peer *peer)
{
    struct meshd_peer p = {0};
    enum mesh_err e = meshd_attest_cred(fd, &p.pid, &p.uid, &p.gid);
    if (e != MESH_OK) {
        return e;
    }
    p.starttime = p.pid > 0 ? meshd_proc_starttime(p.pid) : 0;
    if (p.starttime == 0 || !peer_may_live(fd)) {
        log_warn("attest: process %d is gone or not visible from here", (int)p.pid);
        return MESH_E_DENIED;
    }
    meshd_attest_look(&p);
    if (meshd_proc_starttime(p.pid) != p.starttime || !peer_may_live(fd)) {
        return MESH_E_DENIED;
    }
    *peer = p;
    return MESH_OK;
}

static bool
is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '.' || c == '_' || c == '-';
}

static bool
is_dots(const char *s)
{
    return strcmp(s, ".") == 0 || strcmp(s, "..") == 0;
}

bool
meshd_attest_is_service_name(const char *s)
{
    size_t n = strnlen(s, MESH_SERVICE_MAX);
    for (size_t i = 0; i < n; i++) {
        if (!is_name_char(s[i])) {
            return false;
        }
    }
    return n > 0 && n < MESH_SERVICE_MAX && !is_dots(s);
}

void
meshd_attest_service_name(const char *path, char *out)
{
    const char *slash = strrchr(path, '/');
    const char *s = slash ? slash + 1 : path;
    size_t n = 0, len = strlen(s), tail = sizeof(deleted) - 1;
    if (len > tail && strcmp(s + len - tail, deleted) == 0) {
        len -= tail;
    }
    for (; n < len && n < MESH_SERVICE_MAX - 1; n++) {
        out[n] = is_name_char(s[n]) ? s[n] : '-';
    }
    out[n] = '\0';
    if (!meshd_attest_is_service_name(out)) {
        snprintf(out, MESH_SERVICE_MAX, "unknown");
    }
}

enum mesh_err
meshd_attest_id(const char *service, char *out)
{
    const struct meshd_config *cfg = meshd_config_current();
    char id[MESH_ID_MAX];
    int n = snprintf(id, sizeof(id), "spiffe://%s/ns/%s/sa/%s", cfg->trust_domain, cfg->namespace_,
                     service);
    if (n < 0 || (size_t)n >= sizeof(id)) {
        return MESH_E_CONFIG;
    }
    memcpy(out, id, sizeof(id));
    return MESH_OK;
}

enum mesh_err
meshd_attest_identity(const struct meshd_peer *peer, const char *wish, struct meshd_identity *out)
{
    const struct meshd_config *cfg = meshd_config_current();
    const struct meshd_workload_rule *rule = meshd_config_match_workload(cfg, peer);
    bool may_wish = rule ? rule->allow_requested_service : cfg->allow_requested_service;
    struct meshd_identity id = {0};
    if (rule && rule->service[0]) {
        snprintf(id.service, sizeof(id.service), "%s", rule->service);
    } else if (may_wish && meshd_attest_is_service_name(wish)) {
        snprintf(id.service, sizeof(id.service), "%s", wish);
    } else {
        meshd_attest_service_name(peer->exe, id.service);
    }
    enum mesh_err e = meshd_attest_id(id.service, id.id);
    if (e == MESH_OK) {
        *out = id;
    }
    return e;
}
