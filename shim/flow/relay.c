/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_relay: see relay.h.
 *
 * Started by clone(2) with our memory and its own descriptors, as vfork does, but with no signal at
 * its end: the program never learns of this child. libmesh-relay forks at once, so that it is no
 * child of the program either, and we wait for the first of the two. It may all happen in a child
 * of vfork: nothing private is written.
 */
#include "shim/flow/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "shim/core/env.h"
#include "shim/core/slot.h"
#include "shim/flow/carry.h"
#include "shim/real.h"

#define STACK 16384u

struct start {
    const struct shim_relay *relay;
    int stream[SHIM_RELAY_MAX]; /* the relay's ends */
    char path[1024], number[2 * SHIM_RELAY_MAX][24];
    char *argv[2 * SHIM_RELAY_MAX + 2];
    char preload[sizeof(shim_env.preload) + 16], run_dir[sizeof(shim_env.run_dir) + 24];
    char region[SHIM_CARRY_TEXT + 24];
};

/* It lies beside libmesh.so. */
static bool
find_program(char *path, size_t room)
{
    const char *own = strstr(shim_env.preload, "libmesh.so"), *first = own;
    while (first && first > shim_env.preload && first[-1] != ':') {
        first--;
    }
    int n = own ? snprintf(path, room, "%.*slibmesh-relay", (int)(own - first), first) : -1;
    return n > 0 && (size_t)n < room && sys_call(SYS_faccessat, AT_FDCWD, path, X_OK, 0) == 0;
}

static int
child(void *arg)
{
    struct start *s = arg;
    char *const envp[] = {s->preload, s->run_dir, s->region, NULL};
    uint64_t none = 0;
    int pid = sys_getpid();
    (void)sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, 8);
    for (unsigned i = 0; i < s->relay->n; i++) {
        struct shim_slot *slot = shim_slot_find(shim_cookie(s->relay->line[i].conn));
        (void)sys_fcntl(s->stream[i], F_SETFD, 0);
        if (slot) {
            shim_slot_hold(slot, pid, 1);
        }
    }
    (void)sys_call(SYS_execve, s->path, s->argv, envp, 0);
    return 127;
}

static int
run(struct start *s)
{
    _Alignas(16) char stack[STACK];
    int status = 0;
    int pid = shim_real.clone(child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK, s);
    if (pid < 0) {
        return -errno;
    }
    while (sys_call(SYS_wait4, pid, &status, __WALL, 0) == -EINTR) {
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

/* The pairs and the arguments that name them. */
static int
prepare(struct start *s, struct shim_relay *r, unsigned *made)
{
    s->relay = r;
    s->argv[0] = s->path;
    for (*made = 0; *made < r->n; (*made)++) {
        unsigned i = *made;
        int pair[2];
        long e = sys_call(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
        if (e < 0) {
            return (int)e;
        }
        r->line[i].stream = pair[0];
        s->stream[i] = pair[1];
        snprintf(s->number[2 * i], sizeof(s->number[0]), "%d,%d", r->line[i].conn, r->line[i].use);
        snprintf(s->number[2 * i + 1], sizeof(s->number[0]), "%d", pair[1]);
        s->argv[2 * i + 1] = s->number[2 * i];
        s->argv[2 * i + 2] = s->number[2 * i + 1];
    }
    s->argv[2 * r->n + 1] = NULL;
    return 0;
}

int
shim_relay_start(struct shim_relay *r, const char *region)
{
    struct start s;
    unsigned made = 0;
    int saved = errno;
    if (!region[0] || !find_program(s.path, sizeof(s.path))) {
        return -ENOENT;
    }
    snprintf(s.preload, sizeof(s.preload), "LD_PRELOAD=%s", shim_env.preload);
    snprintf(s.run_dir, sizeof(s.run_dir), "LIBMESH_RUN_DIR=%s", shim_env.run_dir);
    snprintf(s.region, sizeof(s.region), SHIM_CARRY_VAR "=%s", region);
    int e = prepare(&s, r, &made);
    e = e ? e : run(&s);
    for (unsigned i = 0; i < made; i++) {
        (void)sys_close(s.stream[i]);
        if (e) {
            (void)sys_close(r->line[i].stream);
        }
    }
    errno = saved;
    return e;
}
