#include "config/config_redis.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/query.h"
#include "base/secret_text.h"
#include "base/slice.h"

void config_redis_server_dispose(struct config_redis_server *server) {
    secret_free(server->username);
    secret_free(server->password);
    *server = (struct config_redis_server){0};
}

/* The text without % escapes; NULL if it is empty. False if it would hold a byte 0. */
static bool decode_credential(struct slice text, char **decoded) {
    struct buffer bytes = {0};
    bool good;

    *decoded = NULL;
    if (text.length == 0)
        return true;
    percent_decode(text, &bytes);
    good = memchr(bytes.data, '\0', bytes.length) == NULL;
    if (good)
        *decoded = alloc_copy(bytes.data, bytes.length);
    secret_buffer_dispose(&bytes);
    return good;
}

static bool parse_credentials(struct slice text, struct config_redis_server *server) {
    const char *colon = memchr(text.data, ':', text.length);
    struct slice name = {text.data, colon != NULL ? (size_t)(colon - text.data) : text.length};
    struct slice password = colon != NULL ? slice_skip(text, name.length + 1) : (struct slice){0};

    return decode_credential(name, &server->username) && decode_credential(password, &server->password);
}

static bool redis_host_is_valid(const char *host) {
    struct in6_addr address;

    if (strchr(host, ':') != NULL)
        return inet_pton(AF_INET6, host, &address) == 1;
    if (*host == '\0')
        return false;
    for (; *host != '\0'; host++)
        if (!(isascii((unsigned char)*host) && isalnum((unsigned char)*host)) && strchr("._-", *host) == NULL)
            return false;
    return true;
}

/* HOST, HOST:PORT, ADDRESS or [ADDRESS]:PORT. */
static bool parse_host_and_port(struct slice text, uint16_t default_port, struct config_redis_server *server) {
    const char *end = NULL;
    struct slice host = text, port = {0};
    unsigned long long number = default_port;

    if (text.length > 0 && text.data[0] == '[') {
        end = memchr(text.data, ']', text.length);
        if (end == NULL)
            return false;
        host = (struct slice){text.data + 1, (size_t)(end - text.data) - 1};
        port = slice_skip(text, host.length + 2);
    } else {
        end = memchr(text.data, ':', text.length);
        if (end != NULL && memchr(end + 1, ':', text.length - (size_t)(end + 1 - text.data)) == NULL) {
            host.length = (size_t)(end - text.data);
            port = slice_skip(text, host.length);
        }
    }
    if (port.length > 0 && (port.data[0] != ':' || !slice_to_number(slice_skip(port, 1), UINT16_MAX, &number)))
        return false;
    server->port = (uint16_t)number;
    if (host.length >= sizeof server->host || memchr(host.data, '\0', host.length) != NULL)
        return false;
    snprintf(server->host, sizeof server->host, "%.*s", SLICE_ARGS(host));
    if (text.length > 0 && text.data[0] == '[' && strchr(server->host, ':') == NULL)
        return false;
    return number > 0 && redis_host_is_valid(server->host);
}

/* What follows the authority: nothing, "/", or "/" and the number of the database; a query is of no interest. */
static bool parse_database(struct slice path, struct config_redis_server *server) {
    const char *query = path.length > 0 ? memchr(path.data, '?', path.length) : NULL;
    unsigned long long number = 0;

    if (query != NULL)
        path.length = (size_t)(query - path.data);
    if (path.length > 1 && !slice_to_number(slice_skip(path, 1), INT32_MAX, &number))
        return false;
    server->db = (uint32_t)number;
    return true;
}

bool config_redis_parse(const char *text, uint16_t default_port, struct config_redis_server *server) {
    struct slice rest;
    const char *at;

    *server = (struct config_redis_server){.tls = strncmp(text, "rediss://", strlen("rediss://")) == 0};
    if (!server->tls && strncmp(text, "redis://", strlen("redis://")) != 0)
        return parse_host_and_port(slice_of(text), default_port, server);
    text = strstr(text, "://") + strlen("://");
    rest = (struct slice){text, strcspn(text, "/?")};
    if (!parse_database(slice_of(text + rest.length), server))
        return false;
    at = memrchr(rest.data, '@', rest.length);
    if (at != NULL) {
        if (!parse_credentials((struct slice){rest.data, (size_t)(at - rest.data)}, server))
            return false;
        rest = slice_skip(rest, (size_t)(at + 1 - rest.data));
    }
    return parse_host_and_port(rest, default_port, server);
}

static char *copy_credential(const char *text) {
    return text != NULL && *text != '\0' ? alloc_copy(text, strlen(text)) : NULL;
}

/* The server of the section database.redis. */
static void fill_from_section(const struct config *config, struct config_redis_server *server) {
    config_redis_parse(config->database.redis.host, CONFIG_REDIS_PORT, server);
    server->port = (uint16_t)config->database.redis.port;
    server->db = config->database.redis.db;
    server->tls = server->tls || config->database.redis.tls.enabled;
    server->username = copy_credential(config->database.redis.username);
    server->password = copy_credential(config->database.redis.password);
    server->username_key = "database.redis.username";
    server->password_key = "database.redis.password";
}

/* The URL for the use, with its key; NULL if there is none. Each connection of the adapter takes the other's. */
static const char *url_for(const struct config *config, enum config_redis_use use, const char **key) {
    const char *publish = config->adapter.redis.redis_pub_options.url;
    const char *subscribe = config->adapter.redis.redis_sub_options.url;
    bool first = use == CONFIG_REDIS_PUBLISH ? publish != NULL : subscribe == NULL;

    *key = first ? "adapter.redis.redis_pub_options.url" : "adapter.redis.redis_sub_options.url";
    if (use == CONFIG_REDIS_CACHE)
        *key = "cache.redis.url_override";
    if (config->has_redis_url)
        *key = "REDIS_URL";
    if (use == CONFIG_REDIS_CACHE)
        return config->cache.redis.url_override;
    return first ? publish : subscribe;
}

const char *config_redis_server(const struct config *config, enum config_redis_use use,
                                struct config_redis_server *server) {
    const char *key, *url = url_for(config, use, &key);

    if (url == NULL) {
        fill_from_section(config, server);
        return "database.redis.host and port";
    }
    config_redis_parse(url, CONFIG_REDIS_PORT, server);
    return key;
}

bool config_redis_uses_sentinel(const struct config *config, enum config_redis_use use) {
    const char *key;

    return config->database.redis.sentinels.count > 0 && url_for(config, use, &key) == NULL;
}

void config_redis_sentinel(const struct config *config, size_t index, struct config_redis_server *server) {
    config_redis_parse(config->database.redis.sentinels.items[index], CONFIG_REDIS_SENTINEL_PORT, server);
    server->tls = server->tls || config->database.redis.tls.enabled;
    if (server->password == NULL) {
        server->password = copy_credential(config->database.redis.sentinel_password);
        server->password_key = "database.redis.sentinel_password";
    }
}

/* The nodes of the cluster, with their key; empty if none is named. */
static const struct config_list *seeds_of(const struct config *config, const char **key) {
    if (config->adapter.cluster.nodes.count > 0) {
        *key = "adapter.cluster.nodes";
        return &config->adapter.cluster.nodes;
    }
    *key = config->database.redis.cluster.nodes.count > 0 ? "database.redis.cluster.nodes"
                                                          : "database.redis.host and port";
    return &config->database.redis.cluster.nodes;
}

bool config_redis_seed(const struct config *config, size_t index, struct config_redis_server *server,
                       const char **key) {
    const struct config_list *seeds = seeds_of(config, key);
    const char *username = config->database.redis.cluster.username, *password = config->database.redis.cluster.password;

    if (index >= (seeds->count > 0 ? seeds->count : 1))
        return false;
    if (seeds->count > 0) {
        config_redis_parse(seeds->items[index], CONFIG_REDIS_PORT, server);
    } else {
        config_redis_parse(config->database.redis.host, CONFIG_REDIS_PORT, server);
        server->port = (uint16_t)config->database.redis.port;
    }
    server->db = 0; /* a cluster has no other */
    server->tls = server->tls || config->database.redis.cluster.use_tls || config->database.redis.tls.enabled;
    if (server->username == NULL && server->password == NULL) {
        server->username = copy_credential(username != NULL ? username : config->database.redis.username);
        server->password = copy_credential(password != NULL ? password : config->database.redis.password);
        server->username_key = username != NULL ? "database.redis.cluster.username" : "database.redis.username";
        server->password_key = password != NULL ? "database.redis.cluster.password" : "database.redis.password";
    }
    return true;
}
