/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_health: active checks of the endpoints of services that have a health_check. One target for each
 * address of a service, whoever lists it; all on the event loop, a bounded number at a time. An endpoint
 * inside another network namespace than meshd's cannot be reached from here: it is not checked, and stays
 * unknown. Main thread only.
 *
 * What is unknown counts as healthy. A state is kept as long as the service has this endpoint and the
 * same health_check; a meshd that begins knows nothing.
 */
#ifndef MESHD_HEALTH_HEALTH_H
#define MESHD_HEALTH_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "mesh/err.h"

#define MESHD_HEALTH_REASON 96

enum meshd_health {
    MESHD_HEALTH_NONE, /* its service has no health_check */
    MESHD_HEALTH_UNKNOWN,
    MESHD_HEALTH_HEALTHY,
    MESHD_HEALTH_UNHEALTHY,
};

struct meshd_health_info {
    enum meshd_health is;
    uint64_t since_ns; /* CLOCK_REALTIME; of UNKNOWN: when it was listed */
    uint64_t successes, failures;
    uint64_t checked_ns;              /* the last one's end, 0: none yet */
    char reason[MESHD_HEALTH_REASON]; /* of the last failure, or why it is not checked; "" */
};

struct meshd_endpoint;

/* After the registry. */
enum mesh_err meshd_health_init(void) MESH_MUST_CHECK;
void meshd_health_fini(void);

/* Endpoints, or the configuration, are others now: looked at soon, from the event loop. */
void meshd_health_changed(void);

/* MESH_EP_UNHEALTHY if e is, else 0: for the snapshot. */
uint8_t meshd_health_flag(const struct meshd_endpoint *e);
void meshd_health_of(const struct meshd_endpoint *e, struct meshd_health_info *out);
const char *meshd_health_word(enum meshd_health is); /* "" for NONE */

/* Of a service that has a health_check, since meshd began. */
struct meshd_health_service {
    const char *name; /* borrowed for the visit */
    uint64_t attempts, successes, failures, network_failures;
    uint64_t members, healthy; /* addresses that are checked; those not unhealthy */
};
/* In the order of the configuration, as far as it is known; stops when visit returns non-zero. */
typedef int meshd_health_visit(const struct meshd_health_service *s, void *arg);
void meshd_health_visit_services(meshd_health_visit *visit, void *arg);

#endif
