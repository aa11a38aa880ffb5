#include "app_manager/cache/snapshot_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_own_file(int fd, off_t *length, struct error *error) {
    struct stat status;

    if (fstat(fd, &status) != 0)
        return error_set(error, "%s", strerror(errno));
    *length = status.st_size;
    if (!S_ISREG(status.st_mode))
        return error_set(error, "it is no regular file");
    if (status.st_uid != geteuid() || (status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return error_set(error,
                         "it belongs to user %u with the mode %04o: it must belong to the server's user (%u), with the "
                         "mode 0600",
                         (unsigned)status.st_uid, (unsigned)(status.st_mode & 07777), (unsigned)geteuid());
    return status.st_size <= SNAPSHOT_MAX_BYTES ||
           error_set(error, "it is longer than %d MB", SNAPSHOT_MAX_BYTES / (1024 * 1024));
}

static bool read_snapshot_bytes(int fd, size_t length, struct buffer *file, struct error *error) {
    if (!buffer_try_reserve(file, length + 1))
        return error_set(error, "there is no memory for it");
    while (file->length < length) {
        ssize_t got = read(fd, file->data + file->length, length - file->length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return error_set(error, "%s", got < 0 ? strerror(errno) : "it became shorter while it was read");
        file->length += (size_t)got;
    }
    return true;
}

enum snapshot_read snapshot_file_read(const char *path, struct buffer *file, struct error *error) {
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    off_t length = 0;
    bool good;

    if (fd < 0 && errno == ENOENT)
        return SNAPSHOT_MISSING;
    if (fd < 0) {
        error_set(error, "%s", errno == ELOOP ? "it is a symbolic link" : strerror(errno));
        return SNAPSHOT_REFUSED;
    }
    good = is_own_file(fd, &length, error) && read_snapshot_bytes(fd, (size_t)length, file, error);
    close(fd);
    return good ? SNAPSHOT_READ : SNAPSHOT_REFUSED;
}

static bool write_snapshot_bytes(int fd, struct slice file) {
    while (file.length != 0) {
        ssize_t written = write(fd, file.data, file.length);
        if (written < 0 && errno != EINTR)
            return false;
        file = slice_skip(file, written > 0 ? (size_t)written : 0);
    }
    return fsync(fd) == 0;
}

static int open_snapshot_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    char folder[4096] = ".";

    if (slash != NULL)
        snprintf(folder, sizeof folder, "%.*s", slash != path ? (int)(slash - path) : 1, path);
    return open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Makes the rename last, as far as the file system lets us. */
static void sync_folder(const char *path) {
    int fd = open_snapshot_folder(path);

    if (fd < 0)
        return;
    fsync(fd);
    close(fd);
}

bool snapshot_file_write(const char *path, struct slice file, struct error *error) {
    char temporary[4096];
    bool written;
    int fd;

    /* During an upgrade two processes write. */
    if (snprintf(temporary, sizeof temporary, "%s.%ld", path, (long)getpid()) >= (int)sizeof temporary)
        return error_set(error, "the path is too long");
    unlink(temporary);
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0)
        return error_set(error, "%s: %s", temporary, strerror(errno));
    written = fchmod(fd, S_IRUSR | S_IWUSR) == 0 && write_snapshot_bytes(fd, file);
    if (close(fd) != 0)
        written = false;
    if (written && rename(temporary, path) == 0) {
        sync_folder(path);
        return true;
    }
    error_set(error, "%s: %s", temporary, strerror(errno));
    unlink(temporary);
    return false;
}

/* True for the name of the snapshot, a point and the number of a process that has ended. */
static bool is_left_behind(const char *name, const char *snapshot_name) {
    size_t length = strlen(snapshot_name);
    unsigned long long pid;

    return strncmp(name, snapshot_name, length) == 0 && name[length] == '.' &&
           slice_to_number(slice_of(name + length + 1), INT32_MAX, &pid) && pid != 0 && kill((pid_t)pid, 0) != 0 &&
           errno == ESRCH;
}

void snapshot_file_clean(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    int fd = open_snapshot_folder(path);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (folder == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while ((entry = readdir(folder)) != NULL)
        if (is_left_behind(entry->d_name, name))
            unlinkat(fd, entry->d_name, 0);
    closedir(folder);
}
