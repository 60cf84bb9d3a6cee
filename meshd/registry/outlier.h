/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_outlier: meshd's part in outlier detection (common/outlier.h): what takes a look at all endpoints of a
 * service, the log's lines, and since when an endpoint is there. The rest every process does for itself. Main
 * thread only. Inside registry/ only.
 */
#ifndef MESHD_REGISTRY_OUTLIER_H
#define MESHD_REGISTRY_OUTLIER_H

#include "meshd/registry/service.h"

/* The endpoint of s is about to be published: prepares its live state if it is new. */
void meshd_outlier_meet(const struct meshd_endpoint *e, const struct meshd_service_entry *s);
/* To be called twice a second: reports ejections and returns, and compares endpoints whose interval is over. */
void meshd_outlier_watch(void);

#endif
