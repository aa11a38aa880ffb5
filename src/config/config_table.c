#include "config/config_table.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/network.h"
#include "config/config_redis.h"

#define AT(member) offsetof(struct config, member)
#define SECONDS_PER_DAY 86400

static bool all_of(const char *text, const char *extra) {
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++)
        if (!(isascii((unsigned char)*text) && isalnum((unsigned char)*text)) && strchr(extra, *text) == NULL)
            return false;
    return true;
}

static bool is_table_name(const char *text) {
    return all_of(text, "_");
}

static bool is_dynamodb_name(const char *text) {
    return all_of(text, "_-.");
}

/* Prometheus' data model: a metric's name is [a-zA-Z_:][a-zA-Z0-9_:]*; an empty prefix leaves the names bare. */
static bool is_metric_prefix(const char *text) {
    return *text == '\0' || (!isdigit((unsigned char)*text) && all_of(text, "_:"));
}

static bool is_absolute_path(const char *text) {
    return *text == '/';
}

static bool is_address(const char *text) {
    char host[256];
    uint16_t port;

    return config_split_address(text, host, &port);
}

/* A name or an IPv4 address, or an IPv6 address with or without a zone; no port, no brackets. */
static bool is_host(const char *text) {
    struct in6_addr address;
    char bare[INET6_ADDRSTRLEN];

    if (strchr(text, ':') == NULL)
        return all_of(text, "._-");
    snprintf(bare, sizeof bare, "%.*s", (int)strcspn(text, "%"), text);
    return inet_pton(AF_INET6, bare, &address) == 1;
}

static bool is_not_empty(const char *text) {
    return *text != '\0';
}

static bool is_path_prefix(const char *text) {
    for (; *text != '\0'; text++)
        if (!isgraph((unsigned char)*text) || strchr("?#%", *text) != NULL)
            return false;
    return true;
}

/* Text that is safe in a header of an answer: a line end would begin another header. */
static bool is_header_text(const char *text) {
    for (; *text != '\0'; text++)
        if (*text < ' ' || *text > '~')
            return false;
    return true;
}

static bool is_network(const char *text) {
    struct network network;

    return network_parse(text, &network);
}

static bool is_adapter(const char *text) {
    static const char *const names[] = {"local", "redis", "redis-cluster", "nats"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (slice_equal_ignoring_case(slice_of(text), slice_of(names[i])))
            return true;
    return false;
}

static bool is_redis_server(const char *text) {
    struct config_redis_server server;
    bool valid = config_redis_parse(text, 1, &server);

    config_redis_server_dispose(&server);
    return valid;
}

static bool is_redis_url(const char *text) {
    return (strncmp(text, "redis://", 8) == 0 || strncmp(text, "rediss://", 9) == 0) && is_redis_server(text);
}

/* The port has a setting of its own, and so have user and password. */
static bool is_redis_host(const char *text) {
    const char *scheme_end = strstr(text, "://");

    return is_host(scheme_end != NULL ? scheme_end + 3 : text) && (scheme_end == NULL || is_redis_server(text));
}

/* nats://, tls:// or no scheme, then what a Redis server has without one. */
static bool is_nats_server(const char *text) {
    const char *scheme_end = strstr(text, "://");
    char url[512];

    if (scheme_end != NULL && strncmp(text, "nats://", 7) != 0 && strncmp(text, "tls://", 6) != 0)
        return false;
    snprintf(url, sizeof url, "redis://%s", scheme_end != NULL ? scheme_end + 3 : text);
    return strchr(url + strlen("redis://"), '/') == NULL && is_redis_server(url);
}

static const struct config_form table_name = {is_table_name, "letters, digits and underscores"};
static const struct config_form dynamodb_name = {is_dynamodb_name, "letters, digits, underscores, hyphens and dots"};
static const struct config_form metric_prefix = {is_metric_prefix,
                                                 "letters, digits, underscores and colons, not beginning with a digit"};
static const struct config_form absolute_path = {is_absolute_path, "an absolute path"};
static const struct config_form host_and_port = {is_address, "HOST:PORT, like 127.0.0.1:9602 or [::1]:9602"};
static const struct config_form host_name = {is_host, "a host name or an IP address, without a port"};
static const struct config_form not_empty = {is_not_empty, "a text that is not empty"};
static const struct config_form header_texts = {is_header_text, "a list of texts of printable ASCII"};
static const struct config_form network_list = {is_network,
                                                "a list of networks or addresses, like 10.0.0.0/8 or fd00::/8"};
static const struct config_form adapter_name = {is_adapter, "one of local, redis, redis-cluster, nats"};
static const struct config_form redis_url = {
    is_redis_url, "a URL like redis://user:password@host:6379/0, or rediss:// for TLS, with % escapes in the password"};
static const struct config_form redis_host = {
    is_redis_host, "a host name or an IP address, without a port; rediss:// may stand before it"};
static const struct config_form redis_servers = {
    is_redis_server, "a list of servers, each HOST:PORT, a URL like redis://host:6379, or an object of host and port"};
static const struct config_form nats_servers = {
    is_nats_server, "a list of servers with at least one, each like nats://host:4222, tls://host:4222 or HOST:PORT"};
static const struct config_form path_prefix = {is_path_prefix, "a URL path without query, fragment, escapes or blanks"};

const char *const config_driver_choices[] = {
    [CONFIG_DRIVER_MEMORY] = "memory array",
    [CONFIG_DRIVER_SQLITE] = "sqlite",
    [CONFIG_DRIVER_MYSQL] = "mysql mariadb",
    [CONFIG_DRIVER_POSTGRES] = "postgres pgsql postgresql",
    [CONFIG_DRIVER_DYNAMODB] = "dynamodb",
    [CONFIG_DRIVER_SCYLLADB] = "scylladb scylla cassandra",
    NULL,
};

static const char *const tls_modes[] = {"disable", "prefer", "require", "verify", NULL};

static const char *const cache_drivers[] = {"memory none", "redis", "redis-cluster", NULL};
static const char *const publish_when_down[] = {"accept", "refuse", NULL};

static const char *const compressions[] = {"disabled",   "dedicated",  "shared",     "window256b",
                                           "window512b", "window1kb",  "window2kb",  "window4kb",
                                           "window8kb",  "window16kb", "window32kb", NULL};

static const char *const delta_algorithms[] = {"fossil", "xdelta3", NULL};
static const char *const log_formats[] = {"human", "json", NULL};
static const char *const log_levels[] = {"error off", "warn warning", "info", "debug trace", NULL};

#define TLS_ROWS(path, at, mode_default)                                                                               \
    {path ".mode", CONFIG_CHOICE, AT(at.mode), mode_default, NULL, .choices = tls_modes},                              \
        {path ".ca_path", CONFIG_TEXT, AT(at.ca_path), NULL, NULL, .flags = CONFIG_NULLABLE},                          \
        {path ".cert_path", CONFIG_TEXT, AT(at.cert_path), NULL, NULL, .flags = CONFIG_NULLABLE}, {                    \
        path ".key_path", CONFIG_TEXT, AT(at.key_path), NULL, NULL, .flags = CONFIG_NULLABLE                           \
    }

#define SQL_ROWS(path, at, VARIABLE, USERNAME, port_default, username_default)                                           \
    {path ".host", CONFIG_TEXT, AT(at.host), "localhost", VARIABLE "_HOST", .form = &not_empty},                         \
        {path ".port", CONFIG_UNSIGNED, AT(at.port), port_default, VARIABLE "_PORT", .min = 1, .max = 65535},            \
        {path ".username", CONFIG_TEXT, AT(at.username), username_default, USERNAME},                                    \
        {path ".password", CONFIG_TEXT, AT(at.password), "", VARIABLE "_PASSWORD"},                                      \
        {path ".database", CONFIG_TEXT, AT(at.database), "sockudo", VARIABLE "_DATABASE"},                               \
        {path ".table_name",     CONFIG_TEXT,        AT(at.table_name), "applications",                                  \
         VARIABLE "_TABLE_NAME", .form = &table_name},                                                                   \
        {path ".connection_pool_size",                                                                                   \
         CONFIG_OPTIONAL_NUMBER,                                                                                         \
         AT(at.connection_pool_size),                                                                                    \
         "10",                                                                                                           \
         "DATABASE_CONNECTION_POOL_SIZE",                                                                                \
         .min = 1,                                                                                                       \
         .max = 10000},                                                                                                  \
        {path ".pool_min", CONFIG_OPTIONAL_NUMBER, AT(at.pool_min), NULL, VARIABLE "_POOL_MIN", .max = 10000},           \
        {path ".pool_max", CONFIG_OPTIONAL_NUMBER, AT(at.pool_max), NULL, VARIABLE "_POOL_MAX", .min = 1, .max = 10000}, \
        {path ".cache_ttl", CONFIG_OPTIONAL_NUMBER, AT(at.cache_ttl), "300", "CACHE_TTL_SECONDS"},                       \
        {path ".cache_cleanup_interval", CONFIG_OPTIONAL_NUMBER, AT(at.cache_cleanup_interval), "60",                    \
         "CACHE_CLEANUP_INTERVAL"},                                                                                      \
        {path ".cache_max_capacity", CONFIG_OPTIONAL_NUMBER, AT(at.cache_max_capacity), "100", "CACHE_MAX_CAPACITY"},    \
        TLS_ROWS(path ".tls", at.tls, "prefer")

/* `V` passes on the name of a variable, or nothing; `W` also that of the family, without DATABASE_. */
#define SCYLLADB_ROWS(path, V, W)                                                                                        \
    {path ".nodes", CONFIG_LIST, AT(database.scylladb.nodes), "127.0.0.1:9042", W("_NODES"), .min = 1},                  \
        {path ".keyspace", CONFIG_TEXT, AT(database.scylladb.keyspace), "sockudo", W("_KEYSPACE"), .form = &table_name}, \
        {path ".table_name", CONFIG_TEXT,      AT(database.scylladb.table_name),                                         \
         "applications",     V("_TABLE_NAME"), .form = &table_name},                                                     \
        {path ".username", CONFIG_TEXT, AT(database.scylladb.username), NULL, V("_USERNAME"), .flags = CONFIG_NULLABLE}, \
        {path ".password", CONFIG_TEXT, AT(database.scylladb.password), NULL, V("_PASSWORD"), .flags = CONFIG_NULLABLE}, \
        {path ".replication_class", CONFIG_TEXT,           AT(database.scylladb.replication_class), "SimpleStrategy",    \
         W("_REPLICATION_CLASS"),   .form = &dynamodb_name},                                                             \
        {path ".replication_factor",                                                                                     \
         CONFIG_UNSIGNED,                                                                                                \
         AT(database.scylladb.replication_factor),                                                                       \
         "3",                                                                                                            \
         W("_REPLICATION_FACTOR"),                                                                                       \
         .min = 1,                                                                                                       \
         .max = 1000},                                                                                                   \
        TLS_ROWS(path ".tls", database.scylladb.tls, "disable")
#define SCYLLADB_VARIABLE(name) "DATABASE_SCYLLADB" name
#define SCYLLADB_VARIABLES(name) "SCYLLADB" name " DATABASE_SCYLLADB" name
#define NO_VARIABLE(name) NULL

#define RATE_LIMIT_ROWS(path, at, VARIABLE, requests_default)                                                          \
    {path ".max_requests", CONFIG_UNSIGNED, AT(at.max_requests), requests_default, VARIABLE "_MAX_REQUESTS"},          \
        {path ".window_seconds", CONFIG_UNSIGNED, AT(at.window_seconds), "60", VARIABLE "_WINDOW_SECONDS", .min = 1},  \
    {                                                                                                                  \
        path ".trust_hops", CONFIG_UNSIGNED, AT(at.trust_hops), "0", VARIABLE "_TRUST_HOPS", .max = 100                \
    }

const struct config_row config_rows[] = {
    {"host", CONFIG_TEXT, AT(host), "0.0.0.0", "HOST", .flags = CONFIG_FATAL_VARIABLE, .form = &host_name},
    {"port", CONFIG_UNSIGNED, AT(port), "6001", "PORT", .max = 65535, .flags = CONFIG_FATAL_VARIABLE},
    {"mode", CONFIG_TEXT, AT(mode), "production", "ENVIRONMENT"},
    {"debug", CONFIG_FLAG, AT(debug), "false", "DEBUG DEBUG_MODE"},
    {"path_prefix", CONFIG_TEXT, AT(path_prefix), "/", NULL, .form = &path_prefix},
    {"activity_timeout", CONFIG_UNSIGNED, AT(activity_timeout_s), "120", "ACTIVITY_TIMEOUT", 1, SECONDS_PER_DAY},
    {"shutdown_grace_period", CONFIG_UNSIGNED, AT(shutdown_grace_period_s), "10", "SHUTDOWN_GRACE_PERIOD",
     .max = SECONDS_PER_DAY},
    {"user_authentication_timeout", CONFIG_UNSIGNED, AT(user_authentication_timeout_s), "3600",
     "USER_AUTHENTICATION_TIMEOUT", .min = 1},
    {"websocket_max_payload_kb", CONFIG_UNSIGNED, AT(websocket_max_payload_kb), "64", "WEBSOCKET_MAX_PAYLOAD_KB", 1,
     1048576},
    {"instance.process_id", CONFIG_TEXT, AT(instance.process_id), NULL, "INSTANCE_PROCESS_ID",
     .flags = CONFIG_NULLABLE},
    {"workers", CONFIG_UNSIGNED, AT(workers), NULL, "CURLEW_WORKERS", 1, CONFIG_WORKERS_MAX},

    {"app_manager.driver", CONFIG_CHOICE, AT(app_manager.driver), "memory", "APP_MANAGER_DRIVER",
     .flags = CONFIG_FATAL_VARIABLE | CONFIG_CASE_INSENSITIVE, .choices = config_driver_choices},
    {"app_manager.array.apps", CONFIG_ARRAY, AT(app_manager.array_apps), NULL, NULL, .flags = CONFIG_RELOADED},
    {NULL, CONFIG_FLAG, AT(app_manager.skip_inline_apps), "false", "SOCKUDO_SKIP_INLINE_APPS"},
    {NULL, CONFIG_FLAG, AT(app_manager.register_inline_apps), "true", "APP_MANAGER_REGISTER_INLINE_APPS"},
    {"app_manager.secrets.key_file", CONFIG_TEXT, AT(app_manager.secrets.key_file), NULL, NULL,
     .flags = CONFIG_NULLABLE},
    {NULL, CONFIG_TEXT, AT(app_manager.secrets.key), NULL, "CURLEW_SECRETS_KEY"},
    {"app_manager.lookup_timeout_ms", CONFIG_UNSIGNED, AT(app_manager.lookup_timeout_ms), "5000", NULL, 1, 3600000},
    {"app_manager.vanished_grace", CONFIG_UNSIGNED, AT(app_manager.vanished_grace_s), "60", NULL, 0, 86400,
     .flags = CONFIG_APP_DEFAULT},
    {"app_manager.cache.enabled", CONFIG_FLAG, AT(app_manager.cache.enabled), "true", NULL},
    {"app_manager.cache.ttl", CONFIG_UNSIGNED, AT(app_manager.cache.ttl_s), "300", "CACHE_TTL_SECONDS"},
    {"app_manager.cache.negative_ttl", CONFIG_UNSIGNED, AT(app_manager.cache.negative_ttl_s), "5", NULL},
    {"app_manager.cache.stale_if_error", CONFIG_UNSIGNED, AT(app_manager.cache.stale_if_error_s), "86400", NULL},
    {"app_manager.cache.snapshot_path", CONFIG_TEXT, AT(app_manager.cache.snapshot_path), NULL, NULL,
     .flags = CONFIG_NULLABLE},
    {NULL, CONFIG_UNSIGNED, AT(app_manager.cache.cleanup_interval_s), "60", "CACHE_CLEANUP_INTERVAL"},
    {NULL, CONFIG_UNSIGNED, AT(app_manager.cache.max_capacity), "10000", "CACHE_MAX_CAPACITY"},

    SQL_ROWS("database.mysql", database.mysql, "DATABASE_MYSQL", "DATABASE_MYSQL_USERNAME", "3306", "root"),
    SQL_ROWS("database.postgres", database.postgres, "DATABASE_POSTGRES",
             "DATABASE_POSTGRES_USER DATABASE_POSTGRES_USERNAME", "5432", "postgres"),
    {"database.sqlite.path", CONFIG_TEXT, AT(database.sqlite.path), "curlew.db", "DATABASE_SQLITE_PATH",
     .flags = CONFIG_FATAL_VARIABLE, .form = &not_empty},
    {"database.dynamodb.region", CONFIG_TEXT, AT(database.dynamodb.region), "us-east-1", "DATABASE_DYNAMODB_REGION",
     .form = &dynamodb_name},
    {"database.dynamodb.table_name", CONFIG_TEXT, AT(database.dynamodb.table_name), "sockudo-applications",
     "DATABASE_DYNAMODB_TABLE_NAME", .form = &dynamodb_name},
    {"database.dynamodb.endpoint_url", CONFIG_TEXT, AT(database.dynamodb.endpoint_url), NULL,
     "DATABASE_DYNAMODB_ENDPOINT_URL", .flags = CONFIG_NULLABLE},
    {"database.dynamodb.aws_access_key_id", CONFIG_TEXT, AT(database.dynamodb.aws_access_key_id), NULL,
     "AWS_ACCESS_KEY_ID", .flags = CONFIG_NULLABLE},
    {"database.dynamodb.aws_secret_access_key", CONFIG_TEXT, AT(database.dynamodb.aws_secret_access_key), NULL,
     "AWS_SECRET_ACCESS_KEY", .flags = CONFIG_NULLABLE},
    {"database.dynamodb.aws_profile_name", CONFIG_TEXT, AT(database.dynamodb.aws_profile_name), NULL, "AWS_PROFILE",
     .flags = CONFIG_NULLABLE},
    /* Later rows take precedence: environment, app_manager, database. */
    SCYLLADB_ROWS("database.scylladb", NO_VARIABLE, NO_VARIABLE),
    SCYLLADB_ROWS("app_manager.scylladb", SCYLLADB_VARIABLE, SCYLLADB_VARIABLES),

    {"database.redis.host", CONFIG_TEXT, AT(database.redis.host), "127.0.0.1", "DATABASE_REDIS_HOST",
     .form = &redis_host},
    {"database.redis.port", CONFIG_UNSIGNED, AT(database.redis.port), "6379", "DATABASE_REDIS_PORT", 1, 65535},
    {"database.redis.db", CONFIG_UNSIGNED, AT(database.redis.db), "0", "DATABASE_REDIS_DB", .max = INT32_MAX},
    {"database.redis.username", CONFIG_TEXT, AT(database.redis.username), NULL, "DATABASE_REDIS_USERNAME",
     .flags = CONFIG_NULLABLE},
    {"database.redis.password", CONFIG_TEXT, AT(database.redis.password), NULL, "DATABASE_REDIS_PASSWORD",
     .flags = CONFIG_NULLABLE},
    {"database.redis.key_prefix", CONFIG_TEXT, AT(database.redis.key_prefix), "sockudo:", "DATABASE_REDIS_KEY_PREFIX",
     .flags = CONFIG_WITHOUT_EFFECT},
    {"database.redis.sentinels", CONFIG_LIST, AT(database.redis.sentinels), NULL, "DATABASE_REDIS_SENTINELS",
     .flags = CONFIG_HOST_OBJECTS, .form = &redis_servers},
    {"database.redis.sentinel_password", CONFIG_TEXT, AT(database.redis.sentinel_password), NULL,
     "DATABASE_REDIS_SENTINEL_PASSWORD", .flags = CONFIG_NULLABLE},
    {"database.redis.name", CONFIG_TEXT, AT(database.redis.name), "mymaster", "DATABASE_REDIS_NAME",
     .form = &not_empty},
    {"database.redis.cluster_nodes", CONFIG_LIST, AT(database.redis.cluster.nodes), NULL, NULL,
     .flags = CONFIG_HOST_OBJECTS, .form = &redis_servers},
    {"database.redis.cluster.nodes", CONFIG_LIST, AT(database.redis.cluster.nodes), NULL,
     "REDIS_CLUSTER_NODES DATABASE_REDIS_CLUSTER_NODES", .flags = CONFIG_HOST_OBJECTS, .form = &redis_servers},
    {"database.redis.cluster.username", CONFIG_TEXT, AT(database.redis.cluster.username), NULL,
     "DATABASE_REDIS_CLUSTER_USERNAME", .flags = CONFIG_NULLABLE},
    {"database.redis.cluster.password", CONFIG_TEXT, AT(database.redis.cluster.password), NULL,
     "DATABASE_REDIS_CLUSTER_PASSWORD", .flags = CONFIG_NULLABLE},
    {"database.redis.cluster.use_tls", CONFIG_FLAG, AT(database.redis.cluster.use_tls), "false",
     "DATABASE_REDIS_CLUSTER_USE_TLS"},
    {"database.redis.tls.enabled", CONFIG_FLAG, AT(database.redis.tls.enabled), "false", NULL},
    {"database.redis.tls.ca_path", CONFIG_TEXT, AT(database.redis.tls.ca_path), NULL, NULL, .flags = CONFIG_NULLABLE},
    {"database.redis.tls.cert_path", CONFIG_TEXT, AT(database.redis.tls.cert_path), NULL, NULL,
     .flags = CONFIG_NULLABLE},
    {"database.redis.tls.key_path", CONFIG_TEXT, AT(database.redis.tls.key_path), NULL, NULL, .flags = CONFIG_NULLABLE},

    {"database_pooling.enabled", CONFIG_FLAG, AT(database_pooling.enabled), "true", "DATABASE_POOLING_ENABLED"},
    {"database_pooling.min", CONFIG_OPTIONAL_NUMBER, AT(database_pooling.min), "2", "DATABASE_POOL_MIN", .max = 10000},
    {"database_pooling.max", CONFIG_OPTIONAL_NUMBER, AT(database_pooling.max), "10", "DATABASE_POOL_MAX", 1, 10000},

    {"event_limits.max_channels_at_once", CONFIG_UNSIGNED, AT(event_limits.max_channels_at_once), "100", NULL,
     .flags = CONFIG_APP_DEFAULT},
    {"event_limits.max_name_length", CONFIG_UNSIGNED, AT(event_limits.max_name_length), "100", NULL,
     .flags = CONFIG_APP_DEFAULT},
    {"event_limits.max_payload_in_kb", CONFIG_UNSIGNED, AT(event_limits.max_payload_in_kb), "100", NULL,
     .flags = CONFIG_APP_DEFAULT},
    {"event_limits.max_batch_size", CONFIG_UNSIGNED, AT(event_limits.max_batch_size), "100", NULL,
     .flags = CONFIG_APP_DEFAULT},
    {"channel_limits.max_name_length", CONFIG_UNSIGNED, AT(channel_limits.max_name_length), "100", NULL,
     .flags = CONFIG_APP_DEFAULT},
    {"channel_limits.cache_ttl", CONFIG_UNSIGNED, AT(channel_limits.cache_ttl_s), "3600", "CACHE_TTL_SECONDS"},
    {"presence.max_members_per_channel", CONFIG_UNSIGNED, AT(presence.max_members_per_channel), "100", NULL,
     .flags = CONFIG_APP_DEFAULT},
    {"presence.max_member_size_in_kb", CONFIG_UNSIGNED, AT(presence.max_member_size_in_kb), "100", NULL,
     .flags = CONFIG_APP_DEFAULT},
    {"rate_limits.max_read_requests_per_second", CONFIG_UNSIGNED, AT(rate_limits.max_read_requests_per_second), "100",
     NULL, .flags = CONFIG_WITHOUT_EFFECT | CONFIG_APP_DEFAULT},
    {"rate_limits.max_backend_events_per_second", CONFIG_UNSIGNED, AT(rate_limits.max_backend_events_per_second), "100",
     NULL, .flags = CONFIG_WITHOUT_EFFECT | CONFIG_APP_DEFAULT},

    {"http_api.request_limit_in_mb", CONFIG_UNSIGNED, AT(http_api.request_limit_in_mb), "10", NULL, 1, 1024},
    {"http_api.usage_enabled", CONFIG_FLAG, AT(http_api.usage_enabled), "true", "HTTP_API_USAGE_ENABLED"},
    {"http_api.stats_public", CONFIG_FLAG, AT(http_api.stats_public), "false", NULL},
    {"http_api.accept_traffic.memory_threshold", CONFIG_FRACTION, AT(http_api.accept_traffic.memory_threshold), "0.90",
     NULL},

    {"cors.origin", CONFIG_LIST, AT(cors.origin), "*", "CORS_ORIGINS", .form = &header_texts},
    {"cors.methods", CONFIG_LIST, AT(cors.methods), "GET,POST,OPTIONS", "CORS_METHODS", .form = &header_texts},
    {"cors.allowed_headers", CONFIG_LIST, AT(cors.allowed_headers),
     "Authorization,Content-Type,X-Requested-With,Accept", "CORS_HEADERS", .form = &header_texts},
    {"cors.credentials", CONFIG_FLAG, AT(cors.credentials), "true", "CORS_CREDENTIALS"},

    {"ssl.enabled", CONFIG_FLAG, AT(ssl.enabled), "false", "SSL_ENABLED"},
    {"ssl.cert_path", CONFIG_TEXT, AT(ssl.cert_path), "", "SSL_CERT_PATH",
     .flags = CONFIG_FATAL_VARIABLE | CONFIG_RELOADED},
    {"ssl.key_path", CONFIG_TEXT, AT(ssl.key_path), "", "SSL_KEY_PATH",
     .flags = CONFIG_FATAL_VARIABLE | CONFIG_RELOADED},
    {"ssl.passphrase", CONFIG_TEXT, AT(ssl.passphrase), NULL, NULL, .flags = CONFIG_NULLABLE | CONFIG_RELOADED},
    {"ssl.ca_path", CONFIG_TEXT, AT(ssl.ca_path), NULL, NULL, .flags = CONFIG_NULLABLE | CONFIG_RELOADED},
    {"ssl.redirect_http", CONFIG_FLAG, AT(ssl.redirect_http), "false", "SSL_REDIRECT_HTTP"},
    {"ssl.http_port", CONFIG_UNSIGNED, AT(ssl.http_port), "80", "SSL_HTTP_PORT", .max = 65535},

    {"unix_socket.enabled", CONFIG_FLAG, AT(unix_socket.enabled), "false", "UNIX_SOCKET_ENABLED"},
    {"unix_socket.path", CONFIG_TEXT, AT(unix_socket.path), "/var/run/sockudo/sockudo.sock", "UNIX_SOCKET_PATH",
     .flags = CONFIG_FATAL_VARIABLE, .form = &absolute_path},
    {"unix_socket.permission_mode", CONFIG_OCTAL, AT(unix_socket.permission_mode), "660", "UNIX_SOCKET_PERMISSION_MODE",
     .max = 0777},

    {"websocket.max_messages", CONFIG_LIMIT, AT(websocket.max_messages), "1000", "WEBSOCKET_MAX_MESSAGES"},
    {"websocket.max_bytes", CONFIG_LIMIT, AT(websocket.max_bytes), "none", "WEBSOCKET_MAX_BYTES"},
    {"websocket.max_backpressure", CONFIG_UNSIGNED, AT(websocket.max_backpressure), "1048576",
     "WEBSOCKET_MAX_BACKPRESSURE"},
    {"websocket.disconnect_on_buffer_full", CONFIG_FLAG, AT(websocket.disconnect_on_buffer_full), "true",
     "WEBSOCKET_DISCONNECT_ON_BUFFER_FULL"},
    {"websocket.max_message_size", CONFIG_UNSIGNED, AT(websocket.max_message_size), "67108864",
     "WEBSOCKET_MAX_MESSAGE_SIZE", .min = 1},
    {"websocket.max_frame_size", CONFIG_UNSIGNED, AT(websocket.max_frame_size), "16777216", "WEBSOCKET_MAX_FRAME_SIZE",
     .min = 1},
    {"websocket.max_subscriptions_per_connection", CONFIG_LIMIT, AT(websocket.max_subscriptions_per_connection),
     "10000"},
    {"websocket.idle_timeout", CONFIG_UNSIGNED, AT(websocket.idle_timeout), "120", "WEBSOCKET_IDLE_TIMEOUT",
     .flags = CONFIG_WITHOUT_EFFECT},
    {"websocket.ping_interval", CONFIG_UNSIGNED, AT(websocket.ping_interval), "30", "WEBSOCKET_PING_INTERVAL",
     .flags = CONFIG_WITHOUT_EFFECT},
    {"websocket.auto_ping", CONFIG_FLAG, AT(websocket.auto_ping), "true", "WEBSOCKET_AUTO_PING",
     .flags = CONFIG_WITHOUT_EFFECT},
    {"websocket.compression", CONFIG_CHOICE, AT(websocket.compression), "disabled", "WEBSOCKET_COMPRESSION",
     .flags = CONFIG_CASE_INSENSITIVE, .choices = compressions},

    {"metrics.enabled", CONFIG_FLAG, AT(metrics.enabled), "true", "METRICS_ENABLED"},
    {"metrics.host", CONFIG_TEXT, AT(metrics.host), "0.0.0.0", "METRICS_HOST", .form = &host_name},
    {"metrics.port", CONFIG_UNSIGNED, AT(metrics.port), "9601", "METRICS_PORT", .max = 65535},
    {"metrics.prometheus.prefix", CONFIG_TEXT, AT(metrics.prometheus.prefix), "sockudo_", "METRICS_PROMETHEUS_PREFIX",
     .form = &metric_prefix},

    {"rate_limiter.enabled", CONFIG_FLAG, AT(rate_limiter.enabled), "false", "RATE_LIMITER_ENABLED"},
    RATE_LIMIT_ROWS("rate_limiter.api_rate_limit", rate_limiter.api_rate_limit, "RATE_LIMITER_API", "100"),
    RATE_LIMIT_ROWS("rate_limiter.websocket_rate_limit", rate_limiter.websocket_rate_limit, "RATE_LIMITER_WS", "20"),
    {"rate_limiter.max_connections_per_address", CONFIG_UNSIGNED, AT(rate_limiter.max_connections_per_address), "0",
     NULL},

    {"webhooks.batching.enabled", CONFIG_FLAG, AT(webhooks.batching.enabled), "true", "WEBHOOK_BATCHING_ENABLED"},
    {"webhooks.batching.duration", CONFIG_UNSIGNED, AT(webhooks.batching.duration_ms), "50",
     "WEBHOOK_BATCHING_DURATION", .max = 3600000},
    {"webhooks.batching.size", CONFIG_UNSIGNED, AT(webhooks.batching.size), "100", "WEBHOOK_BATCHING_SIZE", .min = 1},
    {"webhooks.retry.enabled", CONFIG_FLAG, AT(webhooks.retry.enabled), "true", NULL},
    {"webhooks.retry.max_attempts", CONFIG_OPTIONAL_NUMBER, AT(webhooks.retry.max_attempts), NULL, NULL, .min = 1},
    {"webhooks.retry.max_elapsed_time_ms", CONFIG_UNSIGNED, AT(webhooks.retry.max_elapsed_time_ms), "300000", NULL},
    {"webhooks.retry.initial_backoff_ms", CONFIG_UNSIGNED, AT(webhooks.retry.initial_backoff_ms), "1000", NULL, 1,
     3600000},
    {"webhooks.retry.max_backoff_ms", CONFIG_UNSIGNED, AT(webhooks.retry.max_backoff_ms), "60000", NULL, 1, 3600000},
    {"webhooks.request_timeout_ms", CONFIG_UNSIGNED, AT(webhooks.request_timeout_ms), "10000", NULL, 1, 600000},
    {"webhooks.denied_networks", CONFIG_LIST, AT(webhooks.denied_networks), NULL, NULL, .form = &network_list},
    {"webhooks.spool_path", CONFIG_TEXT, AT(webhooks.spool_path), NULL, NULL, .flags = CONFIG_NULLABLE},
    {"webhooks.spool_max_mb", CONFIG_UNSIGNED, AT(webhooks.spool_max_mb), "256", NULL, 16, 65536},
    {"queue.driver", CONFIG_TEXT, AT(queue.driver), "memory", "QUEUE_DRIVER"},
    {"cache.driver", CONFIG_CHOICE, AT(cache.driver), "memory", "CACHE_DRIVER",
     .flags = CONFIG_FIRST_IF_OTHER | CONFIG_CASE_INSENSITIVE, .choices = cache_drivers},
    {"cache.redis.prefix", CONFIG_TEXT, AT(cache.redis.prefix), "sockudo_cache:", NULL},
    {"cache.redis.url_override", CONFIG_TEXT, AT(cache.redis.url_override), NULL, "REDIS_URL", .flags = CONFIG_NULLABLE,
     .form = &redis_url},
    {"cache.memory.max_capacity", CONFIG_UNSIGNED, AT(cache.memory.max_capacity), "10000", "CACHE_MAX_CAPACITY"},
    {"cache.memory.ttl", CONFIG_OPTIONAL_NUMBER, AT(cache.memory.ttl), NULL, "CACHE_TTL_SECONDS"},

    {"memory.limit_mb", CONFIG_OPTIONAL_NUMBER, AT(memory.limit_mb), NULL, "CURLEW_MEMORY_LIMIT_MB", 16, 16777216},

    {"tag_filtering.enabled", CONFIG_FLAG, AT(tag_filtering.enabled), "false", "TAG_FILTERING_ENABLED"},
    {"tag_filtering.enable_tags", CONFIG_FLAG, AT(tag_filtering.enable_tags), "true", NULL},
    {"delta_compression.enabled", CONFIG_FLAG, AT(delta_compression.enabled), "true"},
    {"delta_compression.algorithm", CONFIG_CHOICE, AT(delta_compression.algorithm), "fossil", NULL,
     .flags = CONFIG_FIRST_IF_OTHER | CONFIG_CASE_INSENSITIVE, .choices = delta_algorithms},
    {"delta_compression.full_message_interval", CONFIG_UNSIGNED, AT(delta_compression.full_message_interval), "10"},
    {"delta_compression.min_message_size", CONFIG_UNSIGNED, AT(delta_compression.min_message_size), "100"},
    {"delta_compression.max_state_age_secs", CONFIG_UNSIGNED, AT(delta_compression.max_state_age_secs), "300"},
    {"delta_compression.max_channel_states_per_socket", CONFIG_UNSIGNED,
     AT(delta_compression.max_channel_states_per_socket), "100", NULL, .flags = CONFIG_WITHOUT_EFFECT},
    {"delta_compression.max_conflation_states_per_channel", CONFIG_LIMIT,
     AT(delta_compression.max_conflation_states_per_channel), "100"},
    {"delta_compression.max_memory_mb", CONFIG_UNSIGNED, AT(delta_compression.max_memory_mb), "64", NULL, 1, 1048576},
    {"delta_compression.conflation_key_path", CONFIG_TEXT, AT(delta_compression.conflation_key_path), NULL, NULL,
     .flags = CONFIG_NULLABLE},
    {"delta_compression.cluster_coordination", CONFIG_FLAG, AT(delta_compression.cluster_coordination), "false", NULL,
     .flags = CONFIG_WITHOUT_EFFECT},
    {"delta_compression.omit_delta_algorithm", CONFIG_FLAG, AT(delta_compression.omit_delta_algorithm), "false"},

    {"adapter.driver", CONFIG_TEXT, AT(adapter.driver), "local", "ADAPTER_DRIVER", .flags = CONFIG_FATAL_VARIABLE,
     .form = &adapter_name},
    {"adapter.redis.requests_timeout", CONFIG_UNSIGNED, AT(adapter.redis.requests_timeout_ms), "5000", NULL, 1,
     3600000},
    {"adapter.redis.prefix", CONFIG_TEXT, AT(adapter.redis.prefix), "sockudo_adapter:", NULL},
    {"adapter.redis.redis_pub_options.url", CONFIG_TEXT, AT(adapter.redis.redis_pub_options.url), NULL, "REDIS_URL",
     .flags = CONFIG_NULLABLE, .form = &redis_url},
    {"adapter.redis.redis_sub_options.url", CONFIG_TEXT, AT(adapter.redis.redis_sub_options.url), NULL, "REDIS_URL",
     .flags = CONFIG_NULLABLE, .form = &redis_url},
    {"adapter.cluster.nodes", CONFIG_LIST, AT(adapter.cluster.nodes), NULL,
     "REDIS_CLUSTER_NODES DATABASE_REDIS_CLUSTER_NODES", .flags = CONFIG_HOST_OBJECTS, .form = &redis_servers},
    {"adapter.cluster.prefix", CONFIG_TEXT, AT(adapter.cluster.prefix), "sockudo_adapter:", NULL},
    {"adapter.cluster.request_timeout_ms", CONFIG_UNSIGNED, AT(adapter.cluster.request_timeout_ms), "1000", NULL, 1,
     3600000},
    {"adapter.cluster.use_sharded_pubsub", CONFIG_FLAG, AT(adapter.cluster.use_sharded_pubsub), "false", NULL},
    {"adapter.nats.servers", CONFIG_LIST, AT(adapter.nats.servers), "nats://localhost:4222", "NATS_SERVERS", .min = 1,
     .form = &nats_servers},
    {"adapter.nats.prefix", CONFIG_TEXT, AT(adapter.nats.prefix), "sockudo_adapter:", "NATS_PREFIX"},
    {"adapter.nats.request_timeout_ms", CONFIG_UNSIGNED, AT(adapter.nats.request_timeout_ms), "5000",
     "NATS_REQUEST_TIMEOUT_MS", 1, 3600000},
    {"adapter.nats.connection_timeout_ms", CONFIG_UNSIGNED, AT(adapter.nats.connection_timeout_ms), "5000",
     "NATS_CONNECTION_TIMEOUT_MS", 1, 3600000},
    {"adapter.nats.username", CONFIG_TEXT, AT(adapter.nats.username), NULL, "NATS_USERNAME", .flags = CONFIG_NULLABLE},
    {"adapter.nats.password", CONFIG_TEXT, AT(adapter.nats.password), NULL, "NATS_PASSWORD", .flags = CONFIG_NULLABLE},
    {"adapter.nats.token", CONFIG_TEXT, AT(adapter.nats.token), NULL, "NATS_TOKEN", .flags = CONFIG_NULLABLE},
    {"adapter.nats.nkey_seed_path", CONFIG_TEXT, AT(adapter.nats.nkey_seed_path), NULL, NULL, .flags = CONFIG_NULLABLE},
    {"adapter.nats.tls.ca_path", CONFIG_TEXT, AT(adapter.nats.tls.ca_path), NULL, NULL, .flags = CONFIG_NULLABLE},
    {"adapter.nats.tls.cert_path", CONFIG_TEXT, AT(adapter.nats.tls.cert_path), NULL, NULL, .flags = CONFIG_NULLABLE},
    {"adapter.nats.tls.key_path", CONFIG_TEXT, AT(adapter.nats.tls.key_path), NULL, NULL, .flags = CONFIG_NULLABLE},
    {"adapter.cluster_health.enabled", CONFIG_FLAG, AT(adapter.cluster_health.enabled), "true",
     "CLUSTER_HEALTH_ENABLED"},
    {"adapter.cluster_health.heartbeat_interval_ms", CONFIG_UNSIGNED, AT(adapter.cluster_health.heartbeat_interval_ms),
     "10000", "CLUSTER_HEALTH_HEARTBEAT_INTERVAL", 10, 3600000},
    {"adapter.cluster_health.node_timeout_ms", CONFIG_UNSIGNED, AT(adapter.cluster_health.node_timeout_ms), "30000",
     "CLUSTER_HEALTH_NODE_TIMEOUT", 30, 10800000},
    {"adapter.outage_buffer_mb", CONFIG_UNSIGNED, AT(adapter.outage_buffer_mb), "64", NULL, 1, 65536},
    {"adapter.outage_max_age_s", CONFIG_UNSIGNED, AT(adapter.outage_max_age_s), "60", NULL, 1, SECONDS_PER_DAY},
    {"adapter.outage_presence_s", CONFIG_UNSIGNED, AT(adapter.outage_presence_s), "600", NULL, 1, SECONDS_PER_DAY},
    {"adapter.publish_when_down", CONFIG_CHOICE, AT(adapter.publish_when_down), "accept", NULL,
     .flags = CONFIG_CASE_INSENSITIVE, .choices = publish_when_down},
    {NULL, CONFIG_TEXT, AT(admin.listen), "127.0.0.1:9602", "CURLEW_ADMIN_LISTEN", .form = &host_and_port},
    {NULL, CONFIG_TEXT, AT(admin.token), NULL, "CURLEW_ADMIN_TOKEN"},
    {NULL, CONFIG_TEXT, AT(admin.url), NULL, "CURLEW_ADMIN_URL"},
    {"logging.colors_enabled", CONFIG_FLAG, AT(logging.colors_enabled), "true", "LOG_COLORS_ENABLED"},
    {"logging.include_target", CONFIG_FLAG, AT(logging.include_target), "true", "LOG_INCLUDE_TARGET"},
    {NULL, CONFIG_CHOICE, AT(logging.format), "human", "LOG_OUTPUT_FORMAT", .flags = CONFIG_CASE_INSENSITIVE,
     .choices = log_formats},
    {NULL, CONFIG_CHOICE, AT(logging.level), "info", "LOG_LEVEL", .flags = CONFIG_CASE_INSENSITIVE,
     .choices = log_levels},
};

const size_t config_row_count = sizeof config_rows / sizeof config_rows[0];

const struct config_row *config_row_at(struct slice path) {
    for (size_t i = 0; i < config_row_count; i++)
        if (config_rows[i].path != NULL && slice_equal(slice_of(config_rows[i].path), path))
            return &config_rows[i];
    return NULL;
}

const char *const config_accepted_paths[] = {
    "adapter.*",
    "adapter.cluster.use_connection_manager",
    "adapter.cluster_health.cleanup_interval_ms",
    "adapter.nats.client_capacity",
    "adapter.nats.discovery_idle_wait_ms",
    "adapter.nats.discovery_max_wait_ms",
    "adapter.nats.max_reconnects",
    "adapter.nats.no_echo",
    "adapter.nats.nodes_number",
    "adapter.nats.presence_sync_chunk_size",
    "adapter.nats.subscription_capacity",
    "adapter.redis.cluster_mode",
    "cache.memory.cleanup_interval",
    "cache.redis.cluster_mode",
    "cleanup",
    "cluster_health",
    "metrics.driver",
    "queue.*",
    "rate_limiter.*",
    "rate_limiter.api_rate_limit.identifier",
    "rate_limiter.websocket_rate_limit.identifier",
    "websocket.write_buffer_size",
};

const size_t config_accepted_path_count = sizeof config_accepted_paths / sizeof config_accepted_paths[0];
