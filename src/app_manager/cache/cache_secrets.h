/*
 * Warnings about the secrets of apps in a store: those that everyone knows, in production mode; and those that are
 * plain although there is a key, as a number of apps and not for each.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "app/app.h"
#include "store/store.h"

struct cache_secrets {
    bool production, has_keys;
    atomic_uint known; /* apps with a known secret that were seen */
    atomic_uint plain; /* records with a plain secret that were read */
};

void cache_secrets_init(struct cache_secrets *secrets, const struct config *config, const struct app_store *store);

/* Looks at a record that is new or has changed; `written` by this process, which encrypts on the way. Any thread. */
void cache_secrets_warn(struct cache_secrets *secrets, const struct app *app, bool written);
