#include "channel/filter/tags.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "channel/filter/tag_number.h"

/* A tag's texts are adjacent: first the key, then the value. */
struct tag {
    const char *text;
    uint32_t key_length, value_length;
    double number; /* the value's, read once for all filters; NaN: it is none */
};

struct tags {
    atomic_uint references;
    uint32_t count;
    size_t bytes;
    struct tag list[]; /* sorted by the bytes of the keys; the texts follow */
};

static struct slice tag_key(const struct tag *tag) {
    return (struct slice){tag->text, tag->key_length};
}

static struct slice tag_value(const struct tag *tag) {
    return (struct slice){tag->text + tag->key_length, tag->value_length};
}

/* --- reading --- */

/* Checks one member; `place` is its number among the members, from 1 on. */
static bool check_tag(struct json_value key, struct json_value value, size_t place, struct error *error) {
    size_t key_length = json_decoded_length(key), value_length = json_decoded_length(value);

    if (value.type != JSON_TYPE_STRING)
        return error_set(error, "the value of tag %zu must be a string", place);
    if (key_length == 0)
        return error_set(error, "the key of tag %zu must not be empty", place);
    if (key_length > TAG_KEY_MAX)
        return error_set(error, "the key of tag %zu is %zu bytes, and at most %d are allowed", place, key_length,
                         TAG_KEY_MAX);
    if (value_length > TAG_VALUE_MAX)
        return error_set(error, "the value of tag %zu is %zu bytes, and at most %d are allowed", place, value_length,
                         TAG_VALUE_MAX);
    return true;
}

/* Counts the members and the bytes of their texts; false if one of them is refused. */
static bool measure_tags(struct json_value object, size_t *count, size_t *bytes, struct error *error) {
    struct json_iterator iterator = json_iterate(object);
    struct json_value key, value;

    *count = *bytes = 0;
    if (object.type != JSON_TYPE_OBJECT)
        return error_set(error, "tags must be an object of strings");
    while (json_next(&iterator, &key, &value)) {
        if (++*count > TAGS_MAX)
            return error_set(error, "there are more than %d tags", TAGS_MAX);
        if (!check_tag(key, value, *count, error))
            return false;
        *bytes += json_decoded_length(key) + json_decoded_length(value);
    }
    return true;
}

/* Returns the place of the first tag whose key is not less than `key`. */
static uint32_t tag_place(const struct tags *tags, struct slice key) {
    uint32_t low = 0, high = tags->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (slice_compare(tag_key(&tags->list[middle]), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void put_tag(struct tags *tags, struct tag tag) {
    uint32_t place = tag_place(tags, tag_key(&tag));

    if (place == tags->count || !slice_equal(tag_key(&tags->list[place]), tag_key(&tag))) {
        memmove(&tags->list[place + 1], &tags->list[place], (tags->count - place) * sizeof tags->list[0]);
        tags->count++;
    }
    tags->list[place] = tag;
}

/* Decodes a string to `*at` and moves it behind the bytes. */
static uint32_t copy_decoded(struct json_value string, struct buffer *scratch, char **at) {
    struct slice text;

    scratch->length = 0;
    text = json_decode_string(string, scratch);
    if (text.length != 0)
        memcpy(*at, text.data, text.length);
    *at += text.length;
    return (uint32_t)text.length;
}

struct tags *tags_read(struct json_value value, struct error *error) {
    struct json_iterator iterator = json_iterate(value);
    struct json_value key, member;
    struct buffer scratch = {0};
    size_t count, bytes;
    struct tags *tags;
    char *at;

    if (!measure_tags(value, &count, &bytes, error))
        return NULL;
    bytes += sizeof *tags + count * sizeof tags->list[0];
    tags = malloc(bytes);
    if (tags == NULL) {
        error_set(error, "there is no memory for %zu bytes of tags", bytes);
        return NULL;
    }
    *tags = (struct tags){.bytes = bytes};
    atomic_init(&tags->references, 1);
    at = (char *)&tags->list[count];
    while (json_next(&iterator, &key, &member)) {
        struct tag tag = {.text = at};
        tag.key_length = copy_decoded(key, &scratch, &at);
        tag.value_length = copy_decoded(member, &scratch, &at);
        if (!tag_number(tag_value(&tag), &tag.number))
            tag.number = (double)NAN;
        put_tag(tags, tag);
    }
    buffer_dispose(&scratch);
    return tags;
}

struct tags *tags_parse(struct slice text, struct error *error) {
    struct json_value value;

    return json_scan(text, &value, error) ? tags_read(value, error) : NULL;
}

/* --- use --- */

struct tags *tags_ref(struct tags *tags) {
    if (tags != NULL)
        atomic_fetch_add_explicit(&tags->references, 1, memory_order_relaxed);
    return tags;
}

void tags_unref(struct tags *tags) {
    if (tags != NULL && atomic_fetch_sub_explicit(&tags->references, 1, memory_order_acq_rel) == 1)
        free(tags);
}

void tags_append_json(struct buffer *out, const struct tags *tags) {
    buffer_append_byte(out, '{');
    for (uint32_t i = 0; i < tags->count; i++) {
        if (i != 0)
            buffer_append_byte(out, ',');
        json_append_string(out, tag_key(&tags->list[i]));
        buffer_append_byte(out, ':');
        json_append_string(out, tag_value(&tags->list[i]));
    }
    buffer_append_byte(out, '}');
}

bool tags_find(const struct tags *tags, struct slice key, struct tag_found *found) {
    uint32_t place;

    if (tags == NULL)
        return false;
    place = tag_place(tags, key);
    if (place == tags->count || !slice_equal(tag_key(&tags->list[place]), key))
        return false;
    *found = (struct tag_found){tag_value(&tags->list[place]), tags->list[place].number};
    return true;
}

size_t tags_bytes(const struct tags *tags) {
    return tags != NULL ? alloc_footprint(tags->bytes) : 0;
}
