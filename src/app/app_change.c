#include "app/app_change.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/log.h"

#define LINES_PER_SECOND 100

static void append_field_name(struct buffer *names, const char *name) {
    buffer_append_string(names, names->length != 0 ? ", " : "");
    buffer_append_string(names, name);
}

/* Appends the unknown fields of `first` that `second` has not, or has otherwise if `compares`. */
static void append_unknown_fields(json_t *first, const json_t *second, bool compares, struct buffer *names) {
    const char *name;
    json_t *value;

    json_object_foreach(first, name, value) {
        const json_t *other = json_object_get(second, name);
        if (other == NULL || (compares && !json_equal(value, other)))
            append_field_name(names, name);
    }
}

bool app_change_concerns_sessions(const struct app *before, const struct app *after) {
    return (before->enabled && !after->enabled) || before->origins_hash != after->origins_hash ||
           before->enable_user_authentication != after->enable_user_authentication;
}

/* True if the values in force differ: a default that becomes explicit, as in a column that is NOT NULL, is no change.
 */
static bool field_differs(enum app_field field, const struct app *before, const struct app *after, const json_t *old,
                          const json_t *new) {
    const json_t *first = json_object_get(old, app_fields[field].name);
    const json_t *second = json_object_get(new, app_fields[field].name);
    size_t offset = app_fields[field].offset;

    if (before != NULL && after != NULL && app_fields[field].type == APP_TYPE_NUMBER)
        return app_number(before, field) != app_number(after, field);
    if (before != NULL && after != NULL && app_fields[field].type == APP_TYPE_FLAG)
        return *(const bool *)((const char *)before + offset) != *(const bool *)((const char *)after + offset);
    return first != second && !json_equal(first, second);
}

void app_change_append_fields(const struct app *before, const struct app *after, struct buffer *names) {
    json_t *old = before != NULL ? app_to_json(before) : json_object();
    json_t *new = after != NULL ? app_to_json(after) : json_object();

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        if (field_differs((enum app_field)i, before, after, old, new))
            append_field_name(names, app_fields[i].name);
    append_unknown_fields(after != NULL ? after->unknown : NULL, before != NULL ? before->unknown : NULL, true, names);
    append_unknown_fields(before != NULL ? before->unknown : NULL, after != NULL ? after->unknown : NULL, false, names);
    json_decref(old);
    json_decref(new);
}

void app_change_log(struct slice id, const struct app *before, const struct app *after, const char *who) {
    const char *verb = before == NULL ? "created" : "changed";
    struct buffer names = {0};

    app_change_append_fields(before, after, &names);
    log_info("app", "app %.*s was %s %s: %s", SLICE_ARGS(id), verb, who,
             names.length != 0 ? buffer_string(&names) : "no field differs");
    buffer_dispose(&names);
}

void app_change_log_removal(struct slice id, uint64_t connections, const char *who) {
    log_write_each(LOG_WARNING, "app", "app %.*s was deleted %s; it had %llu connection%s here", SLICE_ARGS(id), who,
                   (unsigned long long)connections, connections == 1 ? "" : "s");
}

/* Takes one of the lines of this second. `last` is set for the first change that gets none. */
static bool take_line(bool *last) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static uint64_t second;
    static unsigned lines;
    uint64_t now = clock_monotonic_ms() / 1000;
    unsigned line;

    pthread_mutex_lock(&mutex);
    if (second != now)
        lines = 0;
    second = now;
    line = lines;
    lines += lines <= LINES_PER_SECOND;
    pthread_mutex_unlock(&mutex);
    *last = line == LINES_PER_SECOND;
    return line < LINES_PER_SECOND;
}

void app_change_log_bounded(struct slice id, const struct app *before, const struct app *after, const char *who) {
    struct buffer names = {0};
    bool differs, last;

    app_change_append_fields(before, after, &names);
    differs = before == NULL || names.length != 0;
    buffer_dispose(&names);
    if (!differs)
        return;
    if (take_line(&last))
        app_change_log(id, before, after, who);
    else if (last)
        log_info("app", "more than %u apps were changed %s within a second; the others are not named", LINES_PER_SECOND,
                 who);
}
