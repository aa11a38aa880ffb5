/*
 * Changes of a record from the command line: `--set FIELD=VALUE` and `--unset FIELD`, in their order.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct changes {
    json_t *list; /* of [field, value]; value null: unset. NULL: no change */
};

void changes_dispose(struct changes *changes);

/*
 * Adds `FIELD=VALUE`: text, digits for numbers, true or false for flags, JSON for fields that are JSON. A single word
 * for `allowed_origins` is a list of one. app_parse
 * checks the value later; false if there is no such field, or the value has to be JSON and is not.
 */
bool changes_set(struct changes *changes, const char *assignment, struct error *error);

/* The same with the two parts apart. */
bool changes_set_field(struct changes *changes, const char *field, const char *value, struct error *error);

/* Unsets a field. It may be unknown here: a record may have it. */
void changes_unset(struct changes *changes, const char *field);

/* Applies the changes to a record. One of the secret ends the validity of the previous secret, unless that is set, too.
 * False if one unsets a field that neither the record nor this version has. */
bool changes_apply(const struct changes *changes, json_t *record, struct error *error);
