/*
 * A store is a place where apps are kept; a driver is the code for one kind of store. This is what every driver
 * implements: one file in app/store/ and one line in the table of drivers.
 *
 * The functions block, so they run on threads made for it and never on a worker; the memory driver, which needs no
 * waiting, is asked directly. Records travel parsed, with the reason beside them when one of them is broken.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "app/app.h"
#include "base/error.h"
#include "base/slice.h"

struct app_store; /* a driver's own state */

enum store_answer {
    STORE_OK,
    STORE_NOT_FOUND,
    STORE_INVALID,     /* there is a record, and `error` says which of its fields is broken */
    STORE_ID_TAKEN,    /* create: another app has the id */
    STORE_KEY_TAKEN,   /* create, update: another app has the key */
    STORE_UNAVAILABLE, /* the store cannot be asked; `error` says what came back */
};

/* Receives one app of a list: `app` (the receiver's reference to keep), or NULL for a broken record, with what can be
 * read of its id and key (either may be empty) and the error. */
typedef void store_list_function(void *context, struct slice id, struct slice key, struct app *app,
                                 const struct error *error);

struct app_store_driver {
    const char *name;
    /* Opens the store. False with an error if the configuration can never work. */
    struct app_store *(*open)(const struct config *config, const struct app_defaults *defaults, struct error *error);
    void (*close)(struct app_store *store);
    enum store_answer (*find_by_id)(struct app_store *store, struct slice id, struct app **app, struct error *error);
    enum store_answer (*find_by_key)(struct app_store *store, struct slice key, struct app **app, struct error *error);
    /* Up to `limit` apps in order of id, those behind `after` (empty: from the first). */
    enum store_answer (*list)(struct app_store *store, struct slice after, size_t limit, store_list_function *each,
                              void *context, struct error *error);
    enum store_answer (*create)(struct app_store *store, const struct app *app, struct error *error);
    enum store_answer (*update)(struct app_store *store, const struct app *app, struct error *error);
    enum store_answer (*remove)(struct app_store *store, struct slice id, struct error *error);
    enum store_answer (*check_health)(struct app_store *store, struct error *error);
};

/* Apps of the configuration, kept in memory; app/store/memory.c. */
extern const struct app_store_driver memory_store_driver;
