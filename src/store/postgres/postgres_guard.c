#include "store/postgres/postgres_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/network.h"

/* AuthenticationCleartextPassword: 'R', a length below 64 KB and the number 3. libpq may take the middle of a longer
 * message for the beginning of one, so it is looked for everywhere. */
#define CLEAR_REQUEST_BYTES 9

void postgres_guard_init(struct postgres_guard *guard, PGconn *link, const struct deadline *deadline) {
    *guard = (struct postgres_guard){.link = link, .deadline = deadline, .server = -1, .relay = -1};
}

static ino_t inode_of(int fd) {
    struct stat status;

    return fd >= 0 && fstat(fd, &status) == 0 ? status.st_ino : 0;
}

static void stop_guarding(struct postgres_guard *guard) {
    if (guard->server >= 0)
        close(guard->server);
    if (guard->relay >= 0)
        close(guard->relay);
    guard->server = guard->relay = -1;
}

static bool is_encrypted(const struct postgres_guard *guard) {
    return PQsslInUse(guard->link) != 0 || PQgssEncInUse(guard->link) != 0;
}

/* True if libpq is about to send its first bytes to another machine. */
static bool is_to_be_guarded(const struct postgres_guard *guard) {
    const char *password = PQpass(guard->link);

    return guard->server < 0 && PQstatus(guard->link) == CONNECTION_MADE && !is_encrypted(guard) && password != NULL &&
           password[0] != '\0' && !network_peer_is_local(PQsocket(guard->link));
}

static bool begin_guarding(struct postgres_guard *guard, struct error *error) {
    int fd = PQsocket(guard->link), pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        return error_set(error, "socketpair: %s", strerror(errno));
    guard->server = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    guard->relay = pair[0];
    guard->pair = inode_of(pair[1]);
    guard->asked_to_encrypt = guard->encrypts = false;
    memset(guard->seen, 0, sizeof guard->seen);
    if (guard->server >= 0 && dup3(pair[1], fd, O_CLOEXEC) == fd) {
        close(pair[1]);
        return true;
    }
    error_set(error, "dup: %s", strerror(errno));
    close(pair[1]);
    stop_guarding(guard);
    return false;
}

/* --- from libpq to the server --- */

/* SSLRequest and GSSENCRequest, which are answered with one byte. */
static bool asks_to_encrypt(const char *bytes, size_t length) {
    return length == 8 &&
           (memcmp(bytes, "\0\0\0\x08\x04\xd2\x16\x2f", 8) == 0 || memcmp(bytes, "\0\0\0\x08\x04\xd2\x16\x30", 8) == 0);
}

static bool send_to_server(struct postgres_guard *guard, const char *bytes, size_t length, struct error *error) {
    while (length != 0) {
        ssize_t sent = send(guard->server, bytes, length, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return true; /* libpq learns of it when it reads */
        if (sent < 0 && !deadline_wait_or_fail(guard->deadline, guard->server, POLLOUT, error))
            return false;
        bytes += sent > 0 ? sent : 0;
        length -= sent > 0 ? (size_t)sent : 0;
    }
    return true;
}

static bool pass_to_server(struct postgres_guard *guard, struct error *error) {
    char bytes[4096];
    ssize_t length;
    bool passed = true;

    while (passed && (length = recv(guard->relay, bytes, sizeof bytes, 0)) > 0) {
        guard->asked_to_encrypt = asks_to_encrypt(bytes, (size_t)length);
        passed = send_to_server(guard, bytes, (size_t)length, error);
    }
    explicit_bzero(bytes, sizeof bytes);
    return passed;
}

/* --- from the server to libpq --- */

static bool asks_for_clear_password(const char *bytes, size_t length) {
    for (size_t i = 0; i + CLEAR_REQUEST_BYTES <= length; i++)
        if (bytes[i] == 'R' && memcmp(bytes + i + 1, "\0", 2) == 0 && memcmp(bytes + i + 5, "\0\0\0\x03", 4) == 0)
            return true;
    return false;
}

/* Passes on what has come from the server: one byte if that is the answer to a request to encrypt. */
static bool pass_to_libpq(struct postgres_guard *guard, struct error *error) {
    char bytes[POSTGRES_GUARD_TAIL + 4096], *come = bytes + POSTGRES_GUARD_TAIL;
    ssize_t length = recv(guard->server, come, guard->asked_to_encrypt ? 1 : sizeof bytes - POSTGRES_GUARD_TAIL, 0);

    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (length <= 0) {
        shutdown(guard->relay, SHUT_WR);
        return true;
    }
    guard->encrypts = guard->asked_to_encrypt && (come[0] == 'S' || come[0] == 'G');
    guard->asked_to_encrypt = false;
    memcpy(bytes, guard->seen, sizeof guard->seen);
    if (asks_for_clear_password(bytes, POSTGRES_GUARD_TAIL + (size_t)length))
        return error_set(error,
                         "the server asks for the password in clear text, and the connection is not encrypted: set "
                         "database.postgres.tls.mode to `require`, or let the server use scram-sha-256 (pg_hba.conf)");
    memcpy(guard->seen, come + length - POSTGRES_GUARD_TAIL, sizeof guard->seen);
    if (send(guard->relay, come, (size_t)length, MSG_NOSIGNAL) != length)
        return error_set(error, "the server sends too much while signing in");
    return true;
}

/* --- for postgres_connect.c --- */

/* Bytes that libpq has not read yet. */
static int libpq_unread_bytes(const struct postgres_guard *guard) {
    int count = 0;

    return ioctl(PQsocket(guard->link), FIONREAD, &count) == 0 ? count : 0;
}

static bool give_socket_back(struct postgres_guard *guard, struct error *error) {
    bool given = libpq_unread_bytes(guard) == 0 && dup3(guard->server, PQsocket(guard->link), O_CLOEXEC) >= 0;

    stop_guarding(guard);
    return given || error_set(error, "the server says more than it was asked for while signing in");
}

bool postgres_guard_wait(struct postgres_guard *guard, PostgresPollingStatusType wants, struct error *error) {
    bool reads = wants == PGRES_POLLING_READING;

    if (guard->server >= 0 && inode_of(PQsocket(guard->link)) != guard->pair)
        stop_guarding(guard); /* libpq tries again on another socket */
    if (is_to_be_guarded(guard) && !begin_guarding(guard, error))
        return false;
    if (guard->server >= 0 && !pass_to_server(guard, error))
        return false;
    if (guard->server >= 0 && guard->encrypts && !give_socket_back(guard, error))
        return false;
    if (guard->server < 0)
        return deadline_wait_or_fail(guard->deadline, PQsocket(guard->link), reads ? POLLIN : POLLOUT, error);
    if (!reads || libpq_unread_bytes(guard) != 0)
        return true;
    return deadline_wait_or_fail(guard->deadline, guard->server, POLLIN, error) && pass_to_libpq(guard, error);
}

bool postgres_guard_end(struct postgres_guard *guard, struct error *error) {
    bool guards = guard->server >= 0 && inode_of(PQsocket(guard->link)) == guard->pair;

    if (guards && PQstatus(guard->link) == CONNECTION_OK)
        return give_socket_back(guard, error);
    stop_guarding(guard);
    return true;
}
