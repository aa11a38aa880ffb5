/*
 * What `curlew apps list` shows: which apps (--filter, --limit), in which order (--sort), with which fields
 * (--columns).
 */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "app/app.h"
#include "cli/options.h"

struct list_view {
    const char *filter; /* in the id or the key; with `filters_field` the value of a field; NULL: all apps */
    bool filters_field;
    enum app_field filter_field;
    size_t limit;
    enum app_field sort_field; /* apps with the same value are in order of id */
    bool descending;
    enum app_field columns[APP_FIELD_COUNT];
    size_t column_count;
    bool all_fields; /* no --columns: JSON has all fields */
    bool secrets;
};

/* Reads the options; false with an error that names the option. */
bool list_view_parse(struct list_view *view, const struct cli_options *options, struct error *error);

/* Sorts the apps and drops the references of those that are not shown. Returns the number of those that are. */
size_t list_view_select(const struct list_view *view, struct app **apps, size_t count);

/* Prints a heading and a line per app. */
void list_view_print(const struct list_view *view, FILE *out, struct app *const *apps, size_t count);

/* The apps as {"apps": [...]}; a field that is not set is no member. */
json_t *list_view_json(const struct list_view *view, struct app *const *apps, size_t count);
