/*
 * The command line: `curlew serve`, `check`, `apps`, `listen`, `publish`, `version`. Each command is one row of a
 * table.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/apps_commands.h"
#include "convert/convert.h"
#include "cli/realtime_commands.h"
#include "server/check.h"
#include "server/server.h"

#ifndef CURLEW_VERSION
#error "the build sets CURLEW_VERSION"
#endif

struct options {
    const char *config_file;
    bool verbose, strict;
    bool help;
};

static int run_serve(const struct options *options);
static int run_check_command(const struct options *options);
static int run_version(const struct options *options);

static const struct command {
    const char *name;
    const char *summary;
    const char *usage;
    bool takes_config, takes_verbose;
    int (*run)(const struct options *options);
    int (*run_arguments)(char **arguments); /* for a command with subcommands */
} commands[] = {
    {"serve", "start the server (also: curlew without a command)",
     "usage: curlew serve [--config FILE]\n\n"
     "Starts the server in the foreground. Settings come from FILE, in TOML or JSON (default:\n"
     "config/config.toml, else config/config.json), and from the environment, which takes precedence.\n"
     "SIGTERM shuts the server down, SIGHUP reads the apps and the certificate again.\n\n"
     "  -c, --config FILE   the configuration file\n"
     "  -h, --help          show this help\n\n"
     "Exit code: 0 after a normal shutdown, 1 if a port or another resource cannot be obtained, 2 for an invalid\n"
     "configuration.\n",
     true, false, run_serve, NULL},
    {"check", "validate a configuration without starting the server",
     "usage: curlew check [--config FILE] [--verbose] [--strict]\n\n"
     "  -c, --config FILE   the configuration file\n"
     "  -v, --verbose       also list settings and variables that are accepted but have no effect\n"
     "      --strict        exit with 1 if there is a warning\n"
     "  -h, --help          show this help\n\n"
     "Exit code: 0 if the configuration is valid, 1 if the server would start, but not serve all of its apps, 2 if it\n"
     "would not start.\n",
     true, true, run_check_command, NULL},
    {"apps", "list, create, change and copy apps in the configured store", NULL, false, false, NULL, apps_run},
    {"convert", "turn the configuration of soketi, Reverb or laravel-websockets into one for Curlew", NULL, false,
     false, NULL, convert_run},
    {"listen", "print the events of channels as they come", NULL, false, false, NULL, listen_run},
    {"publish", "publish an event", NULL, false, false, NULL, publish_run},
    {"version", "print the version", "usage: curlew version\n", false, false, run_version, NULL},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static int run_serve(const struct options *options) {
    return server_run(options->config_file);
}

static int run_check_command(const struct options *options) {
    return check_configuration(options->config_file, options->verbose, options->strict, stdout);
}

static int run_version(const struct options *options) {
    (void)options;
    printf("curlew %s\n", CURLEW_VERSION);
    return 0;
}

static void print_main_help(FILE *out) {
    fprintf(out,
            "curlew %s: a realtime server that speaks the Pusher Channels protocol\n\n"
            "usage: curlew [COMMAND] [OPTIONS]\n\ncommands:\n",
            CURLEW_VERSION);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\n`curlew COMMAND --help` describes a command.\n");
}

static int refuse_main_usage(const struct command *command, const char *what, const char *argument) {
    fprintf(stderr, "curlew: %s: %s\n", what, argument);
    fprintf(stderr, "try `curlew %s%s--help`\n", command != NULL ? command->name : "", command != NULL ? " " : "");
    return 2;
}

static const struct command *find_main_command(const char *name) {
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    return NULL;
}

/* Parses the arguments after the command. Returns 0, or the exit code. */
static int parse_options(const struct command *command, char **arguments, struct options *options) {
    for (; *arguments != NULL; arguments++) {
        const char *argument = *arguments;
        const char *value = NULL;

        if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
            options->help = true;
            continue;
        }
        if (command->takes_verbose && (strcmp(argument, "--verbose") == 0 || strcmp(argument, "-v") == 0)) {
            options->verbose = true;
            continue;
        }
        if (command->takes_verbose && strcmp(argument, "--strict") == 0) {
            options->strict = true;
            continue;
        }
        if (!command->takes_config)
            return refuse_main_usage(command, "unknown option", argument);
        if (strncmp(argument, "--config=", 9) == 0)
            value = argument + 9;
        else if (strcmp(argument, "--config") == 0 || strcmp(argument, "-c") == 0)
            value = arguments[1];
        else
            return refuse_main_usage(command, argument[0] == '-' ? "unknown option" : "unexpected argument", argument);
        if (value == NULL || *value == '\0')
            return refuse_main_usage(command, "a file name must follow", argument);
        if (options->config_file != NULL)
            return refuse_main_usage(command, "--config is given twice; only one configuration file is read", value);
        options->config_file = value;
        arguments += value == arguments[1];
    }
    return 0;
}

int main(int argc, char **argv) {
    const struct command *command = &commands[0];
    struct options options = {0};
    char **arguments = argv + (argc > 0);
    int code;

    signal(SIGPIPE, SIG_IGN); /* writing to a closed connection is an error, not the end of the process */
    if (*arguments != NULL &&
        (strcmp(*arguments, "--help") == 0 || strcmp(*arguments, "-h") == 0 || strcmp(*arguments, "help") == 0)) {
        print_main_help(stdout);
        return 0;
    }
    if (*arguments != NULL && strcmp(*arguments, "--version") == 0)
        return run_version(&options);
    if (*arguments != NULL && **arguments != '-') {
        command = find_main_command(*arguments);
        if (command == NULL)
            return refuse_main_usage(NULL, "unknown command", *arguments);
        arguments++;
    }
    if (command->run_arguments != NULL)
        return command->run_arguments(arguments);
    code = parse_options(command, arguments, &options);
    if (code != 0)
        return code;
    if (options.help) {
        fputs(command->usage, stdout);
        return 0;
    }
    return command->run(&options);
}
