/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the parts of shim_link only.
 */
#ifndef SHIM_LINK_LINK_INT_H
#define SHIM_LINK_LINK_INT_H

#include "common/addr.h"

/* Registers all listeners of this process anew, with a meshd of another epoch. */
void shim_link_listen_again(void);
void shim_link_listen_forked(void); /* in the child */

/* All addresses of this namespace's interfaces; none when the kernel does not say. */
void shim_link_ifaddrs(void (*each)(const struct mesh_addr *a, void *arg), void *arg);

#endif
