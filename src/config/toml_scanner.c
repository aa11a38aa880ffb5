#include "config/toml_scanner.h"

#include <stdarg.h>
#include <string.h>

bool toml_at(const struct toml_scanner *scanner, const char *text) {
    return slice_starts_with((struct slice){scanner->at, (size_t)(scanner->end - scanner->at)}, slice_of(text));
}

bool toml_fail(struct toml_scanner *scanner, const char *fault, const char *format, ...) {
    va_list arguments;

    scanner->fault = fault;
    va_start(arguments, format);
    error_set_list(scanner->error, format, arguments);
    va_end(arguments);
    return false;
}

bool toml_expect(struct toml_scanner *scanner, const char *what) {
    int found = toml_peek(scanner, 0);

    if (found < 0)
        return toml_fail(scanner, scanner->at, "expected %s, but the file ends here", what);
    if (found == '\n' || found == '\r')
        return toml_fail(scanner, scanner->at, "expected %s, but the line ends here", what);
    if (found < ' ' || found >= 0x7f)
        return toml_fail(scanner, scanner->at, "expected %s, found byte 0x%02x", what, (unsigned)found);
    return toml_fail(scanner, scanner->at, "expected %s, found '%c'", what, found);
}

void toml_skip_blanks(struct toml_scanner *scanner) {
    while (toml_peek(scanner, 0) == ' ' || toml_peek(scanner, 0) == '\t')
        scanner->at++;
}

bool toml_skip_line_end(struct toml_scanner *scanner) {
    size_t length = toml_at(scanner, "\n") ? 1 : toml_at(scanner, "\r\n") ? 2 : 0;

    scanner->at += length;
    return length > 0;
}

bool toml_skip_comment(struct toml_scanner *scanner) {
    if (toml_peek(scanner, 0) != '#')
        return true;
    for (;; scanner->at++) {
        int byte = toml_peek(scanner, 0);

        if (byte < 0 || byte == '\n' || toml_at(scanner, "\r\n"))
            return true;
        if ((byte < ' ' && byte != '\t') || byte == 0x7f)
            return toml_fail(scanner, scanner->at, "a comment must not hold the control character 0x%02x",
                             (unsigned)byte);
    }
}

bool toml_skip_lines(struct toml_scanner *scanner) {
    do {
        toml_skip_blanks(scanner);
        if (!toml_skip_comment(scanner))
            return false;
    } while (toml_skip_line_end(scanner));
    return true;
}
