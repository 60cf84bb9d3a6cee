/* SPDX-License-Identifier: Apache-2.0
 *
 * Exported symbols: asynchronous I/O [aio(7)]. libc's threads read and write behind our back, with the
 * offset ignored on a socket: plaintext on the wire. So on a connection of the mesh it is not there,
 * and says so (ENOSYS), as on systems without it. The kernel's own (io_submit) takes such a request for
 * one that the file does not support (EINVAL); libaio has that call under this name and returns -errno.
 */
#include <aio.h>
#include <alloca.h>
#include <linux/aio_abi.h>

#include "shim/core/env.h"
#include "shim/sym/sym.h"

_Static_assert(sizeof(struct aiocb) == sizeof(struct aiocb64), "one layout for both");

static bool
is_refused(int fd)
{
    return shim_env.on && shim_fd_is_mesh(fd) && shim_conn_slot(fd);
}

SHIM_EXPORT int
aio_read(struct aiocb *cb)
{
    if (is_refused(cb->aio_fildes)) {
        errno = ENOSYS;
        return -1;
    }
    return shim_real.aio_read(cb);
}

SHIM_EXPORT int
aio_write(struct aiocb *cb)
{
    if (is_refused(cb->aio_fildes)) {
        errno = ENOSYS;
        return -1;
    }
    return shim_real.aio_write(cb);
}

SHIM_EXPORT int
aio_read64(struct aiocb64 *cb)
{
    return aio_read((struct aiocb *)cb);
}

SHIM_EXPORT int
aio_write64(struct aiocb64 *cb)
{
    return aio_write((struct aiocb *)cb);
}

/* More than any program begins at once: the others must fit the stack. */
#define LIST_MAX 4096

static bool
is_refused_entry(const struct aiocb *cb)
{
    return cb && cb->aio_lio_opcode != LIO_NOP && is_refused(cb->aio_fildes);
}

/* libc gets the list without the refused ones. Those have failed, which is EIO for the call as a whole
 * [lio_listio(3)]. */
SHIM_EXPORT int
lio_listio(int mode, struct aiocb *const list[], int n, struct sigevent *event)
{
    int refused = 0;
    for (int i = 0; i < n; i++) {
        refused += is_refused_entry(list[i]);
    }
    if (refused == 0) {
        return shim_real.lio_listio(mode, list, n, event);
    }
    if (n > LIST_MAX) {
        errno = EAGAIN; /* nothing was begun */
        return -1;
    }
    struct aiocb **rest = alloca((size_t)n * sizeof(*rest));
    for (int i = 0; i < n; i++) {
        rest[i] = is_refused_entry(list[i]) ? NULL : list[i];
        if (list[i] && !rest[i]) {
            list[i]->__error_code = ENOSYS;
            list[i]->__return_value = -1;
        }
    }
    if (shim_real.lio_listio(mode, rest, n, event) == 0) {
        errno = EIO;
    }
    return -1;
}

SHIM_EXPORT int
lio_listio64(int mode, struct aiocb64 *const list[], int n, struct sigevent *event)
{
    return lio_listio(mode, (struct aiocb *const *)(uintptr_t)list, n, event);
}

/* The kernel begins what stands before the first that it does not like. */
long
sym_io_submit(unsigned long ctx, long n, struct iocb **list)
{
    long good = 0;
    while (good < n && (list[good]->aio_lio_opcode == IOCB_CMD_POLL ||
                        !is_refused((int)list[good]->aio_fildes))) {
        good++;
    }
    return good == 0 && n > 0 ? -EINVAL : sys_call(SYS_io_submit, ctx, good, list, 0);
}

SHIM_EXPORT int
io_submit(unsigned long ctx, long n, struct iocb **list)
{
    return (int)sym_io_submit(ctx, n, list);
}
