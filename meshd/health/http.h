/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_health_http: one GET, of whose answer only the status matters [RFC9112 2-4]. What a status means is
 * the rule's. Inside health/ only.
 */
#ifndef MESHD_HEALTH_HTTP_H
#define MESHD_HEALTH_HTTP_H

#include "meshd/health/state.h"

#define MESHD_HTTP_LINE_MAX 8192u /* of an answer, before its status is known */

struct evbuffer;

/* The request into out; false when out of memory. */
bool meshd_http_ask(struct evbuffer *out, const char *host, const char *path);
/* Takes whole lines out of `in`: the status when it is there, 0 for more, -1 when that is no HTTP. Interim
 * answers (1xx) are passed over. Call it with *interim false at first. */
int meshd_http_status(struct evbuffer *in, bool *interim);
/* What `status` makes of a check. */
void meshd_http_judge(const struct meshd_health_rule *rule, int status, struct meshd_outcome *out);

#endif
