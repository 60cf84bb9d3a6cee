/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_program_check: see check.h. posix_spawn, without a shell, in a process group of its own: what is
 * killed is the group, before its leader is waited for, while nobody else can have the number. The
 * outcome of one that is killed is told at once; its place is free when it is gone.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utlist.h>

#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/health/check.h"
#include "meshd/policy/config.h"

#define ARGUMENTS_MAX 33u /* with the NULL; more are refused with the configuration */
#define OURS          3u  /* variables */

struct meshd_program_check {
    meshd_check_done *done; /* NULL: nobody waits for it */
    void *arg;
    pid_t pid; /* 0: it could not be started */
    int error; /* why */
    struct event *timer; /* until it is told, or killed */
    struct meshd_program_check *prev, *next;
};

static struct meshd_program_check *all;
static unsigned running;
static struct event *child;
static void (*tell_room)(void);

bool
meshd_program_has_room(void)
{
    return running < MESHD_PROGRAMS_MAX;
}

static void
forget(struct meshd_program_check *c)
{
    DL_DELETE(all, c);
    running--;
    event_free(c->timer);
    free(c);
}

static void
kill_group(pid_t pid)
{
    if (kill(-pid, SIGKILL) != 0 && errno != ESRCH) {
        log_warn("health: a command cannot be killed: %s", strerror(errno));
    }
}

static void
describe(const siginfo_t *info, struct meshd_outcome *o)
{
    *o = (struct meshd_outcome){.verdict = MESHD_CHECK_FAILED};
    if (info->si_code != CLD_EXITED) {
        snprintf(o->why, sizeof(o->why), "the command was ended by signal %d", info->si_status);
    } else if (info->si_status != 0) {
        snprintf(o->why, sizeof(o->why), "the command's exit code is %d", info->si_status);
    } else {
        o->verdict = MESHD_CHECK_GOOD;
    }
}

/* Is it gone? Then so is what it has left behind, and the check is forgotten. */
static bool
reap(struct meshd_program_check *c)
{
    siginfo_t info = {0};
    struct meshd_outcome o;
    if (c->pid == 0 ||
        waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) {
        return false;
    }
    kill_group(c->pid);
    (void)waitpid(c->pid, NULL, 0);
    meshd_check_done *done = c->done;
    void *arg = c->arg;
    forget(c);
    if (done) {
        describe(&info, &o);
        done(&o, arg);
    }
    return true;
}

/* done() may start and cancel others, but adds at the end and forgets nothing. */
static void
on_child(evutil_socket_t sig, short what, void *arg)
{
    bool some = false;
    (void)sig;
    (void)what;
    (void)arg;
    for (struct meshd_program_check *c = all, *next; c; c = next) {
        next = c->next;
        some |= reap(c);
    }
    if (some) {
        tell_room();
    }
}

void
meshd_program_cancel(struct meshd_program_check *c)
{
    if (c->pid == 0) {
        forget(c);
        return;
    }
    c->done = NULL;
    event_del(c->timer);
    kill_group(c->pid);
}

static void
on_timeout(evutil_socket_t fd, short what, void *arg)
{
    struct meshd_program_check *c = arg;
    meshd_check_done *done = c->done;
    void *to = c->arg;
    struct meshd_outcome o = {.verdict = MESHD_CHECK_FAILED, .why = "the command was killed: out of time"};
    (void)fd;
    (void)what;
    if (c->error) {
        snprintf(o.why, sizeof(o.why), "the command cannot be started: %s", strerror(c->error));
    }
    meshd_program_cancel(c);
    done(&o, to);
}

/* ---- starting ---- */

extern char **environ;

struct variables {
    char addr[MESH_ADDR_TEXT + 32], port[32], service[MESH_SERVICE_MAX + 32];
    char **all; /* of ours, then of meshd's; borrowed but for the array */
};

static bool
is_ours(const char *variable)
{
    return strncmp(variable, "MESH_ENDPOINT_", sizeof("MESH_ENDPOINT_") - 1) == 0;
}

static bool
set_variables(struct variables *v, const struct meshd_check_job *job)
{
    char text[MESH_ADDR_TEXT], *end = NULL;
    size_t n = 0, at = OURS;
    mesh_addr_text(&job->to, text);
    if ((end = strrchr(text, ':')) != NULL) {
        *end = '\0';
    }
    size_t len = strlen(text);
    bool brackets = text[0] == '[' && len > 1;
    snprintf(v->addr, sizeof(v->addr), "MESH_ENDPOINT_ADDR=%.*s", (int)(brackets ? len - 2 : len),
             text + brackets);
    snprintf(v->port, sizeof(v->port), "MESH_ENDPOINT_PORT=%u", job->to.port);
    snprintf(v->service, sizeof(v->service), "MESH_ENDPOINT_SERVICE=%s", job->service);
    while (environ && environ[n]) {
        n++;
    }
    v->all = calloc(n + OURS + 1, sizeof(*v->all));
    if (!v->all) {
        return false;
    }
    v->all[0] = v->addr;
    v->all[1] = v->port;
    v->all[2] = v->service;
    for (size_t i = 0; i < n; i++) {
        if (!is_ours(environ[i])) {
            v->all[at++] = environ[i];
        }
    }
    return true;
}

/* Signals as a program expects them: meshd ignores some. */
static bool
set_attributes(posix_spawnattr_t *attr)
{
    sigset_t none, every;
    sigemptyset(&none);
    sigfillset(&every);
    return posix_spawnattr_setsigmask(attr, &none) == 0 &&
           posix_spawnattr_setsigdefault(attr, &every) == 0 && posix_spawnattr_setpgroup(attr, 0) == 0 &&
           posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                              POSIX_SPAWN_SETPGROUP) == 0;
}

static bool
set_files(posix_spawn_file_actions_t *files)
{
    return posix_spawn_file_actions_addopen(files, 0, "/dev/null", O_RDWR, 0) == 0 &&
           posix_spawn_file_actions_adddup2(files, 0, 1) == 0 &&
           posix_spawn_file_actions_adddup2(files, 0, 2) == 0 &&
           posix_spawn_file_actions_addclosefrom_np(files, 3) == 0;
}

/* An errno. */
static int
spawn(const struct meshd_check_job *job, pid_t *pid)
{
    const struct meshd_health_rule *r = job->rule;
    struct variables v = {.all = NULL};
    posix_spawnattr_t attr;
    posix_spawn_file_actions_t files;
    char *argv[ARGUMENTS_MAX] = {NULL};
    int e = ENOMEM;
    for (size_t i = 0; i < r->command_count && i + 1 < ARGUMENTS_MAX; i++) {
        argv[i] = r->command[i].text;
    }
    if (posix_spawnattr_init(&attr) != 0) {
        return e;
    }
    if (posix_spawn_file_actions_init(&files) != 0) {
        goto attr;
    }
    if (argv[0] && set_variables(&v, job) && set_attributes(&attr) && set_files(&files)) {
        e = posix_spawn(pid, argv[0], &files, &attr, argv, v.all);
    }
    free(v.all);
    posix_spawn_file_actions_destroy(&files);
attr:
    posix_spawnattr_destroy(&attr);
    return e;
}

static bool
is_lack(int error)
{
    return error == ENOMEM || error == EAGAIN || error == EMFILE || error == ENFILE;
}

struct meshd_program_check *
meshd_program_start(const struct meshd_check_job *job, meshd_check_done *done, void *arg)
{
    uint32_t ms = job->rule->timeout_ms;
    const struct timeval tv = {ms / 1000, (long)(ms % 1000) * 1000};
    struct meshd_program_check *c = calloc(1, sizeof(*c));
    if (!c) {
        return NULL;
    }
    *c = (struct meshd_program_check){.done = done, .arg = arg};
    c->timer = event_new(meshd_loop(), -1, 0, on_timeout, c);
    c->error = c->timer && event_add(c->timer, &tv) == 0 ? spawn(job, &c->pid) : ENOMEM;
    if (is_lack(c->error)) {
        if (c->timer) {
            event_free(c->timer);
        }
        free(c);
        return NULL;
    }
    if (c->error) {
        c->pid = 0;
        event_active(c->timer, EV_TIMEOUT, 1); /* told from the loop */
    }
    DL_APPEND(all, c);
    running++;
    return c;
}

enum mesh_err
meshd_program_init(void (*room)(void))
{
    tell_room = room;
    child = evsignal_new(meshd_loop(), SIGCHLD, on_child, NULL);
    return child && event_add(child, NULL) == 0 ? MESH_OK : MESH_E_NO_MEMORY;
}

void
meshd_program_fini(void)
{
    while (all) {
        struct meshd_program_check *c = all;
        if (c->pid != 0) {
            kill_group(c->pid);
            (void)waitpid(c->pid, NULL, 0);
        }
        forget(c);
    }
    if (child) {
        event_free(child);
    }
    child = NULL;
}
