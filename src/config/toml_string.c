#include <stdint.h>
#include <string.h>

#include "base/utf8.h"
#include "config/toml_scanner.h"

/* The 4 or 8 digits of an escaped character. The scanner is at the first. */
static bool read_unicode(struct toml_scanner *scanner, int digits, struct buffer *text) {
    const char *escape = scanner->at - 2;
    uint32_t code = 0;
    char bytes[4];

    for (int i = 0; i < digits; i++) {
        int digit = hex_digit_value(toml_peek(scanner, 0));

        if (digit < 0)
            return toml_expect(scanner, digits == 4 ? "four hexadecimal digits after \\u"
                                                    : "eight hexadecimal digits after \\U");
        code = code << 4 | (uint32_t)digit;
        scanner->at++;
    }
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return toml_fail(scanner, escape, "no character has the number U+%04X", code);
    if (code == 0 && scanner->make == NULL)
        return toml_fail(scanner, escape, "a string must not hold the character U+0000");
    buffer_append_bytes(text, bytes, utf8_encode(code, bytes));
    return true;
}

static bool read_escape(struct toml_scanner *scanner, struct buffer *text) {
    static const char letters[] = "btnfr\"\\", meanings[] = "\b\t\n\f\r\"\\";
    int letter = toml_peek(scanner, 1);
    const char *found = letter > 0 ? strchr(letters, letter) : NULL;

    if (found == NULL && letter != 'u' && letter != 'U')
        return toml_fail(scanner, scanner->at,
                         "a backslash must be followed by one of b t n f r \" \\ u U; write \\\\ for a backslash, or "
                         "put the string in apostrophes");
    scanner->at += 2;
    if (found == NULL)
        return read_unicode(scanner, letter == 'u' ? 4 : 8, text);
    buffer_append_byte(text, meanings[found - letters]);
    return true;
}

/* A backslash at the end of a line: skips white space up to the next character, and returns true if there is one. */
static bool skip_continuation(struct toml_scanner *scanner) {
    const char *backslash = scanner->at++;

    toml_skip_blanks(scanner);
    if (!toml_skip_line_end(scanner)) {
        scanner->at = backslash;
        return false;
    }
    do {
        toml_skip_blanks(scanner);
    } while (toml_skip_line_end(scanner));
    return true;
}

/* One character that stands for itself. */
static bool read_plain(struct toml_scanner *scanner, bool lines, struct buffer *text) {
    int byte = toml_peek(scanner, 0);

    if (lines && toml_at(scanner, "\r\n")) {
        buffer_append_byte(text, '\r');
        scanner->at++;
    } else if (!lines && (byte == '\n' || byte == '\r')) {
        return toml_fail(scanner, scanner->at, "the string has no end on its line");
    } else if ((byte < ' ' && byte != '\t' && !(lines && byte == '\n')) || byte == 0x7f) {
        return toml_fail(scanner, scanner->at, "a string must not hold the control character 0x%02x; write \\u%04x",
                         (unsigned)byte, (unsigned)byte);
    }
    buffer_append_byte(text, *scanner->at++);
    return true;
}

/* Up to two quotes right before the closing three belong to the string. */
static bool end_of_lines(struct toml_scanner *scanner, const char *delimiter, struct buffer *text) {
    if (!toml_at(scanner, delimiter))
        return false;
    for (int i = 0; i < 2 && toml_peek(scanner, 3) == delimiter[0]; i++) {
        buffer_append_byte(text, delimiter[0]);
        scanner->at++;
    }
    scanner->at += 3;
    return true;
}

bool toml_read_string(struct toml_scanner *scanner, struct buffer *text) {
    const char *opening = scanner->at;
    bool basic = *opening == '"';
    bool lines = toml_at(scanner, basic ? "\"\"\"" : "'''");
    const char *delimiter = basic ? lines ? "\"\"\"" : "\"" : lines ? "'''" : "'";

    scanner->at += strlen(delimiter);
    if (lines)
        toml_skip_line_end(scanner);
    for (;;) {
        int byte = toml_peek(scanner, 0);

        if (byte < 0)
            return toml_fail(scanner, opening, "the string that begins here has no end");
        if (lines ? end_of_lines(scanner, delimiter, text) : byte == *delimiter) {
            scanner->at += lines ? 0 : 1;
            return true;
        }
        if (basic && byte == '\\') {
            if (!(lines && skip_continuation(scanner)) && !read_escape(scanner, text))
                return false;
        } else if (!read_plain(scanner, lines, text)) {
            return false;
        }
    }
}
