#include "app/delta_setting.h"

#include <stdio.h>
#include <stdlib.h>

#include "app/record_json.h"
#include "base/alloc.h"

#define FIELD "channel_delta_compression"

/* The spelling of the algorithms in the protocol family: lower case as a word, capitalized in an object. */
static const char *const object_spelling[] = {[APP_DELTA_FOSSIL] = "Fossil", [APP_DELTA_XDELTA3] = "Xdelta3"};
static const char *const word_spelling[] = {[APP_DELTA_FOSSIL] = "fossil", [APP_DELTA_XDELTA3] = "xdelta3"};

static bool algorithm_from_name(struct slice name, enum app_delta_algorithm *algorithm) {
    if (slice_equal_ignoring_case(name, SLICE("fossil")))
        *algorithm = APP_DELTA_FOSSIL;
    else if (slice_equal_ignoring_case(name, SLICE("xdelta3")))
        *algorithm = APP_DELTA_XDELTA3;
    else
        return false;
    return true;
}

bool app_conflation_path_odd(struct slice path) {
    const char *end = path.data + path.length, *name = path.data;
    unsigned names = 0;

    for (const char *at = path.data; path.length != 0 && at <= end; at++) {
        if (at != end && *at != '.')
            continue;
        if (at == name || ++names > APP_CONFLATION_NAMES_MAX)
            return true;
        name = at + 1;
    }
    return false;
}

/* `entry` is the name of the entry in errors. */
static bool parse_delta_word(json_t *json, const char *entry, struct app_delta_setting *setting, struct error *error) {
    struct slice word = record_slice(json);

    if (slice_equal_ignoring_case(word, SLICE("inherit"))) {
        setting->kind = APP_DELTA_INHERIT;
        json_string_set(json, "inherit");
    } else if (slice_equal_ignoring_case(word, SLICE("disabled"))) {
        setting->kind = APP_DELTA_DISABLED;
        setting->enabled = false;
        json_string_set(json, "disabled");
    } else if (algorithm_from_name(word, &setting->algorithm)) {
        setting->kind = APP_DELTA_WORD;
        json_string_set(json, word_spelling[setting->algorithm]);
    } else {
        return error_set(error, "%s must be inherit, disabled, fossil, xdelta3 or an object", entry);
    }
    return true;
}

static bool parse_delta_member(const char *entry, const char *key, json_t *value, struct app_delta_setting *setting,
                               bool *known, struct error *error) {
    struct slice name = slice_of(key);
    char field[200];

    *known = true;
    snprintf(field, sizeof field, "%.120s.%.60s", entry, key);
    if (slice_equal(name, SLICE("enabled")))
        return record_unset(value) || record_flag(value, false, field, &setting->enabled, error);
    if (slice_equal(name, SLICE("enable_tags")))
        return record_unset(value) || record_flag(value, false, field, &setting->enable_tags, error);
    if (slice_equal(name, SLICE("max_messages_per_key")))
        return record_unset(value) ||
               record_number(value, RECORD_NEGATIVE_REFUSED, field, &setting->max_messages_per_key, error);
    if (slice_equal(name, SLICE("max_conflation_keys"))) {
        setting->max_conflation_keys_set = !record_unset(value);
        return record_unset(value) ||
               record_number(value, RECORD_NEGATIVE_REFUSED, field, &setting->max_conflation_keys, error);
    }
    if (slice_equal(name, SLICE("conflation_key")))
        return record_text(value, field, &setting->conflation_key, error);
    if (slice_equal(name, SLICE("algorithm"))) {
        if (record_unset(value))
            return true;
        if (!json_is_string(value) || !algorithm_from_name(record_slice(value), &setting->algorithm))
            return error_set(error, "%s must be fossil or xdelta3", field);
        json_string_set(value, object_spelling[setting->algorithm]);
        return true;
    }
    *known = false;
    return true;
}

static void note_delta_member(const char *entry, const char *key, app_note_function *note, void *context) {
    static const char *const known[] = {
        "enabled", "algorithm", "conflation_key", "enable_tags", "max_messages_per_key", "max_conflation_keys"};
    struct near_miss miss = near_miss_of(slice_of(key));
    char text[340];

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        near_miss_offer(&miss, slice_of(known[i]));
    snprintf(text, sizeof text, "%s.%.80s is not a field that this server knows; it is kept", entry, key);
    record_append_meant(text, sizeof text, "", &miss);
    note(context, text);
}

/* Tells of a conflation key that can be found in no message. */
static void note_lost_key(const char *entry, const struct app_delta_setting *setting, app_note_function *note,
                          void *context) {
    char text[300];

    if (note == NULL)
        return;
    if (app_conflation_path_odd(setting->conflation_key)) {
        snprintf(text, sizeof text, "%s.conflation_key finds nothing: it is 1 to %d names with dots between them",
                 entry, APP_CONFLATION_NAMES_MAX);
        note(context, text);
    }
    if (!setting->enable_tags && slice_starts_with(setting->conflation_key, SLICE("tags."))) {
        snprintf(text, sizeof text, "%s.conflation_key finds nothing: with enable_tags false, messages have no tags",
                 entry);
        note(context, text);
    }
}

static bool parse_delta_entry(const char *pattern, json_t *json, struct app_delta_setting *setting,
                              app_note_function *note, void *context, struct error *error) {
    const char *key;
    json_t *value;
    char entry[120];
    bool known;

    *setting = (struct app_delta_setting){
        .pattern = slice_of(pattern),
        .kind = APP_DELTA_OBJECT,
        .enabled = true,
        .max_messages_per_key = 10,
        .max_conflation_keys = 100,
        .enable_tags = true,
    };
    snprintf(entry, sizeof entry, FIELD "[\"%.80s\"]", pattern);
    if (setting->pattern.length == 0)
        return error_set(error, FIELD " holds an empty channel name; use * for all channels");
    if (record_count(setting->pattern, '*') > 1)
        return error_set(error, "%s: a pattern may hold one * only", entry);
    if (json_is_string(json))
        return parse_delta_word(json, entry, setting, error);
    if (!json_is_object(json))
        return error_set(error, "%s must be inherit, disabled, fossil, xdelta3 or an object", entry);
    json_object_foreach(json, key, value) {
        if (!parse_delta_member(entry, key, value, setting, &known, error))
            return false;
        if (!known && note != NULL)
            note_delta_member(entry, key, note, context);
    }
    note_lost_key(entry, setting, note, context);
    return true;
}

json_t *app_delta_settings_parse(const json_t *json, struct app_delta_setting **settings, size_t *count,
                                 app_note_function *note, void *context, struct error *error) {
    const char *pattern;
    json_t *map, *value;

    *settings = NULL;
    *count = 0;
    if (!json_is_object(json)) {
        error_set(error, FIELD " must be an object of channel patterns");
        return NULL;
    }
    map = json_deep_copy(json);
    if (json_object_size(map) > 0)
        *settings = alloc_array(NULL, json_object_size(map), sizeof **settings);
    json_object_foreach(map, pattern, value) {
        if (!parse_delta_entry(pattern, value, &(*settings)[*count], note, context, error)) {
            free(*settings);
            *settings = NULL;
            *count = 0;
            json_decref(map);
            return NULL;
        }
        (*count)++;
    }
    return map;
}
