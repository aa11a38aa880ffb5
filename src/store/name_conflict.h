/*
 * Conflicts about names: the check before a write that its id and key are free, and what every driver answers when they
 * are not, in the same words.
 *
 * Only some stores can keep keys unique by themselves, so every driver looks before it writes. A store that does keep
 * them unique refuses a duplicate that another server wrote meanwhile; the driver then looks again to say which name it
 * was.
 */
#pragma once

#include "base/buffer.h"
#include "store/store.h"

/* Looks for the app that owns a name of `app`. STORE_OK: there is one, its id is appended to `owner`. STORE_NOT_FOUND:
 * there is none. */
typedef enum store_answer conflict_lookup(struct store_connection *connection, const struct app *app,
                                          struct buffer *owner, struct error *error);

/* The lookups of a driver. */
struct conflict_lookups {
    conflict_lookup *id_owner;
    conflict_lookup *key_owner; /* an app with another id */
};

/* STORE_OK if the app can be created: neither its id nor its key is taken. */
enum store_answer conflict_check_create(struct store_connection *connection, const struct conflict_lookups *lookups,
                                        const struct app *app, struct error *error);

/* STORE_OK if the app can be updated: its id is there, and no other app has its key. */
enum store_answer conflict_check_update(struct store_connection *connection, const struct conflict_lookups *lookups,
                                        const struct app *app, struct error *error);

/* STORE_OK if no other app has the key. */
enum store_answer conflict_check_key(struct store_connection *connection, const struct conflict_lookups *lookups,
                                     const struct app *app, struct error *error);

/* STORE_NOT_FOUND: no app has this id. */
enum store_answer conflict_no_such_app(struct slice id, struct error *error);
/* STORE_ID_TAKEN. `id` is as the store has it, since its collation may take different ids for equal. */
enum store_answer conflict_id_taken(struct slice id, struct error *error);
/* STORE_KEY_TAKEN; `owner` is the id of the app that has the key. */
enum store_answer conflict_key_taken(struct slice owner, struct error *error);

/* Logs that two records of a table without a unique index have the same key; lookups return the first. */
void conflict_log_shared_key(struct slice first_id, struct slice second_id);
