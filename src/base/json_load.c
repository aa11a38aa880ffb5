#include "base/json_load.h"

#include <ctype.h>
#include <string.h>

#include "base/buffer.h"

/* Integers with fewer digits fit in 64 bits. */
#define LONG_DIGITS 19

static bool is_name_member(struct slice member) {
    return slice_equal(member, SLICE("id")) || slice_equal(member, SLICE("key")) ||
           slice_equal(member, SLICE("secret"));
}

/* The bytes of the string that begins at `at` with its quotes, or what there is of it. */
static size_t string_length(struct slice text, size_t at) {
    size_t end = at + 1;

    while (end < text.length && text.data[end] != '"')
        end += text.data[end] == '\\' && end + 1 < text.length ? 2 : 1;
    return (end < text.length ? end + 1 : end) - at;
}

static bool is_number_byte(char byte) {
    return isdigit((unsigned char)byte) || byte == '+' || byte == '-' || byte == '.' || byte == 'e' || byte == 'E';
}

static size_t number_length(struct slice text, size_t at) {
    size_t end = at;

    while (end < text.length && is_number_byte(text.data[end]))
        end++;
    return end - at;
}

static bool all_digits(struct slice number) {
    for (size_t i = 0; i < number.length; i++)
        if (!isdigit((unsigned char)number.data[i]))
            return false;
    return true;
}

static void append_name_number(struct buffer *out, struct slice number) {
    if (slice_equal(number, SLICE("-0"))) {
        buffer_append(out, SLICE("-0.0"));
    } else if (number.length >= LONG_DIGITS && number.data[0] != '0' && all_digits(number)) {
        buffer_append(out, SLICE("\""));
        buffer_append(out, number);
        buffer_append(out, SLICE("\""));
    } else {
        buffer_append(out, number);
    }
}

/* Copies `text` and replaces the numbers after `"id":`, `"key":` and `"secret":`. */
static void replace_long_names(struct slice text, struct buffer *out) {
    struct slice last = {0}; /* the string before, without quotes */
    bool after_colon = false;
    size_t length;

    for (size_t at = 0; at < text.length; at += length) {
        char byte = text.data[at];

        length = byte == '"' ? string_length(text, at) : number_length(text, at);
        if (length == 0)
            length = 1;
        if (byte != '"' && after_colon && is_name_member(last) && (byte == '-' || isdigit((unsigned char)byte)))
            append_name_number(out, (struct slice){text.data + at, length});
        else
            buffer_append(out, (struct slice){text.data + at, length});
        if (byte == '"')
            last = (struct slice){text.data + at + 1, length >= 2 ? length - 2 : 0};
        if (!isspace((unsigned char)byte))
            after_colon = byte == ':';
    }
}

json_t *json_load_text(struct slice text, size_t flags, json_error_t *problem) {
    struct buffer replaced = {0};
    json_t *json;

    replace_long_names(text, &replaced);
    json = json_loadb(replaced.length != 0 ? replaced.data : "", replaced.length, flags, problem);
    if (replaced.length != 0)
        explicit_bzero(replaced.data, replaced.length); /* it may have secrets */
    buffer_dispose(&replaced);
    return json;
}
