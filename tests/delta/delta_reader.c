#include "delta_reader.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/crypto.h"
#include "fossil_decoder.h"
#include "vcdiff_decoder.h"

/* --- texts --- */

static void drop_text(struct delta_reader *reader, size_t index) {
    free(reader->texts[index].key);
    buffer_dispose(&reader->texts[index].text);
    reader->count--;
    memmove(&reader->texts[index], &reader->texts[index + 1], (reader->count - index) * sizeof reader->texts[0]);
}

void delta_reader_forget(struct delta_reader *reader) {
    while (reader->count != 0)
        drop_text(reader, reader->count - 1);
    free(reader->texts);
    *reader = (struct delta_reader){0};
}

/* Keeps a text: without keys the last one, else the last ones of its key. */
static void keep_text(struct delta_reader *reader, const char *key, long long number, struct slice text) {
    size_t same = 0, first = 0;

    for (size_t i = reader->count; i-- != 0;) {
        if (strcmp(reader->texts[i].key, key) == 0) {
            same++;
            first = i;
        }
    }
    if (same >= (reader->keyed ? READER_TEXTS_PER_KEY : 1))
        drop_text(reader, first);
    if (reader->count == reader->capacity) {
        reader->capacity = 2 * reader->capacity + 8;
        reader->texts = alloc_array(reader->texts, reader->capacity, sizeof reader->texts[0]);
    }
    reader->texts[reader->count] = (struct reader_text){.key = alloc_copy(key, strlen(key)), .number = number};
    buffer_append(&reader->texts[reader->count].text, text);
    reader->count++;
}

static const struct reader_text *base_of_delta(const struct delta_reader *reader, const char *key, long long base) {
    for (size_t i = 0; i < reader->count; i++)
        if (strcmp(reader->texts[i].key, key) == 0 && (!reader->keyed || reader->texts[i].number == base))
            return &reader->texts[i];
    return NULL;
}

/* --- numbered messages --- */

/* The length of a member `name` with its value, without commas; 0: it does not stand there. */
static size_t member_length(const char *at, const char *name, bool string) {
    size_t length = strlen(name);

    if (strncmp(at, name, length) != 0)
        return 0;
    if (string) {
        const char *end = at[length] == '"' ? strchr(at + length + 1, '"') : NULL;
        return end != NULL ? (size_t)(end + 1 - at) : 0;
    }
    if (!isdigit((unsigned char)at[length]))
        return 0;
    while (isdigit((unsigned char)at[length]))
        length++;
    return length;
}

/* Deletes a member everywhere, with the comma before it or else the one after it, as the clients' expressions do. */
static void delete_member(struct buffer *text, const char *name, bool string) {
    char *at = buffer_string(text);

    while (*at != '\0') {
        size_t after_comma = *at == ',' ? member_length(at + 1, name, string) : 0;
        size_t length = after_comma != 0 ? after_comma + 1 : member_length(at, name, string);

        if (length != 0 && after_comma == 0 && at[length] == ',')
            length++;
        else if (after_comma == 0)
            length = 0;
        if (length == 0) {
            at++;
            continue;
        }
        text->length -= length;
        memmove(at, at + length, text->length - (size_t)(at - text->data) + 1);
    }
}

static void read_numbered(struct delta_reader *reader, struct slice message, const json_t *json,
                          struct reader_message *read) {
    const char *key = json_string_value(json_object_get(json, "__conflation_key"));
    struct buffer text = {0};

    read->form = READ_NUMBERED;
    read->number = json_integer_value(json_object_get(json, "__delta_seq"));
    if (key != NULL) {
        if (!reader->keyed)
            delta_reader_forget(reader);
        reader->keyed = true;
        snprintf(read->key, sizeof read->key, "%s", key);
    }
    buffer_append(&text, message);
    delete_member(&text, "\"__delta_seq\":", false);
    delete_member(&text, "\"__conflation_key\":", true);
    keep_text(reader, read->key, read->number, buffer_slice(&text));
    buffer_dispose(&text);
    read->text = buffer_slice(&reader->texts[reader->count - 1].text);
}

/* --- deltas --- */

static const char *decode_delta(const char *algorithm, struct slice base, struct slice delta, struct buffer *text) {
    if (strcmp(algorithm, "fossil") == 0)
        return fossil_decode(base, delta, text);
    return strcmp(algorithm, "xdelta3") == 0 ? vcdiff_decode(base, delta, text) : "a delta of no known algorithm";
}

static const char *read_delta(struct delta_reader *reader, const json_t *data, struct reader_message *read) {
    const char *algorithm = json_string_value(json_object_get(data, "algorithm"));
    const char *key = json_string_value(json_object_get(data, "conflation_key"));
    struct slice base64 = slice_of(json_string_value(json_object_get(data, "delta")));
    unsigned char *delta = alloc(base64.length + 1);
    const struct reader_text *base;
    struct buffer text = {0};
    const char *wrong;
    size_t length = 0;

    read->form = READ_DELTA;
    read->number = json_integer_value(json_object_get(data, "seq"));
    read->base = json_integer_value(json_object_get(data, "base_index"));
    read->names_algorithm = algorithm != NULL;
    snprintf(read->algorithm, sizeof read->algorithm, "%s", algorithm != NULL ? algorithm : "fossil");
    snprintf(read->key, sizeof read->key, "%s", key != NULL ? key : "");
    base = base_of_delta(reader, read->key, read->base);
    if (base == NULL)
        wrong = "a delta of a message that the client does not have";
    else if (!base64_decode(base64, delta, &length))
        wrong = "a delta that is not in base 64";
    else
        wrong = decode_delta(read->algorithm, buffer_slice(&base->text), (struct slice){(char *)delta, length}, &text);
    if (wrong == NULL) {
        keep_text(reader, read->key, read->number, buffer_slice(&text));
        read->text = buffer_slice(&reader->texts[reader->count - 1].text);
    }
    buffer_dispose(&text);
    free(delta);
    return wrong;
}

const char *delta_reader_read(struct delta_reader *reader, struct slice message, struct reader_message *read) {
    json_t *json = json_loadb(message.data, message.length, 0, NULL);
    const char *event = json_string_value(json_object_get(json, "event")), *wrong = NULL;

    *read = (struct reader_message){.text = message};
    if (event == NULL)
        wrong = "it is no event";
    else if (strcmp(event, "pusher:delta") == 0)
        wrong = read_delta(reader, json_object_get(json, "data"), read);
    else if (json_object_get(json, "__delta_seq") != NULL)
        read_numbered(reader, message, json, read);
    json_decref(json);
    return wrong;
}
