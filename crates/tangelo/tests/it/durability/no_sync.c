/* Preloaded into a server under test: fsync and fdatasync of files whose path matches $NO_SYNC succeed and do
 * nothing, as with `synchronous` OFF, or without the blob's fsync. The product itself has no such switch. */
#define _GNU_SOURCE
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_left_out(int fd) {
    const char *pattern = getenv("NO_SYNC");
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (pattern == NULL || length < 0)
        return 0;
    path[length] = 0;
    return fnmatch(pattern, path, 0) == 0;
}

int fsync(int fd) { return is_left_out(fd) ? 0 : (int)syscall(SYS_fsync, fd); }

int fdatasync(int fd) { return is_left_out(fd) ? 0 : (int)syscall(SYS_fdatasync, fd); }
