/* SPDX-License-Identifier: Apache-2.0
 *
 * Between link.c and listen.c only.
 */
#ifndef SHIM_LINK_LINK_INT_H
#define SHIM_LINK_LINK_INT_H

/* Registers all listeners of this process anew, with a meshd of another epoch. */
void shim_link_listen_again(void);

#endif
