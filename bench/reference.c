#include "reference.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "fail.h"
#include "frame.h"
#include "process.h"

#define BACKLOG 4096
#define EVENTS_PER_WAIT 512
#define INPUT_SIZE (64 * 1024)
#define ACCEPT_KEY 24
#define ACCEPT_ANSWER 28

#define WEBSOCKET_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 section 1.3 */

/* Text without its zero byte, and a text frame with it, whose length is that of a short frame. */
#define TEXT_LENGTH(text) (sizeof(text) - 1)

static const char publish_answer[] =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nKeep-Alive: timeout=60\r\n"
    "Connection: keep-alive\r\n\r\n{}";

static const char upgrade_head[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";

static const char established[] =
    "{\"event\":\"pusher:connection_established\",\"data\":\"{\\\"socket_id\\\":\\\"1234567890.1234567890\\\","
    "\\\"activity_timeout\\\":120}\"}";

static const char succeeded[] =
    "{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":\"bench-storm-00\",\"data\":\"{}\"}";

static const char close_frame[] = {(char)FRAME_CLOSE, 2, 0x03, (char)0xe8};

struct reference {
    int epoll, listener;
    const struct hmac_key *secret;
    char upgrade[512]; /* the answer to an upgrade; only the accept key differs */
    size_t upgrade_length, accept_at;
    char subscribed[256];
    size_t subscribed_length;
    char input[INPUT_SIZE];
};

/* Writes an unmasked text frame of up to 125 or 65535 bytes; returns its length. */
static size_t write_text_frame(char *room, const char *text, size_t length) {
    size_t header = length < 126 ? 2 : 4;

    room[0] = (char)FRAME_TEXT;
    room[1] = (char)(length < 126 ? length : 126);
    if (header == 4) {
        room[2] = (char)(length >> 8);
        room[3] = (char)length;
    }
    memcpy(room + header, text, length);
    return header + length;
}

static void prepare_answers(struct reference *reference) {
    char *at = reference->upgrade;

    memcpy(at, upgrade_head, TEXT_LENGTH(upgrade_head));
    reference->accept_at = TEXT_LENGTH(upgrade_head);
    at += reference->accept_at + ACCEPT_ANSWER;
    memcpy(at, "\r\n\r\n", 4);
    at += 4;
    at += write_text_frame(at, established, TEXT_LENGTH(established));
    reference->upgrade_length = (size_t)(at - reference->upgrade);
    reference->subscribed_length = write_text_frame(reference->subscribed, succeeded, TEXT_LENGTH(succeeded));
}

static void send_answer(int fd, const char *answer, size_t length) {
    if (send(fd, answer, length, MSG_NOSIGNAL) != (ssize_t)length)
        _exit(1);
}

/* Returns the bytes of `text` behind `mark`. */
static struct slice behind(struct slice text, struct slice mark) {
    const char *found = memmem(text.data, text.length, mark.data, mark.length);

    if (found == NULL)
        _exit(1);
    return slice_skip(text, (size_t)(found - text.data) + mark.length);
}

/* Checks signature and digest of a publish, whose query has the order in which it is signed. */
static void take_publish(struct reference *reference, int fd, struct slice request) {
    struct slice target = behind(request, SLICE("POST ")), query = behind(target, SLICE("?"));
    struct slice body_md5 = behind(query, SLICE("&body_md5="));
    struct slice signature = behind(body_md5, SLICE("&auth_signature="));
    struct slice body = behind(signature, SLICE("\r\n\r\n"));
    struct slice parts[] = {
        SLICE("POST\n"),
        {target.data, (size_t)(query.data - target.data) - 1},
        SLICE("\n"),
        {query.data, (size_t)(signature.data - query.data) - TEXT_LENGTH("&auth_signature=")},
    };
    char hmac[HMAC_SHA256_HEX], md5[MD5_HEX];

    hmac_sha256_hex(reference->secret, parts, sizeof parts / sizeof parts[0], hmac);
    md5_hex(body, md5);
    if (memcmp(signature.data, hmac, sizeof hmac) != 0 || memcmp(body_md5.data, md5, sizeof md5) != 0)
        _exit(1);
    send_answer(fd, publish_answer, TEXT_LENGTH(publish_answer));
}

static void take_upgrade(struct reference *reference, int fd, struct slice request) {
    struct slice key = behind(request, SLICE("Sec-WebSocket-Key: "));
    char text[ACCEPT_KEY + TEXT_LENGTH(WEBSOCKET_GUID)];

    if (key.length < ACCEPT_KEY)
        _exit(1);
    memcpy(text, key.data, ACCEPT_KEY);
    memcpy(text + ACCEPT_KEY, WEBSOCKET_GUID, TEXT_LENGTH(WEBSOCKET_GUID));
    sha1_base64((struct slice){text, sizeof text}, reference->upgrade + reference->accept_at);
    send_answer(fd, reference->upgrade, reference->upgrade_length);
}

/* Takes what has arrived. The generator waits for each answer, so it is one message. */
static void take_message(struct reference *reference, int fd) {
    ssize_t count = recv(fd, reference->input, sizeof reference->input, 0);
    struct slice message = {reference->input, count > 0 ? (size_t)count : 0};

    if (count <= 0) {
        close(fd);
        return;
    }
    switch ((unsigned char)message.data[0]) {
    case 'P':
        take_publish(reference, fd, message);
        break;
    case 'G':
        take_upgrade(reference, fd, message);
        break;
    case FRAME_TEXT:
        send_answer(fd, reference->subscribed, reference->subscribed_length);
        break;
    case FRAME_CLOSE:
        send_answer(fd, close_frame, sizeof close_frame);
        close(fd);
        break;
    default:
        _exit(1);
    }
}

static void accept_all(struct reference *reference) {
    struct epoll_event event = {.events = EPOLLIN};

    while ((event.data.fd = accept4(reference->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        if (epoll_ctl(reference->epoll, EPOLL_CTL_ADD, event.data.fd, &event) != 0)
            _exit(1);
    if (errno != EAGAIN)
        _exit(1);
}

/* Runs the reference's process. */
static void reference_run(int listener, const struct hmac_key *secret, int cpu) {
    static struct reference reference;
    struct epoll_event events[EVENTS_PER_WAIT] = {{.events = EPOLLIN, .data.fd = listener}};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (cpu < 0 || !process_pin(cpu))
        process_unpin();
    /* Sockets of the generator must close when the generator closes them. */
    close_range(3, (unsigned)listener - 1, 0);
    close_range((unsigned)listener + 1, ~0U, 0);
    reference.listener = listener;
    reference.secret = secret;
    reference.epoll = epoll_create1(EPOLL_CLOEXEC);
    prepare_answers(&reference);
    if (reference.epoll < 0 || epoll_ctl(reference.epoll, EPOLL_CTL_ADD, listener, &events[0]) != 0)
        _exit(1);
    for (;;) {
        int count = epoll_wait(reference.epoll, events, EVENTS_PER_WAIT, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                accept_all(&reference);
            else
                take_message(&reference, events[i].data.fd);
        }
    }
}

/* Listens on a free port of 127.0.0.1 and stores the address in `target`. Accepted sockets inherit TCP_NODELAY. */
static int open_listener(struct target *target) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

    target->address_length = sizeof address;
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&target->address, &target->address_length) != 0)
        fail("listening on 127.0.0.1 for the reference: %s", strerror(errno));
    return fd;
}

struct target *reference_start(const struct target *like, int cpu) {
    struct target *target = alloc(sizeof *target);
    int listener;

    *target = *like;
    target->url = "the reference";
    target->tls = target->compress = false;
    listener = open_listener(target);
    target->pid = fork();
    if (target->pid < 0)
        fail("starting the reference: %s", strerror(errno));
    if (target->pid == 0)
        reference_run(listener, &target->secret, cpu);
    close(listener);
    return target;
}

void reference_stop(struct target *reference) {
    kill(reference->pid, SIGKILL);
    waitpid(reference->pid, NULL, 0);
    free(reference);
}
