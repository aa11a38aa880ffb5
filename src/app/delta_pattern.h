/*
 * Which entry of an app's `channel_delta_compression` is for a channel: the one of its exact name, else of the patterns
 * that match the one with the most characters beside its `*`; of two that are equal in this, the one with the longer
 * beginning.
 *
 *     prices*   *-ticks   prices-*-ticks   *
 *
 * The entries are sorted once, when the record is parsed. A search takes a few comparisons for the exact names and one
 * for each pattern. Any thread.
 */
#pragma once

#include "app/app.h"

/* Sorts the entries: those of exact names first, whose number is returned, then the patterns, the one that wins first.
 */
size_t app_delta_sort(struct app_delta_setting *settings, size_t count);

/* The search behind app_delta_find. */
const struct app_delta_setting *app_delta_search(const struct app *app, struct slice channel);

/* The entry of the record for a channel, NULL if there is none. Valid as long as the record. */
static inline const struct app_delta_setting *app_delta_find(const struct app *app, struct slice channel) {
    return app->delta_setting_count != 0 ? app_delta_search(app, channel) : NULL;
}

/* True if the entry (NULL: none) has settings of its own; else those of the server apply. */
static inline bool app_delta_has_settings(const struct app_delta_setting *setting) {
    return setting != NULL && (setting->kind == APP_DELTA_WORD || setting->kind == APP_DELTA_OBJECT);
}

/* True if the entry (NULL: none) switches deltas off for the channel: only subscriptions that ask for them by
 * themselves get them. */
static inline bool app_delta_is_off(const struct app_delta_setting *setting) {
    return setting != NULL && !setting->enabled;
}

/* True if subscribers of the channel get the tags of events. `server_default` is the setting of the server. */
static inline bool app_delta_shows_tags(const struct app_delta_setting *setting, bool server_default) {
    return setting != NULL && app_delta_has_settings(setting) ? setting->enable_tags : server_default;
}
