/* The configuration: every setting's default, key and variable, and everything that can be wrong with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "config/config.h"
#include "config/config_redis.h"
#include "config/config_table.h"
#include "server/check.h"
#include "server/check_adapter.h"

#define FILE_NAME "test.json"

static struct config config;
static struct config_report report;
static struct error error;

/* Each test has an empty environment and an empty folder: no config/config.json. */
static char folder[] = "/tmp/curlew-config-XXXXXX";

static int enter_folder(void **state) {
    (void)state;
    return mkdtemp(folder) != NULL ? chdir(folder) : -1;
}

static int leave_folder(void **state) {
    (void)state;
    unlink(FILE_NAME);
    return rmdir(folder);
}

static int clean(void **state) {
    (void)state;
    clearenv();
    return 0;
}

static int dispose(void **state) {
    (void)state;
    config_dispose(&config);
    config_report_dispose(&report);
    return 0;
}

static void write_file(const char *text) {
    FILE *file = fopen(FILE_NAME, "w");

    assert_non_null(file);
    assert_int_equal(fputs(text, file) >= 0, 1);
    assert_int_equal(fclose(file), 0);
}

/* Loads anew; NULL for no file. */
static bool load(const char *text) {
    config_dispose(&config);
    config_report_dispose(&report);
    if (text != NULL)
        write_file(text);
    return config_load(&config, text != NULL ? FILE_NAME : NULL, &report, &error);
}

static bool holds(const struct config_messages *messages, const char *part) {
    for (size_t i = 0; i < messages->count; i++)
        if (strstr(messages->texts[i], part) != NULL)
            return true;
    return false;
}

#define assert_holds(messages, part)                                                                                   \
    do {                                                                                                               \
        if (!holds(&(messages), part))                                                                                 \
            fail_msg("no text with \"%s\" among %zu, first: %s", part, (messages).count,                               \
                     (messages).count > 0 ? (messages).texts[0] : "none");                                             \
    } while (0)

/* A file whose `section.key` is `value`, which is JSON. */
static void file_with(struct buffer *text, const char *path, const char *value) {
    int depth = 1;

    text->length = 0;
    buffer_append_string(text, "{\"");
    for (; *path != '\0'; path++) {
        if (*path == '.') {
            buffer_append_string(text, "\":{\"");
            depth++;
        } else {
            buffer_append_byte(text, *path);
        }
    }
    buffer_append_string(text, "\":");
    buffer_append_string(text, value);
    while (depth-- > 0)
        buffer_append_byte(text, '}');
    buffer_append_byte(text, '\0');
}

/* Every setting of the documentation: where it is kept, its default, another value. A default of NULL is unset, "?"
 * one that differs by machine or run. */
static const struct expectation {
    const char *path;
    size_t offset;
    const char *fallback;
    const char *variables;
    const char *sample;
} expectations[] = {
#define ROW(path, member, fallback, variables, sample)                                                                 \
    { path, offsetof(struct config, member), fallback, variables, sample }
    ROW("host", host, "0.0.0.0", "HOST", "127.0.0.1"),
    ROW("port", port, "6001", "PORT", "7000"),
    ROW("mode", mode, "production", "ENVIRONMENT", "PRODUCTION"),
    ROW("debug", debug, "false", "DEBUG DEBUG_MODE", "true"),
    ROW("path_prefix", path_prefix, "", NULL, "/ws"),
    ROW("activity_timeout", activity_timeout_s, "120", "ACTIVITY_TIMEOUT", "30"),
    ROW("shutdown_grace_period", shutdown_grace_period_s, "10", "SHUTDOWN_GRACE_PERIOD", "3"),
    ROW("user_authentication_timeout", user_authentication_timeout_s, "3600", "USER_AUTHENTICATION_TIMEOUT", "5"),
    ROW("websocket_max_payload_kb", websocket_max_payload_kb, "64", "WEBSOCKET_MAX_PAYLOAD_KB", "128"),
    ROW("instance.process_id", instance.process_id, "?", "INSTANCE_PROCESS_ID", "node-1"),
    ROW("workers", workers, "?", "CURLEW_WORKERS", "13"),
    ROW("app_manager.driver", app_manager.driver, "0", "APP_MANAGER_DRIVER", "memory"),
    ROW("app_manager.array.apps", app_manager.array_apps, "[]", NULL, "[{\"id\":\"a\"}]"),
    ROW(NULL, app_manager.skip_inline_apps, "false", "SOCKUDO_SKIP_INLINE_APPS", "true"),
    ROW(NULL, app_manager.register_inline_apps, "true", "APP_MANAGER_REGISTER_INLINE_APPS", "false"),
    ROW("app_manager.secrets.key_file", app_manager.secrets.key_file, NULL, NULL, "/etc/curlew/secrets.key"),
    ROW(NULL, app_manager.secrets.key, NULL, "CURLEW_SECRETS_KEY", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="),
    ROW("app_manager.lookup_timeout_ms", app_manager.lookup_timeout_ms, "5000", NULL, "250"),
    ROW("app_manager.cache.enabled", app_manager.cache.enabled, "true", NULL, "false"),
    ROW("app_manager.cache.ttl", app_manager.cache.ttl_s, "300", "CACHE_TTL_SECONDS", "7"),
    ROW("app_manager.vanished_grace", app_manager.vanished_grace_s, "60", NULL, "0"),
    ROW("app_manager.cache.negative_ttl", app_manager.cache.negative_ttl_s, "5", NULL, "6"),
    ROW("app_manager.cache.stale_if_error", app_manager.cache.stale_if_error_s, "86400", NULL, "60"),
    ROW("app_manager.cache.snapshot_path", app_manager.cache.snapshot_path, NULL, NULL,
        "/var/lib/curlew/apps.snapshot"),
    ROW(NULL, app_manager.cache.cleanup_interval_s, "60", "CACHE_CLEANUP_INTERVAL", "61"),
    ROW(NULL, app_manager.cache.max_capacity, "10000", "CACHE_MAX_CAPACITY", "77"),
#define SQL(section, at, VARIABLE, USERNAME, port_default, user)                                                       \
    ROW(section ".host", at.host, "localhost", VARIABLE "_HOST", "db"),                                                \
        ROW(section ".port", at.port, port_default, VARIABLE "_PORT", "1234"),                                         \
        ROW(section ".username", at.username, user, USERNAME, "curlew"),                                               \
        ROW(section ".password", at.password, "", VARIABLE "_PASSWORD", "hunter2"),                                    \
        ROW(section ".database", at.database, "sockudo", VARIABLE "_DATABASE", "other"),                               \
        ROW(section ".table_name", at.table_name, "applications", VARIABLE "_TABLE_NAME", "apps"),                     \
        ROW(section ".connection_pool_size", at.connection_pool_size, "10 unset", "DATABASE_CONNECTION_POOL_SIZE",     \
            "7"),                                                                                                      \
        ROW(section ".pool_min", at.pool_min, "0 unset", VARIABLE "_POOL_MIN", "3"),                                   \
        ROW(section ".pool_max", at.pool_max, "0 unset", VARIABLE "_POOL_MAX", "20"),                                  \
        ROW(section ".cache_ttl", at.cache_ttl, "300 unset", "CACHE_TTL_SECONDS", "5"),                                \
        ROW(section ".cache_cleanup_interval", at.cache_cleanup_interval, "60 unset", "CACHE_CLEANUP_INTERVAL", "9"),  \
        ROW(section ".cache_max_capacity", at.cache_max_capacity, "100 unset", "CACHE_MAX_CAPACITY", "12"),            \
        TLS(section ".tls", at.tls, "1")
#define TLS(section, at, mode_default)                                                                                 \
    ROW(section ".mode", at.mode, mode_default, NULL, "verify"),                                                       \
        ROW(section ".ca_path", at.ca_path, NULL, NULL, "/ca.pem"),                                                    \
        ROW(section ".cert_path", at.cert_path, NULL, NULL, "/cert.pem"),                                              \
        ROW(section ".key_path", at.key_path, NULL, NULL, "/key.pem")
    SQL("database.mysql", database.mysql, "DATABASE_MYSQL", "DATABASE_MYSQL_USERNAME", "3306", "root"),
    SQL("database.postgres", database.postgres, "DATABASE_POSTGRES",
        "DATABASE_POSTGRES_USER DATABASE_POSTGRES_USERNAME", "5432", "postgres"),
    ROW("database.sqlite.path", database.sqlite.path, "curlew.db", "DATABASE_SQLITE_PATH", "/var/lib/apps.db"),
    ROW("database.dynamodb.region", database.dynamodb.region, "us-east-1", "DATABASE_DYNAMODB_REGION", "eu-west-1"),
    ROW("database.dynamodb.table_name", database.dynamodb.table_name, "sockudo-applications",
        "DATABASE_DYNAMODB_TABLE_NAME", "my-apps.v2"),
    ROW("database.dynamodb.endpoint_url", database.dynamodb.endpoint_url, NULL, "DATABASE_DYNAMODB_ENDPOINT_URL",
        "http://127.0.0.1:8000"),
    ROW("database.dynamodb.aws_access_key_id", database.dynamodb.aws_access_key_id, NULL, "AWS_ACCESS_KEY_ID", "AK"),
    ROW("database.dynamodb.aws_secret_access_key", database.dynamodb.aws_secret_access_key, NULL,
        "AWS_SECRET_ACCESS_KEY", "SK"),
    ROW("database.dynamodb.aws_profile_name", database.dynamodb.aws_profile_name, NULL, "AWS_PROFILE", "work"),
#define SCYLLADB(section, V, W)                                                                                        \
    ROW(section ".nodes", database.scylladb.nodes, "127.0.0.1:9042", W("NODES"), "10.0.0.1:9042,10.0.0.2"),            \
        ROW(section ".keyspace", database.scylladb.keyspace, "sockudo", W("KEYSPACE"), "mine"),                        \
        ROW(section ".table_name", database.scylladb.table_name, "applications", V("TABLE_NAME"), "apps"),             \
        ROW(section ".username", database.scylladb.username, NULL, V("USERNAME"), "cassandra"),                        \
        ROW(section ".password", database.scylladb.password, NULL, V("PASSWORD"), "cassandra"),                        \
        ROW(section ".replication_class", database.scylladb.replication_class, "SimpleStrategy",                       \
            W("REPLICATION_CLASS"), "NetworkTopologyStrategy"),                                                        \
        ROW(section ".replication_factor", database.scylladb.replication_factor, "3", W("REPLICATION_FACTOR"), "1"),   \
        TLS(section ".tls", database.scylladb.tls, "0")
#define WITH_VARIABLE(name) "DATABASE_SCYLLADB_" name
#define WITH_VARIABLES(name) "SCYLLADB_" name " DATABASE_SCYLLADB_" name
#define WITHOUT_VARIABLE(name) NULL
    SCYLLADB("database.scylladb", WITHOUT_VARIABLE, WITHOUT_VARIABLE),
    SCYLLADB("app_manager.scylladb", WITH_VARIABLE, WITH_VARIABLES),
    ROW("database.redis.host", database.redis.host, "127.0.0.1", "DATABASE_REDIS_HOST", "rediss://r.example"),
    ROW("database.redis.port", database.redis.port, "6379", "DATABASE_REDIS_PORT", "6380"),
    ROW("database.redis.db", database.redis.db, "0", "DATABASE_REDIS_DB", "3"),
    ROW("database.redis.username", database.redis.username, NULL, "DATABASE_REDIS_USERNAME", "curlew"),
    ROW("database.redis.password", database.redis.password, NULL, "DATABASE_REDIS_PASSWORD", "hunter2"),
    ROW("database.redis.key_prefix", database.redis.key_prefix, "sockudo:", "DATABASE_REDIS_KEY_PREFIX", "mine:"),
    ROW("database.redis.sentinels", database.redis.sentinels, "", "DATABASE_REDIS_SENTINELS", "10.0.0.1:26379,s2"),
    ROW("database.redis.sentinel_password", database.redis.sentinel_password, NULL, "DATABASE_REDIS_SENTINEL_PASSWORD",
        "hunter3"),
    ROW("database.redis.name", database.redis.name, "mymaster", "DATABASE_REDIS_NAME", "main"),
    ROW("database.redis.cluster_nodes", database.redis.cluster.nodes, "", NULL, "10.0.0.1:7000"),
    ROW("database.redis.cluster.nodes", database.redis.cluster.nodes, "",
        "REDIS_CLUSTER_NODES DATABASE_REDIS_CLUSTER_NODES", "10.0.0.1:7000,[::1]:7001"),
    ROW("database.redis.cluster.username", database.redis.cluster.username, NULL, "DATABASE_REDIS_CLUSTER_USERNAME",
        "curlew"),
    ROW("database.redis.cluster.password", database.redis.cluster.password, NULL, "DATABASE_REDIS_CLUSTER_PASSWORD",
        "hunter2"),
    ROW("database.redis.cluster.use_tls", database.redis.cluster.use_tls, "false", "DATABASE_REDIS_CLUSTER_USE_TLS",
        "true"),
    ROW("database.redis.tls.enabled", database.redis.tls.enabled, "false", NULL, "true"),
    ROW("database.redis.tls.ca_path", database.redis.tls.ca_path, NULL, NULL, "/ca.pem"),
    ROW("database.redis.tls.cert_path", database.redis.tls.cert_path, NULL, NULL, "/cert.pem"),
    ROW("database.redis.tls.key_path", database.redis.tls.key_path, NULL, NULL, "/key.pem"),
    ROW("database_pooling.enabled", database_pooling.enabled, "true", "DATABASE_POOLING_ENABLED", "false"),
    ROW("database_pooling.min", database_pooling.min, "2 unset", "DATABASE_POOL_MIN", "4"),
    ROW("database_pooling.max", database_pooling.max, "10 unset", "DATABASE_POOL_MAX", "12"),
    ROW("event_limits.max_channels_at_once", event_limits.max_channels_at_once, "100", NULL, "1"),
    ROW("event_limits.max_name_length", event_limits.max_name_length, "100", NULL, "2"),
    ROW("event_limits.max_payload_in_kb", event_limits.max_payload_in_kb, "100", NULL, "3"),
    ROW("event_limits.max_batch_size", event_limits.max_batch_size, "100", NULL, "4"),
    ROW("channel_limits.max_name_length", channel_limits.max_name_length, "100", NULL, "200"),
    ROW("channel_limits.cache_ttl", channel_limits.cache_ttl_s, "3600", "CACHE_TTL_SECONDS", "60"),
    ROW("presence.max_members_per_channel", presence.max_members_per_channel, "100", NULL, "5"),
    ROW("presence.max_member_size_in_kb", presence.max_member_size_in_kb, "100", NULL, "6"),
    ROW("rate_limits.max_read_requests_per_second", rate_limits.max_read_requests_per_second, "100", NULL, "0"),
    ROW("rate_limits.max_backend_events_per_second", rate_limits.max_backend_events_per_second, "100", NULL, "0"),
    ROW("http_api.request_limit_in_mb", http_api.request_limit_in_mb, "10", NULL, "20"),
    ROW("http_api.usage_enabled", http_api.usage_enabled, "true", "HTTP_API_USAGE_ENABLED", "false"),
    ROW("http_api.stats_public", http_api.stats_public, "false", NULL, "true"),
    ROW("http_api.accept_traffic.memory_threshold", http_api.accept_traffic.memory_threshold, "0.9", NULL, "0.5"),
    ROW("cors.origin", cors.origin, "*", "CORS_ORIGINS", "https://a.example,https://b.example"),
    ROW("cors.methods", cors.methods, "GET,POST,OPTIONS", "CORS_METHODS", "GET"),
    ROW("cors.allowed_headers", cors.allowed_headers, "Authorization,Content-Type,X-Requested-With,Accept",
        "CORS_HEADERS", "X-Mine"),
    ROW("cors.credentials", cors.credentials, "true", "CORS_CREDENTIALS", "false"),
    ROW("ssl.enabled", ssl.enabled, "false", "SSL_ENABLED", "true"),
    ROW("ssl.cert_path", ssl.cert_path, "", "SSL_CERT_PATH", "/c.pem"),
    ROW("ssl.key_path", ssl.key_path, "", "SSL_KEY_PATH", "/k.pem"),
    ROW("ssl.passphrase", ssl.passphrase, NULL, NULL, "open sesame"),
    ROW("ssl.ca_path", ssl.ca_path, NULL, NULL, "/ca.pem"),
    ROW("ssl.redirect_http", ssl.redirect_http, "false", "SSL_REDIRECT_HTTP", "true"),
    ROW("ssl.http_port", ssl.http_port, "80", "SSL_HTTP_PORT", "8080"),
    ROW("unix_socket.enabled", unix_socket.enabled, "false", "UNIX_SOCKET_ENABLED", "true"),
    ROW("unix_socket.path", unix_socket.path, "/var/run/sockudo/sockudo.sock", "UNIX_SOCKET_PATH", "/run/c.sock"),
    ROW("unix_socket.permission_mode", unix_socket.permission_mode, "660", "UNIX_SOCKET_PERMISSION_MODE", "755"),
    ROW("websocket.max_messages", websocket.max_messages, "1000", "WEBSOCKET_MAX_MESSAGES", "50"),
    ROW("websocket.max_bytes", websocket.max_bytes, "0", "WEBSOCKET_MAX_BYTES", "4096"),
    ROW("websocket.max_backpressure", websocket.max_backpressure, "1048576", "WEBSOCKET_MAX_BACKPRESSURE", "65536"),
    ROW("websocket.disconnect_on_buffer_full", websocket.disconnect_on_buffer_full, "true",
        "WEBSOCKET_DISCONNECT_ON_BUFFER_FULL", "false"),
    ROW("websocket.max_message_size", websocket.max_message_size, "67108864", "WEBSOCKET_MAX_MESSAGE_SIZE", "1000"),
    ROW("websocket.max_frame_size", websocket.max_frame_size, "16777216", "WEBSOCKET_MAX_FRAME_SIZE", "2000"),
    ROW("websocket.max_subscriptions_per_connection", websocket.max_subscriptions_per_connection, "10000", NULL, "20"),
    ROW("websocket.idle_timeout", websocket.idle_timeout, "120", "WEBSOCKET_IDLE_TIMEOUT", "1"),
    ROW("websocket.ping_interval", websocket.ping_interval, "30", "WEBSOCKET_PING_INTERVAL", "2"),
    ROW("websocket.auto_ping", websocket.auto_ping, "true", "WEBSOCKET_AUTO_PING", "false"),
    ROW("websocket.compression", websocket.compression, "0", "WEBSOCKET_COMPRESSION", "window32kb"),
    ROW("metrics.enabled", metrics.enabled, "true", "METRICS_ENABLED", "false"),
    ROW("metrics.host", metrics.host, "0.0.0.0", "METRICS_HOST", "::1"),
    ROW("metrics.port", metrics.port, "9601", "METRICS_PORT", "0"),
    ROW("metrics.prometheus.prefix", metrics.prometheus.prefix, "sockudo_", "METRICS_PROMETHEUS_PREFIX", "curlew_"),
    ROW("rate_limiter.enabled", rate_limiter.enabled, "false", "RATE_LIMITER_ENABLED", "true"),
#define RATE_LIMIT(section, at, VARIABLE, requests)                                                                    \
    ROW(section ".max_requests", at.max_requests, requests, VARIABLE "_MAX_REQUESTS", "7"),                            \
        ROW(section ".window_seconds", at.window_seconds, "60", VARIABLE "_WINDOW_SECONDS", "8"),                      \
        ROW(section ".trust_hops", at.trust_hops, "0", VARIABLE "_TRUST_HOPS", "2")
    RATE_LIMIT("rate_limiter.api_rate_limit", rate_limiter.api_rate_limit, "RATE_LIMITER_API", "100"),
    RATE_LIMIT("rate_limiter.websocket_rate_limit", rate_limiter.websocket_rate_limit, "RATE_LIMITER_WS", "20"),
    ROW("rate_limiter.max_connections_per_address", rate_limiter.max_connections_per_address, "0", NULL, "50"),
    ROW("webhooks.batching.enabled", webhooks.batching.enabled, "true", "WEBHOOK_BATCHING_ENABLED", "false"),
    ROW("webhooks.batching.duration", webhooks.batching.duration_ms, "50", "WEBHOOK_BATCHING_DURATION", "10"),
    ROW("webhooks.batching.size", webhooks.batching.size, "100", "WEBHOOK_BATCHING_SIZE", "3"),
    ROW("webhooks.retry.enabled", webhooks.retry.enabled, "true", NULL, "false"),
    ROW("webhooks.retry.max_attempts", webhooks.retry.max_attempts, "0 unset", NULL, "4"),
    ROW("webhooks.retry.max_elapsed_time_ms", webhooks.retry.max_elapsed_time_ms, "300000", NULL, "5000"),
    ROW("webhooks.retry.initial_backoff_ms", webhooks.retry.initial_backoff_ms, "1000", NULL, "20"),
    ROW("webhooks.retry.max_backoff_ms", webhooks.retry.max_backoff_ms, "60000", NULL, "40"),
    ROW("webhooks.request_timeout_ms", webhooks.request_timeout_ms, "10000", NULL, "700"),
    ROW("webhooks.denied_networks", webhooks.denied_networks, "", NULL, "10.0.0.0/8,fd00::/8"),
    ROW("webhooks.spool_path", webhooks.spool_path, NULL, NULL, "/var/spool/curlew"),
    ROW("webhooks.spool_max_mb", webhooks.spool_max_mb, "256", NULL, "16"),
    ROW("queue.driver", queue.driver, "memory", "QUEUE_DRIVER", "none"),
    ROW("cache.memory.max_capacity", cache.memory.max_capacity, "10000", "CACHE_MAX_CAPACITY", "5"),
    ROW("cache.memory.ttl", cache.memory.ttl, "0 unset", "CACHE_TTL_SECONDS", "6"),
    ROW("memory.limit_mb", memory.limit_mb, "0 unset", "CURLEW_MEMORY_LIMIT_MB", "512"),
    ROW("tag_filtering.enabled", tag_filtering.enabled, "false", "TAG_FILTERING_ENABLED", "true"),
    ROW("tag_filtering.enable_tags", tag_filtering.enable_tags, "true", NULL, "false"),
    ROW("delta_compression.enabled", delta_compression.enabled, "true", NULL, "false"),
    ROW("delta_compression.algorithm", delta_compression.algorithm, "0", NULL, "xdelta3"),
    ROW("delta_compression.full_message_interval", delta_compression.full_message_interval, "10", NULL, "3"),
    ROW("delta_compression.min_message_size", delta_compression.min_message_size, "100", NULL, "4"),
    ROW("delta_compression.max_state_age_secs", delta_compression.max_state_age_secs, "300", NULL, "5"),
    ROW("delta_compression.max_channel_states_per_socket", delta_compression.max_channel_states_per_socket, "100", NULL,
        "6"),
    ROW("delta_compression.max_conflation_states_per_channel", delta_compression.max_conflation_states_per_channel,
        "100", NULL, "7"),
    ROW("delta_compression.max_memory_mb", delta_compression.max_memory_mb, "64", NULL, "8"),
    ROW("delta_compression.conflation_key_path", delta_compression.conflation_key_path, NULL, NULL, "tags.symbol"),
    ROW("delta_compression.cluster_coordination", delta_compression.cluster_coordination, "false", NULL, "true"),
    ROW("delta_compression.omit_delta_algorithm", delta_compression.omit_delta_algorithm, "false", NULL, "true"),
    ROW("adapter.driver", adapter.driver, "local", "ADAPTER_DRIVER", "nats"),
    ROW("adapter.redis.requests_timeout", adapter.redis.requests_timeout_ms, "5000", NULL, "250"),
    ROW("adapter.redis.prefix", adapter.redis.prefix, "sockudo_adapter:", NULL, "mine:"),
    ROW("adapter.redis.redis_pub_options.url", adapter.redis.redis_pub_options.url, NULL, "REDIS_URL",
        "redis://:hunter2@redis:6380/1"),
    ROW("adapter.redis.redis_sub_options.url", adapter.redis.redis_sub_options.url, NULL, "REDIS_URL",
        "rediss://curlew:hunter2@[::1]"),
    ROW("adapter.cluster.nodes", adapter.cluster.nodes, "", "REDIS_CLUSTER_NODES DATABASE_REDIS_CLUSTER_NODES",
        "10.0.0.1:7000,rediss://:p@r2:7001"),
    ROW("adapter.cluster.prefix", adapter.cluster.prefix, "sockudo_adapter:", NULL, "mine:"),
    ROW("adapter.cluster.request_timeout_ms", adapter.cluster.request_timeout_ms, "1000", NULL, "250"),
    ROW("adapter.cluster.use_sharded_pubsub", adapter.cluster.use_sharded_pubsub, "false", NULL, "true"),
    ROW("adapter.nats.servers", adapter.nats.servers, "nats://localhost:4222", "NATS_SERVERS",
        "nats://curlew:hunter2@n1:4222,tls://n2,n3:4223"),
    ROW("adapter.nats.prefix", adapter.nats.prefix, "sockudo_adapter:", "NATS_PREFIX", "mine:"),
    ROW("adapter.nats.request_timeout_ms", adapter.nats.request_timeout_ms, "5000", "NATS_REQUEST_TIMEOUT_MS", "250"),
    ROW("adapter.nats.connection_timeout_ms", adapter.nats.connection_timeout_ms, "5000", "NATS_CONNECTION_TIMEOUT_MS",
        "250"),
    ROW("adapter.nats.username", adapter.nats.username, NULL, "NATS_USERNAME", "curlew"),
    ROW("adapter.nats.password", adapter.nats.password, NULL, "NATS_PASSWORD", "hunter2"),
    ROW("adapter.nats.token", adapter.nats.token, NULL, "NATS_TOKEN", "hunter2"),
    ROW("adapter.nats.nkey_seed_path", adapter.nats.nkey_seed_path, NULL, NULL, "/etc/curlew/nkey"),
    ROW("adapter.nats.tls.ca_path", adapter.nats.tls.ca_path, NULL, NULL, "/ca.pem"),
    ROW("adapter.nats.tls.cert_path", adapter.nats.tls.cert_path, NULL, NULL, "/cert.pem"),
    ROW("adapter.nats.tls.key_path", adapter.nats.tls.key_path, NULL, NULL, "/key.pem"),
    ROW("adapter.cluster_health.enabled", adapter.cluster_health.enabled, "true", "CLUSTER_HEALTH_ENABLED", "false"),
    ROW("adapter.cluster_health.heartbeat_interval_ms", adapter.cluster_health.heartbeat_interval_ms, "10000",
        "CLUSTER_HEALTH_HEARTBEAT_INTERVAL", "500"),
    ROW("adapter.cluster_health.node_timeout_ms", adapter.cluster_health.node_timeout_ms, "30000",
        "CLUSTER_HEALTH_NODE_TIMEOUT", "60000"),
    ROW("adapter.outage_buffer_mb", adapter.outage_buffer_mb, "64", NULL, "8"),
    ROW("adapter.outage_max_age_s", adapter.outage_max_age_s, "60", NULL, "5"),
    ROW("adapter.outage_presence_s", adapter.outage_presence_s, "600", NULL, "30"),
    ROW("adapter.publish_when_down", adapter.publish_when_down, "0", NULL, "refuse"),
    ROW("cache.driver", cache.driver, "0", "CACHE_DRIVER", "redis-cluster"),
    ROW("cache.redis.prefix", cache.redis.prefix, "sockudo_cache:", NULL, "mine:"),
    ROW("cache.redis.url_override", cache.redis.url_override, NULL, "REDIS_URL", "rediss://:hunter2@cache:6380/2"),
    ROW(NULL, admin.listen, "127.0.0.1:9602", "CURLEW_ADMIN_LISTEN", "127.0.0.1:9999"),
    ROW(NULL, admin.token, NULL, "CURLEW_ADMIN_TOKEN", "0123456789abcdef0123456789abcdef"),
    ROW(NULL, admin.url, NULL, "CURLEW_ADMIN_URL", "http://127.0.0.1:9999"),
    ROW("logging.colors_enabled", logging.colors_enabled, "true", "LOG_COLORS_ENABLED", "false"),
    ROW("logging.include_target", logging.include_target, "true", "LOG_INCLUDE_TARGET", "false"),
    ROW(NULL, logging.format, "0", "LOG_OUTPUT_FORMAT", "json"),
    ROW(NULL, logging.level, "2", "LOG_LEVEL", "debug"),
};

#define EXPECTATIONS (sizeof expectations / sizeof expectations[0])

static const struct config_row *row_of(const struct expectation *expected) {
    for (size_t i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];

        if (row->path == NULL ? expected->path == NULL && row->offset == expected->offset
                              : expected->path != NULL && strcmp(row->path, expected->path) == 0)
            return row;
    }
    fail_msg("%s is not in the table", expected->path != NULL ? expected->path : expected->variables);
    return NULL;
}

/* The value at the expectation's own place, as text; a choice is its number. */
static void show(const struct expectation *expected, enum config_type type, struct buffer *text) {
    const char *at = (const char *)&config + expected->offset;
    const struct config_list *list = (const void *)at;
    const struct config_number *number = (const void *)at;
    char *dump;

    text->length = 0;
    switch (type) {
    case CONFIG_TEXT:
        buffer_append_string(text, *(char *const *)at != NULL ? *(char *const *)at : "(unset)");
        break;
    case CONFIG_FLAG:
        buffer_append_string(text, *(const bool *)at ? "true" : "false");
        break;
    case CONFIG_UNSIGNED:
    case CONFIG_LIMIT:
    case CONFIG_CHOICE:
        buffer_append_number(text, *(const uint32_t *)at);
        break;
    case CONFIG_OCTAL:
        buffer_appendf(text, "%o", *(const uint32_t *)at);
        break;
    case CONFIG_OPTIONAL_NUMBER:
        buffer_appendf(text, "%u%s", number->value, number->set ? "" : " unset");
        break;
    case CONFIG_FRACTION:
        buffer_appendf(text, "%g", *(const double *)at);
        break;
    case CONFIG_LIST:
        for (size_t i = 0; i < list->count; i++)
            buffer_appendf(text, "%s%s", i > 0 ? "," : "", list->items[i]);
        break;
    case CONFIG_ARRAY:
        dump = json_dumps(*(json_t *const *)at, JSON_COMPACT);
        buffer_append_string(text, dump);
        free(dump);
        break;
    }
    buffer_append_byte(text, '\0');
}

static void assert_shows(const struct expectation *expected, const struct config_row *row, const char *value,
                         const char *from) {
    struct buffer text = {0};
    char number[16];

    if (value != NULL && row->type == CONFIG_CHOICE && (*value < '0' || *value > '9')) {
        unsigned i = 0;

        while (strncmp(row->choices[i], value, strlen(value)) != 0)
            i++;
        snprintf(number, sizeof number, "%u", i);
        value = number;
    }
    show(expected, row->type, &text);
    if (strcmp(text.data, value != NULL ? value : "(unset)") != 0)
        fail_msg("%s from %s is %s, not %s", expected->path != NULL ? expected->path : expected->variables, from,
                 text.data, value != NULL ? value : "(unset)");
    buffer_dispose(&text);
}

/* The sample as the file has it. */
static void sample_json(const struct expectation *expected, enum config_type type, struct buffer *json) {
    json->length = 0;
    switch (type) {
    case CONFIG_TEXT:
    case CONFIG_CHOICE:
    case CONFIG_OCTAL:
        buffer_appendf(json, "\"%s\"", expected->sample);
        break;
    case CONFIG_LIST:
        buffer_append_string(json, "[\"");
        for (const char *c = expected->sample; *c != '\0'; c++) {
            if (*c == ',')
                buffer_append_string(json, "\",\"");
            else
                buffer_append_byte(json, *c);
        }
        buffer_append_string(json, "\"]");
        break;
    case CONFIG_FLAG:
    case CONFIG_UNSIGNED:
    case CONFIG_LIMIT:
    case CONFIG_OPTIONAL_NUMBER:
    case CONFIG_FRACTION:
    case CONFIG_ARRAY:
        buffer_append_string(json, expected->sample);
        break;
    }
    buffer_append_byte(json, '\0');
}

static void every_row_of_the_table_is_expected(void **state) {
    (void)state;
    for (size_t i = 0; i < config_row_count; i++) {
        bool found = false;

        for (size_t j = 0; j < EXPECTATIONS && !found; j++)
            found = row_of(&expectations[j]) == &config_rows[i];
        if (!found)
            fail_msg("%s has no expectation",
                     config_rows[i].path != NULL ? config_rows[i].path : config_rows[i].variables);
    }
    assert_int_equal(config_row_count, EXPECTATIONS);
}

static void every_setting_has_its_default(void **state) {
    (void)state;
    assert_true(load(NULL));
    assert_int_equal(report.warnings.count, 0);
    assert_null(config.file);
    for (size_t i = 0; i < EXPECTATIONS; i++) {
        const struct expectation *expected = &expectations[i];

        if (expected->fallback == NULL || strcmp(expected->fallback, "?") != 0)
            assert_shows(expected, row_of(expected), expected->fallback, "the defaults");
    }
}

static void every_setting_is_read_from_its_key(void **state) {
    struct buffer json = {0}, text = {0};

    (void)state;
    for (size_t i = 0; i < EXPECTATIONS; i++) {
        const struct expectation *expected = &expectations[i];
        const struct config_row *row = row_of(expected);

        if (expected->path == NULL)
            continue;
        sample_json(expected, row->type, &json);
        file_with(&text, expected->path, json.data);
        if (!load(text.data))
            fail_msg("%s: %s", text.data, error.text);
        if (report.warnings.count > 0)
            fail_msg("%s: %s", text.data, report.warnings.texts[0]);
        assert_shows(expected, row, expected->sample, "the file");
        assert_string_equal(config.file, FILE_NAME);
    }
    buffer_dispose(&json);
    buffer_dispose(&text);
}

static void every_setting_is_read_from_its_variables(void **state) {
    (void)state;
    for (size_t i = 0; i < EXPECTATIONS; i++) {
        const struct expectation *expected = &expectations[i];
        const struct config_row *row = row_of(expected);
        char *names, *rest, *name;

        if (expected->variables == NULL) {
            assert_null(row->variables);
            continue;
        }
        names = rest = strdup(expected->variables);
        while ((name = strsep(&rest, " ")) != NULL) {
            clearenv();
            setenv(name, expected->sample, 1);
            if (!load("{}"))
                fail_msg("%s: %s", name, error.text);
            if (report.warnings.count > 0)
                fail_msg("%s: %s", name, report.warnings.texts[0]);
            assert_shows(expected, row, expected->sample, name);
        }
        free(names);
    }
}

static void the_environment_wins_over_the_file(void **state) {
    struct buffer json = {0}, text = {0};

    (void)state;
    for (size_t i = 0; i < EXPECTATIONS; i++) {
        const struct expectation *expected = &expectations[i];
        const struct config_row *row = row_of(expected);
        /* Put the default into the environment, as it is spelt there. */
        const char *value = row->fallback;

        if (expected->path == NULL || expected->variables == NULL || value == NULL || *value == '\0')
            continue;
        sample_json(expected, row->type, &json);
        file_with(&text, expected->path, json.data);
        clearenv();
        setenv(strrchr(expected->variables, ' ') != NULL ? strrchr(expected->variables, ' ') + 1 : expected->variables,
               value, 1);
        if (!load(text.data))
            fail_msg("%s: %s", text.data, error.text);
        assert_shows(expected, row, strcmp(value, "none") == 0 ? "0" : value, expected->variables);
    }
    buffer_dispose(&json);
    buffer_dispose(&text);
}

static void a_wrong_type_in_the_file_is_an_error_with_file_and_path(void **state) {
    struct buffer text = {0};
    char start[200];

    (void)state;
    for (size_t i = 0; i < EXPECTATIONS; i++) {
        if (expectations[i].path == NULL)
            continue;
        file_with(&text, expectations[i].path, "{}");
        if (load(text.data))
            fail_msg("accepted: %s", text.data);
        snprintf(start, sizeof start, FILE_NAME ": %s must be ", expectations[i].path);
        assert_ptr_equal(strstr(error.text, start), error.text);
        assert_non_null(strstr(error.text, "not an object"));
    }
    buffer_dispose(&text);
}

static void a_bad_variable_is_a_warning_and_the_value_before_stays(void **state) {
    struct buffer json = {0}, text = {0};

    (void)state;
    for (size_t i = 0; i < EXPECTATIONS; i++) {
        const struct expectation *expected = &expectations[i];
        const struct config_row *row = row_of(expected);

        if (expected->path == NULL || expected->variables == NULL || row->type == CONFIG_TEXT ||
            row->type == CONFIG_LIST || strchr(expected->variables, ' ') != NULL ||
            (row->flags & CONFIG_FATAL_VARIABLE) != 0)
            continue;
        sample_json(expected, row->type, &json);
        file_with(&text, expected->path, json.data);
        clearenv();
        setenv(expected->variables, "no-such-value", 1);
        if (!load(text.data))
            fail_msg("%s: %s", expected->variables, error.text);
        assert_holds(report.warnings, expected->variables);
        assert_false(holds(&report.warnings, "no-such-value"));
        assert_shows(expected, row, expected->sample, "the file");
    }
    buffer_dispose(&json);
    buffer_dispose(&text);
}

static void a_wrong_place_to_listen_or_to_keep_things_is_an_error(void **state) {
    static const struct {
        const char *variable, *value, *right;
    } cases[] = {
        {"PORT", "abc", "a whole number from 0 to 65535"},
        {"PORT", "-1", "a whole number from 0 to 65535"},
        {"PORT", "70000", "a whole number from 0 to 65535"},
        {"PORT", "tcp://10.0.0.1:6001", "a whole number from 0 to 65535"},
        {"HOST", "0.0.0.0:6001", "a host name or an IP address, without a port"},
        {"HOST", "http://example", "a host name or an IP address, without a port"},
        {"HOST", "a b", "a host name or an IP address, without a port"},
        {"HOST", "[::1]", "a host name or an IP address, without a port"},
        {"UNIX_SOCKET_PATH", "run/c.sock", "an absolute path"},
    };
    char text[200];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        clearenv();
        setenv(cases[i].variable, cases[i].value, 1);
        if (load("{}"))
            fail_msg("accepted: %s=%s", cases[i].variable, cases[i].value);
        snprintf(text, sizeof text, "the environment variable %s must be %s", cases[i].variable, cases[i].right);
        assert_string_equal(error.text, text);
    }
    clearenv();
    setenv("METRICS_PORT", "abc", 1); /* another port is a warning */
    setenv("METRICS_HOST", "a b", 1);
    assert_true(load("{}"));
    assert_int_equal(report.warnings.count, 2);
}

static void hosts_are_names_and_addresses(void **state) {
    static const char *const hosts[] = {"localhost", "a-b.c_d.example", "127.0.0.1", "::", "::1", "fe80::1%eth0"};

    (void)state;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        setenv("HOST", hosts[i], 1);
        if (!load("{}"))
            fail_msg("%s: %s", hosts[i], error.text);
        assert_string_equal(config.host, hosts[i]);
    }
}

static void ports_that_kubernetes_sets_for_its_services_are_ignored_in_silence(void **state) {
    (void)state;
    setenv("METRICS_PORT", "tcp://10.0.0.1:9601", 1);
    setenv("DATABASE_MYSQL_PORT", "tcp://10.0.0.1:3306", 1);
    assert_true(load("{\"metrics\":{\"port\":7000}}"));
    assert_int_equal(config.metrics.port, 7000);
    assert_int_equal(config.database.mysql.port, 3306);
    assert_int_equal(report.warnings.count, 0);
    assert_int_equal(report.accepted.count, 0);
}

static void what_goes_into_a_header_of_answers_cannot_begin_another_one(void **state) {
    (void)state;
    setenv("CORS_METHODS", "GET, PUT\r\nSet-Cookie: a=b", 1);
    setenv("CORS_HEADERS", "Accept, X-Mine\n", 1); /* the end of the line of a file */
    assert_true(load("{\"cors\":{\"methods\":[\"POST\"]}}"));
    assert_holds(report.warnings, "CORS_METHODS must be a list of texts of printable ASCII");
    assert_int_equal(report.warnings.count, 1);
    assert_int_equal(config.cors.methods.count, 1);
    assert_string_equal(config.cors.methods.items[0], "POST");
    assert_string_equal(config.cors.allowed_headers.items[1], "X-Mine");
}

static void one_bad_variable_of_several_settings_is_told_once(void **state) {
    (void)state;
    setenv("CACHE_TTL_SECONDS", "soon", 1);
    assert_true(load(NULL));
    assert_holds(report.warnings, "CACHE_TTL_SECONDS must be a whole number");
    assert_true(report.warnings.count <= 2); /* where null is possible it says so */
}

static void variables_of_soketi_are_one_warning(void **state) {
    (void)state;
    setenv("SOKETI_DEFAULT_APP_SECRET", "hush", 1);
    setenv("SOKETI_PORT", "7000", 1);
    assert_true(load("{}"));
    assert_int_equal(report.warnings.count, 1);
    assert_holds(report.warnings,
                 "the environment variable SOKETI_DEFAULT_APP_SECRET and others that begin with SOKETI_ are not read; "
                 "`curlew convert soketi FILE --env FILE`");
    assert_false(holds(&report.warnings, "hush"));
    assert_int_equal(config.port, 6001);
}

static void an_empty_variable_is_unset(void **state) {
    (void)state;
    setenv("PORT", "", 1);
    setenv("SOCKUDO_DEFAULT_APP_ID", "", 1);
    assert_true(load("{\"port\":7000}"));
    assert_int_equal(report.warnings.count, 0);
    assert_int_equal(config.port, 7000);
}

static void numbers_out_of_range_are_errors(void **state) {
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"{\"port\":65536}", "port must be a whole number from 0 to 65535, not 65536"},
        {"{\"port\":-1}", "not -1"},
        {"{\"port\":60.5}", "not 60.5"},
        {"{\"port\":\"6001\"}", "port must be a whole number from 0 to 65535, not a text in quotation marks"},
        {"{\"debug\":\"true\"}", "debug must be true or false, not a text in quotation marks"},
        {"{\"port\":null}", "not null"},
        {"{\"port\":true}", "not true"},
        {"{\"port\":[]}", "not a list"},
        {"{\"activity_timeout\":0}", "from 1 to 86400"},
        {"{\"activity_timeout\":86401}", "from 1 to 86400"},
        {"{\"workers\":0}", "from 1 to 64"},
        {"{\"workers\":65}", "from 1 to 64"},
        {"{\"presence\":{\"max_members_per_channel\":4294967296}}", "from 0 to 4294967295"},
        {"{\"http_api\":{\"accept_traffic\":{\"memory_threshold\":0}}}", "a fraction above 0 and at most 1"},
        {"{\"http_api\":{\"accept_traffic\":{\"memory_threshold\":100.1}}}", "or a percentage up to 100"},
        {"{\"unix_socket\":{\"permission_mode\":\"888\"}}", "octal digits"},
        {"{\"unix_socket\":{\"permission_mode\":\"1777\"}}", "octal digits"},
        {"{\"unix_socket\":{\"permission_mode\":-1}}", "octal digits"},
        {"{\"unix_socket\":{\"path\":\"run/x.sock\"}}", "an absolute path"},
        {"{\"database\":{\"mysql\":{\"table_name\":\"a; DROP\"}}}", "letters, digits and underscores"},
        {"{\"database\":{\"postgres\":{\"table_name\":\"a-b\"}}}", "letters, digits and underscores"},
        {"{\"app_manager\":{\"scylladb\":{\"keyspace\":\"a.b\"}}}", "letters, digits and underscores"},
        {"{\"app_manager\":{\"scylladb\":{\"nodes\":[]}}}", "with at least one"},
        {"{\"database\":{\"dynamodb\":{\"table_name\":\"\"}}}", "hyphens and dots"},
        {"{\"metrics\":{\"prometheus\":{\"prefix\":\"9x\"}}}", "not beginning with a digit"},
        {"{\"cors\":{\"origin\":\"*\"}}", "a list of texts"},
        {"{\"cors\":{\"origin\":[1]}}", "a list of texts"},
        {"{\"cors\":{\"methods\":[\"GET\",\"PUT\\r\\nX: y\"]}}",
         "cors.methods must be a list of texts of printable ASCII"},
        {"{\"cors\":{\"allowed_headers\":[\"X-\u00e9\"]}}",
         "cors.allowed_headers must be a list of texts of printable"},
        {"{\"websocket\":{\"compression\":\"gzip\"}}", "one of disabled, dedicated, shared, window256b"},
        {"{\"database\":{\"mysql\":{\"tls\":{\"mode\":\"always\"}}}}", "one of disable, prefer, require, verify"},
        {"{\"host\":\"\"}", "host must be a host name or an IP address, without a port, not an empty text"},
        {"{\"path_prefix\":\"/a b\"}", "a URL path"},
        {"{\"metrics\":3}", "metrics must be an object, not 3"},
        {"{\"app_manager\":{\"array\":[]}}", "app_manager.array must be an object, not a list"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (load(cases[i].text))
            fail_msg("accepted: %s", cases[i].text);
        if (strstr(error.text, cases[i].part) == NULL || strncmp(error.text, FILE_NAME ": ", 11) != 0)
            fail_msg("%s: %s", cases[i].text, error.text);
    }
}

static void all_errors_are_reported_not_only_the_first(void **state) {
    (void)state;
    assert_false(load("{\"port\":\"x\",\"metrics\":{\"port\":-1},\"debug\":\"yes\",\"cors\":[]}"));
    assert_int_equal(report.errors.count, 4);
    assert_holds(report.errors, ": port must be");
    assert_holds(report.errors, ": metrics.port must be");
    assert_holds(report.errors, ": debug must be true or false");
    assert_holds(report.errors, ": cors must be an object");
    assert_string_equal(error.text, report.errors.texts[0]);
}

static void bad_json_is_told_with_line_and_column_and_without_its_content(void **state) {
    (void)state;
    assert_false(load("{\n  \"port\": 1,\n  \"ssl\": {\"passphrase\": \"hunter2\" \"x\"}\n}\n"));
    assert_ptr_equal(strstr(error.text, FILE_NAME ":3:"), error.text);
    assert_null(strstr(error.text, "hunter2"));
    assert_false(load("{\"password\": \"hunter2\n\"}"));
    assert_null(strstr(error.text, "hunter2"));
    assert_false(load("[]"));
    assert_non_null(strstr(error.text, "one JSON object"));
    assert_false(load("{\"port\":1,\n\"port\":2}"));
    assert_non_null(strstr(error.text, FILE_NAME ":2:"));
    assert_non_null(strstr(error.text, "duplicate"));
}

static void a_file_that_holds_nothing_is_said_to_be_empty(void **state) {
    (void)state;
    assert_false(load(""));
    assert_non_null(strstr(error.text, FILE_NAME ": the file is empty"));
    assert_false(load(" \n\t\n"));
    assert_non_null(strstr(error.text, "the file is empty"));
    assert_false(load("\xef\xbb\xbf"));
    assert_non_null(strstr(error.text, "the file is empty"));
}

static void the_mark_of_utf8_at_the_start_is_no_part_of_the_json(void **state) {
    (void)state;
    assert_true(load("\xef\xbb\xbf{\"port\":7000}"));
    assert_int_equal(config.port, 7000);
    assert_false(load("{\xef\xbb\xbf\"port\":7000}"));
}

static void secrets_stay_out_of_every_text(void **state) {
    char output[4096] = {0};
    FILE *out = fmemopen(output, sizeof output, "w");

    (void)state;
    setenv("DATABASE_POSTGRES_PORT", "hunter2", 1);
    setenv("CURLEW_ADMIN_TOKEN", "hunter2", 1);
    write_file(
        "{\"app_manager\":{\"array\":{\"apps\":[{\"id\":\"a\",\"key\":\"k\",\"secret\":\"hunter2\\n\"}]}},"
        "\"databse\":{\"password\":\"hunter2\"}}");
    assert_int_equal(check_configuration(FILE_NAME, true, false, out), 1);
    write_file(
        "{\"port\":\"hunter2\",\"websocket\":{\"compression\":\"hunter2\"},\"adapter\":{\"driver\":\"hunter2\"},"
        "\"database\":{\"mysql\":{\"password\":{\"hunter\":2},\"table_name\":\"hunter2!\"}}}");
    assert_int_equal(check_configuration(FILE_NAME, true, false, out), 2);
    fclose(out);
    assert_non_null(strstr(output, "CURLEW_ADMIN_TOKEN"));
    assert_non_null(strstr(output, "table_name"));
    assert_null(strstr(output, "hunter2"));
}

static void a_file_that_cannot_be_read_is_an_error(void **state) {
    (void)state;
    assert_false(config_load(&config, "no/such/file.json", &report, &error));
    assert_non_null(strstr(error.text, "no/such/file.json"));
    assert_false(config_load(&config, "/tmp", NULL, &error));
    assert_non_null(strstr(error.text, "/tmp"));
}

static void the_default_file_is_read_if_it_exists(void **state) {
    (void)state;
    write_file("{\"port\":7100}");
    assert_int_equal(mkdir("config", 0700), 0);
    assert_int_equal(rename(FILE_NAME, "config/config.json"), 0);
    assert_true(load(NULL));
    assert_int_equal(config.port, 7100);
    assert_string_equal(config.file, "config/config.json");
    assert_true(load("{}")); /* never both */
    assert_int_equal(config.port, 6001);
    assert_int_equal(unlink("config/config.json"), 0);
    assert_int_equal(rmdir("config"), 0);
}

static void an_unknown_key_is_a_warning_that_names_it(void **state) {
    (void)state;
    assert_true(
        load("{\"frobnicate\":1,\"metrics\":{\"prometheus\":{\"prefx\":\"x\"}},\"prot\":1,"
             "\"cors\":{\"redis\":{\"a\":{\"b\":1}}},\"ssl\":{\"tls.port\":1},\"batching\":{},"
             "\"nested\":{\"a\":1},\"pool_min\":1,\"permission_mode\":3,\"a\\nb\":1}"));
    assert_holds(report.warnings, FILE_NAME ": frobnicate is not a setting");
    assert_holds(report.warnings,
                 "metrics.prometheus.prefx is not a setting of this server and is ignored; did you "
                 "mean metrics.prometheus.prefix?");
    assert_holds(report.warnings, "did you mean port?");
    assert_holds(report.warnings, "cors.redis is not");
    assert_false(holds(&report.warnings, "cors.redis.a"));
    assert_holds(report.warnings,
                 "ssl.tls.port is not a setting of this server and is ignored: a section is an object");
    assert_holds(report.warnings, "did you mean unix_socket.permission_mode?");
    assert_holds(report.warnings, "a\\x0ab is not");
    assert_int_equal(report.warnings.count, 10);
    assert_int_equal(config.port, 6001);
}

static void a_setting_in_another_place_is_a_warning_that_names_the_right_one(void **state) {
    (void)state;
    assert_true(
        load("{\"apps\":[],\"app_manager\":{\"apps\":[]},\"log_level\":\"debug\",\"logging\":{\"level\":\"debug\","
             "\"format\":\"json\"},\"admin\":{}}"));
    assert_int_equal(report.warnings.count, 6);
    assert_holds(report.warnings,
                 ": apps is not a setting of this server and is ignored; did you mean "
                 "app_manager.array.apps?");
    assert_holds(report.warnings,
                 ": app_manager.apps is not a setting of this server and is ignored; did you mean "
                 "app_manager.array.apps?");
    assert_holds(report.warnings,
                 ": log_level is not a setting of this server and is ignored; the environment variable "
                 "LOG_LEVEL sets the log level");
    assert_holds(report.warnings,
                 ": logging.level is not a setting of this server and is ignored; the environment "
                 "variable LOG_LEVEL sets the log level");
    assert_holds(report.warnings, "LOG_OUTPUT_FORMAT");
    assert_holds(report.warnings, "CURLEW_ADMIN_TOKEN");
    assert_true(load("{\"logLevel\":\"debug\",\"ssl_enabled\":true,\"activityTimeout\":10}"));
    assert_holds(report.warnings, "logLevel is not a setting of this server and is ignored; the environment variable");
    assert_holds(report.warnings, "did you mean ssl.enabled?");
    assert_holds(report.warnings, "did you mean activity_timeout?");
}

static void a_key_that_is_like_no_other_gets_no_suggestion(void **state) {
    (void)state;
    assert_true(load("{\"log\":{},\"c\":1,\"webhook\":[]}"));
    assert_holds(report.warnings, ": log is not a setting of this server and is ignored");
    assert_false(holds(&report.warnings, "did you mean ?"));
}

static void a_wrong_word_is_told_with_the_one_that_was_probably_meant(void **state) {
    (void)state;
    assert_false(load("{\"app_manager\":{\"driver\":\"postgress\"}}"));
    assert_non_null(strstr(error.text, "; did you mean postgres?"));
    assert_false(load("{\"app_manager\":{\"driver\":\"redis\"}}"));
    assert_ptr_equal(strstr(error.text, "did you mean"), NULL);
    assert_ptr_equal(strstr(error.text, ", not "), NULL);
    assert_false(load("{\"unix_socket\":{\"path\":\"run/c.sock\"}}"));
    assert_string_equal(error.text, FILE_NAME ": unix_socket.path must be an absolute path");
    assert_false(load("{\"cors\":{\"origin\":[1]}}"));
    assert_string_equal(error.text, FILE_NAME ": cors.origin must be a list of texts of printable ASCII");
    setenv("WEBSOCKET_COMPRESSION", "dedicatd", 1);
    assert_true(load("{}"));
    assert_holds(report.warnings, "; did you mean dedicated? It is ignored, and the earlier value stays");
}

static void keys_of_the_family_without_meaning_here_are_accepted_in_silence(void **state) {
    (void)state;
    assert_true(
        load("{\"cache\":{\"redis\":{\"cluster_mode\":false},\"memory\":{\"cleanup_interval\":60}},"
             "\"cleanup\":{\"async_enabled\":true},\"queue\":{\"driver\":\"redis\",\"redis\":{},\"sqs\":{}},"
             "\"rate_limiter\":{\"driver\":\"memory\",\"redis\":{},\"api_rate_limit\":{\"identifier\":\"api\"},"
             "\"websocket_rate_limit\":{\"identifier\":\"ws\"}},\"metrics\":{\"driver\":\"prometheus\"},"
             "\"cluster_health\":{},\"adapter\":{\"buffer_multiplier_per_cpu\":64,\"enable_socket_counting\":true,"
             "\"redis\":{\"cluster_mode\":false},\"cluster\":{\"use_connection_manager\":true},"
             "\"nats\":{\"nodes_number\":null,\"discovery_max_wait_ms\":1000,\"no_echo\":true},"
             "\"cluster_health\":{\"cleanup_interval_ms\":10000}},\"database\":{\"redis\":{}},"
             "\"websocket\":{\"idle_timeout\":1,\"ping_interval\":2,\"auto_ping\":true,\"write_buffer_size\":1}}"));
    assert_int_equal(report.warnings.count, 0);
    assert_int_equal(report.accepted.count, 23);
    assert_holds(report.accepted, "cluster_health");
    assert_holds(report.accepted, "websocket.auto_ping");
    assert_holds(report.accepted, "rate_limiter.api_rate_limit.identifier");
    assert_true(
        load("{\"rate_limiter\":{\"enabeld\":true},\"queue\":{\"drivr\":\"x\"},\"adapter\":{\"drivr\":\"x\"}}"));
    assert_holds(report.warnings, "did you mean rate_limiter.enabled?");
    assert_holds(report.warnings, "did you mean queue.driver?");
    assert_holds(report.warnings, "did you mean adapter.driver?");
}

static void booleans_in_the_environment_are_words_in_any_case(void **state) {
    static const char *const yes[] = {"true", "1", "yes", "on", "TRUE", "Yes", " on "};
    static const char *const no[] = {"false", "0", "no", "off", "FALSE", "No"};

    (void)state;
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        setenv("SSL_ENABLED", yes[i], 1);
        assert_true(load("{}"));
        assert_true(config.ssl.enabled);
    }
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        setenv("SSL_ENABLED", no[i], 1);
        assert_true(load("{\"ssl\":{\"enabled\":true}}"));
        assert_false(config.ssl.enabled);
    }
}

static void debug_mode_wins_over_debug(void **state) {
    (void)state;
    setenv("DEBUG", "false", 1);
    setenv("DEBUG_MODE", "true", 1);
    assert_true(load(NULL));
    assert_true(config.debug);
}

static void none_and_0_and_null_mean_no_limit_for_messages_and_bytes(void **state) {
    (void)state;
    setenv("WEBSOCKET_MAX_MESSAGES", "none", 1);
    assert_true(load("{\"websocket\":{\"max_bytes\":null}}"));
    assert_int_equal(config.websocket.max_messages, 0);
    assert_int_equal(config.websocket.max_bytes, 0);
    clearenv();
    assert_true(load("{\"websocket\":{\"max_messages\":0,\"max_bytes\":\"none\"}}"));
    assert_int_equal(config.websocket.max_messages, 0);
    assert_true(load("{\"delta_compression\":{\"max_conflation_states_per_channel\":null,\"algorithm\":\"zstd\"}}"));
    assert_int_equal(config.delta_compression.max_conflation_states_per_channel, 0);
    assert_int_equal(config.delta_compression.algorithm, CONFIG_DELTA_FOSSIL);
}

static void the_smallest_bound_on_messages_wins(void **state) {
    (void)state;
    assert_true(load("{}"));
    assert_int_equal(config_max_message_bytes(&config), 65536);
    assert_true(load("{\"websocket\":{\"max_message_size\":1000}}"));
    assert_int_equal(config_max_message_bytes(&config), 1000);
}

static void a_path_prefix_has_one_spelling(void **state) {
    static const char *const spellings[] = {"app", "/app", "app/", "/app/", "//app//"};
    char text[64];

    (void)state;
    for (size_t i = 0; i < sizeof spellings / sizeof spellings[0]; i++) {
        snprintf(text, sizeof text, "{\"path_prefix\":\"%s\"}", spellings[i]);
        assert_true(load(text));
        assert_string_equal(config.path_prefix, "/app");
    }
}

static void the_file_mode_of_the_unix_socket_is_octal_as_text_or_number(void **state) {
    (void)state;
    assert_true(load("{\"unix_socket\":{\"permission_mode\":600}}"));
    assert_int_equal(config.unix_socket.permission_mode, 0600);
    assert_true(load("{\"unix_socket\":{\"permission_mode\":\"0755\"}}"));
    assert_int_equal(config.unix_socket.permission_mode, 0755);
}

static void workers_and_process_id_have_defaults_of_their_own(void **state) {
    char first[37];

    (void)state;
    assert_true(load(NULL));
    assert_in_range(config.workers, 1, CONFIG_WORKERS_MAX);
    assert_int_equal(strlen(config.instance.process_id), 36);
    assert_int_equal(config.instance.process_id[14], '4');
    memcpy(first, config.instance.process_id, sizeof first);
    assert_true(load(NULL));
    assert_string_not_equal(config.instance.process_id, first);
}

static void the_ttl_of_cache_channels_falls_back_to_the_memory_cache(void **state) {
    (void)state;
    assert_true(load("{\"cache\":{\"memory\":{\"ttl\":77}}}"));
    assert_int_equal(config.channel_limits.cache_ttl_s, 77);
    assert_true(load("{\"cache\":{\"memory\":{\"ttl\":77}},\"channel_limits\":{\"cache_ttl\":3600}}"));
    assert_int_equal(config.channel_limits.cache_ttl_s, 3600);
}

static void scylladb_is_read_key_by_key_environment_app_manager_database(void **state) {
    (void)state;
    setenv("DATABASE_SCYLLADB_TABLE_NAME", "from_environment", 1);
    assert_true(
        load("{\"app_manager\":{\"scylladb\":{\"keyspace\":\"from_app_manager\",\"table_name\":\"x\"}},"
             "\"database\":{\"scylladb\":{\"keyspace\":\"y\",\"username\":\"from_database\"}}}"));
    assert_string_equal(config.database.scylladb.table_name, "from_environment");
    assert_string_equal(config.database.scylladb.keyspace, "from_app_manager");
    assert_string_equal(config.database.scylladb.username, "from_database");
}

static void pool(const char *text, const struct config_sql *sql, uint32_t least, uint32_t most) {
    uint32_t min, max;

    assert_true(load(text));
    assert_true(config_pool_sizes(&config, sql, &min, &max, &error));
    if (min != least || max != most)
        fail_msg("%s: %u to %u", text, min, max);
}

static void pool_sizes_come_from_the_nearest_setting(void **state) {
    (void)state;
    pool("{}", &config.database.mysql, 2, 10);
    pool("{}", NULL, 2, 10);
    pool("{\"database\":{\"mysql\":{\"connection_pool_size\":5}}}", &config.database.mysql, 5, 5);
    pool("{\"database\":{\"mysql\":{\"connection_pool_size\":5}},\"database_pooling\":{\"max\":6}}",
         &config.database.mysql, 5, 6);
    pool("{\"database\":{\"mysql\":{\"connection_pool_size\":5}},\"database_pooling\":{\"enabled\":false,\"max\":6}}",
         &config.database.mysql, 5, 5);
    pool("{\"database\":{\"mysql\":{\"pool_min\":1,\"pool_max\":null}},\"database_pooling\":{\"min\":3,\"max\":6}}",
         &config.database.mysql, 1, 6);
    pool("{\"database\":{\"postgres\":{\"pool_max\":40}}}", &config.database.postgres, 2, 40);
    assert_false(load("{\"database\":{\"postgres\":{\"pool_min\":4,\"pool_max\":3}}}"));
    assert_non_null(
        strstr(error.text, "database.postgres.pool_min is 4, above database.postgres.pool_max, which is 3"));
    assert_false(load("{\"database_pooling\":{\"min\":11}}"));
    assert_non_null(strstr(error.text, "database_pooling.min is 11"));
}

static void drivers_have_aliases_in_any_case(void **state) {
    static const struct {
        const char *name;
        enum config_driver driver;
    } names[] = {
        {"Memory", CONFIG_DRIVER_MEMORY},      {"SQLite", CONFIG_DRIVER_SQLITE},
        {"mysql", CONFIG_DRIVER_MYSQL},        {"postgres", CONFIG_DRIVER_POSTGRES},
        {"PGSQL", CONFIG_DRIVER_POSTGRES},     {"postgresql", CONFIG_DRIVER_POSTGRES},
        {"dynamodb", CONFIG_DRIVER_DYNAMODB},  {"scylladb", CONFIG_DRIVER_SCYLLADB},
        {"Cassandra", CONFIG_DRIVER_SCYLLADB}, {"scylla", CONFIG_DRIVER_SCYLLADB},
        {"Array", CONFIG_DRIVER_MEMORY},       {"MariaDB", CONFIG_DRIVER_MYSQL},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        char text[100];
        snprintf(text, sizeof text, "{\"app_manager\":{\"driver\":\"%s\"}}", names[i].name);
        assert_true(load(text));
        assert_int_equal(config.app_manager.driver, names[i].driver);
        setenv("APP_MANAGER_DRIVER", names[i].name, 1);
        assert_true(load("{}"));
        assert_int_equal(config.app_manager.driver, names[i].driver);
        unsetenv("APP_MANAGER_DRIVER");
    }
}

static void a_driver_that_is_none_is_an_error_that_names_those_there_are(void **state) {
    (void)state;
    setenv("APP_MANAGER_DRIVER", "redis", 1);
    assert_false(load(NULL));
    assert_non_null(strstr(error.text, "APP_MANAGER_DRIVER must be one of memory, sqlite, mysql"));
    clearenv();
    assert_false(load("{\"app_manager\":{\"driver\":\"redis\"}}"));
    assert_non_null(strstr(error.text, "app_manager.driver must be one of"));
}

static void an_adapter_that_is_none_is_an_error(void **state) {
    (void)state;
    assert_false(load("{\"adapter\":{\"driver\":\"kafka\"}}"));
    assert_string_equal(error.text, FILE_NAME ": adapter.driver must be one of local, redis, redis-cluster, nats");
    setenv("ADAPTER_DRIVER", "pulsar", 1);
    assert_false(load("{}"));
    assert_string_equal(error.text,
                        "the environment variable ADAPTER_DRIVER must be one of local, redis, "
                        "redis-cluster, nats");
    clearenv();
    assert_true(load("{\"adapter\":{\"driver\":\"Redis-Cluster\"}}"));
    assert_string_equal(config.adapter.driver, "redis-cluster");
    assert_true(config_has_adapter(&config));
    assert_true(load("{\"adapter\":{\"driver\":\"LOCAL\"}}"));
    assert_false(config_has_adapter(&config));
}

static void an_adapter_that_the_build_lacks_is_an_error(void **state) {
    (void)state;
    assert_true(load("{\"adapter\":{\"driver\":\"nats\"}}"));
    strcpy(config.adapter.driver, "tans"); /* no build has this one */
    assert_false(check_adapter(&config, &report));
    assert_holds(report.errors,
                 FILE_NAME ": adapter.driver (ADAPTER_DRIVER) must be one of the adapters of this build: local");
    assert_true(load("{}"));
    assert_true(check_adapter(&config, &report));
}

static void three_heartbeats_fit_into_the_timeout_of_a_node(void **state) {
    (void)state;
    setenv("ADAPTER_DRIVER", "redis", 1);
    assert_true(load("{\"adapter\":{\"cluster_health\":{\"heartbeat_interval_ms\":1000,\"node_timeout_ms\":3000}}}"));
    assert_false(load("{\"adapter\":{\"cluster_health\":{\"heartbeat_interval_ms\":1001,\"node_timeout_ms\":3000}}}"));
    assert_non_null(strstr(error.text, FILE_NAME
                           ": adapter.cluster_health.heartbeat_interval_ms is 1001, and must be at most a third of "
                           "adapter.cluster_health.node_timeout_ms, which is 3000"));
    assert_false(load("{\"adapter\":{\"cluster_health\":{\"node_timeout_ms\":20000}}}"));
    assert_non_null(strstr(error.text, FILE_NAME
                           ": adapter.cluster_health.node_timeout_ms is 20000, and must be at least three times "
                           "adapter.cluster_health.heartbeat_interval_ms, which is 10000"));
    setenv("CLUSTER_HEALTH_HEARTBEAT_INTERVAL", "6000", 1);
    assert_true(load("{\"adapter\":{\"cluster_health\":{\"node_timeout_ms\":20000}}}"));
    setenv("ADAPTER_DRIVER", "local", 1); /* without other nodes, both are of no interest */
    assert_true(load("{\"adapter\":{\"cluster_health\":{\"node_timeout_ms\":30,\"enabled\":false}}}"));
    assert_int_equal(report.warnings.count, 0);
}

static void settings_of_the_adapter_that_do_nothing_are_warnings(void **state) {
    (void)state;
    assert_true(load("{\"adapter\":{\"driver\":\"redis\",\"cluster_health\":{\"enabled\":false}}}"));
    assert_int_equal(report.warnings.count, 1);
    assert_holds(report.warnings, FILE_NAME ": adapter.cluster_health.enabled is false, but heartbeats go on");
    assert_true(
        load("{\"adapter\":{\"driver\":\"redis\",\"redis\":{\"redis_pub_options\":{\"url\":\"redis://a\"}}},"
             "\"database\":{\"redis\":{\"sentinels\":[{\"host\":\"s\"}]}}}"));
    assert_int_equal(report.warnings.count, 1);
    assert_holds(report.warnings, "database.redis.sentinels is not used by the adapter");
    assert_true(load("{\"adapter\":{\"redis\":{\"redis_pub_options\":{\"password\":\"p\"}}}}"));
    assert_holds(report.warnings, "adapter.redis.redis_pub_options.password is not a setting");
    assert_true(load("{\"cache\":{\"driver\":\"rediss\"}}"));
    assert_holds(report.warnings, "so it is memory; did you mean redis?");
}

/* What a server is made of, in one text. */
static const char *show_server(const struct config_redis_server *server) {
    static char text[512];

    snprintf(text, sizeof text, "%s%s %u/%u %s %s", server->tls ? "TLS " : "", server->host, server->port, server->db,
             server->username != NULL ? server->username : "-", server->password != NULL ? server->password : "-");
    return text;
}

static void urls_of_redis_are_read(void **state) {
    static const struct {
        const char *url, *shown;
    } cases[] = {
        {"redis://h", "h 6379/0 - -"},
        {"redis://h:6380/", "h 6380/0 - -"},
        {"redis://u:p@h.example:6380/3", "h.example 6380/3 u p"},
        {"rediss://:p%40ss%3aw%2Ford@127.0.0.1/15?protocol=3", "TLS 127.0.0.1 6379/15 - p@ss:w/ord"},
        {"redis://a@b@h", "h 6379/0 a@b -"},
        {"rediss://default:a:b@[2001:db8::1]:6380", "TLS 2001:db8::1 6380/0 default a:b"},
        {"h_1", "h_1 6379/0 - -"},
        {"h:1", "h 1/0 - -"},
        {"::1", "::1 6379/0 - -"},
        {"[::1]:7000", "::1 7000/0 - -"},
    };
    static const char *const bad[] = {"",
                                      "redis://",
                                      "redis://h:0",
                                      "redis://h:65536",
                                      "redis://h:x",
                                      "redis://h/x",
                                      "redis://[::1",
                                      "redis://h:1:2",
                                      "http://h",
                                      "redis://a b",
                                      "redis://:%00@h",
                                      "redis://[h]:1",
                                      "[::1]x",
                                      "redis://h/-1",
                                      "redis+sentinel://h"};
    struct config_redis_server server;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!config_redis_parse(cases[i].url, CONFIG_REDIS_PORT, &server))
            fail_msg("refused: %s", cases[i].url);
        assert_string_equal(show_server(&server), cases[i].shown);
        config_redis_server_dispose(&server);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (config_redis_parse(bad[i], CONFIG_REDIS_PORT, &server))
            fail_msg("accepted: %s as %s", bad[i], show_server(&server));
        config_redis_server_dispose(&server);
    }
}

static void assert_server(enum config_redis_use use, const char *key, const char *shown) {
    struct config_redis_server server;

    assert_string_equal(config_redis_server(&config, use, &server), key);
    assert_string_equal(show_server(&server), shown);
    config_redis_server_dispose(&server);
}

static void each_use_of_redis_has_its_server(void **state) {
    (void)state;
    assert_true(
        load("{\"database\":{\"redis\":{\"host\":\"db\",\"port\":6380,\"db\":2,\"username\":\"u\",\"password\":"
             "\"p\",\"sentinel_password\":\"sp\",\"sentinels\":[{\"host\":\"s1\",\"port\":26380},\"s2\","
             "{\"host\":\"::1\",\"port\":\"${PORT_OF_S3:-7}\"}]}}}"));
    assert_server(CONFIG_REDIS_PUBLISH, "database.redis.host and port", "db 6380/2 u p");
    assert_server(CONFIG_REDIS_CACHE, "database.redis.host and port", "db 6380/2 u p");
    assert_true(config_redis_uses_sentinel(&config, CONFIG_REDIS_CACHE));
    for (size_t i = 0; i < 3; i++) {
        static const char *const shown[] = {"s1 26380/0 - sp", "s2 26379/0 - sp", "::1 7/0 - sp"};
        struct config_redis_server server;

        config_redis_sentinel(&config, i, &server);
        assert_string_equal(show_server(&server), shown[i]);
        config_redis_server_dispose(&server);
    }
    assert_true(
        load("{\"adapter\":{\"redis\":{\"redis_pub_options\":{\"url\":\"redis://a\"}}},\"database\":{\"redis\":"
             "{\"host\":\"rediss://db\",\"sentinels\":[\"s\"]}}}"));
    assert_server(CONFIG_REDIS_PUBLISH, "adapter.redis.redis_pub_options.url", "a 6379/0 - -");
    assert_server(CONFIG_REDIS_SUBSCRIBE, "adapter.redis.redis_pub_options.url", "a 6379/0 - -");
    assert_server(CONFIG_REDIS_CACHE, "database.redis.host and port", "TLS db 6379/0 - -");
    assert_false(config_redis_uses_sentinel(&config, CONFIG_REDIS_SUBSCRIBE));
    setenv("REDIS_URL", "redis://:q@b/4", 1);
    assert_true(load("{\"adapter\":{\"redis\":{\"redis_pub_options\":{\"url\":\"redis://a\"}}}}"));
    assert_server(CONFIG_REDIS_PUBLISH, "REDIS_URL", "b 6379/4 - q");
    assert_server(CONFIG_REDIS_SUBSCRIBE, "REDIS_URL", "b 6379/4 - q");
    assert_server(CONFIG_REDIS_CACHE, "REDIS_URL", "b 6379/4 - q");
}

static void assert_seed(size_t index, const char *key, const char *shown) {
    struct config_redis_server server;
    const char *found;

    assert_true(config_redis_seed(&config, index, &server, &found));
    assert_string_equal(found, key);
    assert_string_equal(show_server(&server), shown);
    config_redis_server_dispose(&server);
}

static void nodes_of_a_redis_cluster_have_the_clusters_password(void **state) {
    struct config_redis_server server;
    const char *key;

    (void)state;
    assert_true(load("{\"database\":{\"redis\":{\"host\":\"db\",\"port\":6380,\"db\":2,\"password\":\"p\"}}}"));
    assert_seed(0, "database.redis.host and port", "db 6380/0 - p");
    assert_false(config_redis_seed(&config, 1, &server, &key));
    assert_true(
        load("{\"database\":{\"redis\":{\"password\":\"p\",\"cluster\":{\"use_tls\":true,\"username\":\"u\","
             "\"password\":\"cp\",\"nodes\":[{\"host\":\"n1\",\"port\":7000},{\"host\":\"redis://n2\"}]}}}}"));
    assert_seed(0, "database.redis.cluster.nodes", "TLS n1 7000/0 u cp");
    assert_seed(1, "database.redis.cluster.nodes", "TLS n2 6379/0 u cp");
    assert_false(config_redis_seed(&config, 2, &server, &key));
    assert_true(
        load("{\"adapter\":{\"cluster\":{\"nodes\":[\"rediss://:own@n3:7001\",\"n4:7002\"]}},\"database\":{\"redis\":"
             "{\"cluster_nodes\":[\"n1\"]}}}"));
    assert_seed(0, "adapter.cluster.nodes", "TLS n3 7001/0 - own");
    assert_seed(1, "adapter.cluster.nodes", "n4 7002/0 - -");
}

/* The setting of the first node's password, for messages; NULL: its URL is to hold it. */
static const char *password_key_of_seed(const char *members) {
    struct config_redis_server server;
    const char *key, *password_key;

    assert_true(load(members));
    assert_true(config_redis_seed(&config, 0, &server, &key));
    password_key = server.password_key;
    config_redis_server_dispose(&server);
    return password_key;
}

static void messages_name_the_setting_of_a_password(void **state) {
    struct config_redis_server server;

    (void)state;
    assert_true(load("{\"database\":{\"redis\":{\"sentinels\":[\"s\",\"redis://:p@t\"]}}}"));
    config_redis_server(&config, CONFIG_REDIS_PUBLISH, &server);
    assert_string_equal(server.username_key, "database.redis.username");
    assert_string_equal(server.password_key, "database.redis.password");
    config_redis_server_dispose(&server);
    config_redis_sentinel(&config, 0, &server);
    assert_string_equal(server.password_key, "database.redis.sentinel_password");
    config_redis_server_dispose(&server);
    config_redis_sentinel(&config, 1, &server);
    assert_null(server.password_key);
    config_redis_server_dispose(&server);
    assert_string_equal(password_key_of_seed("{}"), "database.redis.password");
    assert_string_equal(password_key_of_seed("{\"database\":{\"redis\":{\"cluster\":{\"password\":\"p\"}}}}"),
                        "database.redis.cluster.password");
    assert_null(password_key_of_seed("{\"adapter\":{\"cluster\":{\"nodes\":[\"redis://:p@n\"]}}}"));
}

static void the_item_of_a_list_that_is_wrong_is_said(void **state) {
    (void)state;
    assert_false(load("{\"adapter\":{\"cluster\":{\"nodes\":[\"a:1\",\"http://b\"]}}}"));
    assert_non_null(strstr(error.text,
                           "adapter.cluster.nodes must be a list of servers, each HOST:PORT, a URL like "
                           "redis://host:6379, or an object of host and port; item 2 is not"));
    assert_false(load("{\"adapter\":{\"nats\":{\"servers\":[{},\"nats://a\"]}}}"));
    assert_non_null(strstr(error.text, "; item 1 is not"));
}

static void a_password_of_the_message_system_makes_the_file_a_secret(void **state) {
    static const char *const secret[] = {
        "{\"database\":{\"redis\":{\"password\":\"p\"}}}",
        "{\"database\":{\"redis\":{\"sentinel_password\":\"p\"}}}",
        "{\"database\":{\"redis\":{\"cluster\":{\"password\":\"p\"}}}}",
        "{\"adapter\":{\"redis\":{\"redis_pub_options\":{\"url\":\"redis://:p@h\"}}}}",
        "{\"adapter\":{\"redis\":{\"redis_sub_options\":{\"url\":\"redis://:p@h\"}}}}",
        "{\"adapter\":{\"cluster\":{\"nodes\":[\"a\",\"redis://:p@h\"]}}}",
        "{\"adapter\":{\"nats\":{\"servers\":[\"nats://u:p@h\"]}}}",
        "{\"adapter\":{\"nats\":{\"token\":\"p\"}}}",
        "{\"adapter\":{\"nats\":{\"password\":\"p\"}}}",
        "{\"cache\":{\"redis\":{\"url_override\":\"rediss://:p@h\"}}}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof secret / sizeof secret[0]; i++) {
        if (!load(secret[i]))
            fail_msg("%s: %s", secret[i], error.text);
        if (!config.file_holds_secrets)
            fail_msg("not secret: %s", secret[i]);
    }
    assert_true(load("{\"adapter\":{\"redis\":{\"redis_pub_options\":{\"url\":\"redis://h\"}}}}"));
    assert_false(config.file_holds_secrets);
    setenv("REDIS_URL", "redis://:p@h", 1);
    assert_true(load("{\"adapter\":{\"redis\":{\"redis_pub_options\":{\"url\":\"redis://h\"}}}}"));
    assert_false(config.file_holds_secrets);
}

/* The sections for several nodes of config/node1.json in Sockudo's compose set. */
static void the_familys_file_for_several_nodes_loads_without_a_warning(void **state) {
    (void)state;
    assert_true(load(
        "{\"adapter\":{\"driver\":\"redis\",\"redis\":{\"requests_timeout\":5000,\"prefix\":\"sockudo_adapter:\","
        "\"cluster_mode\":false,\"redis_pub_options\":{\"url\":\"redis://localhost:6379\"},"
        "\"redis_sub_options\":{\"url\":\"redis://localhost:6379\"}},\"cluster\":{\"nodes\":[],"
        "\"prefix\":\"sockudo_cluster:\",\"request_timeout_ms\":5000,\"use_connection_manager\":true},"
        "\"nats\":{\"servers\":[\"nats://nats:4222\"],\"prefix\":\"sockudo_nats:\",\"request_timeout_ms\":5000,"
        "\"connection_timeout_ms\":5000},\"cluster_health\":{\"enabled\":true,\"heartbeat_interval_ms\":10000,"
        "\"node_timeout_ms\":30000,\"cleanup_interval_ms\":10000}},\"cache\":{\"driver\":\"redis\",\"redis\":"
        "{\"prefix\":\"sockudo_cache:\",\"cluster_mode\":false,\"url_override\":\"rediss://default:x@redis:6379\"},"
        "\"memory\":{\"ttl\":300,\"cleanup_interval\":60,\"max_capacity\":10000}},\"database\":{\"redis\":"
        "{\"host\":\"redis\",\"port\":6379,\"db\":0,\"key_prefix\":\"sockudo:\",\"sentinels\":[],"
        "\"cluster_nodes\":[]}},\"queue\":{\"driver\":\"redis\",\"redis\":{\"concurrency\":5,"
        "\"prefix\":\"sockudo_queue:\",\"cluster_mode\":false},\"redis_cluster\":{\"concurrency\":5,\"nodes\":[],"
        "\"request_timeout_ms\":5000}},\"rate_limiter\":{\"driver\":\"redis\",\"redis\":{\"prefix\":\"rl:\","
        "\"cluster_mode\":false}}}"));
    assert_int_equal(report.warnings.count, 0);
    assert_int_equal(config.cache.driver, CONFIG_CACHE_REDIS);
    assert_false(holds(&report.accepted, "redis_pub_options"));
}

static void the_log_level_is_log_levels_else_rust_logs(void **state) {
    static const struct {
        const char *log_level, *rust_log;
        enum log_level level;
    } cases[] = {
        {NULL, NULL, LOG_INFO},
        {"warn", "debug", LOG_WARNING},
        {NULL, "debug", LOG_DEBUG},
        {NULL, "sockudo=debug,tower=info,error", LOG_ERROR},
        {NULL, "sockudo=debug,tower=info", LOG_DEBUG},
        {NULL, "TRACE", LOG_DEBUG},
        {"loud", "warn", LOG_WARNING},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        clearenv();
        if (cases[i].log_level != NULL)
            setenv("LOG_LEVEL", cases[i].log_level, 1);
        if (cases[i].rust_log != NULL)
            setenv("RUST_LOG", cases[i].rust_log, 1);
        assert_true(load(NULL));
        assert_int_equal(config_log_settings(&config).level, cases[i].level);
    }
    clearenv();
    assert_true(load("{\"debug\":true}"));
    assert_int_equal(config_log_settings(&config).level, LOG_DEBUG);
    setenv("RUST_LOG", "loud", 1);
    assert_true(load(NULL));
    assert_holds(report.warnings, "RUST_LOG");
}

static void a_short_admin_token_leaves_the_admin_api_off(void **state) {
    (void)state;
    setenv("CURLEW_ADMIN_TOKEN", "0123456789abcdef0123456789abcde", 1);
    assert_true(load(NULL));
    assert_null(config.admin.token);
    assert_holds(report.warnings, "CURLEW_ADMIN_TOKEN must have 32 characters");
}

static void assert_apps(const char *expected) {
    json_t *wanted = json_loads(expected, 0, NULL);

    assert_non_null(wanted);
    if (!json_equal(config.app_manager.array_apps, wanted)) {
        char *found = json_dumps(config.app_manager.array_apps, JSON_COMPACT);

        fail_msg("%s is not %s", found, expected);
    }
    json_decref(wanted);
}

static void set_default_app(void) {
    setenv("SOCKUDO_DEFAULT_APP_ID", "env", 1);
    setenv("SOCKUDO_DEFAULT_APP_KEY", "env-key", 1);
    setenv("SOCKUDO_DEFAULT_APP_SECRET", "env-secret", 1);
}

static void the_environments_app_takes_all_of_its_variables(void **state) {
    static const char *const numbers[] = {"MAX_CONNECTIONS",
                                          "MAX_CLIENT_EVENTS_PER_SECOND",
                                          "MAX_READ_REQUESTS_PER_SECOND",
                                          "MAX_BACKEND_EVENTS_PER_SECOND",
                                          "MAX_PRESENCE_MEMBERS_PER_CHANNEL",
                                          "MAX_PRESENCE_MEMBER_SIZE_IN_KB",
                                          "MAX_CHANNEL_NAME_LENGTH",
                                          "MAX_EVENT_CHANNELS_AT_ONCE",
                                          "MAX_EVENT_NAME_LENGTH",
                                          "MAX_EVENT_PAYLOAD_IN_KB",
                                          "MAX_EVENT_BATCH_SIZE"};
    char name[80], value[8];

    (void)state;
    set_default_app();
    for (size_t i = 0; i < 11; i++) {
        snprintf(name, sizeof name, "SOCKUDO_DEFAULT_APP_%s", numbers[i]);
        snprintf(value, sizeof value, "%zu", i + 1);
        setenv(name, value, 1);
    }
    setenv("SOCKUDO_DEFAULT_APP_ENABLED", "off", 1);
    setenv("SOCKUDO_DEFAULT_APP_ENABLE_USER_AUTHENTICATION", "1", 1);
    setenv("SOCKUDO_DEFAULT_APP_ENABLE_WATCHLIST_EVENTS", "yes", 1);
    setenv("SOCKUDO_DEFAULT_APP_ALLOWED_ORIGINS", "https://a.example, *.b.example,", 1);
    setenv("SOCKUDO_ENABLE_CLIENT_MESSAGES", "true", 1);
    assert_true(load(NULL));
    assert_int_equal(report.warnings.count, 0);
    assert_apps(
        "[{\"id\":\"env\",\"key\":\"env-key\",\"secret\":\"env-secret\",\"enabled\":false,"
        "\"enable_client_messages\":true,\"max_connections\":1,\"max_client_events_per_second\":2,"
        "\"max_read_requests_per_second\":3,\"max_backend_events_per_second\":4,"
        "\"max_presence_members_per_channel\":5,\"max_presence_member_size_in_kb\":6,"
        "\"max_channel_name_length\":7,\"max_event_channels_at_once\":8,\"max_event_name_length\":9,"
        "\"max_event_payload_in_kb\":10,\"max_event_batch_size\":11,\"enable_user_authentication\":true,"
        "\"enable_watchlist_events\":true,\"allowed_origins\":[\"https://a.example\",\"*.b.example\"]}]");
}

static void the_environments_app_replaces_an_inline_app_of_the_same_id(void **state) {
    (void)state;
    set_default_app();
    assert_true(
        load("{\"app_manager\":{\"array\":{\"apps\":[{\"id\":\"a\"},{\"id\":\"env\",\"key\":\"old\"},"
             "{\"id\":\"b\"}]}}}"));
    assert_apps("[{\"id\":\"a\"},{\"id\":\"env\",\"key\":\"env-key\",\"secret\":\"env-secret\"},{\"id\":\"b\"}]");
    setenv("SOCKUDO_DEFAULT_APP_ID", "40000", 1); /* an integer is its digits */
    assert_true(load("{\"app_manager\":{\"array\":{\"apps\":[{\"id\":4000},{\"id\":40000,\"key\":\"old\"}]}}}"));
    assert_apps("[{\"id\":4000},{\"id\":\"40000\",\"key\":\"env-key\",\"secret\":\"env-secret\"}]");
}

static void inline_apps_are_left_out_if_the_environment_says_so(void **state) {
    static const char *const file = "{\"app_manager\":{\"array\":{\"apps\":[{\"id\":\"a\"}]}}}";

    (void)state;
    setenv("SOCKUDO_SKIP_INLINE_APPS", "true", 1);
    assert_true(load(file));
    assert_apps("[]");
    set_default_app();
    assert_true(load(file));
    assert_apps("[{\"id\":\"env\",\"key\":\"env-key\",\"secret\":\"env-secret\"}]");
    clearenv();
    setenv("APP_MANAGER_REGISTER_INLINE_APPS", "off", 1);
    assert_true(load(file));
    assert_apps("[]");
    setenv("APP_MANAGER_REGISTER_INLINE_APPS", "true", 1);
    setenv("SOCKUDO_SKIP_INLINE_APPS", "false", 1);
    assert_true(load(file));
    assert_apps("[{\"id\":\"a\"}]");
}

static void the_longer_name_of_a_variable_goes_first(void **state) {
    (void)state;
    set_default_app();
    setenv("SOCKUDO_ENABLE_CLIENT_MESSAGES", "true", 1);
    setenv("SOCKUDO_DEFAULT_APP_ENABLE_CLIENT_MESSAGES", "false", 1);
    setenv("DATABASE_POSTGRES_USER", "a", 1);
    setenv("DATABASE_POSTGRES_USERNAME", "b", 1);
    setenv("SCYLLADB_NODES", "a", 1);
    setenv("DATABASE_SCYLLADB_NODES", "b", 1);
    setenv("SCYLLADB_KEYSPACE", "a", 1);
    setenv("DATABASE_SCYLLADB_KEYSPACE", "b", 1);
    setenv("SCYLLADB_REPLICATION_CLASS", "a", 1);
    setenv("DATABASE_SCYLLADB_REPLICATION_CLASS", "b", 1);
    setenv("SCYLLADB_REPLICATION_FACTOR", "1", 1);
    setenv("DATABASE_SCYLLADB_REPLICATION_FACTOR", "2", 1);
    assert_true(load(NULL));
    assert_apps("[{\"id\":\"env\",\"key\":\"env-key\",\"secret\":\"env-secret\",\"enable_client_messages\":false}]");
    assert_string_equal(config.database.postgres.username, "b");
    assert_string_equal(config.database.scylladb.nodes.items[0], "b");
    assert_string_equal(config.database.scylladb.keyspace, "b");
    assert_string_equal(config.database.scylladb.replication_class, "b");
    assert_int_equal(config.database.scylladb.replication_factor, 2);
}

static void variables_of_the_family_without_meaning_here_are_accepted(void **state) {
    (void)state;
    setenv("KAFKA_URL", "kafka://:hunter2@kafka", 1);
    setenv("SOCKUDO_SERVER_ROLE", "api", 1);
    setenv("WEBSOCKET_WRITE_BUFFER_SIZE", "1", 1);
    setenv("WEBSOCKET_AUTO_PING", "true", 1);
    setenv("DATABASE_REDIS_HOST", "", 1);          /* empty is unset */
    setenv("NATS_SERVICE_HOST", "10.0.0.1", 1);    /* Kubernetes */
    setenv("NATS_PORT", "tcp://10.0.0.1:4222", 1); /* Kubernetes */
    setenv("SOCKUDO_DEFAULT_APP_ID", "a", 1);
    setenv("PORT", "7000", 1);
    setenv("DATABASE_URL", "postgres://", 1);
    setenv("HOME", "/", 1);
    assert_true(load("{}"));
    assert_int_equal(report.accepted.count, 4);
    assert_holds(report.accepted, "KAFKA_URL");
    assert_holds(report.accepted, "SOCKUDO_SERVER_ROLE");
    assert_holds(report.accepted, "WEBSOCKET_WRITE_BUFFER_SIZE");
    assert_holds(report.accepted, "WEBSOCKET_AUTO_PING");
    assert_false(holds(&report.accepted, "hunter2"));
}

/* One of each group that Sockudo reads in crates/sockudo-core/src/options/env/. */
static void every_group_of_the_familys_variables_is_accepted(void **state) {
    static const char *const names[] = {
        "ADAPTER_FALLBACK_TO_LOCAL",
        "AI_TRANSPORT_ENABLED",
        "ANNOTATIONS_ENABLED",
        "APNS_TOPIC",
        "CACHE_REDIS_PREFIX",
        "CLEANUP_BATCH_SIZE",
        "CLUSTER_HEALTH_CLEANUP_INTERVAL",
        "CONNECTION_RECOVERY_BUFFER_TTL",
        "DATABASE_REDIS_SENTINEL_USERNAME",
        "DATABASE_SURREALDB_URL",
        "ECHO_CONTROL_ENABLED",
        "EPHEMERAL_ENABLED",
        "EVENT_NAME_FILTERING_ENABLED",
        "GOOGLE_PUBSUB_PREFIX",
        "HEALTH_CHECK_TIMEOUT_MS",
        "HISTORY_ENABLED",
        "HTTP_API_ACCEPT_TRAFFIC_ENABLED",
        "IDEMPOTENCY_TTL_SECONDS",
        "IGGY_STREAM",
        "KAFKA_BROKERS",
        "MCP_ENABLED",
        "METRICS_TCP_EXPORTER_HOST",
        "NATS_NODES_NUMBER",
        "OMQ_PREFIX",
        "PRESENCE_HISTORY_ENABLED",
        "PRESENCE_UNGRACEFUL_TIMEOUT_SECONDS",
        "PUBSUB_EMULATOR_HOST",
        "PULSAR_URL",
        "PUSH_FCM_ENABLED",
        "QUEUE_SQS_REGION",
        "RABBITMQ_URL",
        "RATE_LIMITER_DRIVER",
        "REDIS_CLUSTER_QUEUE_PREFIX",
        "SOCKUDO_ABLY_COMPAT_ENABLED",
        "SOCKUDO_DEFAULT_APP_ANNOTATIONS_ENABLED",
        "SOCKUDO_OTEL_ENABLED",
        "VERSIONED_MESSAGES_ENABLED",
    };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        setenv(names[i], "1", 1);
    assert_true(load("{}"));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_holds(report.accepted, names[i]);
    assert_int_equal(report.accepted.count, sizeof names / sizeof names[0]);
}

static void an_incomplete_app_in_the_environment_is_a_warning_and_no_app(void **state) {
    (void)state;
    set_default_app();
    unsetenv("SOCKUDO_DEFAULT_APP_SECRET");
    assert_true(load(NULL));
    assert_apps("[]");
    assert_holds(report.warnings, "SOCKUDO_DEFAULT_APP_SECRET is not");
    assert_false(holds(&report.warnings, "env-key"));
    clearenv();
    setenv("SOCKUDO_DEFAULT_APP_MAX_CONNECTIONS", "5", 1);
    assert_true(load(NULL));
    assert_holds(report.warnings, "SOCKUDO_DEFAULT_APP_MAX_CONNECTIONS is set but SOCKUDO_DEFAULT_APP_ID is not");
    clearenv();
    setenv("SOCKUDO_ENABLE_CLIENT_MESSAGES", "true", 1);
    assert_true(load(NULL));
    assert_int_equal(report.warnings.count, 0);
}

static void a_bad_field_of_the_environments_app_is_a_warning_and_not_set(void **state) {
    (void)state;
    set_default_app();
    setenv("SOCKUDO_DEFAULT_APP_MAX_CONNECTIONS", "-2", 1);
    setenv("SOCKUDO_DEFAULT_APP_ENABLED", "maybe", 1);
    setenv("SOCKUDO_DEFAULT_APP_ALLOWED_ORIGINS", "https://a.example,\xff", 1);
    assert_true(load(NULL));
    assert_apps("[{\"id\":\"env\",\"key\":\"env-key\",\"secret\":\"env-secret\"}]");
    assert_holds(report.warnings, "SOCKUDO_DEFAULT_APP_MAX_CONNECTIONS must be a whole number");
    assert_holds(report.warnings, "SOCKUDO_DEFAULT_APP_ENABLED must be true or false");
    assert_holds(report.warnings, "SOCKUDO_DEFAULT_APP_ALLOWED_ORIGINS must be origins separated by commas, in UTF-8");
}

static void minus_one_in_a_variable_of_the_environments_app_is_no_limit(void **state) {
    (void)state;
    set_default_app();
    setenv("SOCKUDO_DEFAULT_APP_MAX_CONNECTIONS", "-1", 1);
    assert_true(load(NULL));
    assert_apps("[{\"id\":\"env\",\"key\":\"env-key\",\"secret\":\"env-secret\",\"max_connections\":0}]");
    assert_int_equal(report.warnings.count, 0);
}

static void a_demo_app_is_there_without_a_file_and_an_app_outside_production(void **state) {
    (void)state;
    setenv("ENVIRONMENT", "development", 1);
    assert_true(load(NULL));
    assert_apps("[{\"id\":\"1\",\"key\":\"app-key\",\"secret\":\"app-secret\",\"enable_client_messages\":true}]");
    assert_holds(report.warnings, "demo app");
    assert_true(load("{}")); /* with a file, which may have been meant for another server */
    assert_apps("[]");
    set_default_app();
    assert_true(load(NULL));
    assert_apps("[{\"id\":\"env\",\"key\":\"env-key\",\"secret\":\"env-secret\"}]");
    clearenv();
    setenv("ENVIRONMENT", "Production", 1);
    assert_true(load(NULL));
    assert_true(config_is_production(&config));
    assert_apps("[]");
    assert_int_equal(report.warnings.count, 0);
}

static void a_memory_threshold_above_1_is_a_percentage(void **state) {
    (void)state;
    assert_true(load("{\"http_api\":{\"accept_traffic\":{\"memory_threshold\":85}}}"));
    assert_true(config.http_api.accept_traffic.memory_threshold == 0.85);
    assert_true(load("{\"http_api\":{\"accept_traffic\":{\"memory_threshold\":100}}}"));
    assert_true(config.http_api.accept_traffic.memory_threshold == 1);
    assert_true(load("{\"http_api\":{\"accept_traffic\":{\"memory_threshold\":1}}}"));
    assert_true(config.http_api.accept_traffic.memory_threshold == 1);
}

static void check_says_what_a_start_would_say(void **state) {
    char output[4096] = {0};
    FILE *out = fmemopen(output, sizeof output, "w");

    (void)state;
    write_file(
        "{\"prot\":1,\"cleanup\":{},\"app_manager\":{\"array\":{\"apps\":["
        "{\"id\":\"a\",\"key\":\"ka\",\"secret\":\"s\",\"colour\":\"red\"},"
        "{\"id\":\"b\",\"key\":\"kb\",\"secret\":\"s\",\"max_connections\":-2},"
        "{\"id\":\"c\",\"key\":\"ka\",\"secret\":\"s\"},{\"id\":\"a\",\"key\":\"kd\",\"secret\":\"s\"}]}}}");
    assert_int_equal(check_configuration(FILE_NAME, false, false, out), 1);
    fflush(out);
    assert_non_null(
        strstr(output, "error: " FILE_NAME ": app_manager.array.apps[1]: app \"b\": max_connections must be"));
    assert_non_null(strstr(output, FILE_NAME ": app_manager.array.apps[2]: app \"c\": app \"a\" has this key"));
    assert_non_null(
        strstr(output, FILE_NAME ": app_manager.array.apps[3]: app \"a\": another app in the list has this id"));
    assert_non_null(strstr(output, "warning: " FILE_NAME ": prot is not a setting"));
    assert_non_null(
        strstr(output, "warning: " FILE_NAME ": app_manager.array.apps[0]: app \"a\": colour is not a field"));
    assert_null(strstr(output, "cleanup"));
    assert_int_equal(check_configuration(FILE_NAME, true, false, out), 1);
    fflush(out);
    assert_non_null(strstr(output, "accepted without effect: cleanup"));
    write_file("{\"ssl\":{\"enabled\":true}}");
    assert_int_equal(check_configuration(FILE_NAME, true, false, out), 2);
    fflush(out);
    assert_non_null(strstr(output, "error: ssl.enabled"));
    write_file("{\"app_manager\":{\"array\":{\"apps\":[{\"id\":\"a\",\"key\":\"k\",\"secret\":\"s\"}]}}}");
    assert_int_equal(check_configuration(FILE_NAME, false, false, out), 0);
    fclose(out);
    assert_non_null(strstr(output, "ok: " FILE_NAME ", 1 app\n"));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, clean, dispose)
    const struct CMUnitTest tests[] = {
        TEST(every_row_of_the_table_is_expected),
        TEST(every_setting_has_its_default),
        TEST(every_setting_is_read_from_its_key),
        TEST(every_setting_is_read_from_its_variables),
        TEST(the_environment_wins_over_the_file),
        TEST(a_wrong_type_in_the_file_is_an_error_with_file_and_path),
        TEST(a_bad_variable_is_a_warning_and_the_value_before_stays),
        TEST(a_wrong_place_to_listen_or_to_keep_things_is_an_error),
        TEST(hosts_are_names_and_addresses),
        TEST(ports_that_kubernetes_sets_for_its_services_are_ignored_in_silence),
        TEST(what_goes_into_a_header_of_answers_cannot_begin_another_one),
        TEST(one_bad_variable_of_several_settings_is_told_once),
        TEST(variables_of_soketi_are_one_warning),
        TEST(an_empty_variable_is_unset),
        TEST(numbers_out_of_range_are_errors),
        TEST(all_errors_are_reported_not_only_the_first),
        TEST(bad_json_is_told_with_line_and_column_and_without_its_content),
        TEST(a_file_that_holds_nothing_is_said_to_be_empty),
        TEST(the_mark_of_utf8_at_the_start_is_no_part_of_the_json),
        TEST(secrets_stay_out_of_every_text),
        TEST(a_file_that_cannot_be_read_is_an_error),
        TEST(the_default_file_is_read_if_it_exists),
        TEST(an_unknown_key_is_a_warning_that_names_it),
        TEST(a_setting_in_another_place_is_a_warning_that_names_the_right_one),
        TEST(a_key_that_is_like_no_other_gets_no_suggestion),
        TEST(a_wrong_word_is_told_with_the_one_that_was_probably_meant),
        TEST(keys_of_the_family_without_meaning_here_are_accepted_in_silence),
        TEST(booleans_in_the_environment_are_words_in_any_case),
        TEST(debug_mode_wins_over_debug),
        TEST(none_and_0_and_null_mean_no_limit_for_messages_and_bytes),
        TEST(the_smallest_bound_on_messages_wins),
        TEST(a_path_prefix_has_one_spelling),
        TEST(the_file_mode_of_the_unix_socket_is_octal_as_text_or_number),
        TEST(workers_and_process_id_have_defaults_of_their_own),
        TEST(the_ttl_of_cache_channels_falls_back_to_the_memory_cache),
        TEST(scylladb_is_read_key_by_key_environment_app_manager_database),
        TEST(pool_sizes_come_from_the_nearest_setting),
        TEST(drivers_have_aliases_in_any_case),
        TEST(a_driver_that_is_none_is_an_error_that_names_those_there_are),
        TEST(an_adapter_that_is_none_is_an_error),
        TEST(an_adapter_that_the_build_lacks_is_an_error),
        TEST(three_heartbeats_fit_into_the_timeout_of_a_node),
        TEST(settings_of_the_adapter_that_do_nothing_are_warnings),
        TEST(urls_of_redis_are_read),
        TEST(each_use_of_redis_has_its_server),
        TEST(nodes_of_a_redis_cluster_have_the_clusters_password),
        TEST(messages_name_the_setting_of_a_password),
        TEST(the_item_of_a_list_that_is_wrong_is_said),
        TEST(a_password_of_the_message_system_makes_the_file_a_secret),
        TEST(the_familys_file_for_several_nodes_loads_without_a_warning),
        TEST(the_log_level_is_log_levels_else_rust_logs),
        TEST(a_short_admin_token_leaves_the_admin_api_off),
        TEST(the_environments_app_takes_all_of_its_variables),
        TEST(the_environments_app_replaces_an_inline_app_of_the_same_id),
        TEST(inline_apps_are_left_out_if_the_environment_says_so),
        TEST(the_longer_name_of_a_variable_goes_first),
        TEST(variables_of_the_family_without_meaning_here_are_accepted),
        TEST(every_group_of_the_familys_variables_is_accepted),
        TEST(an_incomplete_app_in_the_environment_is_a_warning_and_no_app),
        TEST(a_bad_field_of_the_environments_app_is_a_warning_and_not_set),
        TEST(minus_one_in_a_variable_of_the_environments_app_is_no_limit),
        TEST(a_demo_app_is_there_without_a_file_and_an_app_outside_production),
        TEST(a_memory_threshold_above_1_is_a_percentage),
        TEST(check_says_what_a_start_would_say),
    };

    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
