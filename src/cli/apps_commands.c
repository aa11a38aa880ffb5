#include "cli/apps_commands.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/near_miss.h"
#include "cli/output.h"
#include "cli/print.h"

#define ANY_NUMBER SIZE_MAX
#define COMMON (OPTION_CONFIG | OPTION_JSON)
#define CONFIG_HELP "  -c, --config FILE   the configuration that names the store, as for `curlew serve`\n"
#define JSON_HELP "  --json              JSON on standard output; errors as {\"error\": ...}\n"
#define SECRETS_HELP "  --show-secrets      print secrets; without it they are hidden, and left out of JSON\n"
#define SET_HELP                                                                                                       \
    "  --set FIELD=VALUE   set a field; VALUE is digits, true or false, or JSON for allowed_origins, webhooks and\n"   \
    "                      channel_delta_compression; may be repeated. null unsets a JSON field\n"

static const struct command {
    const char *name, *summary;
    enum cli_exit (*run)(const struct cli_options *options);
    unsigned takes;
    size_t most_arguments;
    const char *needs; /* what the first argument names; NULL: none is needed */
    const char *usage;
} commands[] = {
    {"list", "list all apps", apps_list,
     COMMON | OPTION_SHOW_SECRETS | OPTION_FILTER | OPTION_LIMIT | OPTION_SORT | OPTION_COLUMNS, 0, NULL,
     "usage: curlew apps list [OPTIONS]\n\n"
     "Lists the apps in order of id. Broken records are reported on standard error, with exit code 1.\n\n"
     "  --filter TEXT       only apps with TEXT in the id or the key, in any case of letters\n"
     "  --filter FIELD=VALUE  only apps with this value, such as enabled=false; a field that is not set has its "
     "default\n"
     "  --sort FIELD        order by a field; --sort -FIELD: the largest first\n"
     "  --limit N           only the first N\n"
     "  --columns FIELDS    the fields to show, such as id,max_connections\n" CONFIG_HELP JSON_HELP SECRETS_HELP},
    {"show", "show apps", apps_show, COMMON | OPTION_SHOW_SECRETS | OPTION_KEY, ANY_NUMBER, NULL,
     "usage: curlew apps show ID... [OPTIONS]\n"
     "       curlew apps show --key KEY [OPTIONS]\n\n" CONFIG_HELP JSON_HELP SECRETS_HELP},
    {"create", "create an app", apps_create,
     COMMON | OPTION_SHOW_SECRETS | OPTION_ID | OPTION_KEY | OPTION_SECRET | OPTION_SET, 0, NULL,
     "usage: curlew apps create [--id ID] [--key KEY] [--secret SECRET] [--set FIELD=VALUE]... [OPTIONS]\n\n"
     "A missing id, key or secret is generated from strong random numbers, and shown only now.\n\n"
     "  --id ID, --key KEY\n"
     "  --secret SECRET     `-` reads it from standard input, which keeps it out of the list of processes\n" SET_HELP
         CONFIG_HELP JSON_HELP SECRETS_HELP},
    {"update", "change fields of an app", apps_update, COMMON | OPTION_SHOW_SECRETS | OPTION_SET | OPTION_UNSET, 1,
     "the id of an app",
     "usage: curlew apps update ID [--set FIELD=VALUE]... [--unset FIELD]... [OPTIONS]\n\n"
     "Changes only the named fields; fields that are not set stay unset.\n\n" SET_HELP
     "  --unset FIELD       unset a field, so that the server's default applies\n" CONFIG_HELP JSON_HELP SECRETS_HELP},
    {"delete", "delete apps", apps_delete, COMMON, ANY_NUMBER, "the id of an app",
     "usage: curlew apps delete ID... [OPTIONS]\n\nDeletes the apps without asking for confirmation.\n\n" CONFIG_HELP
         JSON_HELP},
    {"enable", "let clients of apps connect", apps_enable, COMMON | OPTION_SHOW_SECRETS, ANY_NUMBER, "the id of an app",
     "usage: curlew apps enable ID... [OPTIONS]\n\n" CONFIG_HELP JSON_HELP SECRETS_HELP},
    {"disable", "keep clients of apps out", apps_disable, COMMON | OPTION_SHOW_SECRETS, ANY_NUMBER, "the id of an app",
     "usage: curlew apps disable ID... [OPTIONS]\n\n"
     "Closes the app's connections with code 4003, after which clients must not connect again by themselves: when the\n"
     "app is enabled again, web pages have to be loaded anew.\n\n" CONFIG_HELP JSON_HELP SECRETS_HELP},
    {"confirm-removal", "confirm that many apps were removed on purpose", apps_confirm_removal, COMMON, 0, NULL,
     "usage: curlew apps confirm-removal [OPTIONS]\n\n"
     "When many apps vanish from the store at once, a running server keeps them in force for a while, since it may be\n"
     "a mistake (app_manager.vanished_grace). This command tells the server that CURLEW_ADMIN_URL names to remove\n"
     "them now. The store is not changed.\n\n" CONFIG_HELP JSON_HELP},
    {"rotate-secret", "generate a new secret for an app, and show it", apps_rotate_secret,
     COMMON | OPTION_OVERLAP | OPTION_REVOKE_PREVIOUS, 1, "the id of an app",
     "usage: curlew apps rotate-secret ID [--overlap DURATION] [OPTIONS]\n"
     "       curlew apps rotate-secret ID --revoke-previous [OPTIONS]\n\n"
     "Generates a new secret and shows it only now. The old secret stops working at once, or after the overlap.\n\n"
     "  --overlap DURATION  accept the old secret for so long, such as 90m, 24h or 7d\n"
     "  --revoke-previous   generate nothing: end such an overlap now\n" CONFIG_HELP JSON_HELP},
    {"test-webhook", "send an event to the webhooks of an app, and show what comes back", apps_test_webhook,
     COMMON | OPTION_EVENT | OPTION_WEBHOOK, 1, "the id of an app",
     "usage: curlew apps test-webhook ID [--webhook NUMBER] [--event EVENT] [OPTIONS]\n\n"
     "Sends each webhook of the app one invented event, signed as by the server, from this machine: at once, without\n"
     "filters and without a repetition. Shows the status of the answer, its time, and the beginning of its body.\n\n"
     "  --webhook NUMBER    only this webhook of the list, counted from 0\n"
     "  --event EVENT       this event, such as member_added, to webhooks that have it in their event_types;\n"
     "                      without it each gets the first of its own\n" CONFIG_HELP JSON_HELP},
    {"encrypt-secrets", "encrypt the secrets of all apps in the store", apps_encrypt_secrets, COMMON | OPTION_DECRYPT,
     0, NULL,
     "usage: curlew apps encrypt-secrets [--decrypt] [OPTIONS]\n\n"
     "Rewrites each secret that is plain, or encrypted with another key than the first, with the first key of\n"
     "app_manager.secrets.key_file or CURLEW_SECRETS_KEY. All servers that use the store need that key before. After\n"
     "an interruption, run it again.\n\n"
     "  --decrypt           rewrite each secret that is encrypted as plain text\n" CONFIG_HELP JSON_HELP},
    {"import", "create apps from a file", apps_import, COMMON | OPTION_UPDATE | OPTION_DRY_RUN, 1, "a file",
     "usage: curlew apps import FILE [OPTIONS]\n\n"
     "Creates the apps of FILE (`-`: standard input), {\"apps\": [...]} as in app_manager.array, and reads each back.\n"
     "Apps that the store already has are skipped if they are equal. If they differ, they are reported as conflicts,\n"
     "unless --update. A broken app is reported, and the others are imported. After an interruption, run it again.\n\n"
     "  --update            overwrite those that differ\n"
     "  --dry-run           report what would be done, and change nothing\n" CONFIG_HELP JSON_HELP},
    {"export", "write all apps as JSON, secrets included", apps_export, OPTION_CONFIG | OPTION_OUTPUT | OPTION_JSON, 0,
     NULL,
     "usage: curlew apps export [--output FILE] [OPTIONS]\n\n"
     "Writes {\"apps\": [...]} in order of id, secrets included, to standard output.\n\n"
     "  -o, --output FILE   write to FILE, which only its owner may read; completely or not at all\n" CONFIG_HELP
         JSON_HELP},
    {"copy", "copy all apps to another store", apps_copy,
     OPTION_FROM | OPTION_TO | OPTION_UPDATE | OPTION_DRY_RUN | OPTION_JSON, 0, NULL,
     "usage: curlew apps copy --from FILE --to FILE [OPTIONS]\n\n"
     "Copies the apps of one configuration's store to that of another, and reads each back. Those that are there\n"
     "already and are equal are skipped. Those that differ are reported as conflicts, unless --update. Broken records\n"
     "are reported and not copied. After an interruption, run it again. Environment variables apply to both\n"
     "configurations.\n\n"
     "  --from FILE         the configuration of the store that is read\n"
     "  --to FILE           the configuration of the store that is written\n"
     "  --update            overwrite those that differ\n"
     "  --dry-run           report what would be done, and change nothing\n" JSON_HELP},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static const char exit_codes[] =
    "  -h, --help          show this help\n\n"
    "Exit code: 0 if everything was done, 1 if something was not, 2 for an invalid command line or configuration.\n";

const char apps_usage[] =
    "usage: curlew apps COMMAND [OPTIONS]\n\n"
    "Manages the apps in the configured store. Running servers learn of changes as their store allows, and at once\n"
    "if CURLEW_ADMIN_URL (with CURLEW_ADMIN_TOKEN) names the server.\n";

bool apps_command_text(size_t index, struct command_text *text) {
    if (index >= COMMAND_COUNT)
        return false;
    *text = (struct command_text){commands[index].name, commands[index].summary, commands[index].usage, exit_codes,
                                  commands[index].takes | OPTION_HELP};
    return true;
}

static void print_apps_help(void) {
    printf("%s\ncommands:\n", apps_usage);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-16s %s\n", commands[i].name, commands[i].summary);
    printf("\n`curlew apps COMMAND --help` tells more about one.\n");
}

static const struct command *find_apps_command(const char *name) {
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    return NULL;
}

static enum cli_exit refuse_usage(const struct command *command, bool json, const char *text) {
    struct error name;

    error_set(&name, "apps%s%s", command != NULL ? " " : "", command != NULL ? command->name : "");
    return output_refuse_usage(name.text, json, text);
}

static enum cli_exit run_command(const struct command *command, char **arguments) {
    struct cli_options options;
    struct error error = {0};
    enum cli_exit code;

    if (!cli_options_parse(&options, arguments, command->takes, command->most_arguments, &error)) {
        code = refuse_usage(command, options.json, error.text);
    } else if (options.help) {
        printf("%s%s", command->usage, exit_codes);
        code = CLI_DONE;
    } else if (command->needs != NULL && options.argument_count == 0) {
        error_set(&error, "%s must be named", command->needs);
        code = refuse_usage(command, options.json, error.text);
    } else {
        code = command->run(&options);
    }
    code = output_finish(options.json, code);
    cli_options_dispose(&options);
    return code;
}

struct slice apps_command_meant(const char *word) {
    struct near_miss miss = near_miss_of(slice_of(word));

    for (size_t i = 0; i < COMMAND_COUNT; i++)
        near_miss_offer(&miss, slice_of(commands[i].name));
    return miss.best;
}

static void refuse_apps_command(const char *name, struct error *error) {
    struct slice meant = apps_command_meant(name);

    if (meant.length != 0)
        error_set(error, "unknown command: apps %s; did you mean `curlew apps %.*s`?", name, SLICE_ARGS(meant));
    else
        error_set(error, "unknown command: apps %s", name);
}

int apps_run(char **arguments) {
    const struct command *command;
    struct error error;

    signal(SIGPIPE, SIG_IGN); /* a lost connection is an error of the store, not the end of the process */
    if (*arguments == NULL)
        return refuse_usage(NULL, false, "a command must follow `curlew apps`");
    if (strcmp(*arguments, "--help") == 0 || strcmp(*arguments, "-h") == 0 || strcmp(*arguments, "help") == 0) {
        print_apps_help();
        return CLI_DONE;
    }
    command = find_apps_command(*arguments);
    if (command == NULL) {
        refuse_apps_command(*arguments, &error);
        return refuse_usage(NULL, false, error.text);
    }
    return run_command(command, arguments + 1);
}
