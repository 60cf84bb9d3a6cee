/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_gate: fork waits until no thread is inside a handshake. OpenSSL's own locks cannot be
 * reached from here; one that another thread holds at the moment of the fork would stay shut in
 * the child, and its first handshake would hang.
 *
 * seal, open and key_update take no lock and do not pass the gate.
 */
#ifndef SHIM_TLS_GATE_H
#define SHIM_TLS_GATE_H

#include "mesh/err.h"

/* Once, before all others: registers the fork handlers. */
enum mesh_err shim_gate_init(void) MESH_MUST_CHECK;

/* Around everything that may take one of OpenSSL's locks; may be nested by a signal handler.
 * enter waits while a fork is under way. Both keep errno. */
void shim_gate_enter(void);
void shim_gate_leave(void);

#endif
