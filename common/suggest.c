/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_suggest: see suggest.h.
 */
#include "common/suggest.h"

#include <ctype.h>
#include <string.h>

#define MOST_EDITS 2u

static unsigned
least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static int
lower(char c)
{
    return tolower((unsigned char)c);
}

unsigned
mesh_suggest_distance(const char *a, const char *b)
{
    size_t la = strnlen(a, MESH_SUGGEST_MAX), lb = strnlen(b, MESH_SUGGEST_MAX);
    unsigned rows[3][MESH_SUGGEST_MAX + 1];
    unsigned *before = rows[0], *last = rows[1], *row = rows[2];

    memset(rows, 0, sizeof(rows));
    for (size_t j = 0; j <= lb; j++) {
        last[j] = (unsigned)j;
    }
    for (size_t i = 1; i <= la; i++) {
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            unsigned differ = lower(a[i - 1]) != lower(b[j - 1]);
            row[j] = least(least(last[j] + 1, row[j - 1] + 1), last[j - 1] + differ);
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
                lower(a[i - 2]) == lower(b[j - 1])) {
                row[j] = least(row[j], before[j - 2] + 1);
            }
        }
        unsigned *spare = before;
        before = last;
        last = row;
        row = spare;
    }
    return last[lb];
}

const char *
mesh_suggest(const char *word, const char *const *words, size_t count)
{
    size_t len = strnlen(word, MESH_SUGGEST_MAX);
    unsigned allowed = least(MOST_EDITS, len / 3 ? (unsigned)(len / 3) : 1);
    const char *best = NULL;

    for (size_t i = 0; i < count; i++) {
        unsigned d = words[i] ? mesh_suggest_distance(word, words[i]) : allowed + 1;
        if (len > 0 && d <= allowed && (!best || d < mesh_suggest_distance(word, best))) {
            best = words[i];
        }
    }
    return best;
}
