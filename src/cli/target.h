/*
 * The server and the app that `listen` and `publish` use: named by --url, --app, --id, --key and --secret, and what
 * these do not name from the configuration.
 */
#pragma once

#include "base/error.h"
#include "cli/cli_store.h"
#include "cli/options.h"
#include "client/server_address.h"

#define TARGET_OPTIONS                                                                                                 \
    (OPTION_CONFIG | OPTION_URL | OPTION_INSECURE | OPTION_APP | OPTION_ID | OPTION_KEY | OPTION_SECRET)

#define TARGET_HELP                                                                                                    \
    "Server and app are those of the configuration, unless options name others:\n\n"                                   \
    "  -c, --config FILE   the configuration, as for `curlew serve`\n"                                                 \
    "  --url URL           the server, like https://realtime.example; http, https, ws or wss\n"                        \
    "  --insecure          with --url: accept any certificate\n"                                                       \
    "  --app ID_OR_KEY     the app, if the configuration has several\n"                                                \
    "  --id ID, --key KEY  the same, by one of them; with --secret the configuration is not read\n"                    \
    "  --secret SECRET     `-` reads it from standard input, which keeps it out of the list of processes\n"

#define TARGET_EXIT_CODES                                                                                              \
    "Exit code: 0 if everything was done, 1 if the server refused something, 2 for an invalid command line or\n"       \
    "configuration, 3 if the server cannot be reached, 4 if it has no such app, 5 if it refuses the signature.\n"

struct target {
    struct server_address server;
    char *id, *key, *secret; /* NULL: not known */
};

/*
 * Finds the target. The configuration is read only if the options leave something open. `needs_secret`: id and secret
 * are needed, too; without it a key that is not in the configuration is enough. Prints nothing; dispose of the target
 * after success only.
 */
enum cli_exit target_find(struct target *target, const struct cli_options *options, bool needs_secret,
                          struct error *error);
void target_dispose(struct target *target);
