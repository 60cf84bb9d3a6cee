/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_ident: see ident.h.
 */
#include "shim/flow/ident.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "shim/core/lock.h"
#include "shim/core/log.h"
#include "shim/core/region.h"
#include "shim/core/room.h"
#include "shim/core/stat.h"
#include "shim/flow/resume.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/real.h"

#define RETRY_S 10

const struct shim_tls_ops *_Atomic shim_tls;
static struct shim_private lock;
static _Atomic uint64_t renew_at, expires_at, next_try; /* seconds, CLOCK_REALTIME; 0: none */

static uint64_t
wall(void)
{
    struct timespec ts;
    (void)shim_real_clock(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec;
}

static pthread_key_t at_end; /* its destructor runs when a thread ends */
static bool have_key;

/* Under the lock of all handshakes, so that no signal handler begins one above it. */
static void
thread_ends(void *arg)
{
    (void)arg;
    if (shim_work_enter()) {
        atomic_load(&shim_tls)->thread_end();
        shim_work_leave();
    }
}

static void
note_thread(void)
{
    if (have_key) {
        (void)pthread_setspecific(at_end, &at_end);
    }
}

/* Before the program makes keys: the values of the first 32 need no memory [pthread_setspecific(3)]. */
void
shim_ident_start(void)
{
    have_key = pthread_key_create(&at_end, thread_ends) == 0;
}

/* dlopen does not say it so that a program could read it. */
static enum mesh_err
why_not_loaded(const char *path, int no)
{
    if (no == ENOMEM) {
        return MESH_E_NO_MEMORY;
    }
    long fd = sys_call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd == -EMFILE || fd == -ENFILE) {
        return MESH_E_NO_FD;
    }
    if (fd >= 0) {
        (void)sys_close((int)fd);
    }
    return MESH_E_ENGINE;
}

/* OpenSSL sets much up once and for all: where that meets a lack of memory it stays broken as long as
 * the process lives. So it is not begun without some room, and tried again later. */
#define ROOM (8u << 20)
static bool
has_room(void)
{
    void *p = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p != MAP_FAILED && munmap(p, ROOM) == 0;
}

struct engine {
    char path[512];
    const struct shim_tls_ops *(*entry)(void (*)(void));
};

static enum mesh_err
failed(const struct engine *l)
{
    enum mesh_err e = why_not_loaded(l->path, errno);
    shim_log_error("%s: %s", l->path, mesh_err_text(e));
    return e;
}

static enum mesh_err
load_engine(struct engine *l)
{
    const char *self = shim_real_self();
    const char *slash = strrchr(self, '/');
    int n = snprintf(l->path, sizeof(l->path), "%.*slibmesh-engine.so",
                     slash ? (int)(slash - self + 1) : 0, self);
    if (n < 0 || n >= (int)sizeof(l->path)) {
        return MESH_E_ENGINE;
    }
    if (!has_room()) {
        return MESH_E_NO_MEMORY;
    }
    errno = 0;
    void *sym = shim_real_load(l->path, "shim_tls_engine");
    memcpy(&l->entry, &sym, sizeof(l->entry));
    return l->entry ? MESH_OK : failed(l);
}

static enum mesh_err
find_engine(struct engine *l)
{
    enum mesh_err e = load_engine(l);
    if (e == MESH_E_NO_FD && shim_room_make()) {
        e = load_engine(l);
        shim_room_end();
    }
    return e;
}

static enum mesh_err
start_engine(const struct engine *l)
{
    errno = 0;
    const struct shim_tls_ops *ops = l->entry(note_thread);
    if (!ops || ops->abi != SHIM_TLS_ABI) {
        return failed(l);
    }
    ops->tickets(shim_resume_find);
    atomic_store(&shim_tls, ops);
    return MESH_OK;
}

/* Loaded before our lock is taken: a constructor that connects has the loader's, and would wait for ours while its
 * holder waits for the loader's. Threads that load it at once load the same. */
enum mesh_err
shim_ident_engine(void)
{
    struct engine l;
    if (atomic_load(&shim_tls)) {
        return MESH_OK;
    }
    uint64_t mask = shim_signals_hold();
    enum mesh_err e = find_engine(&l);
    if (e == MESH_OK && !shim_private_enter(&lock)) {
        e = MESH_E_ENGINE;
    } else if (e == MESH_OK) {
        e = atomic_load(&shim_tls) ? MESH_OK : start_engine(&l);
        shim_private_leave(&lock);
    }
    shim_signals_release(mask);
    return e;
}

static enum mesh_err
fetch(void)
{
    const struct shim_tls_ops *ops = atomic_load(&shim_tls);
    static struct shim_link_cert cert; /* under lock */
    enum mesh_err e = shim_link_cert(&cert);
    if (e == MESH_OK) {
        const struct mesh_wire_cert_rep *r = &cert.rep;
        struct shim_identity id = {
            .chain = cert.blob, .chain_len = r->chain_len,
            .key = cert.blob + r->chain_len, .key_len = r->key_len,
            .bundle = cert.blob + r->chain_len + r->key_len, .bundle_len = r->bundle_len,
            .trust_domain = r->trust_domain,
        };
        e = ops->identity_set(&id);
        if (e == MESH_OK) {
            atomic_store(&renew_at, r->renew_at);
            atomic_store(&expires_at, r->not_after);
        }
    }
    ops->wipe(&cert, sizeof(cert));
    return e;
}

/* A process that has attached may find its meshd gone before it has an identity. */
static enum mesh_err
fetch_patiently(void)
{
    uint64_t until = 0;
    for (;;) {
        enum mesh_err e = fetch();
        shim_private_leave(&lock); /* what is pending comes through */
        bool again = shim_link_wait(e, &until);
        (void)shim_private_enter(&lock); /* cannot fail: it is not ours */
        if (!again) {
            return e;
        }
        if (wall() < atomic_load(&renew_at)) {
            return MESH_OK; /* by another thread */
        }
    }
}

static enum mesh_err
ready_locked(void)
{
    uint64_t now = wall();
    bool usable = now < atomic_load(&expires_at);
    if (now < atomic_load(&renew_at) || (usable && now < atomic_load(&next_try))) {
        return MESH_OK;
    }
    atomic_store(&next_try, now + RETRY_S);
    enum mesh_err e = usable ? fetch() : fetch_patiently();
    if (e != MESH_OK) {
        shim_log_error("certificate: %s", mesh_err_text(e));
    }
    return usable ? MESH_OK : e;
}

enum mesh_err
shim_ident_ready(void)
{
    if (atomic_load(&shim_tls) && wall() < atomic_load(&renew_at)) {
        return MESH_OK;
    }
    if (!shim_region_init()) {
        return MESH_E_NO_MEMORY;
    }
    enum mesh_err e = shim_ident_engine();
    if (e != MESH_OK) {
        return e;
    }
    if (!shim_private_enter(&lock)) {
        return MESH_E_NO_IDENTITY;
    }
    e = ready_locked();
    shim_private_leave(&lock);
    return e;
}

void
shim_ident_forked(void)
{
    shim_private_forked(&lock, false);
}
