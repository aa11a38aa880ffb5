/*
 * The findings of loading a configuration: errors, warnings, and keys that are accepted without effect.
 *
 * Zero-initialise it. Each text is one sentence that names its file and key path or its variable, and never holds a
 * secret. For one thread: the one that loads.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Texts in the order of finding. */
struct config_messages {
    char **texts;
    size_t count;
};

struct config_report {
    struct config_messages errors;
    struct config_messages warnings;
    struct config_messages dangers; /* settings that work and should not be used in production; found by a check only */
    struct config_messages accepted; /* key paths and variables only */
};

void config_report_dispose(struct config_report *report);

/* Adds a text once. `report` may be NULL. */
void config_report_error(struct config_report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));
void config_report_warning(struct config_report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));
void config_report_danger(struct config_report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));
void config_report_accepted(struct config_report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Writes "error: ...", "warning: ...", "dangerous: ..." and, if `verbose`, "accepted without effect: ..." lines to
 * `out`. */
void config_report_print(const struct config_report *report, bool verbose, FILE *out);

/* Sends the errors and warnings to the log, target "config". */
void config_report_log(const struct config_report *report);
