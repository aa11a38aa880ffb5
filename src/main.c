/* The program `curlew`. */
#include <signal.h>

#include "base/core_dump.h"
#include "base/malloc_setup.h"
#include "command/command_line.h"
#include "handover/handover_program.h"

int main(int argc, char **argv) {
    malloc_setup();
    signal(SIGPIPE, SIG_IGN); /* writing to a closed connection is an error, not the end of the process */
    handover_program_remember(argc, argv);
    core_dump_forbid();
    return command_line_run(argv + (argc > 0));
}
