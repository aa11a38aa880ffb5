#include "base/utf8.h"
#include "store/dynamodb/dynamodb_internal.h"
#include "store/name_conflict.h"

#define NAME_MAX_BYTES 1024 /* no table holds longer ids and keys: the limit of an index's key is 2048 */

bool dynamodb_name_possible(struct slice name) {
    return name.length != 0 && name.length <= NAME_MAX_BYTES && utf8_valid(name);
}

enum store_answer dynamodb_get_item(struct dynamodb_connection *connection, struct slice id, json_t **item,
                                    struct error *error) {
    json_t *request, *answer;

    *item = NULL;
    if (!dynamodb_name_possible(id))
        return STORE_NOT_FOUND;
    request = dynamodb_new_request(connection);
    json_object_set_new(request, "Key", json_pack("{s:o}", "id", dynamodb_text(id)));
    json_object_set_new(request, "ConsistentRead", json_true());
    if (dynamodb_request(connection, "GetItem", request, &answer, error) != DYNAMODB_OK)
        return STORE_UNAVAILABLE;
    *item = json_incref(json_object_get(answer, "Item"));
    json_decref(answer);
    return *item != NULL ? STORE_OK : STORE_NOT_FOUND;
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

static json_t *new_key_request(const struct dynamodb_connection *connection, struct slice key) {
    json_t *request = dynamodb_new_request(connection);

    json_object_set_new(request, "ExpressionAttributeNames", json_pack("{s:s}", "#key", "key"));
    json_object_set_new(request, "ExpressionAttributeValues", json_pack("{s:o}", ":key", dynamodb_text(key)));
    json_object_set_new(request, "ProjectionExpression", json_string("id"));
    return request;
}

/* Finds the ids of the items that have the key, or had it a moment ago. */
static enum store_answer find_ids_of_key(struct dynamodb_connection *connection, struct slice key, json_t *ids,
                                         struct error *error) {
    json_t *request = new_key_request(connection, key);
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
        request = new_key_request(connection, key);
    }
    json_object_set_new(request, "FilterExpression", json_string("#key = :key"));
    json_object_set_new(request, "ConsistentRead", json_true());
    result = collect_ids(connection, "Scan", request, ids, error);
    return result == DYNAMODB_OK ? STORE_OK : STORE_UNAVAILABLE;
}

/* Of two items with one key the one that was created first is returned; if either does not say when it was, the one
 * with the smaller id. */
static bool is_older_item(const json_t *a, const json_t *b) {
    struct slice created_a = dynamodb_text_of(a, "created_at"), created_b = dynamodb_text_of(b, "created_at");
    int order = created_a.length != 0 && created_b.length != 0 ? slice_compare(created_a, created_b) : 0;

    if (order == 0)
        order = slice_compare(dynamodb_text_of(a, "id"), dynamodb_text_of(b, "id"));
    return order < 0;
}

/* The older of `best` (may be NULL) and `item`, if `item` has the key. Takes both references. */
static json_t *keep_older_item(json_t *best, json_t *item, struct slice key) {
    json_t *older, *newer;

    if (!slice_equal(dynamodb_text_of(item, "key"), key)) { /* the index was not up to date */
        json_decref(item);
        return best;
    }
    if (best == NULL)
        return item;
    older = is_older_item(item, best) ? item : best;
    newer = older == item ? best : item;
    conflict_log_shared_key(dynamodb_text_of(older, "id"), dynamodb_text_of(newer, "id"));
    json_decref(newer);
    return older;
}

enum store_answer dynamodb_find_key(struct dynamodb_connection *connection, struct slice key, struct slice except,
                                    json_t **found, struct error *error) {
    json_t *ids = json_array(), *item, *value;
    enum store_answer answer = find_ids_of_key(connection, key, ids, error);
    size_t i;

    *found = NULL;
    json_array_foreach(ids, i, value) {
        struct slice id = {json_string_value(value), json_string_length(value)};
        if (answer != STORE_OK)
            break;
        if (slice_equal(id, except))
            continue;
        answer = dynamodb_get_item(connection, id, &item, error);
        if (answer == STORE_OK)
            *found = keep_older_item(*found, item, key);
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
