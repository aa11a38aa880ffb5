#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/dynamodb/dynamodb_internal.h"

#define TABLE_CHECK_MS 500  /* between two checks of a table that is being created */
#define INDEX_CHECK_MS 5000 /* between two checks of an index that is being created */
#define INDEX_ADD_MS 10000

static const char *member_string(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));

    return text != NULL ? text : "";
}

/* DYNAMODB_OK with the description of the table, a new reference. */
static enum dynamodb_answer describe_table(struct dynamodb_connection *connection, json_t **table,
                                           struct error *error) {
    json_t *answer;
    enum dynamodb_answer result =
        dynamodb_request(connection, "DescribeTable", dynamodb_new_request(connection), &answer, error);

    *table = json_incref(json_object_get(answer, "Table"));
    json_decref(answer);
    return result;
}

/* --- the index --- */

static const json_t *find_index(const json_t *table) {
    const json_t *indexes = json_object_get(table, "GlobalSecondaryIndexes"), *index;
    size_t i;

    json_array_foreach(indexes, i, index) {
        if (strcmp(member_string(index, "IndexName"), DYNAMODB_INDEX) == 0)
            return index;
    }
    return NULL;
}

/* True if that attribute is the partition key of a table or index. */
static bool has_partition_key(const json_t *described, const char *attribute) {
    const json_t *first = json_array_get(json_object_get(described, "KeySchema"), 0);

    return strcmp(member_string(first, "AttributeName"), attribute) == 0 &&
           strcmp(member_string(first, "KeyType"), "HASH") == 0;
}

static bool index_ready(const json_t *index) {
    return index != NULL && strcmp(member_string(index, "IndexStatus"), "ACTIVE") == 0 &&
           has_partition_key(index, "key");
}

void dynamodb_index_failed(struct dynamodb_store *store) {
    atomic_store(&store->index_check_ms, clock_monotonic_ms() + INDEX_CHECK_MS);
    atomic_store(&store->index_usable, false);
}

bool dynamodb_index_usable(struct dynamodb_connection *connection) {
    struct dynamodb_store *store = connection->store;
    uint64_t now_ms = clock_monotonic_ms(), check_ms = atomic_load(&store->index_check_ms);
    enum dynamodb_answer result;
    struct error error;
    json_t *table;

    if (atomic_load(&store->index_usable))
        return true;
    if (now_ms < check_ms ||
        !atomic_compare_exchange_strong(&store->index_check_ms, &check_ms, now_ms + INDEX_CHECK_MS))
        return false;
    result = describe_table(connection, &table, &error);
    /* Without the right to look, try it. */
    if (result == DYNAMODB_DENIED || (result == DYNAMODB_OK && index_ready(find_index(table)))) {
        log_info("app", "DynamoDB table %s: key lookups ask the index " DYNAMODB_INDEX " from now on", store->table);
        atomic_store(&store->index_usable, true);
    }
    json_decref(table);
    return atomic_load(&store->index_usable);
}

static json_t *index_definition(void) {
    return json_pack("{s:s, s:[{s:s, s:s}], s:{s:s}}", "IndexName", DYNAMODB_INDEX, "KeySchema", "AttributeName", "key",
                     "KeyType", "HASH", "Projection", "ProjectionType", "ALL");
}

/* An index of a table with provisioned capacity needs a capacity of its own: as much as the table has. */
static void add_throughput(json_t *definition, const json_t *table) {
    const json_t *throughput = json_object_get(table, "ProvisionedThroughput");
    json_t *reads = json_object_get(throughput, "ReadCapacityUnits");
    json_t *writes = json_object_get(throughput, "WriteCapacityUnits");

    if (json_integer_value(reads) > 0 && json_integer_value(writes) > 0)
        json_object_set_new(definition, "ProvisionedThroughput",
                            json_pack("{s:O, s:O}", "ReadCapacityUnits", reads, "WriteCapacityUnits", writes));
}

/* Asks for the index without waiting for it, since a table works without. */
static void add_index(struct dynamodb_connection *connection, const json_t *table) {
    const char *name = connection->store->table;
    const struct deadline whole = connection->base.deadline, enough = deadline_after(INDEX_ADD_MS, whole.cancel_fd);
    json_t *request = dynamodb_new_request(connection), *definition = index_definition(), *answer;
    enum dynamodb_answer result;
    struct error error;

    add_throughput(definition, table);
    json_object_set_new(request, "AttributeDefinitions",
                        json_pack("[{s:s, s:s}]", "AttributeName", "key", "AttributeType", "S"));
    json_object_set_new(request, "GlobalSecondaryIndexUpdates", json_pack("[{s:o}]", "Create", definition));
    if (enough.ends_ns < whole.ends_ns)
        store_begin(&connection->base, &enough);
    result = dynamodb_request(connection, "UpdateTable", request, &answer, &error);
    store_begin(&connection->base, &whole);
    json_decref(answer);
    if (result == DYNAMODB_OK)
        log_info("app", "DynamoDB table %s: adding the index " DYNAMODB_INDEX "; until it is ready key lookups scan",
                 name);
    else if (result != DYNAMODB_IN_USE) /* most likely by another server that adds the index */
        log_warning("app",
                    "DynamoDB table %s has no index " DYNAMODB_INDEX
                    " on key and it cannot be added, so key lookups "
                    "scan: %s",
                    name, error.text);
}

static void ensure_index(struct dynamodb_connection *connection, const json_t *table) {
    struct dynamodb_store *store = connection->store;
    const json_t *index = find_index(table);

    if (index_ready(index)) {
        atomic_store(&store->index_usable, true);
        return;
    }
    dynamodb_index_failed(store);
    if (index == NULL)
        add_index(connection, table);
    else if (!has_partition_key(index, "key"))
        log_warning("app", "DynamoDB table %s: the index " DYNAMODB_INDEX " is not on key, so key lookups scan",
                    store->table);
}

/* --- the table --- */

/* STORE_OK if there is a table now, or soon: another server may be creating it. */
static enum store_answer create_dynamodb_table(struct dynamodb_connection *connection, struct error *error) {
    const char *name = connection->store->table;
    json_t *request = dynamodb_new_request(connection), *answer;
    enum dynamodb_answer result;

    json_object_set_new(request, "AttributeDefinitions",
                        json_pack("[{s:s, s:s}, {s:s, s:s}]", "AttributeName", "id", "AttributeType", "S",
                                  "AttributeName", "key", "AttributeType", "S"));
    json_object_set_new(request, "KeySchema", json_pack("[{s:s, s:s}]", "AttributeName", "id", "KeyType", "HASH"));
    json_object_set_new(request, "GlobalSecondaryIndexes", json_pack("[o]", index_definition()));
    json_object_set_new(request, "BillingMode", json_string("PAY_PER_REQUEST"));
    result = dynamodb_request(connection, "CreateTable", request, &answer, error);
    json_decref(answer);
    switch (result) {
    case DYNAMODB_OK:
        log_info("app", "DynamoDB table %s in %s: created", name, connection->store->region);
        return STORE_OK;
    case DYNAMODB_IN_USE:
        return STORE_OK;
    case DYNAMODB_DENIED:
    case DYNAMODB_REFUSED:
        error_prefix(error, "database.dynamodb.table_name: there is no table %s and it cannot be created", name);
        return STORE_REFUSED;
    default:
        return STORE_UNAVAILABLE;
    }
}

enum table_state { TABLE_READY, TABLE_CHANGING, TABLE_UNUSABLE };

static enum table_state table_state_of(const json_t *table) {
    const char *status = member_string(table, "TableStatus");

    if (strcmp(status, "CREATING") == 0 || strcmp(status, "DELETING") == 0)
        return TABLE_CHANGING;
    return strcmp(status, "ACTIVE") == 0 || strcmp(status, "UPDATING") == 0 ? TABLE_READY : TABLE_UNUSABLE;
}

static enum store_answer check_dynamodb_table(const struct dynamodb_connection *connection, const json_t *table,
                                              struct error *error) {
    const char *name = connection->store->table;

    if (table_state_of(table) != TABLE_READY) {
        error_set(error, "DynamoDB table %s is %s", name, member_string(table, "TableStatus"));
        return STORE_UNAVAILABLE;
    }
    if (json_array_size(json_object_get(table, "KeySchema")) != 1 || !has_partition_key(table, "id")) {
        error_set(error,
                  "database.dynamodb.table_name: table %s cannot hold apps: its key must be the partition key id alone",
                  name);
        return STORE_REFUSED;
    }
    return STORE_OK;
}

enum store_answer dynamodb_prepare(struct store_connection *base, struct error *error) {
    struct dynamodb_connection *connection = dynamodb_connection_of(base);
    struct dynamodb_store *store = connection->store;

    do {
        json_t *table;
        enum dynamodb_answer result = describe_table(connection, &table, error);
        enum store_answer answer;

        if (result == DYNAMODB_DENIED) {
            log_warning("app",
                        "the index of DynamoDB table %s is assumed to exist, because this user may not check: %s",
                        store->table, error->text);
            atomic_store(&store->index_usable, true);
            return STORE_OK;
        }
        if (result == DYNAMODB_OK && table_state_of(table) != TABLE_CHANGING) {
            answer = check_dynamodb_table(connection, table, error);
            if (answer == STORE_OK)
                ensure_index(connection, table);
            json_decref(table);
            return answer;
        }
        json_decref(table);
        if (result == DYNAMODB_MISSING) {
            answer = create_dynamodb_table(connection, error);
            if (answer != STORE_OK)
                return answer;
        } else if (result != DYNAMODB_OK) {
            return STORE_UNAVAILABLE;
        }
    } while (deadline_sleep(&connection->base.deadline, TABLE_CHECK_MS));
    error_set(error, "DynamoDB table %s is not ready yet", store->table);
    return STORE_UNAVAILABLE;
}

enum store_answer dynamodb_inspect(struct store_connection *base, struct error *error) {
    struct dynamodb_connection *connection = dynamodb_connection_of(base);
    json_t *table;
    enum dynamodb_answer result = describe_table(connection, &table, error);
    enum store_answer answer;

    switch (result) {
    case DYNAMODB_OK:
        answer = check_dynamodb_table(connection, table, error);
        break;
    case DYNAMODB_DENIED: /* the first read shows whether the table is there */
        answer = STORE_OK;
        break;
    case DYNAMODB_MISSING:
        error_prefix(error, "database.dynamodb.table_name: there is no table %s", connection->store->table);
        answer = STORE_NOT_FOUND;
        break;
    default:
        answer = STORE_UNAVAILABLE;
    }
    json_decref(table);
    return answer;
}
