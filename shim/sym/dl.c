/* SPDX-License-Identifier: Apache-2.0
 *
 * Exported symbol: dlopen. A library that is loaded with RTLD_DEEPBIND would call libc past us, so what it imports is
 * put right afterwards (shim/core/import.h).
 *
 * All other loads are libc's, and as if we were not there: the loader asks from where it was called, for the
 * caller's own file may say where to look (RPATH, RUNPATH, $ORIGIN). So this is no call but a jump, which C cannot
 * promise: a few instructions ask sym_dlopen_how where to go, and go there with the program's return address. Where
 * a library that wants RTLD_DEEPBIND is only found from there, it is loaded without: bound to us like any
 * other, and to the program's symbols before its own.
 */
#include <dlfcn.h>
#include <errno.h>

#include "shim/core/env.h"
#include "shim/core/import.h"
#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/sym/sym.h"

/* In two registers, on both processors [System V ABI; AAPCS64]. */
struct sym_jump {
    uintptr_t to;
    long flags;
};

/* Called by the instructions below. */
__attribute__((visibility("hidden"))) struct sym_jump sym_dlopen_how(const char *file, int flags, uintptr_t caller);

#if defined(__x86_64__)
__asm__(".text\n"
        ".globl dlopen\n"
        ".type dlopen, @function\n"
        ".p2align 4\n"
        "dlopen:\n"
        ".cfi_startproc\n"
        "    endbr64\n"
        "    movq (%rsp), %rdx\n"
        "    pushq %rdi\n"
        ".cfi_adjust_cfa_offset 8\n"
        "    call sym_dlopen_how\n"
        "    popq %rdi\n"
        ".cfi_adjust_cfa_offset -8\n"
        "    movl %edx, %esi\n"
        "    jmp *%rax\n"
        ".cfi_endproc\n"
        ".size dlopen, . - dlopen\n");
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl dlopen\n"
        ".type dlopen, @function\n"
        ".p2align 4\n"
        "dlopen:\n"
        ".cfi_startproc\n"
        "    hint #34\n" /* bti c */
        "    stp x29, x30, [sp, #-32]!\n"
        ".cfi_def_cfa_offset 32\n"
        ".cfi_offset x29, -32\n"
        ".cfi_offset x30, -24\n"
        "    str x0, [sp, #16]\n"
        "    mov x2, x30\n"
        "    bl sym_dlopen_how\n"
        "    mov x16, x0\n"
        "    ldr x0, [sp, #16]\n"
        "    ldp x29, x30, [sp], #32\n"
        ".cfi_restore x29\n"
        ".cfi_restore x30\n"
        ".cfi_def_cfa_offset 0\n"
        "    br x16\n"
        ".cfi_endproc\n"
        ".size dlopen, . - dlopen\n");
#endif

/* A load with RTLD_DEEPBIND. */
struct load {
    const char *file;
    int flags;
    unsigned long long before; /* how much was ever loaded */
    void *lib;
    enum mesh_err e;
    bool done;
};

/* Here libc sees us as the caller; sym_dlopen_how has found that to be no matter. */
static void
load(struct load *l)
{
    l->done = true;
    if (!l->lib) {
        l->before = shim_import_loads();
        l->lib = shim_real.dlopen(l->file, l->flags);
    }
    int saved = errno;
    if (l->lib && shim_import_loads() != l->before) {
        l->e = shim_import_take(l->lib);
    }
    errno = saved;
}

/* What this thread is to do under the loader's lock. */
static __thread struct load *waiting;

static void
nowhere(void)
{
}

/* The loader's lock has no name. But dlsym holds it while it asks an indirect function where it leads [gABI,
 * STT_GNU_IFUNC], and this is where ours is asked. Without the lock another thread's dlopen would give the library away
 * before it is ours, and a library that the loader is just at work on would be changed under it. */
__attribute__((used)) static void (*load_waiting(void))(void)
{
    struct load *l = waiting;
    if (l && !l->done) {
        load(l);
    }
    return nowhere;
}

void libmesh_load(void) __attribute__((ifunc("load_waiting"), visibility("default")));

static void
load_locked(struct load *l)
{
    struct load *outer = waiting; /* of a library whose constructor loads another */
    waiting = l;
    l->done = false;
    (void)shim_real_symbol(RTLD_DEFAULT, "libmesh_load"); /* dlsym is declared to call nothing of this file */
    waiting = outer;
    if (!l->done) { /* another dlsym than libc's */
        load(l);
    }
}

static void *
load_deep(const char *file, int flags)
{
    struct load l = {.file = file, .flags = flags};
    load_locked(&l);
    if (!l.lib && (l.lib = shim_real.dlopen(file, flags))) { /* once more, so that dlerror tells why not */
        load_locked(&l);
    }
    int saved = errno;
    if (l.e != MESH_OK) {
        shim_stat_err(l.e);
        shim_log_error("%s: %s", file, mesh_err_text(l.e));
    }
    errno = saved;
    return l.lib;
}

struct sym_jump
sym_dlopen_how(const char *file, int flags, uintptr_t caller)
{
    struct sym_jump libc = {shim_real_dlopen(), flags};
    /* What is loaded before our constructor has run is there to stay: ours, too, and if it shall not be, it goes on
     * to libc from us. */
    bool off = !shim_env.on && shim_real_is_ready();
    if (!(flags & RTLD_DEEPBIND) || !file || off) {
        return libc;
    }
    if (shim_import_is_found_from_here(file, caller)) {
        return (struct sym_jump){(uintptr_t)load_deep, flags};
    }
    shim_log_info("%s is loaded without RTLD_DEEPBIND, for only the caller knows where it lies", file);
    libc.flags = flags & ~RTLD_DEEPBIND;
    return libc;
}
