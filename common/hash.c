/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_hash: see hash.h. XXH64 as in its specification, byte order included.
 */
#include "common/hash.h"

#include <endian.h>
#include <string.h>

#define P1 UINT64_C(0x9e3779b185ebca87)
#define P2 UINT64_C(0xc2b2ae3d27d4eb4f)
#define P3 UINT64_C(0x165667b19e3779f9)
#define P4 UINT64_C(0x85ebca77c2b2ae63)
#define P5 UINT64_C(0x27d4eb2f165667c5)

static uint64_t
rotate(uint64_t v, unsigned n)
{
    return v << n | v >> (64 - n);
}

static uint64_t
read64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return le64toh(v);
}

static uint32_t
read32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

static uint64_t
round_of(uint64_t lane, uint64_t word)
{
    return rotate(lane + word * P2, 31) * P1;
}

/* Of whole stripes of 32 bytes. */
static uint64_t
stripes(const uint8_t *p, size_t n, uint64_t seed)
{
    uint64_t lane[4] = {seed + P1 + P2, seed + P2, seed, seed - P1};
    for (; n >= 32; n -= 32, p += 32) {
        for (unsigned i = 0; i < 4; i++) {
            lane[i] = round_of(lane[i], read64(p + 8 * i));
        }
    }
    uint64_t h = rotate(lane[0], 1) + rotate(lane[1], 7) + rotate(lane[2], 12) + rotate(lane[3], 18);
    for (unsigned i = 0; i < 4; i++) {
        h = (h ^ round_of(0, lane[i])) * P1 + P4;
    }
    return h;
}

uint64_t
mesh_hash_bytes(const void *bytes, size_t n, uint64_t seed)
{
    const uint8_t *p = bytes;
    uint64_t h = n >= 32 ? stripes(p, n, seed) : seed + P5;
    h += n;
    p += n & ~(size_t)31;
    n &= 31;
    for (; n >= 8; n -= 8, p += 8) {
        h = rotate(h ^ round_of(0, read64(p)), 27) * P1 + P4;
    }
    if (n >= 4) {
        h = rotate(h ^ read32(p) * P1, 23) * P2 + P3;
        n -= 4;
        p += 4;
    }
    for (; n > 0; n--, p++) {
        h = rotate(h ^ *p * P5, 11) * P1;
    }
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}

bool
mesh_hash_knows(const struct mesh_hash_client *who, enum mesh_hash_field f)
{
    return f == MESH_HASH_SOURCE_IDENTITY ? who->identity[0] != '\0'
           : f == MESH_HASH_SOURCE_IP     ? !mesh_addr_is_any(&who->from)
           : f == MESH_HASH_UID           ? who->uid != MESH_SNAP_NONE
           : f == MESH_HASH_UNIT          ? who->unit[0] != '\0'
           : f == MESH_HASH_EXE           ? who->exe[0] != '\0'
                                          : f <= MESH_HASH_DESTINATION_PORT;
}

/* The field is the seed: a user id is no port. */
static uint64_t
hash_of(const struct mesh_hash_client *who, enum mesh_hash_field f)
{
    const char *text = f == MESH_HASH_SOURCE_IDENTITY ? who->identity : f == MESH_HASH_UNIT ? who->unit : who->exe;
    uint32_t n = f == MESH_HASH_UID ? who->uid : who->asked.port;
    const uint8_t number[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
    if (f == MESH_HASH_SOURCE_IP || f == MESH_HASH_DESTINATION_IP) {
        return mesh_hash_bytes(f == MESH_HASH_SOURCE_IP ? who->from.ip : who->asked.ip, 16, f);
    }
    if (f == MESH_HASH_UID || f == MESH_HASH_DESTINATION_PORT) {
        return mesh_hash_bytes(number, sizeof(number), f);
    }
    return mesh_hash_bytes(text, strlen(text), f);
}

bool
mesh_hash_key(const struct mesh_snap_hash *policy, const struct mesh_hash_client *who, uint64_t *hash)
{
    uint64_t h = 0;
    bool any = false;
    for (unsigned i = 0; i < MESH_HASH_TERMS && policy->term[i]; i++) {
        enum mesh_hash_field f = (enum mesh_hash_field)(policy->term[i] - 1);
        if (!mesh_hash_knows(who, f)) {
            continue;
        }
        h = (any ? rotate(h, 1) : 0) ^ hash_of(who, f);
        any = true;
        if (policy->terminal >> i & 1) {
            break;
        }
    }
    if (any) {
        *hash = h;
    }
    return any;
}

uint32_t
mesh_hash_draw(uint64_t hash)
{
    const uint64_t h = htole64(hash);
    return (uint32_t)mesh_hash_bytes(&h, sizeof(h), 1);
}
