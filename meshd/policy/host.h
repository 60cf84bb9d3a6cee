/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_host: host names in the configuration: what is one. Pure functions.
 */
#ifndef MESHD_POLICY_HOST_H
#define MESHD_POLICY_HOST_H

#include <stdbool.h>

#include "meshd/policy/config.h"

/* "cache", "cache.internal" or "db.internal:5432". False: *why says what is wrong, to stand after the
 * text itself. */
bool meshd_host_parse(const char *text, struct meshd_host *out, const char **why);
/* As resolvers read it. */
bool meshd_host_is_address(const char *text);
/* One or more labels in lower case. */
bool meshd_host_is_domain(const char *text);
/* Both in lower case; "" has nothing under it. */
bool meshd_host_is_under(const char *name, const char *domain);

#endif
