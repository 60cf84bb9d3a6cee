/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_vaddr: see vaddr.h.
 */
#include "common/vaddr.h"

#include <string.h>

#define EACH 254u /* usable addresses of 256 */

static const uint8_t v6_prefix[6] = {0xfd, 0xfc, 0xde, 0x32, 0x88, 0x3e}; /* drawn once [RFC4193 3.2] */

static uint64_t
fnv1a(uint64_t h, const char *s)
{
    for (;; s++) {
        h = (h ^ (uint8_t)*s) * UINT64_C(0x100000001b3);
        if (!*s) {
            return h; /* with the NUL: "ab", "c" is not "a", "bc" */
        }
    }
}

/* FNV-1a leaves neighbours near each other; two multiplications spread them [splitmix64]. */
uint64_t
mesh_vaddr_hash(const char *trust_domain, const char *service)
{
    uint64_t h = fnv1a(fnv1a(UINT64_C(0xcbf29ce484222325), trust_domain), service);
    h = (h ^ h >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ h >> 27) * UINT64_C(0x94d049bb133111eb);
    return h ^ h >> 31;
}

void
mesh_vaddr_at(struct mesh_vaddr *out, uint64_t hash, uint32_t slot)
{
    uint32_t n = UINT32_C(0xf0000000) + (slot / EACH << 8) + 1 + slot % EACH;
    for (unsigned i = 0; i < 4; i++) {
        out->v4[i] = (uint8_t)(n >> (24 - 8 * i));
    }
    memcpy(out->v6, v6_prefix, sizeof(v6_prefix));
    for (unsigned i = 0; i < 6; i++) {
        out->v6[6 + i] = (uint8_t)(hash >> (56 - 8 * i));
    }
    memcpy(out->v6 + 12, out->v4, 4);
}

/* The last of all is everybody's: broadcasts go there [RFC919]. */
bool
mesh_vaddr_is(const struct mesh_addr *a)
{
    static const uint8_t everybody[4] = {255, 255, 255, 255};
    return mesh_addr_is_v4(a) ? a->ip[12] >= 0xf0 && memcmp(a->ip + 12, everybody, 4) != 0
                              : memcmp(a->ip, v6_prefix, sizeof(v6_prefix)) == 0;
}

struct mesh_addr
mesh_vaddr_addr(const struct mesh_vaddr *v, int family, uint16_t port)
{
    struct mesh_addr a = {.ip = {[10] = 0xff, [11] = 0xff}, .port = port};
    if (family == AF_INET) {
        memcpy(a.ip + 12, v->v4, 4);
    } else {
        memcpy(a.ip, v->v6, 16);
    }
    return a;
}
