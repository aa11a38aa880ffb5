#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/network.h"
#include "store/mysql/mysql_internal.h"
#include "store/response_limit.h"

#define ERROR_PACKET 0xff
#define GREETING_PAUSE_MS 2 /* between two looks at a greeting that has not arrived completely */

/* The callback gets the socket, not the connection. */
static _Thread_local struct mysql_connection *current;

/* The library leaves sockets blocking, and TLS would then read from them without calling mysql_driver_wait. */
static void make_nonblocking(my_socket socket) {
    fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK);
}

void mysql_driver_use(struct mysql_connection *connection) {
    current = connection;
    if (connection == NULL)
        return;
    if (connection->link != NULL)
        make_nonblocking(mysql_get_socket(connection->link));
    connection->received = connection->link != NULL ? response_received(mysql_get_socket(connection->link)) : 0;
    connection->too_large = false;
    connection->gave_up = false;
}

static bool give_up_operation(void) {
    current->gave_up = true;
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
 * half of the capabilities. The library takes higher numbers than 10 for the same. Anything else is an error packet,
 * which it understands. */
static enum greeting read_greeting(const unsigned char *bytes, size_t length) {
    const unsigned char *zero;
    size_t at;

    if (length < 5)
        return GREETING_INCOMPLETE;
    if (bytes[4] < PROTOCOL_VERSION || bytes[4] == ERROR_PACKET)
        return GREETING_OTHER;
    zero = memchr(bytes + 5, '\0', length - 5);
    at = zero != NULL ? (size_t)(zero - bytes) + 1 + 13 : length;
    if (at + 2 > length)
        return GREETING_INCOMPLETE;
    return ((bytes[at] | bytes[at + 1] << 8) & CLIENT_SSL) != 0 ? GREETING_WITH_TLS : GREETING_WITHOUT_TLS;
}

static bool socket_has_failed(my_socket socket) {
    struct pollfd polled = {.fd = socket, .events = POLLIN};

    return poll(&polled, 1, 0) > 0 && (polled.revents & (POLLERR | POLLHUP)) != 0;
}

/*
 * Without TLS, another machine gets no password that it could read: the server chooses the plugin. Those that hash the
 * password with the server's random number are allowed. Not so caching_sha2_password and sha256_password: if the server
 * asks for it, the library encrypts the password with an RSA key that the same server has sent.
 */
static void keep_password_from_leaving(my_socket socket) {
    if (network_peer_is_local(socket))
        return;
    mysql_options(current->link, MARIADB_OPT_RESTRICTED_AUTH,
                  "mysql_native_password,client_ed25519,parsec,auth_gssapi_client");
    /* The first offer of a server may be another than that of the user, which it asks for then. */
    mysql_options(current->link, MYSQL_DEFAULT_AUTH, "mysql_native_password");
}

/*
 * Checks the greeting, which every server sends first, before the library reads it. When the server offers no TLS the
 * library goes on without, even if it was told to use TLS, and may send the password in clear text: libmariadb reports
 * TLS as in use when it was only requested.
 */
static bool check_greeting(my_socket socket) {
    unsigned char bytes[512];
    enum greeting greeting = GREETING_INCOMPLETE;
    my_bool enforced = 0;

    while (greeting == GREETING_INCOMPLETE) {
        ssize_t length;
        if (deadline_wait(&current->base.deadline, socket, POLLIN) != WAIT_READY)
            return give_up_operation();
        if (socket_has_failed(socket)) /* the library may try another address */
            return true;
        length = recv(socket, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
        if (length <= 0)
            return true;
        greeting = read_greeting(bytes, (size_t)length);
        if (greeting == GREETING_INCOMPLETE && length == sizeof bytes) /* no real server's is so long */
            greeting = GREETING_WITHOUT_TLS;
        if (greeting == GREETING_INCOMPLETE && !deadline_sleep(&current->base.deadline, GREETING_PAUSE_MS))
            return give_up_operation();
    }
    current->expects_greeting = false;
    if (current->wants_tls && greeting != GREETING_WITHOUT_TLS)
        return true;
    keep_password_from_leaving(socket);
    if (!current->wants_tls)
        return true;
    mysql_options(current->link, MYSQL_OPT_SSL_ENFORCE, &enforced);
    current->offers_no_tls = true;
    return current->store->config->tls.mode == CONFIG_TLS_PREFER;
}

int mysql_driver_wait(my_socket socket, my_bool for_reading, int timeout) {
    (void)timeout;
    make_nonblocking(socket);
    if (deadline_wait(&current->base.deadline, socket, for_reading ? POLLIN : POLLOUT) != WAIT_READY)
        return give_up_operation();
    if (!response_fits(socket, current->received)) {
        current->too_large = true;
        return give_up_operation();
    }
    return !current->expects_greeting || check_greeting(socket);
}
