/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_users: the number of a user's name. The host's user database may be somewhere else and slow, and meshd
 * asks on its event loop: so who was found is not asked for again as long as meshd runs. Inside policy/ only.
 */
#ifndef MESHD_POLICY_USERS_H
#define MESHD_POLICY_USERS_H

#include <stdint.h>

/* -1: there is none; asked again with the next `round`, which is any number. */
int64_t meshd_users_id(const char *name, uint64_t round);

#endif
