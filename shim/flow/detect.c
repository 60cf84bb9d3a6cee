/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_detect: see detect.h.
 */
#include "shim/flow/detect.h"

#include <errno.h>

#include "shim/flow/hs_int.h"
#include "shim/link/link.h"
#include "shim/real.h"
#include "shim/tls/inspect.h"

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

/* Until `want` bytes are there the socket is not to be readable: who waits would come back for nothing. The end is
 * readable all the same. False: it has come, perhaps behind the rest, or cannot be waited for. */
static bool
await_bytes(struct shim_work *w, size_t want)
{
    struct shim_slot *s = shim_hs_slot(w);
    struct pollfd p = {w->fd, POLLRDHUP, 0};
    int val = (int)want;
    w->answered = true;         /* it must go on */
    w->detect_at = SHIM_NEVER; /* and is not silent */
    if (s->rx_lowat != want && sys_setsockopt(w->fd, SOL_SOCKET, SO_RCVLOWAT, &val, sizeof(val)) != 0) {
        return false;
    }
    s->rx_lowat = (uint32_t)want;
    return sys_poll(&p, 1, 0) == 0;
}

static void
end_wait(struct shim_work *w)
{
    static const int one = 1;
    struct shim_slot *s = shim_hs_slot(w);
    if (s->rx_lowat > 1) {
        (void)sys_setsockopt(w->fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
        s->rx_lowat = 1;
    }
}

static long
look(struct shim_work *w, enum shim_client *c, size_t *want)
{
    long r = sys_recv(w->fd, w->in, sizeof(w->in), MSG_PEEK | MSG_DONTWAIT);
    if (r > 0) {
        *c = shim_inspect(w->in, (size_t)r, want);
    }
    return r;
}

enum shim_detect
shim_detect(struct shim_work *w)
{
    size_t want;
    enum shim_client c = SHIM_CLIENT_MORE;
    if (w->plain) {
        return SHIM_DETECT_PLAIN;
    }
    long r = look(w, &c, &want);
    if (r > 0) {
        if (c == SHIM_CLIENT_MORE && await_bytes(w, want)) {
            return SHIM_DETECT_WAIT;
        }
        if (c == SHIM_CLIENT_MORE) {
            (void)look(w, &c, &want);
        }
        end_wait(w);
        return c == SHIM_CLIENT_PLAIN || c == SHIM_CLIENT_OWN ? SHIM_DETECT_PLAIN : SHIM_DETECT_TLS;
    }
    if (r == 0 || r != -EAGAIN) {
        return SHIM_DETECT_GONE;
    }
    return w->spoke && shim_now() >= w->detect_at ? ask_registry(w) : SHIM_DETECT_WAIT;
}
