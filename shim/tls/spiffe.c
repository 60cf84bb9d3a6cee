/* SPDX-License-Identifier: Apache-2.0
 *
 * SPIFFE IDs: spiffe://<trust domain>/<segment>/<segment>... Compared byte for byte, so whatever
 * has more than one spelling (case, percent, dot segments) is refused [SPIFFE-ID 2.1, 2.2].
 */
#include "shim/tls/spiffe.h"

#include <string.h>

static const char scheme[] = "spiffe://";
#define SCHEME_LEN (sizeof(scheme) - 1)

static int
is_td_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

static int
is_path_char(char c)
{
    return is_td_char(c) || (c >= 'A' && c <= 'Z');
}

static int
is_segment(const char *s, size_t n)
{
    if (n == 0 || (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.'))
        return 0;
    for (size_t i = 0; i < n; i++)
        if (!is_path_char(s[i]))
            return 0;
    return 1;
}

int
shim_spiffe_is_td(const char *s, size_t n)
{
    if (n == 0 || n > SHIM_SPIFFE_TD_MAX)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (!is_td_char(s[i]))
            return 0;
    return 1;
}

/* Segments, each led by a slash, to the end; at least one. */
static int
is_path(const char *s, size_t n)
{
    if (n == 0)
        return 0;
    while (n > 0) {
        const char *next = memchr(s + 1, '/', n - 1);
        size_t seg = next != NULL ? (size_t)(next - s) : n;
        if (!is_segment(s + 1, seg - 1))
            return 0;
        s += seg;
        n -= seg;
    }
    return 1;
}

int
shim_spiffe_parse(const char *s, size_t n, struct shim_spiffe *out)
{
    if (n > SHIM_SPIFFE_MAX || n <= SCHEME_LEN || memcmp(s, scheme, SCHEME_LEN) != 0)
        return 0;
    const char *td = s + SCHEME_LEN;
    const char *path = memchr(td, '/', n - SCHEME_LEN);
    if (path == NULL || !shim_spiffe_is_td(td, (size_t)(path - td)))
        return 0;
    if (!is_path(path, n - (size_t)(path - s)))
        return 0;
    *out = (struct shim_spiffe){s, td, n, (size_t)(path - td)};
    return 1;
}
