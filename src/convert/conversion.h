/*
 * One conversion: the other server's configuration as a tree, Curlew's as JSON, and what there is to say about it.
 *
 * A server is a table of rows, one for each of its keys, which conversion_apply goes through; what needs more than a
 * row (apps, drivers) is code. Every key ends up in the output, in a message, or in both. For one thread.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/buffer.h"
#include "base/slice.h"
#include "convert/source.h"

struct conversion {
    const char *file; /* for messages */
    struct source *root;
    json_t *output;
    struct buffer messages; /* lines: "error: ...", "dropped: ...", "changed: ...", "note: ..." */
    size_t errors;
    size_t secrets; /* in the output */
};

/* How a value is carried over. A value that has no such form is an error. */
enum convert_kind {
    CONVERT_TEXT,
    CONVERT_FLAG,
    CONVERT_NUMBER,  /* a whole number */
    CONVERT_SECONDS, /* milliseconds there, seconds here; rounded up */
    CONVERT_PERCENT, /* a share here */
    CONVERT_AGE,     /* seconds; negative and 0 there are 0 here: for ever */
    CONVERT_LIMIT,   /* negative there is 0 here: no limit; 0 there lets nothing through and is an error; rounded up */
    CONVERT_LIST,    /* a list of texts */
    CONVERT_JSON,    /* as it is */
    CONVERT_DROP,    /* a whole subtree, with the reason */
    CONVERT_SECRET,  /* a text that is counted as a secret */
    CONVERT_CODE,    /* not by the table; the row only names the variable */
};

struct convert_row {
    const char *theirs;
    const char *variable; /* their environment variable; NULL: none */
    enum convert_kind kind;
    const char *ours;
    const char *fallback; /* JSON: their default, written out because ours differs; NULL: nothing is written */
    const char *remark;   /* of CONVERT_DROP the reason; otherwise what a user should know; NULL: nothing */
    unsigned largest;     /* of a CONVERT_LIMIT that cannot be off here: written for "no limit"; 0: it can */
};

void conversion_dispose(struct conversion *conversion);

/* Messages. `at` (may be NULL) is the place: file, line, path, variable. Texts never hold values of texts. */
void conversion_error(struct conversion *conversion, const struct source *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void conversion_changed(struct conversion *conversion, const struct source *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void conversion_note(struct conversion *conversion, const struct source *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void conversion_dropped(struct conversion *conversion, const struct source *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Reports each key of the node as dropped, and takes it: without those that are null or empty. */
void conversion_drop(struct conversion *conversion, struct source *node, const char *reason);

/* Reports as dropped what nobody took. */
void conversion_drop_rest(struct conversion *conversion, struct source *node, const char *reason);

/* True if the key has a value: neither missing nor null. */
bool source_is_set(const struct source *node);

/* The smallest whole number that is not below `number`. */
static inline double round_number_up(double number) {
    double whole = number > -1e15 && number < 1e15 ? (double)(long long)number : number;

    return whole < number ? whole + 1 : whole;
}

/* True, after an error that says so, if the reader did not understand the expression. */
bool conversion_refuse_unread(struct conversion *conversion, const struct source *node);

/* The map or list at a path below `base`; NULL if there is none. An error if it, or one on the way, is not understood.
 */
struct source *conversion_section(struct conversion *conversion, struct source *base, const char *path);

/* The value in a form of JSON, taken; NULL after an error. */
json_t *conversion_value(struct conversion *conversion, struct source *node, enum convert_kind kind);

/* Values in C. They take the node; false after an error. */
bool conversion_number(struct conversion *conversion, struct source *node, double *number);
bool conversion_flag(struct conversion *conversion, struct source *node, bool *flag);
bool conversion_text(struct conversion *conversion, struct source *node, struct slice *text);

/* Sets a setting of the output and checks it. Takes `value` over; NULL is accepted and does nothing. */
void conversion_put(struct conversion *conversion, const struct source *at, const char *path, json_t *value);

/* True if the output has this setting. */
bool conversion_has(const struct conversion *conversion, const char *path);

/* Goes through the rows; their paths begin at `base`. */
void conversion_apply(struct conversion *conversion, struct source *base, const struct convert_row *rows, size_t count);

/* Adds an app to the output after a check of its fields. Takes `record` over; NULL is accepted and does nothing. */
void conversion_add_app(struct conversion *conversion, const struct source *at, json_t *record);

/* Writes "${" in all texts of the output as "$${": in a file of Curlew it would stand for a variable. */
void conversion_escape_output(json_t *output);
