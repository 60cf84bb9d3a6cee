/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams on mesh connections: what stands in the slots of libc's stream tables (core/stdio.h), and
 * the exported calls that get past even those: dprintf writes by itself since glibc 2.37, freopen
 * and perror duplicate descriptors inside of libc. For a stream on anything else each slot costs a
 * load and a branch for each system call that it makes.
 *
 * Not here, because they need nothing more: fclose, fcloseall, setvbuf, getline, getdelim, scanf,
 * the wide functions: all come down to the slots. fmemopen, fopencookie and popen have tables of
 * their own. fopen's mode "m" has too, but falls back to the common ones at the first read of
 * something that cannot be mapped; only a stream closed before that would get past us, so fdopen
 * drops the "m".
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <wchar.h>

#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/core/stdio.h"
#include "shim/ready/ready.h"
#include "shim/sym/sym.h"

/* Names that no header declares without FORTIFY. */
int __dprintf_chk(int, int, const char *, ...);
int __vdprintf_chk(int, int, const char *, va_list);
int __vsnprintf_chk(char *, size_t, int, size_t, const char *, va_list);

static ssize_t
slot_read(FILE *fp, void *buf, ssize_t n)
{
    struct iovec v = {buf, (size_t)n};
    SYM_MESH(fp->_fileno, shim_io_read(fp->_fileno, &v, 1, SHIM_IO_FILE, NULL));
    SYM_BEFORE(fp->_fileno, POLLIN);
    return ((ssize_t(*)(FILE *, void *, ssize_t))shim_real_stdio.read)(fp, buf, n);
}

/* As libc's: all of it, or up to an error, which the stream remembers. */
static ssize_t
write_mesh(FILE *fp, const char *buf, ssize_t n)
{
    ssize_t done = 0;
    int saved = errno;
    while (done < n) {
        ssize_t r = write(fp->_fileno, buf + done, (size_t)(n - done));
        if (r < 0) {
            fp->_flags |= _IO_ERR_SEEN;
            saved = errno;
            break;
        }
        done += r;
    }
    if (fp->_offset >= 0) {
        fp->_offset += done;
    }
    sym_finish_if_ending();
    errno = saved;
    return done;
}

static ssize_t
slot_write(FILE *fp, const void *buf, ssize_t n)
{
    if (shim_fd_is_mesh(fp->_fileno)) {
        return write_mesh(fp, buf, n);
    }
    if (sym_is_last_stream(fp)) {
        sym_last_moment();
        return n;
    }
    return ((ssize_t(*)(FILE *, const void *, ssize_t))shim_real_stdio.write)(fp, buf, n);
}

/* libc's clean-up is written for a cancellation in read and write, not in close. */
static int
slot_close(FILE *fp)
{
    int old;
    if (shim_fd_word(fp->_fileno) == 0) {
        return ((int (*)(FILE *))shim_real_stdio.close)(fp);
    }
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    int r = close(fp->_fileno);
    (void)pthread_setcancelstate(old, NULL);
    sym_finish_if_ending();
    return r;
}

void
sym_stdio_init(void)
{
    static const struct shim_stdio_slots ours = {slot_read, slot_write, slot_close};
    shim_stdio_init(&ours);
}

/* fflush(NULL) holds libc's list of streams while our slots take the work lock. fork takes both too,
 * the work lock in our handler, the list afterwards: so here the list comes first. libc takes it
 * once more, which its lock allows, or not at all while there is one thread. */
static bool list_locked;

void
sym_stdio_before_fork(void)
{
    if (atomic_load(&shim_stdio_state) == SHIM_STDIO_CARRIED) {
        shim_real_stdio.list_lock();
        list_locked = true;
    }
}

void
sym_stdio_after_fork(bool child)
{
    if (list_locked) {
        list_locked = false;
        child ? shim_real_stdio.list_reset() : shim_real_stdio.list_unlock();
    }
}

/* libc flushes streams at the very end, and what a connection under way then gets has to be seen to
 * its end before. As there, a stream that another thread holds is not waited for. */
void
sym_stdio_flush(void)
{
    if (atomic_load(&shim_stdio_state) != SHIM_STDIO_CARRIED) {
        return;
    }
    shim_real_stdio.list_lock();
    for (FILE *fp = *shim_real_stdio.list; fp; fp = fp->_chain) {
        if (shim_fd_is_mesh(fp->_fileno) && ftrylockfile(fp) == 0) {
            if (__fpending(fp) > 0) {
                (void)fflush(fp);
            }
            funlockfile(fp);
        }
    }
    shim_real_stdio.list_unlock();
}

/* With libc's own table, if we know where libc has it. */
bool
sym_stdio_append(struct sym_stream *stream)
{
    const struct shim_real_stdio *io = &shim_real_stdio;
    const struct sym_stream *known = io->err;
    FILE **at;
    if (atomic_load(&shim_stdio_state) != SHIM_STDIO_CARRIED || !known ||
        (known->table != io->file && known->table != io->wfile)) {
        return false;
    }
    stream->table = io->file;
    io->list_lock();
    for (at = io->list; *at && *at != &stream->file; at = &(*at)->_chain) {
    }
    *at = &stream->file;
    io->list_unlock();
    return true;
}

int
sym_stdio_refuse(void)
{
    shim_stat_err(MESH_E_STDIO);
    shim_log_error("%s", mesh_err_text(MESH_E_STDIO));
    errno = mesh_err_errno(MESH_E_STDIO);
    return -1;
}

SHIM_EXPORT FILE *
fdopen(int fd, const char *mode)
{
    char plain[16] = "";
    if (!shim_fd_is_mesh(fd)) {
        return shim_real.fdopen(fd, mode);
    }
    if (shim_stdio_refused()) {
        (void)sym_stdio_refuse();
        return NULL;
    }
    for (size_t i = 0; i < sizeof(plain) - 1 && mode[i]; i++) {
        plain[i] = mode[i] == 'm' && i ? 'b' : mode[i]; /* "b" says nothing */
    }
    return shim_real.fdopen(fd, plain);
}

#define HIGH_FD 700 /* out of the way of programs that count on low numbers */

/* libc writes what the stream still holds, opens the file, and puts it on the number of the
 * connection or closes that: no wrapper of ours sees it. A duplicate keeps the connection until
 * then, so that its end is an orderly one. Without a free number freopen itself fails too. */
static FILE *
reopen(FILE *(*real)(const char *, const char *, FILE *), const char *path, const char *mode,
       FILE *fp)
{
    int saved = errno, keep = -1, fd = fp->_fileno;
    uint32_t word = shim_fd_word(fd);
    if (word == 0) {
        return real(path, mode, fp);
    }
    if (shim_fd_is_mesh(fd)) {
        keep = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
        keep = keep < 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : keep;
    }
    errno = saved;
    FILE *r = real(path, mode, fp);
    saved = errno;
    if (shim_fd_word(fd) == word) {
        if (shim_gate_any() && shim_fdtab_may_write()) {
            shim_gate_forget(fd);
        }
        shim_conn_replaced(fd);
    }
    if (keep >= 0) {
        (void)close(keep);
    }
    errno = saved;
    return r;
}

SHIM_EXPORT FILE *
freopen(const char *path, const char *mode, FILE *fp)
{
    return reopen(shim_real.freopen, path, mode, fp);
}

SHIM_EXPORT FILE *
freopen64(const char *path, const char *mode, FILE *fp)
{
    return reopen(shim_real.freopen64, path, mode, fp);
}

#define UNCHECKED (-1)

__attribute__((format(printf, 4, 0))) static int
format(char *buf, size_t room, int flag, const char *fmt, va_list ap, int no)
{
    va_list again;
    va_copy(again, ap);
    errno = no; /* %m */
    int n = flag == UNCHECKED ? vsnprintf(buf, room, fmt, again)
                              : __vsnprintf_chk(buf, room, flag, room, fmt, again);
    va_end(again);
    return n;
}

static int
write_all(int fd, const char *buf, int n)
{
    for (int done = 0; done < n;) {
        ssize_t r = write(fd, buf + done, (size_t)(n - done));
        if (r < 0) {
            return -1;
        }
        done += (int)r;
    }
    return n;
}

/* Nothing is taken from the program's allocator. */
__attribute__((format(printf, 3, 0))) static int
print(int fd, int flag, const char *fmt, va_list ap)
{
    char few[1024];
    int saved = errno, n = format(few, sizeof(few), flag, fmt, ap, saved), r;
    if (n < 0) {
        return -1;
    }
    errno = saved;
    if ((size_t)n < sizeof(few)) {
        return write_all(fd, few, n);
    }
    size_t room = (size_t)n + 1;
    char *many = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (many == MAP_FAILED) {
        return -1;
    }
    r = format(many, room, flag, fmt, ap, saved);
    r = r < 0 ? -1 : write_all(fd, many, r < n ? r : n);
    saved = errno;
    (void)munmap(many, room);
    errno = saved;
    return r;
}

SHIM_EXPORT __attribute__((format(printf, 2, 0))) int
vdprintf(int fd, const char *fmt, va_list ap)
{
    return shim_fd_is_mesh(fd) ? print(fd, UNCHECKED, fmt, ap) : shim_real.vdprintf(fd, fmt, ap);
}

SHIM_EXPORT __attribute__((format(printf, 2, 3))) int
dprintf(int fd, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int r = vdprintf(fd, fmt, ap);
    va_end(ap);
    return r;
}

SHIM_EXPORT __attribute__((format(printf, 3, 0))) int
__vdprintf_chk(int fd, int flag, const char *fmt, va_list ap)
{
    return shim_fd_is_mesh(fd) ? print(fd, flag, fmt, ap)
                               : shim_real.__vdprintf_chk(fd, flag, fmt, ap);
}

SHIM_EXPORT __attribute__((format(printf, 3, 4))) int
__dprintf_chk(int fd, int flag, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int r = __vdprintf_chk(fd, flag, fmt, ap);
    va_end(ap);
    return r;
}

/* While stderr has no orientation, libc writes through a stream on a duplicate of its descriptor,
 * that it must not get one by this call [perror(3)]. Of that duplicate we know nothing. */
SHIM_EXPORT void
perror(const char *s)
{
    int no = errno, fd = stderr->_fileno;
    char text[1024];
    if (!shim_fd_is_mesh(fd) || fwide(stderr, 0) != 0) {
        shim_real.perror(s);
        return;
    }
    const char *is = strerror_r(no, text, sizeof(text));
    if (dprintf(fd, "%s%s%s\n", s ? s : "", s && *s ? ": " : "", is) < 0) {
        stderr->_flags |= _IO_ERR_SEEN;
    }
}
