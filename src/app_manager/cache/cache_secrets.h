/*
 * Warnings about the secrets of apps that were read from a store: those that are plain although there is a key, as a
 * number of apps and not for each.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "app/app.h"
#include "store/store.h"

struct cache_secrets {
    bool has_keys;
    atomic_uint plain; /* records with a plain secret that were read */
};

void cache_secrets_init(struct cache_secrets *secrets, const struct app_store *store);

/* Looks at a record that was read, and is new or has changed. Any thread. */
void cache_secrets_warn(struct cache_secrets *secrets, const struct app *app);
