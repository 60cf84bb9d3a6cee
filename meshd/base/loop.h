/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_loop: the one event loop, and the clocks. Everything but logging runs in its thread.
 */
#ifndef MESHD_BASE_LOOP_H
#define MESHD_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "mesh/err.h"

struct event_base;
struct event;

enum mesh_err meshd_loop_init(void) MESH_MUST_CHECK;
void meshd_loop_fini(void);
struct event_base *meshd_loop(void);
void meshd_loop_run(void);
void meshd_loop_stop(void);

/* fn(arg) every `ms` until freed; NULL when out of memory. meshd_loop_timer_free takes NULL. */
typedef void meshd_timer_fn(void *arg);
struct meshd_timer;
struct meshd_timer *meshd_timer_new(uint32_t ms, meshd_timer_fn *fn, void *arg);
void meshd_timer_free(struct meshd_timer *t);

uint64_t meshd_now_ns(void);  /* CLOCK_MONOTONIC */
uint64_t meshd_real_ns(void); /* CLOCK_REALTIME */

#endif
