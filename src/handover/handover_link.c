#include "handover/handover_link.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "base/budget.h"
#include "base/hash.h"
#include "base/list.h"

#define FINISH_MS 2000
#define MESSAGES_PER_TURN 256

struct handover_outgoing {
    struct message message;
    size_t length, sent;
    atomic_size_t *share; /* NULL: an order */
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

static void free_unsent(struct handover_outgoing *message) {
    while (message != NULL) {
        struct handover_outgoing *next = outgoing_of(message->message.next);
        budget_give(BUDGET_HANDOVER, NULL, message->length);
        free(message);
        message = next;
    }
}

void handover_link_dispose(struct handover_link *link) {
    free_unsent(link->sending);
    free_unsent(outgoing_of(mailbox_take(&link->mailbox)));
    mailbox_dispose(&link->mailbox);
    handover_socket_dispose(&link->socket);
}

static size_t queue_bound(void) {
    uint64_t limit = budget_kind_limit(BUDGET_HANDOVER);

    return limit < LINK_QUEUE_BYTES ? (size_t)limit : LINK_QUEUE_BYTES;
}

/* Counts a message before it is made. False if there is no room for it. `share` is NULL for an order. */
static bool count_outgoing(struct handover_link *link, atomic_size_t *share, size_t length) {
    size_t bound = queue_bound(), queued = atomic_fetch_add(&link->queued_bytes, length), own;

    if (share == NULL && queued + length <= bound + LINK_ORDER_BYTES) {
        budget_add(BUDGET_HANDOVER, NULL, length);
        return true;
    }
    if (share != NULL) {
        own = atomic_fetch_add(share, length) + length;
        if (queued < bound && own <= bound - queued && budget_take(BUDGET_HANDOVER, NULL, length))
            return true;
        atomic_fetch_sub(share, length);
    }
    atomic_fetch_sub(&link->queued_bytes, length);
    return false;
}

static void uncount_outgoing(struct handover_link *link, atomic_size_t *share, size_t length) {
    budget_give(BUDGET_HANDOVER, NULL, length);
    if (share != NULL)
        atomic_fetch_sub(share, length);
    atomic_fetch_sub(&link->queued_bytes, length);
}

static bool send_counted(struct handover_link *link, uint8_t type, atomic_size_t *share, const struct slice *parts,
                         size_t count) {
    struct handover_outgoing *message;
    size_t length = 0;
    char *at;

    for (size_t i = 0; i < count; i++)
        length += parts[i].length;
    if (length > HANDOVER_PAYLOAD_MAX || atomic_load(&link->closed) ||
        !count_outgoing(link, share, HANDOVER_HEAD_BYTES + length))
        return false;
    message = malloc(sizeof *message + HANDOVER_HEAD_BYTES + length);
    if (message == NULL) {
        uncount_outgoing(link, share, HANDOVER_HEAD_BYTES + length);
        return false;
    }
    *message = (struct handover_outgoing){.length = HANDOVER_HEAD_BYTES + length, .share = share};
    handover_write_head(message->bytes, type, (uint32_t)length);
    at = message->bytes + HANDOVER_HEAD_BYTES;
    for (size_t i = 0; i < count; at += parts[i++].length)
        if (parts[i].length != 0)
            memcpy(at, parts[i].data, parts[i].length);
    mailbox_post(&link->mailbox, &message->message);
    mailbox_wake(&link->mailbox);
    return true;
}

bool handover_link_send(struct handover_link *link, uint8_t type, const struct slice *parts, size_t count) {
    return send_counted(link, type, NULL, parts, count);
}

bool handover_link_send_event(struct handover_link *link, uint8_t type, struct slice app_id, struct slice payload) {
    return send_counted(link, type, &link->shares[hash_bytes(app_id) % LINK_SHARES], &payload, 1);
}

bool handover_link_has_room(const struct handover_link *link, struct slice app_id, size_t bytes) {
    size_t own = atomic_load(&link->shares[hash_bytes(app_id) % LINK_SHARES]);
    size_t bound = queue_bound(), queued = atomic_load(&link->queued_bytes);

    return own == 0 || (queued < bound && own + bytes <= (bound - queued) / 2);
}

void handover_link_wake(struct handover_link *link) {
    mailbox_wake(&link->mailbox);
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
        uncount_outgoing(link, message->share, message->length);
        free(message);
    }
    return true;
}

enum link_state { LINK_IDLE, LINK_BUSY, LINK_ENDED, LINK_FAILED };

/* True while too much of what was received is not handled yet. */
static bool holds_too_much(const struct handover_link *link) {
    return link->handler.held != NULL && atomic_load(link->handler.held) > LINK_HELD_BYTES;
}

/* Handles some of the messages that have arrived. LINK_BUSY: there may be more. */
static enum link_state receive_some(struct handover_link *link, struct error *error) {
    struct handover_message message;

    for (unsigned i = 0; i < MESSAGES_PER_TURN; i++) {
        if (holds_too_much(link))
            return LINK_IDLE;
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

/* Sleeps until there is something to do; `broken`: nothing can be sent. False with an error at the deadline or a
 * cancellation. */
static bool wait_for_work(struct handover_link *link, bool broken, struct error *error) {
    struct pollfd fds[3] = {{.fd = -1}, {.fd = link->mailbox.event_fd, .events = POLLIN}, {.fd = -1}};
    bool forever = link->deadline.ends_ns == UINT64_MAX;
    uint32_t wait_ms = forever ? 0 : deadline_remaining_ms(&link->deadline);
    bool sends = link->sending != NULL && !broken, sleeps, reads;

    if (!forever && wait_ms == 0)
        return error_set(error, "no answer in time");
    sleeps = mailbox_sleep(&link->mailbox);
    reads = !holds_too_much(link); /* after mailbox_sleep: who handles the rest wakes this thread */
    if (reads || sends)
        fds[0] =
            (struct pollfd){.fd = link->socket.fd, .events = (short)((reads ? POLLIN : 0) | (sends ? POLLOUT : 0))};
    if (reads)
        fds[2] = (struct pollfd){.fd = link->deadline.cancel_fd, .events = POLLIN};
    if (sleeps)
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
    if (!good && !holds_too_much(link)) {
        *error = unsent;
        return LINK_FAILED;
    }
    return wait_for_work(link, !good, error) ? LINK_BUSY : LINK_FAILED;
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
    budget_settle();
    return state == LINK_ENDED || finishing;
}
