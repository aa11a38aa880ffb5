/*
 * The DynamoDB driver: apps as items of one table, found by `id`, its partition key, and by `key` through the index
 * KeyIndex.
 *
 * The index is behind the table by a moment, so it only says which items to read; the items are read consistently.
 * Nothing in DynamoDB makes `key` unique: it is looked up before a write, and where two items have one all the same the
 * older app answers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "store/dynamodb/dynamodb_internal.h"
#include "store/name_conflict.h"
#include "store/row.h"

#define NAME_MAX_BYTES 1024 /* longer ids and keys are in no table: the limit of an index's key is 2048 */

static bool is_set(const char *text) {
    return text != NULL && text[0] != '\0';
}

/* --- settings --- */

static bool region_valid(const char *region, struct error *error) {
    size_t length = strlen(region);

    if (length == 0 || length > 63 ||
        strspn(region, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != length)
        return error_set(error,
                         "database.dynamodb.region: \"%s\" is no region: letters, digits and - only, "
                         "us-east-1 for example",
                         region);
    return true;
}

static bool table_name_valid(const char *name, struct error *error) {
    if (!row_name_valid(name, "-.", 255, "database.dynamodb.table_name", error))
        return false;
    return strlen(name) >= 3 || error_set(error, "database.dynamodb.table_name must be 3 to 255 characters long");
}

static bool keys_valid(const struct config *config, struct error *error) {
    if (is_set(config->database.dynamodb.aws_access_key_id) == is_set(config->database.dynamodb.aws_secret_access_key))
        return true;
    return error_set(error,
                     "database.dynamodb.aws_access_key_id and database.dynamodb.aws_secret_access_key (or "
                     "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) are set together or not at all");
}

static bool endpoint_valid(const char *endpoint, bool *loopback, struct error *error) {
    *loopback = false;
    if (!is_set(endpoint) || http_url_valid(endpoint, loopback))
        return true;
    return error_set(error,
                     "database.dynamodb.endpoint_url must be a URL of http:// or https://, without a user or "
                     "password");
}

static char *endpoint_url(const char *region, const char *given) {
    struct buffer url = {0};

    if (is_set(given))
        return alloc_copy(given, strlen(given));
    buffer_appendf(&url, "https://dynamodb.%s.amazonaws.com%s/", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
    buffer_append_byte(&url, '\0');
    return url.data;
}

static struct app_store *dynamodb_open(const struct config *config, const struct app_defaults *defaults,
                                       struct error *error) {
    const char *region = config->database.dynamodb.region, *endpoint = config->database.dynamodb.endpoint_url;
    struct aws_provider_settings chain = {.region = region,
                                       .access_key_id = config->database.dynamodb.aws_access_key_id,
                                       .secret_access_key = config->database.dynamodb.aws_secret_access_key,
                                       .profile_name = config->database.dynamodb.aws_profile_name};
    struct dynamodb_store *store;

    if (!region_valid(region, error) || !table_name_valid(config->database.dynamodb.table_name, error) ||
        !keys_valid(config, error) || !endpoint_valid(endpoint, &chain.may_be_made_up, error))
        return NULL;
    store = alloc_zero(sizeof *store);
    store->region = region;
    store->table = config->database.dynamodb.table_name;
    store->url = endpoint_url(region, endpoint);
    store->setting = is_set(endpoint) ? "database.dynamodb.endpoint_url" : "database.dynamodb.region";
    store->loopback = chain.may_be_made_up;
    store->defaults = defaults;
    store->chain = aws_chain_create(&chain);
    return &store->base;
}

static void dynamodb_close(struct app_store *base) {
    struct dynamodb_store *store = dynamodb_store_of(base);

    aws_chain_destroy(store->chain);
    free(store->url);
    free(store);
}

/* --- connections --- */

static void dynamodb_disconnect(struct store_connection *base) {
    struct dynamodb_connection *connection = dynamodb_connection_of(base);
    http_caller_destroy(connection->caller);
    buffer_dispose(&connection->answer);
    free(connection);
}

/* Reads an item, whether there is one or not: DynamoDB answers, and takes the credentials. */
static enum dynamodb_answer knock(struct dynamodb_connection *connection, struct error *error) {
    json_t *request = dynamodb_new_request(connection), *answer;
    enum dynamodb_answer result;

    json_object_set_new(request, "Key", json_pack("{s:{s:s}}", "id", "S", "-"));
    json_object_set_new(request, "ProjectionExpression", json_string("id"));
    result = dynamodb_request(connection, "GetItem", request, &answer, error);
    json_decref(answer);
    return result;
}

static struct store_connection *dynamodb_connect(struct app_store *base, const struct deadline *deadline,
                                                 struct error *error) {
    struct dynamodb_connection *connection = alloc_zero(sizeof *connection);

    store_connection_init(&connection->base, base, deadline);
    connection->store = dynamodb_store_of(base);
    connection->caller = http_caller_create();
    if (knock(connection, error) != DYNAMODB_UNAVAILABLE) /* a missing table is for prepare */
        return &connection->base;
    dynamodb_disconnect(&connection->base);
    return NULL;
}

static enum store_answer dynamodb_check_health(struct store_connection *base, struct error *error) {
    struct dynamodb_connection *connection = dynamodb_connection_of(base);
    return knock(connection, error) == DYNAMODB_OK ? STORE_OK : STORE_UNAVAILABLE;
}

/* What a failed write is for the caller. */
static enum store_answer refused_or_unavailable(enum dynamodb_answer result) {
    return result == DYNAMODB_DENIED || result == DYNAMODB_REFUSED ? STORE_REFUSED : STORE_UNAVAILABLE;
}

/* --- finding --- */

/* STORE_OK with a new reference to the item, or NOT_FOUND. */
static enum store_answer get_item(struct dynamodb_connection *connection, struct slice id, json_t **item,
                                  struct error *error) {
    json_t *request, *answer, *name = id.length != 0 && id.length <= NAME_MAX_BYTES ? dynamodb_text(id) : NULL;

    *item = NULL;
    if (name == NULL)
        return STORE_NOT_FOUND;
    request = dynamodb_new_request(connection);
    json_object_set_new(request, "Key", json_pack("{s:o}", "id", name));
    json_object_set_new(request, "ConsistentRead", json_true());
    if (dynamodb_request(connection, "GetItem", request, &answer, error) != DYNAMODB_OK)
        return STORE_UNAVAILABLE;
    *item = json_incref(json_object_get(answer, "Item"));
    json_decref(answer);
    return *item != NULL ? STORE_OK : STORE_NOT_FOUND;
}

static enum store_answer dynamodb_find_by_id(struct store_connection *base, struct slice id, struct app **app,
                                             struct error *error) {
    struct dynamodb_connection *connection = dynamodb_connection_of(base);
    json_t *item;
    enum store_answer answer = get_item(connection, id, &item, error);

    if (answer == STORE_OK)
        answer = row_to_app(dynamodb_item_to_record(item), connection->store->defaults, app, error);
    json_decref(item);
    return answer;
}

/* Appends the ids on all pages of a Query or Scan to `ids`. */
static enum dynamodb_answer collect_ids(struct dynamodb_connection *connection, const char *operation, json_t *request,
                                        json_t *ids, struct error *error) {
    enum dynamodb_answer result;
    json_t *answer, *last, *item;
    size_t i;

    do {
        result = dynamodb_request(connection, operation, json_incref(request), &answer, error);
        json_array_foreach(json_object_get(answer, "Items"), i, item) {
            json_t *id = json_object_get(json_object_get(item, "id"), "S");
            if (id != NULL)
                json_array_append(ids, id);
        }
        last = json_object_get(answer, "LastEvaluatedKey");
        if (last != NULL)
            json_object_set(request, "ExclusiveStartKey", last);
        json_decref(answer);
    } while (last != NULL);
    json_decref(request);
    return result;
}

static json_t *request_for_key(const struct dynamodb_connection *connection, struct slice key) {
    json_t *request = dynamodb_new_request(connection);

    json_object_set_new(request, "ExpressionAttributeNames", json_pack("{s:s}", "#key", "key"));
    json_object_set_new(request, "ExpressionAttributeValues", json_pack("{s:o}", ":key", dynamodb_text(key)));
    json_object_set_new(request, "ProjectionExpression", json_string("id"));
    return request;
}

/* The ids of the items that have the key, or had it a moment ago. */
static enum store_answer ids_of_key(struct dynamodb_connection *connection, struct slice key, json_t *ids,
                                    struct error *error) {
    json_t *request = request_for_key(connection, key);
    enum dynamodb_answer result;

    if (dynamodb_index_usable(connection)) {
        json_object_set_new(request, "IndexName", json_string(DYNAMODB_INDEX));
        json_object_set_new(request, "KeyConditionExpression", json_string("#key = :key"));
        result = collect_ids(connection, "Query", request, ids, error);
        if (result == DYNAMODB_OK)
            return STORE_OK;
        if (result != DYNAMODB_REFUSED && result != DYNAMODB_MISSING)
            return STORE_UNAVAILABLE;
        dynamodb_index_failed(connection->store);
        json_array_clear(ids);
        request = request_for_key(connection, key);
    }
    json_object_set_new(request, "FilterExpression", json_string("#key = :key"));
    json_object_set_new(request, "ConsistentRead", json_true());
    result = collect_ids(connection, "Scan", request, ids, error);
    return result == DYNAMODB_OK ? STORE_OK : STORE_UNAVAILABLE;
}

/* Of two items with one key the one that was created first; where either does not say when, the one with the smaller
 * id. */
static bool answers_before(const json_t *a, const json_t *b) {
    struct slice created_a = dynamodb_text_of(a, "created_at"), created_b = dynamodb_text_of(b, "created_at");
    int order = created_a.length != 0 && created_b.length != 0 ? slice_compare(created_a, created_b) : 0;

    if (order == 0)
        order = slice_compare(dynamodb_text_of(a, "id"), dynamodb_text_of(b, "id"));
    return order < 0;
}

static void report_duplicate(const json_t *kept, const json_t *other) {
    log_error("app", "apps %.*s and %.*s have the same key: the first answers, as the older one; change or delete one",
              SLICE_ARGS(dynamodb_text_of(kept, "id")), SLICE_ARGS(dynamodb_text_of(other, "id")));
}

/* Takes the reference to `item`; `best` (may be NULL) is what answered so far. */
static json_t *choose(json_t *best, json_t *item, struct slice key) {
    json_t *first, *second;

    if (!slice_equal(dynamodb_text_of(item, "key"), key)) { /* the index was behind */
        json_decref(item);
        return best;
    }
    if (best == NULL)
        return item;
    first = answers_before(item, best) ? item : best;
    second = first == item ? best : item;
    report_duplicate(first, second);
    json_decref(second);
    return first;
}

/* STORE_OK with a new reference to the item that has the key, others than that with the id `except`. */
static enum store_answer find_key(struct dynamodb_connection *connection, struct slice key, struct slice except,
                                  json_t **found, struct error *error) {
    json_t *ids = json_array(), *item, *value;
    enum store_answer answer = ids_of_key(connection, key, ids, error);
    size_t i;

    *found = NULL;
    json_array_foreach(ids, i, value) {
        struct slice id = {json_string_value(value), json_string_length(value)};
        if (answer != STORE_OK)
            break;
        if (slice_equal(id, except))
            continue;
        answer = get_item(connection, id, &item, error);
        if (answer == STORE_OK)
            *found = choose(*found, item, key);
        else if (answer == STORE_NOT_FOUND)
            answer = STORE_OK;
    }
    json_decref(ids);
    if (answer == STORE_OK)
        return *found != NULL ? STORE_OK : STORE_NOT_FOUND;
    json_decref(*found);
    *found = NULL;
    return answer;
}

static bool can_be_a_key(struct slice key) {
    json_t *text = dynamodb_text(key);
    bool can = text != NULL && key.length != 0 && key.length <= NAME_MAX_BYTES;

    json_decref(text);
    return can;
}

static enum store_answer dynamodb_find_by_key(struct store_connection *base, struct slice key, struct app **app,
                                              struct error *error) {
    struct dynamodb_connection *connection = dynamodb_connection_of(base);
    enum store_answer answer;
    json_t *item;

    if (!can_be_a_key(key))
        return STORE_NOT_FOUND;
    answer = find_key(connection, key, SLICE(""), &item, error);
    if (answer == STORE_OK)
        answer = row_to_app(dynamodb_item_to_record(item), connection->store->defaults, app, error);
    json_decref(item);
    return answer;
}

/* --- listing --- */

static enum store_answer dynamodb_list(struct store_connection *base, struct slice after, size_t limit,
                                       store_list_function *each, void *context, struct error *error) {
    struct dynamodb_connection *connection = dynamodb_connection_of(base);
    json_t *request = dynamodb_new_request(connection), *answer, *item, *last = NULL;
    enum dynamodb_answer result;
    size_t i;

    json_object_set_new(request, "ConsistentRead", json_true());
    if (after.length != 0)
        json_object_set_new(request, "ExclusiveStartKey", json_pack("{s:o}", "id", dynamodb_text(after)));
    do {
        json_object_set_new(request, "Limit", json_integer((json_int_t)limit));
        result = dynamodb_request(connection, "Scan", json_incref(request), &answer, error);
        json_array_foreach(json_object_get(answer, "Items"), i, item) {
            row_to_list(dynamodb_item_to_record(item), connection->store->defaults, each, context);
            limit--;
        }
        last = json_object_get(answer, "LastEvaluatedKey");
        if (last != NULL)
            json_object_set(request, "ExclusiveStartKey", last);
        json_decref(answer);
    } while (last != NULL && limit != 0);
    json_decref(request);
    return result == DYNAMODB_OK ? STORE_OK : STORE_UNAVAILABLE;
}

/* --- writing --- */

/* STORE_OK if no other app has the key; the item with the app's own id is looked at first where one has. */
static enum store_answer check_key(struct dynamodb_connection *connection, const struct app *app, bool is_new,
                                   struct error *error) {
    json_t *owner, *own;
    enum store_answer answer = find_key(connection, app->key, app->id, &owner, error);

    if (answer != STORE_OK)
        return answer == STORE_NOT_FOUND ? STORE_OK : answer;
    answer = get_item(connection, app->id, &own, error);
    json_decref(own);
    if (answer == STORE_OK && is_new) {
        answer = conflict_id_taken(app->id, error);
    } else if (answer == STORE_NOT_FOUND && !is_new) {
        answer = conflict_no_such_app(app->id, error);
    } else if (answer != STORE_UNAVAILABLE) {
        answer = conflict_key_taken(dynamodb_text_of(owner, "id"), error);
    }
    json_decref(owner);
    return answer;
}

static json_t *item_of(const struct app *app, json_t *now) {
    json_t *item = json_object();

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        json_t *attribute = dynamodb_attribute(app, (enum app_field)i);
        if (attribute != NULL)
            json_object_set_new(item, app_fields[i].name, attribute);
    }
    json_object_set(item, "created_at", now);
    json_object_set(item, "updated_at", now);
    return item;
}

static enum store_answer dynamodb_create(struct store_connection *base, const struct app *app, struct error *error) {
    struct dynamodb_connection *connection = dynamodb_connection_of(base);
    enum store_answer checked = check_key(connection, app, true, error);
    json_t *now = dynamodb_now(), *request = dynamodb_new_request(connection), *answer;
    enum dynamodb_answer result;

    if (checked != STORE_OK) {
        json_decref(now);
        json_decref(request);
        return checked;
    }
    json_object_set_new(request, "Item", item_of(app, now));
    /* An attempt whose answer was lost may have written this very item. */
    json_object_set_new(request, "ConditionExpression",
                        json_string("attribute_not_exists(id) OR (created_at = :now AND secret = :secret)"));
    json_object_set_new(request, "ExpressionAttributeValues",
                        json_pack("{s:o, s:o}", ":now", now, ":secret", dynamodb_text(app->secret)));
    result = dynamodb_request(connection, "PutItem", request, &answer, error);
    json_decref(answer);
    if (result == DYNAMODB_OK)
        return STORE_OK;
    return result == DYNAMODB_CONDITION_FAILED ? conflict_id_taken(app->id, error) : refused_or_unavailable(result);
}

/* "SET #f1 = :f1, ... REMOVE #f7, ...", with what the names and values stand for. */
static void add_changes(json_t *request, const struct app *app) {
    struct buffer set = {0}, removed = {0};
    json_t *names = json_object(), *values = json_object();
    char name[16], value[16];

    buffer_append_string(&set, "SET updated_at = :now");
    json_object_set_new(values, ":now", dynamodb_now());
    for (unsigned i = APP_ID + 1; i < APP_FIELD_COUNT; i++) {
        json_t *attribute = dynamodb_attribute(app, (enum app_field)i);
        snprintf(name, sizeof name, "#f%u", i);
        snprintf(value, sizeof value, ":f%u", i);
        json_object_set_new(names, name, json_string(app_fields[i].name));
        if (attribute != NULL) {
            buffer_appendf(&set, ", %s = %s", name, value);
            json_object_set_new(values, value, attribute);
        } else {
            buffer_appendf(&removed, "%s%s", removed.length == 0 ? " REMOVE " : ", ", name);
        }
    }
    buffer_append(&set, buffer_slice(&removed));
    json_object_set_new(request, "UpdateExpression", json_stringn(set.data, set.length));
    json_object_set_new(request, "ExpressionAttributeNames", names);
    json_object_set_new(request, "ExpressionAttributeValues", values);
    buffer_dispose(&set);
    buffer_dispose(&removed);
}

static enum store_answer dynamodb_update(struct store_connection *base, const struct app *app, struct error *error) {
    struct dynamodb_connection *connection = dynamodb_connection_of(base);
    enum store_answer checked = check_key(connection, app, false, error);
    enum dynamodb_answer result;
    json_t *request, *answer;

    if (checked != STORE_OK)
        return checked;
    request = dynamodb_new_request(connection);
    json_object_set_new(request, "Key", json_pack("{s:o}", "id", dynamodb_text(app->id)));
    json_object_set_new(request, "ConditionExpression", json_string("attribute_exists(id)"));
    add_changes(request, app);
    result = dynamodb_request(connection, "UpdateItem", request, &answer, error);
    json_decref(answer);
    if (result == DYNAMODB_OK)
        return STORE_OK;
    return result == DYNAMODB_CONDITION_FAILED ? conflict_no_such_app(app->id, error) : refused_or_unavailable(result);
}

static enum store_answer dynamodb_remove(struct store_connection *base, struct slice id, struct error *error) {
    struct dynamodb_connection *connection = dynamodb_connection_of(base);
    json_t *name = id.length != 0 && id.length <= NAME_MAX_BYTES ? dynamodb_text(id) : NULL, *request, *answer;
    enum dynamodb_answer result;

    if (name == NULL)
        return conflict_no_such_app(id, error);
    request = dynamodb_new_request(connection);
    json_object_set_new(request, "Key", json_pack("{s:o}", "id", name));
    json_object_set_new(request, "ConditionExpression", json_string("attribute_exists(id)"));
    result = dynamodb_request(connection, "DeleteItem", request, &answer, error);
    json_decref(answer);
    if (result == DYNAMODB_OK || (result == DYNAMODB_CONDITION_FAILED && connection->repeated))
        return STORE_OK;
    return result == DYNAMODB_CONDITION_FAILED ? conflict_no_such_app(id, error) : refused_or_unavailable(result);
}

const struct app_store_driver dynamodb_store_driver = {
    .name = "dynamodb",
    .open = dynamodb_open,
    .close = dynamodb_close,
    .connect = dynamodb_connect,
    .disconnect = dynamodb_disconnect,
    .prepare = dynamodb_prepare,
    .inspect = dynamodb_inspect,
    .find_by_id = dynamodb_find_by_id,
    .find_by_key = dynamodb_find_by_key,
    .list = dynamodb_list,
    .create = dynamodb_create,
    .update = dynamodb_update,
    .remove = dynamodb_remove,
    .check_health = dynamodb_check_health,
};
