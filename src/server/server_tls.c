#include "server/server_tls.h"

#include <stddef.h>

#include "base/log.h"

bool server_tls_create(const struct config *config, struct tls_tickets *tickets, struct tls_context **tls,
                       struct error *error) {
    const struct tls_settings settings = {
        .cert_path = config->ssl.cert_path,
        .key_path = config->ssl.key_path,
        .passphrase = config->ssl.passphrase,
        .ca_path = config->ssl.ca_path,
        .tickets = tickets,
    };

    *tls = config->ssl.enabled ? tls_context_create(&settings, error) : NULL;
    return *tls != NULL || !config->ssl.enabled;
}

static void destroy_context(void *tls, void *context) {
    (void)context;
    tls_context_destroy(tls);
}

void server_tls_reload(server_tls *tls, const struct config *config, struct tls_tickets *tickets,
                       struct reclaimer *reclaimer) {
    struct tls_context *fresh;
    struct error error;

    if (atomic_load(tls) == NULL || !config->ssl.enabled)
        return; /* TLS is turned on or off only by a restart */
    if (!server_tls_create(config, tickets, &fresh, &error)) {
        log_error("config", "%s; the certificate from before stays in use", error.text);
        return;
    }
    /* A worker may be accepting a connection with the old one in this turn. */
    reclaim_defer(reclaimer, atomic_exchange(tls, fresh), destroy_context, NULL);
    log_info("server", "certificate and key read again");
}
