/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_table: JSON for people: a list of objects as aligned columns. The JSON is the one source,
 * so text and JSON answers cannot disagree. Inside ctl/ only.
 */
#ifndef MESHD_CTL_TABLE_H
#define MESHD_CTL_TABLE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct evbuffer;

enum meshd_cell {
    MESHD_CELL_TEXT,  /* strings, numbers and booleans as they are; "-" for nothing */
    MESHD_CELL_BYTES, /* 1536 -> "1.5K" */
    MESHD_CELL_TIME,  /* seconds since 1970 -> "2026-01-02 03:04:05Z" */
    MESHD_CELL_AGE,   /* a time -> how long ago, or how long until then: "3h12m" */
    MESHD_CELL_SPAN,  /* seconds -> "3h12m" */
    MESHD_CELL_RATE,  /* one digit behind the point */
    MESHD_CELL_SHORT, /* seconds -> "1.2ms" */
};

struct meshd_column {
    const char *head, *key;
    enum meshd_cell kind;
};

#define MESHD_CELL_MAX 512u

/* Into out (MESHD_CELL_MAX bytes); returns out. */
const char *meshd_cell_text(const json_t *value, enum meshd_cell kind, char *out);

/* A header line, then a line for each object of the array `rows`, or "(none)". */
void meshd_table_write(struct evbuffer *out, const json_t *rows, const struct meshd_column *cols,
                       size_t n);

#endif
