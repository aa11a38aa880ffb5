#include "server/server_tls.h"

#include <stddef.h>

#include "base/log.h"

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

static void note_turn_ended(struct worker *worker, void *context) {
    (void)worker;
    (void)context;
}

static void destroy_context(void *context) {
    tls_context_destroy(context);
}

void server_tls_reload(server_tls *tls, const struct config *config, struct workers *workers) {
    struct tls_context *fresh;
    struct error error;

    if (atomic_load(tls) == NULL || !config->ssl.enabled)
        return; /* whether a port speaks TLS is for a start to decide */
    if (!server_tls_create(config, &fresh, &error)) {
        log_error("config", "%s; the certificate from before stays in use", error.text);
        return;
    }
    /* A worker may be accepting with the old one in this very turn. */
    workers_run_on_all(workers, &(struct worker_task){.run = note_turn_ended,
                                                      .finished = destroy_context,
                                                      .context = atomic_exchange(tls, fresh)});
    log_info("server", "certificate and key read again");
}
