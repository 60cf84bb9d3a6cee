/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_keys: keys.def as a table, for the files schema.c, value.c and dump.c only.
 */
#ifndef MESHD_POLICY_KEYS_H
#define MESHD_POLICY_KEYS_H

#include "meshd/policy/schema.h"

enum meshd_scope_id {
#define SCOPE(name, type)                                                    MESHD_SCOPE_##name,
#define ITEM(name, type)                                                     MESHD_SCOPE_##name,
#define KEY(scope, name, kind, field, min, max, def, flags, text)
#define GROUP(scope, name, inner, text)
#define LIST(scope, name, inner, field, count, unique, text)
#include "meshd/policy/keys.def"
#undef SCOPE
#undef ITEM
#undef KEY
#undef GROUP
#undef LIST
    MESHD_SCOPE_COUNT
};

struct meshd_scope {
    size_t size;
    size_t at; /* offset of struct meshd_origin; 0 when it is no list item */
};

enum meshd_key_flags { RESTART = 1, NEEDED = 2, INITIAL = 4, PRESENT = 8 };

struct meshd_key {
    enum meshd_scope_id scope, inner; /* inner: of a GROUP or LIST */
    enum meshd_key_type type;
    unsigned flags;
    const char *name, *def, *text, *unique;
    size_t offset, size, count_offset;
    int64_t min, max;
};

extern const struct meshd_scope meshd_scopes[MESHD_SCOPE_COUNT];
extern const struct meshd_key meshd_keys[];
extern const size_t meshd_key_count;

const struct meshd_key *meshd_key_find(enum meshd_scope_id scope, const char *name);

/* The key of items that stand without braces, or NULL. */
const struct meshd_key *meshd_key_bare(const struct meshd_key *list);

/* Checks n against k and stores it at field (k->size bytes). False: nothing stored, and *why (of
 * `room` bytes) says what is wrong, to stand after "key: ". */
bool meshd_value_store(const struct meshd_key *k, const struct meshd_node *n, void *field,
                       char *why, size_t room);
/* The default of k at field, or the value for "not set". */
void meshd_value_default(const struct meshd_key *k, void *field);
/* "duration", "true or false", "one of off, permissive, strict" into out; returns out. */
const char *meshd_value_type(const struct meshd_key *k, char *out, size_t room);

#endif
