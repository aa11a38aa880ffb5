#include "base/error.h"

#include <stdio.h>

#include "base/utf8.h"

bool error_set_list(struct error *error, const char *format, va_list arguments) {
    if (error == NULL)
        return false;
    vsnprintf(error->text, sizeof error->text, format, arguments);
    utf8_mend(error->text);
    return false;
}

bool error_set(struct error *error, const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    error_set_list(error, format, arguments);
    va_end(arguments);
    return false;
}

bool error_prefix(struct error *error, const char *format, ...) {
    struct error old;
    va_list arguments;
    int length;

    if (error == NULL)
        return false;
    old = *error;
    va_start(arguments, format);
    length = vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    if (length >= 0 && (size_t)length < sizeof error->text)
        snprintf(error->text + length, sizeof error->text - (size_t)length, ": %s", old.text);
    utf8_mend(error->text);
    return false;
}
