/*
 * Keeping the `policy` of an app in step with its flat fields: everything that changes a record before it is parsed and
 * written goes through here. A record is JSON as app_to_json makes it.
 *
 *     flat fields of a change --app_record_change--> record and its policy --app_parse--> struct app --> store
 */
#pragma once

#include <jansson.h>

#include "app/app.h"

/* Sets a member of a record, or removes it if `value` is NULL; if the record has a policy, there too. A member
 * `policy` replaces the policy. Takes no reference. */
void app_record_change(json_t *record, const char *name, json_t *value);

/* Gives the record a policy with the values of its flat fields. The other members of `base` (may be NULL) are kept. */
void app_record_put_policy(json_t *record, const json_t *base);

/* A copy of the app with such a policy, a new reference. Any thread. */
struct app *app_with_policy(const struct app *app, const json_t *base, const struct app_defaults *defaults);
