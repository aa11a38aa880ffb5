#include "config/config_unknown.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/near_miss.h"
#include "config/config_option.h"
#include "config/config_table.h"

enum key_kind { KEY_UNKNOWN, KEY_SETTING, KEY_WITHOUT_EFFECT, KEY_SECTION, KEY_ACCEPTED };

/* The last name of a path. */
static struct slice last_name(struct slice path) {
    const char *dot = path.length > 0 ? memrchr(path.data, '.', path.length) : NULL;

    return dot != NULL ? slice_skip(path, (size_t)(dot + 1 - path.data)) : path;
}

static enum key_kind classify_key(struct slice path) {
    for (size_t i = 0; i < config_row_count; i++) {
        struct slice row = slice_of(config_rows[i].path);

        if (row.data == NULL || !slice_starts_with(row, path))
            continue;
        if (row.length == path.length)
            return (config_rows[i].flags & CONFIG_WITHOUT_EFFECT) != 0 ? KEY_WITHOUT_EFFECT : KEY_SETTING;
        if (row.data[path.length] == '.')
            return KEY_SECTION;
    }
    for (size_t i = 0; i < config_accepted_path_count; i++)
        if (slice_equal(path, slice_of(config_accepted_paths[i])))
            return KEY_ACCEPTED;
    return KEY_UNKNOWN;
}

/* True if only a `*` of an accepted path matches. */
static bool accepted_by_wildcard(struct slice path) {
    size_t parent = path.length - last_name(path).length;

    for (size_t i = 0; i < config_accepted_path_count; i++) {
        struct slice accepted = slice_of(config_accepted_paths[i]);

        if (slice_ends_with(accepted, SLICE("*")) && accepted.length - 1 == parent &&
            slice_starts_with(path, (struct slice){accepted.data, parent}))
            return true;
    }
    return false;
}

/* The one setting with that last name, empty if there is none or more than one. */
static struct slice find_namesake(struct slice name) {
    struct slice found = {0};

    for (size_t i = 0; i < config_row_count; i++) {
        struct slice row = slice_of(config_rows[i].path);

        if (row.data == NULL || !slice_equal(last_name(row), name))
            continue;
        if (found.data != NULL)
            return (struct slice){0};
        found = row;
    }
    return found;
}

/* The setting whose path is `name` with underscores for dots, as in ssl_enabled; empty if there is none. */
static struct slice find_joined(struct slice name) {
    struct slice path, variable;

    return config_option_find(name, &path, &variable) ? path : (struct slice){0};
}

/*
 * The key that was probably meant; empty if there is none: a sibling at a distance of one or two, else the only key of
 * that name in another section, else the one whose path the name joins.
 */
static struct slice likely_key(struct slice path) {
    struct slice name = last_name(path), best = {0};
    struct near_miss miss = near_miss_of(name);
    size_t parent = path.length - name.length;

    for (size_t i = 0; i < config_row_count; i++) {
        struct slice row = slice_of(config_rows[i].path), sibling;
        size_t limit = miss.limit;

        if (row.data == NULL || !slice_starts_with(row, (struct slice){path.data, parent}))
            continue;
        sibling = slice_skip(row, parent);
        sibling.length = strcspn(sibling.data, ".");
        near_miss_offer(&miss, sibling);
        if (miss.limit < limit)
            best = (struct slice){row.data, parent + sibling.length};
    }
    if (best.data == NULL && name.length > 4)
        best = find_namesake(name);
    if (best.data == NULL && parent == 0)
        best = find_joined(name);
    return best;
}

/* Settings that people look for elsewhere: what to say of a path, or of any path that ends in a name (after `*`). */
static const struct {
    const char *path;
    const char *hint;
} hints[] = {
    {"*apps", "did you mean app_manager.array.apps?"},
    {"log_level", "the environment variable LOG_LEVEL sets the log level"},
    {"logging.level", "the environment variable LOG_LEVEL sets the log level"},
    {"logging.log_level", "the environment variable LOG_LEVEL sets the log level"},
    {"log_format", "the environment variable LOG_OUTPUT_FORMAT sets the log format"},
    {"logging.format", "the environment variable LOG_OUTPUT_FORMAT sets the log format"},
    {"logging.output_format", "the environment variable LOG_OUTPUT_FORMAT sets the log format"},
    {"admin", "the environment variables CURLEW_ADMIN_LISTEN and CURLEW_ADMIN_TOKEN set up the admin API"},
};

/* True if the names have the same letters in any case; underscores and hyphens do not count, as in logLevel. */
static bool same_letters(struct slice a, struct slice b) {
    size_t i = 0, k = 0;

    for (;; i++, k++) {
        while (i < a.length && (a.data[i] == '_' || a.data[i] == '-'))
            i++;
        while (k < b.length && (b.data[k] == '_' || b.data[k] == '-'))
            k++;
        if (i == a.length || k == b.length)
            return i == a.length && k == b.length;
        if (tolower((unsigned char)a.data[i]) != tolower((unsigned char)b.data[k]))
            return false;
    }
}

const char *config_hint(struct slice path) {
    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++) {
        bool any = hints[i].path[0] == '*';

        if (same_letters(any ? last_name(path) : path, slice_of(hints[i].path + any)))
            return hints[i].hint;
    }
    return NULL;
}

/* `dotted`: the last name of the path contains dots. */
static void report_unknown(struct slice path, bool dotted, const char *file, struct config_report *report) {
    struct slice meant = likely_key(path);
    const char *hint = config_hint(path);

    if (accepted_by_wildcard(path) && meant.data == NULL)
        config_report_accepted(report, "%.*s", SLICE_ARGS(path));
    else if (dotted)
        config_report_warning(report,
                              "%s: %.*s is not a setting of this server and is ignored: a section is an object in the "
                              "object around it, not a name with a dot",
                              file, SLICE_ARGS(path));
    else if (hint != NULL)
        config_report_warning(report, "%s: %.*s is not a setting of this server and is ignored; %s", file,
                              SLICE_ARGS(path), hint);
    else if (meant.data != NULL)
        config_report_warning(report, "%s: %.*s is not a setting of this server and is ignored; did you mean %.*s?",
                              file, SLICE_ARGS(path), SLICE_ARGS(meant));
    else
        config_report_warning(report, "%s: %.*s is not a setting of this server and is ignored", file,
                              SLICE_ARGS(path));
}

static void walk_object(const json_t *object, struct buffer *path, const char *file, struct config_report *report) {
    const char *key;
    json_t *value;

    /* Jansson's iteration takes a pointer that is not const, and changes nothing. */
    json_object_foreach((json_t *)object, key, value) {
        size_t length = path->length;

        if (length > 0)
            buffer_append_byte(path, '.');
        buffer_append_string(path, key);
        /* A name with a dot is not a path. */
        switch (strchr(key, '.') != NULL ? KEY_UNKNOWN : classify_key(buffer_slice(path))) {
        case KEY_SETTING:
            break;
        case KEY_SECTION:
            if (json_is_object(value))
                walk_object(value, path, file, report);
            break;
        case KEY_WITHOUT_EFFECT:
        case KEY_ACCEPTED:
            config_report_accepted(report, "%.*s", SLICE_ARGS(buffer_slice(path)));
            break;
        case KEY_UNKNOWN:
            report_unknown(buffer_slice(path), strchr(key, '.') != NULL, file, report);
            break;
        }
        path->length = length;
    }
}

void config_report_unknown(const json_t *root, const char *file, struct config_report *report) {
    struct buffer path = {0};

    walk_object(root, &path, file, report);
    buffer_dispose(&path);
}
