/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_serve: what meshd answers to shims: one function for each request of mesh/wire.h. Asks the
 * kernel who is asking each time; nothing about a client is remembered between requests.
 */
#ifndef MESHD_SERVE_H
#define MESHD_SERVE_H

#include "meshd/base/server.h"

/* A meshd_server_handler. */
void meshd_serve(struct meshd_request *req, struct meshd_reply *rep);

#endif
