#include "handover/handover_socket.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define RECEIVE_BYTES (64 * 1024)
#define KEEP_BYTES (4 * RECEIVE_BYTES)

/* --- connecting --- */

bool handover_place_open(struct handover_place *place, const char *parent, struct error *error) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int reason;

    place->fd = -1;
    place->path[0] = '\0';
    if ((size_t)snprintf(place->folder, sizeof place->folder, "%s/curlew-upgrade-XXXXXX", parent) + sizeof "/socket" >
        sizeof place->folder) {
        place->folder[0] = '\0';
        return error_set(error, "cannot make a folder for the upgrade below %s: the path is too long for a socket",
                         parent);
    }
    if (mkdtemp(place->folder) == NULL) {
        place->folder[0] = '\0';
        return error_set(error, "cannot make a folder for the upgrade below %s: %s", parent, strerror(errno));
    }
    snprintf(place->path, sizeof place->path, "%.*s/socket", (int)(sizeof place->path - sizeof "/socket"),
             place->folder);
    memcpy(address.sun_path, place->path, sizeof place->path);
    place->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (place->fd >= 0 && bind(place->fd, (struct sockaddr *)&address, sizeof address) == 0 &&
        chmod(place->path, 0600) == 0 && listen(place->fd, 8) == 0)
        return true;
    reason = errno;
    handover_place_close(place);
    return error_set(error, "cannot listen on %s for the new process: %s", address.sun_path, strerror(reason));
}

/* True if the process at the other end is `pid`, of the own user. */
static bool peer_is(int fd, pid_t pid, struct error *error) {
    struct ucred peer = {0};
    socklen_t length = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
        return error_set(error, "cannot tell who is at the other end of the socket of the upgrade: %s",
                         strerror(errno));
    if (peer.uid == geteuid() && peer.pid == pid)
        return true;
    return error_set(error,
                     "process %d of user %u is at the other end of the socket of the upgrade, but it should be "
                     "process %d of user %u",
                     (int)peer.pid, (unsigned)peer.uid, (int)pid, (unsigned)geteuid());
}

int handover_place_accept(struct handover_place *place, pid_t pid, const struct deadline *deadline,
                          struct error *error) {
    struct error stranger;

    while (deadline_wait_or_fail(deadline, place->fd, POLLIN, error)) {
        int fd = accept4(place->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0 && peer_is(fd, pid, &stranger))
            return fd;
        if (fd >= 0) {
            log_warning("upgrade", "%s; it is refused", stranger.text);
            close(fd);
        } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            error_set(error, "cannot accept the new process: %s", strerror(errno));
            return -1;
        }
    }
    return -1;
}

void handover_place_close(struct handover_place *place) {
    if (place->fd >= 0)
        close(place->fd);
    if (place->path[0] != '\0')
        unlink(place->path);
    if (place->folder[0] != '\0')
        rmdir(place->folder);
    place->fd = -1;
    place->path[0] = place->folder[0] = '\0';
}

int handover_connect(const char *path, pid_t pid, struct error *error) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(path) >= sizeof address.sun_path) {
        error_set(error, "the path %s is too long for a socket", path);
        return -1;
    }
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        error_set(error, "cannot connect to the old process on %s: %s", path, strerror(errno));
    else if (peer_is(fd, pid, error))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* --- messages --- */

void handover_socket_init(struct handover_socket *socket, int fd) {
    *socket = (struct handover_socket){.fd = fd};
}

void handover_socket_dispose(struct handover_socket *socket) {
    for (unsigned i = 0; i < socket->fd_count; i++)
        close(socket->fds[i]);
    socket->fd_count = 0;
    buffer_dispose(&socket->in);
    socket->in_start = 0;
    if (socket->fd >= 0)
        close(socket->fd);
    socket->fd = -1;
}

/* Keeps the descriptors of a received piece. False if they are more than the other side sends. */
static bool keep_received_fds(struct handover_socket *socket, struct msghdr *head, struct error *error) {
    bool room = (head->msg_flags & MSG_CTRUNC) == 0;

    for (struct cmsghdr *part = CMSG_FIRSTHDR(head); part != NULL; part = CMSG_NXTHDR(head, part)) {
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
            if (socket->fd_count < HANDOVER_FDS_MAX) {
                socket->fds[socket->fd_count++] = fd;
            } else {
                close(fd);
                room = false;
            }
        }
    }
    return room || error_set(error,
                             "the other process sends more descriptors than messages, or this process may "
                             "open no more files");
}

/* Receives a piece into the buffer. */
static enum handover_received receive_piece(struct handover_socket *socket, struct error *error) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(HANDOVER_FDS_MAX * sizeof(int))];
    } control;
    struct iovec piece;
    struct msghdr head = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t length;

    if (!buffer_try_reserve(&socket->in, RECEIVE_BYTES)) {
        error_set(error, "no memory for a message of the other process");
        return HANDOVER_BROKEN;
    }
    piece = (struct iovec){socket->in.data + socket->in.length, socket->in.capacity - socket->in.length};
    length = recvmsg(socket->fd, &head, MSG_CMSG_CLOEXEC);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return HANDOVER_GOT_NOTHING;
    if (length == 0 || (length < 0 && errno == ECONNRESET))
        return HANDOVER_ENDED;
    if (length < 0) {
        error_set(error, "cannot receive from the other process: %s", strerror(errno));
        return HANDOVER_BROKEN;
    }
    socket->in.length += (size_t)length;
    return keep_received_fds(socket, &head, error) ? HANDOVER_GOT_MESSAGE : HANDOVER_BROKEN;
}

/* Removes the messages that were handled from the buffer. A large buffer is not kept. */
static void drop_handled(struct handover_socket *socket) {
    size_t left = socket->in.length - socket->in_start;

    if (left == 0 && socket->in.capacity > KEEP_BYTES)
        buffer_dispose(&socket->in);
    if (left != 0)
        memmove(socket->in.data, socket->in.data + socket->in_start, left);
    socket->in.length = left;
    socket->in_start = 0;
}

enum handover_received handover_socket_receive(struct handover_socket *socket, struct handover_message *message,
                                               struct error *error) {
    for (;;) {
        struct slice all = buffer_slice(&socket->in), rest = slice_skip(all, socket->in_start);
        enum handover_parsed parsed = handover_parse(&rest, message, error);
        enum handover_received received;

        if (parsed == HANDOVER_INVALID)
            return HANDOVER_BROKEN;
        if (parsed == HANDOVER_MESSAGE) {
            socket->in_start = all.length - rest.length;
            return HANDOVER_GOT_MESSAGE;
        }
        if (socket->in_start != 0)
            drop_handled(socket);
        received = receive_piece(socket, error);
        if (received == HANDOVER_ENDED && socket->in.length != 0) {
            error_set(error, "the other process has ended in the middle of a message");
            return HANDOVER_BROKEN;
        }
        if (received != HANDOVER_GOT_MESSAGE)
            return received;
    }
}

int handover_socket_take_fd(struct handover_socket *socket) {
    int fd;

    if (socket->fd_count == 0)
        return -1;
    fd = socket->fds[0];
    memmove(socket->fds, socket->fds + 1, --socket->fd_count * sizeof socket->fds[0]);
    return fd;
}

ssize_t handover_socket_send(struct handover_socket *socket, struct slice bytes, int fd, struct error *error) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec piece = {(char *)bytes.data, bytes.length};
    struct msghdr head = {.msg_iov = &piece, .msg_iovlen = 1};
    ssize_t sent;

    if (fd >= 0) {
        head.msg_control = control.bytes;
        head.msg_controllen = sizeof control.bytes;
        control.align =
            (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&head)), &fd, sizeof fd);
    }
    sent = sendmsg(socket->fd, &head, MSG_NOSIGNAL);
    if (sent >= 0)
        return sent;
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    error_set(error, "cannot send to the other process: %s", strerror(errno));
    return -1;
}

bool handover_socket_await(struct handover_socket *socket, uint8_t type, struct handover_message *message,
                           const struct deadline *deadline, struct error *error) {
    for (;;) {
        switch (handover_socket_receive(socket, message, error)) {
        case HANDOVER_GOT_MESSAGE:
            if (type == 0 || message->type == type)
                return true;
            return error_set(error, "the other process sends a message of type %u in place of %u", message->type, type);
        case HANDOVER_GOT_NOTHING:
            if (!deadline_wait_or_fail(deadline, socket->fd, POLLIN, error))
                return false;
            break;
        case HANDOVER_ENDED:
            return error_set(error, "the other process has ended");
        case HANDOVER_BROKEN:
            return false;
        }
    }
}

bool handover_socket_write(struct handover_socket *socket, uint8_t type, struct slice payload, int fd,
                           const struct deadline *deadline, struct error *error) {
    struct buffer frame = {0};
    size_t done = 0;
    bool good = true;

    handover_append(&frame, type, payload);
    while (good && done != frame.length) {
        ssize_t sent = handover_socket_send(socket, slice_skip(buffer_slice(&frame), done), done == 0 ? fd : -1, error);
        good = sent > 0 || (sent == 0 && deadline_wait_or_fail(deadline, socket->fd, POLLOUT, error));
        done += sent > 0 ? (size_t)sent : 0;
    }
    buffer_dispose(&frame);
    return good;
}

bool handover_socket_greet(struct handover_socket *socket, const char *own_program, char *program, size_t size,
                           const struct deadline *deadline, struct error *error) {
    const struct handover_hello own = {.version = HANDOVER_VERSION, .program = slice_of(own_program)};
    struct handover_message message;
    struct handover_hello other;
    struct buffer payload = {0};
    bool sent;

    handover_hello_append(&payload, &own);
    sent = handover_socket_write(socket, HANDOVER_HELLO, buffer_slice(&payload), -1, deadline, error);
    buffer_dispose(&payload);
    if (!sent || !handover_socket_await(socket, HANDOVER_HELLO, &message, deadline, error) ||
        !handover_hello_parse(message.payload, &other, error))
        return false;
    snprintf(program, size, "%.*s", SLICE_ARGS(other.program));
    return other.version == HANDOVER_VERSION ||
           error_set(error,
                     "curlew %s passes its connections on with messages of version %u, and curlew %s with version %u; "
                     "restart the server instead",
                     own_program, HANDOVER_VERSION, program, other.version);
}
