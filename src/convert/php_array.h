/*
 * Reads a PHP configuration file that returns an array, as Laravel's files in config/ do. Nothing is executed.
 *
 * It understands arrays, texts, numbers, true, false, null, `Name::class`, casts, brackets, `env()`, `explode()`, and
 * `array_map('trim', ...)`, `array_filter()` and `array_values()`.
 * Any other expression becomes a node of the type SOURCE_UNREAD, which describes it: it is an error only if the
 * conversion needs its value. Statements before `return` are skipped.
 */
#pragma once

#include <jansson.h>

#include "base/error.h"
#include "base/slice.h"
#include "convert/source.h"

/* Arrays and brackets in one another; more is an error. */
#define PHP_MAX_DEPTH 32

/*
 * Returns the array; `variables` (dotenv.h; may be NULL: none) answers `env()` as in Laravel: true, false, null and
 * empty, also in round brackets, are such values. NULL with an error that names the line, never a value.
 */
struct source *php_array_read(struct slice file, const json_t *variables, struct error *error);
