/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_loop: see loop.h.
 */
#include "meshd/base/loop.h"

#include <event2/event.h>
#include <stdlib.h>
#include <time.h>

struct meshd_timer {
    struct event *ev;
    meshd_timer_fn *fn;
    void *arg;
};

static struct event_base *base;

enum mesh_err
meshd_loop_init(void)
{
    base = event_base_new();
    return base ? MESH_OK : MESH_E_NO_MEMORY;
}

void
meshd_loop_fini(void)
{
    if (base) {
        event_base_free(base);
    }
    base = NULL;
}

struct event_base *
meshd_loop(void)
{
    return base;
}

void
meshd_loop_run(void)
{
    event_base_dispatch(base);
}

void
meshd_loop_stop(void)
{
    event_base_loopexit(base, NULL);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct meshd_timer *t = arg;
    (void)fd;
    (void)what;
    t->fn(t->arg);
}

struct meshd_timer *
meshd_timer_new(uint32_t ms, meshd_timer_fn *fn, void *arg)
{
    struct meshd_timer *t = calloc(1, sizeof(*t));
    struct timeval tv = {ms / 1000, (long)(ms % 1000) * 1000};
    if (!t) {
        return NULL;
    }
    t->fn = fn;
    t->arg = arg;
    t->ev = event_new(base, -1, EV_PERSIST, on_timer, t);
    if (!t->ev || event_add(t->ev, &tv) != 0) {
        meshd_timer_free(t);
        return NULL;
    }
    return t;
}

void
meshd_timer_free(struct meshd_timer *t)
{
    if (!t) {
        return;
    }
    if (t->ev) {
        event_free(t->ev);
    }
    free(t);
}

static uint64_t
read_clock(clockid_t id)
{
    struct timespec ts = {0};
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t
meshd_now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t
meshd_real_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}
