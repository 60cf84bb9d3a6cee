/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_series: connections by both sides as Prometheus text, in Istio's names and labels; and the access
 * log's own counters. Inside admin/ only. Main thread only.
 */
#ifndef MESHD_ADMIN_SERIES_H
#define MESHD_ADMIN_SERIES_H

struct evbuffer;

/* Appends whole families. */
void meshd_series_write(struct evbuffer *out);

#endif
