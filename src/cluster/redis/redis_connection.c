#include "cluster/redis/redis_connection.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/list.h"
#include "base/resolve.h"
#include "cluster/redis/redis_tls.h"

/* Read at once, and of one connection in a turn. A record of TLS fits into it, so OpenSSL keeps nothing back. */
#define READ_BYTES (16 * 1024)
#define READS_PER_TURN 8
/* Read at once without TLS: the time of the turn is looked at after each read, and this may be a hundred messages. */
#define READ_PLAIN_BYTES (4 * 1024)

/* Blocks that are written at once: half a megabyte. */
#define WRITE_PARTS 32

/* The largest value: an event with everything that belongs to it. */
#define VALUE_BYTES_MAX (64 * 1024 * 1024)

#define PROBE_MS 5000
/* A timer that fires so much later than it should shows that this thread was stopped, not Redis. */
#define PROBE_LATE_MS 1000

enum redis_phase { PHASE_LOOKUP, PHASE_CONNECT, PHASE_TLS, PHASE_LOGIN, PHASE_UP, PHASE_FAILED };

struct redis_connection {
    struct loop *loop;
    struct redis_place place;
    const struct redis_access *access;
    struct redis_connection_events events;
    enum redis_phase phase;
    struct loop_target target; /* of the lookup, then of the socket */
    int fd;                    /* the socket; -1: none */
    uint32_t watched;          /* events; 0: not watched */
    struct loop_timer timer;   /* the deadline until it is up, then the probe; due at once after a failure */
    uint64_t timeout_ms, deadline_ms;

    struct resolve_lookup *lookup;
    struct addrinfo *addresses, *next_address;
    SSL *tls;
    bool read_wants_write; /* TLS has to write before it reads on */

    struct redis_login login;
    struct redis_reader *reader;
    struct redis_output output;

    bool probing; /* the answer to the probe has not come */
    uint64_t probe_due_ms;
    uint64_t probe_end;  /* sent_total at which the probe is written */
    uint64_t probe_sent; /* sent_total at the last look */

    unsigned busy; /* its events are being called: it is freed later */
    bool doomed;
    struct error error; /* why it failed */
};

bool redis_place_set(struct redis_place *place, struct slice host, uint16_t port) {
    if (host.length > REDIS_HOST_MAX || memchr(host.data, '\0', host.length) != NULL)
        return false;
    memcpy(place->host, host.data, host.length);
    place->host[host.length] = '\0';
    place->port = port;
    return true;
}

struct redis_output *redis_connection_output(struct redis_connection *connection) {
    return &connection->output;
}

bool redis_connection_is_up(const struct redis_connection *connection) {
    return connection->phase == PHASE_UP;
}

/* --- the end --- */

static void release_redis_socket(struct redis_connection *connection) {
    if (connection->watched != 0)
        loop_unwatch(connection->loop, connection->lookup != NULL ? resolve_fd(connection->lookup) : connection->fd,
                     &connection->target);
    connection->watched = 0;
    resolve_end(connection->lookup);
    connection->lookup = NULL;
    SSL_free(connection->tls);
    connection->tls = NULL;
    if (connection->fd >= 0)
        close(connection->fd);
    connection->fd = -1;
}

static void free_redis_connection(struct redis_connection *connection) {
    if (connection->addresses != NULL)
        freeaddrinfo(connection->addresses);
    redis_reader_destroy(connection->reader);
    redis_output_dispose(&connection->output);
    free(connection);
}

void redis_connection_destroy(struct redis_connection *connection) {
    if (connection == NULL || connection->doomed)
        return;
    release_redis_socket(connection);
    loop_timer_end(connection->loop, &connection->timer);
    connection->doomed = true;
    if (connection->busy == 0)
        free_redis_connection(connection);
}

/* Begin and end a stretch in which events may be called; the second one returns false if the connection is gone. */
static void enter_redis_connection(struct redis_connection *connection) {
    connection->busy++;
}

static bool leave_redis_connection(struct redis_connection *connection) {
    connection->busy--;
    if (!connection->doomed)
        return true;
    if (connection->busy == 0)
        free_redis_connection(connection);
    return false;
}

/* The error is in `error`. */
static void fail_redis_connection(struct redis_connection *connection) {
    if (connection->phase == PHASE_FAILED)
        return;
    error_prefix(&connection->error, "Redis at %s:%u (%s)", connection->place.host, connection->place.port,
                 connection->access->key);
    connection->phase = PHASE_FAILED;
    release_redis_socket(connection);
    redis_output_dispose(&connection->output);
    loop_timer_set(connection->loop, &connection->timer, 0);
}

void redis_connection_fail(struct redis_connection *connection, const char *format, ...) {
    va_list arguments;

    if (connection->phase == PHASE_FAILED || connection->doomed)
        return;
    va_start(arguments, format);
    error_set_list(&connection->error, format, arguments);
    va_end(arguments);
    fail_redis_connection(connection);
}

void redis_connection_refused(struct redis_connection *connection, const char *what, const struct redis_value *answer) {
    bool no_right = redis_value_begins_with(answer, "NOPERM");

    redis_connection_fail(connection, "it refuses to %s: %.200s%s", what,
                          answer->type == REDIS_ERROR ? answer->text.data : "its answer is not known",
                          no_right ? "; its ACL has to give the user this right, and the channels that begin with the "
                                     "prefix of the adapter"
                                   : "");
}

/* --- writing --- */

static void watch_redis_socket(struct redis_connection *connection, uint32_t events) {
    if (events == connection->watched)
        return;
    if (connection->watched != 0)
        loop_rewatch(connection->loop, connection->fd, events, &connection->target);
    else if (!loop_watch(connection->loop, connection->fd, events, &connection->target)) {
        redis_connection_fail(connection, "watching the connection: %s", strerror(errno));
        return;
    }
    connection->watched = events;
}

/* Returns what was written; 0: the socket takes nothing at the moment, or no more. An error shows when it is read. */
static size_t write_redis_parts(struct redis_connection *connection, struct iovec *parts, size_t count) {
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    ssize_t written;
    int result;

    if (connection->tls == NULL) {
        written = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        return written > 0 ? (size_t)written : 0;
    }
    ERR_clear_error();
    result =
        SSL_write(connection->tls, parts[0].iov_base, parts[0].iov_len > INT32_MAX ? INT32_MAX : (int)parts[0].iov_len);
    return result > 0 ? (size_t)result : 0;
}

void redis_connection_flush(struct redis_connection *connection) {
    struct redis_output *output = &connection->output;
    struct iovec parts[WRITE_PARTS];
    size_t written;

    if ((connection->phase != PHASE_UP && connection->phase != PHASE_LOGIN) || connection->doomed)
        return;
    do {
        size_t count = redis_output_parts(output, parts, WRITE_PARTS);
        written = count > 0 ? write_redis_parts(connection, parts, count) : 0;
        redis_output_written(output, written);
    } while (written > 0 && loop_has_time(connection->loop));
    watch_redis_socket(connection, output->waiting > 0 || connection->read_wants_write ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* --- probing --- */

static void set_probe_timer(struct redis_connection *connection) {
    connection->probe_due_ms = loop_now_ms(connection->loop) + PROBE_MS;
    loop_timer_set(connection->loop, &connection->timer, PROBE_MS);
}

void redis_connection_answered(struct redis_connection *connection) {
    connection->probing = false;
}

/* True while an answer may still come: this thread was stopped itself, or the probe waits behind output that goes on
 * being written. */
static bool redis_probe_goes_on(struct redis_connection *connection) {
    const struct redis_output *output = &connection->output;
    bool late = loop_now_ms(connection->loop) > connection->probe_due_ms + PROBE_LATE_MS;
    bool moving = output->sent_total < connection->probe_end && output->sent_total > connection->probe_sent;

    connection->probe_sent = output->sent_total;
    return late || moving;
}

static void probe_redis_connection(struct redis_connection *connection) {
    if (connection->probing && !redis_probe_goes_on(connection)) {
        redis_connection_fail(connection, "no answer for %u s", PROBE_MS / 1000);
        return;
    }
    set_probe_timer(connection);
    if (connection->probing)
        return;
    connection->probing = true;
    connection->probe_sent = connection->output.sent_total;
    enter_redis_connection(connection);
    connection->events.probe(connection->events.context);
    connection->probe_end = connection->output.sent_total + connection->output.waiting;
    redis_connection_flush(connection);
    leave_redis_connection(connection);
}

/* --- reading --- */

static void enter_redis_up(struct redis_connection *connection) {
    connection->phase = PHASE_UP;
    loop_timer_end(connection->loop, &connection->timer);
    if (connection->events.probe != NULL)
        set_probe_timer(connection);
    connection->events.up(connection->events.context);
}

static void take_redis_value(struct redis_connection *connection, struct redis_value *value) {
    enum redis_login_result result;

    if (connection->phase == PHASE_UP) {
        connection->events.value(connection->events.context, value);
        return;
    }
    result = redis_login_answer(&connection->login, connection->access, value, &connection->error);
    redis_value_free(value);
    if (result == REDIS_LOGIN_FAILED)
        fail_redis_connection(connection);
    else if (result == REDIS_LOGIN_DONE)
        enter_redis_up(connection);
}

static bool redis_connection_reads(const struct redis_connection *connection) {
    return !connection->doomed && (connection->phase == PHASE_UP || connection->phase == PHASE_LOGIN);
}

static void take_redis_bytes(struct redis_connection *connection, struct slice bytes) {
    struct redis_value *value;

    if (!redis_reader_feed(connection->reader, bytes, &connection->error)) {
        fail_redis_connection(connection);
        return;
    }
    while (redis_connection_reads(connection)) {
        if (!redis_reader_next(connection->reader, &value, &connection->error))
            fail_redis_connection(connection);
        else if (value != NULL)
            take_redis_value(connection, value);
        else
            return;
    }
}

/* Returns the bytes that were read; 0: none are there, or the connection is over. */
static size_t read_redis_tls(struct redis_connection *connection, char *data) {
    unsigned wanted;
    int result;

    ERR_clear_error();
    result = SSL_read(connection->tls, data, READ_BYTES);
    connection->read_wants_write = false;
    if (result > 0)
        return (size_t)result;
    wanted = redis_tls_wants(connection->tls, result);
    connection->read_wants_write = wanted == EPOLLOUT;
    if (wanted == 0)
        redis_connection_fail(connection, "it closed the connection");
    return 0;
}

/* What a port that wants TLS does with a login in clear text. */
static const char *hint_at_redis_tls(const struct redis_connection *connection) {
    return connection->phase == PHASE_LOGIN ? " before it answered: if it wants TLS, write rediss://" : "";
}

static size_t read_redis_socket(struct redis_connection *connection, char *data) {
    ssize_t count;

    if (connection->tls != NULL)
        return read_redis_tls(connection, data);
    count = recv(connection->fd, data, READ_PLAIN_BYTES, MSG_DONTWAIT);
    if (count > 0)
        return (size_t)count;
    if (count == 0)
        redis_connection_fail(connection, "it closed the connection%s", hint_at_redis_tls(connection));
    else if (errno != EAGAIN && errno != EINTR)
        redis_connection_fail(connection, "%s%s", strerror(errno), hint_at_redis_tls(connection));
    return 0;
}

static void serve_redis_connection(struct redis_connection *connection) {
    char data[READ_BYTES];

    for (unsigned i = 0; i < READS_PER_TURN && redis_connection_reads(connection); i++) {
        size_t count = read_redis_socket(connection, data);
        if (count == 0)
            break;
        take_redis_bytes(connection, (struct slice){data, count});
        if (!loop_has_time(connection->loop))
            break;
    }
    redis_connection_flush(connection);
    if (!connection->doomed && connection->phase == PHASE_UP && connection->events.progress != NULL)
        connection->events.progress(connection->events.context);
}

/* --- connecting --- */

static void begin_redis_login(struct redis_connection *connection) {
    connection->phase = PHASE_LOGIN;
    redis_login_begin(&connection->login, connection->access, &connection->output);
    redis_connection_flush(connection);
}

static void continue_redis_handshake(struct redis_connection *connection) {
    unsigned wanted;
    int result;

    ERR_clear_error();
    result = SSL_connect(connection->tls);
    if (result == 1) {
        begin_redis_login(connection);
        return;
    }
    wanted = redis_tls_wants(connection->tls, result);
    if (wanted != 0) {
        watch_redis_socket(connection, wanted);
        return;
    }
    redis_tls_explain(connection->tls, &connection->error);
    fail_redis_connection(connection);
}

static void begin_redis_handshake(struct redis_connection *connection) {
    if (connection->access->tls == NULL) {
        begin_redis_login(connection);
        return;
    }
    connection->phase = PHASE_TLS;
    connection->tls =
        redis_tls_create(connection->access->tls, connection->fd, connection->place.host, &connection->error);
    if (connection->tls == NULL)
        fail_redis_connection(connection);
    else
        continue_redis_handshake(connection);
}

/* Each address gets its share of the time that is left. */
static void set_redis_address_timer(struct redis_connection *connection) {
    uint64_t now_ms = loop_now_ms(connection->loop);
    uint64_t left_ms = connection->deadline_ms > now_ms ? connection->deadline_ms - now_ms : 0;
    unsigned count = 1;

    for (const struct addrinfo *at = connection->next_address; at != NULL; at = at->ai_next)
        count++;
    loop_timer_set(connection->loop, &connection->timer, left_ms / count);
}

static int open_redis_socket(const struct addrinfo *address) {
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int failure;

    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0 || errno == EINPROGRESS)
        return fd;
    failure = errno;
    close(fd);
    errno = failure;
    return -1;
}

/* Tries the next address. Without one the connection has failed, for the reason in errno. */
static void try_next_redis_address(struct redis_connection *connection) {
    release_redis_socket(connection);
    connection->phase = PHASE_CONNECT;
    while (connection->fd < 0 && connection->next_address != NULL) {
        connection->fd = open_redis_socket(connection->next_address);
        connection->next_address = connection->next_address->ai_next;
    }
    if (connection->fd < 0) {
        redis_connection_fail(connection, "%s", strerror(errno));
        return;
    }
    set_redis_address_timer(connection);
    watch_redis_socket(connection, EPOLLOUT);
}

static void finish_redis_connect(struct redis_connection *connection) {
    socklen_t length = sizeof(int);
    int failure = 0;

    getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &failure, &length);
    if (failure == 0) {
        uint64_t now_ms = loop_now_ms(connection->loop);
        loop_timer_set(connection->loop, &connection->timer,
                       connection->deadline_ms > now_ms ? connection->deadline_ms - now_ms : 0);
        begin_redis_handshake(connection);
        return;
    }
    errno = failure;
    try_next_redis_address(connection);
}

static void finish_redis_lookup(struct redis_connection *connection) {
    connection->addresses = resolve_take(connection->lookup, &connection->error);
    connection->next_address = connection->addresses;
    if (connection->addresses != NULL)
        try_next_redis_address(connection);
    else
        fail_redis_connection(connection);
}

static void on_redis_ready(struct loop_target *target, uint32_t events) {
    struct redis_connection *connection = container_of(target, struct redis_connection, target);

    (void)events;
    enter_redis_connection(connection);
    switch (connection->phase) {
    case PHASE_LOOKUP:
        finish_redis_lookup(connection);
        break;
    case PHASE_CONNECT:
        finish_redis_connect(connection);
        break;
    case PHASE_TLS:
        continue_redis_handshake(connection);
        break;
    case PHASE_LOGIN:
    case PHASE_UP:
        serve_redis_connection(connection);
        break;
    case PHASE_FAILED:
        break;
    }
    leave_redis_connection(connection);
}

static void on_redis_timer(struct loop_timer *timer) {
    struct redis_connection *connection = container_of(timer, struct redis_connection, timer);

    if (connection->phase == PHASE_UP) {
        probe_redis_connection(connection);
        return;
    }
    if (connection->phase == PHASE_CONNECT && connection->next_address != NULL) {
        errno = ETIMEDOUT;
        try_next_redis_address(connection);
        return;
    }
    if (connection->phase != PHASE_FAILED) {
        redis_connection_fail(
            connection, "no answer%s within %u ms%s", connection->phase == PHASE_TLS ? " to the handshake of TLS" : "",
            (unsigned)connection->timeout_ms, connection->phase == PHASE_TLS ? ": a port without TLS gives none" : "");
        return;
    }
    enter_redis_connection(connection);
    connection->events.lost(connection->events.context, connection->error.text);
    leave_redis_connection(connection);
}

struct redis_connection *redis_connection_open(struct loop *loop, const struct redis_place *place,
                                               const struct redis_access *access, uint64_t timeout_ms,
                                               const struct redis_connection_events *events) {
    struct redis_connection *connection = alloc_zero(sizeof *connection);

    *connection = (struct redis_connection){
        .loop = loop, .place = *place, .access = access, .events = *events, .phase = PHASE_LOOKUP, .fd = -1};
    connection->target.ready = on_redis_ready;
    connection->timer.fire = on_redis_timer;
    connection->timeout_ms = timeout_ms;
    connection->deadline_ms = loop_now_ms(loop) + timeout_ms;
    connection->reader = redis_reader_create(VALUE_BYTES_MAX);
    loop_timer_set(loop, &connection->timer, timeout_ms);
    connection->lookup = resolve_begin(place->host, place->port, &connection->error);
    if (connection->lookup == NULL)
        fail_redis_connection(connection);
    else if (!loop_watch(loop, resolve_fd(connection->lookup), EPOLLIN, &connection->target))
        redis_connection_fail(connection, "watching the lookup: %s", strerror(errno));
    else
        connection->watched = EPOLLIN;
    return connection;
}
