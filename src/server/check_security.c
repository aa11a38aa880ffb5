#include "server/check_security.h"

#include <string.h>
#include <sys/stat.h>

#include "app/record_json.h"
#include "base/log.h"
#include "config/config_known_secret.h"
#include "config/config_redis.h"

/* A host, a path or an address, which the advice is about. */
struct danger_place {
    const char *text;
    unsigned mode; /* of a file */
    uint16_t port;
};

/* True for addresses that only this machine reaches. */
static bool host_is_local(const char *host) {
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0;
}

/* False also for a file that is not there, which is reported elsewhere. */
static bool others_can_read(const char *path, struct danger_place *place) {
    struct stat status;

    if (stat(path, &status) != 0 || (status.st_mode & S_IROTH) == 0)
        return false;
    *place = (struct danger_place){.text = path, .mode = status.st_mode & 0777};
    return true;
}

static bool serves_in_clear(const struct config *config, struct danger_place *place) {
    place->text = config->host;
    return !config->ssl.enabled && !config->unix_socket.enabled && !host_is_local(config->host);
}

static bool metrics_are_open(const struct config *config, struct danger_place *place) {
    *place = (struct danger_place){.text = config->metrics.host, .port = (uint16_t)config->metrics.port};
    return config->metrics.enabled && !host_is_local(config->metrics.host);
}

static bool admin_is_open(const struct config *config, struct danger_place *place) {
    char host[256];
    uint16_t port;

    place->text = config->admin.listen;
    return config_has_admin_api(config) && config_split_address(config->admin.listen, host, &port) &&
           !host_is_local(host);
}

/* By default both are so, and the server sends no credentials header; only who sets it expects one. */
static bool shares_credentials(const struct config *config, struct danger_place *place) {
    place->text = "*";
    for (size_t i = 0; i < config->cors.origin.count; i++)
        if (strcmp(config->cors.origin.items[i], "*") == 0)
            return config->cors.credentials && config->cors.credentials_set;
    return false;
}

static bool shows_configuration(const struct config *config, struct danger_place *place) {
    return config->file != NULL && config->file_holds_secrets && others_can_read(config->file, place);
}

/* True if the connection sends a password to another machine without TLS. */
static bool redis_password_is_clear(const struct config_redis_server *server) {
    return server->password != NULL && !server->tls && !host_is_local(server->host);
}

/* The master that Sentinel names is on another machine if one of them is. */
static bool sentinel_password_is_clear(const struct config *config, const struct config_redis_server *master) {
    bool clear = false;

    for (size_t i = 0; i < config->database.redis.sentinels.count && !clear; i++) {
        struct config_redis_server sentinel;

        config_redis_sentinel(config, i, &sentinel);
        clear = redis_password_is_clear(&sentinel) ||
                (master->password != NULL && !master->tls && !host_is_local(sentinel.host));
        config_redis_server_dispose(&sentinel);
    }
    return clear;
}

static bool redis_use_is_clear(const struct config *config, enum config_redis_use use) {
    struct config_redis_server server;
    bool clear;

    config_redis_server(config, use, &server);
    clear = config_redis_uses_sentinel(config, use) ? sentinel_password_is_clear(config, &server)
                                                    : redis_password_is_clear(&server);
    config_redis_server_dispose(&server);
    return clear;
}

static bool cluster_seed_is_clear(const struct config *config) {
    struct config_redis_server server;
    const char *key;
    bool clear = false;

    for (size_t i = 0; !clear && config_redis_seed(config, i, &server, &key); i++) {
        clear = redis_password_is_clear(&server);
        config_redis_server_dispose(&server);
    }
    return clear;
}

static bool adapter_password_is_clear(const struct config *config, struct danger_place *place) {
    place->text = config->adapter.driver;
    if (strcmp(config->adapter.driver, "redis") == 0)
        return redis_use_is_clear(config, CONFIG_REDIS_PUBLISH) || redis_use_is_clear(config, CONFIG_REDIS_SUBSCRIBE);
    return strcmp(config->adapter.driver, "redis-cluster") == 0 && cluster_seed_is_clear(config);
}

static bool cache_password_is_clear(const struct config *config, struct danger_place *place) {
    place->text = config->cache.driver == CONFIG_CACHE_REDIS ? "redis" : "redis-cluster";
    return config->cache.driver == CONFIG_CACHE_REDIS           ? redis_use_is_clear(config, CONFIG_REDIS_CACHE)
           : config->cache.driver == CONFIG_CACHE_REDIS_CLUSTER ? cluster_seed_is_clear(config)
                                                                : false;
}

/* True if a server is on another machine, and gets a password or token without TLS. An NKey signs and is not sent. */
static bool nats_password_is_clear(const struct config *config, struct danger_place *place) {
    const struct config_list *servers = &config->adapter.nats.servers;
    bool any = config->adapter.nats.password != NULL || config->adapter.nats.token != NULL;

    place->text = config->adapter.driver;
    if (strcmp(config->adapter.driver, "nats") != 0 || config->adapter.nats.tls.ca_path != NULL ||
        config->adapter.nats.tls.cert_path != NULL)
        return false;
    for (size_t i = 0; i < servers->count; i++) {
        const char *at = strrchr(servers->items[i], '@'), *scheme_end = strstr(servers->items[i], "://");
        const char *host = at != NULL ? at + 1 : scheme_end != NULL ? scheme_end + 3 : servers->items[i];
        struct config_redis_server server;

        if (strncmp(servers->items[i], "tls://", 6) == 0 || (!any && at == NULL))
            continue;
        if (config_redis_parse(host, 4222, &server) && !host_is_local(server.host))
            return true;
    }
    return false;
}

static bool shows_tls_key(const struct config *config, struct danger_place *place) {
    return config->ssl.enabled && others_can_read(config->ssl.key_path, place);
}

static bool shows_secrets_key(const struct config *config, struct danger_place *place) {
    return config->app_manager.secrets.key_file != NULL && others_can_read(config->app_manager.secrets.key_file, place);
}

static bool shows_apps(const struct config *config, struct danger_place *place) {
    return config->app_manager.driver == CONFIG_DRIVER_SQLITE && config->database.sqlite.path != NULL &&
           others_can_read(config->database.sqlite.path, place);
}

static const struct {
    bool (*found)(const struct config *config, struct danger_place *place);
    const char *setting;
    const char *advice;
    bool is_file;
    bool at_start; /* warned of at a start */
} dangers[] = {
    {serves_in_clear, "host",
     "other machines reach this port, and it has no TLS: anyone on the way reads events and can repeat requests. Set "
     "ssl.enabled, ssl.cert_path and ssl.key_path; or let a TLS proxy stand in front, and set host to 127.0.0.1, or "
     "let a firewall admit only the proxy",
     false},
    {metrics_are_open, "metrics.host",
     "whoever reaches this port reads the ids of all apps and how much they are used. Set it to 127.0.0.1, or let a "
     "firewall admit only Prometheus",
     false},
    {admin_is_open, "CURLEW_ADMIN_LISTEN",
     "the admin API has no TLS, and its requests carry the token and secrets. Set it to 127.0.0.1:9602, and let a TLS "
     "proxy stand in front for other machines",
     false},
    {shares_credentials, "cors.origin",
     "cors.credentials is true as well: no browser accepts both, so the server sends no credentials header. List the "
     "origins of your pages, or set cors.credentials to false",
     false},
    {adapter_password_is_clear, "adapter.driver",
     "the password of Redis goes to another machine in clear text. Set database.redis.tls.enabled, or begin the URLs "
     "with "
     "rediss://",
     false},
    {cache_password_is_clear, "cache.driver",
     "the password of Redis goes to another machine in clear text. Set database.redis.tls.enabled, or begin "
     "cache.redis.url_override with rediss://",
     false},
    {nats_password_is_clear, "adapter.driver",
     "the password or token goes to another machine in clear text. Begin adapter.nats.servers with tls://", false},
    {shows_configuration, "the configuration file",
     "it holds secrets, and every user of this machine can read it. Run chmod o= on it", true, true},
    {shows_tls_key, "ssl.key_path",
     "every user of this machine can read the private key. Run chmod o= on it, with the server's user as its owner",
     true, true},
    {shows_apps, "database.sqlite.path",
     "it holds the secrets of all apps, and every user of this machine can read it. Run chmod o= on it, and on the "
     "files beside it",
     true},
    {shows_secrets_key, "app_manager.secrets.key_file",
     "every user of this machine can read the key of the secrets. Run chmod o= on it, with the server's user as its "
     "owner",
     true},
};

/* Reports the first app with a short secret, and how many there are. Secrets that everyone knows are reported
 * elsewhere. */
static void check_secrets(const struct config *config, struct config_report *report) {
    const json_t *apps = config->app_manager.array_apps;
    size_t first = 0, count = 0, first_bytes = 0;

    for (size_t i = 0; i < json_array_size(apps); i++) {
        char digits[RECORD_NAME_BYTES];
        struct slice secret = record_name(json_object_get(json_array_get(apps, i), "secret"), digits);

        if (secret.length == 0 || secret.length >= CONFIG_SECRET_SHORTEST || config_secret_is_known(secret))
            continue;
        if (count++ == 0) {
            first = i;
            first_bytes = secret.length;
        }
    }
    if (count == 0)
        return;
    config_report_danger(report,
                         "app_manager.array.apps[%zu].secret has %zu bytes%s: from one signature, which every client "
                         "sees, a secret of fewer than %d can be found by trying. Set the output of `openssl rand -hex "
                         "32`",
                         first, first_bytes, count > 1 ? ", and secrets of other apps are as short" : "",
                         CONFIG_SECRET_SHORTEST);
}

void check_files_at_start(const struct config *config) {
    for (size_t i = 0; config_is_production(config) && i < sizeof dangers / sizeof dangers[0]; i++) {
        struct danger_place place = {0};

        if (dangers[i].at_start && dangers[i].found(config, &place))
            log_warning("config", "%s, %s, has the mode %04o: %s", dangers[i].setting, place.text, place.mode,
                        dangers[i].advice);
    }
}

void check_security(const struct config *config, struct config_report *report) {
    if (!config_is_production(config))
        return;
    for (size_t i = 0; i < sizeof dangers / sizeof dangers[0]; i++) {
        struct danger_place place = {0};

        if (!dangers[i].found(config, &place))
            continue;
        if (dangers[i].is_file)
            config_report_danger(report, "%s, %s, has the mode %04o: %s", dangers[i].setting, place.text, place.mode,
                                 dangers[i].advice);
        else
            config_report_danger(report, "%s is %s: %s", dangers[i].setting, place.text, dangers[i].advice);
    }
    check_secrets(config, report);
}
