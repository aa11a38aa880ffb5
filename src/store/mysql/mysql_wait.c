#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include "store/mysql/mysql_internal.h"
#include "store/response_limit.h"

#define AGAIN_MS 2 /* between two looks at a greeting that is not all there */

/* The library says which socket waits, not for whom. */
static _Thread_local struct mysql_connection *in_use;

/* The library leaves sockets blocking, and then TLS reads without a wait. */
static void unblock(my_socket socket) {
    fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK);
}

void mysql_driver_use(struct mysql_connection *connection) {
    if (connection->link != NULL)
        unblock(mysql_get_socket(connection->link));
    in_use = connection;
    connection->received = connection->link != NULL ? response_received(mysql_get_socket(connection->link)) : 0;
    connection->too_large = false;
    connection->gave_up = false;
}

static bool give_up(void) {
    in_use->gave_up = true;
    errno = ETIMEDOUT;
    return false;
}

const char *mysql_driver_why(const struct mysql_connection *connection) {
    if (connection->too_large)
        return response_too_large;
    return deadline_remaining_ms(&connection->base.deadline) == 0 ? "no answer in time" : "stopped";
}

/* --- the greeting --- */

enum greeting { GREETING_INCOMPLETE, GREETING_WITH_TLS, GREETING_WITHOUT_TLS, GREETING_OTHER };

/* Protocol::HandshakeV10: length and number of the packet, 10, the version and a zero byte, 13 bytes, and the lower
 * half of the capabilities. Anything else is an error packet, which the library understands. */
static enum greeting read_greeting(const unsigned char *bytes, size_t length) {
    const unsigned char *zero;
    size_t at;

    if (length < 5)
        return GREETING_INCOMPLETE;
    if (bytes[4] != PROTOCOL_VERSION)
        return GREETING_OTHER;
    zero = memchr(bytes + 5, '\0', length - 5);
    at = zero != NULL ? (size_t)(zero - bytes) + 1 + 13 : length;
    if (at + 2 > length)
        return GREETING_INCOMPLETE;
    return ((bytes[at] | bytes[at + 1] << 8) & CLIENT_SSL) != 0 ? GREETING_WITH_TLS : GREETING_WITHOUT_TLS;
}

static bool has_failed(my_socket socket) {
    struct pollfd polled = {.fd = socket, .events = POLLIN};

    return poll(&polled, 1, 0) > 0 && (polled.revents & (POLLERR | POLLHUP)) != 0;
}

/*
 * Told to use TLS, the library goes on without it when the server has none, and may then send the password as it is:
 * it takes the wish for the deed. So the greeting, with which every server begins, is looked at before the library sees
 * it.
 */
static bool look_at_greeting(my_socket socket) {
    unsigned char bytes[512];
    enum greeting greeting = GREETING_INCOMPLETE;
    my_bool no = 0;

    while (greeting == GREETING_INCOMPLETE) {
        ssize_t length;
        if (deadline_wait(&in_use->base.deadline, socket, POLLIN) != WAIT_READY)
            return give_up();
        if (has_failed(socket)) /* perhaps there is another address */
            return true;
        length = recv(socket, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
        if (length <= 0 || length == sizeof bytes)
            return true;
        greeting = read_greeting(bytes, (size_t)length);
        if (greeting == GREETING_INCOMPLETE && !deadline_sleep(&in_use->base.deadline, AGAIN_MS))
            return give_up();
    }
    in_use->expects_greeting = false;
    if (greeting != GREETING_WITHOUT_TLS)
        return true;
    mysql_options(in_use->link, MYSQL_OPT_SSL_ENFORCE, &no);
    in_use->offers_no_tls = true;
    return in_use->store->config->tls.mode == CONFIG_TLS_PREFER;
}

int mysql_driver_wait(my_socket socket, my_bool for_reading, int timeout) {
    (void)timeout;
    unblock(socket);
    if (deadline_wait(&in_use->base.deadline, socket, for_reading ? POLLIN : POLLOUT) != WAIT_READY)
        return give_up();
    if (!response_fits(socket, in_use->received)) {
        in_use->too_large = true;
        return give_up();
    }
    return !in_use->expects_greeting || look_at_greeting(socket);
}
