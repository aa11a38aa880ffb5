/*
 * The setting `channel_delta_compression` of an app: which channels send differences instead of whole messages. It is
 * parsed and validated here, and written out again with the record. delta_pattern.h finds the entry of a channel.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app/webhook_setting.h"
#include "base/error.h"
#include "base/slice.h"

enum app_delta_kind {
    APP_DELTA_INHERIT,  /* "inherit": the default of the server */
    APP_DELTA_DISABLED, /* "disabled" */
    APP_DELTA_WORD,     /* "fossil" or "xdelta3" */
    APP_DELTA_OBJECT,   /* an object with settings */
};

/* Names in the path of a conflation key; a longer path finds nothing. */
#define APP_CONFLATION_NAMES_MAX 16

enum app_delta_algorithm { APP_DELTA_FOSSIL, APP_DELTA_XDELTA3 };

/* One entry. Its slices point into delta_json of the record. */
struct app_delta_setting {
    struct slice pattern; /* a channel name, which may have one `*` */
    /* For delta_pattern.h: whether it has one, and how many bytes are before and behind it. */
    bool is_pattern;
    uint32_t prefix, suffix;
    enum app_delta_kind kind;
    enum app_delta_algorithm algorithm;
    bool enabled;
    struct slice conflation_key; /* data is NULL when there is none */
    uint32_t max_messages_per_key;
    uint32_t max_conflation_keys;
    bool max_conflation_keys_set; /* false: the bound of the server applies */
    bool enable_tags;
};

/*
 * Reads the map `json`. Returns the normalized map, a new reference that the settings point into, or NULL with an error
 * that names the entry. Free the settings with free() before the map.
 */
json_t *app_delta_settings_parse(const json_t *json, struct app_delta_setting **settings, size_t *count,
                                 app_note_function *note, void *context, struct error *error);

/* True if the path of a conflation key has a name too many, or an empty one: it finds nothing, or not what was meant.
 */
bool app_conflation_path_odd(struct slice path);
