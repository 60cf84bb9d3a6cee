/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_probe: a TLS connection of meshd's own, under its own identity (service "meshd"), to an endpoint of
 * the mesh: for health checks. Shows no type of OpenSSL. Main thread only.
 */
#ifndef MESHD_IDENT_PROBE_H
#define MESHD_IDENT_PROBE_H

#include "mesh/err.h"
#include "meshd/base/loop.h"

#define MESHD_PROBE_SERVICE "meshd"

struct bufferevent;

/* Mutual TLS over fd, which is connected, with a peer that must show `id` (borrowed until the end). The
 * bufferevent owns fd; its callbacks are deferred; BEV_EVENT_CONNECTED: the handshake is done.
 * NULL: nothing was taken. */
struct bufferevent *meshd_probe_new(int fd, const char *id);
/* What went wrong, after BEV_EVENT_ERROR; never NULL, static. */
const char *meshd_probe_why(struct bufferevent *bev);
/* Says close_notify and frees it. */
void meshd_probe_free(struct bufferevent *bev);
/* Forgets the certificate: meshd ends. */
void meshd_probe_fini(void);

#endif
