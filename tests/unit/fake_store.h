/*
 * A store driver for tests, without a store: its apps are "app-0", "app-1"... with the keys "key-0", "key-1"..., and
 * the test decides when it answers.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "store/store.h"

struct fake_store {
    atomic_uint app_count;
    atomic_uint max_connections; /* of every app: a change that others make */
    atomic_bool down;            /* the store cannot be reached */
    atomic_uint queries;         /* lookups that came to the store */
    void (*prepare)(void);       /* called in prepare, which may take long; NULL: nothing to do */
    /* For the driver with a watch: called on the watch thread. NULL: it only waits for the end. */
    void (*watch)(const struct store_watcher *watcher);
};

extern struct fake_store fake_store;

/* No apps, up, nothing to prepare. */
void fake_store_reset(void);

extern const struct app_store_driver fake_store_driver;
/* The same with a watch. */
extern const struct app_store_driver fake_watched_store_driver;
