/*
 * What the files of the DynamoDB driver share.
 *
 *   dynamodb.c          the driver: finding, listing, writing
 *   dynamodb_table.c    the table and its index: looked at, created, waited for
 *   dynamodb_request.c  one request, repeated as long as DynamoDB asks for it
 *   dynamodb_item.c     between items and records
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
    const char *setting; /* that the URL is from, for people */
    bool loopback;       /* the URL is on this machine */
    const struct app_defaults *defaults;
    struct aws_chain *chain;
    /* Whether key lookups may ask the index; while they may not they scan, and look again from time to time. */
    atomic_bool index_usable;
    _Atomic uint64_t index_look_ms; /* on the monotonic clock */
};

struct dynamodb_connection {
    struct store_connection base;
    struct dynamodb_store *store;
    struct http_caller *caller;
    struct buffer answer;
    bool repeated; /* the last request was made more than once: an earlier one may have been carried out */
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
    DYNAMODB_DENIED,  /* no right to */
    DYNAMODB_REFUSED, /* not as asked: an item that is too large, an index that is not ready */
    DYNAMODB_UNAVAILABLE,
};

/*
 * Makes a request of the DynamoDB API (version 2012-08-10), "GetItem" for instance, and hands out the JSON that came
 * back; NULL unless the answer is DYNAMODB_OK. Throttling and failures of the service are tried again until deadline
 * ends. Takes the reference to `request`. Any other answer than DYNAMODB_OK sets the error.
 */
enum dynamodb_answer dynamodb_request(struct dynamodb_connection *connection, const char *operation, json_t *request,
                                      json_t **answer, struct error *error);

/* A request that says which table it is for. */
json_t *dynamodb_new_request(const struct dynamodb_connection *connection);

/* --- dynamodb_table.c --- */

enum store_answer dynamodb_prepare(struct store_connection *base, struct error *error);
enum store_answer dynamodb_inspect(struct store_connection *base, struct error *error);

/* True if a key lookup may ask the index now. */
bool dynamodb_index_usable(struct dynamodb_connection *connection);

/* The index turned out not to answer; it is looked at again in a few seconds. */
void dynamodb_index_failed(struct dynamodb_store *store);

/* --- dynamodb_item.c --- */

/* The record that an item holds, for row_to_app. */
json_t *dynamodb_item_to_record(const json_t *item);

/* The attribute for a field of the app; NULL for one that is not set. */
json_t *dynamodb_attribute(const struct app *app, enum app_field field);

/* {"S": text}; NULL if the text is no UTF-8. */
json_t *dynamodb_text(struct slice text);

/* The text of an attribute of an item; empty if it is none. */
struct slice dynamodb_text_of(const json_t *item, const char *name);

/* Now, as an attribute. */
json_t *dynamodb_now(void);
