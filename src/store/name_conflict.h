/*
 * What every driver answers about ids and keys, in the same words.
 */
#pragma once

#include "store/store.h"

/* STORE_NOT_FOUND: no app has this id. */
enum store_answer names_no_such_app(struct slice id, struct error *error);
/* STORE_ID_TAKEN */
enum store_answer names_id_taken(struct slice id, struct error *error);
/* STORE_KEY_TAKEN; `owner` is the id of the app whose key it is. */
enum store_answer names_key_taken(struct slice owner, struct error *error);
