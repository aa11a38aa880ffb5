#include "store/scylladb/cql/cql_tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <string.h>

/* The first error of the queue is the cause, the later ones are its consequences. */
const char *cql_tls_reason(void) {
    unsigned long code = ERR_peek_error();
    const char *text = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);

    if (code == 0)
        return NULL;
    return text != NULL ? text : "for no known reason";
}

/* Refuses keys that need a password, since OpenSSL would ask for it on the terminal. */
static int refuse_password(char *password, int size, int writes, void *context) {
    (void)password;
    (void)size;
    (void)writes;
    (void)context;
    return 0;
}

static bool tls_file_failed(const char *setting, const char *path, struct error *error) {
    return error_set(error, "app_manager.scylladb.tls.%s %s: %s", setting, path, cql_tls_reason());
}

static bool set_up_context(SSL_CTX *context, const struct config_tls *settings, struct error *error) {
    const char *key_path = settings->key_path != NULL ? settings->key_path : settings->cert_path;

    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_default_passwd_cb(context, refuse_password);
    if (settings->ca_path != NULL && SSL_CTX_load_verify_locations(context, settings->ca_path, NULL) != 1)
        return tls_file_failed("ca_path", settings->ca_path, error);
    if (settings->ca_path == NULL)
        SSL_CTX_set_default_verify_paths(context);
    if (settings->cert_path != NULL && SSL_CTX_use_certificate_chain_file(context, settings->cert_path) != 1)
        return tls_file_failed("cert_path", settings->cert_path, error);
    if (key_path != NULL && SSL_CTX_use_PrivateKey_file(context, key_path, SSL_FILETYPE_PEM) != 1)
        return tls_file_failed("key_path", key_path, error);
    if (settings->mode == CONFIG_TLS_VERIFY)
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    return true;
}

SSL_CTX *cql_tls_context(const struct config_tls *settings, struct error *error) {
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    ERR_clear_error();
    if (context != NULL && set_up_context(context, settings, error))
        return context;
    if (context == NULL)
        error_set(error, "app_manager.scylladb.tls: %s", cql_tls_reason());
    SSL_CTX_free(context);
    return NULL;
}

static void set_peer_name(SSL *tls, const char *host) {
    struct in6_addr ignored;

    if (inet_pton(AF_INET, host, &ignored) == 1 || inet_pton(AF_INET6, host, &ignored) == 1) {
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls), host);
        return;
    }
    SSL_set_tlsext_host_name(tls, host);
    SSL_set1_host(tls, host);
}

short cql_tls_wants(const SSL *tls, int result) {
    switch (SSL_get_error(tls, result)) {
    case SSL_ERROR_WANT_READ:
        return POLLIN;
    case SSL_ERROR_WANT_WRITE:
        return POLLOUT;
    default:
        return 0;
    }
}

static bool run_handshake(SSL *tls, int fd, const struct deadline *deadline, struct error *error) {
    for (;;) {
        short wanted;
        int result;
        ERR_clear_error();
        result = SSL_connect(tls);
        if (result == 1)
            return true;
        wanted = cql_tls_wants(tls, result);
        if (wanted == 0 && SSL_get_verify_result(tls) != X509_V_OK)
            return error_set(error, "the node's certificate is refused: %s",
                             X509_verify_cert_error_string(SSL_get_verify_result(tls)));
        if (wanted == 0)
            return error_set(error, "the node does not speak TLS as asked for: %s",
                             ERR_peek_error() != 0 ? cql_tls_reason() : "it closed the connection");
        if (!deadline_wait_or_fail(deadline, fd, wanted, error))
            return false;
    }
}

SSL *cql_tls_start(SSL_CTX *context, int fd, const char *host, const struct deadline *deadline, struct error *error) {
    SSL *tls = SSL_new(context);

    if (tls == NULL || SSL_set_fd(tls, fd) != 1) {
        error_set(error, "app_manager.scylladb.tls: %s", cql_tls_reason());
        SSL_free(tls);
        return NULL;
    }
    set_peer_name(tls, host);
    if (run_handshake(tls, fd, deadline, error))
        return tls;
    error_prefix(error, "app_manager.scylladb.tls");
    SSL_free(tls);
    return NULL;
}
