#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_queue.h"
#include "base/log_repeats.h"
#include "base/utf8.h"

#define ELLIPSIS "\xE2\x80\xA6"

static struct log_settings settings = {LOG_HUMAN, LOG_INFO, true, true};

struct line {
    char text[LOG_LINE_MAX_BYTES];
    size_t length;
    /* Maximum length of the text; the rest is reserved for the end of the line. */
    size_t limit;
    bool cut;
};

static const struct level {
    const char *padded, *name, *color;
} levels[] = {
    [LOG_ERROR] = {"ERROR", "error", "\x1b[31m"},
    [LOG_WARNING] = {" WARN", "warn", "\x1b[33m"},
    [LOG_INFO] = {" INFO", "info", "\x1b[32m"},
    [LOG_DEBUG] = {"DEBUG", "debug", "\x1b[34m"},
};

/* Apart from `settings`, which do not change while threads run. */
static _Atomic(enum log_level) current_level = LOG_INFO;

/* Warnings that repeat; counted between log_start and log_stop. */
static atomic_bool counts_repeats;
static pthread_mutex_t repeats_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct log_repeats repeats;

void log_configure(const struct log_settings *new_settings) {
    settings = *new_settings;
    log_set_level(settings.level);
}

void log_set_level(enum log_level level) {
    atomic_store_explicit(&current_level, level, memory_order_relaxed);
}

enum log_level log_current_level(void) {
    return atomic_load_explicit(&current_level, memory_order_relaxed);
}

const char *log_level_name(enum log_level level) {
    return levels[level].name;
}

bool log_level_from_name(struct slice name, enum log_level *level) {
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (!slice_equal(name, slice_of(levels[i].name)))
            continue;
        *level = (enum log_level)i;
        return true;
    }
    return false;
}

bool log_enabled(enum log_level level) {
    return level <= log_current_level();
}

/* Appends the bytes if all of them fit; otherwise marks the line as cut, which then accepts no more text. */
static void line_add(struct line *line, const char *bytes, size_t length) {
    if (line->cut || length > line->limit - line->length) {
        line->cut = true;
        return;
    }
    memcpy(line->text + line->length, bytes, length);
    line->length += length;
}

static void line_add_string(struct line *line, const char *string) {
    line_add(line, string, strlen(string));
}

/* Appends an ellipsis if the text was cut, and the end of the line, in the reserved space. */
static void line_end(struct line *line, const char *tail) {
    line->limit = sizeof line->text;
    if (line->cut) {
        line->cut = false;
        line_add_string(line, ELLIPSIS);
    }
    line_add_string(line, tail);
}

/* Returns the length of the UTF-8 character at `at`; 0 if it is malformed. */
static size_t character_length(const char *at, size_t available) {
    unsigned char lead = (unsigned char)*at;
    size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;

    return length <= available && utf8_valid((struct slice){at, length}) ? length : 0;
}

/* True for control characters: C0, DEL and C1 (U+0080 to U+009F, which some terminals treat like their ESC forms). */
static bool is_control(const char *at, size_t length) {
    unsigned char lead = (unsigned char)at[0];

    return lead < 0x20 || lead == 0x7F || (length == 2 && lead == 0xC2 && (unsigned char)at[1] < 0xA0);
}

static const char *short_escape(char byte) {
    switch (byte) {
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        return NULL;
    }
}

static void line_add_escaped(struct line *line, const char *text, size_t length, bool json) {
    char escape[8];

    for (size_t at = 0, step; at < length && !line->cut; at += step) {
        unsigned char byte = (unsigned char)text[at];
        step = character_length(text + at, length - at);
        if (step == 0) {
            step = 1;
            snprintf(escape, sizeof escape, "\\x%02x", byte);
            line_add_string(line, json ? "\xEF\xBF\xBD" : escape);
        } else if (is_control(text + at, step)) {
            unsigned code = step == 2 ? (unsigned char)text[at + 1] : byte;
            snprintf(escape, sizeof escape, json ? "\\u%04x" : "\\x%02x", code);
            line_add_string(line, short_escape(text[at]) != NULL ? short_escape(text[at]) : escape);
        } else {
            if (json && (byte == '"' || byte == '\\'))
                line_add_string(line, byte == '"' ? "\\\"" : "\\\\");
            else
                line_add(line, text + at, step);
        }
    }
}

/* Appends the time in UTC in the format of RFC 3339, with milliseconds. */
static void line_add_time(struct line *line) {
    uint64_t now_ms = clock_wall_ms();
    time_t now_s = (time_t)(now_ms / 1000);
    struct tm utc;
    char text[40];
    size_t length;

    gmtime_r(&now_s, &utc);
    length = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + length, sizeof text - length, ".%03uZ", (unsigned)(now_ms % 1000));
    line_add_string(line, text);
}

static void build_human(struct line *line, const struct level *level, const char *target, const char *message,
                        size_t length) {
    bool colors = settings.colors && isatty(STDERR_FILENO);

    line_add_string(line, colors ? "\x1b[2m" : "");
    line_add_time(line);
    line_add_string(line, colors ? "\x1b[0m " : " ");
    line_add_string(line, colors ? level->color : "");
    line_add_string(line, level->padded);
    line_add_string(line, colors ? "\x1b[0m " : " ");
    if (settings.include_target) {
        line_add_escaped(line, target, strlen(target), false);
        line_add_string(line, ": ");
    }
    line_add_escaped(line, message, length, false);
    line_end(line, "\n");
}

static void build_json(struct line *line, const struct level *level, const char *target, const char *message,
                       size_t length) {
    line_add_string(line, "{\"time\":\"");
    line_add_time(line);
    line_add_string(line, "\",\"level\":\"");
    line_add_string(line, level->name);
    if (settings.include_target) {
        line_add_string(line, "\",\"target\":\"");
        line_add_escaped(line, target, strlen(target), true);
    }
    line_add_string(line, "\",\"message\":\"");
    line_add_escaped(line, message, length, true);
    line_end(line, "\"}\n");
}

static void build_line(struct line *line, enum log_level level, const char *target, struct slice message) {
    line->length = 0;
    line->limit = LOG_LINE_MAX_BYTES - sizeof ELLIPSIS "\"}\n";
    line->cut = false;
    if (settings.format == LOG_JSON)
        build_json(line, &levels[level], target, message.data, message.length);
    else
        build_human(line, &levels[level], target, message.data, message.length);
}

/* --- writing --- */

static void send_line(enum log_level level, const char *target, struct slice message) {
    struct line line;

    build_line(&line, level, target, message);
    if (log_queue_add(line.text, line.length))
        return;
    while (write(STDERR_FILENO, line.text, line.length) < 0 && errno == EINTR)
        ;
}

/* True if the warning is to be written. */
static bool admit_warning(const char *target, struct slice message) {
    bool admitted;

    if (!atomic_load_explicit(&counts_repeats, memory_order_relaxed))
        return true;
    pthread_mutex_lock(&repeats_mutex);
    admitted = log_repeats_admit(&repeats, target, message, clock_monotonic_ms());
    pthread_mutex_unlock(&repeats_mutex);
    return admitted;
}

static void write_list(enum log_level level, const char *target, bool each, const char *format, va_list arguments) {
    int saved_errno = errno;
    char text[LOG_LINE_MAX_BYTES + 1];
    struct slice message = {text, 0};
    int length = vsnprintf(text, sizeof text, format, arguments);

    if (length > 0) /* longer than a line: the builder cuts it at a whole character */
        message.length = (size_t)length < sizeof text ? (size_t)length : sizeof text - 1;
    if (each || level != LOG_WARNING || admit_warning(target, message))
        send_line(level, target, message);
    errno = saved_errno;
}

void log_write(enum log_level level, const char *target, const char *format, ...) {
    va_list arguments;

    if (!log_enabled(level))
        return;
    va_start(arguments, format);
    write_list(level, target, false, format, arguments);
    va_end(arguments);
}

void log_write_each(enum log_level level, const char *target, const char *format, ...) {
    va_list arguments;

    if (!log_enabled(level))
        return;
    va_start(arguments, format);
    write_list(level, target, true, format, arguments);
    va_end(arguments);
}

static bool take_repeat(bool ends, struct log_repeat *repeat) {
    bool taken;

    pthread_mutex_lock(&repeats_mutex);
    taken = log_repeats_take(&repeats, clock_monotonic_ms(), ends, repeat);
    pthread_mutex_unlock(&repeats_mutex);
    return taken;
}

static void write_repeats(bool ends) {
    struct log_repeat repeat;

    while (take_repeat(ends, &repeat))
        if (log_enabled(LOG_WARNING))
            log_write_each(LOG_WARNING, repeat.target, "%.*s (%llu times more within %d s)", (int)repeat.length,
                           repeat.text, (unsigned long long)repeat.count, LOG_REPEAT_MS / 1000);
}

void log_write_repeats(void) {
    write_repeats(false);
}

/* --- start and end --- */

static size_t build_lost_line(uint64_t lost, char text[LOG_LINE_MAX_BYTES]) {
    struct line line;
    char message[100];
    int length = snprintf(message, sizeof message, "%llu lines are missing here: the log was not read fast enough",
                          (unsigned long long)lost);

    build_line(&line, LOG_WARNING, "log", (struct slice){message, (size_t)length});
    memcpy(text, line.text, line.length);
    return line.length;
}

bool log_start(struct error *error) {
    atomic_store(&counts_repeats, true);
    return log_queue_start(build_lost_line, error);
}

void log_stop(void) {
    write_repeats(true);
    atomic_store(&counts_repeats, false);
    log_queue_stop();
}

uint64_t log_lost_lines(void) {
    return log_queue_lost();
}
