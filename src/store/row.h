/*
 * Between a store's row and a record: what each column means as JSON, and what a record's field is in a column. Shared
 * by every driver, so that all of them read what other servers of the protocol family wrote in the same way.
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

/*
 * Puts a column into the record from its text, as databases print values: digits for numbers, `1`/`0`/`t`/`f`/`true`/
 * `false` for flags, JSON for the three fields that are JSON. What does not read as such is kept as a text, so that
 * row_to_app refuses it by the field's name. The JSON text `null` is NULL.
 */
void row_set_text(json_t *record, enum app_field field, struct slice text);
/* The JSON value for a column that no field can hold: row_to_app refuses the record by the field's name instead of
 * reading it as another value. A new reference. */
json_t *row_unreadable(void);
void row_set_number(json_t *record, enum app_field field, int64_t number);
void row_set_flag(json_t *record, enum app_field field, bool flag);

/* STORE_OK with a new reference in `app`, or STORE_INVALID with an error. Takes the reference to `record`. */
enum store_answer row_to_app(json_t *record, const struct app_defaults *defaults, struct app **app,
                             struct error *error);

/* Hands one record to a list's receiver. Takes the reference to `record`. */
void row_to_list(json_t *record, const struct app_defaults *defaults, store_list_function *each, void *context);

/* What to write into a column. */
struct row_value {
    enum { ROW_NULL, ROW_TEXT, ROW_NUMBER, ROW_FLAG } kind;
    struct slice text; /* ROW_TEXT, terminated by a zero byte as well; lives as long as the row_value and the app */
    uint32_t number;   /* ROW_NUMBER */
    bool flag;         /* ROW_FLAG */
    char *owned;
};

/* The column of a field: NULL for an optional one that is not set, the value in force for one that a column must have.
 * Dispose of it. */
void row_value_init(struct row_value *value, const struct app *app, enum app_field field);
void row_value_dispose(struct row_value *value);

/* `"id" = ?, "key" = ?`: the columns of these fields (bits, 1 << field) in quotes, each with `behind` behind it. */
void row_append_columns(struct buffer *sql, uint32_t columns, char quote, const char *behind);

/* True if columns for these fields (bits, 1 << field) keep all that the app says. Else false with an error that names a
 * column that is not there. */
bool row_keeps(uint32_t columns, const struct app *app, struct error *error);

/* Until when the columns of a table that were looked at count, on the monotonic clock: for good, or for a second where
 * one is missing, since somebody may add it. */
uint64_t row_reread_ms(uint32_t columns);

/* True if `name` is made of 1 to `longest` letters, digits and `_`, and of the bytes in `also`: what tables, keyspaces
 * and indexes may be called. Else false with an error that names the setting. */
bool row_name_valid(const char *name, const char *also, size_t longest, const char *setting, struct error *error);

/* The bits (1 << field) of the fields whose column must be there; the others read as NULL when theirs is missing. */
extern const uint32_t row_required_fields;
