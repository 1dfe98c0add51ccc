/*
 * Faults of a disk, put between a program and its C library (LD_PRELOAD), for files below one folder alone.
 *
 *   FAULT_BELOW   which files: those whose path begins so
 *   FAULT_SYNC    while this file exists, fsync and fdatasync fail with EIO
 *   FAULT_ONCE    with it, the first failure removes that file, so that the next sync succeeds: as Linux does it, which
 *                 tells of a lost page once and then forgets it
 *   FAULT_FULL    while this file exists, writes fail with ENOSPC
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_below(int fd) {
    const char *prefix = getenv("FAULT_BELOW");
    char link[64], path[4096];
    if (prefix == NULL) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = '\0';
    return strncmp(path, prefix, strlen(prefix)) == 0;
}

static int is_set(const char *variable) {
    const char *file = getenv(variable);
    return file != NULL && access(file, F_OK) == 0;
}

static int sync_fails(int fd) {
    int before = errno;
    int fails = is_set("FAULT_SYNC") && is_below(fd);
    if (fails && getenv("FAULT_ONCE") != NULL) fails = unlink(getenv("FAULT_SYNC")) == 0;
    errno = fails ? EIO : before;
    return fails;
}

static int is_full(int fd) {
    int before = errno;
    int full = is_set("FAULT_FULL") && is_below(fd);
    errno = full ? ENOSPC : before;
    return full;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int fd) { return sync_fails(fd) ? -1 : REAL(fsync)(fd); }

int fdatasync(int fd) { return sync_fails(fd) ? -1 : REAL(fdatasync)(fd); }

ssize_t write(int fd, const void *bytes, size_t count) { return is_full(fd) ? -1 : REAL(write)(fd, bytes, count); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return is_full(fd) ? -1 : REAL(writev)(fd, parts, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    return is_full(fd) ? -1 : REAL(pwrite)(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    return is_full(fd) ? -1 : REAL(pwrite64)(fd, bytes, count, at);
}
