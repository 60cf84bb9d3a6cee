/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_schema: see schema.h. Nothing here knows a key by name: a new key is a line of keys.def.
 */
#include "meshd/policy/schema.h"

#include <stdlib.h>
#include <string.h>

#include "common/suggest.h"
#include "meshd/policy/keys.h"

#define NAMES_MAX 32

const struct meshd_scope meshd_scopes[MESHD_SCOPE_COUNT] = {
#define SCOPE(name_, type_)                                          [MESHD_SCOPE_##name_] = {.size = sizeof(type_)},
#define ITEM(name_, type_)                                           [MESHD_SCOPE_##name_] = {.size = sizeof(type_), .at = offsetof(type_, at)},
#define KEY(scope_, name_, type_, field_, min_, max_, def_, flags_, text_)
#define GROUP(scope_, name_, inner_, text_)
#define LIST(scope_, name_, inner_, field_, count_, unique_, text_)
#include "meshd/policy/keys.def"
#undef SCOPE
#undef ITEM
#undef KEY
#undef GROUP
#undef LIST
};

/* The structure of each scope as a type name that KEY can paste. */
#define SCOPE(name_, type_) typedef type_ fields_##name_;
#define ITEM(name_, type_) typedef type_ fields_##name_;
#define KEY(scope_, name_, type_, field_, min_, max_, def_, flags_, text_)
#define GROUP(scope_, name_, inner_, text_)
#define LIST(scope_, name_, inner_, field_, count_, unique_, text_)
#include "meshd/policy/keys.def"
#undef SCOPE
#undef ITEM
#undef KEY
#undef GROUP
#undef LIST

const struct meshd_key meshd_keys[] = {
#define SCOPE(name_, type_)
#define ITEM(name_, type_)
#define KEY(scope_, name_, type_, field_, min_, max_, def_, flags_, text_)                         \
    {.scope = MESHD_SCOPE_##scope_,                                                                \
     .name = #name_,                                                                               \
     .type = MESHD_KEY_##type_,                                                                    \
     .offset = offsetof(fields_##scope_, field_),                                                   \
     .size = sizeof(((fields_##scope_ *)0)->field_),                                                \
     .min = min_,                                                                                  \
     .max = max_,                                                                                  \
     .def = def_,                                                                                  \
     .flags = flags_,                                                                              \
     .text = text_},
#define GROUP(scope_, name_, inner_, text_)                                                        \
    {.scope = MESHD_SCOPE_##scope_,                                                                \
     .name = #name_,                                                                               \
     .type = MESHD_KEY_GROUP,                                                                      \
     .inner = MESHD_SCOPE_##inner_,                                                                \
     .text = text_},
#define LIST(scope_, name_, inner_, field_, count_, unique_, text_)                                \
    {.scope = MESHD_SCOPE_##scope_,                                                                \
     .name = #name_,                                                                               \
     .type = MESHD_KEY_LIST,                                                                       \
     .inner = MESHD_SCOPE_##inner_,                                                                \
     .offset = offsetof(fields_##scope_, field_),                                                   \
     .size = sizeof(((fields_##scope_ *)0)->field_),                                                \
     .count_offset = offsetof(fields_##scope_, count_),                                             \
     .unique = unique_,                                                                            \
     .text = text_},
#include "meshd/policy/keys.def"
#undef SCOPE
#undef ITEM
#undef KEY
#undef GROUP
#undef LIST
};
const size_t meshd_key_count = sizeof(meshd_keys) / sizeof(meshd_keys[0]);

const struct meshd_key *
meshd_key_find(enum meshd_scope_id scope, const char *name)
{
    for (const struct meshd_key *k = meshd_keys; k < meshd_keys + meshd_key_count; k++) {
        if (k->scope == scope && strcmp(k->name, name) == 0) {
            return k;
        }
    }
    return NULL;
}

const struct meshd_key *
meshd_key_bare(const struct meshd_key *list)
{
    const struct meshd_key *only = NULL;
    for (const struct meshd_key *k = meshd_keys; k < meshd_keys + meshd_key_count; k++) {
        if (k->scope == list->inner) {
            if (only) {
                return NULL;
            }
            only = k;
        }
    }
    return only;
}

static void
defaults(enum meshd_scope_id scope, char *base)
{
    for (const struct meshd_key *k = meshd_keys; k < meshd_keys + meshd_key_count; k++) {
        if (k->scope != scope || k->type == MESHD_KEY_LIST) {
            continue;
        }
        if (k->type == MESHD_KEY_GROUP) {
            defaults(k->inner, base);
        } else {
            meshd_value_default(k, base + k->offset);
        }
    }
}

void
meshd_schema_defaults(struct meshd_config *cfg)
{
    defaults(MESHD_SCOPE_ROOT, (char *)cfg);
}

/* ---- lists: an array of items and its count, both in the structure around them ---- */

static char *
list_items(const struct meshd_key *k, const char *base, size_t *count)
{
    char *items = NULL;
    memcpy(&items, base + k->offset, sizeof(items));
    memcpy(count, base + k->count_offset, sizeof(*count));
    return items;
}

static char *
list_append(const struct meshd_key *k, char *base)
{
    size_t count = 0, size = meshd_scopes[k->inner].size;
    char *items = list_items(k, base, &count);
    char *more = realloc(items, (count + 1) * size);

    if (!more) {
        return NULL;
    }
    memset(more + count * size, 0, size);
    count++;
    memcpy(base + k->offset, &more, sizeof(more));
    memcpy(base + k->count_offset, &count, sizeof(count));
    return more + (count - 1) * size;
}

static void scope_fini(enum meshd_scope_id scope, const char *base);

static void
list_fini(const struct meshd_key *k, const char *base)
{
    size_t count = 0, size = meshd_scopes[k->inner].size;
    char *items = list_items(k, base, &count);

    for (size_t i = 0; i < count; i++) {
        scope_fini(k->inner, items + i * size);
    }
    free(items);
}

static void
scope_fini(enum meshd_scope_id scope, const char *base)
{
    for (const struct meshd_key *k = meshd_keys; k < meshd_keys + meshd_key_count; k++) {
        if (k->scope == scope && k->type == MESHD_KEY_LIST) {
            list_fini(k, base);
        } else if (k->scope == scope && k->type == MESHD_KEY_GROUP) {
            scope_fini(k->inner, base);
        }
    }
}

void
meshd_schema_fini(struct meshd_config *cfg)
{
    for (const struct meshd_key *k = meshd_keys; k < meshd_keys + meshd_key_count; k++) {
        if (k->scope == MESHD_SCOPE_ROOT && k->type == MESHD_KEY_LIST) {
            list_fini(k, (const char *)cfg);
            memset((char *)cfg + k->offset, 0, sizeof(void *));
            memset((char *)cfg + k->count_offset, 0, sizeof(size_t));
        }
    }
}

/* An item of a list in the order of the key that names it. */
struct named {
    const char *value;
    size_t size, index, twin; /* twin: index of the first item with the same value */
};

static int
by_value(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    int c = memcmp(x->value, y->value, x->size);
    return c ? c : (x->index > y->index) - (x->index < y->index);
}

static int
by_index(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    return (x->index > y->index) - (x->index < y->index);
}

/* Finds twins among all items; the result is in their order. NULL: there is nothing to compare. */
static struct named *
find_twins(const struct meshd_key *u, const char *items, size_t count, size_t size)
{
    struct named *all = count > 1 ? calloc(count, sizeof(*all)) : NULL;
    for (size_t i = 0; all && i < count; i++) {
        all[i] = (struct named){items + i * size + u->offset, u->size, i, i};
    }
    if (!all) {
        return NULL;
    }
    qsort(all, count, sizeof(*all), by_value);
    for (size_t i = 1; i < count; i++) {
        if (memcmp(all[i - 1].value, all[i].value, u->size) == 0) {
            all[i].twin = all[i - 1].twin;
        }
    }
    qsort(all, count, sizeof(*all), by_index);
    return all;
}

/* Items from `first` on, which the nodes `of` made, must differ from all before them in the key that names them. */
static void
check_unique(const struct meshd_key *k, const char *base, size_t first, const struct meshd_node *const *of,
             struct meshd_diags *d)
{
    const struct meshd_key *u = k->unique ? meshd_key_find(k->inner, k->unique) : NULL;
    size_t count = 0, size = meshd_scopes[k->inner].size;
    const char *items = list_items(k, base, &count);
    struct named *all = u && first < count ? find_twins(u, items, count, size) : NULL;
    if (u && first < count && count > 1 && !all) {
        meshd_diag_error(d, NULL, 0, "out of memory");
    }
    for (size_t i = first; all && i < count; i++) {
        const struct meshd_node *n = of[i - first];
        const struct meshd_node *value = meshd_key_bare(k) ? n : meshd_tree_child(n, u->name);
        struct meshd_origin at;
        if (!value || all[i].twin == i) {
            continue;
        }
        memcpy(&at, items + all[i].twin * size + meshd_scopes[k->inner].at, sizeof(at));
        meshd_diag_error(d, value->file, value->line, "%s: %s %.64s is already used at %s:%u", k->name, u->name,
                         value->text ? value->text : "", at.file, at.line);
    }
    free(all);
}

/* ---- checking a tree ---- */

static void
unknown_key(enum meshd_scope_id scope, const char *where, const struct meshd_node *n,
            struct meshd_diags *d)
{
    const char *names[NAMES_MAX] = {NULL};
    char all[256] = "";
    size_t count = 0, len = 0;

    for (const struct meshd_key *k = meshd_keys; k < meshd_keys + meshd_key_count; k++) {
        if (k->scope == scope && count < NAMES_MAX) {
            names[count++] = k->name;
        }
    }
    const char *near = mesh_suggest(n->name, names, count);
    if (near) {
        meshd_diag_error(d, n->file, n->line, "unknown key '%.64s'%s%s; did you mean '%s'?", n->name,
                         *where ? " in " : "", where, near);
        return;
    }
    for (size_t i = 0; i < count && len < sizeof(all); i++) {
        len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", i ? ", " : "", names[i]);
    }
    meshd_diag_error(d, n->file, n->line, "unknown key '%.64s'%s%s; known are %s", n->name,
                     *where ? " in " : "", where, all);
}

static void
check_needed(const struct meshd_key *k, const struct meshd_node *n, struct meshd_diags *d)
{
    for (const struct meshd_key *in = meshd_keys; in < meshd_keys + meshd_key_count; in++) {
        if (in->scope == k->inner && (in->flags & NEEDED) && !meshd_tree_child(n, in->name)) {
            meshd_diag_error(d, n->file, n->line, "%s: this %s has no %s", k->name,
                             k->type == MESHD_KEY_LIST ? "item" : "group", in->name);
        }
    }
}

static void apply_group(enum meshd_scope_id scope, const char *where, char *base,
                        const struct meshd_node *n, struct meshd_diags *d);

/* False: it made no item. */
static bool
apply_item(const struct meshd_key *k, char *base, const struct meshd_node *n,
           struct meshd_diags *d)
{
    struct meshd_origin at = {.line = n->line};
    const struct meshd_key *bare = meshd_key_bare(k);
    char why[MESHD_DIAG_TEXT / 2];

    if (!bare && n->type != MESHD_NODE_GROUP) {
        meshd_diag_error(d, n->file, n->line, "%s: each item is a group { ... }, not %s", k->name,
                         meshd_node_kind(n));
        return false;
    }
    char *item = list_append(k, base);
    if (!item) {
        meshd_diag_error(d, n->file, n->line, "out of memory");
        return false;
    }
    snprintf(at.file, sizeof(at.file), "%s", n->file);
    memcpy(item + meshd_scopes[k->inner].at, &at, sizeof(at));
    defaults(k->inner, item);
    if (bare && !meshd_value_store(bare, n, item + bare->offset, why, sizeof(why))) {
        meshd_diag_error(d, n->file, n->line, "%s: %s", k->name, why);
    }
    if (!bare) {
        apply_group(k->inner, k->name, item, n, d);
        check_needed(k, n, d);
    }
    return true;
}

static void
apply_items(const struct meshd_key *k, char *base, const struct meshd_node *nodes, size_t count,
            struct meshd_diags *d)
{
    size_t first = 0, made = 0;
    const struct meshd_node **of = calloc(count + 1, sizeof(*of));
    if (!of) {
        meshd_diag_error(d, NULL, 0, "out of memory");
        return;
    }
    (void)list_items(k, base, &first);
    for (size_t i = 0; i < count; i++) {
        if (apply_item(k, base, &nodes[i], d)) {
            of[made++] = &nodes[i];
        }
    }
    check_unique(k, base, first, of, d);
    free(of);
}

/* A group that is there, and says no more, means its defaults. */
static void
note_presence(enum meshd_scope_id scope, char *base)
{
    for (const struct meshd_key *k = meshd_keys; k < meshd_keys + meshd_key_count; k++) {
        if (k->scope == scope && (k->flags & PRESENT)) {
            base[k->offset] = 1;
        }
    }
}

static void
apply_key(const struct meshd_key *k, char *base, const struct meshd_node *n, struct meshd_diags *d)
{
    char why[MESHD_DIAG_TEXT / 2];

    if (k->type == MESHD_KEY_GROUP && n->type == MESHD_NODE_GROUP) {
        note_presence(k->inner, base);
        apply_group(k->inner, k->name, base, n, d);
        check_needed(k, n, d);
    } else if (k->type == MESHD_KEY_LIST && n->type == MESHD_NODE_LIST) {
        apply_items(k, base, n->children, n->count, d);
    } else if (k->type == MESHD_KEY_LIST && n->type != MESHD_NODE_GROUP && meshd_key_bare(k)) {
        apply_items(k, base, n, 1, d); /* one, without its list */
    } else if (k->type == MESHD_KEY_GROUP || k->type == MESHD_KEY_LIST) {
        meshd_diag_error(d, n->file, n->line, "%s: expected %s, not %s", k->name,
                         k->type == MESHD_KEY_GROUP ? "a group { ... }" : "a list ( { ... }, ... )",
                         meshd_node_kind(n));
    } else if (!meshd_value_store(k, n, base + k->offset, why, sizeof(why))) {
        meshd_diag_error(d, n->file, n->line, "%s: %s", k->name, why);
    }
}

static void
apply_group(enum meshd_scope_id scope, const char *where, char *base, const struct meshd_node *n,
            struct meshd_diags *d)
{
    for (size_t i = 0; i < n->count; i++) {
        const struct meshd_node *child = &n->children[i];
        const struct meshd_key *k = meshd_key_find(scope, child->name);
        if (k) {
            apply_key(k, base, child, d);
        } else {
            unknown_key(scope, where, child, d);
        }
    }
}

void
meshd_schema_apply(struct meshd_config *cfg, const struct meshd_node *root, struct meshd_diags *d)
{
    apply_group(MESHD_SCOPE_ROOT, "", (char *)cfg, root, d);
}

void
meshd_schema_keep(struct meshd_config *cfg, const struct meshd_config *running,
                  struct meshd_diags *d)
{
    for (const struct meshd_key *k = meshd_keys; k < meshd_keys + meshd_key_count; k++) {
        char *now = (char *)cfg + k->offset;
        const char *old = (const char *)running + k->offset;
        if ((k->flags & RESTART) && memcmp(now, old, k->size) != 0) {
            memcpy(now, old, k->size);
            meshd_diag_warn(d, NULL, 0, "%s changed: that needs a restart, the running value stays",
                            k->name);
        }
    }
}
