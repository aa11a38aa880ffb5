/*
 * An app's `channel_delta_compression`: which channels send differences instead of whole messages.
 * Parsed and validated here; nothing uses it yet but the record itself.
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
    APP_DELTA_INHERIT,  /* the word: what the server does by default */
    APP_DELTA_DISABLED, /* the word */
    APP_DELTA_WORD,     /* "fossil" or "xdelta3" */
    APP_DELTA_OBJECT,   /* with settings of its own */
};

enum app_delta_algorithm { APP_DELTA_FOSSIL, APP_DELTA_XDELTA3 };

/* One entry. Strings are slices into the record's delta_json. */
struct app_delta_setting {
    struct slice pattern; /* a channel's name, or one `*` in it */
    enum app_delta_kind kind;
    enum app_delta_algorithm algorithm;
    bool enabled;
    struct slice conflation_key; /* data is NULL when there is none */
    uint32_t max_messages_per_key;
    uint32_t max_conflation_keys;
    bool max_conflation_keys_set; /* else the server's bound holds */
    bool enable_tags;
};

/*
 * Reads the map `json`. Returns the normalised map, a new reference that the settings point into, or NULL with an
 * error that names the entry. Free the settings with free(), before the map.
 */
json_t *app_delta_settings_parse(const json_t *json, struct app_delta_setting **settings, size_t *count,
                                 app_note_function *note, void *context, struct error *error);
