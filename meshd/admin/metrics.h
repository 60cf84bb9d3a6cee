/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_metrics: all that meshd knows as Prometheus text. Inside admin/ only. Main thread only.
 */
#ifndef MESHD_ADMIN_METRICS_H
#define MESHD_ADMIN_METRICS_H

struct evbuffer;

/* Appends one whole exposition; every family is there from the start, with 0. */
void meshd_metrics_write(struct evbuffer *out);
/* name="value", with what the format wants escaped. */
void meshd_metrics_label(struct evbuffer *out, const char *name, const char *value);

#endif
