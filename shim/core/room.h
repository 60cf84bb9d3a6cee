/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_room: descriptor numbers of our own, where the program has used up those that it allows itself (the soft
 * RLIMIT_NOFILE): we need few, and most for a moment. The limit rises to the hard one while they are made. Another thread
 * may get a number in that moment that it would have been refused, and what it executes then keeps the
 * higher limit; so this is done where the numbers are lacking, and not before.
 */
#ifndef SHIM_CORE_ROOM_H
#define SHIM_CORE_ROOM_H

#include <stdbool.h>

/* Waits for another thread's end of it. False: there is no higher limit, or a filter forbids it; nothing is changed.
 * Signals wait until the end. Keeps errno. */
bool shim_room_make(void);
/* Puts the limit back, unless the program has set another one meanwhile. Only after shim_room_make was true. */
void shim_room_end(void);
/* In the child of fork, which has no other thread. */
void shim_room_forked(void);

#endif
