/* SPDX-License-Identifier: Apache-2.0
 *
 * deepbind_first.so: a library of the program's that loads another in its constructor, with RTLD_DEEPBIND.
 */
/* cc: -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

void *first(void);
static void *loaded;

__attribute__((constructor)) static void
load(void)
{
    Dl_info self;
    char path[PATH_MAX];
    if (dladdr((void *)first, &self)) {
        int n = (int)(strrchr(self.dli_fname, '/') - self.dli_fname);
        snprintf(path, sizeof path, "%.*s/deepbind_now.so", n, self.dli_fname);
        loaded = dlopen(path, RTLD_NOW | RTLD_DEEPBIND);
    }
}

void *
first(void)
{
    return loaded;
}
