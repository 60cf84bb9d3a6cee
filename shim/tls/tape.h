/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_tape: the pre-shared key and the random bytes of a ClientHello, known beforehand, so that OpenSSL makes the same one that
 * psk_client.c has sent already, and goes on from there. The engine is linked with --wrap=RAND_bytes_ex and
 * --wrap=RAND_priv_bytes_ex. While no tape is in force, in this thread, OpenSSL's generator answers.
 */
#ifndef SHIM_TLS_TAPE_H
#define SHIM_TLS_TAPE_H

#include <stdbool.h>
#include <stdint.h>

#define SHIM_PSK_ID 32u /* bytes of a pre-shared key's name, and of the key */

struct shim_tape {
    uint8_t id[SHIM_PSK_ID], psk[SHIM_PSK_ID];
    uint8_t random[32], session_id[32]; /* in the order in which OpenSSL asks for them */
    uint8_t share[32];                  /* X25519 private key */
    unsigned asked, asked_private;      /* how often so far */
};

/* In force from now on, in this thread; NULL: none. */
void shim_tape_play(struct shim_tape *t);
const struct shim_tape *shim_tape_playing(void);
/* New random bytes, from OpenSSL's generator. */
bool shim_tape_record(struct shim_tape *t);

#endif
