#include "socket.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fail.h"

static SSL_CTX *client_context(void) {
    static SSL_CTX *context;

    if (context != NULL)
        return context;
    context = SSL_CTX_new(TLS_client_method());
    if (context == NULL)
        fail("setting up TLS");
    SSL_CTX_set_mode(context,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1); /* one read for several records: the generator must not be the limit */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    return context;
}

void socket_open(struct source *source, const struct target *target) {
    source->fd = target_connect(target);
    source->tls = NULL;
    if (!target->tls)
        return;
    source->tls = SSL_new(client_context());
    if (source->tls == NULL || SSL_set_fd(source->tls, source->fd) != 1)
        fail("setting up TLS for a connection");
    SSL_set_connect_state(source->tls);
}

void socket_close(struct source *source) {
    SSL_free(source->tls);
    close(source->fd);
}

/* Converts a result of OpenSSL to that of recv or send. */
static ssize_t tls_result(struct source *source, int result) {
    int reason = SSL_get_error(source->tls, result);

    if (reason == SSL_ERROR_NONE)
        return result;
    if (reason == SSL_ERROR_ZERO_RETURN)
        return 0;
    if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE)
        errno = EAGAIN;
    else if (reason == SSL_ERROR_SSL)
        fail("TLS: %s", ERR_reason_error_string(ERR_peek_error()));
    ERR_clear_error();
    return -1;
}

ssize_t socket_send(struct source *source, const void *data, size_t length) {
    if (source->tls == NULL)
        return send(source->fd, data, length, MSG_NOSIGNAL);
    return tls_result(source, SSL_write(source->tls, data, (int)length));
}

ssize_t socket_receive(struct source *source, void *data, size_t length) {
    size_t total = 0;
    int count = 0;

    if (source->tls == NULL)
        return recv(source->fd, data, length, 0);
    /* All records that have come: epoll does not tell of those that OpenSSL has already read. */
    while (total < length && (count = SSL_read(source->tls, (char *)data + total, (int)(length - total))) > 0)
        total += (size_t)count;
    return total != 0 ? (ssize_t)total : tls_result(source, count);
}
