#include "cluster/nats/nats_link.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "cluster/nats/nats_arrivals.h"
#include "cluster/nats/nats_flush.h"
#include "cluster/nats/nats_opening.h"
#include "cluster/nats/nats_output.h"
#include "cluster/nats/nats_socket.h"

enum operation_kind {
    OPERATION_OPEN,
    OPERATION_PUBLISH,
    OPERATION_SUBSCRIBE,
    OPERATION_FORGET,
    OPERATION_FLUSH,
    OPERATION_FLUSH_DRAINED,
    OPERATION_CLOSE,
};

struct nats_operation {
    struct loop_message message;
    struct nats_threads *threads;
    enum operation_kind kind;
    struct nats_link *link;
    struct nats_interest *interest;
    uint64_t number;
    struct nats_item item; /* of a publish, and of a flush that is drained */
    char subject[];
};

/* --- on the I/O thread --- */

static void subscribe_interest(struct nats_link *link, struct nats_interest *interest) {
    natsSubscription *subscription = NULL;

    natsSubscription_Destroy(interest->handle);
    interest->handle = NULL;
    if (natsConnection_Subscribe(&subscription, link->connection, interest->subject, nats_arrivals_on_message,
                                 (void *)(uintptr_t)link->id) != NATS_OK)
        return; /* the connection is at its end */
    natsSubscription_SetPendingLimits(subscription, -1, -1);
    interest->handle = subscription;
}

static void close_nats_link(struct nats_link *link) {
    nats_socket_close(link);
    nats_opening_undo(link);
}

static void handle_nats_operation(struct loop *loop, struct loop_message *message) {
    struct nats_operation *operation = container_of(message, struct nats_operation, message);
    struct nats_link *link = operation->link;

    (void)loop;
    switch (operation->kind) {
    case OPERATION_PUBLISH:
    case OPERATION_FLUSH_DRAINED:
        nats_output_add(link, &operation->item);
        return;
    case OPERATION_OPEN:
        nats_socket_open(link);
        break;
    case OPERATION_SUBSCRIBE:
        subscribe_interest(link, operation->interest);
        break;
    case OPERATION_FORGET:
        natsSubscription_Destroy(operation->interest->handle);
        operation->threads->callbacks.forgotten(operation->interest);
        break;
    case OPERATION_FLUSH:
        nats_flush_begin(link, operation->number);
        break;
    case OPERATION_CLOSE:
        close_nats_link(link);
        break;
    }
    free(operation);
}

static void free_item_operation(struct nats_item *item) {
    free(container_of(item, struct nats_operation, item));
}

/* --- on the cluster's thread --- */

static struct nats_operation *make_operation(struct nats_threads *threads, enum operation_kind kind,
                                             struct nats_link *link, struct slice subject) {
    struct nats_operation *operation = alloc(sizeof *operation + subject.length + 1);

    *operation = (struct nats_operation){.threads = threads, .kind = kind, .link = link};
    operation->message.handle = handle_nats_operation;
    operation->item.dispose = free_item_operation;
    operation->item.subject = operation->subject;
    if (subject.length > 0)
        memcpy(operation->subject, subject.data, subject.length);
    operation->subject[subject.length] = '\0';
    return operation;
}

/* nats_link_wake follows. */
static void post_operation(struct nats_operation *operation) {
    operation->threads->unwoken = true;
    loop_post(operation->threads->io, &operation->message);
}

static void post_simple_operation(struct nats_threads *threads, enum operation_kind kind, struct nats_link *link) {
    post_operation(make_operation(threads, kind, link, (struct slice){NULL, 0}));
    nats_link_wake(threads);
}

void nats_link_connect(struct nats_threads *threads, const struct nats_address *address, uint32_t timeout_ms) {
    nats_opening_begin(threads, address, timeout_ms);
}

void nats_link_cancel(struct nats_threads *threads) {
    eventfd_write(threads->cancel_fd, 1);
}

uint64_t nats_link_id(const struct nats_link *link) {
    return link->id;
}

const char *nats_link_server(const struct nats_link *link) {
    return link->server;
}

const struct nats_info *nats_link_info(const struct nats_link *link) {
    return &link->info;
}

void nats_link_open(struct nats_link *link) {
    nats_arrivals_open(link);
    post_simple_operation(link->threads, OPERATION_OPEN, link);
}

void nats_link_close(struct nats_link *link) {
    nats_arrivals_close(link);
    /* Calls that wait for the server, or that write to it, fail now. */
    shutdown(link->fd, SHUT_RDWR);
    post_simple_operation(link->threads, OPERATION_CLOSE, link);
}

void nats_link_publish(struct nats_link *link, struct slice subject, struct bus_bytes *bytes) {
    struct nats_operation *operation = make_operation(link->threads, OPERATION_PUBLISH, link, subject);

    operation->item.bytes = bus_bytes_ref(bytes);
    operation->item.size = sizeof *operation + subject.length + bytes->length;
    nats_output_note(link->threads, &operation->item);
    post_operation(operation);
}

void nats_link_subscribe(struct nats_link *link, struct nats_interest *interest) {
    struct nats_operation *operation =
        make_operation(link->threads, OPERATION_SUBSCRIBE, link, (struct slice){NULL, 0});

    operation->interest = interest;
    post_operation(operation);
}

void nats_link_forget(struct nats_threads *threads, struct nats_interest *interest) {
    struct nats_operation *operation = make_operation(threads, OPERATION_FORGET, NULL, (struct slice){NULL, 0});

    operation->interest = interest;
    post_operation(operation);
}

void nats_link_flush(struct nats_link *link, uint64_t number, bool drained) {
    struct nats_operation *operation = make_operation(
        link->threads, drained ? OPERATION_FLUSH_DRAINED : OPERATION_FLUSH, link, (struct slice){NULL, 0});

    operation->number = operation->item.number = number;
    post_operation(operation);
}

void nats_link_wake(struct nats_threads *threads) {
    if (threads->unwoken)
        loop_wake(threads->io);
    threads->unwoken = false;
}
