/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_work: see work.h.
 */
#include "shim/flow/work.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/core/fdtab.h"
#include "shim/flow/age.h"
#include "shim/flow/conn.h"
#include "shim/flow/hs.h"
#include "shim/flow/ident.h"
#include "shim/flow/shape.h"
#include "shim/flow/work_int.h"
#include "shim/real.h"

_Atomic int shim_work_count;
_Atomic unsigned shim_work_changes;
void (*shim_work_on_change)(int fd);
static struct shim_private lock;
static struct shim_work *head;
static _Atomic int expected; /* listeners of kind INHERITED */
static struct shim_work *by_cookie[SHIM_SLOTS]; /* chains; untouched pages cost nothing */
_Atomic uint64_t shim_work_full_at;
static _Atomic int dormant; /* items that are, see shim_work_wake */

/* Items for the next ones: a fresh mapping costs page faults, an unmapping all threads' translations. As many
 * as a busy program has under way at a time. */
#define SPARES 16u
static struct shim_work *spare;
static unsigned spares;

bool
shim_work_sleeps(void)
{
    return (atomic_load_explicit(&dormant, memory_order_relaxed) |
            atomic_load_explicit(&expected, memory_order_relaxed)) > 0;
}

void
shim_work_expect(int n)
{
    atomic_fetch_add(&expected, n);
}

void
shim_work_look(void)
{
    static _Atomic bool told;
    if (!atomic_exchange(&told, true)) {
        shim_work_expect(1);
    }
}

bool
shim_work_enter(void)
{
    return shim_private_enter(&lock);
}

void
shim_work_leave(void)
{
    shim_private_leave(&lock);
}

struct shim_work *
shim_work_first(void)
{
    return head;
}

#define SHORT    64u /* a list that is always looked at as a whole */
#define WARM_NS  UINT64_C(100000000)
#define REST_NS  UINT64_C(5000) /* between two passes over all of the list, for each item */

static void
push(struct shim_work *w, uint64_t now)
{
    w->warm_at = now;
    w->prev = NULL;
    w->next = head;
    if (head) {
        head->prev = w;
    }
    head = w;
}

static void
unlink_item(struct shim_work *w)
{
    if (w->prev) {
        w->prev->next = w->next;
    } else {
        head = w->next;
    }
    if (w->next) {
        w->next->prev = w->prev;
    }
}

bool
shim_work_is_long(void)
{
    return shim_work_items() > SHORT;
}

bool
shim_work_is_warm(const struct shim_work *w, unsigned n, uint64_t now)
{
    return n < SHIM_WORK_WARM && now - w->warm_at < WARM_NS;
}

void
shim_work_touch(const struct shim_slot *s)
{
    if (!shim_work_is_long() || !shim_work_enter()) {
        return;
    }
    struct shim_work *w = shim_work_of(s);
    if (w) {
        unlink_item(w);
        push(w, shim_now());
    }
    shim_work_leave();
}

struct shim_work *
shim_work_new(struct shim_slot *s, int fd)
{
    struct shim_work *w = spare;
    if (w) {
        spare = w->next;
        spares--;
    } else {
        w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (w == MAP_FAILED) {
            return NULL;
        }
    }
    memset(w, 0, offsetof(struct shim_work, in));
    w->slot = shim_slot_handle(s);
    w->cookie = atomic_load(&s->cookie);
    w->step = atomic_load(&s->hs_step);
    w->fd = fd;
    w->started = shim_now();
    w->grace_at = w->detect_at = w->expires_at = w->linger_at = SHIM_NEVER;
    push(w, w->started);
    struct shim_work **chain = &by_cookie[w->cookie % SHIM_SLOTS];
    w->chained = *chain;
    *chain = w;
    atomic_fetch_add(&shim_work_count, 1);
    return w;
}

struct shim_work *
shim_work_of(const struct shim_slot *s)
{
    return shim_work_by_cookie(atomic_load(&s->cookie));
}

struct shim_work *
shim_work_by_cookie(uint64_t cookie)
{
    struct shim_work *w = by_cookie[cookie % SHIM_SLOTS];
    while (w && w->cookie != cookie) {
        w = w->chained;
    }
    return w;
}

static void
release(struct shim_work *w)
{
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    if (w->hs && tls) {
        tls->hs_free(w->hs);
    }
    if (w->early) {
        explicit_bzero(w->early, SHIM_EARLY_MAX);
        munmap(w->early, SHIM_EARLY_MAX);
    }
    if (spares < SPARES) {
        explicit_bzero(w->in, w->in_len);
        w->next = spare;
        spare = w;
        spares++;
    } else {
        munmap(w, sizeof(*w));
    }
}

void
shim_work_drop(struct shim_work *w)
{
    unlink_item(w);
    struct shim_work **at = &by_cookie[w->cookie % SHIM_SLOTS];
    while (*at != w) {
        at = &(*at)->chained;
    }
    *at = w->chained;
    atomic_fetch_sub(w->dormant ? &dormant : &shim_work_count, 1);
    if (w->helper) {
        struct shim_slot *s = shim_slot_at(w->slot);
        if (w->holds && atomic_load(&s->cookie) == w->cookie && shim_slot_release(s, shim_fdtab_owner(), 1) == 0) {
            shim_conn_end(s);
        }
        (void)sys_close(w->fd);
    } else if (w->owned) {
        struct shim_slot *s = shim_slot_at(w->slot);
        if (atomic_load(&s->cookie) == w->cookie) {
            shim_conn_end(s);
        }
        (void)sys_close(w->fd);
    }
    release(w);
}

void
shim_work_wake(const struct shim_slot *s)
{
    if (atomic_load(&dormant) == 0 || !shim_work_enter()) {
        return;
    }
    struct shim_work *w = shim_work_of(s);
    if (w && w->dormant) {
        w->dormant = false;
        atomic_fetch_sub(&dormant, 1);
        atomic_fetch_add(&shim_work_count, 1);
    }
    shim_work_leave();
}

#define WATCHES UINT32_MAX /* no copy of a handshake is that one */

void
shim_work_watch(struct shim_slot *s, int fd)
{
    if (atomic_load(&s->hs_pid) == shim_fdtab_owner() || !shim_work_enter()) {
        return;
    }
    struct shim_work *w = shim_work_of(s) || shim_slot_phase(s) >= SHIM_PHASE_OPEN ? NULL : shim_work_new(s, fd);
    if (w) {
        w->step = WATCHES;
        w->abandoned = true;
    }
    shim_work_leave();
    if (w && shim_work_on_change) {
        shim_work_on_change(fd); /* epoll is not to say what TLS has not made true yet */
    }
}

uint32_t
shim_work_regions(void)
{
    uint32_t found = 0;
    bool locked = shim_work_items() > 0 && shim_work_enter();
    for (const struct shim_work *w = locked ? head : NULL; w; w = w->next) {
        found |= 1u << shim_slot_region(w->slot);
    }
    if (locked) {
        shim_work_leave();
    }
    return found;
}

bool
shim_work_has(const struct shim_slot *s)
{
    bool has = false;
    if (shim_work_items() > 0 && shim_work_enter()) {
        const struct shim_work *w = shim_work_of(s);
        has = w && w->step != WATCHES;
        shim_work_leave();
    }
    return has;
}

bool
shim_work_goes_on(const struct shim_slot *s)
{
    bool does = false;
    if (shim_work_items() > 0 && shim_work_enter()) {
        const struct shim_work *w = shim_work_of(s);
        does = w && !w->abandoned && w->step == atomic_load(&s->hs_step);
        shim_work_leave();
    }
    return does;
}

void
shim_work_tail(struct shim_slot *s, int fd)
{
    if (shim_work_enter()) {
        if (!shim_work_of(s)) {
            (void)shim_work_new(s, fd); /* no memory: the next call on the connection flushes */
        }
        shim_work_leave();
    }
}

static void
drive_one(struct shim_work *w, uint64_t now)
{
    w->moved = false;
    if (shim_hs_drive(w)) {
        int fd = w->owned ? -1 : w->fd;
        atomic_fetch_add(&shim_work_changes, 1);
        shim_work_drop(w);
        if (fd >= 0 && shim_work_on_change) {
            shim_work_on_change(fd);
        }
    } else if (w->moved && w->prev) {
        unlink_item(w);
        push(w, now ? now : shim_now());
    }
}

void
shim_work_drive(void)
{
    int saved = errno;
    if (!shim_work_any() || (shim_work_items() == 0 && shim_now() < shim_age_next()) || !shim_work_enter()) {
        return;
    }
    uint64_t now = shim_now();
    bool all = !shim_work_is_long() || now >= shim_work_full_at;
    unsigned n = 0;
    for (struct shim_work *w = head, *next; w && (all || shim_work_is_warm(w, n, now)); w = next, n++) {
        next = w->next;
        drive_one(w, now);
    }
    if (shim_age_next() < SHIM_NEVER) {
        shim_age_drive();
    }
    if (all) {
        shim_work_full_at = shim_now() + n * REST_NS;
    }
    shim_work_leave();
    errno = saved;
}

void
shim_work_drive_cookie(uint64_t cookie)
{
    struct shim_work *w = shim_work_by_cookie(cookie);
    if (w) {
        drive_one(w, 0);
    }
}

void
shim_work_drive_slot(const struct shim_slot *s)
{
    int saved = errno;
    if (!shim_work_any()) {
        return;
    }
    if (shim_now() >= shim_work_full_at) {
        shim_work_drive();
    } else if (s && shim_work_enter()) {
        shim_work_drive_cookie(atomic_load(&s->cookie));
        shim_work_leave();
        errno = saved;
    }
}

static bool fork_locked;

void
shim_work_before_fork(void)
{
    fork_locked = shim_work_enter();
    for (struct shim_work *w = head; w && fork_locked; w = w->next) {
        w->early_common = w->inherited ? w->early_common : w->early_len;
        shim_shape_share(w);
    }
}

/* The child keeps its copies of handshakes (it may be the one that goes on), but not what the
 * program had closed: that is the parent's to finish. */
void
shim_work_after_fork(bool child)
{
    if (child) {
        shim_private_forked(&lock, fork_locked);
        for (struct shim_work *w = head, *next; w; w = next) {
            next = w->next;
            if (w->owned) {
                w->helper = true; /* close our copy, no more */
                w->holds = false;
                shim_work_drop(w);
                continue;
            }
            w->inherited = true;
            w->early_len = w->early_common; /* what the parent wrote since its own birth is its own */
            w->early_off = w->early_off < w->early_len ? w->early_off : w->early_len;
            if (!w->dormant) {
                w->dormant = true;
                atomic_fetch_add(&dormant, 1);
                atomic_fetch_sub(&shim_work_count, 1);
            }
        }
    } else if (fork_locked) {
        shim_work_leave();
    }
}
