#include "server/server_tls.h"

#include <stddef.h>

bool server_tls_create(const struct config *config, struct tls_context **tls, struct error *error) {
    const struct tls_settings settings = {
        .cert_path = config->ssl.cert_path,
        .key_path = config->ssl.key_path,
        .passphrase = config->ssl.passphrase,
        .ca_path = config->ssl.ca_path,
    };

    *tls = config->ssl.enabled ? tls_context_create(&settings, error) : NULL;
    return *tls != NULL || !config->ssl.enabled;
}
