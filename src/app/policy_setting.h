/*
 * The field `policy` of an app: the limits, features, origins and webhooks of the app in one nested object, as newer
 * servers of the protocol family write them. Where it is set it replaces the flat fields (app.h).
 *
 *     "policy": {"limits": {"max_connections": 5000, ...}, "features": {...}, "channels": {...}, "webhooks": [...]}
 *
 * This file knows the shape of the object: where each flat field has its place, and the members that have no flat
 * field. Its members are otherwise kept as they are.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "app/webhook_setting.h"
#include "base/error.h"

/* The values that only a policy has. */
struct app_policy {
    uint32_t decay_seconds;  /* the window of max_client_events_per_second */
    bool terminate_on_limit; /* close a connection that exceeds it, instead of dropping the event */
    struct {
        bool enabled;
        uint32_t max_attempts, decay_seconds;
        bool terminate_on_limit;
    } message_rate_limit;
};

/* Sets the values of an app without a policy. */
void app_policy_init(struct app_policy *values);

/*
 * Checks the shape of a policy and reads the values that have no flat field; false with an error that names the member.
 * Members that are kept and not used are reported to `note` (may be NULL).
 */
bool app_policy_parse(const json_t *policy, struct app_policy *values, app_note_function *note, void *context,
                      struct error *error);

/* True if a policy has a place for this flat field. */
bool app_policy_covers(const char *field);

/* The value of a flat field inside a policy, borrowed; NULL if the policy does not have it. */
json_t *app_policy_get(const json_t *policy, const char *field);

/* Puts the value of a flat field into its place, which must exist (app_policy_covers); NULL removes it. Takes the
 * reference to `value`. */
void app_policy_put(json_t *policy, const char *field, json_t *value);
