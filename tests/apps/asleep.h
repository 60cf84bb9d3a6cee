/* SPDX-License-Identifier: Apache-2.0
 *
 * asleep: waits until a thread of this or another process sleeps in the kernel. What it waits for is
 * then reported to a sleeper, not to somebody who looks in the middle of a change.
 */
#ifndef ASLEEP_H
#define ASLEEP_H

#include "app.h"

/* State S, three looks in a row. */
APP_FN int
app_sleeps(pid_t tid)
{
    for (int seen = 0; seen < 3; seen++) {
        char path[64], state = 0;
        snprintf(path, sizeof path, "/proc/%d/stat", tid);
        FILE *f = fopen(path, "r");
        MUST(f && fscanf(f, "%*d (%*[^)]) %c", &state) == 1);
        fclose(f);
        if (state != 'S')
            return 0;
        poll(NULL, 0, 5);
    }
    return 1;
}

APP_FN void
app_asleep(pid_t tid)
{
    while (!app_sleeps(tid))
        poll(NULL, 0, 5);
}

#endif
