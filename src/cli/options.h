/*
 * The options of `curlew apps COMMAND`. Each command lists the options that it takes; others are refused by name.
 */
#pragma once

#include <stdbool.h>

#include "cli/change.h"

enum apps_option {
    OPTION_CONFIG = 1 << 0,
    OPTION_JSON = 1 << 1,
    OPTION_SHOW_SECRETS = 1 << 2,
    OPTION_ID = 1 << 3,
    OPTION_KEY = 1 << 4,
    OPTION_SECRET = 1 << 5,
    OPTION_SET = 1 << 6,
    OPTION_UNSET = 1 << 7,
    OPTION_OUTPUT = 1 << 8,
    OPTION_UPDATE = 1 << 9,
    OPTION_FROM = 1 << 10,
    OPTION_TO = 1 << 11,
    OPTION_DRY_RUN = 1 << 12,
    OPTION_HELP = 1 << 13,
};

struct apps_options {
    const char *argument; /* the id or file after the command; NULL: none */
    const char *config_file, *id, *key, *secret, *output, *from, *to;
    struct changes changes;
    bool json, show_secrets, update, dry_run, help;
};

/*
 * Parses the words after the command. `takes` lists its options, besides --help; with `takes_argument` it takes one
 * further word. False with an error for anything else. Dispose of `options` in any case.
 */
bool apps_options_parse(struct apps_options *options, char **arguments, unsigned takes, bool takes_argument,
                        struct error *error);
void apps_options_dispose(struct apps_options *options);
