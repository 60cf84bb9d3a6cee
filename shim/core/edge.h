/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_edge: sums by peer and destination service in the statistics page, for metrics; and the turn in
 * which connections ended, for the access log. Called when a connection opens or ends, never for its bytes.
 * No system call, no lock, no allocation; any thread, fork-safe.
 */
#ifndef SHIM_CORE_EDGE_H
#define SHIM_CORE_EDGE_H

#include "mesh/page.h"

/* The connection of entry c is up: counts it, its attempts and its latencies. */
void shim_edge_opened(struct mesh_page *p, struct mesh_page_conn *c);
/* connect() told the program, after us microseconds; before or after shim_edge_opened. */
void shim_edge_connected(struct mesh_page *p, struct mesh_page_conn *c, uint64_t us);
/* Entry c is over and not yet CLOSED: its bytes, and its flag unless another attempt follows. */
void shim_edge_ended(struct mesh_page *p, struct mesh_page_conn *c);
/* A part of it is over, it goes on elsewhere: bytes only. */
void shim_edge_moved(struct mesh_page *p, uint16_t edge, uint64_t tx, uint64_t rx);
/* The same for one without an entry: the table was full. */
void shim_edge_unlisted(struct mesh_page *p, bool outbound, bool opened);

/* The edge of a connection that was opened elsewhere: index + 1. Counts nothing. */
uint16_t shim_edge_find(struct mesh_page *p, const struct mesh_page_conn *c);

/* Gives the entry its number; the caller then sets CLOSED and publishes. */
void shim_edge_number(struct mesh_page *p, struct mesh_page_conn *c);
void shim_edge_publish(struct mesh_page *p, uint64_t index, uint64_t number);

#endif
