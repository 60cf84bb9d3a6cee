/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_diags: everything that is wrong with a configuration, gathered so that all of it is reported at
 * once, as "file:line: error: text".
 */
#ifndef MESHD_POLICY_DIAG_H
#define MESHD_POLICY_DIAG_H

#include <stdbool.h>
#include <stddef.h>

#define MESHD_DIAG_TEXT 512
#define MESHD_DIAGS_MAX 200u /* later ones are counted only */

struct meshd_diag {
    char text[MESHD_DIAG_TEXT]; /* the whole line: "file:line: error: ..." */
    bool is_error;
};

struct meshd_diags {
    struct meshd_diag *list;
    size_t count, errors, dropped;
};

/* file may be NULL and line 0 when there is none. Control characters are replaced. */
void meshd_diag_error(struct meshd_diags *d, const char *file, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void meshd_diag_warn(struct meshd_diags *d, const char *file, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void meshd_diags_fini(struct meshd_diags *d);

#endif
