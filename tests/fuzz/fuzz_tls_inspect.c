/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzes shim_inspect(): it reads nothing beyond what is there, and what a piece of the bytes says the whole says,
 * too, once as much is there as was wanted.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shim/tls/inspect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static enum shim_client
look(const uint8_t *data, size_t n, size_t *want)
{
    uint8_t *copy = malloc(n);
    MUST(copy != NULL);
    memcpy(copy, data, n);
    enum shim_client c = shim_inspect(copy, n, want);
    free(copy);
    return c;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t want = 0, n = 1;
    if (size == 0)
        return 0;
    enum shim_client whole = look(data, size, &want), part;
    while ((part = look(data, n, &want)) == SHIM_CLIENT_MORE) {
        MUST(want > n && want <= SHIM_REC_MAX);
        if (want > size)
            return 0;
        n = want;
    }
    MUST(part == whole);
    return 0;
}
