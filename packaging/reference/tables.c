/*
 * Prints the tables of commands, settings and fields of apps as one JSON object, from which reference.py writes the
 * manual pages and the completions of shells. The build runs it; it is not installed.
 */
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "app/app.h"
#include "app/webhook_setting.h"
#include "command/command_line.h"
#include "config/config_app_field.h"
#include "config/config_table.h"
#include "config/config_value.h"

static json_t *command_json(const struct command_text *text) {
    return json_pack("{s:s, s:s, s:s+, s:[]}", "name", text->name, "summary", text->summary, "help", text->usage,
                     text->ending, "commands");
}

static json_t *commands_json(void) {
    json_t *commands = json_array();
    struct command_text text;

    for (size_t i = 0; command_line_text(i, &text); i++) {
        json_t *command = command_json(&text);

        for (size_t k = 0; command_line_subcommand_text(i, k, &text); k++)
            json_array_append_new(json_object_get(command, "commands"), command_json(&text));
        json_array_append_new(commands, command);
    }
    return commands;
}

/* The words of a text with blanks between them. */
static json_t *words_json(const char *text) {
    json_t *words = json_array();

    while (text != NULL && *text != '\0') {
        size_t length = strcspn(text, " ");

        json_array_append_new(words, json_stringn(text, length));
        text += length;
        text += strspn(text, " ");
    }
    return words;
}

static json_t *choices_json(const struct config_row *row) {
    json_t *choices = json_array();

    for (size_t i = 0; row->choices != NULL && row->choices[i] != NULL; i++)
        json_array_append_new(choices, words_json(row->choices[i]));
    return choices;
}

static json_t *setting_json(const struct config_row *row) {
    struct buffer valid = {0};
    json_t *setting;

    config_value_describe(row, &valid);
    setting = json_pack("{s:s?, s:s?, s:o, s:s%, s:o, s:b, s:b}", "path", row->path, "default", row->fallback,
                        "variables", words_json(row->variables), "valid", valid.data, valid.length, "choices",
                        choices_json(row), "without_effect", (row->flags & CONFIG_WITHOUT_EFFECT) != 0, "reloaded",
                        (row->flags & (CONFIG_RELOADED | CONFIG_APP_DEFAULT)) != 0);
    buffer_dispose(&valid);
    return setting;
}

static json_t *settings_json(void) {
    json_t *settings = json_array();

    for (size_t i = 0; i < config_row_count; i++)
        json_array_append_new(settings, setting_json(&config_rows[i]));
    return settings;
}

static json_t *accepted_json(void) {
    json_t *accepted = json_array();

    for (size_t i = 0; i < config_accepted_path_count; i++)
        json_array_append_new(accepted, json_string(config_accepted_paths[i]));
    return accepted;
}

/* The variable that sets the field of the app in the environment; null if there is none. */
static json_t *field_variable_json(const char *field) {
    char variable[128];
    int length = snprintf(variable, sizeof variable, "SOCKUDO_DEFAULT_APP_%s", field);

    for (char *c = variable; *c != '\0'; c++)
        *c = (char)toupper((unsigned char)*c);
    if (!config_app_field_reads((struct slice){variable, (size_t)length}))
        return json_null();
    return json_string(variable);
}

static json_t *fields_json(void) {
    static const char *const types[] = {
        [APP_TYPE_TEXT] = "text",
        [APP_TYPE_FLAG] = "true or false",
        [APP_TYPE_NUMBER] = "number",
        [APP_TYPE_JSON] = "JSON",
    };
    json_t *fields = json_array();

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        const struct app_field_info *field = &app_fields[i];

        json_array_append_new(fields,
                              json_pack("{s:s, s:s, s:i, s:o}", "name", field->name, "type", types[field->type],
                                        "default", (int)field->fallback, "variable", field_variable_json(field->name)));
    }
    return fields;
}

static json_t *events_json(void) {
    json_t *events = json_array();

    for (unsigned bit = 1; bit <= WEBHOOK_SUBSCRIPTION_COUNT; bit <<= 1)
        json_array_append_new(events, json_string(app_webhook_event_name((enum app_webhook_event)bit)));
    return events;
}

int main(void) {
    json_t *tables =
        json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "version", CURLEW_VERSION, "commands", commands_json(), "settings",
                  settings_json(), "fields", fields_json(), "accepted", accepted_json(), "events", events_json());
    int result = tables != NULL ? json_dumpf(tables, stdout, JSON_INDENT(1)) : -1;

    json_decref(tables);
    return result == 0 && fflush(stdout) == 0 ? 0 : 1;
}
