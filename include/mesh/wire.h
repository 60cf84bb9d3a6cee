/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_wire: what libmesh.so and meshd say to each other over meshd.sock (Unix, SOCK_STREAM).
 *
 * A connection is short: the shim connects, sends one or more requests, reads one reply to each,
 * and closes. Every message is a mesh_wire_head and then `len` bytes of body. Fixed-width fields,
 * host byte order (one host). meshd takes who is asking from SO_PEERCRED alone; a pid or name
 * inside a message is a wish or a hint.
 *
 *   request              reply body                   descriptors with the reply
 *   ATTACH   attach_req  attach_rep                   [0] snapshot (read-only), [1] page
 *   CERT     - or the wish cert_rep + three blobs     -   (wish: as in attach, char[64])
 *   LISTEN   listen_req  listen_rep                   -   (request may carry [0] a SOCK_DIAG socket, or the listener)
 *   UNLISTEN unlisten_req  -                          -
 *   LEAVE    unlisten_req  leave_rep                  -
 *   LISTENS  unlisten_req  -                          -
 *   PEER     peer_req    peer_rep                     -
 *   HANDOFF  handoff_req + data  -                    -   (request carries [0] a TCP socket to connect,
 *                                                     made where the caller stands; without it meshd makes one)
 *   LEND     lend_req            -                    -   (request carries [0] a connection region)
 *   CLAIM    -                   claim_rep            [0] the region, if the caller may go on with
 *                                                     it (request carries [0] the connection)
 *   LIVE     -                   -                    [0] the live state (mesh/live.h), size sealed
 *
 * A reply has the request's type | MESH_WIRE_REPLY; head.err != 0 means failure and an empty body.
 */
#ifndef MESH_WIRE_H
#define MESH_WIRE_H

#include <stdint.h>

#include "mesh/page.h"

#define MESH_WIRE_MAGIC   0x484d424cu /* "LBMH" */
#define MESH_WIRE_VERSION 1u
#define MESH_WIRE_MAX     (96u << 10) /* longest body */
#define MESH_WIRE_REPLY   0x8000u

enum mesh_wire_type {
    MESH_WIRE_ATTACH = 1,
    MESH_WIRE_CERT = 2,
    MESH_WIRE_LISTEN = 3,
    MESH_WIRE_UNLISTEN = 4,
    MESH_WIRE_PEER = 5,
    MESH_WIRE_HANDOFF = 6,
    MESH_WIRE_LEND = 7,
    MESH_WIRE_CLAIM = 8,
    MESH_WIRE_LIVE = 9,
    MESH_WIRE_LEAVE = 10,
    MESH_WIRE_LISTENS = 11,
};

struct mesh_wire_head {
    uint32_t magic;
    uint16_t version;
    uint16_t type;
    uint32_t len; /* of the body */
    uint32_t err; /* replies: enum mesh_err; requests: 0 */
};
_Static_assert(sizeof(struct mesh_wire_head) == 16, "wire head");

struct mesh_wire_attach_req {
    uint64_t netns;                 /* SO_NETNS_COOKIE */
    char service[MESH_SERVICE_MAX]; /* LIBMESH_SERVICE or "" */
};

struct mesh_wire_attach_rep {
    uint64_t page_id;
    uint64_t epoch; /* of the snapshot */
    char service[MESH_SERVICE_MAX];
    char id[MESH_ID_MAX];
    char trust_domain[MESH_ID_MAX];
};

/* Followed by chain (DER certificates one after the other, leaf first), key (DER PKCS#8), and
 * bundle (DER root certificates one after the other). Times in seconds, CLOCK_REALTIME. */
struct mesh_wire_cert_rep {
    uint64_t not_before, not_after, renew_at;
    uint32_t chain_len, key_len, bundle_len, pad;
    char id[MESH_ID_MAX];
    char trust_domain[MESH_ID_MAX];
};

/* meshd answers when the snapshot with the endpoint is published [DESIGN D9]. `service` is the
 * same wish as in attach. `ifaddr`: for a wildcard listener, the namespace's other addresses.
 * The SOCK_DIAG socket must be of the listener's namespace and joined to both
 * SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY; through it meshd learns of the last
 * close. Sent only when meshd asked for it in listen_rep (then the request is repeated). Who inherited
 * the listener sends it along instead: it is its to register whoever registered it before. */
#define MESH_WIRE_IFADDRS 16u
struct mesh_wire_listen_req {
    uint64_t netns;
    uint64_t cookie; /* SO_COOKIE of the listener */
    uint64_t inode;  /* st_ino of the listener */
    uint8_t addr[16];
    uint16_t port;
    uint8_t flags; /* enum mesh_endpoint_flags: ANY, V6ONLY */
    uint8_t ifaddrs;
    uint32_t pad;
    char service[MESH_SERVICE_MAX];
    uint8_t ifaddr[MESH_WIRE_IFADDRS][16];
};

struct mesh_wire_listen_rep {
    uint32_t endpoint_id;
    uint8_t need_diag; /* 1: registered, but send the SOCK_DIAG socket of this namespace too */
    uint8_t mode;      /* effective inbound mode */
    uint8_t pad[2];
};

/* LISTENS: after the kernel's listen(); from the answer on connections to the service may be given to it.
 * LEAVE: before the process closes its last descriptor of the listener; answered when no connection to a
 * service is given to it any more, if nobody else is known to hold it. UNLISTEN: afterwards. */
struct mesh_wire_unlisten_req {
    uint64_t netns, cookie;
};

/* Processes that may still be on their way to it, by the snapshot from before. Who asks again until there are
 * none, for a bounded time, refuses nobody. */
struct mesh_wire_leave_rep {
    uint32_t deciding;
    uint32_t pad;
};

/* Is a process of the mesh at this client address? (Server side of permissive: DESIGN, modes.) */
struct mesh_wire_peer_req {
    uint64_t netns;
    uint8_t addr[16];
    uint16_t port;
    uint16_t to;        /* the server's port; 0: not told */
    uint8_t to_tail[4]; /* the last bytes of its address */
};

enum mesh_peer_known {
    MESH_PEER_NO = 0,
    MESH_PEER_YES = 1,    /* an outbound mesh connection from that address and port is open */
    MESH_PEER_COMING = 2, /* perhaps: one to the server has begun and has no local address yet */
};

struct mesh_wire_peer_rep {
    uint32_t known; /* enum mesh_peer_known */
    uint32_t pad;
};

/* Unsent data of a connection whose program is gone: meshd connects to the endpoint in that
 * namespace with the caller's identity, checks expect_id, delivers `len` bytes and closes. */
struct mesh_wire_handoff_req {
    uint64_t netns;
    uint8_t addr[16];
    uint16_t port;
    uint16_t pad;
    uint32_t len; /* bytes of data that follow, at most 64 KiB */
    char expect_id[MESH_ID_MAX];
};

/* A connection is about to be passed to a process that may be of another tree. meshd keeps the
 * memory in which it lives, a sealed-size memfd, for whoever shows that he has the socket. */
struct mesh_wire_lend_req {
    uint64_t cookie; /* SO_COOKIE of the connection */
};

/* Who holds the socket of a connection that was lent, and is the user who lent it or root, gets the
 * region. */
struct mesh_wire_claim_rep {
    uint32_t known; /* 1: a connection of the mesh. Without a region: not for this caller */
    uint32_t pad;
};

#endif
