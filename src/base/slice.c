#include "base/slice.h"

int slice_compare(struct slice a, struct slice b) {
    size_t shorter = a.length < b.length ? a.length : b.length;
    int order = shorter != 0 ? memcmp(a.data, b.data, shorter) : 0;

    return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

static bool is_blank(char byte) {
    return byte == ' ' || byte == '\t';
}

struct slice slice_trim(struct slice text) {
    while (text.length != 0 && is_blank(text.data[0]))
        text = slice_skip(text, 1);
    while (text.length != 0 && is_blank(text.data[text.length - 1]))
        text.length--;
    return text;
}

static unsigned char lower_byte(char byte) {
    return (unsigned char)(byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte);
}

bool slice_letters_equal(struct slice a, struct slice b) {
    if (slice_equal(a, b)) /* most clients write names as everybody does */
        return true;
    for (size_t i = 0; i < a.length; i++)
        if (a.data[i] != b.data[i] && lower_byte(a.data[i]) != lower_byte(b.data[i]))
            return false;
    return true;
}

struct slice slice_of_number(unsigned long long number, char digits[NUMBER_DIGITS]) {
    size_t at = NUMBER_DIGITS;

    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    return (struct slice){digits + at, NUMBER_DIGITS - at};
}

bool slice_to_number(struct slice text, unsigned long long max, unsigned long long *number) {
    unsigned long long value = 0;

    if (text.length == 0)
        return false;
    for (size_t i = 0; i < text.length; i++) {
        unsigned digit = (unsigned)(unsigned char)text.data[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(value, 10ULL, &value) || __builtin_add_overflow(value, digit, &value))
            return false;
    }
    if (value > max)
        return false;
    *number = value;
    return true;
}
