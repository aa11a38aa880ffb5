#include "handover/handover_sockets.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "net/activation.h"
#include "net/listener.h"

bool passed_socket_send(struct handover_socket *connection, const struct passed_socket *passed,
                        const struct deadline *deadline, struct error *error) {
    const struct handover_listener listener = {.supervised = passed->supervised, .name = slice_of(passed->name)};
    struct buffer payload = {0};
    bool good;

    handover_listener_append(&payload, &listener);
    good = handover_socket_write(connection, HANDOVER_LISTENER, buffer_slice(&payload), passed->fd, deadline, error);
    buffer_dispose(&payload);
    return good;
}

/* False with an error if it cannot be accepted from. */
static bool check_listening(int fd, struct slice name, struct error *error) {
    int listens = 0, type = 0;
    socklen_t length = sizeof listens;

    if (fd < 0)
        return error_set(error, "the other process passes no socket with the name %.*s", SLICE_ARGS(name));
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 &&
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && listens != 0 && type == SOCK_STREAM)
        return true;
    return error_set(error, "what the other process passes as the socket %.*s does not listen", SLICE_ARGS(name));
}

static bool keep_passed(struct passed_sockets *sockets, struct handover_socket *connection, struct slice payload,
                        struct error *error) {
    int fd = handover_socket_take_fd(connection);
    struct handover_listener listener;
    struct passed_socket *passed;

    if (!handover_listener_parse(payload, &listener, error) || !check_listening(fd, listener.name, error) ||
        (sockets->count == PASSED_SOCKETS_MAX &&
         !error_set(error, "the other process passes more than %u sockets", PASSED_SOCKETS_MAX))) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    passed = &sockets->list[sockets->count++];
    *passed = (struct passed_socket){.supervised = listener.supervised, .fd = fd};
    snprintf(passed->name, sizeof passed->name, "%.*s", SLICE_ARGS(listener.name));
    return true;
}

bool passed_sockets_receive(struct passed_sockets *sockets, struct handover_socket *connection,
                            const struct deadline *deadline, struct error *error) {
    struct handover_message message;

    for (;;) {
        if (!handover_socket_await(connection, 0, &message, deadline, error))
            return false;
        if (message.type == HANDOVER_LISTENERS_END)
            return true;
        if (message.type != HANDOVER_LISTENER)
            return error_set(error, "the other process sends a message of type %u in place of its sockets",
                             message.type);
        if (!keep_passed(sockets, connection, message.payload, error))
            return false;
    }
}

/* The next socket of this name, from `*at` on; NULL: none. */
static struct passed_socket *next_passed(struct passed_sockets *sockets, const char *name, bool supervised,
                                         unsigned *at) {
    while (*at < sockets->count) {
        struct passed_socket *passed = &sockets->list[(*at)++];
        if (passed->fd >= 0 && passed->supervised == supervised && strcmp(passed->name, name) == 0)
            return passed;
    }
    return NULL;
}

static int take_passed(struct passed_socket *passed) {
    int fd = passed->fd;

    passed->fd = -1;
    return fd;
}

int passed_sockets_take_supervised(struct passed_sockets *sockets, const char *name) {
    unsigned at = 0;
    struct passed_socket *passed = next_passed(sockets, name, true, &at);

    return passed != NULL ? take_passed(passed) : -1;
}

int passed_sockets_take_tcp(struct passed_sockets *sockets, const char *name, const char *host, uint16_t port) {
    struct passed_socket *passed;

    for (unsigned at = 0; (passed = next_passed(sockets, name, false, &at)) != NULL;)
        if (listens_on_tcp(passed->fd, host, port))
            return take_passed(passed);
    return -1;
}

int passed_sockets_take_unix(struct passed_sockets *sockets, const char *name, const char *path) {
    struct passed_socket *passed;

    for (unsigned at = 0; (passed = next_passed(sockets, name, false, &at)) != NULL;)
        if (listens_on_unix(passed->fd, path))
            return take_passed(passed);
    return -1;
}

static void close_passed(const struct passed_socket *passed) {
    union {
        struct sockaddr any;
        struct sockaddr_un local;
    } address = {.any.sa_family = AF_UNSPEC};
    socklen_t length = sizeof address;
    char text[160];

    activation_describe(passed->fd, text, sizeof text);
    log_info("upgrade", "%s, the port \"%s\" of the old process, is closed: it is not in the configuration any more",
             text, passed->name);
    if (!passed->supervised && getsockname(passed->fd, &address.any, &length) == 0 &&
        address.any.sa_family == AF_UNIX && length > sizeof address.any.sa_family && address.local.sun_path[0] != '\0')
        unlink(address.local.sun_path);
    close(passed->fd);
}

void passed_sockets_close(struct passed_sockets *sockets) {
    for (unsigned i = 0; i < sockets->count; i++)
        if (sockets->list[i].fd >= 0)
            close_passed(&sockets->list[i]);
    sockets->count = 0;
}

void passed_sockets_forget(struct passed_sockets *sockets) {
    for (unsigned i = 0; i < sockets->count; i++)
        if (sockets->list[i].fd >= 0)
            close(sockets->list[i].fd);
    sockets->count = 0;
}
