#include "cli/output.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/print.h"

enum cli_exit output_refuse_usage(const char *command, bool json, const char *text) {
    print_failure(json, text);
    if (!json)
        fprintf(stderr, "try `curlew %s --help`\n", command);
    return CLI_MISUSED;
}

/* SIGPIPE is ignored elsewhere, since a lost connection to a store is an error and not the end. */
static void end_without_reader(void) {
    struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};

    if (poll(&output, 1, 0) != 1 || (output.revents & (POLLERR | POLLHUP)) == 0)
        return;
    signal(SIGPIPE, SIG_DFL);
    raise(SIGPIPE);
}

bool output_flush(bool json) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    end_without_reader();
    print_failure(json, "cannot write to standard output; the output is incomplete");
    return false;
}

enum cli_exit output_finish(bool json, enum cli_exit code) {
    if (output_flush(json))
        return code;
    return code != CLI_DONE ? code : CLI_NOT_DONE;
}
