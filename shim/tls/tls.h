/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_tls: the engine, all that needs OpenSSL [DESIGN D1, D8]. libmesh.so loads it with dlopen at
 * the first mesh connection and gets this table by the one exported symbol, shim_tls_engine().
 * OpenSSL is linked statically and hidden.
 *
 * The engine does no input or output and knows no descriptors: bytes in, bytes out. It calls back only
 * to say that a thread has something to leave behind. All its memory is its own (mem.h), the program's
 * malloc is never called. Handshake objects live there; struct shim_key is plain memory that may lie
 * in memory shared by processes, and is all that is left of a connection after the handshake.
 *
 * Any thread; two threads must not use the same handshake or the same key at once (the caller's
 * locks see to it). Not for signal handlers while a handshake runs in the same thread; seal, open
 * and key_update are safe after fork.
 */
#ifndef SHIM_TLS_TLS_H
#define SHIM_TLS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mesh/err.h"
#include "mesh/page.h"

#define SHIM_TLS_ABI        4u
#define SHIM_REC_HEAD       5u
#define SHIM_REC_PLAIN_MAX  16384u /* [RFC8446 5.1] */
#define SHIM_REC_OVERHEAD   22u    /* header 5, inner type 1, tag 16; without padding */
#define SHIM_REC_CIPHER_MAX (SHIM_REC_PLAIN_MAX + 256u) /* longest length field [RFC8446 5.2] */
#define SHIM_REC_MAX        (SHIM_REC_HEAD + SHIM_REC_CIPHER_MAX)

enum shim_rec_type { SHIM_REC_ALERT = 21, SHIM_REC_HANDSHAKE = 22, SHIM_REC_DATA = 23 };

/* One direction's traffic key. Plain old data: copied, shared, moved to other processes. */
struct shim_key {
    uint16_t suite; /* 0x1301 AES-128-GCM, 0x1302 AES-256-GCM, 0x1303 ChaCha20-Poly1305 */
    uint8_t secret_len, key_len;
    uint32_t generation; /* counts KeyUpdates, for caches of key schedules */
    uint64_t seq;        /* of the next record */
    uint8_t secret[48];  /* application traffic secret N */
    uint8_t key[32];
    uint8_t iv[12];
    uint8_t pad[4];
};
_Static_assert(sizeof(struct shim_key) == 112, "key layout");

enum shim_hs_state {
    SHIM_HS_MORE, /* needs more input (or only has output) */
    SHIM_HS_DONE,
    SHIM_HS_FAILED, /* send the output (an alert), then see result.err */
};

struct shim_hs; /* one handshake in progress */

/* What one end keeps of a full handshake, to resume it: see ticket.h. Plain old data. */
struct shim_ticket {
    uint8_t id[32];     /* the key's name, as on the wire; no secret */
    uint8_t sealed[32]; /* the key: of use to this identity alone */
    uint8_t who[16];    /* the identity that made it */
    int64_t from, until; /* seconds, CLOCK_REALTIME, both included; until 0: no ticket */
    char peer[MESH_ID_MAX];
};
_Static_assert(sizeof(struct shim_ticket) == 352, "ticket layout");

/* The server's ticket of that name into *out; false: there is none. Any thread. */
typedef bool shim_ticket_find(const uint8_t id[32], struct shim_ticket *out);

struct shim_hs_result {
    struct shim_key tx, rx;
    enum mesh_err err;              /* when FAILED */
    uint8_t alert;                  /* the alert received or sent, 0 if none */
    uint8_t resumed;                /* by a ticket */
    uint8_t declined;               /* client: a ticket was offered, and not taken */
    char peer_id[MESH_ID_MAX];      /* verified SPIFFE ID */
    struct shim_ticket ticket;      /* of a full handshake */
};

/* What meshd gave this process. All DER; borrowed during the call only. */
struct shim_identity {
    const uint8_t *chain, *key, *bundle; /* see mesh_wire_cert_rep */
    size_t chain_len, key_len, bundle_len;
    const char *trust_domain;
};

struct shim_tls_ops {
    uint32_t abi; /* SHIM_TLS_ABI */

    /* Takes a new identity for handshakes that start from now on; running ones keep theirs.
     * MESH_E_NO_IDENTITY when it does not parse or key and leaf do not belong together. */
    enum mesh_err (*identity_set)(const struct shim_identity *id);

    /* Starts a handshake; expect_id is the SPIFFE ID the peer must show; NULL: any.
     * NULL: no memory or no identity. */
    struct shim_hs *(*hs_new)(int server, const char *expect_id);
    /* Another one, as long as the server has not shown its own. */
    void (*hs_expect)(struct shim_hs *hs, const char *id);
    /* Client, before the first step: tries to resume. If that cannot be, or the server does not want to,
     * it is a full handshake. The expected ID must be the ticket's peer. */
    void (*hs_offer)(struct shim_hs *hs, const struct shim_ticket *t);
    /* Where servers look for tickets; NULL (as at first): nowhere. */
    void (*tickets)(shim_ticket_find *find);
    void (*hs_free)(struct shim_hs *hs); /* wipes; NULL is fine */

    /* Gives `len` bytes of whole TLS records (0 to start a client), and takes what is to be sent:
     * up to cap bytes into out, *out_len of them; when *out_len == cap call again with len 0.
     * The caller must never pass bytes beyond the record after which the state becomes DONE. */
    enum shim_hs_state (*hs_step)(struct shim_hs *hs, const uint8_t *in, size_t len, uint8_t *out,
                                  size_t cap, size_t *out_len);
    /* Valid once after DONE (keys) or FAILED (reason). */
    void (*hs_result)(struct shim_hs *hs, struct shim_hs_result *res);

    /* Seals n <= SHIM_REC_PLAIN_MAX bytes as one record of `type` into out (room for
     * n + SHIM_REC_OVERHEAD) and advances key->seq before the first byte is written.
     * Returns the record's length, 0 on failure (key limit, no memory). */
    size_t (*seal)(struct shim_key *key, uint8_t type, const uint8_t *in, size_t n, uint8_t *out);

    /* Opens one whole record (header included). Plaintext goes to out (room for len - 22; may be
     * the same as rec + 5 for opening in place); *out_len without padding, *type the inner type.
     * On success key->seq is advanced. MESH_E_BAD_RECORD (shape, size [RFC8446 5.4]),
     * MESH_E_BAD_MAC: key unchanged, out wiped. */
    enum mesh_err (*open)(struct shim_key *key, const uint8_t *rec, size_t len, uint8_t *out,
                          size_t *out_len, uint8_t *type);

    /* Moves to application_traffic_secret_N+1 [RFC8446 7.2]. */
    enum mesh_err (*key_update)(struct shim_key *key);
    /* True when so many records were sealed that a KeyUpdate must be sent now [RFC8446 5.5]. */
    int (*key_update_due)(const struct shim_key *key);
    void (*wipe)(void *p, size_t n);

    /* In a thread of which on_thread was told, at its end. */
    void (*thread_end)(void);
};

/* The only symbol that the engine exports. NULL if OpenSSL could not be set up. on_thread is called in
 * every thread that gets memory of its own in here, before or after fork; NULL: that stays for ever. */
const struct shim_tls_ops *shim_tls_engine(void (*on_thread)(void));

#endif
