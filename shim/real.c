/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_real: see real.h. Until the constructor has run, each entry is a thunk: a bare system call
 * where the symbol is one, else a lookup on demand.
 */
#include "shim/real.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

/* Six words cover every system call here; the callee ignores what it does not use. */
static long
early_call(long nr, long a, long b, long c, long d, long e, long f)
{
    long r = sys_call6(nr, a, b, c, d, e, f);
    if (r < 0 && r > -4096) {
        errno = (int)-r;
        return -1;
    }
    return r;
}

/* The thunks take six words whatever the symbol's type: on the supported calling conventions
 * integer and pointer arguments travel in the same six registers. */
#define SYM(ret, name, nr, params)                                                             \
    static long early_##name(long a, long b, long c, long d, long e, long f)                   \
    {                                                                                          \
        if ((nr) >= 0) {                                                                       \
            return early_call((nr), a, b, c, d, e, f);                                         \
        }                                                                                      \
        long (*fn)(long, long, long, long, long, long) =                                       \
            (long (*)(long, long, long, long, long, long))(uintptr_t)dlsym(RTLD_NEXT, #name);  \
        if (!fn) {                                                                             \
            errno = ENOSYS;                                                                    \
            return -1;                                                                         \
        }                                                                                      \
        return fn(a, b, c, d, e, f);                                                           \
    }
#include "shim/sym/symbols.def"
#undef SYM

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wcast-function-type"
struct shim_real shim_real = {
#define SYM(ret, name, nr, params) .name = (ret(*) params)early_##name,
#include "shim/sym/symbols.def"
#undef SYM
};
#pragma GCC diagnostic pop

void
shim_real_init(void)
{
    void *p;
#define SYM(ret, name, nr, params)                                  \
    p = dlsym(RTLD_NEXT, #name);                                    \
    if (p) {                                                        \
        shim_real.name = (ret(*) params)(uintptr_t)p;               \
    }
#include "shim/sym/symbols.def"
#undef SYM
}

void *
shim_real_load(const char *path, const char *symbol)
{
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    return lib ? dlsym(lib, symbol) : NULL;
}

const char *
shim_real_self(void)
{
    Dl_info info;
    if (!dladdr((void *)(uintptr_t)&shim_real_self, &info) || !info.dli_fname) {
        return "";
    }
    return info.dli_fname;
}
