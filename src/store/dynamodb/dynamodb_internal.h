/*
 * Declarations shared by the files of the DynamoDB driver. Apps are items of one table, found by `id`, its partition
 * key, and by `key` through the index KeyIndex.
 *
 * The index follows the table after a moment, so it only says which items to read; the items are read consistently.
 * Nothing in DynamoDB keeps `key` unique: it is looked up before a write, and of two items with the same key the older
 * one is returned.
 *
 *   dynamodb.c          the driver: settings, connections, listing, writing
 *   dynamodb_find.c     finding an item by its id or key
 *   dynamodb_table.c    the table and its index: inspected, created, awaited
 *   dynamodb_item.c     items and records
 *   dynamodb_request.c  one request, repeated as long as DynamoDB asks for it
 */
#pragma once

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "aws/credential_chain.h"
#include "base/buffer.h"
#include "base/list.h"
#include "net/http_client.h"
#include "store/store.h"

#define DYNAMODB_INDEX "KeyIndex"

struct dynamodb_store {
    struct app_store base;
    const char *region, *table;
    char *url;
    const char *setting; /* where the URL comes from, for messages */
    bool loopback;       /* the URL is on this machine */
    const struct app_defaults *defaults;
    struct aws_chain *chain;
    /* Whether key lookups may query the index. While they may not, they scan the table, and the index is checked again
     * at `index_check_ms` (monotonic clock). */
    atomic_bool index_usable;
    _Atomic uint64_t index_check_ms;
};

struct dynamodb_connection {
    struct store_connection base;
    struct dynamodb_store *store;
    struct http_caller *caller;
    struct buffer answer; /* the body of the last response */
    /* The last request was sent more than once, so an earlier attempt may have taken effect. */
    bool repeated;
};

static inline struct dynamodb_store *dynamodb_store_of(struct app_store *base) {
    return container_of(base, struct dynamodb_store, base);
}

static inline struct dynamodb_connection *dynamodb_connection_of(struct store_connection *base) {
    return container_of(base, struct dynamodb_connection, base);
}

/* --- dynamodb_request.c --- */

enum dynamodb_answer {
    DYNAMODB_OK,
    DYNAMODB_CONDITION_FAILED,
    DYNAMODB_MISSING, /* no such table or index */
    DYNAMODB_IN_USE,  /* the table is being changed, by another server for instance */
    DYNAMODB_DENIED,  /* the credentials give no right to it */
    /* The request is invalid: an item that is too large, an index that is not ready. */
    DYNAMODB_REFUSED,
    DYNAMODB_UNAVAILABLE,
};

/*
 * Makes a request of the DynamoDB API (version 2012-08-10), "GetItem" for instance. `answer` is the JSON of the
 * response; NULL unless DYNAMODB_OK is returned. Throttled requests and failures of the service are tried again until
 * the deadline. Takes the reference to `request`. Every result but DYNAMODB_OK sets the error.
 */
enum dynamodb_answer dynamodb_request(struct dynamodb_connection *connection, const char *operation, json_t *request,
                                      json_t **answer, struct error *error);

/* A request with the name of the table. */
json_t *dynamodb_new_request(const struct dynamodb_connection *connection);

/* --- dynamodb_table.c --- */

enum store_answer dynamodb_prepare(struct store_connection *base, struct error *error);
enum store_answer dynamodb_inspect(struct store_connection *base, struct error *error);

/* True if a key lookup may query the index now. */
bool dynamodb_index_usable(struct dynamodb_connection *connection);

/* Call when a query of the index was refused: it is checked again in a few seconds. */
void dynamodb_index_failed(struct dynamodb_store *store);

/* --- dynamodb_find.c --- */

/* False if no item can have this id or key: DynamoDB would refuse a request with it. */
bool dynamodb_name_possible(struct slice name);

/* STORE_OK with a new reference to the item, or STORE_NOT_FOUND. */
enum store_answer dynamodb_get_item(struct dynamodb_connection *connection, struct slice id, json_t **item,
                                    struct error *error);

/* STORE_OK with a new reference to the item that has the key, or STORE_NOT_FOUND. The item with the id `except` does
 * not count. */
enum store_answer dynamodb_find_key(struct dynamodb_connection *connection, struct slice key, struct slice except,
                                    json_t **found, struct error *error);

/* --- dynamodb_item.c --- */

/* The record that an item holds, for row_to_app. */
json_t *dynamodb_item_to_record(const json_t *item);

/* The attribute for a field of the app; NULL for one that is not set. */
json_t *dynamodb_attribute(const struct app *app, enum app_field field);

/* {"S": text}; NULL if the text is not UTF-8. */
json_t *dynamodb_text(struct slice text);

/* The text of an attribute of an item; empty if there is none, or if it is not a text. */
struct slice dynamodb_text_of(const json_t *item, const char *name);

/* The time now, as an attribute. */
json_t *dynamodb_now(void);
