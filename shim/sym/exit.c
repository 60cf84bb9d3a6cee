/* SPDX-License-Identifier: Apache-2.0
 *
 * Exported symbols: the end of the process. What was written is finished within `linger`; and when
 * nothing of the program can run any more, connections that nobody else holds get their orderly end.
 *
 * _exit and quick_exit come to us last. exit(3) does not: destructors of other libraries run after
 * ours, and libc flushes its streams after all of them, on its own way to the end:
 *
 *     handlers, destructors: ... ours -> others' -> those registered meanwhile: arm()
 *     flush of all streams:  the program's ... standard ones -> ours: sym_last_moment()
 *     _exit, inside of libc
 *
 * So from after the last destructor on, a stream of ours is the last in libc's list, with a byte to be
 * written, in memory of our own: exit may be called where malloc cannot, and nothing before it meets
 * that stream. fflush(NULL) in a handler that comes later still writes the byte too early. Then libc
 * takes another handler, which it refuses once it has run all [on_exit(3)]; that one arms it again.
 * Where libc's streams are not the known ones all this is left out, and such an end is a bare FIN.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/core/env.h"
#include "shim/core/region.h"
#include "shim/sym/sym.h"

/* A vfork child has no say. */
void
sym_finish(bool for_good)
{
    if (shim_env.on && (shim_work_any() || shim_region_any()) && shim_fdtab_may_write()) {
        shim_work_finish(false);
        shim_conn_exit(for_good);
        if (for_good) {
            shim_work_finish(false); /* close_notify that found no room */
        }
    }
}

static void
finish_quick(void)
{
    sym_finish(true);
}

static _Atomic bool ending;

void
sym_finish_if_ending(void)
{
    if (atomic_load_explicit(&ending, memory_order_relaxed)) {
        sym_finish(false);
    }
}

/* No descriptor, no buffer that could grow, no lock to be waited for. */
static struct sym_stream last;
static char last_byte[1], last_lock[32];

#define IN_USE        0xfbad0000 /* _IO_MAGIC */
#define UNBUFFERED    0x0002
#define NO_READS      0x0004
#define PUTTING       0x0800
#define USER_LOCK     0x8000
#define NO_DESCRIPTOR (-2) /* as fopencookie's; -1 says closed */

bool
sym_is_last_stream(const FILE *fp)
{
    return fp == &last.file;
}

static void
arm(int status, void *arg)
{
    FILE *fp = &last.file;
    (void)status;
    (void)arg;
    fp->_flags = (int)(IN_USE | UNBUFFERED | NO_READS | PUTTING | USER_LOCK);
    fp->_fileno = NO_DESCRIPTOR;
    fp->_mode = -1;
    fp->_offset = -1;
    fp->_lock = (void *)last_lock;
    fp->_IO_buf_base = fp->_IO_write_base = last_byte;
    fp->_IO_read_base = fp->_IO_read_ptr = fp->_IO_read_end = last_byte;
    fp->_IO_buf_end = fp->_IO_write_end = last_byte + sizeof(last_byte);
    fp->_IO_write_ptr = last_byte + sizeof(last_byte);
    (void)sym_stdio_append(&last);
}

/* All streams before ours are written. One that only now wrote into another, through functions of the
 * program's [fopencookie(3)], may have left something there. */
void
sym_last_moment(void)
{
    if (on_exit(arm, NULL) != 0) {
        sym_stdio_flush();
        sym_finish(true);
    }
}

SHIM_EXPORT void
_exit(int status)
{
    sym_finish(true);
    shim_real._exit(status);
    __builtin_unreachable();
}

SHIM_EXPORT void
_Exit(int status)
{
    sym_finish(true);
    shim_real._Exit(status);
    __builtin_unreachable();
}

void
sym_exit_start(void)
{
    at_quick_exit(finish_quick); /* the first registered, the last to run */
}

__attribute__((destructor)) static void
stop(void)
{
    if (!shim_env.on) {
        return;
    }
    if (shim_work_items()) {
        sym_stdio_flush();
    }
    atomic_store(&ending, true);
    sym_finish(false);
    if (shim_region_any()) {
        (void)on_exit(arm, NULL);
    }
}
