#include "net/tls.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/proverr.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/budget.h"
#include "net/peer_address.h"
#include "net/tls_tickets.h"

/* The heads of the first record and of the ClientHello in it. */
#define HELLO_HEAD_BYTES 9
/* Of a ClientHello. Those of browsers have up to 2 KB, and a ticket may add a few. */
#define HELLO_MAX_BYTES 16384

/* Memory of a connection as measured with OpenSSL 3.0: during the handshake at most, and afterwards without its
 * buffers, which are there only while a record is incomplete. */
#define HANDSHAKE_BYTES (46 * 1024)
#define CONNECTION_BYTES (13 * 1024)

/* The opaque types of tls.h are OpenSSL's types under our own names, so that its headers stay in this file. */
static SSL_CTX *ssl_context_of(struct tls_context *context) {
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

enum tls_file { CERTIFICATE, KEY, AUTHORITIES };

static const char *const no_pem[] = {"it holds no certificate in PEM format", "it holds no private key in PEM format",
                                     "it holds no certificate in PEM format"};

/*
 * Translates OpenSSL's reason into terms of the configuration; NULL for rare reasons. A wrong passphrase shows only as
 * invalid plaintext, so each encryption format reports it with another reason.
 */
static const char *explain_failure(unsigned long code, enum tls_file file, const char *passphrase) {
    switch (ERR_GET_LIB(code) << 16 | ERR_GET_REASON(code)) {
    case ERR_LIB_X509 << 16 | X509_R_KEY_VALUES_MISMATCH:
    case ERR_LIB_X509 << 16 | X509_R_KEY_TYPE_MISMATCH:
    case ERR_LIB_SSL << 16 | SSL_R_NO_CERTIFICATE_ASSIGNED: /* no certificate for a key of that type */
        return "it is not the key of the certificate in ssl.cert_path";
    case ERR_LIB_PROV << 16 | PROV_R_BAD_DECRYPT:
    case ERR_LIB_EVP << 16 | EVP_R_BAD_DECRYPT:
    case ERR_LIB_PEM << 16 | PEM_R_BAD_DECRYPT:
    case ERR_LIB_PKCS12 << 16 | PKCS12_R_PKCS12_CIPHERFINAL_ERROR:
        return passphrase != NULL ? "it is encrypted, and not with ssl.passphrase"
                                  : "it is encrypted, so ssl.passphrase has to be given";
    case ERR_LIB_OSSL_DECODER << 16 | ERR_R_UNSUPPORTED:
        return passphrase != NULL ? "it holds no private key in PEM format, or none with this ssl.passphrase"
                                  : no_pem[file];
    case ERR_LIB_PEM << 16 | PEM_R_NO_START_LINE:
    case ERR_LIB_X509 << 16 | X509_R_NO_CERTIFICATE_OR_CRL_FOUND:
        return no_pem[file];
    default:
        return NULL;
    }
}

static bool set_tls_error(struct error *error, const struct tls_settings *settings, enum tls_file file) {
    const char *const names[] = {"ssl.cert_path", "ssl.key_path", "ssl.ca_path"};
    const char *const paths[] = {settings->cert_path, settings->key_path, settings->ca_path};
    /* The first error in the queue is the cause; the later ones, from the callers, are less specific. */
    unsigned long code = ERR_peek_error();
    const char *reason =
        ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : explain_failure(code, file, settings->passphrase);

    if (reason == NULL)
        reason = ERR_reason_error_string(code);
    ERR_clear_error();
    return error_set(error, "%s: %s cannot be used: %s", names[file], paths[file],
                     reason != NULL ? reason : "unknown reason");
}

static bool load_pem_file(SSL_CTX *context, const struct tls_settings *settings, struct error *error) {
    if (SSL_CTX_use_certificate_chain_file(context, settings->cert_path) != 1)
        return set_tls_error(error, settings, CERTIFICATE);
    SSL_CTX_set_default_passwd_cb(context, give_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(context, (void *)settings->passphrase);
    if (SSL_CTX_use_PrivateKey_file(context, settings->key_path, SSL_FILETYPE_PEM) != 1)
        return set_tls_error(error, settings, KEY);
    SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
    if (SSL_CTX_check_private_key(context) != 1)
        return set_tls_error(error, settings, KEY);
    if (settings->ca_path != NULL) {
        if (SSL_CTX_load_verify_locations(context, settings->ca_path, NULL) != 1)
            return set_tls_error(error, settings, AUTHORITIES);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    return true;
}

/* Selects HTTP/1.1, the only protocol served here; the handshake fails if the client offers only others (ALPN). */
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

/* Sets up the contexts that encrypt or decrypt a ticket with this key. */
static bool start_ticket(const struct tls_ticket_key *key, const unsigned char *iv, EVP_CIPHER_CTX *cipher,
                         EVP_MAC_CTX *mac, bool encrypt) {
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key->mac, sizeof key->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end(),
    };

    return EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->encryption, iv, encrypt) == 1 &&
           EVP_MAC_CTX_set_params(mac, parameters) == 1;
}

/*
 * Chooses the key of a ticket, for OpenSSL. Returns -1: the handshake fails; 0: the ticket is not resumed; 1: it is;
 * 2: it is, and the client gets a new one. A ticket of TLS 1.3 is for one use (RFC 8446 appendix C.4).
 */
static int choose_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                             int encrypt) {
    struct tls_tickets *tickets = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    enum tls_ticket_state state = TLS_TICKET_NEWEST;
    struct tls_ticket_key key;
    bool good;

    if (encrypt) {
        tls_tickets_newest(tickets, &key);
        memcpy(name, key.name, sizeof key.name);
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
            return -1;
    } else {
        state = tls_tickets_find(tickets, name, &key);
        if (state == TLS_TICKET_UNKNOWN)
            return 0;
    }
    good = start_ticket(&key, iv, cipher, mac, encrypt);
    OPENSSL_cleanse(&key, sizeof key);
    if (!good)
        return -1;
    return state == TLS_TICKET_OLD || SSL_version(ssl) >= TLS1_3_VERSION ? 2 : 1;
}

/* Lets clients resume their sessions with tickets, or not at all; the server never keeps a session. */
static void set_resumption(SSL_CTX *context, const struct tls_settings *settings) {
    SSL_CTX_set_session_id_context(context, (const unsigned char *)"curlew", 6);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_max_early_data(context, 0); /* 0-RTT data could be replayed (RFC 8446 section 8) */
    SSL_CTX_set_timeout(context, TLS_TICKET_LIFETIME_S);
    /* A resumed session does not show the client's certificate again: it may have expired, or its authority may not be
     * accepted any more. */
    if (settings->tickets == NULL || settings->ca_path != NULL) {
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(context, 0);
        return;
    }
    SSL_CTX_set_app_data(context, settings->tickets);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(context, choose_ticket_key);
}

/*
 * True if the kernel can encrypt. A socket that is not connected is refused with ENOTCONN then, and otherwise with
 * ENOENT. As root, the kernel tries to load the module `tls` for it, which takes milliseconds: once for a context, not
 * for each connection.
 */
static bool kernel_has_tls(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") != 0 && errno == ENOTCONN;

    if (fd >= 0)
        close(fd);
    return has;
}

/*
 * Ciphers with forward secrecy and authenticated encryption. AES-128 goes before AES-256: it takes less CPU time for
 * each byte, and nobody can try 2^128 keys. ChaCha20 goes first for clients that prefer it, because they have no AES
 * instructions.
 */
static void set_ciphers(SSL_CTX *context) {
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
    SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM+AES128:ECDHE+AESGCM:ECDHE+CHACHA20");
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
}

struct tls_context *tls_context_create(const struct tls_settings *settings, struct error *error) {
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    if (context == NULL) {
        error_set(error, "TLS cannot be set up: OpenSSL cannot create a context");
        return NULL;
    }
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    set_ciphers(context);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
    if (kernel_has_tls())
        SSL_CTX_set_options(context, SSL_OP_ENABLE_KTLS);
    /* Idle connections keep no buffers; a repeated write may pass another buffer address. */
    SSL_CTX_set_mode(context,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    set_resumption(context, settings);
    if (!load_pem_file(context, settings, error)) {
        SSL_CTX_free(context);
        return NULL;
    }
    return (struct tls_context *)context;
}

void tls_context_destroy(struct tls_context *context) {
    SSL_CTX_free(ssl_context_of(context));
}

/* SSL_set_fd prepares the socket for kernel TLS, also where there is none. */
static bool attach_socket(SSL *ssl, int fd) {
    BIO *bio;

    if ((SSL_get_options(ssl) & SSL_OP_ENABLE_KTLS) != 0)
        return SSL_set_fd(ssl, fd) == 1;
    bio = BIO_new(BIO_s_socket());
    if (bio == NULL)
        return false;
    BIO_set_fd(bio, fd, BIO_NOCLOSE);
    SSL_set_bio(ssl, bio, bio);
    return true;
}

bool tls_has_room(void) {
    return budget_has_room(BUDGET_TLS, NULL, HANDSHAKE_BYTES);
}

/* How far the handshake is, kept as the application's data of a connection: whether the first message was looked at,
 * and whether the handshake's memory is freed. */
static char hello_awaited, hello_good, handshake_over;

struct tls_connection *tls_connection_create(struct tls_context *context, int fd) {
    SSL *ssl = SSL_new(ssl_context_of(context));

    if (ssl == NULL || !attach_socket(ssl, fd)) {
        SSL_free(ssl);
        ERR_clear_error();
        return NULL;
    }
    SSL_set_accept_state(ssl);
    budget_add(BUDGET_TLS, NULL, HANDSHAKE_BYTES);
    return (struct tls_connection *)ssl;
}

size_t tls_held_bytes(const struct tls_connection *connection) {
    return SSL_get_app_data(ssl_of(connection)) == &handshake_over ? CONNECTION_BYTES : HANDSHAKE_BYTES;
}

void tls_connection_destroy(struct tls_connection *connection) {
    SSL *ssl = ssl_of(connection);

    if (ssl == NULL)
        return;
    budget_give(BUDGET_TLS, NULL, tls_held_bytes(connection));
    SSL_free(ssl);
}

/* Tells a client that speaks plain HTTP to use TLS. What it has sent is read first: closing with unread input would
 * reset the connection, and the answer could be lost. */
static void answer_plain_http(int fd) {
    static const char answer[] =
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 54\r\n"
        "Connection: close\r\n\r\n{\"error\":\"this port has TLS: use https:// and wss://\"}";
    char input[4096];

    (void)!recv(fd, input, sizeof input, MSG_DONTWAIT);
    (void)!send(fd, answer, sizeof answer - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Says at level debug why the handshake or a record was refused; for a handshake the peer may have said it. */
static void handle_tls_failure(SSL *ssl) {
    unsigned long code = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(code);

    if (ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST) {
        answer_plain_http(SSL_get_fd(ssl));
        reason = "plain HTTP came to a port with TLS: use https:// and wss://";
    }
    peer_address_log_tls(SSL_get_fd(ssl), !SSL_is_init_finished(ssl),
                         reason != NULL ? reason : "OpenSSL gives no reason");
}

/* Converts a result of OpenSSL to that of recv or send. */
static ssize_t translate_result(SSL *ssl, int result, bool *want_write) {
    int reason;

    *want_write = false;
    if (result > 0)
        return result;
    reason = SSL_get_error(ssl, result);
    if (reason == SSL_ERROR_SSL)
        handle_tls_failure(ssl);
    ERR_clear_error();
    switch (reason) {
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
        errno = ECONNRESET; /* a failed handshake, a bad record, or a connection without close_notify */
        return -1;
    }
}

/* Frees a key inside its object, which OpenSSL keeps as long as the connection. */
static void wipe_key(EVP_PKEY *key) {
    EVP_PKEY_set_type(key, EVP_PKEY_NONE); /* fails, since there is no such type, after it has freed the key */
    EVP_PKEY_free(key);
}

/* Frees what only the handshake needed: the list of the client's ciphers and both keys of the key exchange. */
static void forget_handshake(SSL *ssl) {
    STACK_OF(SSL_CIPHER) *ciphers = SSL_get_client_ciphers(ssl);
    EVP_PKEY *key;

    if (SSL_get_app_data(ssl) == &handshake_over)
        return;
    SSL_set_app_data(ssl, &handshake_over);
    budget_give(BUDGET_TLS, NULL, HANDSHAKE_BYTES - CONNECTION_BYTES);
    if (ciphers == NULL || sk_SSL_CIPHER_num(ciphers) == 0)
        return;
    sk_SSL_CIPHER_zero(ciphers);
    sk_SSL_CIPHER_reserve(ciphers, 0);
    if (SSL_get_tmp_key(ssl, &key))
        wipe_key(key);
    if (SSL_get_peer_tmp_key(ssl, &key))
        wipe_key(key);
    ERR_clear_error();
}

/*
 * Looks at the first message before OpenSSL reads it: OpenSSL allocates the whole length that the message claims, up to
 * 128 KB for 9 bytes. True if OpenSSL may read; else errno is set. Other bytes than those of a ClientHello are left to
 * OpenSSL, which refuses them at once.
 */
static bool hello_may_be_read(SSL *ssl) {
    uint8_t head[HELLO_HEAD_BYTES];
    int fd = SSL_get_fd(ssl), all = sizeof head, one = 1;
    ssize_t count = recv(fd, head, sizeof head, MSG_PEEK);

    if (count < 0)
        return false;
    if (count == 0 || head[0] != SSL3_RT_HANDSHAKE)
        return true;
    if (count < all) {
        /* A client that has sent all of its head already, or has closed, cannot be waited for. */
        if (SSL_get_app_data(ssl) == &hello_awaited || setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &all, sizeof all) != 0) {
            errno = ECONNRESET;
            return false;
        }
        SSL_set_app_data(ssl, &hello_awaited);
        errno = EAGAIN;
        return false;
    }
    if (SSL_get_app_data(ssl) == &hello_awaited)
        setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
    /* The record has to hold the message's own head, which is its type and its length in three bytes. */
    if ((head[3] == 0 && head[4] < HELLO_HEAD_BYTES - SSL3_RT_HEADER_LENGTH) ||
        (head[6] << 16 | head[7] << 8 | head[8]) > HELLO_MAX_BYTES) {
        peer_address_log_tls(fd, true, "the ClientHello is too large, or split after fewer than 9 bytes");
        errno = ECONNRESET;
        return false;
    }
    SSL_set_app_data(ssl, &hello_good);
    return true;
}

ssize_t tls_read(struct tls_connection *connection, void *data, size_t length, bool *want_write) {
    SSL *ssl = ssl_of(connection);
    int count;

    *want_write = false;
    if (SSL_get_app_data(ssl) != &hello_good && SSL_in_before(ssl) && !hello_may_be_read(ssl))
        return -1;
    count = SSL_read(ssl, data, length < INT_MAX ? (int)length : INT_MAX);

    if (count > 0)
        forget_handshake(ssl);
    return translate_result(ssl, count, want_write);
}

ssize_t tls_write(struct tls_connection *connection, const void *data, size_t length, bool *want_write) {
    SSL *ssl = ssl_of(connection);

    return translate_result(ssl, SSL_write(ssl, data, length < TLS_RECORD_MAX ? (int)length : TLS_RECORD_MAX),
                            want_write);
}

bool tls_is_sent_by_kernel(const struct tls_connection *connection) {
    SSL *ssl = ssl_of(connection);

    /* Before that, OpenSSL may still have bytes of the handshake to send. */
    return SSL_is_init_finished(ssl) && BIO_get_ktls_send(SSL_get_wbio(ssl));
}

bool tls_in_handshake(const struct tls_connection *connection) {
    return !SSL_is_init_finished(ssl_of(connection));
}

bool tls_has_pending(const struct tls_connection *connection) {
    return SSL_has_pending(ssl_of(connection)) != 0;
}

void tls_shutdown(struct tls_connection *connection) {
    SSL_shutdown(ssl_of(connection));
    ERR_clear_error();
}
