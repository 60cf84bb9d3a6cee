/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_slot: the state of a mesh connection, in memory shared by the process tree [DESIGN D5].
 *
 * The region (region.h) is one shared mapping, made before the first slot is used; fork inherits
 * it, and exec hands it on. A descriptor leads to its slot by a handle (shim_fdtab); a slot whose
 * cookie is 0 belongs to nobody. `refs` counts descriptors in all processes, `holder` says whose
 * they are, so that those of a process that was killed can be taken back (shim_slot_sweep).
 *
 *   free ──alloc──> CONNECTING ──TCP──> HANDSHAKE ──> OPEN ──> KERNEL ──last close──> free
 *                        └──────────────────┴──> FAILED  └────────────────────────────┘
 * (before fork: FRESH ──> CONNECTING, see flow/fresh.h)
 *
 * rx and tx have a lock each; whoever holds it may touch the fields of its group. Nobody sleeps in
 * the kernel with rx held. Spill buffers come from a bounded pool in the same region.
 *
 * Whoever maps the region can write there at any moment, whatever the locks say. What becomes a length,
 * a place or an errno is read once (SHIM_ONCE) and bounded before it is used: then it may be nonsense,
 * which ends this connection, but it leads nowhere else.
 */
#ifndef SHIM_CORE_SLOT_H
#define SHIM_CORE_SLOT_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "mesh/page.h"
#include "shim/core/lock.h"

#define SHIM_SLOTS       65536u
#define SHIM_SPILLS      4096u
#define SHIM_SPILL_SIZE  16896u /* one record at its longest is 5 + 16384 + 256 = 16645 */
#define SHIM_KEY_SIZE    112u   /* struct shim_key, opaque here */

enum shim_phase {
    SHIM_PHASE_FREE = 0,
    SHIM_PHASE_CONNECTING, /* TCP handshake under way (non-blocking connect) */
    SHIM_PHASE_HANDSHAKE,  /* TCP is established, TLS is not */
    SHIM_PHASE_OPEN,
    SHIM_PHASE_KERNEL, /* open, and the kernel encrypts (flow/ktls.h) */
    SHIM_PHASE_FAILED, /* .err says why; the kernel's socket is shut down */
    SHIM_PHASE_FRESH,  /* no connection yet, but several processes have the socket (flow/fresh.h) */
};

enum shim_slot_flags {
    SHIM_SF_SERVER = 1,
    SHIM_SF_LAZY = 2,      /* the program was told "connected" before TLS was */
    SHIM_SF_OWN = 4,       /* client: the listener is in this process */
    SHIM_SF_RX_EOF = 8,    /* close_notify was received */
    SHIM_SF_RX_SHUT = 16,  /* shutdown(SHUT_RD) was called */
    SHIM_SF_RX_DEAD = 32,  /* .err was found while receiving */
    SHIM_SF_TX_SHUT = 64,  /* shutdown(SHUT_WR) was called */
    SHIM_SF_TX_DEAD = 128, /* the send side cannot go on */
    SHIM_SF_KU_DUE = 256,  /* the peer asked for a KeyUpdate */
    SHIM_SF_ABORT = 512,   /* SO_LINGER {1,0}: no close_notify */
    SHIM_SF_STRICT_CLOSE = 1024,
    SHIM_SF_ROUTED = 2048, /* connect() named a service (.asked), an endpoint was chosen (.endpoint) */
    SHIM_SF_PAUSED = 2097152, /* CONNECTING, but between two attempts */
    SHIM_SF_ASKED = 4194304, /* ROUTED, or LAZY and FAILED: the program knows how connect() ended */
    SHIM_SF_PENDING = 8388608, /* counts as a service's connect under way (flow/breaker.h) */
    SHIM_SF_RETRYING = 16777216, /* and as a retry */
    SHIM_SF_SPURNED = 33554432, /* it was up, and reset before the peer sent anything */
    SHIM_SF_FIN_DUE = 4096, /* shutdown(SHUT_WR) waits for unsent bytes */
    SHIM_SF_EARLY_FULL = 16384, /* and there is no room for more */
    SHIM_SF_GIVEN = 32768,  /* went to another image or process: it may list, and need, what we hold */
    SHIM_SF_FOREIGN = 65536, /* kernel TLS: a program that is not under libmesh has it, uncounted */
    SHIM_SF_MOVING = 262144, /* the hand-over to the kernel has begun and not ended */
    SHIM_SF_TOLD = 131072,  /* kernel TLS: its error was told; EPIPE and the end are what follows */
    SHIM_SF_NONBLOCK = 524288, /* O_NONBLOCK was set when a process lost the right to ask (confine.h) */
    SHIM_SF_RX_WHOLE = 1048576, /* SHIM_RX_PLAIN, but no byte of the record is in the kernel */
    /* set by the configuration, not by the program (flow/sockopt.h): pacing; what .tuned says */
    SHIM_SF_PACED = 268435456,
    SHIM_SF_KEPT = 536870912,
    SHIM_SF_SHAPED = 67108864, /* .fault meddles with its bytes (flow/shape.h) */
    SHIM_SF_EARLY = 8192,   /* bytes accepted before the handshake are still unsent */
    SHIM_SF_MARK = 134217728, /* the next byte in the kernel is an urgent one's mark (flow/mark.h) */
    SHIM_SF_COMMON = 1073741824, /* others had the socket before it was connected: only who did connects */
};

#define SHIM_SF_TUNED (SHIM_SF_PACED | SHIM_SF_KEPT)
#define SHIM_SF_SILENT 2147483648u /* SERVER and FAILED: its client ended without a byte, and may be none of the mesh */

enum shim_rx_state {
    SHIM_RX_NONE = 0,
    SHIM_RX_PARTIAL, /* the spill holds rx_len bytes of an incomplete record */
    SHIM_RX_PLAIN,   /* the spill holds plaintext [rx_off, rx_len); the record's last byte is
                        still in the kernel and keeps the descriptor readable */
};

/* What is known of who waits with epoll. */
enum shim_watched {
    SHIM_WATCHED_LEVEL = 1,
    SHIM_WATCHED_EDGE = 2,
    SHIM_WATCHED_LACKS = 4, /* there was no room for bytes once: an edge is owed when there is */
};

/* Of urgent data (flow/mark.h). */
enum shim_urgent {
    SHIM_URGENT_ASKED = 1, /* poll and select have to ask us: counted in the region's `whole` */
    SHIM_URGENT_SEEN = 2,  /* MARK: the kernel stood there */
    SHIM_URGENT_LATE = 4,  /* MARK: it came when the program had read all before it */
    SHIM_URGENT_TAIL = 8,  /* the last byte of the tail is a mark */
};

#define SHIM_HOLDERS 4u

/* Goes up with every change of struct shim_slot: an image of another build must not go on with it. */
#define SHIM_SLOT_LAYOUT 10u

struct shim_slot {
    struct shim_lock rx_lock, tx_lock; /* outlive the content: see shim_slot_alloc */
    _Atomic uint32_t generation;       /* likewise */
    _Atomic uint32_t phase;
    _Atomic uint32_t refs;
    _Atomic uint32_t early_sent; /* of the early bytes that several processes have (fork), see flow/early.h */
    _Atomic uint64_t holder[SHIM_HOLDERS]; /* who, since when, his share of refs: see slot.c */
    _Atomic uint64_t cookie;
    _Atomic uint32_t flags;
    _Atomic uint16_t err; /* enum mesh_err, with FAILED or RX_DEAD */
    _Atomic uint16_t set; /* epoll's, that it was put into last: a descriptor + 1; 0: none, or not known */
    _Atomic int32_t so_error; /* errno that getsockopt(SO_ERROR) still has to report */
    _Atomic int32_t fail_errno; /* errno of a FAILED connection's next call, told once */
    _Atomic uint32_t hs_step; /* which copy of the handshake is the current one (fork) */
    _Atomic int32_t hs_pid;   /* the process that drives the handshake */
    uint32_t conn;            /* entry of the statistics page + 1, or 0 */
    struct mesh_addr peer, local;
    struct mesh_addr asked;    /* ROUTED: the address that the program named */
    _Atomic uint8_t rx_state; /* enum shim_rx_state; also looked at without the lock, as a hint */
    _Atomic uint8_t crowded;  /* more processes than `holder` has room for: never swept */
    _Atomic uint32_t endpoint; /* id + 1 while it counts as one of the endpoint's (core/live.h) */
    _Atomic uint32_t counted; /* entry + 1 while it counts as one of the service's (flow/breaker.h) */
    uint32_t share_of; /* PACED: among how many the bandwidth was divided when its pace was set */
    uint64_t opened_ns;

    uint32_t rx_spill; /* index + 1, or 0 */
    uint32_t rx_len, rx_off;
    uint32_t rx_lowat; /* SO_RCVLOWAT as we set it, 0: untouched */
    int32_t rx_errno; /* the kernel's error, found behind data that was still delivered */
    uint32_t rx_msg; /* bytes left of a handshake message that is being skipped */
    _Atomic uint32_t rx_busy; /* the holder of rx_lock is at work, since rx_raw was rx_begin */
    uint32_t pacing; /* PACED: the configuration's for each connection, bytes a second; 0: none */
    uint64_t rx_begin;
    uint64_t rx_raw, rx_plain; /* bytes taken out of the kernel; plaintext given to the program */
    /* What FIONREAD knows of records further on (see count.c): where the first one begins that is not
     * counted, in bytes as rx_raw counts them, the plaintext before it and its sequence number. */
    uint64_t ahead_raw, ahead_plain, ahead_seq;
    uint32_t ahead_len; /* that record's length, 0: not known */
    _Atomic uint32_t rx_sleepers; /* readers asleep in a MSG_PEEK, without the lock */
    _Atomic uint8_t rx_offset;    /* SO_PEEK_OFF may be set: they wait for the lock first */
    _Atomic uint8_t tuned;        /* bits of flow/sockopt.c */
    _Atomic uint8_t watched;      /* enum shim_watched */
    uint8_t rx_full; /* when the program last got data, there may have been more */

    _Atomic uint32_t tx_spill; /* ciphertext [tx_off, tx_len) that must go first, or 0 */
    uint32_t tx_len, tx_off;
    _Atomic uint8_t tx_busy; /* of tx_lock: flow/audit.h */
    _Atomic uint8_t urgent;  /* enum shim_urgent */
    uint8_t urgent_byte;     /* MARK: what the record before it held */
    _Atomic uint32_t tx_plan;
    uint64_t tx_raw, tx_begin, tx_seq, tx_spill_raw;

    /* flow/shape.h, flow/limit.h */
    uint8_t fault; /* enum mesh_fault, with SHIM_SF_SHAPED */
    uint8_t shaping; /* under rx_lock: what is taken now has been allowed */
    uint16_t limit_caller, limit_all; /* index + 1 into the limits where it counts as a connection, or 0 */
    uint16_t share; /* the same where it counts as one that shares its service's bandwidth */
    _Atomic uint64_t fault_bytes;
    uint64_t pacing_own; /* PACED: the program's, bytes a second */
    uint64_t fault_at; /* CLOCK_MONOTONIC ns; under rx_lock */

    _Alignas(8) uint8_t rx_key[SHIM_KEY_SIZE];
    _Alignas(8) uint8_t tx_key[SHIM_KEY_SIZE];
};
_Static_assert(sizeof(struct shim_slot) <= 576, "an idle connection stays small");

/* A slot with one reference of this process and all else zero but the locks: who freed the slot may
 * still be releasing them. NULL when there is none (the caller counts NO_MEMORY). */
struct shim_slot *shim_slot_alloc(void);
/* Drops the content (keys wiped) and frees it, spills included. Caller: last reference. */
void shim_slot_free(struct shim_slot *s);
/* The same where several processes may come to it at a time: once, by the connection that it was. True: by this call. */
bool shim_slot_free_once(struct shim_slot *s, uint64_t cookie);
/* The content goes, and it is FRESH; who holds it goes on to hold it, by the same handle. */
void shim_slot_renew(struct shim_slot *s);
/* n more descriptors of process pid, or n fewer: then the count that is left in all processes. */
void shim_slot_hold(struct shim_slot *s, int pid, uint32_t n);
/* They are counted already (by the parent of fork) and only lack the name. */
void shim_slot_name(struct shim_slot *s, int pid, uint32_t n);
uint32_t shim_slot_release(struct shim_slot *s, int pid, uint32_t n);
/* No living process but pid holds s. May look at others' state: for ends, not for every call. */
bool shim_slot_is_only(struct shim_slot *s, int pid);
uint32_t shim_slot_share(const struct shim_slot *s, int pid); /* of refs */
/* Of processes that are no more: takes their references back, and gives each slot that has none left
 * to `last`, its locks held. Cheap when called often: it acts once in many allocations. */
void shim_slot_sweep(void (*last)(struct shim_slot *s));
/* Corrects the share of process pid to what the descriptor table says. */
void shim_slot_recount(int pid, void (*last)(struct shim_slot *s));
/* Calls last(s) under both locks if nobody holds s. */
void shim_slot_end_unheld(struct shim_slot *s, void (*last)(struct shim_slot *s));
/* By the socket's cookie; NULL when it is no connection of this process tree. */
struct shim_slot *shim_slot_find(uint64_t cookie);
/* A slot's name in descriptor words and work items: its index and a generation that changes when
 * it is freed, so that a stale name never leads to another connection's keys. */
uint32_t shim_slot_handle(const struct shim_slot *s);
unsigned shim_slot_region(uint32_t handle); /* the number of the region that it names */
struct shim_slot *shim_slot_at(uint32_t handle);      /* whatever is there now */
struct shim_slot *shim_slot_current(uint32_t handle); /* NULL when it is another's */

static inline bool
shim_slot_has(const struct shim_slot *s, uint32_t flag)
{
    return atomic_load_explicit(&s->flags, memory_order_relaxed) & flag;
}

static inline enum shim_phase
shim_slot_phase(const struct shim_slot *s)
{
    return (enum shim_phase)atomic_load_explicit(&s->phase, memory_order_acquire);
}

/* SHIM_SF_RX_WHOLE on or off; SHIM_URGENT_ASKED on; has any slot of the own region got one of them? */
void shim_slot_whole(struct shim_slot *s, bool on);
void shim_slot_ask(struct shim_slot *s);
bool shim_slot_any_whole(void);

/* A spill buffer of the region of s: its index + 1, or 0 when the pool is empty. */
uint32_t shim_spill_get(const struct shim_slot *s);
void shim_spill_put(const struct shim_slot *s, uint32_t spill); /* wipes; 0 is fine */
uint8_t *shim_spill_at(const struct shim_slot *s, uint32_t spill);

/* Read here and not again: a check and its use see the same. */
#define SHIM_ONCE(member) __atomic_load_n(&(member), __ATOMIC_RELAXED)

/* Bytes [off, len) of a spill, as far as it has them; at is NULL, and len 0, when there is none. One
 * byte more than `len` has room. */
struct shim_part {
    uint8_t *at;
    size_t len;
};
struct shim_part shim_spill_part(const struct shim_slot *s, uint32_t spill, uint32_t off, uint32_t len);

/* An errno out of a slot, never negative: a call's result must not become a count. */
static inline int
shim_slot_errno(int32_t no)
{
    return no >= 0 && no < 4096 ? no : EIO;
}

/* Scratch: process-private buffers of SHIM_SCRATCH bytes for the length of a call. */
#define SHIM_SCRATCH (4u * 16640u + 512u)
uint8_t *shim_scratch_get(void); /* NULL: no memory */
void shim_scratch_put(uint8_t *p);

uint64_t shim_cookie(int fd); /* SO_COOKIE, 0 if fd is no socket */

#endif
