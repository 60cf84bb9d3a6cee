/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_page: see page.h.
 */
#include "meshd/stats/page.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "meshd/base/file.h"
#include "meshd/base/log.h"

#define INFO_MAGIC UINT64_C(0x32464e494d424c) /* "LBMINF2" */
#define BLOCK      64u                        /* entries read at once */
#define TOO_MUCH   (UINT64_C(1) << 62)        /* no honest counter */

static char dir[PATH_MAX];

static bool
page_path(uint64_t id, const char *suffix, char *out)
{
    int n = snprintf(out, PATH_MAX, "%.4000s/%016llx%s", dir, (unsigned long long)id, suffix);
    return n > 0 && n < PATH_MAX;
}

enum mesh_err
meshd_page_init(const char *path)
{
    if (strlen(path) > 4000) {
        return MESH_E_CONFIG;
    }
    snprintf(dir, sizeof(dir), "%s", path);
    return meshd_dir_make(dir, 0700);
}

static bool
read_info(uint64_t id, struct meshd_page_info *out)
{
    char path[PATH_MAX];
    char *data = NULL;
    size_t len = 0;
    if (!page_path(id, ".info", path) || meshd_file_read(path, 65536, &data, &len) != MESH_OK) {
        return false;
    }
    bool ok = len == sizeof(*out);
    if (ok) {
        memcpy(out, data, sizeof(*out));
        out->service[sizeof(out->service) - 1] = '\0';
        out->id[sizeof(out->id) - 1] = '\0';
        out->exe[sizeof(out->exe) - 1] = '\0';
        out->unit[sizeof(out->unit) - 1] = '\0';
        ok = out->magic == INFO_MAGIC && out->page_id == id;
    }
    free(data);
    return ok;
}

void
meshd_page_scan(meshd_page_found *found)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        char *end = NULL;
        unsigned long long id = strtoull(e->d_name, &end, 16);
        struct meshd_page_info info;
        if (strlen(e->d_name) < 16 || end != e->d_name + 16 || *end != '\0') {
            continue; /* the .info files go with their pages */
        }
        if (read_info(id, &info)) {
            found(&info);
        } else {
            log_warn("statistics page %s has no owner; removed", e->d_name);
            meshd_page_unlink(id);
        }
    }
    if (d) {
        closedir(d);
    }
}

static void
fill_head(struct mesh_page *p, const struct meshd_page_info *info)
{
    p->magic = MESH_PAGE_MAGIC;
    p->version = MESH_PAGE_VERSION;
    p->size = MESH_PAGE_SIZE;
    p->page_id = info->page_id;
    p->attached_ns = info->attached_ns;
    p->starttime = info->starttime;
    p->netns = info->netns;
    p->mark = info->mark;
    p->pid = info->pid;
    p->uid = info->uid;
    p->gid = info->gid;
    memcpy(p->service, info->service, sizeof(p->service));
    memcpy(p->id, info->id, sizeof(p->id));
    memcpy(p->exe, info->exe, sizeof(p->exe));
    memcpy(p->unit, info->unit, sizeof(p->unit));
}

enum mesh_err
meshd_page_new(const struct meshd_page_info *info)
{
    enum mesh_err e = MESH_E_SYSTEM;
    char path[PATH_MAX], info_path[PATH_MAX];
    struct meshd_page_info copy = *info;
    struct mesh_page *head = calloc(1, sizeof(*head));
    int fd = -1;
    if (!head || !page_path(info->page_id, "", path) ||
        !page_path(info->page_id, ".info", info_path)) {
        goto out;
    }
    fill_head(head, info);
    copy.magic = INFO_MAGIC;
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)MESH_PAGE_SIZE) != 0 ||
        pwrite(fd, head, sizeof(*head), 0) != (ssize_t)sizeof(*head)) {
        log_error("%s: %s", path, strerror(errno));
        goto out;
    }
    e = meshd_file_write(info_path, &copy, sizeof(copy), 0600, false);
out:
    if (e != MESH_OK && fd >= 0) {
        unlink(path);
    }
    if (fd >= 0) {
        close(fd);
    }
    free(head);
    return e;
}

int
meshd_page_open(uint64_t page_id)
{
    char path[PATH_MAX];
    return page_path(page_id, "", path) ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;
}

void
meshd_page_unlink(uint64_t page_id)
{
    char path[PATH_MAX];
    if (page_path(page_id, "", path)) {
        unlink(path);
    }
    if (page_path(page_id, ".info", path)) {
        unlink(path);
    }
}

bool
meshd_page_is_unused(uint64_t page_id, bool fallback)
{
    int fd = meshd_page_open(page_id);
    if (fd < 0) {
        return true;
    }
    bool unused = fallback;
    if (fcntl(fd, F_SETLEASE, F_WRLCK) == 0) {
        unused = true;
        fcntl(fd, F_SETLEASE, F_UNLCK);
    } else if (errno == EAGAIN || errno == EBUSY) {
        unused = false;
    }
    close(fd);
    return unused;
}

static uint64_t
sane(uint64_t v)
{
    return v < TOO_MUCH ? v : 0;
}

static void
copy_counters(struct meshd_counters *c, struct mesh_page *p)
{
    for (unsigned i = 0; i < MESH_STAT_COUNT; i++) {
        c->stat[i] = sane(atomic_load_explicit(&p->stat[i], memory_order_relaxed));
    }
    for (unsigned i = 0; i < MESH_ERR_COUNT; i++) {
        c->err[i] = sane(atomic_load_explicit(&p->err[i], memory_order_relaxed));
    }
    for (unsigned i = 0; i < MESH_PAGE_BUCKETS; i++) {
        c->handshake_us[i] = sane(atomic_load_explicit(&p->handshake_us[i], memory_order_relaxed));
        c->connect_us[i] = sane(atomic_load_explicit(&p->connect_us[i], memory_order_relaxed));
    }
}

void
meshd_page_read(uint64_t page_id, struct meshd_page_head *out)
{
    static struct mesh_page p;
    memset(&p, 0, sizeof(p));
    *out = (struct meshd_page_head){0};
    int fd = meshd_page_open(page_id);
    if (fd < 0) {
        return;
    }
    ssize_t n = pread(fd, &p, sizeof(p), 0);
    close(fd);
    if (n <= 0) {
        return;
    }
    copy_counters(&out->counters, &p);
    for (unsigned i = 0; i < MESH_PAGE_PIDS; i++) {
        out->pids[i] = atomic_load_explicit(&p.pids[i], memory_order_relaxed);
        out->left[i] = atomic_load_explicit(&p.left[i], memory_order_relaxed);
    }
    for (unsigned i = 0; i <= MESH_PAGE_PIDS; i++) {
        out->deciding[i] = atomic_load_explicit(&p.deciding[i], memory_order_relaxed) != 0;
    }
    out->version = p.version;
    out->conns_full = atomic_load_explicit(&p.conns_full, memory_order_relaxed);
    out->pids_full = atomic_load_explicit(&p.pids_full, memory_order_relaxed) != 0;
}

void
meshd_page_text(char *out, const char *in, size_t cap)
{
    size_t i = 0;
    for (; i < cap - 1 && in[i]; i++) {
        out[i] = in[i] > 0x20 && in[i] < 0x7f ? in[i] : '?';
    }
    out[i] = '\0';
}

void
meshd_stats_service_of(const char *id, char *out)
{
    const char *sa = strstr(id, "/sa/");
    snprintf(out, MESH_SERVICE_MAX, "%.*s", (int)MESH_SERVICE_MAX - 1, sa ? sa + 4 : "");
}

bool
meshd_page_copy_conn(struct meshd_conn *c, struct mesh_page_conn *in, const struct meshd_page_info *info)
{
    uint32_t state = atomic_load_explicit(&in->state, memory_order_relaxed);
    if (state < MESH_CONN_HANDSHAKE || state > MESH_CONN_CLOSED) {
        return false;
    }
    *c = (struct meshd_conn){
        .page_id = info->page_id,
        .state = (enum mesh_page_state)state,
        .outbound = in->outbound != 0,
        .plaintext = in->plaintext != 0,
        .cipher = in->cipher,
        .local.port = in->local_port,
        .peer.port = in->peer_port,
        .pid = in->pid > 0 ? in->pid : info->pid,
        .netns = info->netns,
        .cookie = in->cookie,
        .mark = in->mark,
        .opened_ns = sane(in->opened_ns),
        .closed_ns = sane(in->closed_ns),
        .tx_bytes = sane(atomic_load_explicit(&in->tx_bytes, memory_order_relaxed)),
        .rx_bytes = sane(atomic_load_explicit(&in->rx_bytes, memory_order_relaxed)),
        .before_tx = sane(in->before_tx),
        .before_rx = sane(in->before_rx),
        .edge = in->edge,
        .reason = in->reason < MESH_ERR_COUNT ? (enum mesh_err)in->reason : MESH_OK,
        .handshake_us = in->handshake_us,
        .endpoint = in->endpoint,
        .uncounted = in->uncounted != 0,
        .how = atomic_load_explicit(&in->how, memory_order_relaxed),
        .connect_us = in->connect_us,
        .attempts = in->attempts,
        .os_errno = in->os_errno,
        .number = in->number,
        .asked.port = in->asked_port,
        .asked_service = in->asked_service,
        .route = in->route,
    };
    memcpy(c->asked.ip, in->asked_addr, 16);
    memcpy(c->local.ip, in->local_addr, 16);
    memcpy(c->peer.ip, in->peer_addr, 16);
    memcpy(c->service, info->service, sizeof(c->service));
    memcpy(c->id, info->id, sizeof(c->id));
    meshd_page_text(c->peer_id, in->peer_id, sizeof(c->peer_id));
    meshd_page_text(c->destination, in->service, sizeof(c->destination));
    meshd_stats_service_of(c->peer_id, c->peer_service);
    return true;
}

static bool
is_among(struct mesh_page_conn *c, unsigned states)
{
    uint32_t state = atomic_load_explicit(&c->state, memory_order_relaxed);
    return state <= MESH_CONN_CLOSED && states >> state & 1;
}

static int
visit_block(int fd, off_t off, const struct meshd_page_info *info, unsigned states, meshd_conn_visit *visit,
            void *arg)
{
    struct mesh_page_conn block[BLOCK];
    const size_t left = MESH_PAGE_RING_OFF - (size_t)off; /* the ring begins behind the last one */
    ssize_t n = pread(fd, block, left < sizeof(block) ? left : sizeof(block), off);
    size_t count = n > 0 ? (size_t)n / sizeof(block[0]) : 0;
    struct meshd_conn c;
    for (size_t i = 0; i < count; i++) {
        int r = is_among(&block[i], states) && meshd_page_copy_conn(&c, &block[i], info) ? visit(&c, arg) : 0;
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

/* Most of a page is a hole: SEEK_DATA skips it. */
int
meshd_page_visit(const struct meshd_page_info *info, unsigned states, meshd_conn_visit *visit, void *arg)
{
    const off_t each = (off_t)sizeof(struct mesh_page_conn), first = MESH_PAGE_CONNS_OFF;
    const off_t end = (off_t)MESH_PAGE_RING_OFF;
    int fd = meshd_page_open(info->page_id), r = 0;
    for (off_t at = first; fd >= 0 && r == 0 && at < end; at += (off_t)BLOCK * each) {
        off_t data = lseek(fd, at, SEEK_DATA);
        if (data < 0) {
            break; /* nothing but a hole up to the end */
        }
        if (data > at) {
            at = first + (data - first) / each * each;
        }
        if (at < end) {
            r = visit_block(fd, at, info, states, visit, arg);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return r;
}

static void
add(uint64_t *to, const uint64_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = to[i] + from[i] < TOO_MUCH ? to[i] + from[i] : TOO_MUCH;
    }
}

void
meshd_counters_add(struct meshd_counters *to, const struct meshd_counters *from)
{
    add(to->stat, from->stat, MESH_STAT_COUNT);
    add(to->err, from->err, MESH_ERR_COUNT);
    add(to->handshake_us, from->handshake_us, MESH_PAGE_BUCKETS);
    add(to->connect_us, from->connect_us, MESH_PAGE_BUCKETS);
}
