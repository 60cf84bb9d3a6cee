/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_listener: the listeners of this process, by index from the descriptor table. Private to the
 * process, copied by fork.
 */
#ifndef SHIM_FLOW_LISTENER_H
#define SHIM_FLOW_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "mesh/snapshot.h"

/* True if this very process made the listener with that cookie and holds it (0: never). */
bool shim_listener_is_own(uint64_t cookie);
/* The inbound mode that holds for fd now. */
enum mesh_mode shim_listener_mode(int fd);
/* A descriptor of the listener is gone; withdraws it when it was this process's last. */
void shim_listener_closed(int fd, uint32_t word);

#endif
