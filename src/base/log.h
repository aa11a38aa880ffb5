/*
 * The log: one line per event on standard error, for people ("human") or for machines ("json").
 *
 * Any thread may log; a line is one write, so lines never mix. The text names things and never holds a secret:
 * not an app's secret, not a signature, not a database password. Control characters in it are escaped, so that bytes
 * from a client cannot forge a line or drive a terminal.
 */
#pragma once

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_HUMAN, LOG_JSON };

struct log_settings {
    enum log_format format;
    enum log_level level; /* lines above it are dropped */
    bool colors;          /* human format only, and only when standard error is a terminal */
    bool include_target;  /* name the part of the program that speaks */
};

/* Sets the format and level. Call before the first thread is started; defaults are human, info, colours. */
void log_configure(const struct log_settings *settings);

/* True if a line of this level would be written: for texts that cost something to make. */
bool log_enabled(enum log_level level);

/* Writes one line. `target` is the part that speaks: "config", "app", "net", "session", "api", "server". */
void log_write(enum log_level level, const char *target, const char *format, ...) __attribute__((format(printf, 3, 4)));

#define log_error(target, ...) log_write(LOG_ERROR, target, __VA_ARGS__)
#define log_warning(target, ...) log_write(LOG_WARNING, target, __VA_ARGS__)
#define log_info(target, ...) log_write(LOG_INFO, target, __VA_ARGS__)
#define log_debug(target, ...)                                                                                         \
    do {                                                                                                               \
        if (log_enabled(LOG_DEBUG))                                                                                    \
            log_write(LOG_DEBUG, target, __VA_ARGS__);                                                                 \
    } while (0)
