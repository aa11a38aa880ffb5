/*
 * The options of `curlew apps COMMAND`, `listen` and `publish`. Each command lists the options that it takes; others
 * are refused by name.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "cli/change.h"

enum cli_option {
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
    OPTION_URL = 1 << 14,
    OPTION_INSECURE = 1 << 15,
    OPTION_FILTER = 1 << 16,
    OPTION_LIMIT = 1 << 17,
    OPTION_SORT = 1 << 18,
    OPTION_COLUMNS = 1 << 19,
    OPTION_APP = 1 << 20,
    OPTION_OVERLAP = 1 << 21,
    OPTION_REVOKE_PREVIOUS = 1 << 22,
    OPTION_EVENT = 1 << 23,
    OPTION_WEBHOOK = 1 << 24,
    OPTION_DECRYPT = 1 << 25,
    OPTION_ORIGIN = 1 << 26,
    OPTION_TAGS = 1 << 27,
};

struct cli_options {
    char **arguments; /* the words that are not options, then NULL; owned, the words are not */
    size_t argument_count;
    const char *config_file, *app, *id, *key, *secret, *output, *from, *to, *url, *origin;
    const char *filter, *limit, *sort, *columns, *event, *webhook, *overlap, *tags;
    struct changes changes;
    bool json, show_secrets, update, dry_run, insecure, revoke_previous, decrypt, help;
};

/*
 * Parses the words after the command. `takes` lists its options, besides --help; it takes at most `most_arguments`
 * further words. False with an error for anything else. Dispose of `options` in any case.
 */
bool cli_options_parse(struct cli_options *options, char **arguments, unsigned takes, size_t most_arguments,
                       struct error *error);
/* The name of one of the options, with its hyphens; NULL if there is no such bit. */
const char *cli_option_name(unsigned bit);

void cli_options_dispose(struct cli_options *options);
