/*
 * Secrets of apps that are not secret: those in the examples of servers of this kind, which everyone knows, and short
 * ones.
 */
#pragma once

#include <stdint.h>

#include "base/slice.h"
#include "config/config.h"

/* A secret with fewer bytes can be found by trying. */
#define CONFIG_SECRET_SHORTEST 16

/* True if it is in examples. Case does not matter, and `_` is the same as `-`. Any thread. */
bool config_secret_is_known(struct slice secret);

/* What is dangerous about a secret, as the rest of a sentence that begins with the app: "its secret is ...". NULL if
 * nothing is known to be. Any thread. */
const char *config_secret_danger(struct slice secret);

/* The same of the previous secret of an app, which is accepted until `until_s`, in seconds since 1970: NULL too if it
 * is accepted no more. Any thread. */
const char *config_previous_secret_danger(struct slice secret, uint64_t until_s);

/* Warns of each app of the configuration whose secret or previous secret is known, by its id. */
void config_report_known_secrets(const struct config *config, struct config_report *report);
