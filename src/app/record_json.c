#include "app/record_json.h"

#include <stdio.h>
#include <string.h>

struct slice record_member(const json_t *object, const char *name) {
    const json_t *json = json_object_get(object, name);

    return json_is_string(json) ? record_slice(json) : SLICE("");
}

struct slice record_name(const json_t *json, char digits[RECORD_NAME_BYTES]) {
    if (json_is_string(json))
        return record_slice(json);
    if (!json_is_integer(json) || json_integer_value(json) < 0)
        return (struct slice){0};
    snprintf(digits, RECORD_NAME_BYTES, "%" JSON_INTEGER_FORMAT, json_integer_value(json));
    return slice_of(digits);
}

bool record_number(const json_t *json, enum record_negative negatives, const char *field, uint32_t *number,
                   struct error *error) {
    unsigned long long magnitude = 0;
    bool negative = false, whole = false;

    if (json_is_integer(json)) {
        json_int_t value = json_integer_value(json);

        negative = value < 0;
        magnitude = negative ? 0 - (unsigned long long)value : (unsigned long long)value;
        whole = true;
    } else if (json_is_real(json)) {
        double value = json_real_value(json);

        /* 100.0 is a whole number; a number that no uint32_t holds is not converted */
        negative = value < 0;
        value = negative ? -value : value;
        whole = value <= UINT32_MAX && (double)(unsigned long long)value == value;
        magnitude = whole ? (unsigned long long)value : 0;
    } else if (json_is_string(json)) {
        struct slice digits = record_slice(json);

        negative = negatives != RECORD_NEGATIVE_REFUSED && slice_starts_with(digits, SLICE("-"));
        whole = slice_to_number(negative ? slice_skip(digits, 1) : digits, UINT32_MAX, &magnitude);
        whole = whole && !(negative && magnitude == 0); /* "-0" is not a number of a record */
    }
    if (whole && negative && negatives == RECORD_MINUS_ONE_IS_ZERO && magnitude == 1) {
        *number = 0;
        return true;
    }
    if (whole && negative && negatives == RECORD_NEGATIVE_WRAPS && magnitude <= (unsigned long long)INT32_MAX + 1) {
        *number = (uint32_t)0 - (uint32_t)magnitude;
        return true;
    }
    if (!whole || negative || magnitude > UINT32_MAX)
        return error_set(error, "%s must be a whole number from 0 to 4294967295 (0: no limit)", field);
    *number = (uint32_t)magnitude;
    return true;
}

bool record_flag(const json_t *json, bool digits, const char *field, bool *flag, struct error *error) {
    if (json_is_boolean(json)) {
        *flag = json_is_true(json);
        return true;
    }
    if (digits && json_is_integer(json) && (json_integer_value(json) == 0 || json_integer_value(json) == 1)) {
        *flag = json_integer_value(json) == 1;
        return true;
    }
    return error_set(error, "%s must be true or false", field);
}

bool record_text(const json_t *json, const char *field, struct slice *text, struct error *error) {
    if (record_unset(json))
        return true;
    if (!json_is_string(json))
        return error_set(error, "%s must be a text", field);
    *text = record_slice(json);
    return true;
}

void record_append_meant(char *text, size_t size, const char *section, const struct near_miss *miss) {
    size_t length = strlen(text);

    if (miss->best.length != 0)
        snprintf(text + length, size - length, "; did you mean %s%.*s?", section, SLICE_ARGS(miss->best));
}

size_t record_count(struct slice text, char byte) {
    size_t count = 0;

    for (size_t i = 0; i < text.length; i++)
        count += text.data[i] == byte;
    return count;
}
