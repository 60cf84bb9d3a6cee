/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_frame: see frame.h.
 */
#include "meshd/base/frame.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK 4096u

/* Bodies that a request may have. */
static const struct {
    uint32_t least, most;
} sizes[] = {
    [MESH_WIRE_ATTACH] = {sizeof(struct mesh_wire_attach_req), sizeof(struct mesh_wire_attach_req)},
    [MESH_WIRE_CERT] = {0, MESH_SERVICE_MAX},
    [MESH_WIRE_LISTEN] = {sizeof(struct mesh_wire_listen_req), sizeof(struct mesh_wire_listen_req)},
    [MESH_WIRE_UNLISTEN] = {sizeof(struct mesh_wire_unlisten_req),
                            sizeof(struct mesh_wire_unlisten_req)},
    [MESH_WIRE_LEAVE] = {sizeof(struct mesh_wire_unlisten_req),
                         sizeof(struct mesh_wire_unlisten_req)},
    [MESH_WIRE_LISTENS] = {sizeof(struct mesh_wire_unlisten_req),
                           sizeof(struct mesh_wire_unlisten_req)},
    [MESH_WIRE_PEER] = {sizeof(struct mesh_wire_peer_req), sizeof(struct mesh_wire_peer_req)},
    [MESH_WIRE_HANDOFF] = {sizeof(struct mesh_wire_handoff_req),
                           sizeof(struct mesh_wire_handoff_req) + (64u << 10)},
    [MESH_WIRE_LEND] = {sizeof(struct mesh_wire_lend_req), sizeof(struct mesh_wire_lend_req)},
    [MESH_WIRE_CLAIM] = {0, 0},
    [MESH_WIRE_LIVE] = {0, 0},
};
#define TYPES (sizeof(sizes) / sizeof(sizes[0]))

static enum mesh_err
check_head(const struct mesh_wire_head *h)
{
    if (h->magic != MESH_WIRE_MAGIC) {
        return MESH_E_PROTOCOL;
    }
    if (h->version != MESH_WIRE_VERSION) {
        return MESH_E_VERSION;
    }
    if (h->type < MESH_WIRE_ATTACH || h->type >= TYPES || h->err != 0 || h->len > MESH_WIRE_MAX ||
        h->len < sizes[h->type].least || h->len > sizes[h->type].most) {
        return MESH_E_PROTOCOL;
    }
    return MESH_OK;
}

static bool
grow(struct meshd_frame *f)
{
    size_t cap = f->body_cap ? f->body_cap * 2 : CHUNK;
    if (cap > f->head.len) {
        cap = f->head.len;
    }
    uint8_t *p = malloc(cap);
    if (!p) {
        return false;
    }
    if (f->body) {
        memcpy(p, f->body, f->body_got);
        explicit_bzero(f->body, f->body_cap);
        free(f->body);
    }
    f->body = p;
    f->body_cap = cap;
    return true;
}

void *
meshd_frame_room(struct meshd_frame *f, size_t *n)
{
    *n = 0;
    if (f->head_got < sizeof(f->head)) {
        *n = sizeof(f->head) - f->head_got;
        return (uint8_t *)&f->head + f->head_got;
    }
    if (f->body_got == f->head.len || (f->body_got == f->body_cap && !grow(f))) {
        return NULL;
    }
    *n = f->body_cap - f->body_got;
    return f->body + f->body_got;
}

enum mesh_err
meshd_frame_fed(struct meshd_frame *f, size_t n)
{
    if (f->head_got < sizeof(f->head)) {
        f->head_got += n;
        return f->head_got == sizeof(f->head) ? check_head(&f->head) : MESH_OK;
    }
    f->body_got += n;
    return MESH_OK;
}

bool
meshd_frame_is_done(const struct meshd_frame *f)
{
    return f->head_got == sizeof(f->head) && f->body_got == f->head.len;
}

void
meshd_frame_fini(struct meshd_frame *f)
{
    if (f->body) {
        explicit_bzero(f->body, f->body_cap);
        free(f->body);
    }
    *f = (struct meshd_frame){0};
}
