/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_room: see room.h.
 */
#include "shim/core/room.h"

#include <stdatomic.h>
#include <sys/resource.h>

#include "shim/core/lock.h"
#include "shim/real.h"

/* Two at once: the one would take the other's limit for the program's. */
static struct shim_private lock;
static struct rlimit was;   /* before it was raised */
static _Atomic bool raised; /* set before it is; a child finds it so that is forked meanwhile */

static bool
raise_limit(void)
{
    struct rlimit l;
    if (sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &l) != 0 || l.rlim_cur >= l.rlim_max) {
        return false;
    }
    struct rlimit up = {l.rlim_max, l.rlim_max};
    was = l;
    atomic_store(&raised, true);
    if (sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, &up, 0) != 0) {
        atomic_store(&raised, false);
        return false;
    }
    return true;
}

static void
put_back(void)
{
    struct rlimit now;
    if (sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &now) == 0 && now.rlim_cur == was.rlim_max &&
        now.rlim_max == was.rlim_max) {
        (void)sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, &was, 0);
    }
    atomic_store(&raised, false);
}

bool
shim_room_make(void)
{
    if (!shim_private_enter(&lock)) {
        return false;
    }
    bool made = raise_limit();
    if (!made) {
        shim_private_leave(&lock);
    }
    return made;
}

void
shim_room_end(void)
{
    put_back();
    shim_private_leave(&lock);
}

void
shim_room_forked(void)
{
    if (atomic_load(&raised)) {
        put_back();
    }
    shim_private_forked(&lock, false);
}
