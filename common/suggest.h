/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_suggest: "did you mean ...": which of some words is the nearest to a mistyped one. Pure; any
 * thread. Used by meshd and meshctl, not by the shim.
 */
#ifndef MESH_COMMON_SUGGEST_H
#define MESH_COMMON_SUGGEST_H

#include <stddef.h>

#define MESH_SUGGEST_MAX 63u /* longer words are compared by their first bytes only */

/* Damerau-Levenshtein distance (optimal string alignment), case ignored. */
unsigned mesh_suggest_distance(const char *a, const char *b);

/* The nearest of `count` words, or NULL when none is within 2 edits and nearer than a word of
 * that length is to anything (a third of its length, at least 1). NULL words are skipped. */
const char *mesh_suggest(const char *word, const char *const *words, size_t count);

#endif
