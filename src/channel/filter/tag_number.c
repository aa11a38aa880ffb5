#include "channel/filter/tag_number.h"

#include <stdlib.h>

static size_t count_digits(struct slice text) {
    size_t count = 0;

    while (count < text.length && text.data[count] >= '0' && text.data[count] <= '9')
        count++;
    return count;
}

static struct slice skip_sign(struct slice text) {
    bool sign = text.length != 0 && (text.data[0] == '+' || text.data[0] == '-');

    return slice_skip(text, sign ? 1 : 0);
}

static bool is_number_word(struct slice text) {
    return slice_equal_ignoring_case(text, SLICE("inf")) || slice_equal_ignoring_case(text, SLICE("infinity")) ||
           slice_equal_ignoring_case(text, SLICE("nan"));
}

/* True if the text without its sign is a decimal number. */
static bool is_decimal(struct slice text) {
    size_t digits = count_digits(text);

    text = slice_skip(text, digits);
    if (text.length != 0 && text.data[0] == '.') {
        size_t fraction = count_digits(slice_skip(text, 1));
        text = slice_skip(text, 1 + fraction);
        digits += fraction;
    }
    if (digits == 0)
        return false;
    if (text.length != 0 && (text.data[0] | 0x20) == 'e') {
        text = skip_sign(slice_skip(text, 1));
        digits = count_digits(text);
        return digits != 0 && digits == text.length;
    }
    return text.length == 0;
}

bool tag_number(struct slice text, double *number) {
    struct slice unsigned_text = skip_sign(text);
    char copy[TAG_NUMBER_MAX + 1];

    if (text.length > TAG_NUMBER_MAX || (!is_decimal(unsigned_text) && !is_number_word(unsigned_text)))
        return false;
    memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    *number = strtod(copy, NULL); /* the program stays in the locale C, whose point is '.' */
    return true;
}
