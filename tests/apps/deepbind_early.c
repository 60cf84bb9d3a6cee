/* SPDX-License-Identifier: Apache-2.0
 *
 * deepbind_early: a library was loaded with RTLD_DEEPBIND by the constructor of another, before main and before most
 * other constructors. It has libc's functions from where the program has them. Sanitizers end a program that asks for
 * RTLD_DEEPBIND.
 */
/* run: nomesh */
/* run: notsan */
/* run: noasan */
/* cc: -Wl,--no-as-needed -l:deepbind_first.so -Wl,-rpath,$ORIGIN -ldl */
#include "app.h"

#include <dlfcn.h>

void *first(void);

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    void *lib = first();
    MUST(lib);
    void *const *deep = dlsym(lib, "deep");
    MUST(deep);
    say("read of others: %d, write of others: %d\n", deep[2] != (void *)read, deep[3] != (void *)write);
    return 0;
}
