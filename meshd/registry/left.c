/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_left: see left.h.
 */
#include "meshd/registry/left.h"

#include "meshd/base/proc.h"

/* Or a zombie: that has closed everything, and may wait for its parent for ever. */
static bool
is_dead(pid_t pid)
{
    return meshd_proc_starttime(pid) == 0;
}

/* Its index; MESHD_LEFT_MAX if it is not there. pid 0: of a free place. */
static unsigned
find(const struct meshd_left *left, pid_t pid)
{
    unsigned i = 0;
    while (i < MESHD_LEFT_MAX && left->at[i].pid != pid) {
        i++;
    }
    return i;
}

bool
meshd_left_note(struct meshd_left *left, pid_t pid)
{
    unsigned i = find(left, pid);
    if (i == MESHD_LEFT_MAX) {
        i = find(left, 0);
    }
    if (i == MESHD_LEFT_MAX) {
        for (i = 0; i < MESHD_LEFT_MAX && !is_dead(left->at[i].pid); i++) {
        }
    }
    if (i == MESHD_LEFT_MAX) {
        return false;
    }
    left->at[i] = (struct meshd_left_one){.pid = pid};
    return true;
}

bool
meshd_left_closed(struct meshd_left *left, pid_t pid)
{
    unsigned i = find(left, pid);
    if (i == MESHD_LEFT_MAX) {
        return false;
    }
    left->at[i].closed = true;
    return true;
}

bool
meshd_left_has(const struct meshd_left *left, pid_t pid)
{
    return find(left, pid) < MESHD_LEFT_MAX;
}

bool
meshd_left_is_closing(const struct meshd_left *left)
{
    for (unsigned i = 0; i < MESHD_LEFT_MAX && left->at[i].pid; i++) {
        if (!left->at[i].closed && !is_dead(left->at[i].pid)) {
            return true;
        }
    }
    return false;
}
