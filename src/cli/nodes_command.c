#include "cli/nodes_command.h"

#include <jansson.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "cli/notify_server.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/print.h"
#include "net/http_client.h"

const char nodes_usage[] =
    "usage: curlew nodes [--config FILE] [--json]\n\n"
    "Lists the nodes that a running server shares events with, itself first: asks its admin API, at CURLEW_ADMIN_URL "
    "or\n"
    "else at CURLEW_ADMIN_LISTEN of this machine, with CURLEW_ADMIN_TOKEN.\n\n"
    "  -c, --config FILE   the configuration file\n"
    "      --json          print the answer of the server\n"
    "  -h, --help          show this help\n\n"
    "Exit code: 0, 1 if the server says that the message system between the nodes is down or a node was refused, 2 for "
    "a\n"
    "wrong command line or configuration, 3 if the server cannot be asked.\n";

#define COLUMN_COUNT 9

static const char *const column_names[COLUMN_COUNT] = {"ID",          "NAME",     "ADDRESS", "VERSION", "SINCE",
                                                       "CONNECTIONS", "CHANNELS", "LOAD",    "SILENT"};

static unsigned long long number_of(const json_t *node, const char *name) {
    return (unsigned long long)json_integer_value(json_object_get(node, name));
}

static void append_node_text(struct buffer *text, const json_t *value) {
    buffer_append(text, (struct slice){json_string_value(value), json_string_length(value)});
}

static void append_column(struct buffer *text, const json_t *node, unsigned column) {
    char since[PRINT_TIME_BYTES];
    unsigned long long silent_ms = number_of(node, "silent_ms");

    switch (column) {
    case 0:
        append_node_text(text, json_object_get(node, "id"));
        break;
    case 1:
        append_node_text(text, json_object_get(node, "name"));
        break;
    case 2:
        append_node_text(text, json_object_get(node, "address"));
        break;
    case 3:
        buffer_append_number(text, number_of(node, "version"));
        break;
    case 4:
        buffer_append_string(text, print_time(number_of(node, "since"), since));
        break;
    case 5:
        buffer_append_number(text, number_of(node, "connections"));
        break;
    case 6:
        buffer_append_number(text, number_of(node, "channels"));
        break;
    case 7:
        buffer_appendf(text, "%.0f %%", json_number_value(json_object_get(node, "load")) * 100);
        break;
    default:
        if (json_is_true(json_object_get(node, "self")))
            buffer_append(text, SLICE("this node"));
        else
            buffer_appendf(text, "%llu.%llu s", silent_ms / 1000, silent_ms % 1000 / 100);
    }
}

/* Prints a cell, padded unless it is the last one of its line. */
static void print_cell(struct slice text, size_t width, unsigned column) {
    print_text(stdout, text);
    if (column + 1 == COLUMN_COUNT)
        putchar('\n');
    else
        printf("%*s", (int)(width - text.length + 2), "");
}

static void print_node_table(const json_t *nodes) {
    size_t widths[COLUMN_COUNT], index;
    struct buffer text = {0};
    json_t *node;

    for (unsigned column = 0; column < COLUMN_COUNT; column++) {
        widths[column] = strlen(column_names[column]);
        json_array_foreach(nodes, index, node) {
            text.length = 0;
            append_column(&text, node, column);
            widths[column] = text.length > widths[column] ? text.length : widths[column];
        }
    }
    for (unsigned column = 0; column < COLUMN_COUNT; column++)
        print_cell(slice_of(column_names[column]), widths[column], column);
    json_array_foreach(nodes, index, node) for (unsigned column = 0; column < COLUMN_COUNT; column++) {
        text.length = 0;
        append_column(&text, node, column);
        print_cell(buffer_slice(&text), widths[column], column);
    }
    buffer_dispose(&text);
}

static enum cli_exit print_nodes(json_t *answer, bool json) {
    const json_t *nodes = json_object_get(answer, "nodes");
    const char *adapter = json_string_value(json_object_get(answer, "adapter"));
    const char *fault = json_string_value(json_object_get(answer, "fault"));
    struct error error;

    if (json)
        print_json(stdout, json_incref(answer));
    else if (json_array_size(nodes) == 0)
        printf("the server is on its own: its adapter is \"%s\"\n", adapter != NULL ? adapter : "");
    else
        print_node_table(nodes);
    if (fault == NULL)
        return CLI_DONE;
    error_set(&error, "%s",
              strcmp(fault, "bus") == 0 ? "the message system between the nodes is down: this is what the server "
                                          "knew last"
                                        : "a node was refused, or speaks no common version: see the server's log");
    print_failure(json, error.text);
    return CLI_NOT_DONE;
}

/* Names the server of this machine unless the configuration names another one. */
static void complete_admin_url(struct config *config) {
    struct buffer url = {0};

    if (config->admin.url != NULL && config->admin.url[0] != '\0')
        return;
    buffer_appendf(&url, "http://%s", config->admin.listen);
    config->admin.url = alloc_copy(url.data, url.length);
    buffer_dispose(&url);
}

static enum cli_exit ask_for_nodes(struct config *config, json_t **answer, struct error *error) {
    struct notifier *notifier;
    bool ignored;

    if (config->admin.token == NULL) {
        error_set(error, "CURLEW_ADMIN_TOKEN must be the token of the server's admin API, with %d characters or more",
                  CONFIG_ADMIN_TOKEN_MIN);
        return CLI_MISUSED;
    }
    complete_admin_url(config);
    if (!http_url_valid(config->admin.url, &ignored)) {
        error_set(error,
                  "CURLEW_ADMIN_URL must be a URL of http or https, without user and password, such as "
                  "http://127.0.0.1:9602");
        return CLI_MISUSED;
    }
    notifier = notifier_create(config);
    *answer = notifier_read_nodes(notifier, error);
    notifier_destroy(notifier);
    return *answer != NULL ? CLI_DONE : CLI_NOT_CONNECTED;
}

static enum cli_exit list_nodes_from_options(const struct cli_options *options) {
    struct config_report report = {0};
    struct config config;
    json_t *answer = NULL;
    struct error error;
    enum cli_exit code = CLI_MISUSED;

    if (config_load(&config, options->config_file, &report, &error)) {
        code = ask_for_nodes(&config, &answer, &error);
        config_dispose(&config);
    }
    config_report_dispose(&report);
    if (code != CLI_DONE) {
        print_failure(options->json, error.text);
        return code;
    }
    code = print_nodes(answer, options->json);
    json_decref(answer);
    return code;
}

int nodes_command_run(char **arguments) {
    struct cli_options options;
    struct error error = {0};
    enum cli_exit code = CLI_DONE;

    if (!cli_options_parse(&options, arguments, OPTION_CONFIG | OPTION_JSON, 0, &error))
        code = output_refuse_usage("nodes", options.json, error.text);
    else if (options.help)
        fputs(nodes_usage, stdout);
    else
        code = list_nodes_from_options(&options);
    code = output_finish(options.json, code);
    cli_options_dispose(&options);
    return code;
}
