/*
 * Whether a store holds what was written to it.
 */
#pragma once

#include <stdbool.h>

#include "app/app.h"
#include "base/buffer.h"

/*
 * Appends the names of the fields in which `there` is not what `wanted` says, separated by commas, and returns true if
 * there are any. An optional field that is not set is not the same as one set to the default; of the others a store
 * may keep the value in force. Server-wide defaults do not count: two configurations may differ in them.
 */
bool compare_apps(const struct app *wanted, const struct app *there, struct buffer *fields);

/* Appends the unknown fields of `wanted` that `there` lacks, as a store does that has no place for them. */
bool compare_unknown(const struct app *wanted, const struct app *there, struct buffer *fields);
