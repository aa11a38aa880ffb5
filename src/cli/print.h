/*
 * What the command line writes: apps as JSON or as tables, and errors. Results go to standard output, all else to
 * standard error.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "app/app.h"

/*
 * The app as a new JSON object: its fields in the order of the documentation, the members of what is inside them in
 * order of name, so that two stores give the same text. Without `secrets` the member `secret` is left out.
 */
json_t *print_record(const struct app *app, bool secrets);

/* Writes JSON, indented, with a line end. Takes the reference. */
void print_json(FILE *out, json_t *json);

/* One app, a line for each field; fields that are not set with the value in force. */
void print_app(FILE *out, const struct app *app, bool secrets);

/* A line for each app under a heading. */
void print_table(FILE *out, struct app *const *apps, size_t count, bool secrets);

/* One sentence on standard error, or {"error": ...} there. */
void print_failure(bool json, const char *text);

/* The same for what does not keep the command from doing its work. */
void print_warning(bool json, const char *text);
