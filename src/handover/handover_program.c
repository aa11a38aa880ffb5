#include "handover/handover_program.h"

#include <errno.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/core_dump.h"

#define END_MS 2000

static char *program_path; /* absolute; NULL: it was not found */
static char **program_arguments;

extern char **environ;

/* The path, from the root on. */
static char *absolute_path(struct slice path) {
    struct buffer absolute = {0};
    char *folder = path.length != 0 && path.data[0] == '/' ? NULL : getcwd(NULL, 0);

    if (folder != NULL)
        buffer_appendf(&absolute, "%s/", folder);
    buffer_append(&absolute, path);
    free(folder);
    return buffer_string(&absolute);
}

/* Looks a name up in PATH, as execvp does. NULL: it is not there. */
static char *find_program(const char *name) {
    const char *folders = getenv("PATH");

    for (const char *at = folders != NULL ? folders : "/bin:/usr/bin", *next; at != NULL; at = next) {
        size_t length = strcspn(at, ":");
        struct buffer path = {0};
        char *found;
        next = at[length] == ':' ? at + length + 1 : NULL;
        if (length != 0)
            buffer_appendf(&path, "%.*s/", (int)length, at);
        buffer_append_string(&path, name);
        found = absolute_path(buffer_slice(&path));
        buffer_dispose(&path);
        if (access(found, X_OK) == 0)
            return found;
        free(found);
    }
    return NULL;
}

void handover_program_remember(int count, char **arguments) {
    if (count == 0)
        return;
    program_path =
        strchr(arguments[0], '/') != NULL ? absolute_path(slice_of(arguments[0])) : find_program(arguments[0]);
    program_arguments = arguments;
}

/* The environment and one more variable; the caller frees the array. */
static char **environment_with(char *variable) {
    size_t count = 0;
    char **all;

    while (environ[count] != NULL)
        count++;
    all = alloc((count + 2) * sizeof *all);
    memcpy(all, environ, count * sizeof *all);
    all[count] = variable;
    all[count + 1] = NULL;
    return all;
}

/* What the new process does before it is the new program. */
struct launch {
    char **arguments, **environment;
    int reason; /* errno; 0: the program has started */
};

#define LAUNCH_STACK_BYTES (64 * 1024)

/* Runs in the new process, in the memory of this one, which waits. Only system calls are allowed. */
__attribute__((no_sanitize("address", "thread", "undefined"))) static int launch_program(void *context) {
    struct launch *launch = context;
    const struct sigaction standard = {.sa_handler = SIG_DFL};
    sigset_t blocked;

    /* The kernel copies the first 64 descriptors or so before it closes them; see workers_share_descriptors. */
    if (close_range(STDERR_FILENO + 1, UINT_MAX, CLOSE_RANGE_UNSHARE) == 0) {
        sigaction(SIGPIPE, &standard, NULL);
        sigemptyset(&blocked); /* what does not end a server waits until it is one */
        sigaddset(&blocked, SIGHUP);
        sigaddset(&blocked, SIGUSR1);
        sigaddset(&blocked, SIGUSR2);
        sigprocmask(SIG_SETMASK, &blocked, NULL);
        core_dump_restore_limit(); /* the new configuration may allow core dumps */
        execve(program_path, launch->arguments, launch->environment);
    }
    launch->reason = errno;
    _exit(127);
}

/* As posix_spawn, which would share all descriptors until the new program runs. Sets `*pidfd`. */
static pid_t spawn_program(struct launch *launch, int *pidfd) {
    static _Alignas(16) char stack[LAUNCH_STACK_BYTES];
    sigset_t all, before;
    pid_t pid;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler runs in the new process */
    pid = clone(launch_program, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_PIDFD | SIGCHLD,
                launch, pidfd);
    if (pid < 0)
        launch->reason = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid >= 0 && launch->reason != 0) {
        waitpid(pid, NULL, 0);
        close(*pidfd);
        pid = -1;
    }
    return pid;
}

pid_t handover_program_start(const char *variable, int *pidfd, struct error *error) {
    struct launch launch = {.arguments = program_arguments};
    char *own_variable, *first;
    pid_t pid;

    if (program_path == NULL) {
        error_set(error, "the program's file is not known: start the server by its path");
        return -1;
    }
    own_variable = alloc_copy(variable, strlen(variable));
    launch.environment = environment_with(own_variable);
    first = program_arguments[0];
    program_arguments[0] = program_path;
    pid = spawn_program(&launch, pidfd);
    program_arguments[0] = first;
    free((void *)launch.environment);
    free(own_variable);
    if (pid < 0)
        error_set(error, "cannot start %s: %s", program_path, strerror(launch.reason));
    return pid;
}

bool handover_program_has_ended(int pidfd) {
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};

    return poll(&ended, 1, 0) > 0;
}

/* Waits for the end, and says how it was. True if it was a good one. */
static bool await_program_end(int pidfd, int options, char *how, size_t size) {
    siginfo_t end = {.si_code = CLD_EXITED};

    while (waitid(P_PIDFD, (id_t)pidfd, &end, WEXITED | options) != 0 && errno == EINTR)
        continue;
    if (end.si_code == CLD_EXITED)
        snprintf(how, size, "has exited with code %d", end.si_status);
    else
        snprintf(how, size, "was ended by signal %d (%s)", end.si_status, strsignal(end.si_status));
    return end.si_code == CLD_EXITED && end.si_status == 0;
}

bool handover_program_has_failed(int pidfd, char *how, size_t size) {
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};

    return poll(&ended, 1, END_MS) > 0 && !await_program_end(pidfd, WNOWAIT, how, size);
}

void handover_program_end(int pidfd, char *how, size_t size) {
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};

    if (!handover_program_has_ended(pidfd)) {
        pidfd_send_signal(pidfd, SIGTERM, NULL, 0);
        if (poll(&ended, 1, END_MS) == 0)
            pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
    }
    await_program_end(pidfd, 0, how, size);
}
