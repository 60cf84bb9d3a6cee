/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_page: statistics pages as files. Beside each page, which its processes may write, lies what
 * only meshd writes: <id>.info, so that a restarted meshd knows whose page it is without asking it.
 *
 * meshd never maps a page: a process may truncate it, and then a mapping is a SIGBUS. It reads with
 * pread() into its own memory, which also makes "read once, check, use" a matter of course.
 * Inside stats/ only.
 */
#ifndef MESHD_STATS_PAGE_H
#define MESHD_STATS_PAGE_H

#include "meshd/stats/stats.h"

struct meshd_page_info {
    uint64_t magic;
    uint64_t page_id, attached_ns, starttime, netns;
    uint64_t mark;
    int32_t pid;
    uint32_t uid, gid, pad;
    char service[MESH_SERVICE_MAX];
    char id[MESH_ID_MAX];
    char exe[256];
    char unit[128];
};

struct meshd_page_head {
    struct meshd_counters counters;
    int32_t pids[MESH_PAGE_PIDS];
    uint64_t left[MESH_PAGE_PIDS];
    uint32_t conns_full;
    uint32_t version;
    bool pids_full;
    bool deciding[MESH_PAGE_PIDS + 1];
};

/* The directory of all pages; made when missing. */
enum mesh_err meshd_page_init(const char *dir) MESH_MUST_CHECK;
/* Calls found() for each page with a good .info; removes debris. */
typedef void meshd_page_found(const struct meshd_page_info *info);
void meshd_page_scan(meshd_page_found *found);

enum mesh_err meshd_page_new(const struct meshd_page_info *info) MESH_MUST_CHECK;
/* A descriptor to hand out; -1 with errno. */
int meshd_page_open(uint64_t page_id);
void meshd_page_unlink(uint64_t page_id);

/* True when no process has the page open or mapped: the kernel grants a write lease only then.
 * Where it grants none at all, `fallback` is the answer. */
bool meshd_page_is_unused(uint64_t page_id, bool fallback);

/* Sanitised copies. A page that is too short reads as zeros. */
void meshd_page_read(uint64_t page_id, struct meshd_page_head *out);
/* All entries of these states; stops when visit returns non-zero, and returns that. The others cost next to
 * nothing: on the page of a busy process thousands are closed and few active. */
#define MESHD_PAGE_ACTIVE (1u << MESH_CONN_HANDSHAKE | 1u << MESH_CONN_OPEN)
#define MESHD_PAGE_CLOSED (1u << MESH_CONN_CLOSED)
int meshd_page_visit(const struct meshd_page_info *info, unsigned states, meshd_conn_visit *visit, void *arg);

/* One entry. False when it says nothing: free, or being filled. */
bool meshd_page_copy_conn(struct meshd_conn *c, struct mesh_page_conn *in,
                          const struct meshd_page_info *info);

/* A text of a page, of cap bytes with or without its NUL, as printable ASCII. */
void meshd_page_text(char *out, const char *in, size_t cap);

void meshd_counters_add(struct meshd_counters *to, const struct meshd_counters *from);

#endif
