#include "command/command_line.h"

#include <stdio.h>
#include <string.h>

#include "base/near_miss.h"
#include "cli/apps_commands.h"
#include "cli/nodes_command.h"
#include "cli/realtime_commands.h"
#include "cli/upgrade_command.h"
#include "config/config_option.h"
#include "config/config_unknown.h"
#include "convert/convert.h"
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
    int (*run_arguments)(char **arguments); /* for a command that parses its arguments itself */
    bool (*subcommand_text)(size_t index, struct command_text *text); /* NULL: it has no commands of its own */
} commands[] = {
    {"serve", "start the server (also: curlew without a command)",
     "usage: curlew serve [--config FILE]\n\n"
     "Starts the server in the foreground. Settings come from FILE, in TOML or JSON (default:\n"
     "config/config.toml, else config/config.json), and from the environment, which takes precedence.\n"
     "SIGTERM shuts the server down, SIGHUP reads the apps and the certificate again, SIGUSR1 turns the log level "
     "debug\n"
     "on and off, SIGUSR2 starts the program anew and lets it take the place of this process.\n\n"
     "  -c, --config FILE   the configuration file\n"
     "  -h, --help          show this help\n\n"
     "Exit code: 0 after a normal shutdown, 1 if a port or another resource cannot be obtained, 2 for an invalid\n"
     "configuration.\n",
     true, false, run_serve, NULL},
    {"check", "validate a configuration without starting the server",
     "usage: curlew check [--config FILE] [--verbose] [--strict]\n\n"
     "  -c, --config FILE   the configuration file\n"
     "  -v, --verbose       also list settings and variables that are accepted but have no effect\n"
     "      --strict        exit with 1 if there is a warning or a dangerous setting\n"
     "  -h, --help          show this help\n\n"
     "Exit code: 0 if the configuration is valid, 1 if the server would start, but not serve all of its apps, 2 if it\n"
     "would not start.\n",
     true, true, run_check_command, NULL},
    {"upgrade", "let a running server start its program anew, without a gap", upgrade_usage, false, false, NULL,
     upgrade_run},
    {"nodes", "list the nodes that share events with a running server", nodes_usage, false, false, NULL,
     nodes_command_run},
    {"apps", "list, create, change and copy apps in the configured store", apps_usage, false, false, NULL, apps_run,
     apps_command_text},
    {"convert", "turn the configuration of soketi, Reverb or laravel-websockets into one for Curlew", convert_usage,
     false, false, NULL, convert_run},
    {"listen", "print the events of channels as they come", listen_usage, false, false, NULL, listen_run},
    {"publish", "publish an event", publish_usage, false, false, NULL, publish_run},
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
            "usage: curlew [COMMAND] [OPTIONS]\n"
            "       curlew help [COMMAND]\n\ncommands:\n",
            CURLEW_VERSION);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\n`curlew COMMAND --help` describes a command.\n");
}

/* `hint` continues the sentence; it may be empty. */
static int refuse_main_usage(const struct command *command, const char *what, const char *argument, const char *hint) {
    fprintf(stderr, "curlew: %s: %s%s\n", what, argument, hint);
    fprintf(stderr, "try `curlew %s%s--help`\n", command != NULL ? command->name : "", command != NULL ? " " : "");
    return 2;
}

/* Commands of other servers and tools, which are too far from ours for a slip of the keyboard. */
static const struct {
    const char *other, *ours;
} synonyms[] = {
    {"start", "serve"}, {"run", "serve"},        {"server", "serve"},    {"app", "apps"},     {"validate", "check"},
    {"test", "check"},  {"subscribe", "listen"}, {"trigger", "publish"}, {"send", "publish"}, {"reverb:start", "serve"},
};

static int refuse_command(const char *name) {
    struct near_miss miss = near_miss_of(slice_of(name));
    struct error hint = {0};

    for (size_t i = 0; i < COMMAND_COUNT; i++)
        near_miss_offer(&miss, slice_of(commands[i].name));
    for (size_t i = 0; i < sizeof synonyms / sizeof synonyms[0]; i++)
        if (strcmp(name, synonyms[i].other) == 0)
            miss.best = slice_of(synonyms[i].ours);
    if (miss.best.length != 0)
        error_set(&hint, "; did you mean `curlew %.*s`?", SLICE_ARGS(miss.best));
    else if (apps_command_meant(name).length != 0)
        error_set(&hint, "; did you mean `curlew apps %.*s`?", SLICE_ARGS(apps_command_meant(name)));
    return refuse_main_usage(NULL, "unknown command", name, hint.text);
}

static bool is_near(struct slice word, struct slice right) {
    struct near_miss miss = near_miss_of(word);

    near_miss_offer(&miss, right);
    return miss.best.length != 0;
}

/* A setting is not an option: says where it is set. Else the option that was probably meant. */
static int refuse_option(const struct command *command, const char *argument) {
    struct slice name = {argument, strcspn(argument, "=")}, path, variable;
    struct slice bare = strcmp(argument, "-p") == 0 ? SLICE("port") : slice_skip(name, strspn(argument, "-"));
    struct near_miss miss = near_miss_of(name);
    struct error hint = {0};

    near_miss_offer(&miss, SLICE("--help"));
    if (command->takes_config)
        near_miss_offer(&miss, SLICE("--config"));
    if (command->takes_verbose) {
        near_miss_offer(&miss, SLICE("--verbose"));
        near_miss_offer(&miss, SLICE("--strict"));
    }
    if (command->takes_config && config_hint(bare) != NULL)
        error_set(&hint, "; %s", config_hint(bare));
    else if (command->takes_config && config_option_find(bare, &path, &variable))
        error_set(&hint,
                  variable.length != 0
                      ? "; it is the setting %.*s of the configuration file, or the variable %.*s of the environment"
                      : "; it is the setting %.*s of the configuration file%.*s",
                  SLICE_ARGS(path), SLICE_ARGS(variable));
    else if (is_near(name, SLICE("--version")))
        error_set(&hint, "; did you mean `curlew --version`?");
    else if (miss.best.length != 0)
        error_set(&hint, "; did you mean %.*s?", SLICE_ARGS(miss.best));
    else if (command->takes_config && config_option_meant(bare).length != 0)
        error_set(&hint, "; did you mean the setting %.*s of the configuration file?",
                  SLICE_ARGS(config_option_meant(bare)));
    return refuse_main_usage(command, "unknown option", argument, hint.text);
}

static int refuse_argument(const struct command *command, const char *argument) {
    struct error hint = {0};

    if (command->takes_config)
        error_set(&hint, "; a configuration file is named with --config %s", argument);
    return refuse_main_usage(command, "unexpected argument", argument, hint.text);
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
        if (argument[0] != '-')
            return refuse_argument(command, argument);
        if (!command->takes_config)
            return refuse_option(command, argument);
        if (strncmp(argument, "--config=", 9) == 0)
            value = argument + 9;
        else if (strcmp(argument, "--config") == 0 || strcmp(argument, "-c") == 0)
            value = arguments[1];
        else
            return refuse_option(command, argument);
        if (value == NULL || *value == '\0')
            return refuse_main_usage(command, "a file name must follow", argument, "");
        if (options->config_file != NULL)
            return refuse_main_usage(command, "--config is given twice; only one configuration file is read", value,
                                     "");
        options->config_file = value;
        arguments += value == arguments[1];
    }
    return 0;
}

static int run_command_line(const struct command *command, char **arguments) {
    struct options options = {0};
    int code;

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

/* `curlew help`, `curlew help apps`, `curlew help apps list`: the help of the command that the words name. */
static int run_help(char **words) {
    char help[] = "--help", *arguments[] = {help, NULL, NULL};
    const struct command *command;

    if (*words == NULL) {
        print_main_help(stdout);
        return 0;
    }
    command = find_main_command(*words);
    if (command == NULL)
        return refuse_command(*words);
    if (words[1] != NULL && command->run_arguments != NULL) {
        arguments[0] = words[1];
        arguments[1] = help;
    }
    return run_command_line(command, arguments);
}

static bool is_any_of(const char *word, const char *a, const char *b, const char *c) {
    return word != NULL && (strcmp(word, a) == 0 || strcmp(word, b) == 0 || strcmp(word, c) == 0);
}

int command_line_run(char **words) {
    const struct command *command = &commands[0];

    if (is_any_of(*words, "--help", "-h", "help"))
        return run_help(words + 1);
    if (is_any_of(*words, "--version", "-V", "-v"))
        return run_version(NULL);
    if (*words != NULL && **words != '-') {
        command = find_main_command(*words);
        if (command == NULL)
            return refuse_command(*words);
        words++;
    }
    return run_command_line(command, words);
}

bool command_line_text(size_t index, struct command_text *text) {
    if (index >= COMMAND_COUNT)
        return false;
    *text = (struct command_text){commands[index].name, commands[index].summary, commands[index].usage, ""};
    return true;
}

bool command_line_subcommand_text(size_t index, size_t subcommand, struct command_text *text) {
    return commands[index].subcommand_text != NULL && commands[index].subcommand_text(subcommand, text);
}
