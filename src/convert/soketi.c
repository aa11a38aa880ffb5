#include "convert/soketi.h"

#include <string.h>

#include "base/alloc.h"
#include "base/json_fault.h"
#include "base/json_load.h"
#include "base/utf8.h"

#define REDIS_OPTIONS "carry options of ioredis over by hand: see adapter.redis in docs/configuration.md"
#define NO_DISCOVERY "Curlew has no discovery by UDP: connect nodes by Redis or NATS"
#define OWN_TABLE "Curlew keeps apps in a table of its own: copy them as docs/coming-from-soketi.md says"
#define OWN_CACHE "Curlew's caches are in its own memory"
#define OWN_LIMITER "the limits per second of apps are counted in Curlew's own memory"
#define OWN_QUEUE "Curlew's queue is in its own memory"

/* One row for each key of soketi 1.6; the variables follow SOKETI_. */
static const struct convert_row soketi_rows[] = {
    {"host", "HOST", CONVERT_TEXT, "host"},
    {"port", "PORT", CONVERT_NUMBER, "port"},
    {"debug", "DEBUG", CONVERT_FLAG, "debug"},
    {"mode", "MODE", CONVERT_CODE},
    {"pathPrefix", "PATH_PREFIX", CONVERT_CODE},
    {"shutdownGracePeriod", "SHUTDOWN_GRACE_PERIOD", CONVERT_SECONDS, "shutdown_grace_period", "3"},
    {"userAuthenticationTimeout", "USER_AUTHENTICATION_TIMEOUT", CONVERT_SECONDS, "user_authentication_timeout", "30"},
    {"ssl.certPath", "SSL_CERT", CONVERT_CODE},
    {"ssl.keyPath", "SSL_KEY", CONVERT_CODE},
    {"ssl.passphrase", "SSL_PASS", CONVERT_CODE},
    {"ssl.caPath", "SSL_CA", CONVERT_CODE},
    {"cors.credentials", NULL, CONVERT_FLAG, "cors.credentials"},
    {"cors.origin", NULL, CONVERT_LIST, "cors.origin"},
    {"cors.methods", NULL, CONVERT_LIST, "cors.methods", "[\"GET\",\"POST\",\"PUT\",\"DELETE\",\"OPTIONS\"]"},
    {"cors.allowedHeaders", NULL, CONVERT_LIST, "cors.allowed_headers",
     "[\"Origin\",\"Content-Type\",\"X-Auth-Token\",\"X-Requested-With\",\"Accept\",\"Authorization\","
     "\"X-CSRF-TOKEN\",\"XSRF-TOKEN\",\"X-Socket-Id\"]"},
    {"httpApi.requestLimitInMb", NULL, CONVERT_LIMIT, "http_api.request_limit_in_mb", "100", .largest = 1024},
    {"httpApi.acceptTraffic.memoryThreshold", "HTTP_ACCEPT_TRAFFIC_MEMORY_THRESHOLD", CONVERT_PERCENT,
     "http_api.accept_traffic.memory_threshold",
     .remark = "a share of the V8 heap there, and only for /accept-traffic; of the machine's memory here, and new "
               "connections are refused above it"},

    {"channelLimits.maxNameLength", "CHANNEL_LIMITS_MAX_NAME_LENGTH", CONVERT_LIMIT, "channel_limits.max_name_length",
     "200"},
    {"channelLimits.cacheTtl", "CHANNEL_CACHE_TTL", CONVERT_AGE, "channel_limits.cache_ttl"},
    {"eventLimits.maxChannelsAtOnce", "EVENT_MAX_CHANNELS_AT_ONCE", CONVERT_LIMIT, "event_limits.max_channels_at_once"},
    {"eventLimits.maxNameLength", "EVENT_MAX_NAME_LENGTH", CONVERT_LIMIT, "event_limits.max_name_length", "200"},
    {"eventLimits.maxPayloadInKb", "EVENT_MAX_SIZE_IN_KB", CONVERT_LIMIT, "event_limits.max_payload_in_kb", "100"},
    {"eventLimits.maxBatchSize", "EVENT_MAX_BATCH_SIZE", CONVERT_LIMIT, "event_limits.max_batch_size", "10"},
    {"presence.maxMembersPerChannel", "PRESENCE_MAX_MEMBERS", CONVERT_LIMIT, "presence.max_members_per_channel"},
    {"presence.maxMemberSizeInKb", "PRESENCE_MAX_MEMBER_SIZE", CONVERT_LIMIT, "presence.max_member_size_in_kb", "2"},

    {"metrics.enabled", "METRICS_ENABLED", CONVERT_FLAG, "metrics.enabled", "false"},
    {"metrics.host", "METRICS_HOST", CONVERT_TEXT, "metrics.host"},
    {"metrics.port", "METRICS_SERVER_PORT", CONVERT_NUMBER, "metrics.port"},
    {"metrics.driver", "METRICS_DRIVER", CONVERT_DROP, .remark = "Curlew's metrics are always those of Prometheus"},
    {"metrics.prometheus.prefix", "METRICS_PROMETHEUS_PREFIX", CONVERT_TEXT, "metrics.prometheus.prefix",
     "\"soketi_\""},

    {"appManager.driver", "APP_MANAGER_DRIVER", CONVERT_CODE},
    {"appManager.cache.enabled", "APP_MANAGER_CACHE_ENABLED", CONVERT_CODE},
    {"appManager.cache.ttl", "APP_MANAGER_CACHE_TTL", CONVERT_CODE},
    {"appManager.mysql.table", "APP_MANAGER_MYSQL_TABLE", CONVERT_DROP, .remark = OWN_TABLE},
    {"appManager.mysql.version", "APP_MANAGER_MYSQL_VERSION", CONVERT_DROP, .remark = "Curlew finds it out"},
    {"appManager.mysql.useMysql2", "APP_MANAGER_MYSQL_USE_V2", CONVERT_DROP, .remark = "a choice of a Node library"},
    {"appManager.postgres.table", "APP_MANAGER_POSTGRES_TABLE", CONVERT_DROP, .remark = OWN_TABLE},
    {"appManager.postgres.version", "APP_MANAGER_POSTGRES_VERSION", CONVERT_DROP, .remark = "Curlew finds it out"},
    {"appManager.dynamodb.table", "APP_MANAGER_DYNAMODB_TABLE", CONVERT_DROP, .remark = OWN_TABLE},
    {"appManager.dynamodb.region", "APP_MANAGER_DYNAMODB_REGION", CONVERT_TEXT, "database.dynamodb.region"},
    {"appManager.dynamodb.endpoint", "APP_MANAGER_DYNAMODB_ENDPOINT", CONVERT_TEXT, "database.dynamodb.endpoint_url"},

    {"database.mysql.host", "DB_MYSQL_HOST", CONVERT_TEXT, "database.mysql.host"},
    {"database.mysql.port", "DB_MYSQL_PORT", CONVERT_NUMBER, "database.mysql.port"},
    {"database.mysql.user", "DB_MYSQL_USERNAME", CONVERT_TEXT, "database.mysql.username"},
    {"database.mysql.password", "DB_MYSQL_PASSWORD", CONVERT_SECRET, "database.mysql.password"},
    {"database.mysql.database", "DB_MYSQL_DATABASE", CONVERT_TEXT, "database.mysql.database"},
    {"database.postgres.host", "DB_POSTGRES_HOST", CONVERT_TEXT, "database.postgres.host"},
    {"database.postgres.port", "DB_POSTGRES_PORT", CONVERT_NUMBER, "database.postgres.port"},
    {"database.postgres.user", "DB_POSTGRES_USERNAME", CONVERT_TEXT, "database.postgres.username"},
    {"database.postgres.password", "DB_POSTGRES_PASSWORD", CONVERT_SECRET, "database.postgres.password"},
    {"database.postgres.database", "DB_POSTGRES_DATABASE", CONVERT_TEXT, "database.postgres.database"},
    {"databasePooling.enabled", "DB_POOLING_ENABLED", CONVERT_FLAG, "database_pooling.enabled"},
    {"databasePooling.min", "DB_POOLING_MIN", CONVERT_NUMBER, "database_pooling.min"},
    {"databasePooling.max", "DB_POOLING_MAX", CONVERT_NUMBER, "database_pooling.max"},

    {"database.redis.host", "DB_REDIS_HOST", CONVERT_TEXT, "database.redis.host"},
    {"database.redis.port", "DB_REDIS_PORT", CONVERT_NUMBER, "database.redis.port"},
    {"database.redis.db", "DB_REDIS_DB", CONVERT_NUMBER, "database.redis.db"},
    {"database.redis.username", "DB_REDIS_USERNAME", CONVERT_TEXT, "database.redis.username"},
    {"database.redis.password", "DB_REDIS_PASSWORD", CONVERT_SECRET, "database.redis.password"},
    {"database.redis.keyPrefix", "DB_REDIS_KEY_PREFIX", CONVERT_TEXT, "database.redis.key_prefix"},
    {"database.redis.sentinels", "DB_REDIS_SENTINELS", CONVERT_JSON, "database.redis.sentinels"},
    {"database.redis.sentinelPassword", "DB_REDIS_SENTINEL_PASSWORD", CONVERT_SECRET,
     "database.redis.sentinel_password"},
    {"database.redis.name", "DB_REDIS_INSTANCE_NAME", CONVERT_TEXT, "database.redis.name"},
    {"database.redis.clusterNodes", "DB_REDIS_CLUSTER_NODES", CONVERT_JSON, "database.redis.cluster.nodes"},

    {"adapter.driver", "ADAPTER_DRIVER", CONVERT_CODE},
    {"adapter.redis.clusterMode", "ADAPTER_REDIS_CLUSTER_MODE", CONVERT_CODE},
    {"adapter.redis.prefix", "ADAPTER_REDIS_PREFIX", CONVERT_TEXT, "adapter.redis.prefix"},
    {"adapter.redis.requestsTimeout", "ADAPTER_REDIS_REQUESTS_TIMEOUT", CONVERT_NUMBER,
     "adapter.redis.requests_timeout"},
    {"adapter.redis.redisPubOptions", "ADAPTER_REDIS_PUB_OPTIONS", CONVERT_DROP, .remark = REDIS_OPTIONS},
    {"adapter.redis.redisSubOptions", "ADAPTER_REDIS_SUB_OPTIONS", CONVERT_DROP, .remark = REDIS_OPTIONS},
    {"adapter.nats.servers", "ADAPTER_NATS_SERVERS", CONVERT_LIST, "adapter.nats.servers"},
    {"adapter.nats.user", "ADAPTER_NATS_USER", CONVERT_TEXT, "adapter.nats.username"},
    {"adapter.nats.pass", "ADAPTER_NATS_PASSWORD", CONVERT_SECRET, "adapter.nats.password"},
    {"adapter.nats.token", "ADAPTER_NATS_TOKEN", CONVERT_SECRET, "adapter.nats.token"},
    {"adapter.nats.timeout", "ADAPTER_NATS_TIMEOUT", CONVERT_NUMBER, "adapter.nats.connection_timeout_ms"},
    {"adapter.nats.prefix", "ADAPTER_NATS_PREFIX", CONVERT_TEXT, "adapter.nats.prefix"},
    {"adapter.nats.requestsTimeout", "ADAPTER_NATS_REQUESTS_TIMEOUT", CONVERT_NUMBER,
     "adapter.nats.request_timeout_ms"},
    {"adapter.nats.nodesNumber", "ADAPTER_NATS_NODES_NUMBER", CONVERT_NUMBER, "adapter.nats.nodes_number"},
    {"adapter.cluster", NULL, CONVERT_DROP, .remark = NO_DISCOVERY},
    {"adapter.cluster.requestsTimeout", "ADAPTER_CLUSTER_REQUESTS_TIMEOUT", CONVERT_CODE},

    {"cluster", NULL, CONVERT_DROP, .remark = NO_DISCOVERY},
    {"cluster.checkInterval", "CLUSTER_CHECK_INTERVAL", CONVERT_CODE},
    {"cluster.hostname", "CLUSTER_HOST", CONVERT_CODE},
    {"cluster.ignoreProcess", "CLUSTER_IGNORE_PROCESS", CONVERT_CODE},
    {"cluster.broadcast", "CLUSTER_BROADCAST_ADDRESS", CONVERT_CODE},
    {"cluster.helloInterval", "CLUSTER_KEEPALIVE_INTERVAL", CONVERT_CODE},
    {"cluster.masterTimeout", "CLUSTER_MASTER_TIMEOUT", CONVERT_CODE},
    {"cluster.multicast", "CLUSTER_MULTICAST_ADDRESS", CONVERT_CODE},
    {"cluster.nodeTimeout", "CLUSTER_NODE_TIMEOUT", CONVERT_CODE},
    {"cluster.port", "CLUSTER_PORT", CONVERT_CODE},
    {"cluster.prefix", "CLUSTER_PREFIX", CONVERT_CODE},
    {"cluster.unicast", "CLUSTER_UNICAST_ADDRESSES", CONVERT_CODE},

    {"queue.driver", "QUEUE_DRIVER", CONVERT_CODE},
    {"queue", NULL, CONVERT_CODE},
    {"queue.redis.concurrency", "QUEUE_REDIS_CONCURRENCY", CONVERT_CODE},
    {"queue.redis.redisOptions", "QUEUE_REDIS_OPTIONS", CONVERT_CODE},
    {"queue.redis.clusterMode", "QUEUE_REDIS_CLUSTER_MODE", CONVERT_CODE},
    {"queue.sqs.region", "QUEUE_SQS_REGION", CONVERT_CODE},
    {"queue.sqs.clientOptions", "QUEUE_SQS_CLIENT_OPTIONS", CONVERT_CODE},
    {"queue.sqs.queueUrl", "QUEUE_SQS_URL", CONVERT_CODE},
    {"queue.sqs.endpoint", "QUEUE_SQS_ENDPOINT", CONVERT_CODE},
    {"queue.sqs.processBatch", "QUEUE_SQS_PROCESS_BATCH", CONVERT_CODE},
    {"queue.sqs.batchSize", "QUEUE_SQS_BATCH_SIZE", CONVERT_CODE},
    {"queue.sqs.pollingWaitTimeMs", "QUEUE_SQS_POLLING_WAIT_TIME_MS", CONVERT_CODE},
    {"webhooks.batching.enabled", "WEBHOOKS_BATCHING", CONVERT_FLAG, "webhooks.batching.enabled", "false"},
    {"webhooks.batching.duration", "WEBHOOKS_BATCHING_DURATION", CONVERT_NUMBER, "webhooks.batching.duration"},
    {"cache", NULL, CONVERT_DROP, .remark = OWN_CACHE},
    {"cache.driver", "CACHE_DRIVER", CONVERT_CODE},
    {"cache.redis.clusterMode", "CACHE_REDIS_CLUSTER_MODE", CONVERT_CODE},
    {"cache.redis.redisOptions", "CACHE_REDIS_OPTIONS", CONVERT_CODE},
    {"rateLimiter", NULL, CONVERT_DROP, .remark = OWN_LIMITER},
    {"rateLimiter.driver", "RATE_LIMITER_DRIVER", CONVERT_CODE},
    {"rateLimiter.redis.redisOptions", "RATE_LIMITER_REDIS_OPTIONS", CONVERT_CODE},
    {"rateLimiter.redis.clusterMode", "RATE_LIMITER_REDIS_CLUSTER_MODE", CONVERT_CODE},
    {"instance.process_id", NULL, CONVERT_TEXT, "instance.process_id"},
};

#define SOKETI_ROW_COUNT (sizeof soketi_rows / sizeof soketi_rows[0])

/* The path that a variable sets; NULL if soketi does not read it. */
static const char *path_of_variable(const char *name) {
    const char *rest = name + strlen("SOKETI_");

    for (size_t i = 0; i < SOKETI_ROW_COUNT; i++)
        if (soketi_rows[i].variable != NULL && strcmp(soketi_rows[i].variable, rest) == 0)
            return soketi_rows[i].theirs;
    return soketi_app_path(slice_of(name));
}

/* Sets a dotted name. One of an app changes soketi's own app if no app is there yet. */
static bool set_soketi_value(struct source *root, const char *path, struct source *node) {
    if (slice_starts_with(slice_of(path), SLICE("appManager.array.apps.")) &&
        source_find(root, "appManager.array.apps", NULL) == NULL)
        source_set(root, "appManager.array.apps", source_create(SOURCE_LIST, (struct slice){0}));
    return source_set(root, path, node);
}

static void set_soketi_variable(struct conversion *conversion, const char *name, const json_t *value) {
    const char *path = path_of_variable(name);
    struct source *node;
    json_t *json;

    if (json_string_length(value) == 0)
        return; /* soketi takes an empty one for unset */
    if (path == NULL) {
        conversion_dropped(conversion, NULL, "%s: soketi 1.6 does not read this variable", name);
        return;
    }
    json = json_loadb(json_string_value(value), json_string_length(value), JSON_DECODE_ANY, NULL);
    node = source_from_json(json != NULL && !json_is_null(json) ? json : value);
    json_decref(json);
    node->variable = alloc_copy(name, strlen(name));
    if (!set_soketi_value(conversion->root, path, node))
        conversion_error(conversion, NULL, "%s: the file has nothing at %s that it could set", name, path);
}

static void set_soketi_variables(struct conversion *conversion, const json_t *variables) {
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)variables, name, value) {
        if (slice_starts_with(slice_of(name), SLICE("SOKETI_")))
            set_soketi_variable(conversion, name, value);
    }
}

/* Without jansson's own text, which quotes bytes of the file: they may be half a secret. */
static void describe_json_fault(struct slice file, const json_error_t *problem, struct error *error) {
    struct text_position position;
    struct error fault;

    if (json_find_fault(file, &position, &fault))
        error_set(error, "line %zu, column %zu: this is not JSON: %s", position.line, position.column, fault.text);
    else
        error_set(error, "line %d, column %d: this is not JSON", problem->line, problem->column);
}

static bool set_soketi_file(struct conversion *conversion, struct slice file, struct error *error) {
    json_error_t problem;
    json_t *json, *value;
    const char *key;

    if (file.data == NULL)
        return true;
    file = utf8_without_mark(file);
    json = json_load_text(file, JSON_DECODE_ANY, &problem);
    if (!json_is_object(json)) {
        if (json != NULL)
            error_set(error, "the file must contain one JSON object");
        else
            describe_json_fault(file, &problem, error);
        json_decref(json);
        return false;
    }
    json_object_foreach(json, key, value) {
        if (strchr(key, '*') != NULL)
            conversion_error(conversion, NULL, "%s: a name with * is not understood; write the names out", key);
        else if (!set_soketi_value(conversion->root, key, source_from_json(value)))
            conversion_error(conversion, NULL, "%s: there is no such element of the list", key);
    }
    json_decref(json);
    return true;
}

/* The word at a path, or its default. An empty slice after an error. */
static struct slice soketi_word(struct conversion *conversion, const char *path, const char *otherwise) {
    struct source *node = source_find(conversion->root, path, NULL);
    struct slice word = slice_of(otherwise);

    if (source_is_set(node) && !conversion_text(conversion, node, &word))
        return (struct slice){0};
    return word;
}

static void convert_soketi_mode(struct conversion *conversion) {
    struct source *node = source_find(conversion->root, "mode", NULL);
    struct slice mode = soketi_word(conversion, "mode", "full");

    if (!source_is_set(node))
        return;
    node->taken = false;
    conversion_drop(conversion, node,
                    slice_equal(mode, SLICE("worker"))
                        ? "a worker, which only sends webhooks, has no counterpart: Curlew sends them from the server "
                          "itself, and this output is a whole server"
                        : "Curlew is always a whole server; its own `mode` is another thing");
}

static void convert_soketi_prefix(struct conversion *conversion) {
    struct source *node = source_find(conversion->root, "pathPrefix", NULL);
    struct slice prefix = soketi_word(conversion, "pathPrefix", "");

    if (prefix.length > 0)
        conversion_put(conversion, node, "path_prefix", json_stringn(prefix.data, prefix.length));
}

static void convert_soketi_ssl(struct conversion *conversion) {
    static const struct convert_row rows[] = {
        {"ssl.certPath", NULL, CONVERT_TEXT, "ssl.cert_path"},
        {"ssl.keyPath", NULL, CONVERT_TEXT, "ssl.key_path"},
        {"ssl.passphrase", NULL, CONVERT_SECRET, "ssl.passphrase"},
        {"ssl.caPath", NULL, CONVERT_TEXT, "ssl.ca_path"},
    };
    struct slice certificate = soketi_word(conversion, "ssl.certPath", ""),
                 key = soketi_word(conversion, "ssl.keyPath", "");

    if (certificate.length > 0 || key.length > 0)
        conversion_put(conversion, NULL, "ssl.enabled", json_true());
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct source *node = source_find(conversion->root, rows[i].theirs, NULL);

        if (source_is_set(node) && node->length > 0)
            conversion_apply(conversion, conversion->root, &rows[i], 1);
        else if (node != NULL)
            source_take(node); /* an empty text is soketi's default */
    }
}

/* The settings of a database, with soketi's defaults where they differ. */
static void convert_soketi_database(struct conversion *conversion, const char *driver) {
    static const struct {
        const char *name, *value;
    } defaults[] = {{"host", "127.0.0.1"}, {"password", "password"}, {"database", "main"}};

    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++) {
        struct buffer path = {0};
        bool whole;

        buffer_appendf(&path, "database.%s.%s", driver, defaults[i].name);
        source_find(conversion->root, buffer_string(&path), &whole);
        if (!conversion_has(conversion, buffer_string(&path)) && !whole) {
            conversion_put(conversion, NULL, buffer_string(&path), json_string(defaults[i].value));
            conversion->secrets += i == 1;
        }
        buffer_dispose(&path);
    }
    if (!conversion_has(conversion, "database_pooling.enabled"))
        conversion_put(conversion, NULL, "database_pooling.enabled", json_false());
}

/* soketi caches apps for ever, or not at all, which is its default. */
static void convert_soketi_cache(struct conversion *conversion, bool database) {
    struct source *enabled = source_find(conversion->root, "appManager.cache.enabled", NULL),
                  *ttl = source_find(conversion->root, "appManager.cache.ttl", NULL);
    bool flag = false;
    double seconds = -1;

    if (source_is_set(enabled) && !conversion_flag(conversion, enabled, &flag))
        return;
    if (source_is_set(ttl) && !conversion_number(conversion, ttl, &seconds))
        return;
    if (source_is_set(enabled) || database)
        conversion_put(conversion, enabled, "app_manager.cache.enabled", json_boolean(flag));
    if (seconds > 0)
        conversion_put(conversion, ttl, "app_manager.cache.ttl", json_integer((json_int_t)round_number_up(seconds)));
    if (!database)
        return;
    if (!flag)
        conversion_note(conversion, enabled,
                        "the cache of apps is off, as in soketi; set app_manager.cache.enabled to true, so that a "
                        "database that is slow or down stops nobody");
    else if (seconds <= 0)
        conversion_note(conversion, ttl, "soketi caches apps for ever; Curlew reads them again after 300 s");
}

static void convert_soketi_apps_of_file(struct conversion *conversion, bool memory) {
    bool whole;
    struct source *list = source_find(conversion->root, "appManager.array.apps", &whole);

    if (list != NULL && !memory)
        conversion_drop(conversion, list, "soketi does not use them with a database as its app manager");
    else if (list != NULL)
        soketi_convert_apps(conversion, list);
    else if (memory && !whole)
        soketi_convert_default_app(conversion);
}

static void convert_soketi_app_manager(struct conversion *conversion) {
    struct source *node = source_find(conversion->root, "appManager.driver", NULL);
    struct slice driver = soketi_word(conversion, "appManager.driver", "array");
    bool array = slice_equal(driver, SLICE("array"));
    bool mysql = slice_equal(driver, SLICE("mysql")), postgres = slice_equal(driver, SLICE("postgres"));

    if (!array && !mysql && !postgres && !slice_equal(driver, SLICE("dynamodb"))) {
        if (driver.length > 0)
            conversion_error(conversion, node, "this must be array, mysql, postgres or dynamodb");
        return;
    }
    conversion_put(conversion, node, "app_manager.driver",
                   array ? json_string("memory") : json_stringn(driver.data, driver.length));
    convert_soketi_cache(conversion, !array);
    if (mysql || postgres)
        convert_soketi_database(conversion, mysql ? "mysql" : "postgres");
    if (!array)
        conversion_note(conversion, node, OWN_TABLE);
    convert_soketi_apps_of_file(conversion, array);
}

static void convert_soketi_adapter(struct conversion *conversion) {
    struct source *node = source_find(conversion->root, "adapter.driver", NULL),
                  *mode = source_find(conversion->root, "adapter.redis.clusterMode", NULL);
    struct slice driver = soketi_word(conversion, "adapter.driver", "local");
    bool cluster = false;

    if (source_is_set(mode) && !conversion_flag(conversion, mode, &cluster))
        return;
    if (!source_is_set(node) || driver.length == 0)
        return;
    if (slice_equal(driver, SLICE("cluster"))) {
        conversion_error(conversion, node, NO_DISCOVERY);
        return;
    }
    if (slice_equal(driver, SLICE("redis")) && cluster)
        driver = SLICE("redis-cluster");
    conversion_put(conversion, node, "adapter.driver", json_stringn(driver.data, driver.length));
    if (!slice_equal(driver, SLICE("local")))
        conversion_note(conversion, node,
                        "nodes of soketi and of Curlew do not hear each other, so replace all at the same time");
}

static void convert_soketi_queue(struct conversion *conversion) {
    struct source *node = source_find(conversion->root, "queue.driver", NULL),
                  *queue = source_find(conversion->root, "queue", NULL);
    struct slice driver = soketi_word(conversion, "queue.driver", "sync");

    if (source_is_set(node) && driver.length > 0) {
        conversion_put(conversion, node, "queue.driver", json_string("memory"));
        if (!slice_equal(driver, SLICE("sync")))
            conversion_changed(
                conversion, node,
                "the queue of webhooks is in Curlew's own memory; what waits in the old one is not read");
    }
    if (queue != NULL)
        conversion_drop(conversion, queue, OWN_QUEUE);
}

/* soketi takes messages of 100 MB, but no client event above its limit; Curlew takes messages of 64 KB unless told. */
static void convert_soketi_messages(struct conversion *conversion) {
    json_t *limits = json_object_get(conversion->output, "event_limits");
    json_int_t kb = json_integer_value(json_object_get(limits, "max_payload_in_kb")), largest = kb;
    json_t *apps =
               json_object_get(json_object_get(json_object_get(conversion->output, "app_manager"), "array"), "apps"),
           *app;
    size_t i;

    json_array_foreach(apps, i, app) {
        json_t *own = json_object_get(app, "max_event_payload_in_kb");

        if (own != NULL && json_integer_value(own) == 0)
            kb = 0;
        else if (json_integer_value(own) > largest)
            largest = json_integer_value(own);
    }
    largest = kb == 0 || largest + 64 > 102400 ? 102400 : largest + 64; /* room for the rest of the message */
    conversion_put(conversion, NULL, "websocket_max_payload_kb", json_integer(largest));
    if (largest > 16384)
        conversion_put(conversion, NULL, "websocket.max_frame_size", json_integer(largest * 1024));
    if (largest > 65536)
        conversion_put(conversion, NULL, "websocket.max_message_size", json_integer(largest * 1024));
}

/* True if the conversion has used anything below the node. */
static bool has_taken(const struct source *node) {
    for (const struct source *child = node->first; child != NULL; child = child->next)
        if (child->taken || has_taken(child))
            return true;
    return false;
}

bool soketi_convert(struct conversion *conversion, struct slice file, const json_t *variables, struct error *error) {
    conversion->root->implied = true;
    if (!set_soketi_file(conversion, file, error))
        return false;
    set_soketi_variables(conversion, variables);
    convert_soketi_mode(conversion);
    convert_soketi_prefix(conversion);
    conversion_put(conversion, NULL, "activity_timeout", json_integer(30)); /* fixed there */
    conversion_apply(conversion, conversion->root, soketi_rows, SOKETI_ROW_COUNT);
    conversion_put(conversion, NULL, "rate_limits.max_read_requests_per_second", json_integer(0));
    conversion_put(conversion, NULL, "rate_limits.max_backend_events_per_second", json_integer(0));
    convert_soketi_ssl(conversion);
    convert_soketi_adapter(conversion);
    convert_soketi_queue(conversion);
    if (conversion->errors == 0 && !has_taken(conversion->root) &&
        source_find(conversion->root, "appManager", NULL) == NULL)
        return error_set(error,
                         "there is nothing of soketi in it: no key of its file, and no variable that begins with "
                         "SOKETI_");
    convert_soketi_app_manager(conversion);
    convert_soketi_messages(conversion);
    conversion_drop_rest(conversion, conversion->root, "soketi 1.6 has no such key");
    return true;
}
