/*
 * What the command line wants changed in a record: `--set FIELD=VALUE` and `--unset FIELD`, in the order given.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct changes {
    json_t *list; /* of [field, value]; the value is null for what is to be unset. NULL: no change */
};

void changes_dispose(struct changes *changes);

/*
 * `FIELD=VALUE`: text as it is, digits for numbers, true or false for flags, JSON for the fields that are JSON. Whether
 * the value is a good one is app_parse's to say; false for what names no field, or is no JSON where it has to be.
 */
bool changes_set(struct changes *changes, const char *assignment, struct error *error);

/* The same with the two parts apart. */
bool changes_set_field(struct changes *changes, const char *field, const char *value, struct error *error);

/* A field that is not known here may be unset as well: it may stand in a record. */
void changes_unset(struct changes *changes, const char *field);

/* Applies them to a record; false if one unsets a field that nobody knows. */
bool changes_apply(const struct changes *changes, json_t *record, struct error *error);
