/* SPDX-License-Identifier: Apache-2.0
 *
 * The gate, for many threads inside and the forking ones in front. Who forks shuts it and waits
 * for the others to leave; who enters steps back when it is shut. Both announce themselves before
 * they look at the other's word (all operations are sequentially consistent), so at least one of
 * them sees the other.
 *
 * Waiting is bounded: a thread that was stopped inside must not keep the program from forking.
 */
#include "shim/tls/gate.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "shim/real.h"

#define NAP_NS     20000L
#define NAPS_MAX   25000u /* half a second and the timer's slack */
#define NAPS_ENTER 300u   /* less: the caller may hold a lock that the forking thread wants next */

static atomic_uint inside; /* threads inside, counted once for each nesting */
static atomic_uint shut;   /* forks under way */
static _Thread_local unsigned depth; /* this thread's share of `inside` */

static void
nap(void)
{
    const struct timespec t = {0, NAP_NS};
    (void)sys_raw6(SYS_nanosleep, (long)&t, 0, 0, 0, 0, 0); /* libc's would be our own wrapper */
}

void
shim_gate_enter(void)
{
    depth++;
    for (unsigned i = 0;; i++) {
        atomic_fetch_add(&inside, 1);
        /* Nested: the forking thread, which may be this one, counts us in already. */
        if (atomic_load(&shut) == 0 || depth > 1 || i == NAPS_ENTER)
            return;
        atomic_fetch_sub(&inside, 1);
        nap();
    }
}

void
shim_gate_leave(void)
{
    atomic_fetch_sub(&inside, 1);
    depth--;
}

static void
before_fork(void)
{
    atomic_fetch_add(&shut, 1);
    for (unsigned i = 0; i < NAPS_MAX && atomic_load(&inside) > depth; i++)
        nap();
}

static void
after_in_parent(void)
{
    atomic_fetch_sub(&shut, 1);
}

/* Only this thread is left. */
static void
after_in_child(void)
{
    atomic_store(&inside, depth);
    atomic_store(&shut, 0);
}

enum mesh_err
shim_gate_init(void)
{
    return pthread_atfork(before_fork, after_in_parent, after_in_child) == 0 ? MESH_OK
                                                                             : MESH_E_ENGINE;
}
