/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_client: see client.h.
 */
#include "shim/route/client.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>

#include "common/unit.h"
#include "shim/link/link.h"
#include "shim/real.h"

#define CGROUP_MAX 1024

/* Read once: systemd does not move a process to another unit, and an image has one executable. EMPTY -> READING ->
 * READY; whoever comes while another thread reads has to read for himself. */
enum { EMPTY, READING, READY };
struct once {
    _Atomic int state;
    char text[SHIM_CLIENT_TEXT];
};
static struct once unit, exe;

static long
read_cgroup(char *out, size_t room)
{
    size_t n = 0;
    long r = 0;
    int fd = (int)sys_call(SYS_openat, AT_FDCWD, "/proc/self/cgroup", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) {
        return fd;
    }
    while (n < room - 1 && (r = sys_call(SYS_read, fd, out + n, room - 1 - n, 0)) > 0) {
        n += (size_t)r;
    }
    (void)sys_close(fd);
    out[n] = '\0';
    return r < 0 ? r : (long)n;
}

static void
read_unit(char *out)
{
    char text[CGROUP_MAX];
    out[0] = '\0';
    if (read_cgroup(text, sizeof(text)) > 0) {
        mesh_unit_of(text, out, MESH_SERVICE_MAX);
    }
}

static void
read_exe(char *out)
{
    long n = sys_call(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", out, SHIM_CLIENT_TEXT - 1);
    out[n > 0 ? n : 0] = '\0';
}

static const char *
get_once(struct once *o, void (*fill)(char *), char *room)
{
    int was = EMPTY;
    if (atomic_load_explicit(&o->state, memory_order_acquire) == READY) {
        return o->text;
    }
    fill(room);
    if (!atomic_compare_exchange_strong(&o->state, &was, READING)) {
        return room;
    }
    memcpy(o->text, room, strlen(room) + 1);
    atomic_store_explicit(&o->state, READY, memory_order_release);
    return o->text;
}

const char *
shim_client_exe(char *room)
{
    return get_once(&exe, read_exe, room);
}

const char *
shim_client_unit(char *room)
{
    return get_once(&unit, read_unit, room);
}

void
shim_client_get(struct mesh_snap_client *out)
{
    char room[SHIM_CLIENT_TEXT];
    const char *id = shim_link_id(), *sa = strstr(id, "/sa/"), *of = shim_client_unit(room);
    *out = (struct mesh_snap_client){
        .service = sa ? sa + 4 : "",
        .unit = of == room ? "" : of,
        .uid = (uint32_t)sys_call(SYS_geteuid, 0, 0, 0, 0),
    };
}
