#include "cli/print.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "app/app_secret.h"
#include "cli/safe_text.h"

#define HIDDEN APP_HIDDEN

void print_text(FILE *out, struct slice text) {
    struct buffer safe = {0};

    safe_text_append(&safe, text);
    fwrite(safe.data != NULL ? safe.data : "", 1, safe.length, out);
    buffer_dispose(&safe);
}

/* Sorts the members: databases keep them in different orders. */
static json_t *in_order(const json_t *value) {
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_SORT_KEYS);
    json_t *sorted = json_loads(text, JSON_DECODE_ANY, NULL);

    free(text);
    return sorted;
}

json_t *print_record(const struct app *app, bool secrets) {
    json_t *record = app_to_json(app), *value;
    const char *name;
    void *next;

    if (!secrets)
        app_record_hide_secrets(record);
    json_object_foreach_safe(record, next, name, value) {
        if (json_is_object(value) || json_is_array(value))
            json_object_set_new(record, name, in_order(value));
    }
    return record;
}

void print_json(FILE *out, json_t *json) {
    json_dumpf(json, out, JSON_INDENT(2));
    fputc('\n', out);
    json_decref(json);
}

static void print_value(FILE *out, const json_t *value) {
    if (json_is_string(value))
        print_text(out, slice_of(json_string_value(value)));
    else
        json_dumpf(value, out, JSON_ENCODE_ANY);
}

/* The value in force of a field that is not set. */
static void print_default(FILE *out, const struct app *app, enum app_field field) {
    const struct app_field_info *info = &app_fields[field];

    if (info->type == APP_TYPE_NUMBER)
        fprintf(out, "%u (default)", app_number(app, field));
    else if (info->type == APP_TYPE_FLAG)
        fprintf(out, "%s (default)", info->fallback != 0 ? "true" : "false");
    else
        fprintf(out, "none (default)");
}

/* The form of other servers, and what exists during a rotation only: most apps do without. */
static bool is_rare_field(enum app_field field) {
    return field == APP_POLICY || field == APP_PREVIOUS_SECRET || field == APP_PREVIOUS_SECRET_UNTIL;
}

const char *print_time(uint64_t seconds, char text[PRINT_TIME_BYTES]) {
    const time_t time = (time_t)seconds;
    struct tm parts;

    gmtime_r(&time, &parts);
    strftime(text, PRINT_TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text;
}

void print_app(FILE *out, const struct app *app, bool secrets) {
    json_t *record = print_record(app, secrets), *value;
    char time[PRINT_TIME_BYTES];
    const char *name;

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        if (is_rare_field((enum app_field)i) && !app_field_is_set(app, (enum app_field)i))
            continue;
        fprintf(out, "%-34s ", app_fields[i].name);
        if (app_fields[i].hidden && !secrets)
            fputs(HIDDEN, out);
        else if (app_field_is_set(app, (enum app_field)i))
            print_value(out, json_object_get(record, app_fields[i].name));
        else
            print_default(out, app, (enum app_field)i);
        if (i == APP_PREVIOUS_SECRET_UNTIL && secrets)
            fprintf(out, " (%s)", print_time(app->previous_secret_until, time));
        if (app_fields[i].type == APP_TYPE_NUMBER && app_number(app, (enum app_field)i) == 0)
            fputs(" (no limit)", out);
        fputc('\n', out);
    }
    json_object_foreach(app->unknown, name, value) {
        fprintf(out, "%-34s ", name);
        print_value(out, value);
        fputc('\n', out);
    }
    json_decref(record);
}

void print_failure(bool json, const char *text) {
    json_t *object;

    if (!json) {
        fputs("curlew: ", stderr);
        print_text(stderr, slice_of(text));
        fputc('\n', stderr);
        return;
    }
    object = json_pack("{s:s}", "error", text);
    json_dumpf(object, stderr, JSON_COMPACT);
    fputc('\n', stderr);
    json_decref(object);
}

void print_warning(bool json, const char *text) {
    struct error warning;

    error_set(&warning, "warning: %s", text);
    print_failure(json, warning.text);
}
