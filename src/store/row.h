/*
 * Rows of a store and records of apps: what each column means as JSON, and how each field of a record is written into a
 * column. All drivers share it, so that they read alike what other servers of the protocol family wrote.
 *
 *   row --row_set_*--> json --row_to_app--> struct app --row_value--> column
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "app/app.h"
#include "base/buffer.h"
#include "base/slice.h"
#include "store/store.h"

/* --- settings and columns --- */

/*
 * True if `name` has 1 to `longest` characters, each a letter, a digit, `_` or one of `more`: it can be the name of a
 * table, keyspace or index without quoting. Otherwise false with an error that names the setting.
 */
bool row_name_valid(const char *name, const char *more, size_t longest, const char *setting, struct error *error);

/* The fields (bits, 1 << field) that must have a column; the others read as NULL if theirs is missing. */
extern const uint32_t row_required_fields;

/* The fields for which a table is given a column when it is prepared: all but `policy`, which has one only where
 * another server made it, or once a record brings a policy. */
extern const uint32_t row_layout_fields;

/* The fields whose columns have a default (app_field_info.fallback), so that a row inserted by hand need not name them.
 */
extern const uint32_t row_default_fields;

/* When to read the columns of a table again, on the monotonic clock: never if it has all of them; in ten seconds if
 * only `policy` or the previous secret is missing, which others may add; in a second if another one is. */
uint64_t row_reread_ms(uint32_t columns);

/* True if the app has a policy and the table has no column for it. */
bool row_needs_policy(uint32_t columns, const struct app *app);

/* The fields of the app (bits) that matter and have no column among these. */
uint32_t row_missing(uint32_t columns, const struct app *app);

/* True if there are none. Otherwise false with an error that names a missing column. */
bool row_keeps(uint32_t columns, const struct app *app, struct error *error);

/* The length that the columns of secrets need when secrets are encrypted. */
#define ROW_SEALED_LENGTH 512

/* True if a column with room for `room` characters (0: no bound) can hold the field of the app. Otherwise false with an
 * error that names the column. */
bool row_fits(enum app_field field, const struct app *app, size_t room, struct error *error);

/* Completes the error of row_keeps or row_fits with the statements that add what is missing, if there are any. Disposes
 * of `sql`. Returns STORE_REFUSED. */
enum store_answer row_refuse_without(struct error *error, struct buffer *sql);

/* Appends the columns of these fields (bits, 1 << field) in quotes, each followed by `suffix`: `"id" = ?, "key" = ?`.
 */
void row_append_columns(struct buffer *sql, uint32_t columns, char quote, const char *suffix);

/* --- from a row --- */

/*
 * Puts a column into the record from its text, as databases print values: digits for numbers, `1`, `0`, `t`, `f`,
 * `true` or `false` for flags, JSON for the three fields that are JSON. A text that cannot be read so stays a text,
 * which row_to_app refuses with the name of the field. The JSON text `null` is NULL.
 */
void row_set_text(json_t *record, enum app_field field, struct slice text);
void row_set_number(json_t *record, enum app_field field, int64_t number);
void row_set_flag(json_t *record, enum app_field field, bool flag);

/* The value for a column that no field can be: row_to_app refuses the record with the name of the field, instead of
 * reading it as another value. A new reference. */
json_t *row_unreadable(void);

/* STORE_OK with a new reference in `app`, or STORE_INVALID with an error. Takes the reference to `record`. */
enum store_answer row_to_app(json_t *record, const struct app_defaults *defaults, struct app **app,
                             struct error *error);

/* Passes one record to the receiver of a list. Takes the reference to `record`. */
void row_to_list(json_t *record, const struct app_defaults *defaults, store_list_function *each, void *context);

/* --- to a row --- */

/* The value to write into a column. */
struct row_value {
    enum { ROW_NULL, ROW_TEXT, ROW_NUMBER, ROW_FLAG } kind;
    /* ROW_TEXT; also ends with a zero byte; valid as long as the row_value and the app. */
    struct slice text;
    uint32_t number; /* ROW_NUMBER */
    bool flag;       /* ROW_FLAG */
    char *owned;     /* the memory of `text` if it is not the app's */
};

/* The value of a field: NULL for an optional field that is not set, otherwise the value in force. Dispose of it. */
void row_value_init(struct row_value *value, const struct app *app, enum app_field field);
void row_value_dispose(struct row_value *value);
