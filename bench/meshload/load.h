/* SPDX-License-Identifier: Apache-2.0
 *
 * load: one thread that keeps requests coming on many connections and measures how long answers take.
 *
 * Open loop: each connection has its schedule (sched.h); what is due while its connection is busy is sent as
 * soon as it can be, and its latency counts from when it was due. Closed loop (SCHED_MAX): the next request
 * follows the answer, latency counts from sending; that is for throughput.
 *
 * Time begins when every connection is open and had an answer (not with `fresh`). Counted is what is due in the
 * window between warm-up and end. Each such request is in exactly one of
 * `latency`, or `errors`; what is not answered when the run is over is in both, with the time that it had.
 */
#ifndef MESHLOAD_LOAD_H
#define MESHLOAD_LOAD_H

#include <stdbool.h>
#include <sys/socket.h>

#include "bench/meshload/hist.h"
#include "bench/meshload/proto.h"
#include "bench/meshload/sched.h"

#define LOAD_PIPELINE_MAX 64

struct ssl_ctx_st;

struct load_spec {
    struct sockaddr_storage to;
    socklen_t to_len;
    struct ssl_ctx_st *tls; /* or NULL */
    const struct proto *proto;
    enum sched_kind kind;
    double rate; /* requests a second, of all connections */
    unsigned connections, pipeline;
    size_t chunk;      /* bytes in one write, at most; 0: any number */
    bool batch;        /* SCHED_MAX: so many requests at once, then all answers */
    bool fresh;        /* a connection for each request */
    bool spin;         /* never sleeps */
    uint64_t warmup_ns, window_ns, drain_ns;
    uint64_t seed;
    void (*mark)(const char *what); /* "begin" and "end" of the window, or NULL */
};

struct load_result {
    struct hist latency, late, connect; /* late: how long after it could have we sent, which is our own error */
    uint64_t due;      /* requests of the window */
    uint64_t answered; /* of these, rightly */
    uint64_t busy;     /* of these, sent late because the connection was waiting for another answer */
    uint64_t bytes_out, bytes_in;
    uint64_t errors[LOAD_ERR_COUNT];
    uint64_t window_ns;
};

/* False, with a line on stderr, if not even a beginning could be made. */
bool load_run(const struct load_spec *spec, struct load_result *r);

uint64_t load_now(void);

#endif
