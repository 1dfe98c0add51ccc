/*
 * Faults of a disk, put between a program and its C library (LD_PRELOAD), for files below one folder alone.
 *
 *   FAULT_BELOW   which files: those whose path begins so
 *   FAULT_SYNC    while this file exists, fsync and fdatasync fail with EIO
 *   FAULT_ONCE    with it, the first failure removes that file, so that the next sync succeeds: as Linux does it, which
 *                 tells of a lost page once and then forgets it
 *   FAULT_HANG    while this file exists, fsync and fdatasync do not return
 *   FAULT_FULL    while this file exists, writes that would make a file longer fail with ENOSPC. Not those to SQLite's
 *                 shared memory: a start cuts it and has it grow into the room it just gave back
 *   FAULT_SYNCED  this file gets the path of every file and folder that is synced, wherever it lies, one a line
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* The path of an open file, or nothing. */
static const char *path_of(int fd, char path[4096]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 4095);
    path[length < 0 ? 0 : length] = '\0';
    return path;
}

static int is_below(int fd) {
    const char *prefix = getenv("FAULT_BELOW");
    char path[4096];
    return prefix != NULL && strncmp(path_of(fd, path), prefix, strlen(prefix)) == 0;
}

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), behind = strlen(end);
    return length >= behind && strcmp(text + length - behind, end) == 0;
}

static int is_set(const char *variable) {
    const char *file = getenv(variable);
    return file != NULL && access(file, F_OK) == 0;
}

static int sync_fails(int fd) {
    int before = errno;
    while (is_set("FAULT_HANG") && is_below(fd)) usleep(10000);
    int fails = is_set("FAULT_SYNC") && is_below(fd);
    if (fails && getenv("FAULT_ONCE") != NULL) fails = unlink(getenv("FAULT_SYNC")) == 0;
    errno = fails ? EIO : before;
    return fails;
}

/* Whether there is no room for bytes that end there; -1 is behind the file's end. */
static int is_full(int fd, off_t end) {
    int before = errno;
    char path[4096];
    struct stat file;
    int full = is_set("FAULT_FULL") && is_below(fd) && !ends_with(path_of(fd, path), "-shm") &&
               (end < 0 || (fstat(fd, &file) == 0 && end > file.st_size));
    errno = full ? ENOSPC : before;
    return full;
}

/* Tells of a sync that ended. */
static int told(int fd, int result) {
    int before = errno;
    const char *file = getenv("FAULT_SYNCED");
    int log = file == NULL || result != 0 ? -1 : open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    char path[4096];
    if (log >= 0) {
        dprintf(log, "%s\n", path_of(fd, path));
        close(log);
    }
    errno = before;
    return result;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int fd) { return sync_fails(fd) ? -1 : told(fd, REAL(fsync)(fd)); }

int fdatasync(int fd) { return sync_fails(fd) ? -1 : told(fd, REAL(fdatasync)(fd)); }

ssize_t write(int fd, const void *bytes, size_t count) { return is_full(fd, -1) ? -1 : REAL(write)(fd, bytes, count); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return is_full(fd, -1) ? -1 : REAL(writev)(fd, parts, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    return is_full(fd, at + count) ? -1 : REAL(pwrite)(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    return is_full(fd, at + count) ? -1 : REAL(pwrite64)(fd, bytes, count, at);
}
