/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_service: see service.h.
 */
#include "meshd/registry/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meshd/policy/config.h"
#include "meshd/registry/snapfile.h"

static struct meshd_service_entry *services;

struct meshd_service_entry *
meshd_service_get(const char *name, const char *id)
{
    struct meshd_service_entry *s = NULL;
    HASH_FIND_STR(services, name, s);
    if (!s) {
        s = calloc(1, sizeof(*s));
        if (!s) {
            return NULL;
        }
        snprintf(s->name, sizeof(s->name), "%s", name);
        snprintf(s->id, sizeof(s->id), "%s", id);
        HASH_ADD_STR(services, name, s);
    }
    s->uses++;
    return s;
}

void
meshd_service_put(struct meshd_service_entry *s)
{
    if (--s->uses == 0) {
        HASH_DEL(services, s);
        free(s);
    }
}

uint32_t
meshd_service_count(void)
{
    return HASH_COUNT(services);
}

static int
by_name(struct meshd_service_entry *a, struct meshd_service_entry *b)
{
    return strcmp(a->name, b->name);
}

void
meshd_service_visit_all(meshd_service_visit *visit, void *arg)
{
    const struct meshd_config *cfg = meshd_config_current();
    HASH_SORT(services, by_name);
    for (struct meshd_service_entry *e = services; e; e = e->hh.next) {
        struct meshd_service s = {
            .mode = meshd_config_mode(cfg, e->name, 0),
            .strict_close = meshd_config_strict_close(cfg, e->name),
            .endpoints = e->uses,
        };
        memcpy(s.name, e->name, sizeof(s.name));
        memcpy(s.id, e->id, sizeof(s.id));
        if (visit(&s, arg) != 0) {
            return;
        }
    }
}

void
meshd_service_write(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    uint32_t index = 0;
    for (struct meshd_service_entry *s = services; s; s = s->hh.next) {
        struct mesh_snap_service out = {
            .mode = (uint8_t)meshd_config_mode(cfg, s->name, 0),
            .strict_close = meshd_config_strict_close(cfg, s->name),
        };
        memcpy(out.name, s->name, sizeof(out.name));
        memcpy(out.id, s->id, sizeof(out.id));
        s->index = index++;
        meshd_snapfile_service(&out);
    }
}
