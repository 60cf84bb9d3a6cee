/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzes the SPIFFE ID parser: what it accepts is made of the few allowed bytes and in its parts.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shim/tls/spiffe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789.-_/";
    struct shim_spiffe s = {0};
    const char *p = (const char *)data;
    if (!shim_spiffe_parse(p, size, &s))
        return 0;
    MUST(s.id == p && s.id_len == size && size <= SHIM_SPIFFE_MAX);
    MUST(s.td == p + 9 && s.td_len > 0 && shim_spiffe_is_td(s.td, s.td_len));
    MUST(s.td[s.td_len] == '/' && size > 9 + s.td_len + 1 && p[size - 1] != '/');
    for (size_t i = 9; i < size; i++)
        MUST(p[i] != '\0' && strchr(allowed, p[i]) != NULL);
    return 0;
}
