/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_table: see table.h.
 */
#include "meshd/ctl/table.h"

#include <event2/buffer.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "meshd/base/loop.h"

#define COLUMNS_MAX 24u
#define GAP         2

static void
bytes_text(double n, char *out)
{
    static const char units[] = "BKMGTPE";
    size_t u = 0;
    while (n >= 1024 && u < sizeof(units) - 2) {
        n /= 1024;
        u++;
    }
    if (u == 0) {
        snprintf(out, MESHD_CELL_MAX, "%.0f", n);
    } else {
        snprintf(out, MESHD_CELL_MAX, "%.1f%c", n, units[u]);
    }
}

/* Two units are enough for a look: 45s, 3m12s, 5h02m, 23h59m, 9d04h. */
static void
span_text(double s, char *out)
{
    uint64_t t = s > 0 ? (uint64_t)s : 0;
    if (t < 60) {
        snprintf(out, MESHD_CELL_MAX, s < 10 ? "%.1fs" : "%.0fs", s > 0 ? s : 0.0);
        return;
    }
    unsigned long long u = t;
    if (u < 3600) {
        snprintf(out, MESHD_CELL_MAX, "%llum%02llus", u / 60, u % 60);
    } else if (u < 86400) {
        snprintf(out, MESHD_CELL_MAX, "%lluh%02llum", u / 3600, u % 3600 / 60);
    } else {
        snprintf(out, MESHD_CELL_MAX, "%llud%02lluh", u / 86400, u % 86400 / 3600);
    }
}

static void
short_text(double s, char *out)
{
    if (s < 1e-3) {
        snprintf(out, MESHD_CELL_MAX, "%.0fus", s * 1e6);
    } else if (s < 1) {
        snprintf(out, MESHD_CELL_MAX, "%.1fms", s * 1e3);
    } else {
        span_text(s, out);
    }
}

static void
time_text(double s, char *out)
{
    time_t t = (time_t)s;
    struct tm tm = {0};
    if (!gmtime_r(&t, &tm) || strftime(out, MESHD_CELL_MAX, "%Y-%m-%d %H:%M:%SZ", &tm) == 0) {
        snprintf(out, MESHD_CELL_MAX, "%.0f", s);
    }
}

static void
age_text(double s, char *out)
{
    double age = (double)meshd_real_ns() / 1e9 - s;
    span_text(age < 0 ? -age : age, out);
}

static void
number_text(const json_t *value, enum meshd_cell kind, char *out)
{
    double n = json_number_value(value);
    switch (kind) {
    case MESHD_CELL_BYTES:
        bytes_text(n, out);
        break;
    case MESHD_CELL_TIME:
        time_text(n, out);
        break;
    case MESHD_CELL_AGE:
        age_text(n, out);
        break;
    case MESHD_CELL_SPAN:
        span_text(n, out);
        break;
    case MESHD_CELL_RATE:
        snprintf(out, MESHD_CELL_MAX, "%.1f", n);
        break;
    case MESHD_CELL_SHORT:
        short_text(n, out);
        break;
    case MESHD_CELL_TEXT:
    default:
        snprintf(out, MESHD_CELL_MAX, json_is_real(value) ? "%.3f" : "%.0f", n);
        break;
    }
}

static void
list_text(const json_t *list, char *out)
{
    const json_t *item;
    size_t i, len = 0;
    snprintf(out, MESHD_CELL_MAX, "-");
    json_array_foreach(list, i, item) {
        const char *s = json_string_value(item);
        int n = snprintf(out + len, MESHD_CELL_MAX - len, "%s%s", i ? "," : "", s ? s : "");
        len += n > 0 ? (size_t)n : 0;
        if (len >= MESHD_CELL_MAX) {
            return;
        }
    }
}

const char *
meshd_cell_text(const json_t *value, enum meshd_cell kind, char *out)
{
    const char *s = json_string_value(value);
    if (json_is_number(value)) {
        number_text(value, kind, out);
    } else if (json_is_array(value)) {
        list_text(value, out);
    } else if (json_is_boolean(value)) {
        snprintf(out, MESHD_CELL_MAX, "%s", json_is_true(value) ? "yes" : "no");
    } else {
        snprintf(out, MESHD_CELL_MAX, "%s", s && s[0] ? s : "-");
    }
    return out;
}

static void
measure(const json_t *rows, const struct meshd_column *cols, size_t n, size_t *width)
{
    char cell[MESHD_CELL_MAX];
    const json_t *row;
    size_t r;
    for (size_t i = 0; i < n; i++) {
        width[i] = strlen(cols[i].head);
    }
    json_array_foreach(rows, r, row) {
        for (size_t i = 0; i < n; i++) {
            size_t w = strlen(meshd_cell_text(json_object_get(row, cols[i].key), cols[i].kind, cell));
            width[i] = w > width[i] ? w : width[i];
        }
    }
}

static void
put_cell(struct evbuffer *out, const char *text, size_t width, bool last)
{
    if (last) {
        evbuffer_add_printf(out, "%s\n", text);
    } else {
        evbuffer_add_printf(out, "%-*s", (int)width + GAP, text);
    }
}

void
meshd_table_write(struct evbuffer *out, const json_t *rows, const struct meshd_column *cols,
                  size_t n)
{
    size_t width[COLUMNS_MAX] = {0}, r;
    char cell[MESHD_CELL_MAX];
    const json_t *row;
    n = n < COLUMNS_MAX ? n : COLUMNS_MAX;
    measure(rows, cols, n, width);
    for (size_t i = 0; i < n; i++) {
        put_cell(out, cols[i].head, width[i], i + 1 == n);
    }
    json_array_foreach(rows, r, row) {
        for (size_t i = 0; i < n; i++) {
            const json_t *v = json_object_get(row, cols[i].key);
            put_cell(out, meshd_cell_text(v, cols[i].kind, cell), width[i], i + 1 == n);
        }
    }
    if (json_array_size(rows) == 0) {
        evbuffer_add_printf(out, "(none)\n");
    }
}
