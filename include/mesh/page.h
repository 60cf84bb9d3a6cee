/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_page: the statistics page, one per attached process tree [DESIGN D6].
 *
 * meshd makes it as a file in its run directory, fills the head, and hands the descriptor out by
 * SCM_RIGHTS; the shim maps it shared and closes the descriptor. Every process of the tree writes
 * it with atomic operations; meshd only reads, and folds it in when the last process is gone.
 * Being a file, it survives meshd: a restarted meshd maps what is there and goes on.
 *
 *   +------------------+ 0
 *   | head             |  written by meshd before hand-out, constant afterwards
 *   | pids             |  processes that use the page; a process adds itself (attach, fork child)
 *   | counters, errors |  relaxed atomic adds
 *   | histograms       |
 *   +------------------+ MESH_PAGE_CONNS_OFF
 *   | conn[]           |  MESH_PAGE_CONNS entries, claimed by compare-and-swap on .state
 *   +------------------+ MESH_PAGE_SIZE
 *
 * Both sides treat the content as hostile: read once, check, use. Strings may lack their NUL.
 */
#ifndef MESH_PAGE_H
#define MESH_PAGE_H

#include <stdatomic.h>
#include <stdint.h>

#include "mesh/err.h"

enum mesh_stat {
#define STAT(name, metric, type, text) MESH_STAT_##name,
#include "mesh/stat.def"
#undef STAT
    MESH_STAT_COUNT
};

#define MESH_PAGE_MAGIC     UINT64_C(0x31454741504d424c) /* "LBMPAGE1" */
#define MESH_PAGE_VERSION   1u
#define MESH_PAGE_PIDS      256u
#define MESH_PAGE_SLOTS     128u /* room for counters and for error counters, each */
#define MESH_PAGE_BUCKETS   32u  /* histogram bucket i counts durations below 2^i microseconds */
#define MESH_PAGE_CONNS     4096u
#define MESH_PAGE_CONNS_OFF 8192u
#define MESH_ID_MAX         256u /* a SPIFFE ID with its NUL; longer ones are cut here only */
#define MESH_SERVICE_MAX    64u  /* a service name with its NUL */

enum mesh_page_state {
    MESH_CONN_FREE = 0,
    MESH_CONN_CLAIMED = 1, /* being filled: a reader skips it */
    MESH_CONN_HANDSHAKE = 2,
    MESH_CONN_OPEN = 3,
    MESH_CONN_CLOSED = 4, /* kept for readers until the entry is needed again */
};

struct mesh_page_conn {
    _Atomic uint32_t state; /* enum mesh_page_state; release store after the fields are written */
    uint8_t outbound;       /* 1: connect(), 0: accept() */
    uint8_t plaintext;      /* 1: permissive plaintext, 0: mutual TLS */
    uint16_t cipher;        /* TLS cipher suite as on the wire, 0x1301 ... (host byte order) */
    uint8_t local_addr[16]; /* IPv6, or IPv4 as ::ffff:a.b.c.d */
    uint8_t peer_addr[16];
    uint16_t local_port;    /* host byte order */
    uint16_t peer_port;
    int32_t pid;            /* the process that opened it */
    uint64_t cookie;        /* SO_COOKIE */
    uint64_t opened_ns;     /* CLOCK_REALTIME */
    uint64_t closed_ns;
    _Atomic uint64_t tx_bytes; /* plaintext */
    _Atomic uint64_t rx_bytes;
    uint32_t reason;        /* enum mesh_err: why it ended, 0 for an orderly close */
    uint32_t handshake_us;
    char peer_id[MESH_ID_MAX];
    char peer_service[MESH_SERVICE_MAX];
    uint8_t pad[96];
};
_Static_assert(sizeof(struct mesh_page_conn) == 512, "page entry layout");

struct mesh_page {
    uint64_t magic;
    uint32_t version;
    uint32_t size;
    uint64_t page_id;
    uint64_t attached_ns; /* CLOCK_REALTIME */
    uint64_t starttime;   /* of pid, /proc/PID/stat field 22 */
    uint64_t netns;       /* SO_NETNS_COOKIE as the process says; informational */
    int32_t pid;
    uint32_t uid;
    uint32_t gid;
    uint32_t pad0;
    char service[MESH_SERVICE_MAX];
    char id[MESH_ID_MAX];
    char exe[256];
    char unit[128];
    _Atomic int32_t pids[MESH_PAGE_PIDS]; /* 0: free. In the pid namespace of the process */
    _Atomic uint32_t pids_full;           /* set when a process found no room */
    _Atomic uint32_t conns_full;          /* times that no conn entry was free */
    _Atomic uint64_t stat[MESH_PAGE_SLOTS];
    _Atomic uint64_t err[MESH_PAGE_SLOTS];
    _Atomic uint64_t handshake_us[MESH_PAGE_BUCKETS];
    _Atomic uint64_t connect_us[MESH_PAGE_BUCKETS];
};
_Static_assert(sizeof(struct mesh_page) <= MESH_PAGE_CONNS_OFF, "page head layout");
_Static_assert(MESH_STAT_COUNT <= MESH_PAGE_SLOTS && MESH_ERR_COUNT <= MESH_PAGE_SLOTS, "counters");

#define MESH_PAGE_SIZE (MESH_PAGE_CONNS_OFF + MESH_PAGE_CONNS * sizeof(struct mesh_page_conn))

static inline struct mesh_page_conn *
mesh_page_conns(struct mesh_page *p)
{
    return (struct mesh_page_conn *)(void *)((char *)p + MESH_PAGE_CONNS_OFF);
}

#endif
