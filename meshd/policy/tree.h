/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_tree: a configuration file as a plain tree whose every node knows its file and line. tree.c is
 * the only place that includes libconfig's headers.
 */
#ifndef MESHD_POLICY_TREE_H
#define MESHD_POLICY_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "meshd/policy/diag.h"

enum meshd_node_type {
    MESHD_NODE_GROUP,
    MESHD_NODE_LIST, /* (...) and [...] alike */
    MESHD_NODE_STRING,
    MESHD_NODE_INT,
    MESHD_NODE_FLOAT,
    MESHD_NODE_BOOL,
};

struct meshd_node {
    enum meshd_node_type type;
    char *name; /* NULL in lists and at the root */
    char *file;
    unsigned line;
    char *text;    /* STRING; of numbers their spelling as read */
    int64_t value; /* INT, BOOL */
    struct meshd_node *children; /* GROUP, LIST */
    size_t count;
};

/* Reads one file with what it includes. NULL with at least one error in *d when it cannot be read
 * or parsed. The caller ends it with meshd_tree_free. */
struct meshd_node *meshd_tree_read(const char *file, struct meshd_diags *d);
/* The same from a string, for tests; `name` stands for the file. No includes. */
struct meshd_node *meshd_tree_parse(const char *name, const char *text, struct meshd_diags *d);
void meshd_tree_free(struct meshd_node *root);

const struct meshd_node *meshd_tree_child(const struct meshd_node *group, const char *name);
/* "a string", "an integer", ... */
const char *meshd_node_kind(const struct meshd_node *n);

#endif
