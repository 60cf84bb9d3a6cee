/* SPDX-License-Identifier: Apache-2.0
 *
 * deepbind_now.so: the same, calls without PLT, all bound when it is loaded and read-only from then on.
 */
/* cc: -fno-plt -Wl,-z,now -Wl,-z,relro -l:deepbind_dep.so -Wl,-rpath,$ORIGIN */
#include "deepbind.c"
