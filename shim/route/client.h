/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_client: what a service's router can ask of this process. Any thread, signal-safe.
 */
#ifndef SHIM_ROUTE_CLIENT_H
#define SHIM_ROUTE_CLIENT_H

#include "common/snap.h"

#define SHIM_CLIENT_TEXT 1024u

/* The strings stay; a unit that another thread is just asking for is unknown. */
void shim_client_get(struct mesh_snap_client *out);
/* The path of the executable and the systemd unit, "" if unknown: what stays, or in the caller's room of
 * SHIM_CLIENT_TEXT bytes while another thread asks for the first time. */
const char *shim_client_exe(char *room);
const char *shim_client_unit(char *room);

#endif
