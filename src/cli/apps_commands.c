#include "cli/apps_commands.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/print.h"

#define COMMON (OPTION_CONFIG | OPTION_JSON)
#define CONFIG_HELP "  -c, --config FILE   the configuration whose store is meant, as for `curlew serve`\n"
#define JSON_HELP "  --json              JSON on standard output; errors as {\"error\": ...}\n"
#define SECRETS_HELP "  --show-secrets      print secrets; they are hidden (left out of JSON) otherwise\n"
#define SET_HELP                                                                                                       \
    "  --set FIELD=VALUE   set a field; VALUE is digits, true or false, or JSON for allowed_origins, webhooks and\n"   \
    "                      channel_delta_compression; may be given often. null unsets a field that is JSON\n"

static const struct command {
    const char *name, *summary;
    enum cli_exit (*run)(const struct apps_options *options);
    unsigned takes;
    bool takes_argument, needs_argument;
    const char *usage;
} commands[] = {
    {"list", "list all apps", apps_list, COMMON | OPTION_SHOW_SECRETS, false, false,
     "usage: curlew apps list [OPTIONS]\n\n"
     "Lists the apps in order of id. Broken records are reported on standard error, with exit code 1.\n\n" CONFIG_HELP
         JSON_HELP SECRETS_HELP},
    {"show", "show one app", apps_show, COMMON | OPTION_SHOW_SECRETS | OPTION_KEY, true, false,
     "usage: curlew apps show ID [OPTIONS]\n"
     "       curlew apps show --key KEY [OPTIONS]\n\n" CONFIG_HELP JSON_HELP SECRETS_HELP},
    {"create", "create an app", apps_create,
     COMMON | OPTION_SHOW_SECRETS | OPTION_ID | OPTION_KEY | OPTION_SECRET | OPTION_SET, false, false,
     "usage: curlew apps create [--id ID] [--key KEY] [--secret SECRET] [--set FIELD=VALUE]... [OPTIONS]\n\n"
     "What is not given of id, key and secret is made, from strong random numbers, and printed this once.\n\n"
     "  --id ID, --key KEY\n"
     "  --secret SECRET     `-` reads it from standard input, which keeps it out of the list of processes\n" SET_HELP
         CONFIG_HELP JSON_HELP SECRETS_HELP},
    {"update", "change fields of an app", apps_update, COMMON | OPTION_SHOW_SECRETS | OPTION_SET | OPTION_UNSET, true,
     true,
     "usage: curlew apps update ID [--set FIELD=VALUE]... [--unset FIELD]... [OPTIONS]\n\n"
     "Changes what is named and leaves everything else as it is, unset fields unset.\n\n" SET_HELP
     "  --unset FIELD       let the server's default count\n" CONFIG_HELP JSON_HELP SECRETS_HELP},
    {"delete", "delete an app", apps_delete, COMMON, true, true,
     "usage: curlew apps delete ID [OPTIONS]\n\nDeletes the app without asking.\n\n" CONFIG_HELP JSON_HELP},
    {"enable", "let clients of an app connect", apps_enable, COMMON | OPTION_SHOW_SECRETS, true, true,
     "usage: curlew apps enable ID [OPTIONS]\n\n" CONFIG_HELP JSON_HELP SECRETS_HELP},
    {"disable", "keep clients of an app out", apps_disable, COMMON | OPTION_SHOW_SECRETS, true, true,
     "usage: curlew apps disable ID [OPTIONS]\n\n" CONFIG_HELP JSON_HELP SECRETS_HELP},
    {"rotate-secret", "give an app a new secret, and print it once", apps_rotate_secret, COMMON, true, true,
     "usage: curlew apps rotate-secret ID [OPTIONS]\n\n"
     "Makes a new secret and prints it. What was signed with the old one is refused from then on.\n\n" CONFIG_HELP
         JSON_HELP},
    {"import", "create apps from a file", apps_import, COMMON | OPTION_UPDATE | OPTION_DRY_RUN, true, true,
     "usage: curlew apps import FILE [OPTIONS]\n\n"
     "Creates the apps of FILE (`-`: standard input), {\"apps\": [...]} as in app_manager.array, and reads each back.\n"
     "Those that are there already and equal are skipped; those that differ are conflicts, reported by id, unless\n"
     "--update. A broken one is reported and the others go on. After an interruption run it again.\n\n"
     "  --update            overwrite those that differ\n"
     "  --dry-run           only say what would be done; nothing is changed\n" CONFIG_HELP JSON_HELP},
    {"export", "write all apps as JSON, secrets included", apps_export, OPTION_CONFIG | OPTION_OUTPUT | OPTION_JSON,
     false, false,
     "usage: curlew apps export [--output FILE] [OPTIONS]\n\n"
     "Writes {\"apps\": [...]} in order of id, secrets included, to standard output.\n\n"
     "  -o, --output FILE   to FILE instead, which only its owner may read, whole or not at all\n" CONFIG_HELP
         JSON_HELP},
    {"copy", "copy all apps to another store", apps_copy,
     OPTION_FROM | OPTION_TO | OPTION_UPDATE | OPTION_DRY_RUN | OPTION_JSON, false, false,
     "usage: curlew apps copy --from FILE --to FILE [OPTIONS]\n\n"
     "Copies the apps of one configuration's store to that of another, and reads each back. Those that are there\n"
     "already and equal are skipped; those that differ are conflicts, reported by id, unless --update. Broken records\n"
     "are reported and stay behind. After an interruption run it again. Variables of the environment count for both\n"
     "configurations.\n\n"
     "  --from FILE         the configuration of the store that is read\n"
     "  --to FILE           the configuration of the store that is written\n"
     "  --update            overwrite those that differ\n"
     "  --dry-run           only say what would be done; nothing is changed\n" JSON_HELP},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static const char exit_codes[] =
    "  -h, --help          this text\n\n"
    "Exit code: 0 if all was done, 1 if something was not, 2 for a bad command line or configuration.\n";

static void print_apps_help(void) {
    printf(
        "usage: curlew apps COMMAND [OPTIONS]\n\n"
        "The apps of the configured store. Changes are written to the store; running servers learn of them by the\n"
        "store's own ways, and at once if CURLEW_ADMIN_URL (with CURLEW_ADMIN_TOKEN) names one.\n\ncommands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-14s %s\n", commands[i].name, commands[i].summary);
    printf("\n`curlew apps COMMAND --help` tells more about one.\n");
}

static const struct command *find_apps_command(const char *name) {
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    return NULL;
}

static enum cli_exit refuse_usage(const struct command *command, bool json, const char *text) {
    print_failure(json, text);
    if (!json)
        fprintf(stderr, "try `curlew apps %s%s--help`\n", command != NULL ? command->name : "",
                command != NULL ? " " : "");
    return CLI_MISUSED;
}

/* What was written may only now meet a full disk. */
static enum cli_exit finish_output(const struct apps_options *options, enum cli_exit code) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    print_failure(options->json, "standard output takes no more; what was to be printed is lost");
    return code != CLI_DONE ? code : CLI_NOT_DONE;
}

static enum cli_exit run_command(const struct command *command, char **arguments) {
    struct apps_options options;
    struct error error = {0};
    enum cli_exit code;

    if (!apps_options_parse(&options, arguments, command->takes, command->takes_argument, &error)) {
        code = refuse_usage(command, options.json, error.text);
    } else if (options.help) {
        printf("%s%s", command->usage, exit_codes);
        code = CLI_DONE;
    } else if (command->needs_argument && options.argument == NULL) {
        code = refuse_usage(command, options.json,
                            command->run == apps_import ? "a file must be named" : "the id of an app must be named");
    } else {
        code = command->run(&options);
    }
    code = finish_output(&options, code);
    apps_options_dispose(&options);
    return code;
}

int apps_run(char **arguments) {
    const struct command *command;
    struct error error;

    signal(SIGPIPE, SIG_IGN); /* a lost connection is an answer of the store, not the end */
    if (*arguments == NULL)
        return refuse_usage(NULL, false, "a command must follow `curlew apps`");
    if (strcmp(*arguments, "--help") == 0 || strcmp(*arguments, "-h") == 0 || strcmp(*arguments, "help") == 0) {
        print_apps_help();
        return CLI_DONE;
    }
    command = find_apps_command(*arguments);
    if (command == NULL) {
        error_set(&error, "unknown command: apps %s", *arguments);
        return refuse_usage(NULL, false, error.text);
    }
    return run_command(command, arguments + 1);
}
