/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_room: see room.h.
 */
#include "shim/core/room.h"

#include "shim/real.h"

bool
shim_room_make(struct shim_room *room)
{
    if (sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &room->was) != 0 || room->was.rlim_cur >= room->was.rlim_max) {
        return false;
    }
    struct rlimit up = {room->was.rlim_max, room->was.rlim_max};
    return sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, &up, 0) == 0;
}

void
shim_room_end(const struct shim_room *room)
{
    struct rlimit now;
    if (sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &now) == 0 && now.rlim_cur == room->was.rlim_max &&
        now.rlim_max == room->was.rlim_max) {
        (void)sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, &room->was, 0);
    }
}
