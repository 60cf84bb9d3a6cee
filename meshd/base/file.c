/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_file: see file.h.
 */
#include "meshd/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meshd/base/log.h"

bool
meshd_file_has_blocks(int fd, size_t at, size_t n)
{
    int r;
    do {
        r = fallocate(fd, 0, (off_t)at, (off_t)n);
    } while (r != 0 && errno == EINTR);
    return r == 0 || errno == EOPNOTSUPP || errno == ENOSYS;
}

bool
meshd_path(char *out, size_t cap, const char *dir, const char *name)
{
    int n = snprintf(out, cap, "%s/%s", dir, name);
    return n > 0 && (size_t)n < cap;
}

static int
make_one(const char *path, mode_t mode)
{
    struct stat st;
    if (mkdir(path, mode) == 0) {
        return chmod(path, mode); /* whatever the umask is */
    }
    if (errno != EEXIST || stat(path, &st) != 0) {
        return -1;
    }
    if (!S_ISDIR(st.st_mode)) {
        errno = ENOTDIR;
        return -1;
    }
    return 0;
}

enum mesh_err
meshd_dir_make(const char *path, mode_t mode)
{
    char part[PATH_MAX];
    if (strlen(path) >= sizeof(part) || !*path) {
        return MESH_E_CONFIG;
    }
    memcpy(part, path, strlen(path) + 1);
    for (char *p = strchr(part + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        int r = make_one(part, 0755);
        *p = '/';
        if (r != 0) {
            break; /* the last one's error tells more */
        }
    }
    if (make_one(part, mode) != 0) {
        log_error("%s: %s", path, strerror(errno));
        return MESH_E_SYSTEM;
    }
    return MESH_OK;
}

enum mesh_err
meshd_dir_lock(const char *dir)
{
    char path[PATH_MAX];
    if (!meshd_path(path, sizeof(path), dir, "lock")) {
        return MESH_E_CONFIG;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        log_error("%s: %s", path, strerror(errno));
        return MESH_E_SYSTEM;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        log_error("%s: another meshd runs here", dir);
        close(fd);
        return MESH_E_CONFIG;
    }
    return MESH_OK; /* fd stays open: it is the lock */
}

static ssize_t
read_all(int fd, char *out, size_t cap)
{
    size_t got = 0;
    while (got < cap) {
        ssize_t r = read(fd, out + got, cap - got);
        if (r == 0) {
            break;
        }
        if (r < 0 && errno != EINTR) {
            return -1;
        }
        got += r > 0 ? (size_t)r : 0;
    }
    return (ssize_t)got;
}

enum mesh_err
meshd_file_read(const char *path, size_t most, char **data, size_t *len)
{
    enum mesh_err e = MESH_E_SYSTEM;
    char *buf = NULL;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        goto out;
    }
    if (st.st_size < 0 || (size_t)st.st_size > most) {
        errno = EFBIG;
        goto out;
    }
    buf = calloc(1, (size_t)st.st_size + 1);
    if (!buf) {
        e = MESH_E_NO_MEMORY;
        goto out;
    }
    ssize_t n = read_all(fd, buf, (size_t)st.st_size);
    if (n < 0) {
        goto out;
    }
    *data = buf;
    *len = (size_t)n;
    buf = NULL;
    e = MESH_OK;
out:;
    int saved = errno;
    free(buf);
    if (fd >= 0) {
        close(fd);
    }
    errno = saved;
    return e;
}

static int
write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t r = write(fd, p, n);
        if (r < 0 && errno != EINTR) {
            return -1;
        }
        p += r > 0 ? r : 0;
        n -= r > 0 ? (size_t)r : 0;
    }
    return 0;
}

enum mesh_err
meshd_file_write(const char *path, const void *data, size_t len, mode_t mode, bool durable)
{
    char tmp[PATH_MAX];
    int n = snprintf(tmp, sizeof(tmp), "%s.new", path);
    if (n < 0 || (size_t)n >= sizeof(tmp)) {
        return MESH_E_CONFIG;
    }
    unlink(tmp);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0) {
        log_error("%s: %s", tmp, strerror(errno));
        return MESH_E_SYSTEM;
    }
    int r = fchmod(fd, mode) == 0 ? write_all(fd, data, len) : -1;
    if (r == 0 && durable) {
        r = fsync(fd);
    }
    close(fd);
    if (r != 0 || rename(tmp, path) != 0) {
        log_error("%s: %s", path, strerror(errno));
        unlink(tmp);
        return MESH_E_SYSTEM;
    }
    return MESH_OK;
}
