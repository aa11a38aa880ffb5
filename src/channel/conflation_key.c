#include "channel/conflation_key.h"

#include "app/delta_setting.h"
#include "base/json.h"
#include "base/number_text.h"

enum { MEMBER, DATA, LOOKED_FOR };

/* Cuts the first name off the path. */
static struct slice take_path_name(struct slice *path) {
    const char *dot = path->length != 0 ? memchr(path->data, '.', path->length) : NULL;
    struct slice name = *path;

    if (dot == NULL) {
        *path = (struct slice){0};
        return name;
    }
    name.length = (size_t)(dot - path->data);
    *path = slice_skip(*path, name.length + 1);
    return name;
}

static unsigned path_names(struct slice path) {
    unsigned names = path.length != 0;

    for (size_t i = 0; i < path.length; i++)
        names += path.data[i] == '.';
    return names;
}

static bool is_named(struct json_value key, struct slice name) {
    struct buffer storage = {0};
    bool same = slice_equal(json_decode_string(key, &storage), name);

    buffer_dispose(&storage);
    return same;
}

/* Finds a member of an object that was parsed: the last one of the name. */
static bool find_member(struct json_value object, struct slice name, struct json_value *member) {
    struct json_iterator iterator = json_iterate(object);
    struct json_value key, value;

    member->type = JSON_TYPE_ABSENT;
    while (json_next(&iterator, &key, &value))
        if (is_named(key, name))
            *member = value;
    return member->type != JSON_TYPE_ABSENT;
}

/* Follows so many names of a path from a value down. False if they lead nowhere. Only the text of a string is parsed:
 * all else was, as a part of what it is in. */
static bool follow_path(struct slice path, unsigned names, struct json_value *value) {
    for (; names != 0; names--) {
        struct slice name = take_path_name(&path);
        struct json_value inner;

        if (value->type == JSON_TYPE_STRING) {
            if (!json_scan_object(value->token, &name, &inner, 1, NULL) || inner.type == JSON_TYPE_ABSENT)
                return false;
        } else if (value->type != JSON_TYPE_OBJECT || !find_member(*value, name, &inner)) {
            return false;
        }
        *value = inner;
    }
    return true;
}

/* Replaces a string by the JSON text in it, whose value is an object if the path goes on. */
static void enter_text(struct json_value *data, struct buffer *storage) {
    if (data->type == JSON_TYPE_STRING)
        data->token = json_decode_string(*data, storage);
}

/* Finds the value of a path in a message. `storage` gets the decoded data if the value is in it. */
static bool find_key_value(struct slice path, struct slice message, struct buffer *storage, struct json_value *value) {
    struct slice rest = path;
    struct slice names[LOOKED_FOR] = {[MEMBER] = take_path_name(&rest), [DATA] = SLICE("data")};
    struct json_value found[LOOKED_FOR];
    unsigned count = path_names(path);
    bool in_data = slice_equal(names[MEMBER], names[DATA]);

    if (count == 0 || count > APP_CONFLATION_NAMES_MAX || !json_scan_object(message, names, found, LOOKED_FOR, NULL))
        return false;
    *value = found[MEMBER];
    if (in_data && count > 1)
        enter_text(value, storage);
    if (value->type != JSON_TYPE_ABSENT && follow_path(rest, count - 1, value))
        return true;
    if (in_data)
        return false;
    *value = found[DATA];
    enter_text(value, storage);
    return follow_path(path, count, value);
}

static bool continues_number(char byte) {
    return (byte >= '0' && byte <= '9') || byte == '-' || byte == '+' || byte == '.' || byte == 'e' || byte == 'E';
}

/* Appends an object or array without strings in it: without blanks, and its numbers in their shortest form. */
static bool append_compact_value(struct slice token, struct buffer *key, size_t start) {
    for (size_t i = 0, end; i < token.length; i = end) {
        char byte = token.data[i];

        end = i + 1;
        if (byte == '-' || (byte >= '0' && byte <= '9')) {
            while (continues_number(token.data[end])) /* a bracket is behind it */
                end++;
            if (!number_text_append(key, (struct slice){token.data + i, end - i}))
                return false;
        } else if (byte != ' ' && byte != '\t' && byte != '\r' && byte != '\n') {
            buffer_append_byte(key, byte);
        }
        if (key->length - start > CONFLATION_KEY_MAX)
            return false;
    }
    return true;
}

static bool append_key_value(struct json_value value, struct buffer *key, size_t start) {
    struct buffer storage = {0};
    struct slice text;
    bool good;

    if (value.type == JSON_TYPE_NUMBER)
        return number_text_append(key, value.token);
    if (value.type == JSON_TYPE_OBJECT || value.type == JSON_TYPE_ARRAY)
        return memchr(value.token.data, '"', value.token.length) == NULL &&
               append_compact_value(value.token, key, start);
    if (value.type != JSON_TYPE_STRING) {
        buffer_append(key, value.token);
        return true;
    }
    if (json_decoded_length(value) > CONFLATION_KEY_MAX)
        return false;
    text = json_decode_string(value, &storage);
    good = text.length != 0 && memchr(text.data, '"', text.length) == NULL;
    if (good)
        buffer_append(key, text);
    buffer_dispose(&storage);
    return good;
}

bool conflation_key_of(struct slice path, struct slice message, struct buffer *key) {
    struct buffer storage = {0};
    size_t start = key->length;
    struct json_value value;
    bool good;

    good = find_key_value(path, message, &storage, &value) && append_key_value(value, key, start) &&
           key->length - start <= CONFLATION_KEY_MAX;
    if (!good)
        key->length = start;
    buffer_dispose(&storage);
    return good;
}
