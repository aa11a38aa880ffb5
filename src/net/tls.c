#include "net/tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

/* The opaque types are OpenSSL's; the names are ours, so that its headers stay in this file. */
static SSL_CTX *context_of(struct tls_context *context) {
    return (SSL_CTX *)context;
}

static SSL *ssl_of(const struct tls_connection *connection) {
    return (SSL *)connection;
}

static int give_passphrase(char *buffer, int size, int writing, void *context) {
    const char *passphrase = context;
    size_t length = passphrase != NULL ? strlen(passphrase) : 0;

    (void)writing;
    if (length > (size_t)size)
        return -1;
    if (length != 0)
        memcpy(buffer, passphrase, length);
    return (int)length;
}

static bool failed(struct error *error, const char *setting, const char *path) {
    /* The first is the cause; what the callers of its finder add says less and less. */
    unsigned long code = ERR_peek_error();
    const char *reason = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);

    ERR_clear_error();
    return error_set(error, "`%s`: %s cannot be used: %s", setting, path, reason != NULL ? reason : "unknown reason");
}

static bool load(SSL_CTX *context, const struct tls_settings *settings, struct error *error) {
    if (SSL_CTX_use_certificate_chain_file(context, settings->cert_path) != 1)
        return failed(error, "ssl.cert_path", settings->cert_path);
    SSL_CTX_set_default_passwd_cb(context, give_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(context, (void *)settings->passphrase);
    if (SSL_CTX_use_PrivateKey_file(context, settings->key_path, SSL_FILETYPE_PEM) != 1)
        return failed(error, settings->passphrase != NULL ? "ssl.key_path or ssl.passphrase" : "ssl.key_path",
                      settings->key_path);
    SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
    if (SSL_CTX_check_private_key(context) != 1)
        return failed(error, "ssl.key_path (it is not the certificate's)", settings->key_path);
    if (settings->ca_path != NULL) {
        if (SSL_CTX_load_verify_locations(context, settings->ca_path, NULL) != 1)
            return failed(error, "ssl.ca_path", settings->ca_path);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    return true;
}

/* HTTP/1.1 is all that is spoken here; a client that offers only something else is told so in the handshake. */
static int choose_protocol(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_length,
                           const unsigned char *offered, unsigned int offered_length, void *context) {
    static const unsigned char http11[] = "\x08http/1.1";

    (void)ssl;
    (void)context;
    if (SSL_select_next_proto((unsigned char **)chosen, chosen_length, http11, sizeof http11 - 1, offered,
                              offered_length) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    return SSL_TLSEXT_ERR_OK;
}

struct tls_context *tls_context_create(const struct tls_settings *settings, struct error *error) {
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    if (context == NULL) {
        error_set(error, "TLS cannot be set up: OpenSSL gives no context");
        return NULL;
    }
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    /* An idle connection keeps no buffers; a repeated write may come from another address. */
    SSL_CTX_set_mode(context,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    SSL_CTX_set_session_id_context(context, (const unsigned char *)"curlew", 6);
    if (!load(context, settings, error)) {
        SSL_CTX_free(context);
        return NULL;
    }
    return (struct tls_context *)context;
}

void tls_context_destroy(struct tls_context *context) {
    SSL_CTX_free(context_of(context));
}

struct tls_connection *tls_connection_create(struct tls_context *context, int fd) {
    SSL *ssl = SSL_new(context_of(context));

    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        ERR_clear_error();
        return NULL;
    }
    SSL_set_accept_state(ssl);
    return (struct tls_connection *)ssl;
}

void tls_connection_destroy(struct tls_connection *connection) {
    SSL_free(ssl_of(connection));
}

/* Turns OpenSSL's answer into recv's or send's. */
static ssize_t translate(SSL *ssl, int result, bool *want_write) {
    int reason = result > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl, result);

    *want_write = false;
    ERR_clear_error();
    switch (reason) {
    case SSL_ERROR_NONE:
        return result;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_WANT_WRITE:
        *want_write = true;
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_WANT_READ:
        errno = EAGAIN;
        return -1;
    default:
        errno = ECONNRESET; /* a broken handshake, a bad record, or a connection that just ended */
        return -1;
    }
}

ssize_t tls_read(struct tls_connection *connection, void *data, size_t length, bool *want_write) {
    SSL *ssl = ssl_of(connection);

    return translate(ssl, SSL_read(ssl, data, length < INT_MAX ? (int)length : INT_MAX), want_write);
}

ssize_t tls_write(struct tls_connection *connection, const void *data, size_t length, bool *want_write) {
    SSL *ssl = ssl_of(connection);

    return translate(ssl, SSL_write(ssl, data, length < INT_MAX ? (int)length : INT_MAX), want_write);
}

bool tls_has_pending(const struct tls_connection *connection) {
    return SSL_has_pending(ssl_of(connection)) != 0;
}

void tls_shutdown(struct tls_connection *connection) {
    SSL_shutdown(ssl_of(connection));
    ERR_clear_error();
}
