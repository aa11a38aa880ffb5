/*
 * Reads a `.env` file: `NAME=value` lines with comments, quotes, escapes and references to variables.
 *
 * Two dialects: Laravel's (phpdotenv), in which "${NAME}" stands for the value of an earlier variable unless the text
 * is in single quotes, and that of Node's dotenv, which replaces nothing and also knows back quotes.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/slice.h"

enum dotenv_dialect { DOTENV_LARAVEL, DOTENV_NODE };

/* The values of a file may have this many bytes together; "${NAME}" can make them longer than the file. */
#define DOTENV_MAX_BYTES (4u << 20)

/*
 * Sets each variable of `text` in the object `variables`: a text, or null for a name without `=`. A later line goes
 * before an earlier one. False with an error that names the line, never a value.
 */
bool dotenv_read(struct slice text, enum dotenv_dialect dialect, json_t *variables, struct error *error);
