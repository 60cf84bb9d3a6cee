/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_schema: what may stand in a configuration file. keys.def is the table; this checks a tree
 * against it, stores values, and prints the reference.
 */
#ifndef MESHD_POLICY_SCHEMA_H
#define MESHD_POLICY_SCHEMA_H

#include <stdio.h>

#include "meshd/policy/config.h"
#include "meshd/policy/tree.h"

enum meshd_key_type {
    MESHD_KEY_BOOL,
    MESHD_KEY_INT,          /* uint16_t, uint32_t */
    MESHD_KEY_UID,          /* int64_t, -1 when not set */
    MESHD_KEY_MS,           /* duration in uint32_t milliseconds */
    MESHD_KEY_SECONDS,      /* duration in uint32_t seconds */
    MESHD_KEY_SIZE,         /* uint32_t, uint64_t bytes */
    MESHD_KEY_RATIO,        /* a number with up to three decimals, in uint32_t thousandths */
    MESHD_KEY_NAME,         /* char[]: a service or namespace */
    MESHD_KEY_TRUST_DOMAIN, /* char[] */
    MESHD_KEY_DIRECTORY,    /* char[]: absolute path */
    MESHD_KEY_USER,         /* char[] */
    MESHD_KEY_GLOB,         /* char[] */
    MESHD_KEY_LISTEN,       /* char[] */
    MESHD_KEY_LOG_PATH,     /* char[]: absolute path, "stdout" or "off" */
    MESHD_KEY_ADDR,         /* struct mesh_addr */
    MESHD_KEY_HOST,         /* struct meshd_host */
    MESHD_KEY_DOMAIN,       /* char[] */
    MESHD_KEY_PATTERN,      /* char[]: a host name, "*.example.org" */
    MESHD_KEY_NET,          /* struct meshd_net */
    MESHD_KEY_LABEL,        /* char[] */
    MESHD_KEY_MODE,         /* uint8_t, words */
    MESHD_KEY_EGRESS,
    MESHD_KEY_KERNEL_TLS,
    MESHD_KEY_LEVEL,
    MESHD_KEY_LOAD_BALANCER,
    MESHD_KEY_DNS_TYPE,
    MESHD_KEY_DNS_NAME,     /* char[] */
    MESHD_KEY_SUBSET_FALLBACK,
    MESHD_KEY_HEALTH_TYPE,
    MESHD_KEY_URL_PATH, /* char[] */
    MESHD_KEY_STATUS,   /* struct meshd_status_range */
    MESHD_KEY_ARGUMENT, /* char[]: anything */
    MESHD_KEY_ACCESS_FILTER,
    MESHD_KEY_FAULT,
    MESHD_KEY_HASH_FIELD,
    MESHD_KEY_PERCENT, /* uint16_t of 10000 */
    MESHD_KEY_GROUP,
    MESHD_KEY_LIST,
};

/* Fills a zeroed cfg. */
void meshd_schema_defaults(struct meshd_config *cfg);
/* Checks and stores a whole tree; errors go to *d. Scalars replace, list items are appended. */
void meshd_schema_apply(struct meshd_config *cfg, const struct meshd_node *root,
                        struct meshd_diags *d);
/* Frees the lists of cfg, not cfg. */
void meshd_schema_fini(struct meshd_config *cfg);
/* Restores in cfg the values of `running` for keys that need a restart, with a warning each. */
void meshd_schema_keep(struct meshd_config *cfg, const struct meshd_config *running,
                       struct meshd_diags *d);

enum meshd_dump { MESHD_DUMP_CONF, MESHD_DUMP_MAN };
/* A commented meshd.conf of the defaults, or the KEYS section of meshd.conf(5). */
void meshd_schema_dump(FILE *out, enum meshd_dump how);

#endif
