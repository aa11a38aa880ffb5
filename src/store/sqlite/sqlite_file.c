#include "store/sqlite/sqlite_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define USER_NAME_BYTES 64

bool sqlite_folder_exists(const char *path, struct error *error) {
    const char *slash = strrchr(path, '/');
    size_t length = slash != NULL ? (size_t)(slash - path) : 0;
    char folder[4096];
    struct stat status;

    if (length == 0 || length >= sizeof folder)
        return true;
    memcpy(folder, path, length);
    folder[length] = '\0';
    if (stat(folder, &status) == 0 ? S_ISDIR(status.st_mode) : errno != ENOENT && errno != ENOTDIR)
        return true;
    return error_set(error, "database.sqlite.path %s: the folder %s does not exist; create it for the server's user",
                     path, folder);
}

void sqlite_create_private_file(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);

    if (fd >= 0)
        close(fd); /* SQLite reports every failure when it opens the file */
}

static void write_user_name(uid_t user, char name[USER_NAME_BYTES]) {
    struct passwd entry, *found = NULL;
    char memory[4096];

    if (getpwuid_r(user, &entry, memory, sizeof memory, &found) == 0 && found != NULL)
        snprintf(name, USER_NAME_BYTES, "%s", entry.pw_name);
    else
        snprintf(name, USER_NAME_BYTES, "#%u", (unsigned)user);
}

void sqlite_warn_of_file(const char *path) {
    struct stat status;
    struct error error;

    if (stat(path, &status) != 0)
        return;
    if ((status.st_mode & S_IROTH) != 0)
        log_warning("app",
                    "database.sqlite.path %s holds the secrets of all apps, and every user of this machine can read "
                    "it: chmod 600 it, and the files beside it",
                    path);
    if (sqlite_explain_readonly(path, &error))
        log_warning("app", "%s", error.text);
}

bool sqlite_explain_readonly(const char *path, struct error *error) {
    char owner[USER_NAME_BYTES], user[USER_NAME_BYTES];
    struct stat status;

    if (stat(path, &status) != 0 || !S_ISREG(status.st_mode) || access(path, W_OK) == 0)
        return false;
    write_user_name(status.st_uid, owner);
    write_user_name(geteuid(), user);
    error_set(
        error,
        "database.sqlite.path %s belongs to %s, and %s may not write it, so changes of apps will be refused: give "
        "it to %s (chown), and run `curlew apps` as that user (sudo -u %s curlew apps ...)",
        path, owner, user, user, user);
    return true;
}

bool sqlite_explain_owner(const char *path, struct error *error) {
    char owner[USER_NAME_BYTES], user[USER_NAME_BYTES];
    struct stat status;

    if (stat(path, &status) != 0 || !S_ISREG(status.st_mode) || access(path, R_OK) == 0)
        return false;
    write_user_name(status.st_uid, owner);
    write_user_name(geteuid(), user);
    error_set(error,
              "database.sqlite.path %s belongs to %s, and %s may not read it: run `curlew apps` as the server's user "
              "(sudo -u USER curlew apps ...), and give that user the file (chown)",
              path, owner, user);
    return true;
}
