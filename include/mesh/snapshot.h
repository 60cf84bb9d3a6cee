/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap: the snapshot, what every process on the host knows of the mesh [DESIGN D6].
 *
 * meshd writes it as a file in its run directory and hands a read-only descriptor out by
 * SCM_RIGHTS. It holds two areas: area (generation & 1) is current. meshd fills the other one,
 * then stores generation + 1 with release order. Before it touches an area it clears that area's
 * own generation (the first word), and stores the new one there when the area is whole. A reader
 * loads the head's generation (acquire), finds the same number in the area, copies what it needs,
 * and looks at the area's number again: if it changed, the area was being rewritten and the reader
 * starts over. If meshd is killed while writing, the current area is whole.
 *
 *   0                 MESH_SNAP_HEAD           + area_size            + 2 * area_size       + 4 * area_size
 *   | head            | area 0                 | area 1               | pool               |
 *                       struct mesh_snap_area, services[], endpoints[], members[], groups[], tiers[],
 *                       routes[], targets[], nets[], limits[], hosts[], and what is in mesh/names.h
 *
 * The pool holds what is too large to be written with each generation: the tables of ring_hash and maglev, which a
 * tier refers to. One stays as it is for as long as an area that is whole refers to it.
 *
 * Offsets, never pointers; a reader checks every offset and index against area_size before use. What
 * it reads carries check sums (mesh_snap_sum), over the area's generation and its own index too: a
 * damaged snapshot must be seen to be damaged, or an endpoint that got lost would be plaintext.
 */
#ifndef MESH_SNAPSHOT_H
#define MESH_SNAPSHOT_H

#include <stdatomic.h>
#include <stdint.h>

#include "mesh/page.h"

#define MESH_SNAP_MAGIC   UINT64_C(0x3150414e534d424c) /* "LBMSNAP1" */
#define MESH_SNAP_VERSION 6u
#define MESH_SNAP_HEAD    4096u
#define MESH_SNAP_AREA    (8u << 20) /* default area size */
#define MESH_SNAP_POOL(area_size) (MESH_SNAP_HEAD + 2 * (uint64_t)(area_size)) /* where it begins */
#define MESH_SNAP_SIZE(area_size) (MESH_SNAP_HEAD + 4 * (uint64_t)(area_size)) /* of the file */
#define MESH_SNAP_BUCKETS 8192u      /* endpoints by mesh_snap_bucket(), listeners by their cookie too */
#define MESH_SNAP_NONE    UINT32_MAX
#define MESH_PATTERN_MAX  128u /* a host name, or "*." and one, with its NUL */

/* When connections go to the kernel's TLS. auto: where the next program cannot be under libmesh and
 * nothing else serves it. always: after the handshake. */
enum mesh_kernel_tls { MESH_KTLS_AUTO = 0, MESH_KTLS_OFF = 1, MESH_KTLS_ALWAYS = 2 };
/* How an endpoint of a service is chosen [docs/SNAPSHOT.md]. */
enum mesh_lb {
    MESH_LB_LEAST_REQUEST = 0,
    MESH_LB_ROUND_ROBIN = 1,
    MESH_LB_RANDOM = 2,
    MESH_LB_PEAK_EWMA = 3,
    MESH_LB_RING_HASH = 4,
    MESH_LB_MAGLEV = 5,
    MESH_LB_COUNT
};
enum mesh_mode { MESH_MODE_OFF = 0, MESH_MODE_PERMISSIVE = 1, MESH_MODE_STRICT = 2 };

struct mesh_snap_head {
    uint64_t magic;
    uint32_t version;
    uint32_t area_size;
    _Atomic uint64_t generation;
    _Atomic uint64_t alive_ns; /* CLOCK_MONOTONIC, refreshed by meshd at least every second */
    uint64_t epoch;            /* random; another epoch means another registry: attach again */
};

/* Settings that the shim needs; all times in milliseconds. */
struct mesh_snap_settings {
    uint32_t accept_grace_ms;      /* DESIGN D11; default 50 */
    uint32_t handshake_timeout_ms; /* default 5000 */
    uint32_t detect_timeout_ms;    /* permissive, server speaks first; default 200 */
    uint32_t linger_ms;            /* unsent data at close and exit; default 1000 */
    uint8_t mode;                  /* enum mesh_mode, mesh-wide */
    uint8_t egress;                /* 0 allow_any, 1 registry_only */
    uint8_t strict_close;          /* 1: FIN without close_notify is ECONNRESET */
    uint8_t kernel_tls;            /* enum mesh_kernel_tls */
    uint32_t live; /* the live state to be asked for (mesh/live.h), 0: none */
    uint8_t no_resumption; /* 1: handshakes are full ones */
    uint8_t pad[7];
};
_Static_assert(sizeof(struct mesh_snap_settings) == 32, "settings layout");

/* A part of one of the tables: first, count. */
struct mesh_snap_part {
    uint32_t first, count;
};
/* What the host's live state (mesh/live.h) has to do with a service's endpoints. Limits: 0, unlimited. */
enum mesh_snap_live_flags {
    MESH_LIVE_OUTLIER = 1, /* outlier detection is on */
    MESH_LIVE_BUDGET = 2,  /* a retry budget stands in for max_retries */
};
struct mesh_snap_live {
    uint32_t entry;     /* in mesh_live.service */
    uint32_t endpoints; /* that can be chosen; the last of them is never ejected */
    uint8_t flags;      /* enum mesh_snap_live_flags */
    uint8_t max_ejection_percent;
    uint8_t budget_percent;
    uint8_t slow_start_percent; /* of its weight, for an endpoint that has just appeared */
    uint32_t consecutive_5xx;   /* failures in a row that eject */
    uint32_t base_ejection_ms, max_ejection_ms, jitter_ms;
    uint32_t max_connections, max_pending, max_retries, host_max_connections;
    uint32_t budget_min_retries;
    uint32_t slow_start_ms;
    uint32_t slow_start_aggression; /* thousandths */
    uint32_t spare[2];
};
_Static_assert(sizeof(struct mesh_snap_live) == 64, "live settings layout");

/* What a connection's hash key is made of, for ring_hash and maglev. */
#define MESH_HASH_TERMS 6u
enum mesh_hash_field {
    MESH_HASH_SOURCE_IDENTITY = 0,
    MESH_HASH_SOURCE_IP = 1,
    MESH_HASH_UID = 2,
    MESH_HASH_UNIT = 3,
    MESH_HASH_EXE = 4,
    MESH_HASH_DESTINATION_IP = 5,
    MESH_HASH_DESTINATION_PORT = 6,
};
struct mesh_snap_hash {
    uint8_t term[MESH_HASH_TERMS]; /* enum mesh_hash_field + 1; 0: no more */
    uint8_t terminal; /* bit i: where term i is known, those behind it do not count */
    uint8_t pad;
    uint32_t balance_factor; /* percent of its share of connections that an endpoint takes; 0: all that come */
};
_Static_assert(sizeof(struct mesh_snap_hash) == 12, "hash layout");

/* Faults that are put into connections to a service, on the client's side (limits[]). */
#define MESH_FAULTS 8u
#define MESH_FAULT_ALWAYS 10000u
enum mesh_fault {
    MESH_FAULT_REFUSE = 0,
    MESH_FAULT_DELAY = 1,
    MESH_FAULT_RESET = 2,
    MESH_FAULT_BLACKHOLE = 3,
    MESH_FAULT_SLOW_READ = 4,
    MESH_FAULT_SHORT_WRITE = 5,
    MESH_FAULT_NONE = 255,
};
struct mesh_snap_fault {
    uint64_t source; /* mesh_limit_hash of the caller's service, 0: any */
    uint64_t bytes;  /* RESET: after so many; SLOW_READ: a second; SHORT_WRITE: a call, at most */
    uint32_t delay_ms;
    uint16_t port;       /* that the program connects to, 0: any */
    uint16_t percentage; /* of MESH_FAULT_ALWAYS */
    uint8_t type;        /* enum mesh_fault */
    uint8_t pad[7];
};
_Static_assert(sizeof(struct mesh_snap_fault) == 32, "fault layout");

/* Of a service that has any: faults on the client's side, limits on the server's. 0: none. */
struct mesh_snap_limits {
    uint64_t service; /* mesh_limit_hash of its name */
    uint64_t bandwidth; /* bytes a second of each connection, each way */
    uint64_t service_bandwidth; /* of all of the host's connections together, each way */
    uint32_t max_tokens, tokens_per_fill, fill_interval_ms; /* connection_rate of one caller */
    uint32_t max_connections, max_connections_per_caller;
    uint32_t idle_timeout_ms, max_age_ms;
    uint32_t keepalive_time_s, keepalive_interval_s, keepalive_probes, user_timeout_ms;
    uint8_t shadow; /* limits are counted and not enforced */
    uint8_t faults; /* count */
    uint8_t pad[2];
    struct mesh_snap_fault fault[MESH_FAULTS];
    uint32_t spare;
    uint32_t check; /* of all before */
};
_Static_assert(sizeof(struct mesh_snap_limits) == 336, "limits layout");

struct mesh_snap_service {
    char name[MESH_SERVICE_MAX];
    char id[MESH_ID_MAX]; /* the SPIFFE ID that its endpoints must show */
    uint8_t mode;
    uint8_t strict_close;
    uint8_t load_balancer; /* enum mesh_lb */
    uint8_t max_attempts;  /* of one connect(), on as many endpoints */
    uint32_t connect_timeout_ms; /* for all of them together, handshakes included */
    struct mesh_snap_part groups, routes;
    struct mesh_snap_part failover; /* of targets[]: where to when none of its endpoints is left */
    uint8_t panic_threshold; /* percent of a tier that must be healthy, or all of it is used; 0: never */
    uint8_t pad[3];
    uint32_t limits; /* index into limits[] + 1, 0: none */
    struct mesh_snap_hash hash;
    uint8_t pad2[8];
    struct mesh_snap_live live;
    uint32_t check; /* of all before */
};
_Static_assert(sizeof(struct mesh_snap_service) == 448, "service layout");

enum mesh_endpoint_flags {
    MESH_EP_ANY = 1,    /* addr is a wildcard: every local address of the namespace */
    MESH_EP_V6ONLY = 2, /* the wildcard is [::] with IPV6_V6ONLY */
    MESH_EP_NETNS = 4,  /* visible only inside namespace .netns (loopback and wildcards) */
    MESH_EP_SERVICE = 8, /* no endpoint: an address of the service, which has one chosen */
    MESH_EP_PORT = 16,   /* of such: one with this port */
    MESH_EP_UNHEALTHY = 32, /* its health checks say so */
    MESH_EP_DRAINING = 64, /* not to be chosen for a service; its own address still leads to it */
};

struct mesh_snap_endpoint {
    uint8_t addr[16]; /* IPv6, or IPv4 as ::ffff:a.b.c.d; the any address of either for MESH_EP_ANY */
    uint16_t port;    /* host byte order */
    uint8_t flags;
    uint8_t mode;     /* effective: per port, else per service, else mesh-wide */
    uint32_t service; /* index into services[] */
    uint64_t netns;   /* SO_NETNS_COOKIE of the listener */
    uint64_t cookie;  /* SO_COOKIE of the listener, 0 if static */
    uint32_t next;    /* index of the next endpoint in the bucket, or MESH_SNAP_NONE */
    uint32_t next_cookie; /* the same by cookie */
    uint32_t id;      /* stable for the endpoint's life */
    uint8_t pad[16]; /* meshd's notes to its next life; readers ignore it */
    uint32_t check; /* of all before */
};
_Static_assert(sizeof(struct mesh_snap_endpoint) == 72, "endpoint layout");

/* What a connection to a service can be sent to as one: all its endpoints or a subset of them, of all
 * ports or of one. Subset 0 is all; a subset without members has the tiers of what stands in for it. */
struct mesh_snap_group {
    uint32_t subset;
    uint16_t port; /* 0: all */
    uint16_t pad;
    struct mesh_snap_part tiers;
    uint32_t spare;
    uint32_t check; /* of all before */
};
_Static_assert(sizeof(struct mesh_snap_group) == 24, "group layout");

/* The endpoints of a group that nothing but their weight tells apart: one priority, one distance. A group's
 * best tier is its first. */
struct mesh_snap_tier {
    struct mesh_snap_part members;
    uint32_t healthy; /* of the members, the first ones; with ring_hash and maglev any */
    uint8_t priority; /* 0 first */
    uint8_t distance; /* enum mesh_distance */
    uint8_t pad[2];
    struct mesh_snap_part table; /* in the pool: MESH_SNAP_UNITs from its start, entries; 0 entries: none */
    uint32_t spare;
    uint32_t check; /* of all before */
};
_Static_assert(sizeof(struct mesh_snap_tier) == 32, "tier layout");

/* A table in the pool, of a tier with ring_hash: uint32_t point[entries], rising, then uint16_t member[entries]; with
 * maglev: uint16_t member[entries]. A member is one of the tier, by its place there. */
#define MESH_SNAP_UNIT    64u
#define MESH_HASH_MEMBERS 65535u /* of one tier; a larger one has no table */
enum mesh_distance { MESH_SAME_ZONE = 0, MESH_SAME_REGION = 1, MESH_ELSEWHERE = 2 };

/* Those of one tier lie side by side. `upto` counts the weights of its members up to and with this
 * one, so that a number below the last one's leads to a member by its weight; one of weight 0 is
 * never met. */
struct mesh_snap_member {
    uint32_t endpoint; /* index into endpoints[] */
    uint32_t id;       /* the endpoint's */
    uint32_t upto;
    uint32_t check; /* of all before */
};
_Static_assert(sizeof(struct mesh_snap_member) == 16, "member layout");

/* A rule of a service's router; the first one whose conditions all hold is taken. Conditions of the client, and
 * of the address that it asked for. */
struct mesh_snap_route {
    char source[MESH_SERVICE_MAX]; /* its service; "": any */
    char unit[MESH_SERVICE_MAX];   /* its systemd unit, a pattern of * and ?; "": any */
    uint8_t net[16];               /* prefix bits of the address; IPv4 as ::ffff:a.b.c.d */
    uint32_t uid;                  /* MESH_SNAP_NONE: any */
    uint16_t port;                 /* 0: any */
    uint8_t prefix;                /* 0: any */
    uint8_t pad;
    struct mesh_snap_part targets; /* the split: one of them by weight */
    uint64_t name; /* mesh_limit_hash of what the access log calls it */
    uint32_t spare;
    uint32_t check; /* of all before */
};
_Static_assert(sizeof(struct mesh_snap_route) == 176, "route layout");

struct mesh_snap_target {
    uint32_t service; /* index into services[] */
    uint32_t subset;  /* of that service, 0: all */
    uint32_t upto;    /* as a member's */
    uint32_t check;   /* of all before */
};
_Static_assert(sizeof(struct mesh_snap_target) == 16, "target layout");

/* Where connections may go that are none of the mesh, with egress registry_only. */
struct mesh_snap_net {
    uint8_t net[16];
    uint16_t port; /* 0: all */
    uint8_t prefix;
    uint8_t pad;
    uint32_t check; /* of all before */
};
_Static_assert(sizeof(struct mesh_snap_net) == 24, "net layout");

/* The same by name: where a look-up of one that `pattern` takes has led the program. A whole name, or "*." and
 * what all names that are meant end in; lower case, zero behind the end. */
struct mesh_snap_host {
    char pattern[MESH_PATTERN_MAX];
    uint8_t net[16]; /* and only there */
    uint16_t port;   /* 0: all */
    uint8_t prefix;  /* 0: anywhere */
    uint8_t pad;
    uint32_t check; /* of all before */
};
_Static_assert(sizeof(struct mesh_snap_host) == 152, "host layout");

struct mesh_snap_bucket {
    uint32_t first;  /* endpoint, or MESH_SNAP_NONE */
    uint32_t cookie; /* the same of the listeners whose cookie's number this is */
    uint32_t check;  /* of both */
};

/* The tables of an area: offset from its start, entries. */
enum mesh_snap_tables {
    MESH_SNAP_SERVICES,
    MESH_SNAP_ENDPOINTS,
    MESH_SNAP_MEMBERS,
    MESH_SNAP_GROUPS,
    MESH_SNAP_TIERS,
    MESH_SNAP_ROUTES,
    MESH_SNAP_TARGETS,
    MESH_SNAP_NETS,
    MESH_SNAP_DOMAIN, /* of names: one entry; these three in mesh/names.h */
    MESH_SNAP_NAME_BUCKETS,
    MESH_SNAP_NAMES,
    MESH_SNAP_LIMITS,
    MESH_SNAP_HOSTS,
    MESH_SNAP_TABLES
};
struct mesh_snap_table {
    uint32_t off, count;
};

struct mesh_snap_area {
    uint64_t generation; /* that this area was written for, 0 while it is being written */
    struct mesh_snap_table table[MESH_SNAP_TABLES];
    struct mesh_snap_settings settings;
    uint32_t last_id; /* of an endpoint, that was ever given out: meshd's note to its next life */
    uint32_t check; /* of all between generation and here */
    struct mesh_snap_bucket bucket[MESH_SNAP_BUCKETS];
};
_Static_assert(sizeof(struct mesh_snap_area) ==
                   48 + 8 * MESH_SNAP_TABLES + 12 * MESH_SNAP_BUCKETS, "area layout");

#endif
