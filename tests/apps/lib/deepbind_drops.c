/* SPDX-License-Identifier: Apache-2.0
 *
 * deepbind_drops.so: while it is loaded, another library comes and goes.
 */
/* cc: -Wl,-z,lazy -ldl */
#include <dlfcn.h>

#include "deepbind_calls.c"

__attribute__((constructor)) static void
drop(void)
{
    void *other = dlopen("$ORIGIN/exit_notify.so", RTLD_NOW);
    if (!other || dlclose(other) != 0)
        __builtin_trap();
}
