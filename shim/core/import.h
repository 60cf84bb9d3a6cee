/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_import: what libraries import, where the loader bound it past us. A library that is loaded with
 * RTLD_DEEPBIND looks for its functions in itself and in what it needs, libc among them, before it looks in
 * the program's scope, where a preloaded library stands first [dlopen(3)]: its connect would be libc's.
 * So after such a load the words through which it calls (ELF relocations of the kinds JUMP_SLOT, GLOB_DAT and
 * plain addresses) are pointed at our functions, where they lead to libc, or would when first used. What
 * the library or its own libraries define by such a name stays theirs.
 *
 * The loader's pages that were read-only are again afterwards; no code is changed. The library's
 * constructors have run by then.
 */
#ifndef SHIM_CORE_IMPORT_H
#define SHIM_CORE_IMPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "mesh/err.h"

/* How many objects were ever loaded. */
unsigned long long shim_import_loads(void);

/* For a library that dlopen has just loaded, and all that came after it: what it needs, what its constructors loaded.
 * To be called under the loader's lock, within which dlopen returned: other threads' libraries are either
 * complete or not there, and this one's is not yet known to them. `lib`: what dlopen returned; its reference is
 * borrowed. MESH_E_IMPORT: pages could not be made writable, so that some calls go past us. */
enum mesh_err shim_import_take(void *lib);

/* Would dlopen(file) of code at `caller` find the same as dlopen(file) of ours? Not if it is looked for in a place
 * that the caller's own file names (RPATH, RUNPATH, $ORIGIN). */
bool shim_import_is_found_from_here(const char *file, uintptr_t caller);

#endif
