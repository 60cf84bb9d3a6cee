/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_waiting: see waiting.h.
 */
#include "meshd/registry/waiting.h"

#include <stddef.h>
#include <stdlib.h>

#include "meshd/base/loop.h"
#include "meshd/base/server.h"
#include "meshd/registry/registry.h"

struct waiting {
    uint64_t number;
    uint32_t endpoint_id;
    meshd_waiting_undo_fn *undo;
};

static struct waiting *all;
static size_t count, room;
static struct meshd_timer *timer;
static uint64_t last_number;

/* Answers the newest until `keep` are left. */
static void
answer(size_t keep, enum mesh_err e)
{
    while (count > keep) {
        struct waiting w = all[--count];
        if (e != MESH_OK && w.undo) {
            w.undo(w.endpoint_id, e);
        }
        meshd_server_release(w.number, w.undo ? e : MESH_OK);
    }
}

/* By halves: a full snapshot must not be tried for each of a thousand. */
static void
on_turn(void *arg)
{
    (void)arg;
    meshd_timer_free(timer);
    timer = NULL;
    enum mesh_err e = meshd_registry_republish();
    while (e != MESH_OK && count > 0) {
        answer(count / 2, e);
        e = meshd_registry_republish();
    }
    answer(0, MESH_OK);
}

uint64_t
meshd_waiting_add(uint32_t endpoint_id, meshd_waiting_undo_fn *undo)
{
    if (count == room) {
        size_t more = room ? 2 * room : 64;
        struct waiting *p = realloc(all, more * sizeof(*p));
        if (!p) {
            return 0;
        }
        all = p;
        room = more;
    }
    timer = timer ? timer : meshd_timer_new(0, on_turn, NULL);
    if (!timer) {
        return 0;
    }
    all[count++] = (struct waiting){++last_number, endpoint_id, undo};
    return last_number;
}

void
meshd_waiting_fini(void)
{
    meshd_timer_free(timer);
    timer = NULL;
    free(all);
    all = NULL;
    count = room = 0;
}
