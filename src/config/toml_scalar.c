#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/toml_scanner.h"

/* The longest number, date or time; a longer one is no value that could be kept exactly. */
#define LONGEST_SCALAR 400

static bool is_scalar_byte(int byte) {
    return byte > 0 && byte < 0x80 && (isalnum(byte) || strchr("_+-.:", byte) != NULL);
}

/* The bytes up to the next blank, comma or bracket; a date and a time may have a space between them. */
static struct slice take_toml_token(struct toml_scanner *scanner) {
    const char *start = scanner->at;

    while (is_scalar_byte(toml_peek(scanner, 0)))
        scanner->at++;
    if (scanner->at - start == 10 && start[4] == '-' && start[7] == '-' && toml_peek(scanner, 0) == ' ' &&
        toml_peek(scanner, 1) >= '0' && toml_peek(scanner, 1) <= '9') {
        scanner->at++;
        while (is_scalar_byte(toml_peek(scanner, 0)))
            scanner->at++;
    }
    return (struct slice){start, (size_t)(scanner->at - start)};
}

/* --- dates and times --- */

/* Takes a number of `digits` digits from the front of `rest` if it is from `min` to `max`; else -1. */
static int take_number(struct slice *rest, size_t digits, int min, int max) {
    int number = 0;

    if (rest->length < digits)
        return -1;
    for (size_t i = 0; i < digits; i++) {
        if (rest->data[i] < '0' || rest->data[i] > '9')
            return -1;
        number = number * 10 + (rest->data[i] - '0');
    }
    *rest = slice_skip(*rest, digits);
    return number >= min && number <= max ? number : -1;
}

static bool take_toml_byte(struct slice *rest, const char *bytes) {
    if (rest->length == 0 || strchr(bytes, rest->data[0]) == NULL)
        return false;
    *rest = slice_skip(*rest, 1);
    return true;
}

static int days_of(int year, int month) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap);
}

/* RFC 3339 section 5.6: full-date. */
static bool take_date(struct slice *rest) {
    int year = take_number(rest, 4, 0, 9999), month;

    if (year < 0 || !take_toml_byte(rest, "-"))
        return false;
    month = take_number(rest, 2, 1, 12);
    return month > 0 && take_toml_byte(rest, "-") && take_number(rest, 2, 1, days_of(year, month)) > 0;
}

/* RFC 3339 section 5.6: partial-time. The second 60 is a leap second. */
static bool take_time(struct slice *rest) {
    if (take_number(rest, 2, 0, 23) < 0 || !take_toml_byte(rest, ":") || take_number(rest, 2, 0, 59) < 0 ||
        !take_toml_byte(rest, ":") || take_number(rest, 2, 0, 60) < 0)
        return false;
    if (!take_toml_byte(rest, "."))
        return true;
    if (!take_toml_byte(rest, "0123456789"))
        return false;
    while (take_toml_byte(rest, "0123456789"))
        ;
    return true;
}

/* RFC 3339 section 5.6: time-offset. */
static bool take_offset(struct slice *rest) {
    return take_toml_byte(rest, "Zz") || (take_toml_byte(rest, "+-") && take_number(rest, 2, 0, 23) >= 0 &&
                                          take_toml_byte(rest, ":") && take_number(rest, 2, 0, 59) >= 0);
}

/* The token begins like a date or a time. */
static bool read_date_or_time(struct toml_scanner *scanner, struct slice token, struct toml_scalar *scalar) {
    struct slice rest = token;
    bool good;

    if (token.data[2] == ':') {
        scalar->type = TOML_LOCAL_TIME;
        good = take_time(&rest);
    } else {
        scalar->type = TOML_LOCAL_DATE;
        good = take_date(&rest);
        if (good && rest.length > 0) {
            scalar->type = TOML_LOCAL_DATE_TIME;
            good = take_toml_byte(&rest, "Tt ") && take_time(&rest);
        }
        if (good && rest.length > 0) {
            scalar->type = TOML_DATE_TIME;
            good = take_offset(&rest);
        }
    }
    scalar->text = token;
    return (good && rest.length == 0) ||
           toml_fail(scanner, token.data,
                     "this is no valid date or time; they look like 1979-05-27T07:32:00Z, 1979-05-27 or 07:32:00");
}

/* --- numbers --- */

/*
 * Takes digits of a base with single underscores between them from the front of `rest`, and adds the digits to `text`.
 * False if there is none, or an underscore without a digit on both sides.
 */
static bool take_digits(struct slice *rest, unsigned base, char *text) {
    static const char all[] = "0123456789abcdef";
    size_t length = strlen(text);
    bool after_digit = false;

    for (; rest->length > 0; *rest = slice_skip(*rest, 1)) {
        int byte = tolower((unsigned char)rest->data[0]);
        const char *digit = byte != '\0' ? memchr(all, byte, base) : NULL;

        if (digit != NULL)
            text[length++] = (char)byte;
        else if (byte != '_' || !after_digit)
            break;
        after_digit = digit != NULL;
    }
    text[length] = '\0';
    return after_digit;
}

/* True if the text is "0", or does not begin with a zero. */
static bool no_leading_zero(const char *digits) {
    return digits[0] != '0' || digits[1] == '\0';
}

static void append_text(char *text, char byte) {
    size_t length = strlen(text);

    text[length] = byte;
    text[length + 1] = '\0';
}

static bool read_with_prefix(struct slice token, struct toml_scalar *scalar, bool *too_large) {
    unsigned base = token.data[1] == 'x' ? 16 : token.data[1] == 'o' ? 8 : 2;
    struct slice rest = slice_skip(token, 2);
    char digits[LONGEST_SCALAR + 1] = "";
    unsigned long long number;

    if (!take_digits(&rest, base, digits) || rest.length > 0)
        return false;
    errno = 0;
    number = strtoull(digits, NULL, (int)base);
    *too_large = errno == ERANGE || number > INT64_MAX;
    scalar->type = TOML_INTEGER;
    scalar->integer = (long long)number;
    return !*too_large;
}

static bool read_decimal(struct slice token, struct toml_scalar *scalar, bool *too_large) {
    struct slice rest = token;
    char text[LONGEST_SCALAR + 1] = "";
    bool negative = rest.data[0] == '-', real = false;

    take_toml_byte(&rest, "+-");
    if (!take_digits(&rest, 10, text) || !no_leading_zero(text))
        return false;
    if (take_toml_byte(&rest, ".")) {
        real = true;
        append_text(text, '.');
        if (!take_digits(&rest, 10, text))
            return false;
    }
    if (take_toml_byte(&rest, "eE")) {
        real = true;
        append_text(text, 'e');
        if (rest.length > 0 && (rest.data[0] == '-' || rest.data[0] == '+'))
            append_text(text, rest.data[0]);
        take_toml_byte(&rest, "+-");
        if (!take_digits(&rest, 10, text))
            return false;
    }
    if (rest.length > 0)
        return false;
    scalar->type = real ? TOML_FLOAT : TOML_INTEGER;
    if (real) {
        scalar->real = (negative ? -1 : 1) * strtod(text, NULL);
        *too_large = isinf(scalar->real);
    } else {
        char number[LONGEST_SCALAR + 2];

        snprintf(number, sizeof number, "%s%s", negative ? "-" : "", text);
        errno = 0;
        scalar->integer = strtoll(number, NULL, 10);
        *too_large = errno == ERANGE;
    }
    return !*too_large;
}

/* Words of the language: true, false, and the floats that are no numbers. */
static bool read_word(struct slice token, struct toml_scalar *scalar) {
    struct slice word = token;
    bool negative = token.data[0] == '-';

    *scalar = (struct toml_scalar){.type = TOML_BOOLEAN, .boolean = slice_equal(token, SLICE("true"))};
    if (scalar->boolean || slice_equal(token, SLICE("false")))
        return true;
    take_toml_byte(&word, "+-");
    scalar->type = TOML_FLOAT;
    scalar->real = slice_equal(word, SLICE("inf")) ? HUGE_VAL : NAN;
    if (negative)
        scalar->real = -scalar->real;
    return slice_equal(word, SLICE("inf")) || slice_equal(word, SLICE("nan"));
}

bool toml_read_scalar(struct toml_scanner *scanner, struct toml_scalar *scalar) {
    struct slice token = take_toml_token(scanner);
    bool too_large = false, good;

    *scalar = (struct toml_scalar){0};
    if (token.length == 0 && toml_peek(scanner, 0) == '$')
        return toml_fail(scanner, scanner->at,
                         "a variable must be in quotation marks (\"${NAME}\"), for a number, too");
    if (token.length == 0)
        return toml_expect(scanner, "a value");
    if (token.length > LONGEST_SCALAR)
        return toml_fail(scanner, token.data, "a number of more than %d characters", LONGEST_SCALAR);
    if (read_word(token, scalar))
        return true;
    if (strchr("+-0123456789", token.data[0]) == NULL)
        return toml_fail(scanner, token.data,
                         "this is no value: text needs quotation marks, and true, false, inf and nan are lower case");
    if (token.length > 4 && isdigit((unsigned char)token.data[0]) && (token.data[2] == ':' || token.data[4] == '-'))
        return read_date_or_time(scanner, token, scalar);
    if (token.length > 2 && token.data[0] == '0' && strchr("xob", token.data[1]) != NULL)
        good = read_with_prefix(token, scalar, &too_large);
    else
        good = read_decimal(token, scalar, &too_large);
    if (too_large)
        return toml_fail(scanner, token.data, "the number is beyond 64 bits");
    return good || toml_fail(scanner, token.data,
                             "this is no valid number: it has no leading zero, and a digit on both sides of each dot "
                             "and underscore; text needs quotation marks");
}
