/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_ident: the engine and this process's identity in it. The engine is loaded at the first mesh
 * connection or listener [DESIGN D8]; the certificate is fetched then and renewed when a handshake
 * finds it past its half life. A failed renewal keeps the old one until it expires.
 */
#ifndef SHIM_FLOW_IDENT_H
#define SHIM_FLOW_IDENT_H

#include "shim/tls/tls.h"

extern const struct shim_tls_ops *_Atomic shim_tls; /* NULL until ready */

/* In the constructor. */
void shim_ident_start(void);

/* May block for a bounded time (meshd). ENGINE, NO_IDENTITY, NO_MEMORY or what meshd said. */
enum mesh_err shim_ident_ready(void) MESH_MUST_CHECK;
/* The engine alone, for a connection that has its keys already. */
enum mesh_err shim_ident_engine(void) MESH_MUST_CHECK;
void shim_ident_forked(void);

#endif
