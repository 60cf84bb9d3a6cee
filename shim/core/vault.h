/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_vault: two tables of records in the region, which the processes of a tree share: what is put there may be
 * gone or another's the next time, but it is never half of one and half of another.
 *
 * No locks, for any process may die at any instruction: a record is written word by word with a checksum over
 * all of it, and who reads a mixture sees that it is none. Two writers at once may leave nothing.
 */
#ifndef SHIM_CORE_VAULT_H
#define SHIM_CORE_VAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHIM_VAULT_RECORDS 1024u /* of each table; a power of two */
#define SHIM_VAULT_WORDS   48u   /* of 8 bytes, the checksum's included */
#define SHIM_VAULT_BYTES   ((SHIM_VAULT_WORDS - 1) * 8)

enum shim_vault_table { SHIM_VAULT_CLIENT, SHIM_VAULT_SERVER, SHIM_VAULT_TABLES };

struct shim_vault {
    _Atomic uint64_t word[SHIM_VAULT_TABLES][SHIM_VAULT_RECORDS][SHIM_VAULT_WORDS];
};

/* The record at hash's place is replaced; n is at most SHIM_VAULT_BYTES. Nothing happens without a region. */
void shim_vault_put(enum shim_vault_table t, uint64_t hash, const void *record, size_t n);
/* False when there is none of that length; whether it is the one that is looked for, the caller sees. */
bool shim_vault_get(enum shim_vault_table t, uint64_t hash, void *record, size_t n);

#endif
