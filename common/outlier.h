/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_outlier: one endpoint's ejection, in one word of the live state that every process changes by
 * compare-and-swap: so each transition happens once on the host and is seen by all at once.
 *
 *              failures in a row, or meshd's statistics               its time is over
 *   in service ────────────────────────────────────────> ejected ─────────────────────> due
 *        ^                                                  ^ ^                          │
 *        │                                      it failed:  │ └─ no outcome ──┐          │ one of all takes
 *        │                                      once longer └──────────────── probed <───┘ the probe
 *        └────────────────────────────────────── it succeeded ────────────────┘
 *
 * A probe is an ejection that ends by itself soon, so that one whose process was killed delays the next one and
 * nothing else. Anybody may have written the word: a time that no ejection can have counts as over.
 * Times: CLOCK_MONOTONIC in milliseconds. Any thread, signal-safe, no locks.
 */
#ifndef MESH_COMMON_OUTLIER_H
#define MESH_COMMON_OUTLIER_H

#include <stdbool.h>
#include <stdint.h>

#include "mesh/live.h"
#include "mesh/snapshot.h"

enum mesh_outlier {
    MESH_OUTLIER_IN,      /* in service */
    MESH_OUTLIER_EJECTED,
    MESH_OUTLIER_PROBED,  /* ejected, and one connection is finding out */
    MESH_OUTLIER_DUE,     /* the next connection may */
};

struct mesh_outlier_view {
    enum mesh_outlier state;
    uint64_t until_ms; /* 0 in service */
    uint32_t times;    /* ejections, fewer by one for each interval in service */
};

struct mesh_outlier_view mesh_outlier_view(uint64_t word, const struct mesh_snap_live *set, uint64_t now_ms);

/* How many of the service's endpoints may be ejected: its percentage, one at least, never the last. */
uint32_t mesh_outlier_most(const struct mesh_snap_live *set);

/* From in service to ejected. False: it was not in service, or as many are ejected as may be (counted). The
 * failures in a row begin anew either way. `random`: for the jitter. */
bool mesh_outlier_eject(struct mesh_live_endpoint *e, struct mesh_live_service *s,
                        const struct mesh_snap_live *set, uint64_t now_ms, uint64_t random);

/* Takes the probe of one that is due, for at most lease_ms: its word, which the outcome is told with. 0: it is
 * not due, or another one has it. */
uint64_t mesh_outlier_probe(struct mesh_live_endpoint *e, const struct mesh_snap_live *set, uint64_t now_ms,
                            uint32_t lease_ms);
/* It was not made: the next one may. */
void mesh_outlier_release(struct mesh_live_endpoint *e, uint64_t probe, uint64_t now_ms);
/* How that one ended. False: too late, it is another's by now. */
bool mesh_outlier_return(struct mesh_live_endpoint *e, struct mesh_live_service *s, uint64_t probe,
                         uint64_t now_ms);
bool mesh_outlier_again(struct mesh_live_endpoint *e, struct mesh_live_service *s,
                        const struct mesh_snap_live *set, uint64_t probe, uint64_t now_ms, uint64_t random);

/* Somebody else knows that it is well again: back from any ejection, whoever probes it. False: it is in service. */
bool mesh_outlier_uneject(struct mesh_live_endpoint *e, struct mesh_live_service *s, uint64_t now_ms);

/* An interval in service: its next ejection is one step shorter again. */
void mesh_outlier_calm(struct mesh_live_endpoint *e);

#endif
