#include <ctype.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/crypto.h"
#include "config/config_expand.h"
#include "config/config_file.h"
#include "config/config_foreign.h"
#include "config/config_loader.h"
#include "config/config_ports.h"
#include "config/config_redis.h"
#include "config/config_secret_file.h"
#include "config/config_unknown.h"
#include "config/config_value.h"

/* Where the value of the setting is from; NULL while the default holds. */
static const char *source_of(const struct config_loader *loader, const char *path) {
    const struct config_row *row = config_row_at(slice_of(path));

    return row != NULL ? loader->sources[row - config_rows] : NULL;
}

struct slice config_source(const struct config_loader *loader, const char *path, char *text, size_t size) {
    const char *source = source_of(loader, path);
    int length;

    if (source == NULL)
        length = snprintf(text, size, "%s", path);
    else if (source == loader->file)
        length = snprintf(text, size, "%s: %s", source, path);
    else
        length = snprintf(text, size, "%s", source);
    return (struct slice){text, length < 0 ? 0 : (size_t)length < size ? (size_t)length : size - 1};
}

bool config_was_set(const struct config_loader *loader, const char *path) {
    return source_of(loader, path) != NULL;
}

static void load_defaults(struct config *config) {
    for (size_t i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];

        if (row->fallback == NULL)
            continue;
        if (!config_value_from_text(config, row, row->fallback))
            abort(); /* a default that its own row forbids: the table is wrong */
        if (row->type == CONFIG_OPTIONAL_NUMBER)
            ((struct config_number *)((char *)config + row->offset))->set = false;
    }
    config->app_manager.array_apps = json_array();
}

/* The value at a dotted path; NULL if it is missing. A section that is not an object is an error. */
static const json_t *value_at(const struct config_loader *loader, const json_t *root, const char *path) {
    const char *rest = path;

    while (root != NULL) {
        struct slice name = {rest, strcspn(rest, ".")};
        char *key;

        if (!json_is_object(root)) {
            struct buffer what = {0};

            config_value_describe_json(root, &what);
            config_report_error(loader->report, "%s: %.*s must be an object, not %.*s", loader->file,
                                (int)(rest - 1 - path), path, SLICE_ARGS(buffer_slice(&what)));
            buffer_dispose(&what);
            return NULL;
        }
        key = alloc_copy(name.data, name.length);
        root = json_object_get(root, key);
        free(key);
        rest += name.length;
        if (*rest == '\0')
            return root;
        rest++;
    }
    return NULL;
}

/* Warns of a word that is taken for another one. */
static void report_other_word(struct config_loader *loader, const struct config_row *row, const json_t *value) {
    struct buffer right = {0}, meant = {0};

    config_value_describe(row, &right);
    config_value_suggest(row, slice_of(json_string_value(value)), &meant);
    config_report_warning(loader->report, "%s: %s is not %.*s, so it is %.*s%.*s", loader->file, row->path,
                          SLICE_ARGS(buffer_slice(&right)), (int)strcspn(row->choices[0], " "), row->choices[0],
                          SLICE_ARGS(buffer_slice(&meant)));
    buffer_dispose(&right);
    buffer_dispose(&meant);
}

static void load_row(struct config_loader *loader, const json_t *root, size_t index) {
    const struct config_row *row = &config_rows[index];
    struct buffer right = {0}, wrong = {0};
    const json_t *value = value_at(loader, root, row->path);

    if (value == NULL)
        return;
    if (config_value_from_json(loader->config, row, value)) {
        /* null leaves the setting unset */
        if (!json_is_null(value))
            loader->sources[index] = loader->file;
        if (config_value_is_other(row, value))
            report_other_word(loader, row, value);
        return;
    }
    config_value_describe(row, &right);
    config_value_describe_fault(row, value, &wrong);
    config_report_error(loader->report, "%s: %s must be %.*s%.*s", loader->file, row->path,
                        SLICE_ARGS(buffer_slice(&right)), SLICE_ARGS(buffer_slice(&wrong)));
    buffer_dispose(&right);
    buffer_dispose(&wrong);
}

static void load_file(struct config_loader *loader, const char *file) {
    json_t *root = config_file_read(loader, file);

    if (root == NULL)
        return;
    if (config_report_foreign(root, loader->file, loader->report)) {
        json_decref(root);
        return;
    }
    config_expand(root, loader->file, loader->report);
    for (size_t i = 0; i < config_row_count; i++)
        if (config_rows[i].path != NULL)
            load_row(loader, root, i);
    config_report_unknown(root, loader->file, loader->report);
    json_decref(root);
}

/* RFC 9562 section 5.4: a random UUID. */
static char *random_uuid(void) {
    unsigned char bytes[16];
    char text[37];

    random_bytes(bytes, sizeof bytes);
    bytes[6] = (unsigned char)((bytes[6] & 0x0f) | 0x40);
    bytes[8] = (unsigned char)((bytes[8] & 0x3f) | 0x80);
    snprintf(text, sizeof text, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", bytes[0],
             bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7], bytes[8], bytes[9], bytes[10],
             bytes[11], bytes[12], bytes[13], bytes[14], bytes[15]);
    return alloc_copy(text, strlen(text));
}

/* The CPUs that this process may run on: fewer than the machine's in a container or under taskset. */
static uint32_t available_cpus(void) {
    cpu_set_t set;
    long count;

    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return (uint32_t)CPU_COUNT(&set);
    count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (uint32_t)count : 1;
}

/* "app/", "/app" and "/app/" become "/app"; "/" becomes "". */
static void normalise_path_prefix(struct config *config) {
    struct slice prefix = slice_of(config->path_prefix);
    struct buffer path = {0};

    while (prefix.length > 0 && prefix.data[0] == '/')
        prefix = slice_skip(prefix, 1);
    while (prefix.length > 0 && prefix.data[prefix.length - 1] == '/')
        prefix.length--;
    if (prefix.length > 0) {
        buffer_append_byte(&path, '/');
        buffer_append(&path, prefix);
    }
    buffer_append_byte(&path, '\0');
    free(config->path_prefix);
    config->path_prefix = path.data;
}

/* True if the row holds addresses, and one of them has a password before an @. */
static bool row_holds_password(const struct config *config, const struct config_row *row) {
    const void *at = (const char *)config + row->offset;
    const struct config_list *list = at;

    if (row->type == CONFIG_TEXT)
        return *(char *const *)at != NULL && strchr(*(char *const *)at, '@') != NULL;
    for (size_t i = 0; i < list->count; i++)
        if (strchr(list->items[i], '@') != NULL)
            return true;
    return false;
}

/* True if a secret comes from the file and not from the environment. */
static bool file_holds_secrets(const struct config_loader *loader) {
    static const char *const secrets[] = {"database.mysql.password",
                                          "database.postgres.password",
                                          "database.scylladb.password",
                                          "app_manager.scylladb.password",
                                          "database.dynamodb.aws_secret_access_key",
                                          "database.redis.password",
                                          "database.redis.sentinel_password",
                                          "database.redis.cluster.password",
                                          "adapter.nats.password",
                                          "adapter.nats.token",
                                          "ssl.passphrase"};
    static const char *const addresses[] = {"adapter.redis.redis_pub_options.url",
                                            "adapter.redis.redis_sub_options.url",
                                            "adapter.cluster.nodes",
                                            "adapter.nats.servers",
                                            "cache.redis.url_override",
                                            "database.redis.cluster_nodes",
                                            "database.redis.cluster.nodes",
                                            "database.redis.sentinels"};

    if (loader->file == NULL)
        return false;
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++)
        if (source_of(loader, secrets[i]) == loader->file)
            return true;
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++)
        if (source_of(loader, addresses[i]) == loader->file &&
            row_holds_password(loader->config, config_row_at(slice_of(addresses[i]))))
            return true;
    return source_of(loader, "app_manager.array.apps") == loader->file &&
           json_array_size(loader->config->app_manager.array_apps) != 0;
}

/* True if REDIS_URL names the servers: it takes precedence over what the file says of each. */
static bool redis_url_is_variable(const struct config_loader *loader) {
    const char *source = source_of(loader, "adapter.redis.redis_pub_options.url");

    return source != NULL && source != loader->file;
}

/* Fills settings that depend on others or on the machine. */
static void fill_in(struct config_loader *loader) {
    struct config *config = loader->config;

    if (config->instance.process_id == NULL || *config->instance.process_id == '\0') {
        free(config->instance.process_id);
        config->instance.process_id = random_uuid();
        config->instance.drawn = true;
    }
    if (config->workers == 0)
        config->workers = available_cpus();
    if (config->workers > CONFIG_WORKERS_MAX)
        config->workers = CONFIG_WORKERS_MAX;
    if (config->cache.memory.ttl.set && !config_was_set(loader, "channel_limits.cache_ttl"))
        config->channel_limits.cache_ttl_s = config->cache.memory.ttl.value;
    for (char *c = config->adapter.driver; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    config->cors.credentials_set = config_was_set(loader, "cors.credentials");
    config->file_holds_secrets = file_holds_secrets(loader);
    config->has_redis_url = redis_url_is_variable(loader);
    normalise_path_prefix(config);
}

static void check_pools(struct config_loader *loader, const struct config_sql *sql) {
    struct error error;
    uint32_t min, max;

    if (!config_pool_sizes(loader->config, sql, &min, &max, &error))
        config_report_error(loader->report, "%s%s%s", loader->file != NULL ? loader->file : "",
                            loader->file != NULL ? ": " : "", error.text);
}

/* The error names the setting that was set; both, if the two are in one file, by the first. */
static void check_heartbeats(struct config_loader *loader) {
    static const char interval_key[] = "adapter.cluster_health.heartbeat_interval_ms";
    static const char timeout_key[] = "adapter.cluster_health.node_timeout_ms";
    const struct config *config = loader->config;
    uint32_t interval_ms = config->adapter.cluster_health.heartbeat_interval_ms;
    uint32_t timeout_ms = config->adapter.cluster_health.node_timeout_ms;
    bool interval_set = config_was_set(loader, interval_key);
    char source[512];

    if (interval_ms <= timeout_ms / 3)
        return;
    config_report_error(
        loader->report,
        "%.*s is %u, and must be at %s %s, which is %u: else a node counts as dead when one or two heartbeats are late",
        SLICE_ARGS(config_source(loader, interval_set ? interval_key : timeout_key, source, sizeof source)),
        interval_set ? interval_ms : timeout_ms, interval_set ? "most a third of" : "least three times",
        interval_set ? timeout_key : interval_key, interval_set ? timeout_ms : interval_ms);
}

static void check_adapter_settings(struct config_loader *loader) {
    const struct config *config = loader->config;
    char source[512];

    if (!config_has_adapter(config))
        return;
    check_heartbeats(loader);
    if (!config->adapter.cluster_health.enabled)
        config_report_warning(
            loader->report,
            "%.*s is false, but heartbeats go on: without them, what a node held that crashed would stay for ever",
            SLICE_ARGS(config_source(loader, "adapter.cluster_health.enabled", source, sizeof source)));
    if (config->database.redis.sentinels.count > 0 && strcmp(config->adapter.driver, "redis") == 0 &&
        !config_redis_uses_sentinel(config, CONFIG_REDIS_PUBLISH))
        config_report_warning(loader->report,
                              "database.redis.sentinels is not used by the adapter: the URL in "
                              "adapter.redis.redis_pub_options or redis_sub_options takes precedence");
}

/* Checks that need more than one setting. */
static void check_config(struct config_loader *loader) {
    struct config *config = loader->config;

    config_check_ports(config, loader->report);
    check_pools(loader, NULL);
    check_pools(loader, &config->database.mysql);
    check_pools(loader, &config->database.postgres);
    check_adapter_settings(loader);
}

bool config_load(struct config *config, const char *file, struct config_report *report, struct error *error) {
    struct config_report own = {0};
    struct config_loader loader = {.config = config, .report = report != NULL ? report : &own};
    size_t errors_before = loader.report->errors.count;
    bool good;

    *config = (struct config){0};
    loader.sources = alloc_zero(config_row_count * sizeof *loader.sources);
    load_defaults(config);
    load_file(&loader, file);
    config_load_environment(&loader);
    config_report_family_variables(loader.report);
    fill_in(&loader);
    check_config(&loader);
    config_load_default_app(&loader);
    config_read_secret_files(&loader);
    good = loader.report->errors.count == errors_before;
    if (!good) {
        error_set(error, "%s", loader.report->errors.texts[errors_before]);
        config_dispose(config);
    }
    free(loader.sources);
    config_report_dispose(&own);
    return good;
}
