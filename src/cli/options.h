/*
 * The options of `curlew apps COMMAND`. Each command says which of them it takes; anything else is refused by name.
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
    const char *argument; /* the id or the file that follows the command; NULL: none */
    const char *config_file, *id, *key, *secret, *output, *from, *to;
    struct changes changes;
    bool json, show_secrets, update, dry_run, help;
};

/*
 * Reads what follows the command. `takes` are the options that it has, --help always being one; with `takes_argument`
 * one word that is no option. False, with an error, for what cannot be understood. Dispose of `options` in any case.
 */
bool apps_options_parse(struct apps_options *options, char **arguments, unsigned takes, bool takes_argument,
                        struct error *error);
void apps_options_dispose(struct apps_options *options);
