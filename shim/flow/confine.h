/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_confine: the program gives up system calls [seccomp(2)]. What its connections may need later
 * and could not do then is done now: a handshake is finished, the engine loaded, SO_RCVLOWAT put
 * back, and O_NONBLOCK remembered. Afterwards shim/filter.h sees to it that nothing of ours is called
 * that the filter forbids; a connection then lives of read, write and poll alone.
 */
#ifndef SHIM_FLOW_CONFINE_H
#define SHIM_FLOW_CONFINE_H

/* Before filter `id` (shim_filter_add) comes into force. */
void shim_confine_prepare(int id);
/* Whatever it may be. */
void shim_confine_settle(void);

#endif
