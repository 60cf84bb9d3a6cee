/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_diags: see diag.h.
 */
#include "meshd/policy/diag.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void
clean(char *s)
{
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7f) {
            *s = '?';
        }
    }
}

static void add(struct meshd_diags *d, bool is_error, const char *file, unsigned line,
                const char *fmt, va_list ap) __attribute__((format(printf, 5, 0)));

static void
add(struct meshd_diags *d, bool is_error, const char *file, unsigned line, const char *fmt,
    va_list ap)
{
    char where[256] = "", text[MESHD_DIAG_TEXT - sizeof(where) - 16];
    struct meshd_diag *list = NULL;

    d->errors += is_error;
    if (d->count < MESHD_DIAGS_MAX) {
        list = realloc(d->list, (d->count + 1) * sizeof(*list));
    }
    if (!list) {
        d->dropped++;
        return;
    }
    d->list = list;
    vsnprintf(text, sizeof(text), fmt, ap);
    if (file && line > 0) {
        snprintf(where, sizeof(where), "%s:%u: ", file, line);
    } else if (file) {
        snprintf(where, sizeof(where), "%s: ", file);
    }
    struct meshd_diag *e = &list[d->count++];
    e->is_error = is_error;
    snprintf(e->text, sizeof(e->text), "%s%s: %s", where, is_error ? "error" : "warning", text);
    clean(e->text);
}

void
meshd_diag_error(struct meshd_diags *d, const char *file, unsigned line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add(d, true, file, line, fmt, ap);
    va_end(ap);
}

void
meshd_diag_warn(struct meshd_diags *d, const char *file, unsigned line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add(d, false, file, line, fmt, ap);
    va_end(ap);
}

void
meshd_diags_fini(struct meshd_diags *d)
{
    free(d->list);
    *d = (struct meshd_diags){0};
}
