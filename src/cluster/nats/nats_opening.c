#include "cluster/nats/nats_opening.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cluster/nats/nats_arrivals.h"
#include "cluster/nats/nats_connect.h"
#include "cluster/nats/nats_notice.h"
#include "cluster/nats/nats_socket.h"

/* The library's buffer for reading, and the size from which it asks for a write. */
#define NATS_IO_BYTES 65536

static atomic_uint_fast64_t next_link = 1;

struct nats_job {
    struct loop_message message;
    struct nats_threads *threads;
    struct nats_link *link; /* to destroy */
    const struct nats_address *address;
    uint32_t timeout_ms;
};

static natsStatus set_link_options(struct nats_link *link) {
    natsOptions *options = link->options;
    void *number = (void *)(uintptr_t)link->id;
    natsStatus status = nats_socket_set_options(link, options);

    if (status == NATS_OK)
        status = natsOptions_UseGlobalMessageDelivery(options, true);
    if (status == NATS_OK)
        status = natsOptions_SetNoEcho(options, true);
    if (status == NATS_OK) /* the bus connects anew, and then nothing that was published before is sent */
        status = natsOptions_SetAllowReconnect(options, false);
    if (status == NATS_OK)
        status = natsOptions_SetReconnectBufSize(options, 0);
    if (status == NATS_OK)
        status = natsOptions_SetSendAsap(options, true); /* "asap" only asks the loop for a write */
    if (status == NATS_OK)
        status = natsOptions_SetPingInterval(options, 0); /* the bus flushes often enough */
    if (status == NATS_OK)
        status = natsOptions_SetIOBufSize(options, NATS_IO_BYTES);
    if (status == NATS_OK)
        status = natsOptions_SetName(options, "curlew");
    if (status == NATS_OK)
        status = natsOptions_SetErrorHandler(options, nats_arrivals_on_error, number);
    return status;
}

static void destroy_connection(struct nats_link *link) {
    natsConnection_Destroy(link->connection);
    natsOptions_Destroy(link->options);
    if (link->fd >= 0)
        close(link->fd);
    link->connection = NULL;
    link->options = NULL;
    link->fd = -1;
}

static void free_nats_link(struct nats_link *link) {
    nats_info_dispose(&link->info);
    free(link);
}

/* On the I/O thread, behind all that was posted to it for the link. */
static void handle_link_gone(struct loop *loop, struct loop_message *message) {
    struct nats_link *link = container_of(message, struct nats_link, gone);
    struct nats_threads *threads = link->threads;

    (void)loop;
    free_nats_link(link);
    nats_notice_post(nats_notice_create(threads, NATS_NOTICE_CLOSED));
}

static struct nats_link *connect_link(struct nats_threads *threads, const struct nats_address *address,
                                      uint32_t timeout_ms, struct error *error) {
    const struct deadline deadline = deadline_after(timeout_ms, threads->cancel_fd);
    struct nats_link *link = alloc_zero(sizeof *link);

    link->threads = threads;
    link->id = atomic_fetch_add(&next_link, 1);
    link->fd = -1;
    link->gone.handle = handle_link_gone;
    list_init(&link->place);
    nats_socket_init(link);
    snprintf(link->server, sizeof link->server, "%s:%u", address->host, address->port);
    if (natsOptions_Create(&link->options) != NATS_OK || set_link_options(link) != NATS_OK)
        error_set(error, "the NATS library: %s", nats_GetLastError(NULL));
    else
        link->connection = nats_connect(link->options, threads->settings, address, &deadline, &link->info, error);
    if (link->connection != NULL)
        return link;
    destroy_connection(link);
    free(link);
    return NULL;
}

static void handle_nats_job(struct loop *loop, struct loop_message *message) {
    struct nats_job *job = container_of(message, struct nats_job, message);
    struct nats_threads *threads = job->threads;

    (void)loop;
    if (job->link != NULL) {
        destroy_connection(job->link);
        loop_post(threads->io, &job->link->gone);
        loop_wake(threads->io);
    } else {
        struct nats_notice *notice = nats_notice_create(threads, NATS_NOTICE_CONNECTED);
        notice->link = connect_link(threads, job->address, job->timeout_ms, &notice->error);
        atomic_store(&threads->delivered, notice->link);
        nats_notice_post(notice);
    }
    free(job);
}

static void post_nats_job(const struct nats_job *job) {
    struct nats_job *copy = alloc(sizeof *copy);

    *copy = *job;
    copy->message.handle = handle_nats_job;
    loop_post(job->threads->waiting, &copy->message);
    loop_wake(job->threads->waiting);
}

void nats_opening_begin(struct nats_threads *threads, const struct nats_address *address, uint32_t timeout_ms) {
    post_nats_job(&(struct nats_job){.threads = threads, .address = address, .timeout_ms = timeout_ms});
}

void nats_opening_undo(struct nats_link *link) {
    post_nats_job(&(struct nats_job){.threads = link->threads, .link = link});
}

void nats_opening_free(struct nats_link *link) {
    destroy_connection(link);
    free_nats_link(link);
}
