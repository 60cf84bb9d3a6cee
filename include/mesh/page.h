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
 *   +------------------+ MESH_PAGE_RING_OFF
 *   | ring[]           |  which entries ended, in turn: what meshd writes into the access log
 *   +------------------+ MESH_PAGE_EDGES_OFF
 *   | edge[]           |  sums by peer and destination service, for metrics
 *   +------------------+ MESH_PAGE_SIZE
 *
 * A connection that ends gets the next number of .ended, and ring[number % MESH_PAGE_CONNS] leads to its
 * entry, which stays as it is until it is claimed anew. Entries are claimed in turn, so that an old one is
 * lost, not a new one, when more end than meshd fetches; the numbers tell how many.
 *
 * Both sides treat the content as hostile: read once, check, use. Strings may lack their NUL.
 */
#ifndef MESH_PAGE_H
#define MESH_PAGE_H

#include <stdatomic.h>
#include <stdint.h>

#include "mesh/err.h"
#include "mesh/flag.h"

enum mesh_stat {
#define STAT(name, metric, type, text) MESH_STAT_##name,
#include "mesh/stat.def"
#undef STAT
    MESH_STAT_COUNT
};

#define MESH_PAGE_MAGIC     UINT64_C(0x31454741504d424c) /* "LBMPAGE1" */
#define MESH_PAGE_VERSION   2u
#define MESH_PAGE_PIDS      256u
#define MESH_PAGE_SLOTS     128u /* room for counters and for error counters, each */
#define MESH_PAGE_BUCKETS   32u  /* histogram bucket i counts durations below 2^i microseconds */
#define MESH_PAGE_CONNS     4096u
#define MESH_PAGE_CONNS_OFF 8192u
#define MESH_PAGE_EDGES     256u
#define MESH_PAGE_OTHERS    2u  /* edge 0: outbound, edge 1: inbound connections that found no edge or entry */
#define MESH_PAGE_FLAGS     32u /* room for enum mesh_flag */
#define MESH_PAGE_LATENCIES 16u /* of an edge: bucket i counts up to bound i, the last one all that is longer */
#define MESH_PAGE_LATENCY_US                                                                       \
    {250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000,    \
     5000000, 10000000}
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
    uint8_t plaintext;      /* 1: permissive plaintext, let go and closed here; 0: mutual TLS */
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
    char service[MESH_SERVICE_MAX]; /* outbound: the destination service's name */
    uint64_t mark; /* of the page of the process that made it: whose certificate it shows; 0: unknown */
    uint32_t endpoint; /* id + 1 when it was chosen for a service, else 0 */
    uint16_t asked_port; /* outbound: the address that the program named */
    uint8_t asked_addr[16];
    uint16_t os_errno;     /* the system's, when TCP failed or was reset */
    _Atomic uint32_t how;  /* enum mesh_how */
    uint32_t connect_us;   /* until connect() told the program; 0: it did not */
    uint16_t edge;         /* index + 1 */
    uint16_t attempts;     /* with this one */
    uint64_t number;       /* of .ended, when it ended */
    uint64_t before_tx, before_rx; /* bytes that another image of the process counted */
    uint8_t uncounted; /* the process ends: it is none of the endpoint's any more (mesh/live.h) */
    uint8_t pad[3];
    /* mesh_limit_hash of the service whose address the program named, and of the name of the rule that decided
     * (mesh_snap_route.name); 0: an endpoint's own address, and no rule */
    uint64_t asked_service, route;
};
_Static_assert(sizeof(struct mesh_page_conn) == 512, "page entry layout");

enum mesh_edge_state { MESH_EDGE_FREE = 0, MESH_EDGE_CLAIMED = 1, MESH_EDGE_READY = 2 };

/* All counters only grow. Bytes are added when a connection ends: meshd adds those of open ones. */
struct mesh_page_edge {
    _Atomic uint32_t state; /* enum mesh_edge_state; the key below is constant once it is READY */
    uint8_t outbound, plaintext;
    uint8_t pad0[2];
    uint64_t mark;                  /* as in the entry */
    char peer_id[MESH_ID_MAX];      /* "": never authenticated */
    char service[MESH_SERVICE_MAX]; /* "": inbound, or unknown */
    _Atomic uint64_t opened, tx_bytes, rx_bytes, attempts, retries;
    _Atomic uint64_t connect_sum_us, handshake_sum_us;
    _Atomic uint64_t closed[MESH_PAGE_FLAGS]; /* of opened ones, by enum mesh_flag */
    _Atomic uint64_t failed[MESH_PAGE_FLAGS]; /* that never were open */
    _Atomic uint64_t connect[MESH_PAGE_LATENCIES];
    _Atomic uint64_t handshake[MESH_PAGE_LATENCIES];
    uint8_t pad[56];
};
_Static_assert(sizeof(struct mesh_page_edge) == 1216, "page edge layout");
_Static_assert(MESH_FLAG_COUNT <= MESH_PAGE_FLAGS, "flags");

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
    _Atomic uint64_t connect_us[MESH_PAGE_BUCKETS]; /* connect() to "established", mesh only */
    uint64_t mark; /* random: goes with a connection to other programs, and nobody else can guess it */
    /* Threads of process pids[i] that are choosing an endpoint; the last one counts those of processes
     * that found no place in pids. See shim/core/stat.h. */
    _Atomic uint32_t deciding[MESH_PAGE_PIDS + 1];
    _Atomic uint64_t ended; /* connections that ended: the last one's number */
    uint64_t taken;         /* meshd's: what it has fetched of them + 1, 0 without an access log */
    _Atomic uint32_t turn;  /* whose turn it is to be claimed */
    /* Listeners that process pids[i] has let go of, MESH_PAGE_LISTENER of each. See shim/core/stat.h. */
    _Atomic uint64_t left[MESH_PAGE_PIDS];
};
_Static_assert(sizeof(struct mesh_page) <= MESH_PAGE_CONNS_OFF, "page head layout");
_Static_assert(MESH_STAT_COUNT <= MESH_PAGE_SLOTS && MESH_ERR_COUNT <= MESH_PAGE_SLOTS, "counters");

/* A listener's bit. Cookies are numbers in turn, so a program's listeners share none; if they do, one may be
 * thought let go of that is not, until the kernel tells. */
#define MESH_PAGE_LISTENER(cookie) (UINT64_C(1) << (cookie) % 64)

/* A word of the ring: the number, and the entry's index. */
#define MESH_RING_WORD(number, index) ((number) << 16 | (index))
_Static_assert(MESH_PAGE_CONNS <= 1u << 16, "index in a ring's word");

#define MESH_PAGE_RING_OFF  (MESH_PAGE_CONNS_OFF + MESH_PAGE_CONNS * sizeof(struct mesh_page_conn))
#define MESH_PAGE_EDGES_OFF (MESH_PAGE_RING_OFF + MESH_PAGE_CONNS * sizeof(uint64_t))
#define MESH_PAGE_SIZE      (MESH_PAGE_EDGES_OFF + MESH_PAGE_EDGES * sizeof(struct mesh_page_edge))

static inline struct mesh_page_conn *
mesh_page_conns(struct mesh_page *p)
{
    return (struct mesh_page_conn *)(void *)((char *)p + MESH_PAGE_CONNS_OFF);
}

static inline _Atomic uint64_t *
mesh_page_ring(struct mesh_page *p)
{
    return (_Atomic uint64_t *)(void *)((char *)p + MESH_PAGE_RING_OFF);
}

static inline struct mesh_page_edge *
mesh_page_edges(struct mesh_page *p)
{
    return (struct mesh_page_edge *)(void *)((char *)p + MESH_PAGE_EDGES_OFF);
}

#endif
