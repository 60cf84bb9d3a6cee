/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_proc: see proc.h. A pid alone may be reused; with its start time it names one process.
 */
#include "meshd/base/proc.h"

#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uthash.h>

#include "meshd/base/log.h"
#include "meshd/base/loop.h"

#define POLL_MS 500

struct key {
    uint64_t starttime;
    int64_t pid;
};

struct proc {
    struct key key;
    int pidfd; /* -1: polled */
    struct event *ev;
    UT_hash_handle hh;
};

static struct proc *procs;
static meshd_proc_gone *tell;
static struct meshd_timer *poll_timer;

/* The text behind the command's name, which may hold anything [proc(5)]. */
static const char *
behind_comm(const char *stat)
{
    const char *p = strrchr(stat, ')');
    return p && p[1] == ' ' ? p + 2 : NULL;
}

/* Number `field` of the line, whose field 3 is at p. */
static uint64_t
field_of(const char *p, int field)
{
    for (int i = 3; p && i < field; i++) {
        p = strchr(p, ' ');
        p = p ? p + 1 : NULL;
    }
    return p ? strtoull(p, NULL, 10) : 0;
}

uint64_t
meshd_proc_starttime(pid_t pid)
{
    char path[64], buf[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t n = read(fd, buf, sizeof(buf) - 1);
    close(fd);
    if (n <= 0) {
        return 0;
    }
    buf[n] = '\0';
    const char *p = behind_comm(buf);
    uint64_t threads = p ? field_of(p, 20) : 0;
    /* A main thread that ended before the others is a zombie too. */
    if (!p || *p == 'X' || (*p == 'Z' && threads <= 1)) {
        return 0;
    }
    return field_of(p, 22);
}

bool
meshd_proc_is_alive(pid_t pid, uint64_t starttime)
{
    return pid > 0 && starttime != 0 && meshd_proc_starttime(pid) == starttime;
}

static void
proc_free(struct proc *p)
{
    HASH_DEL(procs, p);
    if (p->ev) {
        event_free(p->ev);
    }
    if (p->pidfd >= 0) {
        close(p->pidfd);
    }
    free(p);
}

static void
check(struct proc *p)
{
    struct key k = p->key;
    if (!meshd_proc_is_alive((pid_t)k.pid, k.starttime)) {
        proc_free(p);
        tell((pid_t)k.pid, k.starttime);
    }
}

static void
on_pidfd(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    check(arg);
}

static void
poll_all(void *arg)
{
    struct proc *p, *tmp;
    (void)arg;
    HASH_ITER(hh, procs, p, tmp)
    {
        if (p->pidfd < 0) {
            check(p);
        }
    }
}

enum mesh_err
meshd_proc_init(meshd_proc_gone *gone)
{
    tell = gone;
    poll_timer = meshd_timer_new(POLL_MS, poll_all, NULL);
    return poll_timer ? MESH_OK : MESH_E_NO_MEMORY;
}

void
meshd_proc_fini(void)
{
    struct proc *p, *tmp;
    HASH_ITER(hh, procs, p, tmp)
    {
        proc_free(p);
    }
    meshd_timer_free(poll_timer);
    poll_timer = NULL;
}

/* A pidfd whose process is the one meant; a wrong or missing one leaves the poll to tell. */
static void
open_pidfd(struct proc *p)
{
    p->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)p->key.pid, 0);
    if (p->pidfd < 0 || !meshd_proc_is_alive((pid_t)p->key.pid, p->key.starttime)) {
        goto poll;
    }
    p->ev = event_new(meshd_loop(), p->pidfd, EV_READ | EV_PERSIST, on_pidfd, p);
    if (p->ev && event_add(p->ev, NULL) == 0) {
        return;
    }
poll:
    if (p->ev) {
        event_free(p->ev);
        p->ev = NULL;
    }
    if (p->pidfd >= 0) {
        close(p->pidfd);
    }
    p->pidfd = -1;
}

enum mesh_err
meshd_proc_watch(pid_t pid, uint64_t starttime)
{
    struct key k = {.starttime = starttime, .pid = pid};
    struct proc *p = NULL;
    HASH_FIND(hh, procs, &k, sizeof(k), p);
    if (p) {
        return MESH_OK;
    }
    p = calloc(1, sizeof(*p));
    if (!p) {
        return MESH_E_NO_MEMORY;
    }
    p->key = k;
    HASH_ADD(hh, procs, key, sizeof(p->key), p);
    open_pidfd(p);
    return MESH_OK;
}
