/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_left: the processes that said that they let go of a listener, and which of them have done so. */
#ifndef MESHD_REGISTRY_LEFT_H
#define MESHD_REGISTRY_LEFT_H

#include <stdbool.h>
#include <sys/types.h>

#define MESHD_LEFT_MAX 64u

struct meshd_left {
    struct meshd_left_one {
        pid_t pid; /* 0: free */
        bool closed;
    } at[MESHD_LEFT_MAX];
};

/* It is about to close the listener. False when there is no room for it. */
bool meshd_left_note(struct meshd_left *left, pid_t pid);
/* It has closed it. False if it never said that it would. */
bool meshd_left_closed(struct meshd_left *left, pid_t pid);
bool meshd_left_has(const struct meshd_left *left, pid_t pid);
/* Somebody who lives has not closed it yet. */
bool meshd_left_is_closing(const struct meshd_left *left);

#endif
