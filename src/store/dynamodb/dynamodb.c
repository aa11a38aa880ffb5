#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "store/drivers.h"
#include "store/dynamodb/dynamodb_internal.h"
#include "store/name_conflict.h"
#include "store/row.h"

static bool is_configured(const char *text) {
    return text != NULL && text[0] != '\0';
}

/* --- settings --- */

static bool region_valid(const char *region, struct error *error) {
    size_t length = strlen(region);

    if (length == 0 || length > 63 ||
        strspn(region, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != length)
        return error_set(error,
                         "database.dynamodb.region: \"%s\" is not a region: letters, digits and - only, "
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
    if (is_configured(config->database.dynamodb.aws_access_key_id) ==
        is_configured(config->database.dynamodb.aws_secret_access_key))
        return true;
    return error_set(error,
                     "database.dynamodb.aws_access_key_id and database.dynamodb.aws_secret_access_key (or "
                     "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) are set together or not at all");
}

static bool endpoint_valid(const char *endpoint, bool *loopback, struct error *error) {
    *loopback = false;
    if (!is_configured(endpoint) || http_url_valid(endpoint, loopback))
        return true;
    return error_set(error,
                     "database.dynamodb.endpoint_url must be a URL of http:// or https://, without a user or "
                     "password");
}

static char *make_endpoint_url(const char *region, const char *given) {
    struct buffer url = {0};

    if (is_configured(given))
        return alloc_copy(given, strlen(given));
    buffer_appendf(&url, "https://dynamodb.%s.amazonaws.com%s/", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
    return buffer_string(&url);
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
    store->url = make_endpoint_url(region, endpoint);
    store->setting = is_configured(endpoint) ? "database.dynamodb.endpoint_url" : "database.dynamodb.region";
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

/* Reads an item, which need not be there: shows that DynamoDB answers and accepts the credentials. */
static enum dynamodb_answer probe_item(struct dynamodb_connection *connection, struct error *error) {
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
    if (probe_item(connection, error) != DYNAMODB_UNAVAILABLE) /* a missing table is for prepare */
        return &connection->base;
    dynamodb_disconnect(&connection->base);
    return NULL;
}

static enum store_answer dynamodb_check_health(struct store_connection *base, struct error *error) {
    struct dynamodb_connection *connection = dynamodb_connection_of(base);

    return probe_item(connection, error) == DYNAMODB_OK ? STORE_OK : STORE_UNAVAILABLE;
}

/* The answer for a write that failed. */
static enum store_answer write_failure(enum dynamodb_answer result) {
    return result == DYNAMODB_DENIED || result == DYNAMODB_REFUSED ? STORE_REFUSED : STORE_UNAVAILABLE;
}

/* --- reading --- */

static enum store_answer dynamodb_find_by_id(struct store_connection *base, struct slice id, struct app **app,
                                             struct error *error) {
    struct dynamodb_connection *connection = dynamodb_connection_of(base);
    json_t *item;
    enum store_answer answer = dynamodb_get_item(connection, id, &item, error);

    if (answer == STORE_OK)
        answer = row_to_app(dynamodb_item_to_record(item), connection->store->defaults, app, error);
    json_decref(item);
    return answer;
}

static enum store_answer dynamodb_find_by_key(struct store_connection *base, struct slice key, struct app **app,
                                              struct error *error) {
    struct dynamodb_connection *connection = dynamodb_connection_of(base);
    enum store_answer answer;
    json_t *item;

    if (!dynamodb_name_possible(key))
        return STORE_NOT_FOUND;
    answer = dynamodb_find_key(connection, key, SLICE(""), &item, error);
    if (answer == STORE_OK)
        answer = row_to_app(dynamodb_item_to_record(item), connection->store->defaults, app, error);
    json_decref(item);
    return answer;
}

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

/* STORE_OK if no other app has the key. Only if one has is the app's id looked up, since the write itself checks it. */
static enum store_answer check_dynamodb_key(struct dynamodb_connection *connection, const struct app *app, bool is_new,
                                            struct error *error) {
    json_t *owner, *same_id;
    enum store_answer answer = dynamodb_find_key(connection, app->key, app->id, &owner, error);

    if (answer != STORE_OK)
        return answer == STORE_NOT_FOUND ? STORE_OK : answer;
    answer = dynamodb_get_item(connection, app->id, &same_id, error);
    json_decref(same_id);
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

static json_t *make_item(const struct app *app, json_t *now) {
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
    enum store_answer checked = check_dynamodb_key(connection, app, true, error);
    json_t *now = dynamodb_now(), *request = dynamodb_new_request(connection), *answer;
    enum dynamodb_answer result;

    if (checked != STORE_OK) {
        json_decref(now);
        json_decref(request);
        return checked;
    }
    json_object_set_new(request, "Item", make_item(app, now));
    /* An earlier attempt whose response was lost may have written this very item. */
    json_object_set_new(request, "ConditionExpression",
                        json_string("attribute_not_exists(id) OR (created_at = :now AND secret = :secret)"));
    json_object_set_new(request, "ExpressionAttributeValues",
                        json_pack("{s:o, s:o}", ":now", now, ":secret", dynamodb_text(app->secret)));
    result = dynamodb_request(connection, "PutItem", request, &answer, error);
    json_decref(answer);
    if (result == DYNAMODB_OK)
        return STORE_OK;
    return result == DYNAMODB_CONDITION_FAILED ? conflict_id_taken(app->id, error) : write_failure(result);
}

/* Adds "SET #f1 = :f1, ... REMOVE #f7, ...", and the names and values that the placeholders stand for. */
static void add_update_expression(json_t *request, const struct app *app) {
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
    enum store_answer checked = check_dynamodb_key(connection, app, false, error);
    enum dynamodb_answer result;
    json_t *request, *answer;

    if (checked != STORE_OK)
        return checked;
    request = dynamodb_new_request(connection);
    json_object_set_new(request, "Key", json_pack("{s:o}", "id", dynamodb_text(app->id)));
    json_object_set_new(request, "ConditionExpression", json_string("attribute_exists(id)"));
    add_update_expression(request, app);
    result = dynamodb_request(connection, "UpdateItem", request, &answer, error);
    json_decref(answer);
    if (result == DYNAMODB_OK)
        return STORE_OK;
    return result == DYNAMODB_CONDITION_FAILED ? conflict_no_such_app(app->id, error) : write_failure(result);
}

static enum store_answer dynamodb_remove(struct store_connection *base, struct slice id, struct error *error) {
    struct dynamodb_connection *connection = dynamodb_connection_of(base);
    json_t *request, *answer;
    enum dynamodb_answer result;

    if (!dynamodb_name_possible(id))
        return conflict_no_such_app(id, error);
    request = dynamodb_new_request(connection);
    json_object_set_new(request, "Key", json_pack("{s:o}", "id", dynamodb_text(id)));
    json_object_set_new(request, "ConditionExpression", json_string("attribute_exists(id)"));
    result = dynamodb_request(connection, "DeleteItem", request, &answer, error);
    json_decref(answer);
    if (result == DYNAMODB_OK || (result == DYNAMODB_CONDITION_FAILED && connection->repeated))
        return STORE_OK;
    return result == DYNAMODB_CONDITION_FAILED ? conflict_no_such_app(id, error) : write_failure(result);
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
