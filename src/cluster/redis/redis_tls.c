#include "cluster/redis/redis_tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/epoll.h>

/* The first error of the queue is the cause, the later ones are its consequences. */
static const char *redis_tls_reason(void) {
    unsigned long code = ERR_peek_error();
    const char *text = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);

    return text != NULL ? text : "for no known reason";
}

/* Refuses keys that need a password, since OpenSSL would ask for it on the terminal. */
static int refuse_redis_key_password(char *password, int size, int writes, void *context) {
    (void)password;
    (void)size;
    (void)writes;
    (void)context;
    return 0;
}

static bool redis_file_failed(const char *setting, const char *path, struct error *error) {
    return error_set(error, "database.redis.tls.%s %s: %s", setting, path, redis_tls_reason());
}

static bool set_up_redis_context(SSL_CTX *context, const struct redis_tls_files *files, struct error *error) {
    const char *key_path = files->key_path != NULL ? files->key_path : files->cert_path;

    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_default_passwd_cb(context, refuse_redis_key_password);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (files->ca_path != NULL && SSL_CTX_load_verify_locations(context, files->ca_path, NULL) != 1)
        return redis_file_failed("ca_path", files->ca_path, error);
    if (files->ca_path == NULL)
        SSL_CTX_set_default_verify_paths(context);
    if (files->cert_path != NULL && SSL_CTX_use_certificate_chain_file(context, files->cert_path) != 1)
        return redis_file_failed("cert_path", files->cert_path, error);
    if (key_path != NULL && SSL_CTX_use_PrivateKey_file(context, key_path, SSL_FILETYPE_PEM) != 1)
        return redis_file_failed("key_path", key_path, error);
    return true;
}

SSL_CTX *redis_tls_context(const struct redis_tls_files *files, struct error *error) {
    SSL_CTX *context;

    ERR_clear_error();
    context = SSL_CTX_new(TLS_client_method());
    if (context != NULL && set_up_redis_context(context, files, error))
        return context;
    if (context == NULL)
        error_set(error, "database.redis.tls: %s", redis_tls_reason());
    SSL_CTX_free(context);
    return NULL;
}

static bool set_redis_peer(SSL *tls, const char *host) {
    struct in6_addr ignored;

    if (inet_pton(AF_INET, host, &ignored) == 1 || inet_pton(AF_INET6, host, &ignored) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls), host) == 1;
    return SSL_set_tlsext_host_name(tls, host) == 1 && SSL_set1_host(tls, host) == 1;
}

SSL *redis_tls_create(SSL_CTX *context, int fd, const char *host, struct error *error) {
    SSL *tls;

    ERR_clear_error();
    tls = SSL_new(context);
    if (tls != NULL && SSL_set_fd(tls, fd) == 1 && set_redis_peer(tls, host)) {
        SSL_set_connect_state(tls);
        return tls;
    }
    error_set(error, "TLS: %s", redis_tls_reason());
    SSL_free(tls);
    return NULL;
}

unsigned redis_tls_wants(const SSL *tls, int result) {
    switch (SSL_get_error(tls, result)) {
    case SSL_ERROR_WANT_READ:
        return EPOLLIN;
    case SSL_ERROR_WANT_WRITE:
        return EPOLLOUT;
    default:
        return 0;
    }
}

bool redis_tls_explain(const SSL *tls, struct error *error) {
    long verified = SSL_get_verify_result(tls);

    if (verified == X509_V_ERR_HOSTNAME_MISMATCH || verified == X509_V_ERR_IP_ADDRESS_MISMATCH)
        return error_set(error, "its certificate is refused: %s; it has to name the host as the setting does",
                         X509_verify_cert_error_string(verified));
    if (verified != X509_V_OK)
        return error_set(error,
                         "its certificate is refused: %s; database.redis.tls.ca_path names a file with the "
                         "authority of the certificate",
                         X509_verify_cert_error_string(verified));
    return error_set(error, "it does not speak TLS: %s",
                     ERR_peek_error() != 0 ? redis_tls_reason() : "it closed the connection");
}
