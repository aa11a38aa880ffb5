/*
 * The log: one line per event on standard error, for people ("human") or for machines ("json").
 *
 * Any thread may log; a line is one write, so lines never mix. Between log_start and log_stop a thread of its own
 * writes the lines, so that nobody waits for their reader, and warnings that repeat are counted (log_repeats.h). The
 * text must not contain secrets: no secret of an app, no signature, no database password. Control characters in it are
 * escaped, so that bytes from a client cannot forge a line or control a terminal.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_HUMAN, LOG_JSON };

struct log_settings {
    enum log_format format;
    enum log_level level; /* higher levels are dropped */
    bool colors;          /* in the human format, if standard error is a terminal */
    bool include_target;  /* write the target, the part of the program that logs */
};

/* Sets format, level and options. Call it before the first thread starts; the defaults are human, info, colours,
 * target.
 */
void log_configure(const struct log_settings *settings);

/* Change the level while the program runs, and return it. Any thread. */
void log_set_level(enum log_level level);
enum log_level log_current_level(void);

/* The name of a level in settings and lines: "error", "warn", "info", "debug". */
const char *log_level_name(enum log_level level);
/* False if no level has this name. */
bool log_level_from_name(struct slice name, enum log_level *level);

/* True if lines of this level are written. Check it before building an expensive text. */
bool log_enabled(enum log_level level);

/* Writes one line; keeps errno. `target` is the part of the program that logs: "config", "app", "net", "session",
 * "api", "server". */
void log_write(enum log_level level, const char *target, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same for a line that is about one thing of many: it is written even if the same warning was written just now. */
void log_write_each(enum log_level level, const char *target, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Says which warnings have repeated in the last ten seconds. To be called about once a second. Any thread. */
void log_write_repeats(void);

/* Starts the thread that writes. False with an error if the system refuses it: each thread then writes its lines
 * itself. */
bool log_start(struct error *error);
/* Writes what is left, unless nobody reads it, and ends the thread. When no other thread logs any more. */
void log_stop(void);
/* Lines that were lost, because they were not read fast enough. Any thread. */
uint64_t log_lost_lines(void);

#define log_error(target, ...) log_write(LOG_ERROR, target, __VA_ARGS__)
#define log_warning(target, ...) log_write(LOG_WARNING, target, __VA_ARGS__)
#define log_info(target, ...) log_write(LOG_INFO, target, __VA_ARGS__)
#define log_debug(target, ...)                                                                                         \
    do {                                                                                                               \
        if (log_enabled(LOG_DEBUG))                                                                                    \
            log_write(LOG_DEBUG, target, __VA_ARGS__);                                                                 \
    } while (0)
