#include "handover/handover_link.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "base/list.h"

#define FINISH_MS 2000
#define MESSAGES_PER_TURN 256

struct handover_outgoing {
    struct message message;
    size_t length, sent;
    char bytes[];
};

static struct handover_outgoing *outgoing_of(struct message *message) {
    return message == NULL ? NULL : container_of(message, struct handover_outgoing, message);
}

bool handover_link_init(struct handover_link *link, struct handover_socket *socket,
                        const struct handover_handler *handler, struct error *error) {
    *link = (struct handover_link){.handler = *handler, .deadline = {.ends_ns = UINT64_MAX, .cancel_fd = -1}};
    if (!mailbox_init(&link->mailbox))
        return error_set(error, "cannot make an eventfd: %s", strerror(errno));
    link->socket = *socket;
    handover_socket_init(socket, -1);
    return true;
}

static void free_outgoing(struct handover_outgoing *message) {
    while (message != NULL) {
        struct handover_outgoing *next = outgoing_of(message->message.next);
        free(message);
        message = next;
    }
}

void handover_link_dispose(struct handover_link *link) {
    free_outgoing(link->sending);
    free_outgoing(outgoing_of(mailbox_take(&link->mailbox)));
    mailbox_dispose(&link->mailbox);
    handover_socket_dispose(&link->socket);
}

struct handover_outgoing *handover_link_message(struct handover_link *link, uint8_t type, const struct slice *parts,
                                                size_t count) {
    struct handover_outgoing *message;
    size_t length = 0;
    char *at;

    for (size_t i = 0; i < count; i++)
        length += parts[i].length;
    if (length > HANDOVER_PAYLOAD_MAX || atomic_load(&link->closed) ||
        atomic_load(&link->queued_bytes) + length > LINK_QUEUE_BYTES)
        return NULL;
    message = malloc(sizeof *message + HANDOVER_HEAD_BYTES + length);
    if (message == NULL)
        return NULL;
    *message = (struct handover_outgoing){.length = HANDOVER_HEAD_BYTES + length};
    handover_write_head(message->bytes, type, (uint32_t)length);
    at = message->bytes + HANDOVER_HEAD_BYTES;
    for (size_t i = 0; i < count; at += parts[i++].length)
        if (parts[i].length != 0)
            memcpy(at, parts[i].data, parts[i].length);
    atomic_fetch_add(&link->queued_bytes, message->length);
    return message;
}

void handover_link_post(struct handover_link *link, struct handover_outgoing *message) {
    mailbox_post(&link->mailbox, &message->message);
}

void handover_link_wake(struct handover_link *link) {
    mailbox_wake(&link->mailbox);
}

bool handover_link_send(struct handover_link *link, uint8_t type, const struct slice *parts, size_t count) {
    struct handover_outgoing *message = handover_link_message(link, type, parts, count);

    if (message == NULL)
        return false;
    handover_link_post(link, message);
    handover_link_wake(link);
    return true;
}

void handover_link_finish(struct handover_link *link) {
    atomic_store(&link->finishing, true);
    eventfd_write(link->mailbox.event_fd, 1);
}

/* Puts what was posted behind what is still to be sent. */
static void take_posted(struct handover_link *link) {
    struct message *posted = mailbox_take(&link->mailbox);
    struct handover_outgoing *last = link->sending;

    if (posted == NULL)
        return;
    while (last != NULL && last->message.next != NULL)
        last = outgoing_of(last->message.next);
    if (last == NULL)
        link->sending = outgoing_of(posted);
    else
        last->message.next = posted;
}

/* Sends what the socket takes. False with an error. */
static bool send_outgoing(struct handover_link *link, struct error *error) {
    while (link->sending != NULL) {
        struct handover_outgoing *message = link->sending;
        struct slice rest = {message->bytes + message->sent, message->length - message->sent};
        ssize_t sent = handover_socket_send(&link->socket, rest, -1, error);
        if (sent <= 0)
            return sent == 0;
        message->sent += (size_t)sent;
        if (message->sent != message->length)
            continue;
        link->sending = outgoing_of(message->message.next);
        atomic_fetch_sub(&link->queued_bytes, message->length);
        free(message);
    }
    return true;
}

enum link_state { LINK_IDLE, LINK_BUSY, LINK_ENDED, LINK_FAILED };

/* Handles some of the messages that have arrived. LINK_BUSY: there may be more. */
static enum link_state receive_some(struct handover_link *link, struct error *error) {
    struct handover_message message;

    for (unsigned i = 0; i < MESSAGES_PER_TURN; i++) {
        switch (handover_socket_receive(&link->socket, &message, error)) {
        case HANDOVER_GOT_MESSAGE:
            if (!link->handler.on_message(link, &message, link->handler.context, error))
                return LINK_FAILED;
            break;
        case HANDOVER_GOT_NOTHING:
            return LINK_IDLE;
        case HANDOVER_ENDED:
            return LINK_ENDED;
        case HANDOVER_BROKEN:
            return LINK_FAILED;
        }
    }
    return LINK_BUSY;
}

/* Sleeps until there is something to do. False with an error at the deadline or a cancellation. */
static bool wait_for_work(struct handover_link *link, struct error *error) {
    struct pollfd fds[3] = {
        {.fd = link->socket.fd, .events = (short)(POLLIN | (link->sending == NULL ? 0 : POLLOUT))},
        {.fd = link->mailbox.event_fd, .events = POLLIN},
        {.fd = link->deadline.cancel_fd, .events = POLLIN},
    };
    bool forever = link->deadline.ends_ns == UINT64_MAX;
    uint32_t wait_ms = forever ? 0 : deadline_remaining_ms(&link->deadline);

    if (!forever && wait_ms == 0)
        return error_set(error, "no answer in time");
    if (mailbox_sleep(&link->mailbox))
        poll(fds, 3, forever ? -1 : (int)(wait_ms < INT32_MAX ? wait_ms : INT32_MAX));
    mailbox_awake(&link->mailbox);
    if (fds[1].revents != 0)
        mailbox_clear(&link->mailbox);
    /* What a process has sent before it ended is read first. */
    return fds[2].revents == 0 || fds[0].revents != 0 || error_set(error, "the other process has ended");
}

/* One step of the link. */
static enum link_state run_once(struct handover_link *link, struct error *error) {
    bool finishing = atomic_load(&link->finishing);
    enum link_state state;
    struct error unsent;
    bool good;

    take_posted(link);
    good = send_outgoing(link, &unsent);
    if (finishing && (!good || link->sending == NULL))
        return LINK_ENDED;
    state = receive_some(link, error);
    if (state != LINK_IDLE)
        return state;
    if (!good) {
        *error = unsent;
        return LINK_FAILED;
    }
    return wait_for_work(link, error) ? LINK_BUSY : LINK_FAILED;
}

bool handover_link_run(struct handover_link *link, struct error *error) {
    enum link_state state = LINK_BUSY;
    bool finishing = false;

    while (state == LINK_BUSY) {
        if (!finishing && atomic_load(&link->finishing)) {
            finishing = true;
            link->deadline = deadline_after(FINISH_MS, -1);
        }
        state = run_once(link, error);
    }
    atomic_store(&link->closed, true);
    return state == LINK_ENDED || finishing;
}
