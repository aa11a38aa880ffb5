#include "app/policy_setting.h"

#include <stdio.h>

#include "app/record_json.h"

/* Where the flat fields have their places: the section, or NULL for the policy itself. */
static const struct {
    const char *section, *field;
} places[] = {
    {"limits", "max_connections"},
    {"limits", "max_client_events_per_second"},
    {"limits", "max_read_requests_per_second"},
    {"limits", "max_backend_events_per_second"},
    {"limits", "max_presence_members_per_channel"},
    {"limits", "max_presence_member_size_in_kb"},
    {"limits", "max_channel_name_length"},
    {"limits", "max_event_channels_at_once"},
    {"limits", "max_event_name_length"},
    {"limits", "max_event_payload_in_kb"},
    {"limits", "max_event_batch_size"},
    {"features", "enable_client_messages"},
    {"features", "enable_user_authentication"},
    {"features", "enable_watchlist_events"},
    {"channels", "allowed_origins"},
    {"channels", "channel_delta_compression"},
    {NULL, "webhooks"},
};
#define PLACE_COUNT (sizeof places / sizeof places[0])

static const char *const sections[] = {"limits", "features", "channels"};

/* The index of the place of a field; PLACE_COUNT if it has none. */
static size_t find_place(const char *field) {
    size_t i = 0;

    while (i < PLACE_COUNT && !slice_equal(slice_of(places[i].field), slice_of(field)))
        i++;
    return i;
}

bool app_policy_covers(const char *field) {
    return find_place(field) != PLACE_COUNT;
}

json_t *app_policy_get(const json_t *policy, const char *field) {
    size_t at = find_place(field);

    if (at == PLACE_COUNT)
        return NULL;
    return json_object_get(places[at].section != NULL ? json_object_get(policy, places[at].section) : policy, field);
}

void app_policy_put(json_t *policy, const char *field, json_t *value) {
    const char *section = places[find_place(field)].section;
    json_t *at = section != NULL ? json_object_get(policy, section) : policy;

    if (value == NULL) {
        json_object_del(at, field);
        return;
    }
    if (!json_is_object(at)) {
        at = json_object();
        json_object_set_new(policy, section, at);
    }
    json_object_set_new(at, field, value);
}

void app_policy_init(struct app_policy *values) {
    *values = (struct app_policy){
        .decay_seconds = 1,
        .message_rate_limit = {.max_attempts = 60, .decay_seconds = 60},
    };
}

/* --- reading --- */

static bool read_policy_number(const json_t *object, const char *name, const char *path, uint32_t *number,
                               struct error *error) {
    const json_t *json = json_object_get(object, name);
    char field[80];

    snprintf(field, sizeof field, "%s.%s", path, name);
    return record_unset(json) || record_number(json, RECORD_NEGATIVE_REFUSED, field, number, error);
}

/* A window of 0 seconds is one of a second. */
static bool read_policy_window(const json_t *object, const char *path, uint32_t *seconds, struct error *error) {
    if (!read_policy_number(object, "decay_seconds", path, seconds, error))
        return false;
    *seconds += *seconds == 0;
    return true;
}

static bool read_policy_flag(const json_t *object, const char *name, const char *path, bool *flag,
                             struct error *error) {
    const json_t *json = json_object_get(object, name);
    char field[80];

    snprintf(field, sizeof field, "%s.%s", path, name);
    return record_unset(json) || record_flag(json, false, field, flag, error);
}

static bool read_message_rate_limit(const json_t *json, struct app_policy *values, struct error *error) {
    static const char path[] = "policy.limits.message_rate_limit";

    if (record_unset(json))
        return true;
    if (!json_is_object(json))
        return error_set(error, "%s must be an object", path);
    return read_policy_flag(json, "enabled", path, &values->message_rate_limit.enabled, error) &&
           read_policy_number(json, "max_attempts", path, &values->message_rate_limit.max_attempts, error) &&
           read_policy_window(json, path, &values->message_rate_limit.decay_seconds, error) &&
           read_policy_flag(json, "terminate_on_limit", path, &values->message_rate_limit.terminate_on_limit, error);
}

/* Members of `limits` that are no flat fields. */
static const char *const more_limits[] = {"decay_seconds", "terminate_on_limit", "message_rate_limit"};
#define MORE_LIMITS (sizeof more_limits / sizeof more_limits[0])

static const char *const rate_members[] = {"enabled", "max_attempts", "decay_seconds", "terminate_on_limit"};
#define RATE_MEMBERS (sizeof rate_members / sizeof rate_members[0])

static bool is_policy_word(const char *name, const char *const *words, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (slice_equal(slice_of(words[i]), slice_of(name)))
            return true;
    return false;
}

static bool is_section(const char *name) {
    return is_policy_word(name, sections, sizeof sections / sizeof sections[0]);
}

/* Whether `name` is a member of that section (NULL: of the policy itself) that this server reads. */
static bool is_policy_member(const char *section, const char *name) {
    size_t at = find_place(name);

    if (section == NULL && is_section(name))
        return true;
    if (section == sections[0] && is_policy_word(name, more_limits, MORE_LIMITS))
        return true;
    if (at == PLACE_COUNT || (section == NULL) != (places[at].section == NULL))
        return false;
    return section == NULL || slice_equal(slice_of(section), slice_of(places[at].section));
}

/* Appends the member that was probably meant, with its section: also one that stands in another section. */
static void append_policy_member_meant(char *text, size_t size, const char *name) {
    struct near_miss miss = near_miss_of(slice_of(name));
    const char *section = NULL;
    char path[40];

    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
        near_miss_offer(&miss, slice_of(sections[i]));
    for (size_t i = 0; i < PLACE_COUNT; i++) {
        near_miss_offer(&miss, slice_of(places[i].field));
        if (miss.best.data == places[i].field)
            section = places[i].section;
    }
    for (size_t i = 0; i < MORE_LIMITS; i++) {
        near_miss_offer(&miss, slice_of(more_limits[i]));
        if (miss.best.data == more_limits[i])
            section = sections[0];
    }
    snprintf(path, sizeof path, "policy.%s%s", section != NULL ? section : "", section != NULL ? "." : "");
    record_append_meant(text, size, path, &miss);
}

static void note_rate_members(const json_t *object, app_note_function *note, void *context) {
    const char *name;
    json_t *value;

    /* Jansson's iteration needs a pointer that is not const, but changes nothing. */
    json_object_foreach((json_t *)object, name, value) {
        struct near_miss miss = near_miss_of(slice_of(name));
        char text[240];

        if (is_policy_word(name, rate_members, RATE_MEMBERS))
            continue;
        for (size_t i = 0; i < RATE_MEMBERS; i++)
            near_miss_offer(&miss, slice_of(rate_members[i]));
        snprintf(text, sizeof text, "policy.limits.message_rate_limit.%.80s is kept, and not used by this server",
                 name);
        record_append_meant(text, sizeof text, "", &miss);
        note(context, text);
    }
}

static void note_policy_members(const json_t *object, const char *section, app_note_function *note, void *context) {
    const char *name;
    json_t *value;

    /* Jansson's iteration needs a pointer that is not const, but changes nothing. */
    json_object_foreach((json_t *)object, name, value) {
        char text[240];

        if (json_is_null(value) || is_policy_member(section, name))
            continue;
        snprintf(text, sizeof text, "policy.%s%s%.80s is kept, and not used by this server",
                 section != NULL ? section : "", section != NULL ? "." : "", name);
        append_policy_member_meant(text, sizeof text, name);
        note(context, text);
    }
}

bool app_policy_parse(const json_t *policy, struct app_policy *values, app_note_function *note, void *context,
                      struct error *error) {
    const json_t *limits = json_object_get(policy, "limits");

    app_policy_init(values);
    if (!json_is_object(policy))
        return error_set(error, "policy must be an object with limits, features, channels and webhooks");
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        const json_t *section = json_object_get(policy, sections[i]);
        if (!record_unset(section) && !json_is_object(section))
            return error_set(error, "policy.%s must be an object", sections[i]);
    }
    if (!read_policy_window(limits, "policy.limits", &values->decay_seconds, error) ||
        !read_policy_flag(limits, "terminate_on_limit", "policy.limits", &values->terminate_on_limit, error) ||
        !read_message_rate_limit(json_object_get(limits, "message_rate_limit"), values, error))
        return false;
    if (note == NULL)
        return true;
    note_policy_members(policy, NULL, note, context);
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
        note_policy_members(json_object_get(policy, sections[i]), sections[i], note, context);
    note_rate_members(json_object_get(limits, "message_rate_limit"), note, context);
    return true;
}
