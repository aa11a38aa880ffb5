/* The program `curlew`. */
#include <signal.h>

#include "command/command_line.h"

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* writing to a closed connection is an error, not the end of the process */
    return command_line_run(argv + (argc > 0));
}
