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
 *   0                 MESH_SNAP_HEAD           + area_size            + 2 * area_size
 *   | head            | area 0                 | area 1               |
 *                       struct mesh_snap_area, services[], endpoints[]
 *
 * Offsets, never pointers; a reader checks every offset and index against area_size before use.
 */
#ifndef MESH_SNAPSHOT_H
#define MESH_SNAPSHOT_H

#include <stdatomic.h>
#include <stdint.h>

#include "mesh/page.h"

#define MESH_SNAP_MAGIC   UINT64_C(0x3150414e534d424c) /* "LBMSNAP1" */
#define MESH_SNAP_VERSION 1u
#define MESH_SNAP_HEAD    4096u
#define MESH_SNAP_AREA    (8u << 20) /* default area size */
#define MESH_SNAP_BUCKETS 1024u      /* endpoints hashed by port % MESH_SNAP_BUCKETS */
#define MESH_SNAP_NONE    UINT32_MAX

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
    uint8_t pad[13];
};
_Static_assert(sizeof(struct mesh_snap_settings) == 32, "settings layout");

struct mesh_snap_service {
    char name[MESH_SERVICE_MAX];
    char id[MESH_ID_MAX]; /* the SPIFFE ID that its endpoints must show */
    uint8_t mode;
    uint8_t strict_close;
    uint8_t pad[62];
};
_Static_assert(sizeof(struct mesh_snap_service) == 384, "service layout");

enum mesh_endpoint_flags {
    MESH_EP_ANY = 1,    /* addr is a wildcard: every local address of the namespace */
    MESH_EP_V6ONLY = 2, /* the wildcard is [::] with IPV6_V6ONLY */
    MESH_EP_NETNS = 4,  /* visible only inside namespace .netns (loopback and wildcards) */
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
    uint32_t id;      /* stable for the endpoint's life */
    uint8_t pad[16]; /* meshd's notes to its next life; readers ignore it */
};
_Static_assert(sizeof(struct mesh_snap_endpoint) == 64, "endpoint layout");

struct mesh_snap_area {
    uint64_t generation; /* that this area was written for, 0 while it is being written */
    uint32_t services_off, services; /* offset from the area's start, count */
    uint32_t endpoints_off, endpoints;
    struct mesh_snap_settings settings;
    char trust_domain[MESH_ID_MAX];
    uint32_t bucket[MESH_SNAP_BUCKETS]; /* first endpoint, or MESH_SNAP_NONE */
};

#endif
