/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_detect: see detect.h.
 */
#include "shim/flow/detect.h"

#include <errno.h>

#include "shim/flow/hs_int.h"
#include "shim/link/link.h"
#include "shim/real.h"

/* The server has spoken, the client has not. A meshd that is starting anew or too busy to answer, or that
 * knows of a client that is just in the kernel's connect(), is asked again, until a handshake would have failed
 * too: to a client of the mesh plaintext is a leak and a torn connection. */
static enum shim_detect
ask_registry(struct shim_work *w)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    const struct shim_slot *s = shim_hs_slot(w);
    uint32_t known = MESH_PEER_NO;
    uint64_t now = shim_now();
    mesh_snap_settings(&snap, &set);
    enum mesh_err e = shim_link_peer_known(w->fd, &s->peer, &s->local, &known);
    if ((e != MESH_OK || known == MESH_PEER_COMING) && now < w->ask_until) {
        w->detect_at = now + (uint64_t)set.detect_timeout_ms * 1000000;
        return SHIM_DETECT_WAIT;
    }
    w->detect_at = SHIM_NEVER;
    w->may_be_plain = known != MESH_PEER_YES;
    return w->may_be_plain ? SHIM_DETECT_PLAIN : SHIM_DETECT_WAIT;
}

/* [RFC8446 5.1] a client's first record is a handshake: 22, version 3.x. */
enum shim_detect
shim_detect(struct shim_work *w)
{
    uint8_t b[3];
    if (w->plain) {
        return SHIM_DETECT_PLAIN;
    }
    long r = sys_recv(w->fd, b, sizeof(b), MSG_PEEK | MSG_DONTWAIT);
    if (r > 0) {
        return b[0] == 22 && (r < 2 || b[1] == 3) ? SHIM_DETECT_TLS : SHIM_DETECT_PLAIN;
    }
    if (r == 0 || r != -EAGAIN) {
        return SHIM_DETECT_GONE;
    }
    return w->spoke && shim_now() >= w->detect_at ? ask_registry(w) : SHIM_DETECT_WAIT;
}
