/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_spiffe: the syntax of SPIFFE IDs [SPIFFE-ID 2].
 */
#ifndef SHIM_TLS_SPIFFE_H
#define SHIM_TLS_SPIFFE_H

#include <stddef.h>

#define SHIM_SPIFFE_MAX    2048u /* [SPIFFE-ID 2.3] */
#define SHIM_SPIFFE_TD_MAX 255u

/* A workload's ID inside someone else's bytes; not NUL-terminated. */
struct shim_spiffe {
    const char *id, *td; /* td points into id */
    size_t id_len, td_len;
};

/* Checks the n bytes at s, which may hold anything; true when they are a workload's ID (with a
 * path). `out` borrows s and is untouched when false. Pure. */
int shim_spiffe_parse(const char *s, size_t n, struct shim_spiffe *out);

/* True when the n bytes are the name of a trust domain. Pure. */
int shim_spiffe_is_td(const char *s, size_t n);

#endif
