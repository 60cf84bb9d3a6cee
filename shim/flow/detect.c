/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_detect: see detect.h.
 */
#include "shim/flow/detect.h"

#include <errno.h>
#include <string.h>

#include "shim/flow/hs_int.h"
#include "shim/link/diag.h"
#include "shim/link/link.h"
#include "shim/real.h"
#include "shim/tls/inspect.h"

#define RETRY_NS UINT64_C(5000000)

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

static bool
set_lowat(const struct shim_work *w, int val)
{
    return sys_setsockopt(w->fd, SOL_SOCKET, SO_RCVLOWAT, &val, sizeof(val)) == 0;
}

static int
lowat(const struct shim_work *w)
{
    int val = 1;
    socklen_t len = sizeof(val);
    (void)sys_getsockopt(w->fd, SOL_SOCKET, SO_RCVLOWAT, &val, &len);
    return val;
}

static bool
has_ended(const struct shim_work *w)
{
    struct pollfd p = {w->fd, POLLRDHUP, 0};
    return sys_poll(&p, 1, 0) != 0;
}

/* Until `want` bytes are there the socket is not to be readable: who waits would come back for nothing. The end is
 * readable all the same, and so is what fills half the buffer [tcp_set_rcvlowat]. The program's own value, from before or
 * of now, comes back when it is told. Where a filter forbids that, who waits spins. False: nothing more is to be waited
 * for, but perhaps more is here by now. */
static bool
await_bytes(struct shim_work *w, size_t want)
{
    struct shim_slot *s = shim_hs_slot(w);
    struct pollfd p = {w->fd, POLLIN | POLLRDHUP, 0};
    int now = lowat(w);
    if (!w->awaited || now != (int)s->rx_lowat) {
        w->own_lowat = now;
    }
    if (w->awaited != want || now != (int)s->rx_lowat) {
        w->awaited = (uint32_t)want;
        if (!set_lowat(w, (int)want)) {
            return !has_ended(w);
        }
        s->rx_lowat = (uint32_t)lowat(w);
    }
    return sys_poll(&p, 1, 0) == 0;
}

static void
end_wait(struct shim_work *w)
{
    struct shim_slot *s = shim_hs_slot(w);
    if (w->awaited && lowat(w) == (int)s->rx_lowat) {
        (void)set_lowat(w, w->own_lowat);
    }
    w->awaited = s->rx_lowat = 0;
}

static bool
is_stranger(const struct shim_work *w)
{
    uint32_t known = MESH_PEER_YES;
    const struct shim_slot *s = shim_hs_slot(w);
    return shim_link_peer_known(w->fd, &s->peer, &s->local, &known) == MESH_OK && known == MESH_PEER_NO;
}

static enum shim_detect
not_yet(struct shim_work *w)
{
    enum shim_detect d = w->spoke && shim_now() >= w->detect_at ? ask_registry(w) : SHIM_DETECT_WAIT;
    if (w->awaited && w->may_be_plain && shim_now() >= w->expires_at && is_stranger(w)) {
        d = SHIM_DETECT_PLAIN; /* it does not go on as a hello */
    }
    if (d == SHIM_DETECT_PLAIN || !w->may_be_plain) {
        end_wait(w);
    }
    return d;
}

/* One of this host that nobody holds any more was perhaps of the mesh, and killed. */
enum shim_origin
shim_detect_origin(int fd, const struct shim_slot *s)
{
    uint32_t known = MESH_PEER_YES;
    bool near = mesh_addr_is_loopback(&s->peer) || memcmp(s->peer.ip, s->local.ip, sizeof(s->peer.ip)) == 0;
    enum shim_far_end far = shim_diag_far_end(fd, &s->peer, &s->local);
    if (far == SHIM_FAR_LEFT || (far == SHIM_FAR_UNKNOWN && near)) {
        return SHIM_ORIGIN_MESH;
    }
    if (shim_link_peer_known(fd, &s->peer, &s->local, &known) != MESH_OK || known == MESH_PEER_COMING) {
        return SHIM_ORIGIN_UNKNOWN;
    }
    return known == MESH_PEER_NO ? SHIM_ORIGIN_OUTSIDE : SHIM_ORIGIN_MESH;
}

/* The client has ended, and the server has spoken. What the registry cannot tell yet is asked again, as above. */
static enum shim_detect
ended(struct shim_work *w)
{
    uint64_t now = shim_now();
    if (w->ended && now < w->detect_at) {
        return SHIM_DETECT_WAIT;
    }
    enum shim_origin o = shim_detect_origin(w->fd, shim_hs_slot(w));
    w->ended = o == SHIM_ORIGIN_UNKNOWN && now < w->ask_until;
    w->detect_at = w->ended ? now + RETRY_NS : SHIM_NEVER;
    return w->ended ? SHIM_DETECT_WAIT : o == SHIM_ORIGIN_OUTSIDE ? SHIM_DETECT_PLAIN : SHIM_DETECT_GONE;
}

/* A hello that is not whole and never will be, or not in the time of a handshake, is the program's to make something of.
 * One for which there is no room goes by what is there of it. */
enum shim_detect
shim_detect(struct shim_work *w)
{
    enum shim_client c = SHIM_CLIENT_MORE;
    size_t want;
    long r, seen = 0;
    if (w->plain) {
        return SHIM_DETECT_PLAIN;
    }
    while (c == SHIM_CLIENT_MORE && (r = sys_recv(w->fd, w->in, sizeof(w->in), MSG_PEEK | MSG_DONTWAIT)) > seen) {
        seen = r;
        c = shim_inspect(w->in, (size_t)r, &want);
        if (c == SHIM_CLIENT_MORE && await_bytes(w, want)) {
            return not_yet(w);
        }
    }
    if (seen > 0) {
        end_wait(w);
        bool plain = c == SHIM_CLIENT_PLAIN || c == SHIM_CLIENT_OWN || (c == SHIM_CLIENT_MORE && has_ended(w));
        return plain ? SHIM_DETECT_PLAIN : SHIM_DETECT_TLS;
    }
    if (r == -EAGAIN) {
        return not_yet(w);
    }
    if (r < 0) {
        return SHIM_DETECT_RESET;
    }
    return w->spoke ? ended(w) : SHIM_DETECT_GONE;
}
