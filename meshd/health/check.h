/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_check: one check under way: over the network (network.c) or by a command (program.c). Inside
 * health/ only.
 *
 * `done` is called once, from the event loop, never out of start; then the check is no more. One that is
 * cancelled is not told.
 */
#ifndef MESHD_HEALTH_CHECK_H
#define MESHD_HEALTH_CHECK_H

#include "common/addr.h"
#include "meshd/health/state.h"

#define MESHD_CHECKS_MAX   256u /* over the network, at the same time */
#define MESHD_PROGRAMS_MAX 8u   /* processes, those that were killed and are not yet gone included */

/* All borrowed, and unchanged until done or cancelled. */
struct meshd_check_job {
    const struct meshd_health_rule *rule;
    const char *service, *id; /* id: to be shown by the peer; NULL: no TLS */
    struct mesh_addr to;
};

typedef void meshd_check_done(const struct meshd_outcome *o, void *arg);

struct meshd_network_check;
/* NULL: no descriptor or memory; that says nothing of the endpoint. */
struct meshd_network_check *meshd_network_start(const struct meshd_check_job *job,
                                                meshd_check_done *done, void *arg);
void meshd_network_cancel(struct meshd_network_check *c);
bool meshd_network_has_room(void);

struct meshd_program_check;
struct meshd_program_check *meshd_program_start(const struct meshd_check_job *job,
                                                meshd_check_done *done, void *arg);
/* The process is killed. */
void meshd_program_cancel(struct meshd_program_check *c);
bool meshd_program_has_room(void);
/* Called when there is room that was not there before. */
enum mesh_err meshd_program_init(void (*room)(void)) MESH_MUST_CHECK;
/* Kills and waits for all that are left. */
void meshd_program_fini(void);

#endif
