/*
 * The configuration: built-in defaults, then one file, then the environment; the later takes precedence.
 *
 * Every key is one row of the table in config_table.c (path, type, range, member, environment variables), so a new
 * setting is one member here and one row there. The structures are named like the sections of the file:
 * `metrics.prometheus.prefix` is config->metrics.prometheus.prefix. A setting with a unit that its key does not name
 * has the unit in the member's name (`activity_timeout` is activity_timeout_s).
 *
 * A configuration is filled by config_load on the main thread and does not change afterwards; any thread may read it.
 * A reload loads a second one. Strings belong to the configuration and live as long as it does.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/log.h"
#include "config/report.h"

/* The largest number of workers: a set of them is one word of bits. */
#define CONFIG_WORKERS_MAX 64

/* A number that may be unset. `value` is then the default. */
struct config_number {
    uint32_t value;
    bool set;
};

/* A list of strings; `items` is NULL when empty. */
struct config_list {
    char **items;
    size_t count;
};

/* The kinds of store. Names and aliases are in config_table.c. */
enum config_driver {
    CONFIG_DRIVER_MEMORY,
    CONFIG_DRIVER_SQLITE,
    CONFIG_DRIVER_MYSQL,
    CONFIG_DRIVER_POSTGRES,
    CONFIG_DRIVER_DYNAMODB,
    CONFIG_DRIVER_SCYLLADB,
};

/* Encryption of connections to a database. */
enum config_tls_mode {
    CONFIG_TLS_DISABLE, /* never */
    CONFIG_TLS_PREFER,  /* if the database offers it */
    CONFIG_TLS_REQUIRE, /* or fail; the certificate is not checked */
    CONFIG_TLS_VERIFY,  /* or fail; the certificate must be valid for the host */
};

struct config_tls {
    enum config_tls_mode mode;
    char *ca_path;   /* NULL: the system's authorities */
    char *cert_path; /* NULL: no client certificate */
    char *key_path;
};

/* permessage-deflate; the windows are the compressor's memory for each connection. */
enum config_compression {
    CONFIG_COMPRESSION_DISABLED,
    CONFIG_COMPRESSION_DEDICATED,
    CONFIG_COMPRESSION_SHARED,
    CONFIG_COMPRESSION_WINDOW_256B,
    CONFIG_COMPRESSION_WINDOW_512B,
    CONFIG_COMPRESSION_WINDOW_1KB,
    CONFIG_COMPRESSION_WINDOW_2KB,
    CONFIG_COMPRESSION_WINDOW_4KB,
    CONFIG_COMPRESSION_WINDOW_8KB,
    CONFIG_COMPRESSION_WINDOW_16KB,
    CONFIG_COMPRESSION_WINDOW_32KB,
};

/* Where the events of cache channels are kept besides the nodes' memory. */
enum config_cache_driver { CONFIG_CACHE_MEMORY, CONFIG_CACHE_REDIS, CONFIG_CACHE_REDIS_CLUSTER };

/* What the HTTP API does with an event while the message system between the nodes is down. */
enum config_publish_when_down { CONFIG_PUBLISH_ACCEPT, CONFIG_PUBLISH_REFUSE };

enum config_delta_algorithm { CONFIG_DELTA_FOSSIL, CONFIG_DELTA_XDELTA3 };

/* MySQL and PostgreSQL. */
struct config_sql {
    char *host;
    uint32_t port;
    char *username;
    char *password; /* secret */
    char *database;
    char *table_name;
    struct config_number connection_pool_size; /* use config_pool_sizes */
    struct config_number pool_min;
    struct config_number pool_max;
    struct config_number cache_ttl; /* seconds; these three take precedence over app_manager.cache */
    struct config_number cache_cleanup_interval;
    struct config_number cache_max_capacity;
    struct config_tls tls;
};

/* One limit on requests per client address. */
struct config_rate_limit {
    uint32_t max_requests;
    uint32_t window_seconds;
    uint32_t trust_hops; /* proxies in front that append to X-Forwarded-For */
};

/* A shorter token could be found out. */
#define CONFIG_ADMIN_TOKEN_MIN 32

struct config {
    char *file; /* the file that was read, NULL if none */
    /* An app's secret, a password or a passphrase is in the file. */
    bool file_holds_secrets;
    /* The URLs of Redis are from the variable REDIS_URL. */
    bool has_redis_url;

    char *host;
    uint32_t port; /* 0: the kernel chooses */
    char *mode;    /* see config_is_production */
    bool debug;
    char *path_prefix; /* begins with a slash and does not end with one; "" for the root */
    uint32_t activity_timeout_s;
    uint32_t shutdown_grace_period_s;
    uint32_t user_authentication_timeout_s;
    uint32_t websocket_max_payload_kb;

    struct {
        char *process_id; /* a UUID drawn at start unless set */
        bool drawn;
    } instance;

    uint32_t workers; /* 1 to CONFIG_WORKERS_MAX */

    struct {
        enum config_driver driver;
        json_t
            *array_apps; /* always an array: the file's apps, the environment's, or the demo app; not yet validated */
        bool skip_inline_apps;     /* from the environment only; true: without the file's apps */
        bool register_inline_apps; /* from the environment only; false: the same */
        struct {
            char *key_file; /* NULL: none */
            char *key;      /* from the environment only; NULL: unset; secret */
        } secrets;
        uint32_t lookup_timeout_ms;
        uint32_t vanished_grace_s; /* how long the removal of many apps at once is held; 0: not at all */
        struct {
            bool enabled;
            uint32_t ttl_s;
            uint32_t negative_ttl_s;
            uint32_t stale_if_error_s;
            char *snapshot_path;
            uint32_t cleanup_interval_s; /* from the environment only */
            uint32_t max_capacity;       /* from the environment only; for drivers without a capacity of their own */
        } cache;
    } app_manager;

    struct {
        struct config_sql mysql;
        struct config_sql postgres;
        struct {
            char *path;
        } sqlite;
        struct {
            char *region;
            char *table_name;
            char *endpoint_url;          /* NULL: Amazon's */
            char *aws_access_key_id;     /* NULL: unset */
            char *aws_secret_access_key; /* NULL: unset; secret */
            char *aws_profile_name;      /* NULL: unset */
        } dynamodb;
        struct {
            struct config_list nodes; /* host or host:port */
            char *keyspace;
            char *table_name;
            char *username; /* NULL: no authentication */
            char *password; /* secret */
            char *replication_class;
            uint32_t replication_factor;
            struct config_tls tls;
        } scylladb; /* also read from app_manager.scylladb, which wins */
        struct {
            char *host; /* may begin with redis:// or rediss:// */
            uint32_t port;
            uint32_t db;
            char *username; /* NULL: none */
            char *password; /* NULL: none; secret */
            char *key_prefix;
            struct config_list sentinels; /* HOST:PORT; empty: no Sentinel */
            char *sentinel_password;      /* NULL: none; secret */
            char *name;                   /* of the master, for Sentinel */
            struct {
                struct config_list nodes; /* HOST:PORT or a URL */
                char *username;           /* NULL: the one above */
                char *password;           /* NULL: the one above; secret */
                bool use_tls;
            } cluster;
            struct {
                bool enabled;    /* also for Sentinel and Redis Cluster; a URL with rediss:// needs it not */
                char *ca_path;   /* NULL: the system's authorities; these three hold for each TLS connection to Redis */
                char *cert_path; /* NULL: no client certificate */
                char *key_path;
            } tls;
        } redis; /* use the functions of config_redis.h */
    } database;

    struct {
        bool enabled;
        struct config_number min;
        struct config_number max;
    } database_pooling;

    struct { /* defaults of apps; 0 is no limit */
        uint32_t max_channels_at_once;
        uint32_t max_name_length;
        uint32_t max_payload_in_kb;
        uint32_t max_batch_size;
    } event_limits;

    struct {
        uint32_t max_name_length;
        uint32_t cache_ttl_s; /* how long a cache channel keeps its event; 0: for ever */
    } channel_limits;

    struct {
        uint32_t max_members_per_channel;
        uint32_t max_member_size_in_kb;
    } presence;

    struct {
        uint32_t max_read_requests_per_second;
        uint32_t max_backend_events_per_second;
    } rate_limits;

    struct {
        uint32_t request_limit_in_mb;
        bool usage_enabled; /* serve /usage on the main port */
        bool stats_public;  /* serve /stats of all apps on the main port, without a signature */
        struct {
            double memory_threshold; /* above 0, at most 1 */
        } accept_traffic;
    } http_api;

    struct {
        struct config_list origin;
        struct config_list methods;
        struct config_list allowed_headers;
        bool credentials;
        bool credentials_set; /* by the file or the environment */
    } cors;

    struct {
        bool enabled;
        char *cert_path;  /* "" when unset */
        char *key_path;   /* "" when unset */
        char *passphrase; /* NULL: none; secret */
        char *ca_path;    /* NULL: none */
        bool redirect_http;
        uint32_t http_port;
    } ssl;

    struct {
        bool enabled;
        char *path;               /* absolute */
        uint32_t permission_mode; /* as for chmod: 0660 */
    } unix_socket;

    struct {
        uint32_t max_messages;     /* 0: no limit */
        uint32_t max_bytes;        /* 0: no limit */
        uint32_t max_backpressure; /* bytes; 0: no limit */
        bool disconnect_on_buffer_full;
        uint32_t max_message_size; /* bytes; use config_max_message_bytes */
        uint32_t max_frame_size;
        uint32_t max_subscriptions_per_connection; /* 0: no limit */
        enum config_compression compression;
        uint32_t idle_timeout; /* this and the next two: accepted, without effect */
        uint32_t ping_interval;
        bool auto_ping;
    } websocket;

    struct {
        bool enabled;
        char *host;
        uint32_t port; /* 0: the kernel chooses */
        struct {
            char *prefix;
        } prometheus;
    } metrics;

    struct {
        bool enabled;
        struct config_rate_limit api_rate_limit;
        struct config_rate_limit websocket_rate_limit;
        uint32_t max_connections_per_address; /* 0: no limit; does not need `enabled` */
    } rate_limiter;

    struct {
        struct {
            bool enabled;
            uint32_t duration_ms;
            uint32_t size;
        } batching;
        struct {
            bool enabled;
            struct config_number max_attempts; /* the first one included; unset: limited by time alone */
            uint32_t max_elapsed_time_ms;
            uint32_t initial_backoff_ms;
            uint32_t max_backoff_ms;
        } retry;
        uint32_t request_timeout_ms;
        struct config_list denied_networks; /* each is valid for network_parse */
        char *spool_path;                   /* a folder; NULL: nothing is kept */
        uint32_t spool_max_mb;
    } webhooks;

    struct {
        char *driver; /* use config_webhooks_enabled */
    } queue;

    struct {
        enum config_cache_driver driver;
        struct {
            char *prefix;
            char *url_override; /* NULL: database.redis; secret */
        } redis;
        struct {
            uint32_t max_capacity;    /* cache channels without subscribers that keep their event */
            struct config_number ttl; /* folded into channel_limits.cache_ttl_s */
        } memory;
    } cache;

    struct {
        struct config_number limit_mb; /* unset: a share of what the machine or control group has */
    } memory;

    struct {
        bool enabled;
        bool enable_tags;
    } tag_filtering;

    struct {
        bool enabled;
        enum config_delta_algorithm algorithm;
        uint32_t full_message_interval;
        uint32_t min_message_size; /* bytes */
        uint32_t max_state_age_secs;
        uint32_t max_channel_states_per_socket;
        uint32_t max_conflation_states_per_channel; /* 0: no bound (`null` in the file) */
        uint32_t max_memory_mb;                     /* of all texts that deltas are based on */
        char *conflation_key_path;                  /* NULL: none */
        bool cluster_coordination;
        bool omit_delta_algorithm;
    } delta_compression;

    struct {
        char *driver; /* in lower case: "local", or the name of a bus driver, which the build may lack */
        struct {
            uint32_t requests_timeout_ms;
            char *prefix;
            struct {
                char *url; /* NULL: the other one, else database.redis; secret; use config_redis_server */
            } redis_pub_options, redis_sub_options;
        } redis;
        struct {                      /* Redis Cluster */
            struct config_list nodes; /* HOST:PORT or URLs; empty: database.redis; use config_redis_seed */
            char *prefix;
            uint32_t request_timeout_ms;
            bool use_sharded_pubsub;
        } cluster;
        struct {
            struct config_list servers; /* nats://, tls:// or HOST:PORT; may hold secrets */
            char *prefix;
            uint32_t request_timeout_ms;
            uint32_t connection_timeout_ms; /* of the first attempt */
            char *username;                 /* NULL: none */
            char *password;                 /* NULL: none; secret */
            char *token;                    /* NULL: none; secret */
            char *nkey_seed_path;           /* NULL: none; a file with the seed of an NKey */
            struct {
                char *ca_path; /* NULL: the system's authorities; any of these asks for TLS, as tls:// does */
                char *cert_path;
                char *key_path;
            } tls;
        } nats;
        struct {
            bool enabled; /* without effect: heartbeats always are sent */
            uint32_t heartbeat_interval_ms;
            uint32_t node_timeout_ms; /* at least three intervals */
        } cluster_health;
        uint32_t outage_buffer_mb;
        uint32_t outage_max_age_s;
        uint32_t outage_presence_s;
        enum config_publish_when_down publish_when_down;
    } adapter;

    struct { /* on a listener of its own, from the environment only */
        char *listen;
        char *token; /* NULL: the admin API is off; secret */
        char *url;   /* of the server that the command line notifies; NULL: derived from `listen` */
    } admin;

    struct {
        bool colors_enabled;
        bool include_target;
        enum log_format format;
        enum log_level level; /* LOG_LEVEL, else RUST_LOG's, else debug with `debug` on, else info */
    } logging;
};

/*
 * Loads defaults, then `file` (NULL: config/config.toml, else config/config.json, if there is one), then the
 * environment.
 *
 * Everything found goes to `report`, errors too: all of them, not only the first. On failure returns false, `error`
 * holds the first error, and `config` needs no disposal. Call before threads are started (it reads the environment).
 */
bool config_load(struct config *config, const char *file, struct config_report *report, struct error *error);

/*
 * Checks what only a server has to know of, and not each command: false with an error if it must not start so, a
 * warning if it can. In production mode it warns of apps whose secret is publicly known.
 */
bool config_supported(const struct config *config, struct config_report *report);

/* Appends the keys, between commas, of the settings that differ and are not read again at SIGHUP. */
void config_list_restarts(const struct config *before, const struct config *after, struct buffer *keys);

/* Frees what the configuration holds and clears it. */
void config_dispose(struct config *config);

/* Splits "HOST:PORT" or "[::1]:PORT"; false if it is neither. */
bool config_split_address(const char *address, char host[256], uint16_t *port);

/* True if `mode` is "production", in any case. */
bool config_is_production(const struct config *config);

/* The largest message a client may send, in bytes: the smallest of websocket_max_payload_kb,
 * websocket.max_message_size. */
uint32_t config_max_message_bytes(const struct config *config);

/* False if `queue.driver` turns webhooks off. */
bool config_webhooks_enabled(const struct config *config);

/* True if there is something to administer, and a token for it. */
bool config_has_admin_api(const struct config *config);

/* True unless `adapter.driver` is "local". */
bool config_has_adapter(const struct config *config);

/* The settings for log_configure. */
struct log_settings config_log_settings(const struct config *config);

/*
 * The minimum and the maximum of the connection pool. Precedence, for each alone: `sql` (NULL for drivers without sizes
 * of their own), database_pooling, connection_pool_size, then 2 and 10. False with an error that names the keys if the
 * minimum is above the maximum, or the maximum is 0.
 */
bool config_pool_sizes(const struct config *config, const struct config_sql *sql, uint32_t *min, uint32_t *max,
                       struct error *error);
