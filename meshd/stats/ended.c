/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_ended: see ended.h. The page is whoever's: all numbers are read once, compared and bounded. A
 * process can spoil the lines of its own tree, and nothing else.
 */
#include "meshd/stats/ended.h"

#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define JUMP_MAX (UINT64_C(1) << 24) /* no honest process ends so many between two looks */

static bool
read_at(int fd, size_t off, void *out, size_t n)
{
    return pread(fd, out, n, (off_t)off) == (ssize_t)n;
}

static uint64_t
read_word(int fd, size_t off)
{
    uint64_t v = 0;
    return read_at(fd, off, &v, sizeof(v)) ? v : 0;
}

static void
write_taken(int fd, uint64_t v)
{
    if (pwrite(fd, &v, sizeof(v), offsetof(struct mesh_page, taken)) < 0) {
        return; /* then the next meshd writes some lines again */
    }
}

static uint32_t
read_unlisted(int fd)
{
    uint32_t v = 0;
    return read_at(fd, offsetof(struct mesh_page, conns_full), &v, sizeof(v)) ? v : 0;
}

void
meshd_ended_begin(uint64_t page_id, struct meshd_ended_cursor *at, enum meshd_ended_from from)
{
    int fd = meshd_page_open(page_id);
    if (fd < 0) {
        return;
    }
    uint64_t ended = read_word(fd, offsetof(struct mesh_page, ended));
    uint64_t taken = read_word(fd, offsetof(struct mesh_page, taken));
    bool resume = from == MESHD_ENDED_RESUME && taken > 0 && taken - 1 <= ended;
    *at = (struct meshd_ended_cursor){
        .begun = true, .taken = resume ? taken - 1 : ended, .unlisted = read_unlisted(fd)};
    write_taken(fd, at->taken + 1);
    close(fd);
}

void
meshd_ended_stop(uint64_t page_id, struct meshd_ended_cursor *at)
{
    int fd = meshd_page_open(page_id);
    *at = (struct meshd_ended_cursor){0};
    if (fd < 0) {
        return;
    }
    if (read_word(fd, offsetof(struct mesh_page, taken)) != 0) {
        write_taken(fd, 0);
    }
    close(fd);
}

/* The entry of one number. It is whole if it still has the number after it was read: whoever claims it
 * says so first. */
static bool
fetch_one(int fd, const struct meshd_page_info *info, uint64_t word, struct meshd_conn *out)
{
    const uint64_t index = word & 0xffff, number = word >> 16;
    const size_t off = MESH_PAGE_CONNS_OFF + index * sizeof(struct mesh_page_conn);
    struct mesh_page_conn raw;
    uint32_t state = 0;
    if (index >= MESH_PAGE_CONNS || !read_at(fd, off, &raw, sizeof(raw)) ||
        !meshd_page_copy_conn(out, &raw, info) || out->state != MESH_CONN_CLOSED ||
        out->number != number) {
        return false;
    }
    return read_at(fd, off, &state, sizeof(state)) && state == MESH_CONN_CLOSED &&
           read_word(fd, off + offsetof(struct mesh_page_conn, number)) == number;
}

struct fetch {
    int fd;
    const struct meshd_page_info *info;
    struct meshd_ended_cursor *at;
    bool last;
    struct meshd_ended_count *count;
    meshd_conn_visit *visit;
    void *arg;
};

/* False: the number is given, the entry is not there yet. One look later it is lost. */
static bool
fetch_number(struct fetch *f, const uint64_t *ring, uint64_t number)
{
    const uint64_t word = ring[number % MESH_PAGE_CONNS];
    struct meshd_conn c;
    if (word >> 16 < number && !f->last && f->at->stuck != number) {
        f->at->stuck = number;
        return false;
    }
    if (word >> 16 == number && fetch_one(f->fd, f->info, word, &c)) {
        f->count->fetched++;
        f->visit(&c, f->arg);
    } else {
        f->count->lost++;
    }
    return true;
}

static void
fetch_new(struct fetch *f, uint64_t ended)
{
    static uint64_t ring[MESH_PAGE_CONNS];
    struct meshd_ended_cursor *at = f->at;
    if (ended < at->taken || ended - at->taken > JUMP_MAX) {
        at->taken = ended; /* nonsense: begin anew */
        return;
    }
    if (ended - at->taken > MESH_PAGE_CONNS) {
        f->count->lost += (uint32_t)(ended - at->taken - MESH_PAGE_CONNS);
        at->taken = ended - MESH_PAGE_CONNS;
    }
    if (!read_at(f->fd, MESH_PAGE_RING_OFF, ring, sizeof(ring))) {
        memset(ring, 0, sizeof(ring));
    }
    while (at->taken < ended && fetch_number(f, ring, at->taken + 1)) {
        at->taken++;
    }
}

void
meshd_ended_fetch(const struct meshd_page_info *info, struct meshd_ended_cursor *at, bool last,
                  meshd_conn_visit *visit, void *arg, struct meshd_ended_count *count)
{
    struct fetch f = {.info = info, .at = at, .last = last, .count = count, .visit = visit, .arg = arg};
    *count = (struct meshd_ended_count){0};
    f.fd = at->begun ? meshd_page_open(info->page_id) : -1;
    if (f.fd < 0) {
        return;
    }
    uint64_t ended = read_word(f.fd, offsetof(struct mesh_page, ended));
    uint32_t unlisted = read_unlisted(f.fd);
    if (unlisted > at->unlisted && unlisted - at->unlisted < JUMP_MAX) {
        count->unlisted = unlisted - at->unlisted;
    }
    at->unlisted = unlisted;
    if (ended != at->taken) {
        fetch_new(&f, ended);
        write_taken(f.fd, at->taken + 1);
    }
    close(f.fd);
}
