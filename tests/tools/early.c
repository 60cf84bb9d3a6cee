/* SPDX-License-Identifier: Apache-2.0
 *
 * early: a library to be preloaded with AddressSanitizer's runtime into a program that was not built
 * with it. Linked with -z initfirst, its constructor runs before all others and makes the runtime
 * initialise itself. Otherwise that happens at the first malloc of some other library's
 * constructor: if newlocale() makes it, with a lock of the C library held, the program hangs.
 *
 * And it holds the options that must outlive a program which empties its children's environment, as
 * sshd and inetd do. It has to stand before the runtime for that, whose own answer is the empty one;
 * the runtime then wants to be told not to mind.
 */
#include <stdlib.h>

const char *__asan_default_options(void);

/* A leak, or a wrong free in somebody else's program, is not ours to report. */
const char *
__asan_default_options(void)
{
    return "verify_asan_link_order=0:detect_leaks=0:alloc_dealloc_mismatch=0";
}

__attribute__((constructor)) static void
early(void)
{
    void *volatile p = malloc(1);
    free(p);
}
