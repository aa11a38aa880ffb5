/*
 * Comparing the app that was written with the one in the store.
 */
#pragma once

#include <stdbool.h>

#include "app/app.h"
#include "base/buffer.h"

/*
 * Appends the names of the fields in which `there` differs from `wanted`, separated by commas; true if there are any.
 * An optional field that is not set differs from one set to the default; for the others a store may have the value in
 * force. Without a policy in `wanted`, the one that `there` has does not count: its flat fields are compared.
 * Server-wide defaults are ignored: two configurations may differ in them.
 */
bool compare_apps(const struct app *wanted, const struct app *there, struct buffer *fields);

/* Appends the unknown fields of `wanted` that `there` lacks: some stores cannot keep them. */
bool compare_unknown(const struct app *wanted, const struct app *there, struct buffer *fields);
