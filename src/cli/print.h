/*
 * Output of the command line: apps as JSON or as tables, and errors. Results go to standard output, everything else to
 * standard error.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "app/app.h"

/*
 * The app as a new JSON object: its fields in the order of the documentation, members inside them sorted by name, so
 * that two stores give the same text. Without `secrets` the hidden fields are omitted.
 */
json_t *print_record(const struct app *app, bool secrets);

/* Prints valid UTF-8 without its control characters (cli/safe_text.h). */
void print_text(FILE *out, struct slice text);

/* Prints JSON, indented, with a line end. Takes over the reference. */
void print_json(FILE *out, json_t *json);

/* Prints one app, a line per field; a field that is not set shows its value in force. */
void print_app(FILE *out, const struct app *app, bool secrets);

#define PRINT_TIME_BYTES 32

/* Writes a time in seconds since 1970 as "2026-11-29T20:15:03Z"; returns `text`. */
const char *print_time(uint64_t seconds, char text[PRINT_TIME_BYTES]);

/* Prints a sentence on standard error, or {"error": ...} as JSON. */
void print_failure(bool json, const char *text);

/* The same for a problem that does not stop the command. */
void print_warning(bool json, const char *text);
