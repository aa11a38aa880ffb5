#include "cli/options.h"

#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "base/alloc.h"
#include "base/near_miss.h"

enum kind { KIND_FLAG, KIND_TEXT, KIND_SET, KIND_UNSET };

#define AT(member) offsetof(struct cli_options, member)

static const struct row {
    enum cli_option option;
    enum kind kind;
    const char *name, *letter;
    size_t offset;
} rows[] = {
    {OPTION_CONFIG, KIND_TEXT, "--config", "-c", AT(config_file)},
    {OPTION_JSON, KIND_FLAG, "--json", NULL, AT(json)},
    {OPTION_SHOW_SECRETS, KIND_FLAG, "--show-secrets", NULL, AT(show_secrets)},
    {OPTION_APP, KIND_TEXT, "--app", NULL, AT(app)},
    {OPTION_ID, KIND_TEXT, "--id", NULL, AT(id)},
    {OPTION_KEY, KIND_TEXT, "--key", NULL, AT(key)},
    {OPTION_SECRET, KIND_TEXT, "--secret", NULL, AT(secret)},
    {OPTION_SET, KIND_SET, "--set", NULL, 0},
    {OPTION_UNSET, KIND_UNSET, "--unset", NULL, 0},
    {OPTION_OUTPUT, KIND_TEXT, "--output", "-o", AT(output)},
    {OPTION_UPDATE, KIND_FLAG, "--update", NULL, AT(update)},
    {OPTION_FROM, KIND_TEXT, "--from", NULL, AT(from)},
    {OPTION_TO, KIND_TEXT, "--to", NULL, AT(to)},
    {OPTION_DRY_RUN, KIND_FLAG, "--dry-run", NULL, AT(dry_run)},
    {OPTION_URL, KIND_TEXT, "--url", NULL, AT(url)},
    {OPTION_INSECURE, KIND_FLAG, "--insecure", NULL, AT(insecure)},
    {OPTION_FILTER, KIND_TEXT, "--filter", NULL, AT(filter)},
    {OPTION_LIMIT, KIND_TEXT, "--limit", NULL, AT(limit)},
    {OPTION_SORT, KIND_TEXT, "--sort", NULL, AT(sort)},
    {OPTION_COLUMNS, KIND_TEXT, "--columns", NULL, AT(columns)},
    {OPTION_OVERLAP, KIND_TEXT, "--overlap", NULL, AT(overlap)},
    {OPTION_REVOKE_PREVIOUS, KIND_FLAG, "--revoke-previous", NULL, AT(revoke_previous)},
    {OPTION_EVENT, KIND_TEXT, "--event", NULL, AT(event)},
    {OPTION_WEBHOOK, KIND_TEXT, "--webhook", NULL, AT(webhook)},
    {OPTION_DECRYPT, KIND_FLAG, "--decrypt", NULL, AT(decrypt)},
    {OPTION_ORIGIN, KIND_TEXT, "--origin", NULL, AT(origin)},
    {OPTION_TAGS, KIND_TEXT, "--tags", NULL, AT(tags)},
    {OPTION_HELP, KIND_FLAG, "--help", "-h", AT(help)},
};

#define ROW_COUNT (sizeof rows / sizeof rows[0])

/* The row of the option in `argument`, and the value after `=`, if there is one. */
static const struct row *row_of(const char *argument, unsigned takes, const char **value) {
    size_t length = strcspn(argument, "=");

    *value = argument[length] == '=' ? argument + length + 1 : NULL;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const struct row *row = &rows[i];
        if ((takes & row->option) == 0)
            continue;
        if (strlen(row->name) == length && strncmp(argument, row->name, length) == 0)
            return row;
        if (row->letter != NULL && strcmp(argument, row->letter) == 0)
            return row;
    }
    return NULL;
}

static bool take_option(struct cli_options *options, const struct row *row, const char *value, struct error *error) {
    const char **text = (const char **)(void *)((char *)options + row->offset);

    switch (row->kind) {
    case KIND_FLAG:
        *(bool *)((char *)options + row->offset) = true;
        return value == NULL || error_set(error, "%s takes no value", row->name);
    case KIND_TEXT:
        if (value == NULL || value[0] == '\0')
            return error_set(error, "a value must follow %s", row->name);
        if (*text != NULL)
            return error_set(error, "%s is given twice", row->name);
        *text = value;
        return true;
    case KIND_SET:
        return value != NULL ? changes_set(&options->changes, value, error)
                             : error_set(error, "FIELD=VALUE must follow --set");
    case KIND_UNSET:
        break;
    }
    if (value == NULL || value[0] == '\0')
        return error_set(error, "a field must follow --unset");
    changes_unset(&options->changes, value);
    return true;
}

static bool names_a_server(const char *argument) {
    struct near_miss miss = near_miss_of((struct slice){argument, strcspn(argument, "=")});

    near_miss_offer(&miss, SLICE("--host"));
    near_miss_offer(&miss, SLICE("--port"));
    near_miss_offer(&miss, SLICE("--server"));
    return miss.best.length != 0 || strncmp(argument, "-p", 2) == 0;
}

static bool refuse_unknown_option(const char *argument, unsigned takes, struct error *error) {
    struct near_miss miss = near_miss_of((struct slice){argument, strcspn(argument, "=")});

    for (size_t i = 0; i < ROW_COUNT; i++)
        if ((takes & rows[i].option) != 0)
            near_miss_offer(&miss, slice_of(rows[i].name));
    if (miss.best.length != 0)
        return error_set(error, "unknown option: %s; did you mean %.*s?", argument, SLICE_ARGS(miss.best));
    if ((takes & OPTION_SET) != 0 && app_field_meant(slice_skip(miss.word, strspn(argument, "-"))).length != 0)
        return error_set(error, "unknown option: %s; a field is set with --set %.*s=VALUE", argument,
                         SLICE_ARGS(app_field_meant(slice_skip(miss.word, strspn(argument, "-")))));
    if ((takes & OPTION_URL) != 0 && names_a_server(argument))
        return error_set(error, "unknown option: %s; a server is named with --url http://HOST:PORT", argument);
    return error_set(error, "unknown option: %s", argument);
}

static bool take_argument(struct cli_options *options, char *argument, size_t most, struct error *error) {
    if (options->argument_count == most)
        return error_set(error, "unexpected argument: %s", argument);
    options->arguments[options->argument_count++] = argument;
    return argument[0] != '\0' || error_set(error, "an argument is empty");
}

static size_t count_words(char **words) {
    size_t count = 0;

    while (words[count] != NULL)
        count++;
    return count;
}

bool cli_options_parse(struct cli_options *options, char **arguments, unsigned takes, size_t most_arguments,
                       struct error *error) {
    *options =
        (struct cli_options){.arguments = alloc_zero((count_words(arguments) + 1) * sizeof options->arguments[0])};
    for (; *arguments != NULL; arguments++) {
        const char *value;
        const struct row *row = row_of(*arguments, takes | OPTION_HELP, &value);

        if (row == NULL) {
            if ((*arguments)[0] == '-' && (*arguments)[1] != '\0')
                return refuse_unknown_option(*arguments, takes | OPTION_HELP, error);
            if (!take_argument(options, *arguments, most_arguments, error))
                return false;
            continue;
        }
        if (row->kind != KIND_FLAG && value == NULL && arguments[1] != NULL)
            value = *++arguments;
        if (!take_option(options, row, value, error))
            return false;
    }
    return true;
}

const char *cli_option_name(unsigned bit) {
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (rows[i].option == bit)
            return rows[i].name;
    return NULL;
}

void cli_options_dispose(struct cli_options *options) {
    free(options->arguments);
    changes_dispose(&options->changes);
}
