/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_stats, the part that knows what hashes in pages stand for: services and rules. Never forgotten, for a
 * connection may end long after the configuration that led it on. Main thread only.
 */
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "common/limits.h"
#include "meshd/stats/stats.h"

#define WORDS_MAX 65536u

struct word {
    uint64_t hash;
    UT_hash_handle hh;
    char text[];
};
static struct word *words;

const char *
meshd_stats_word(uint64_t hash)
{
    struct word *w = NULL;
    HASH_FIND(hh, words, &hash, sizeof(hash), w);
    return w ? w->text : NULL;
}

void
meshd_stats_learn(const char *text)
{
    uint64_t hash = mesh_limit_hash(text);
    size_t len = strlen(text) + 1;
    if (meshd_stats_word(hash) || HASH_COUNT(words) >= WORDS_MAX) {
        return;
    }
    struct word *w = malloc(sizeof(*w) + len);
    if (w) {
        w->hash = hash;
        memcpy(w->text, text, len);
        HASH_ADD(hh, words, hash, sizeof(w->hash), w);
    }
}
