/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_quota: see quota.h.
 */
#include "meshd/stats/quota.h"

#include <unistd.h>

#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/stats/totals.h"

#define SAY_NS UINT64_C(10000000000) /* who is refused asks again and again */

static void
say(const struct meshd_peer *peer, uint32_t all, uint32_t own)
{
    static uint64_t next;
    uint64_t now = meshd_now_ns();
    if (now >= next) {
        next = now + SAY_NS;
        log_warn("pid %d of uid %u may not attach: there are %u statistics pages, %u of this user", (int)peer->pid,
                 (unsigned)peer->uid, all, own);
    }
}

enum mesh_err
meshd_quota_check(const struct meshd_peer *peer, uint32_t all, uint32_t own)
{
    bool privileged = meshd_peer_is_privileged(peer);
    uint32_t most = privileged ? MESHD_PAGES_MAX : MESHD_PAGES_MAX - MESHD_PAGES_KEPT;
    if (all < most && (privileged || own < MESHD_PAGES_USER)) {
        return MESH_OK;
    }
    struct meshd_counters c = {.err = {[MESH_E_PAGES_FULL] = 1}};
    meshd_totals_add("meshd", &c); /* it has no page of its own to count it in */
    say(peer, all, own);
    return MESH_E_PAGES_FULL;
}
