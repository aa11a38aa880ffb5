/*
 * What a command says about itself. Its `--help` prints these texts, and the manual pages and the completions of shells
 * are generated from them (packaging/reference/).
 */
#pragma once

#include <stddef.h>

/*
 * `usage` has lines that begin with "usage: ", paragraphs, and a list of options. A line of the list has two blanks,
 * the option, at least two blanks, and its description, which may continue on lines that are indented further.
 */
struct command_text {
    const char *name, *summary;
    const char *usage;
    const char *ending; /* printed behind `usage`; may be empty */
    unsigned takes;     /* of commands of `apps`: bits of enum cli_option */
};
