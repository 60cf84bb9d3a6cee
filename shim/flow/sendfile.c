/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_io_sendfile: sendfile(2) from a file to a mesh connection, by reading and writing.
 */
#include <errno.h>
#include <sys/stat.h>

#include "shim/flow/io.h"
#include "shim/flow/io_int.h"
#include "shim/flow/ksplice.h"
#include "shim/real.h"
#include "shim/tls/tls.h"

/* sendfile: in chunks through a scratch buffer; the file's position or *off moves by what went. */
ssize_t
shim_io_sendfile(int fd, int in, off_t *off, size_t n)
{
    size_t total = 0;
    off_t pos = off ? *off : 0;
    struct stat st;
    if (shim_ksplice_may(fd)) {
        return shim_ksplice_sendfile(fd, in, off, n);
    }
    if (sys_call(SYS_fstat, in, &st, 0, 0) != 0) {
        return -EBADF;
    }
    if (off && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode))) {
        return -ESPIPE;
    }
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        return -EINVAL; /* as for what cannot be mapped [sendfile(2)] */
    }
    uint8_t *buf = shim_scratch_get();
    ssize_t r = buf ? 0 : -ENOMEM;
    while (r >= 0 && total < n && !(total >= SHIM_IO_SLICE && shim_io_is_sliced(fd, 0))) {
        size_t want = n - total < 4 * SHIM_REC_PLAIN_MAX ? n - total : 4 * SHIM_REC_PLAIN_MAX;
        long got = off ? sys_call(SYS_pread64, in, buf, want, pos)
                       : sys_call(SYS_read, in, buf, want, 0);
        if (got <= 0) {
            r = total ? 0 : got;
            break;
        }
        struct iovec v = {buf, (size_t)got};
        r = shim_io_write(fd, &v, 1, 0);
        size_t went = r > 0 ? (size_t)r : 0;
        if (!off && went < (size_t)got) { /* give back what was read and not sent */
            (void)sys_call(SYS_lseek, in, (long)went - got, SEEK_CUR, 0);
        }
        pos += (off_t)went;
        total += went;
        if (went < (size_t)got) {
            break;
        }
    }
    if (buf) {
        shim_scratch_put(buf);
    }
    if (off && total) {
        *off = pos;
    }
    return total ? (ssize_t)total : r;
}
