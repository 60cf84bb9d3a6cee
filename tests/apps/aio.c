/* SPDX-License-Identifier: Apache-2.0
 *
 * aio: asynchronous reading and writing, by libc's threads and by the kernel. On a file it works. On a
 * TCP socket it may work or be refused; what is refused says so, at once or by aio_error, and nothing
 * of it is on the wire: the peer then sees only what was written by write, unharmed.
 */
/* run: modes thread fork */
/* run: notsan */
#include "app.h"
#include <aio.h>
#include <linux/aio_abi.h>

#define N 3000

static void
wait_for(struct aiocb *cb)
{
    const struct aiocb *list[1] = {cb};
    while (aio_error(cb) == EINPROGRESS)
        aio_suspend(list, 1, NULL);
}

/* Bytes that went, 0 when it was refused. */
static size_t
write_by_libc(int fd, const char *b, size_t n)
{
    struct aiocb cb = {.aio_fildes = fd, .aio_buf = (void *)(uintptr_t)b, .aio_nbytes = n};
    if (aio_write(&cb) < 0)
        return 0;
    wait_for(&cb);
    ssize_t r = aio_return(&cb);
    return r > 0 ? (size_t)r : 0;
}

static size_t
write_by_list(int fd, int file, const char *b, size_t n)
{
    struct aiocb cb = {.aio_fildes = fd, .aio_lio_opcode = LIO_WRITE,
                       .aio_buf = (void *)(uintptr_t)b, .aio_nbytes = n};
    struct aiocb other = cb;
    other.aio_fildes = file;
    other.aio_offset = 100;
    struct aiocb *list[3] = {&cb, NULL, &other};
    int r = lio_listio(LIO_WAIT, list, 3, NULL);
    int e = aio_error(&cb);
    say("one answer %d\n", (r == 0 && e == 0) || (r < 0 && errno == EIO && e == ENOSYS));
    say("the file's: %s %zd\n", aio_error(&other) ? "failed" : "done", aio_return(&other));
    return e == 0 ? (size_t)aio_return(&cb) : 0;
}

static size_t
write_by_kernel(int fd, const char *b, size_t n)
{
    aio_context_t ctx = 0;
    struct io_event ev;
    struct iocb cb = {.aio_fildes = (unsigned)fd, .aio_lio_opcode = IOCB_CMD_PWRITE,
                      .aio_buf = (uintptr_t)b, .aio_nbytes = n}, *list[1] = {&cb};
    CK(syscall(SYS_io_setup, 4, &ctx));
    size_t went = 0;
    if (syscall(SYS_io_submit, ctx, 1, list) == 1) {
        MUST(syscall(SYS_io_getevents, ctx, 1, 1, &ev, NULL) == 1);
        went = ev.res > 0 ? (size_t)ev.res : 0;
    }
    syscall(SYS_io_destroy, ctx);
    return went;
}

static void
client(int fd)
{
    char b[N], path[] = "/tmp/aio.XXXXXX";
    int file = (int)CK(mkstemp(path));
    size_t done = 0;
    unlink(path);
    app_fill(b, N, 0);
    say("file %zu\n", write_by_libc(file, b, 50));
    done += write_by_libc(fd, b, 500);
    app_put(fd, b + done, 1000 - done);
    done = 1000;
    done += write_by_list(fd, file, b + done, 500);
    app_put(fd, b + done, 2000 - done);
    done = 2000;
    done += write_by_kernel(fd, b + done, 500);
    app_put(fd, b + done, N - done);
    app_arrived(fd, 10);
    struct aiocb cb = {.aio_fildes = fd, .aio_buf = b, .aio_nbytes = 10};
    size_t got = 0;
    if (aio_read(&cb) == 0) {
        wait_for(&cb);
        got = (size_t)aio_return(&cb);
    }
    got += app_get(fd, b + got, 10 - got);
    say("match %zu\n", app_match(b, got, 0));
    close(file);
}

static void
server(int fd)
{
    char b[N];
    size_t n = app_get(fd, b, N);
    say("match %zu of %zu\n", app_match(b, n, 0), n);
    app_put(fd, b, 10);
    RES(read(fd, b, 1));
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_talk("aio", server, client);
    return 0;
}
