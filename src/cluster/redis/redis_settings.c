#include "cluster/redis/redis_settings.h"

#include <string.h>

#include "cluster/redis/redis_tls.h"

struct redis_access redis_settings_access(const struct config_redis_server *server, const char *key,
                                          const char *label) {
    return (struct redis_access){.key = key,
                                 .username = server->username,
                                 .password = server->password,
                                 .username_key = server->username_key,
                                 .password_key = server->password_key,
                                 .label = label};
}

SSL_CTX *redis_settings_tls(const struct config *config, struct error *error) {
    const struct redis_tls_files files = {config->database.redis.tls.ca_path, config->database.redis.tls.cert_path,
                                          config->database.redis.tls.key_path};

    return redis_tls_context(&files, error);
}

static bool redis_texts_equal(const char *one, const char *other) {
    return slice_equal(slice_of(one), slice_of(other));
}

bool redis_settings_equal(const struct config_redis_server *one, const struct config_redis_server *other,
                          bool any_place) {
    return (any_place || (strcmp(one->host, other->host) == 0 && one->port == other->port)) && one->tls == other->tls &&
           one->db == other->db && redis_texts_equal(one->username, other->username) &&
           redis_texts_equal(one->password, other->password);
}
