/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_answer: what a service's endpoints are after each answer of DNS. Pure logic: no clock, no
 * socket.
 *
 * What holds when an answer is not what one hopes for:
 *   failed      (SERVFAIL, REFUSED, nobody answers, nonsense): nothing is learnt; the last endpoints stay
 *   for ever. Of an SRV answer whose target's addresses cannot be had, that target's last ones stay.
 *   negative    (NXDOMAIN, no records, or records but not one address): the endpoints go, when the next
 *   answer that is no failure says the same. Envoy's STRICT_DNS drops them at the first one; but a zone
 *   that is being loaded anew, or a server that just lost it, says the same for a moment, and a service
 *   with no endpoints refuses everybody. The price is `refresh` more of endpoints that may be gone, which
 *   retries inside connect() bear.
 *   fewer       records than before: they go at once. That is what taking a server out looks like.
 */
#ifndef MESHD_DISCOVERY_ANSWER_H
#define MESHD_DISCOVERY_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "meshd/policy/config.h"

#define MESHD_ANSWER_TARGETS   256u  /* later SRV records are left out */
#define MESHD_ANSWER_ADDRESSES 32u   /* of one target and family */
#define MESHD_ANSWER_ENDPOINTS 1024u
#define MESHD_ANSWER_TTL_MS    3600000u /* the longest that an answer is believed */
#define MESHD_ANSWER_NEGATIVES 2u

enum meshd_heard { MESHD_HEARD_FAILED, MESHD_HEARD_NONE, MESHD_HEARD_SOME };

/* The A or the AAAA records of one name. */
struct meshd_addresses {
    enum meshd_heard heard;
    uint32_t count;
    uint8_t ip[MESHD_ANSWER_ADDRESSES][16];
};

struct meshd_target {
    char host[MESHD_CONFIG_DNS_MAX]; /* lower case */
    uint16_t port, priority, weight;
    struct meshd_addresses v4, v6;
};

/* All that one round of questions brought. For type a: one target, the name itself. */
struct meshd_reply {
    enum meshd_heard heard; /* of the SRV question; SOME for type a */
    bool seen_ttl;
    uint32_t ttl_s;         /* the least of all records that count */
    uint32_t count;
    struct meshd_target *targets;
};

/* An endpoint, and which target it is an address of. */
struct meshd_found {
    struct mesh_addr addr;
    uint32_t weight;
    uint8_t priority;
    char host[MESHD_CONFIG_DNS_MAX];
};

/* A service's endpoints as DNS last said. Zeroed: none yet. */
struct meshd_answer {
    struct meshd_found *at;
    size_t count;
    uint32_t negatives; /* in a row */
};

enum meshd_verdict {
    MESHD_VERDICT_TAKEN,    /* *a is what the reply says */
    MESHD_VERDICT_PARTLY,   /* the same, with some targets' last addresses */
    MESHD_VERDICT_DOUBTED,  /* negative for the first time: *a stays */
    MESHD_VERDICT_FAILED,   /* *a stays */
};
enum meshd_verdict meshd_answer_take(struct meshd_answer *a, const struct meshd_reply *r);
void meshd_answer_fini(struct meshd_answer *a);

/* When to ask again. */
uint32_t meshd_answer_wait_ms(enum meshd_verdict v, const struct meshd_reply *r, uint32_t refresh_ms);

#endif
