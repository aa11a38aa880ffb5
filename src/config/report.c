#include "config/report.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/log.h"

static void messages_dispose(struct config_messages *messages) {
    for (size_t i = 0; i < messages->count; i++)
        free(messages->texts[i]);
    free(messages->texts);
    *messages = (struct config_messages){0};
}

void config_report_dispose(struct config_report *report) {
    messages_dispose(&report->errors);
    messages_dispose(&report->warnings);
    messages_dispose(&report->dangers);
    messages_dispose(&report->accepted);
}

/* Escapes control characters: texts quote names from a file and may be shown on a terminal. */
static char *escape_text(const char *text) {
    struct buffer buffer = {0};

    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte < 0x20 || byte == 0x7f)
            buffer_appendf(&buffer, "\\x%02x", byte);
        else
            buffer_append_byte(&buffer, *text);
    }
    buffer_append_byte(&buffer, '\0');
    return buffer.data;
}

static void messages_add(struct config_messages *messages, const char *format, va_list arguments) {
    va_list again;
    char *text, *clean;
    int length;

    va_copy(again, arguments);
    length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0)
        return;
    text = alloc((size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, arguments);
    clean = escape_text(text);
    free(text);
    for (size_t i = 0; i < messages->count; i++) {
        if (strcmp(messages->texts[i], clean) == 0) {
            free(clean);
            return;
        }
    }
    messages->texts = alloc_array(messages->texts, messages->count + 1, sizeof *messages->texts);
    messages->texts[messages->count++] = clean;
}

void config_report_error(struct config_report *report, const char *format, ...) {
    va_list arguments;

    if (report == NULL)
        return;
    va_start(arguments, format);
    messages_add(&report->errors, format, arguments);
    va_end(arguments);
}

void config_report_warning(struct config_report *report, const char *format, ...) {
    va_list arguments;

    if (report == NULL)
        return;
    va_start(arguments, format);
    messages_add(&report->warnings, format, arguments);
    va_end(arguments);
}

void config_report_danger(struct config_report *report, const char *format, ...) {
    va_list arguments;

    if (report == NULL)
        return;
    va_start(arguments, format);
    messages_add(&report->dangers, format, arguments);
    va_end(arguments);
}

void config_report_accepted(struct config_report *report, const char *format, ...) {
    va_list arguments;

    if (report == NULL)
        return;
    va_start(arguments, format);
    messages_add(&report->accepted, format, arguments);
    va_end(arguments);
}

void config_report_print(const struct config_report *report, bool verbose, FILE *out) {
    for (size_t i = 0; i < report->errors.count; i++)
        fprintf(out, "error: %s\n", report->errors.texts[i]);
    for (size_t i = 0; i < report->warnings.count; i++)
        fprintf(out, "warning: %s\n", report->warnings.texts[i]);
    for (size_t i = 0; i < report->dangers.count; i++)
        fprintf(out, "dangerous: %s\n", report->dangers.texts[i]);
    for (size_t i = 0; verbose && i < report->accepted.count; i++)
        fprintf(out, "accepted without effect: %s\n", report->accepted.texts[i]);
}

void config_report_log(const struct config_report *report) {
    for (size_t i = 0; i < report->errors.count; i++)
        log_error("config", "%s", report->errors.texts[i]);
    for (size_t i = 0; i < report->warnings.count; i++)
        log_warning("config", "%s", report->warnings.texts[i]);
}
