#include "base/number_text.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* A positive double as 0.DIGITS * 10^point; the last digit is not 0. */
struct decimal {
    char digits[24];
    int count, point;
};

/* True for a whole number of 64 bits, with or without sign. */
static bool fits_whole_number(struct slice token) {
    bool negative = token.data[0] == '-';
    unsigned long long number;

    if (negative)
        token = slice_skip(token, 1);
    /* `-0` is a double: whole numbers have no negative zero. */
    return slice_to_number(token, negative ? (unsigned long long)INT64_MAX + 1 : UINT64_MAX, &number) &&
           !(negative && number == 0);
}

/* Finds the fewest digits that give the number again. A normal double keeps any 15 digits, so what has fewer is there
 * after the first attempt, with zeros at its end. */
static struct decimal shortest_decimal(double number) {
    struct decimal decimal = {.count = 0};
    char text[40] = "";
    const char *at = text;

    for (int precision = number < DBL_MIN ? 0 : 14; precision <= 16; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, number);
        if (strtod(text, NULL) == number)
            break;
    }
    for (; *at != 'e'; at++)
        if (*at != '.')
            decimal.digits[decimal.count++] = *at;
    decimal.point = (int)strtol(at + 1, NULL, 10) + 1;
    while (decimal.count > 1 && decimal.digits[decimal.count - 1] == '0')
        decimal.count--;
    return decimal;
}

static void append_zeros(struct buffer *out, int count) {
    for (; count > 0; count--)
        buffer_append_byte(out, '0');
}

static void append_decimal(struct buffer *out, const struct decimal *decimal) {
    const char *digits = decimal->digits;
    int count = decimal->count, point = decimal->point;

    if (point > 16 || point < -4) {
        buffer_append_byte(out, digits[0]);
        if (count > 1) {
            buffer_append_byte(out, '.');
            buffer_append_bytes(out, digits + 1, (size_t)(count - 1));
        }
        buffer_appendf(out, "e%d", point - 1);
    } else if (point <= 0) {
        buffer_append(out, SLICE("0."));
        append_zeros(out, -point);
        buffer_append_bytes(out, digits, (size_t)count);
    } else if (point >= count) {
        buffer_append_bytes(out, digits, (size_t)count);
        append_zeros(out, point - count);
        buffer_append(out, SLICE(".0"));
    } else {
        buffer_append_bytes(out, digits, (size_t)point);
        buffer_append_byte(out, '.');
        buffer_append_bytes(out, digits + point, (size_t)(count - point));
    }
}

bool number_text_append(struct buffer *out, struct slice token) {
    char text[NUMBER_TEXT_TOKEN_MAX + 1];
    struct decimal decimal;
    double number;

    if (token.length == 0 || token.length > NUMBER_TEXT_TOKEN_MAX)
        return false;
    if (fits_whole_number(token)) {
        buffer_append(out, token);
        return true;
    }
    memcpy(text, token.data, token.length);
    text[token.length] = '\0';
    number = strtod(text, NULL);
    if (!isfinite(number))
        return false;
    if (signbit(number))
        buffer_append_byte(out, '-');
    if (number == 0) {
        buffer_append(out, SLICE("0.0"));
        return true;
    }
    decimal = shortest_decimal(fabs(number));
    append_decimal(out, &decimal);
    return true;
}
