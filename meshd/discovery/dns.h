/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_dns: DNS as a source of endpoints [registry/source.h]: for each service with `dns` a name that is
 * asked for again and again, when its records' TTL is over. What an answer means: answer.h; how it is
 * asked: resolver.h. Main thread only.
 */
#ifndef MESHD_DISCOVERY_DNS_H
#define MESHD_DISCOVERY_DNS_H

#include <stdbool.h>
#include <stdint.h>

#include "mesh/err.h"

/* Begins with what the current configuration asks for, and with what a former meshd was told. */
enum mesh_err meshd_dns_init(void) MESH_MUST_CHECK;
void meshd_dns_fini(void);
/* The current configuration is another one. A name that it no longer has loses its endpoints; one
 * that is new is asked for at once, and a service that asks for another name keeps the old one's
 * endpoints until there is an answer. The caller publishes. */
enum mesh_err meshd_dns_reload(void) MESH_MUST_CHECK;

/* Runs the loop until each name has been asked for once, or for `ms`: so that the first program that
 * starts finds endpoints. False: meshd was told to stop meanwhile. */
bool meshd_dns_await(uint32_t ms);

struct meshd_dns_info {
    const char *service, *name; /* borrowed */
    const char *failure;        /* of the last round, "" */
    uint32_t endpoints;
    uint64_t resolutions, failures; /* rounds that ended, and those of them that failed, in part too */
    double age_s;                   /* of the last answer; < 0: there was none */
};
/* Stops when visit returns non-zero. */
typedef int meshd_dns_visit_fn(const struct meshd_dns_info *i, void *arg);
void meshd_dns_visit(meshd_dns_visit_fn *visit, void *arg);

#endif
