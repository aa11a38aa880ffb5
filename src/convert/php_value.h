/*
 * PHP's functions and casts on values that were read, and Laravel's `env()`.
 *
 * Where one of them does not apply to the values it returns NULL and says why in words, without the values: they may be
 * secrets.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/slice.h"
#include "convert/source.h"

#define PHP_MAX_ARGUMENTS 2

/* Why a value is not understood, as the subject of a sentence; empty: it is. */
struct php_why {
    char text[128];
};

enum php_cast { PHP_CAST_NONE, PHP_CAST_INTEGER, PHP_CAST_FLOAT, PHP_CAST_FLAG, PHP_CAST_TEXT, PHP_CAST_ARRAY };

/* A new text. */
struct source *php_text(struct slice text);

/* The value that `env(name)` has in Laravel; NULL if the variable is missing. The caller owns it. */
struct source *laravel_env(const json_t *variables, struct slice name);

/* True for the functions that php_call can call. */
bool php_function_is_known(struct slice name);

/*
 * The value of a call, which the caller owns. Takes over an argument by setting it to NULL. `variables` (may be NULL)
 * answer `env()`.
 */
struct source *php_call(struct slice name, const json_t *variables, struct source **arguments, size_t count,
                        struct php_why *why);

/* The cast with this name, such as `int`. */
enum php_cast php_cast_named(struct slice name);

/* The value after a cast. Takes `value` over. */
struct source *php_cast_value(enum php_cast cast, struct source *value, struct php_why *why);
