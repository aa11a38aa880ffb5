#include "cli/upgrade_command.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/error.h"
#include "handover/process_name.h"

/* In which the server must have begun. */
#define BEGIN_MS 5000
#define LOOK_MS 5
#define NAME_SIZE 32

const char upgrade_usage[] =
    "usage: curlew upgrade [--pid PID]\n\n"
    "Lets a running server start its program anew, as SIGUSR2 does: the new process takes its listening sockets, and "
    "the\n"
    "old one ends when its clients have gone over. Waits until the new process serves.\n\n"
    "      --pid PID   the process of the server; without it, the only server of this user (of all users for root)\n"
    "  -h, --help      show this help\n\n"
    "Exit code: 0 if the new process serves, 1 if nothing has changed: the log of the server says why, 2 for a wrong\n"
    "command line.\n";

struct upgrade_options {
    pid_t pid; /* 0: not given */
    bool help;
};

/* What /proc says of a process. Its files can be read whoever owns the process, unless proc is mounted otherwise. */
struct process_status {
    char name[NAME_SIZE];
    unsigned user;
    int parent;
    int own_pid;               /* in the innermost namespace: 1 for the first process of a container; 0: not known */
    unsigned long long caught; /* signals that have a handler, the first one in bit 0 */
};

/* False if there is no such process. */
static bool read_process_status(pid_t pid, struct process_status *status) {
    char path[64], line[256];
    FILE *file;

    *status = (struct process_status){0};
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    while (fgets(line, sizeof line, file) != NULL) {
        char *value = strchr(line, '\t');
        if (value == NULL)
            continue;
        *value++ = '\0';
        if (strcmp(line, "Name:") == 0)
            snprintf(status->name, sizeof status->name, "%.*s", (int)strcspn(value, "\n"), value);
        else if (strcmp(line, "PPid:") == 0)
            status->parent = (int)strtol(value, NULL, 10);
        else if (strcmp(line, "NSpid:") == 0) /* of each namespace, the innermost last */
            status->own_pid = (int)strtol(strrchr(value, '\t') != NULL ? strrchr(value, '\t') : value, NULL, 10);
        else if (strcmp(line, "Uid:") == 0 && strchr(value, '\t') != NULL) /* real, effective, ... */
            status->user = (unsigned)strtoul(strchr(value, '\t'), NULL, 10);
        else if (strcmp(line, "SigCgt:") == 0)
            status->caught = strtoull(value, NULL, 16);
    }
    fclose(file);
    return status->name[0] != '\0';
}

/* True if SIGUSR2 is for this process, a server: it would end others of this name. */
static bool is_server(const struct process_status *status) {
    return (strcmp(status->name, PROCESS_SERVES) == 0 || strcmp(status->name, PROCESS_UPGRADES) == 0) &&
           (status->caught >> (SIGUSR2 - 1) & 1) != 0;
}

static bool is_own(const struct process_status *status) {
    return status->user == geteuid() || geteuid() == 0;
}

/* Calls `each` for every process. */
static void each_process(void (*each)(pid_t pid, const struct process_status *status, void *context), void *context) {
    DIR *folder = opendir("/proc");
    struct process_status status;
    struct dirent *entry;
    unsigned long long pid;

    if (folder == NULL)
        return;
    while ((entry = readdir(folder)) != NULL)
        if (slice_to_number(slice_of(entry->d_name), INT32_MAX, &pid) && read_process_status((pid_t)pid, &status))
            each((pid_t)pid, &status, context);
    closedir(folder);
}

struct servers {
    unsigned count;
    pid_t pid; /* of the last one */
    struct buffer list;
};

static void add_server(pid_t pid, const struct process_status *status, void *context) {
    struct servers *servers = context;

    if (!is_server(status) || !is_own(status))
        return;
    buffer_appendf(&servers->list, "%s%d", servers->count++ != 0 ? ", " : "", (int)pid);
    servers->pid = pid;
}

static bool find_server(pid_t *pid, struct error *error) {
    struct servers servers = {0};

    each_process(add_server, &servers);
    *pid = servers.pid;
    if (servers.count == 0)
        error_set(error, "no running server of %s was found", geteuid() == 0 ? "any user" : "this user");
    else if (servers.count > 1)
        error_set(error, "there are several servers, the processes %.*s: choose one with --pid",
                  SLICE_ARGS(buffer_slice(&servers.list)));
    buffer_dispose(&servers.list);
    return servers.count == 1;
}

struct child {
    pid_t parent, pid;
};

static void keep_child(pid_t pid, const struct process_status *status, void *context) {
    struct child *child = context;

    if (status->parent == child->parent)
        child->pid = pid;
}

static bool has_ended(int pidfd) {
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};

    return poll(&ended, 1, LOOK_MS) > 0;
}

/* Waits for the outcome. `child->pid` is the new process, 0 if it was not seen. */
static bool await_outcome(int pidfd, struct child *child, struct error *error) {
    uint64_t begin_ms = clock_monotonic_ms() + BEGIN_MS;
    struct process_status status;
    bool begun = false, ended;

    do {
        ended = has_ended(pidfd);
        if (!read_process_status(child->parent, &status) || ended)
            break;
        if (child->pid == 0 && strcmp(status.name, PROCESS_SERVES) != 0)
            each_process(keep_child, child);
        if (strcmp(status.name, PROCESS_ENDS) == 0)
            return true;
        if (begun && strcmp(status.name, PROCESS_UPGRADES) != 0)
            return error_set(error, "the upgrade has failed, and process %d goes on; its log says why",
                             (int)child->parent);
        begun = begun || strcmp(status.name, PROCESS_UPGRADES) == 0;
    } while (begun || clock_monotonic_ms() < begin_ms);
    if (!ended)
        return error_set(error,
                         "process %d goes on: its new process ended at once, or none was started; its log says why",
                         (int)child->parent);
    return (child->pid != 0 && read_process_status(child->pid, &status) && is_server(&status)) ||
           error_set(error, "process %d has ended, and no other one serves in its place", (int)child->parent);
}

static bool upgrade_server(struct child *child, struct error *error) {
    pid_t pid = child->parent;
    int pidfd = pidfd_open(pid, 0);
    struct process_status status;
    bool good;

    if (pidfd < 0 || !read_process_status(pid, &status))
        good = error_set(error, "there is no process %d", (int)pid);
    else if (!is_server(&status))
        good = error_set(error, "process %d (%s) is not a running server that knows how to upgrade itself", (int)pid,
                         status.name);
    else if (!is_own(&status))
        good = error_set(error, "process %d belongs to another user", (int)pid);
    else if (pid == 1 || status.own_pid == 1)
        good = error_set(error,
                         "process %d is process 1 of its container, which would end with it; start a new container, "
                         "or restart this one",
                         (int)pid);
    else if (strcmp(status.name, PROCESS_UPGRADES) == 0)
        good = error_set(error, "process %d upgrades itself already", (int)pid);
    else if (pidfd_send_signal(pidfd, SIGUSR2, NULL, 0) != 0)
        good = error_set(error, "cannot send a signal to process %d: %s", (int)pid, strerror(errno));
    else
        good = await_outcome(pidfd, child, error);
    if (pidfd >= 0)
        close(pidfd);
    return good;
}

static bool parse_upgrade_options(char **arguments, struct upgrade_options *options, struct error *error) {
    unsigned long long pid;

    for (; *arguments != NULL; arguments++) {
        const char *argument = *arguments, *value = NULL;
        if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
            options->help = true;
            continue;
        }
        if (strncmp(argument, "--pid=", 6) == 0)
            value = argument + 6;
        else if (strcmp(argument, "--pid") == 0)
            value = arguments[1] != NULL ? *++arguments : "";
        else
            return error_set(error, "unexpected argument: %s", argument);
        if (!slice_to_number(slice_of(value), INT32_MAX, &pid) || pid == 0)
            return error_set(error, "--pid must be followed by the number of a process");
        options->pid = (pid_t)pid;
    }
    return true;
}

int upgrade_run(char **arguments) {
    struct upgrade_options options = {0};
    struct child child = {0};
    struct error error;

    if (!parse_upgrade_options(arguments, &options, &error)) {
        fprintf(stderr, "curlew: %s\ntry `curlew upgrade --help`\n", error.text);
        return 2;
    }
    if (options.help) {
        fputs(upgrade_usage, stdout);
        return 0;
    }
    child.parent = options.pid;
    if ((options.pid == 0 && !find_server(&child.parent, &error)) || !upgrade_server(&child, &error)) {
        fprintf(stderr, "curlew: %s\n", error.text);
        return 1;
    }
    if (child.pid != 0)
        printf("process %d serves in place of process %d\n", (int)child.pid, (int)child.parent);
    else
        printf("a new process serves in place of process %d\n", (int)child.parent);
    return 0;
}
