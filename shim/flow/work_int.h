/* SPDX-License-Identifier: Apache-2.0
 *
 * Between work.c, the list and its passes, and work_wait.c. Under the work lock.
 */
#ifndef SHIM_FLOW_WORK_INT_H
#define SHIM_FLOW_WORK_INT_H

#include "shim/flow/work.h"

#define SHIM_WORK_WARM 128u /* items that a short pass over a long list looks at, at most */

extern _Atomic uint64_t shim_work_full_at; /* CLOCK_MONOTONIC ns: when a pass over all is due; also without the lock */

bool shim_work_is_long(void);
/* Of a long list: is w, the n-th of it, still one to look at in a short pass? */
bool shim_work_is_warm(const struct shim_work *w, unsigned n, uint64_t now);
void shim_work_drive_cookie(uint64_t cookie);

#endif
