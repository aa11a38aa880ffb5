#include "store/scylladb/cql/cql_socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/resolve.h"
#include "store/scylladb/cql/cql_tls.h"

/* --- connecting --- */

static int begin_tcp_connect(const struct addrinfo *address) {
    const int yes = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0 || errno == EINPROGRESS)
        return fd;
    close(fd);
    return -1;
}

static bool finish_tcp_connect(int fd, const struct deadline *deadline, struct error *error) {
    int code = 0;
    socklen_t size = sizeof code;

    if (!deadline_wait_or_fail(deadline, fd, POLLOUT, error))
        return false;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size);
    return code == 0 || error_set(error, "%s", strerror(code));
}

/* The part of the deadline for the first of `count` attempts, so that one that hangs leaves time for the others. */
static struct deadline divide_deadline(const struct deadline *deadline, unsigned count) {
    struct deadline part = deadline_after(deadline_remaining_ms(deadline) / count, deadline->cancel_fd);

    return part.ends_ns < deadline->ends_ns ? part : *deadline;
}

static int connect_to_any_address(const struct addrinfo *addresses, const struct deadline *deadline,
                                  struct error *error) {
    unsigned left = 0;

    for (const struct addrinfo *at = addresses; at != NULL; at = at->ai_next)
        left++;
    for (const struct addrinfo *at = addresses; at != NULL; at = at->ai_next) {
        const struct deadline part = divide_deadline(deadline, left--);
        int fd = begin_tcp_connect(at);
        if (fd < 0) {
            error_set(error, "%s", strerror(errno));
            continue;
        }
        if (finish_tcp_connect(fd, &part, error))
            return fd;
        close(fd);
    }
    return -1;
}

static int connect_to_host(const struct cql_node_address *node, const struct deadline *deadline, struct error *error) {
    struct addrinfo *addresses = resolve_addresses(node->host, node->port, deadline, error);
    int fd;

    if (addresses == NULL)
        return -1;
    fd = connect_to_any_address(addresses, deadline, error);
    freeaddrinfo(addresses);
    return fd;
}

/* Connects, with TLS if there is a context. Takes the context, also when it fails. */
static bool open_socket(struct cql_socket *socket, const struct cql_node_address *address, SSL_CTX *tls_context,
                        const struct deadline *deadline, struct error *error) {
    *socket = (struct cql_socket){.fd = connect_to_host(address, deadline, error), .tls_context = tls_context};
    if (socket->fd >= 0 && tls_context != NULL)
        socket->tls = cql_tls_start(tls_context, socket->fd, address->host, deadline, error);
    if (socket->fd >= 0 && (tls_context == NULL || socket->tls != NULL))
        return true;
    cql_socket_close(socket);
    return false;
}

bool cql_socket_open(struct cql_socket *socket, const struct cql_node_address *address,
                     const struct config_tls *settings, const struct deadline *deadline, struct error *error) {
    SSL_CTX *tls_context;
    struct deadline half;

    *socket = (struct cql_socket){.fd = -1};
    if (settings->mode == CONFIG_TLS_DISABLE)
        return open_socket(socket, address, NULL, deadline, error);
    tls_context = cql_tls_context(settings, error);
    if (tls_context == NULL)
        return false;
    if (settings->mode != CONFIG_TLS_PREFER)
        return open_socket(socket, address, tls_context, deadline, error);
    /* A node with which TLS fails is connected to without. */
    half = divide_deadline(deadline, 2);
    return open_socket(socket, address, tls_context, &half, error) ||
           open_socket(socket, address, NULL, deadline, error);
}

void cql_socket_close(struct cql_socket *socket) {
    SSL_free(socket->tls);
    SSL_CTX_free(socket->tls_context);
    if (socket->fd >= 0)
        close(socket->fd);
    *socket = (struct cql_socket){.fd = -1};
}

/* --- bytes --- */

/* Moves some bytes; 0: wait for `*wanted`; -1: it failed. */
static ssize_t move_some_bytes(struct cql_socket *socket, void *data, size_t length, bool writes, short *wanted) {
    ssize_t moved;

    *wanted = writes ? POLLOUT : POLLIN;
    if (socket->tls != NULL) {
        ERR_clear_error();
        int result = writes ? SSL_write(socket->tls, data, (int)length) : SSL_read(socket->tls, data, (int)length);
        if (result > 0)
            return result;
        *wanted = cql_tls_wants(socket->tls, result);
        return *wanted != 0 ? 0 : -1;
    }
    moved = writes ? send(socket->fd, data, length, MSG_NOSIGNAL) : recv(socket->fd, data, length, 0);
    if (moved > 0)
        return moved;
    return moved < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static bool move_all_bytes(struct cql_socket *socket, void *data, size_t length, bool writes,
                           const struct deadline *deadline, struct error *error) {
    size_t done = 0;
    short wanted;

    while (done < length) {
        ssize_t moved = move_some_bytes(socket, (char *)data + done, length - done, writes, &wanted);
        if (moved < 0) {
            const char *reason = socket->tls != NULL ? cql_tls_reason() : NULL;
            return error_set(error, "the node closed the connection%s%s", reason != NULL ? ": " : "",
                             reason != NULL ? reason : "");
        }
        done += (size_t)moved;
        if (moved == 0 && !deadline_wait_or_fail(deadline, socket->fd, wanted, error))
            return false;
    }
    return true;
}

bool cql_socket_send(struct cql_socket *socket, const void *data, size_t length, const struct deadline *deadline,
                     struct error *error) {
    return move_all_bytes(socket, (void *)data, length, true, deadline, error);
}

bool cql_socket_receive(struct cql_socket *socket, void *data, size_t length, const struct deadline *deadline,
                        struct error *error) {
    return move_all_bytes(socket, data, length, false, deadline, error);
}
