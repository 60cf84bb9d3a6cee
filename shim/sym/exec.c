/* SPDX-License-Identifier: Apache-2.0
 *
 * Exported symbols: how a program executes another one. What is executed belongs to the mesh too,
 * so it gets libmesh.so in LD_PRELOAD and LIBMESH_RUN_DIR when the program made an environment of
 * its own without them, and connections that it inherits go on in it (flow/carry.h).
 *
 * Everything here may run in a child of vfork: it keeps what it needs on the stack.
 */
#include <alloca.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/core/env.h"
#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/flow/carry.h"
#include "shim/flow/listener.h"
#include "shim/sym/sym.h"
#include "shim/sym/target.h"

extern char **environ;

#define ADDED 3 /* variables that we may add */

struct plan {
    struct shim_carry carry;
    const char *path;
    size_t vars;         /* in the program's environment */
    const char *theirs;  /* its LD_PRELOAD, NULL if it has none */
    bool has_dir, off;   /* LIBMESH_RUN_DIR is in it; LIBMESH=off is */
    bool preload, region; /* what we add */
    bool outside; /* libmesh will not be in it */
    char preload_var[sizeof(shim_env.preload) * 2 + 16];
    char run_dir_var[sizeof(shim_env.run_dir) + 24];
    char region_var[SHIM_CARRY_TEXT + 24];
};

static bool
is_var(const char *entry, const char *name)
{
    size_t n = strlen(name);
    return strncmp(entry, name, n) == 0 && entry[n] == '=';
}

static bool
lists_self(const char *preload)
{
    for (size_t len; *preload; preload += len + (preload[len] != '\0')) {
        len = strcspn(preload, ": ");
        if (shim_env_is_self(preload, len)) {
            return true;
        }
    }
    return false;
}

static void
look_at(struct plan *p, char *const *envp, const char *path)
{
    p->path = path;
    p->theirs = NULL;
    p->off = p->has_dir = false;
    for (p->vars = 0; envp && envp[p->vars]; p->vars++) {
        const char *e = envp[p->vars];
        if (e[0] == 'L') {
            p->theirs = is_var(e, "LD_PRELOAD") ? e + 11 : p->theirs;
            p->has_dir = p->has_dir || is_var(e, "LIBMESH_RUN_DIR");
            p->off = p->off || strcmp(e, "LIBMESH=off") == 0;
        }
    }
}

static bool
can_follow(const struct plan *p)
{
    return !p->off && sym_target_can_follow(p->path);
}

/* What the environment lacks. */
static bool
lacks(struct plan *p)
{
    p->region = p->carry.value[0] != '\0';
    bool listed = p->theirs && lists_self(p->theirs);
    bool wanted = !p->off && (listed || !shim_env.exec_leave || p->region) && shim_env.preload[0];
    p->outside = wanted && sym_target_is_secure(p->path);
    p->preload = wanted && !listed && !p->outside;
    return p->preload || p->region;
}

static void
note_outside(const struct plan *p)
{
    if (p->outside) {
        shim_log_info("%s: the loader drops LD_PRELOAD (set-user-ID, capabilities, or real and effective user differ): its "
                      "connections will be plaintext", p->path);
        shim_stat_add(MESH_STAT_EXECS_OUTSIDE, 1);
    }
}

/* `out` has room for vars + ADDED + 1 pointers. */
static void
compose(struct plan *p, char *const *envp, char **out)
{
    size_t n = 0;
    for (size_t i = 0; i < p->vars; i++) {
        if (!(p->preload && is_var(envp[i], "LD_PRELOAD")) && !is_var(envp[i], SHIM_CARRY_VAR)) {
            out[n++] = envp[i];
        }
    }
    if (p->preload) {
        const char *t = p->theirs ? p->theirs : "";
        snprintf(p->preload_var, sizeof(p->preload_var), "LD_PRELOAD=%s%s%s", t, *t ? ":" : "",
                 shim_env.preload);
        out[n++] = p->preload_var;
    }
    if (p->preload && !p->has_dir) {
        snprintf(p->run_dir_var, sizeof(p->run_dir_var), "LIBMESH_RUN_DIR=%s", shim_env.run_dir);
        out[n++] = p->run_dir_var;
    }
    if (p->region) {
        snprintf(p->region_var, sizeof(p->region_var), SHIM_CARRY_VAR "=%s", p->carry.value);
        out[n++] = p->region_var;
    }
    out[n] = NULL;
}

/* Declares `env`, what to pass instead of envp. On the stack of the caller. */
#define COMPOSE(p, envp)                                                               \
    char *const *env = (envp);                                                         \
    if (lacks(&(p))) {                                                                 \
        char **own_ = alloca(((p).vars + ADDED + 1) * sizeof(char *));                 \
        compose(&(p), env, own_);                                                      \
        env = own_;                                                                    \
    }                                                                                  \
    note_outside(&(p))

/* What is inherited can only go on under libmesh. */
static void
prepare(struct plan *p, char *const *envp, const char *path)
{
    look_at(p, envp, path);
    shim_listener_child();
    /* That reads the target, and counts for handshakes alone. */
    bool follows = (shim_work_items() || shim_work_sleeps()) && can_follow(p);
    shim_carry_prepare(&p->carry, follows);
    if (p->carry.conns && !follows && !can_follow(p)) {
        shim_carry_refuse(&p->carry);
    }
}

static int
failed(const struct plan *p)
{
    int saved = errno;
    shim_carry_undo(&p->carry);
    errno = saved;
    return -1;
}

SHIM_EXPORT int
execve(const char *path, char *const argv[], char *const envp[])
{
    struct plan p;
    if (!shim_env.on) {
        return shim_real.execve(path, argv, envp);
    }
    prepare(&p, envp, path);
    COMPOSE(p, envp);
    (void)shim_real.execve(path, argv, env);
    return failed(&p);
}

SHIM_EXPORT int
execv(const char *path, char *const argv[])
{
    return execve(path, argv, environ);
}

SHIM_EXPORT int
execvpe(const char *file, char *const argv[], char *const envp[])
{
    struct plan p;
    char path[4096];
    if (!shim_env.on) {
        return shim_real.execvpe(file, argv, envp);
    }
    sym_target_search(file, path, sizeof(path));
    prepare(&p, envp, path);
    COMPOSE(p, envp);
    (void)shim_real.execvpe(file, argv, env);
    return failed(&p);
}

SHIM_EXPORT int
execvp(const char *file, char *const argv[])
{
    return execvpe(file, argv, environ);
}

/* The arguments of execl and its like as a vector on the stack; AFTER: what stands behind them. */
#define COLLECT(argv, first, ap, after)                                                \
    va_list ap;                                                                        \
    size_t n_ = 1;                                                                     \
    va_start(ap, first);                                                               \
    while (va_arg(ap, char *)) {                                                       \
        n_++;                                                                          \
    }                                                                                  \
    va_end(ap);                                                                        \
    char **argv = alloca((n_ + 1) * sizeof(char *));                                   \
    va_start(ap, first);                                                               \
    argv[0] = (char *)(uintptr_t)(first);                                              \
    for (size_t i_ = 1; i_ <= n_; i_++) {                                              \
        argv[i_] = va_arg(ap, char *);                                                 \
    }                                                                                  \
    after;                                                                             \
    va_end(ap)

SHIM_EXPORT int
execl(const char *path, const char *arg, ...)
{
    COLLECT(argv, arg, ap, (void)0);
    return execve(path, argv, environ);
}

SHIM_EXPORT int
execlp(const char *file, const char *arg, ...)
{
    COLLECT(argv, arg, ap, (void)0);
    return execvpe(file, argv, environ);
}

SHIM_EXPORT int
execle(const char *path, const char *arg, ...)
{
    char *const *envp;
    COLLECT(argv, arg, ap, envp = va_arg(ap, char *const *));
    return execve(path, argv, envp);
}

SHIM_EXPORT int
fexecve(int fd, char *const argv[], char *const envp[])
{
    struct plan p;
    char path[40];
    if (!shim_env.on) {
        return shim_real.fexecve(fd, argv, envp);
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    prepare(&p, envp, path);
    COMPOSE(p, envp);
    (void)shim_real.fexecve(fd, argv, env);
    return failed(&p);
}

SHIM_EXPORT int
execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
    struct plan p;
    char full[4096];
    if (!shim_env.on) {
        return shim_real.execveat(dir, path, argv, envp, flags);
    }
    if (path[0] == '/' || dir == AT_FDCWD) {
        snprintf(full, sizeof(full), "%s", path);
    } else {
        snprintf(full, sizeof(full), "/proc/self/fd/%d%s%s", dir, *path ? "/" : "", path);
    }
    prepare(&p, envp, full);
    COMPOSE(p, envp);
    (void)shim_real.execveat(dir, path, argv, env, flags);
    return failed(&p);
}

typedef int (*spawn_fn)(pid_t *, const char *, const posix_spawn_file_actions_t *,
                        const posix_spawnattr_t *, char *const[], char *const[]);

/* The child's descriptors come into being inside libc. Only a followable program gets the region, and
 * only when a connection may really be among what it inherits. */
static int
prepare_spawn(struct plan *p, char *const *envp, const char *path, const void *actions)
{
    look_at(p, envp, path);
    shim_listener_child();
    if (!shim_carry_may_give(actions)) {
        memset(&p->carry, 0, sizeof(p->carry));
        p->carry.fd = -1;
        return 0;
    }
    return shim_carry_prepare_spawn(&p->carry, can_follow(p), actions);
}

static int
spawn(spawn_fn real, pid_t *pid, const char *file, const char *path,
      const posix_spawn_file_actions_t *fa, const posix_spawnattr_t *attr, char *const argv[],
      char *const envp[])
{
    struct plan p;
    int saved = errno;
    int r = prepare_spawn(&p, envp, path, fa);
    if (r == 0) {
        COMPOSE(p, envp);
        r = real(pid, file, fa, attr, argv, env);
    }
    shim_carry_undo_spawn(&p.carry, r == 0);
    errno = saved;
    return r;
}

SHIM_EXPORT int
posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *fa,
            const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
    if (!shim_env.on) {
        return shim_real.posix_spawn(pid, path, fa, attr, argv, envp);
    }
    return spawn(shim_real.posix_spawn, pid, path, path, fa, attr, argv, envp);
}

SHIM_EXPORT int
posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *fa,
             const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
    char path[4096];
    if (!shim_env.on) {
        return shim_real.posix_spawnp(pid, file, fa, attr, argv, envp);
    }
    sym_target_search(file, path, sizeof(path));
    return spawn(shim_real.posix_spawnp, pid, file, path, fa, attr, argv, envp);
}

/* The same with a descriptor of the child instead of its number, since glibc 2.39. */
int pidfd_spawn(int *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
                char *const *, char *const *);
int pidfd_spawnp(int *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
                 char *const *, char *const *);

SHIM_EXPORT int
pidfd_spawn(int *pidfd, const char *path, const posix_spawn_file_actions_t *fa,
            const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
    if (!shim_env.on) {
        return shim_real.pidfd_spawn(pidfd, path, fa, attr, argv, envp);
    }
    return spawn(shim_real.pidfd_spawn, pidfd, path, path, fa, attr, argv, envp);
}

SHIM_EXPORT int
pidfd_spawnp(int *pidfd, const char *file, const posix_spawn_file_actions_t *fa,
             const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
    char path[4096];
    if (!shim_env.on) {
        return shim_real.pidfd_spawnp(pidfd, file, fa, attr, argv, envp);
    }
    sym_target_search(file, path, sizeof(path));
    return spawn(shim_real.pidfd_spawnp, pidfd, file, path, fa, attr, argv, envp);
}

/* What the child does with the connection cannot be seen later: a handshake under way ends here. */
SHIM_EXPORT int
posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *fa, int fd, int to)
{
    if (shim_fd_is_mesh(fd)) {
        int saved = errno;
        shim_carry_give(fd, fa);
        errno = saved;
    }
    return shim_real.posix_spawn_file_actions_adddup2(fa, fd, to);
}

SHIM_EXPORT int
posix_spawn_file_actions_init(posix_spawn_file_actions_t *fa)
{
    shim_carry_give_none(fa);
    return shim_real.posix_spawn_file_actions_init(fa);
}

SHIM_EXPORT int
posix_spawn_file_actions_destroy(posix_spawn_file_actions_t *fa)
{
    shim_carry_give_none(fa);
    return shim_real.posix_spawn_file_actions_destroy(fa);
}

/* libc's own spawning inside system() and popen() takes `environ`: if that lacks something it gets
 * another one for that time. On the heap: another thread's setenv copies its pointers, and then it must
 * stay. */
struct swap {
    struct plan *p; /* NULL: nothing to do */
    char **before, **ours;
};

static void
swap_environ(struct swap *s)
{
    s->p = shim_env.on ? malloc(sizeof(*s->p)) : NULL;
    if (!s->p) {
        return;
    }
    (void)prepare_spawn(s->p, environ, "/bin/sh", NULL);
    s->before = environ;
    s->ours = lacks(s->p) ? malloc((s->p->vars + ADDED + 1) * sizeof(char *)) : NULL;
    note_outside(s->p);
    if (s->ours) {
        compose(s->p, environ, s->ours);
        environ = s->ours;
    }
}

static void
swap_back(struct swap *s, bool started)
{
    int saved = errno;
    if (!s->p) {
        return;
    }
    shim_carry_undo_spawn(&s->p->carry, started);
    if (!s->ours || environ == s->ours) {
        environ = s->before;
        free(s->ours);
        free(s->p);
    }
    errno = saved;
}

SHIM_EXPORT int
system(const char *command)
{
    struct swap s;
    swap_environ(&s);
    int r = shim_real.system(command);
    swap_back(&s, r != -1);
    return r;
}

SHIM_EXPORT FILE *
popen(const char *command, const char *type)
{
    struct swap s;
    swap_environ(&s);
    FILE *f = shim_real.popen(command, type);
    swap_back(&s, f != NULL);
    return f;
}

void
sym_exec_start(void)
{
    const char *value = getenv(SHIM_CARRY_VAR);
    if (value) {
        shim_carry_adopt(value);
        (void)unsetenv(SHIM_CARRY_VAR);
    }
    /* Socket activation [sd_listen_fds(3)]. */
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    if (pid && fds && atoi(pid) == sys_getpid()) {
        for (int i = 0, n = atoi(fds); i < n && i < 1024; i++) {
            shim_conn_inherited(3 + i);
        }
    }
}
