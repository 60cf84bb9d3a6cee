/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_slot: the state of a mesh connection, in memory shared by the process tree [DESIGN D5].
 *
 * The region is one shared anonymous mapping, made before the first slot is used and inherited by
 * fork. A descriptor leads to its slot by a handle (shim_fdtab); a slot whose cookie is 0 belongs
 * to nobody. `refs` counts descriptors in all processes.
 *
 *   free ──alloc──> CONNECTING ──TCP──> HANDSHAKE ──────> OPEN ──last close──> free
 *                        └──────────────────┴──> FAILED ────────────────────────┘
 *
 * rx and tx have a lock each; whoever holds it may touch the fields of its group. Nobody sleeps in
 * the kernel with rx held. Spill buffers come from a bounded pool in the same region.
 */
#ifndef SHIM_CORE_SLOT_H
#define SHIM_CORE_SLOT_H

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
    SHIM_PHASE_FAILED, /* .err says why; the kernel's socket is shut down */
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
    SHIM_SF_FIN_DUE = 4096, /* shutdown(SHUT_WR) waits for unsent bytes */
    SHIM_SF_EARLY_FULL = 16384, /* and there is no room for more */
    SHIM_SF_EARLY = 8192,   /* bytes accepted before the handshake are still unsent */
};

enum shim_rx_state {
    SHIM_RX_NONE = 0,
    SHIM_RX_PARTIAL, /* the spill holds rx_len bytes of an incomplete record */
    SHIM_RX_PLAIN,   /* the spill holds plaintext [rx_off, rx_len); the record's last byte is
                        still in the kernel and keeps the descriptor readable */
};

struct shim_slot {
    struct shim_lock rx_lock, tx_lock; /* outlive the content: see shim_slot_alloc */
    _Atomic uint32_t generation;       /* likewise */
    _Atomic uint32_t phase;
    _Atomic uint32_t refs;
    _Atomic uint64_t cookie;
    _Atomic uint32_t flags;
    _Atomic uint32_t err; /* enum mesh_err, with FAILED or RX_DEAD */
    _Atomic int32_t so_error; /* errno that getsockopt(SO_ERROR) still has to report */
    _Atomic int32_t fail_errno; /* errno of a FAILED connection's next call, told once */
    _Atomic uint32_t hs_step; /* which copy of the handshake is the current one (fork) */
    int32_t pid;              /* that opened it */
    uint32_t conn;            /* entry of the statistics page + 1, or 0 */
    struct mesh_addr peer, local;
    uint64_t opened_ns;

    _Atomic uint8_t rx_state; /* enum shim_rx_state; also looked at without the lock, as a hint */
    uint32_t rx_spill; /* index + 1, or 0 */
    uint32_t rx_len, rx_off;
    uint32_t rx_lowat; /* SO_RCVLOWAT as we set it, 0: untouched */
    int32_t rx_errno; /* the kernel's error, found behind data that was still delivered */
    uint32_t rx_msg; /* bytes left of a handshake message that is being skipped */

    _Atomic uint32_t tx_spill; /* ciphertext [tx_off, tx_len) that must go first, or 0 */
    uint32_t tx_len, tx_off;

    _Alignas(8) uint8_t rx_key[SHIM_KEY_SIZE];
    _Alignas(8) uint8_t tx_key[SHIM_KEY_SIZE];
};
_Static_assert(sizeof(struct shim_slot) <= 512, "an idle connection stays small");

/* Maps the region if there is none yet; false when there is no memory. */
bool shim_region_init(void);

/* A slot with refs 1 and all else zero but the locks: who freed the slot may still be releasing them.
 * NULL when there is none (the caller counts NO_MEMORY). */
struct shim_slot *shim_slot_alloc(void);
/* Drops the content (keys wiped) and frees it, spills included. Caller: last reference. */
void shim_slot_free(struct shim_slot *s);
/* A slot's name in descriptor words and work items: its index and a generation that changes when
 * it is freed, so that a stale name never leads to another connection's keys. */
uint32_t shim_slot_handle(const struct shim_slot *s);
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

/* A spill buffer's index + 1, or 0 when the pool is empty. */
uint32_t shim_spill_get(void);
void shim_spill_put(uint32_t spill); /* wipes; 0 is fine */
uint8_t *shim_spill_at(uint32_t spill);

/* Scratch: process-private buffers of SHIM_SCRATCH bytes for the length of a call. */
#define SHIM_SCRATCH (4u * 16640u + 512u)
uint8_t *shim_scratch_get(void); /* NULL: no memory */
void shim_scratch_put(uint8_t *p);

uint64_t shim_cookie(int fd); /* SO_COOKIE, 0 if fd is no socket */

#endif
