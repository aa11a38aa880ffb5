#include "app/delta_pattern.h"

#include <stdlib.h>

static size_t literal_length(const struct app_delta_setting *setting) {
    return (size_t)setting->prefix + setting->suffix;
}

/* Exact names come first, in the order of their bytes. */
static int compare_settings(const void *left, const void *right) {
    const struct app_delta_setting *a = left, *b = right;

    if (a->is_pattern != b->is_pattern)
        return a->is_pattern ? 1 : -1;
    if (!a->is_pattern)
        return slice_compare(a->pattern, b->pattern);
    if (literal_length(a) != literal_length(b))
        return literal_length(a) < literal_length(b) ? 1 : -1;
    if (a->prefix != b->prefix)
        return a->prefix < b->prefix ? 1 : -1;
    return slice_compare(a->pattern, b->pattern);
}

size_t app_delta_sort(struct app_delta_setting *settings, size_t count) {
    size_t names = 0;

    for (size_t i = 0; i < count; i++) {
        struct slice pattern = settings[i].pattern;
        const char *star = memchr(pattern.data, '*', pattern.length);

        settings[i].is_pattern = star != NULL;
        settings[i].prefix = (uint32_t)(star != NULL ? (size_t)(star - pattern.data) : pattern.length);
        settings[i].suffix = star != NULL ? (uint32_t)(pattern.length - settings[i].prefix - 1) : 0;
        names += star == NULL;
    }
    if (count > 1)
        qsort(settings, count, sizeof *settings, compare_settings);
    return names;
}

static const struct app_delta_setting *find_exact_name(const struct app_delta_setting *settings, size_t count,
                                                       struct slice channel) {
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = slice_compare(channel, settings[middle].pattern);

        if (order == 0)
            return &settings[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static bool delta_pattern_matches(const struct app_delta_setting *setting, struct slice channel) {
    const char *pattern = setting->pattern.data;

    return channel.length >= literal_length(setting) && memcmp(channel.data, pattern, setting->prefix) == 0 &&
           memcmp(channel.data + channel.length - setting->suffix, pattern + setting->prefix + 1, setting->suffix) == 0;
}

const struct app_delta_setting *app_delta_search(const struct app *app, struct slice channel) {
    const struct app_delta_setting *found = find_exact_name(app->delta_settings, app->delta_name_count, channel);

    for (size_t i = app->delta_name_count; i < app->delta_setting_count && found == NULL; i++)
        if (delta_pattern_matches(&app->delta_settings[i], channel))
            found = &app->delta_settings[i];
    return found;
}
