/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_units: values with units and words, as they stand in the configuration. Pure functions;
 * false leaves *out alone.
 */
#ifndef MESHD_POLICY_UNITS_H
#define MESHD_POLICY_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"

/* "250ms", "5s", "1.5h", "1h30m", "7d" in milliseconds; units ms s m h d, largest first. False when
 * there is no unit, anything else stands in it, or the result is no whole number of milliseconds
 * below 2^53. "0" alone is a duration too. */
bool meshd_units_duration(const char *s, uint64_t *ms);
/* "512", "64KiB", "10MiB", "1GiB", "1kB", "1MB" in bytes; B may be left out after K, M, G, T (then
 * binary as well). */
bool meshd_units_size(const char *s, uint64_t *bytes);
/* "0" to "100", with at most two digits that count behind the point, in 1/10000. */
bool meshd_units_percent(const char *s, uint32_t *part);
/* "10.0.0.1:80" or "[fd00::1]:80"; the port is 1 to 65535. */
bool meshd_units_addr(const char *s, struct mesh_addr *out);
/* "10.0.0.0/8" or "fd00::/8": the first `prefix` bits of ip, in the form of mesh_addr (IPv4: 96 more).
 * All of IPv4 is "0.0.0.0/0". No bits behind the prefix. */
bool meshd_units_net(const char *s, uint8_t ip[16], uint8_t *prefix);

#define MESHD_UNITS_TEXT 32
/* The shortest exact spelling ("90s", "1500ms", "24h") into out (MESHD_UNITS_TEXT); returns out. */
const char *meshd_units_duration_text(uint64_t ms, char *out);

#endif
