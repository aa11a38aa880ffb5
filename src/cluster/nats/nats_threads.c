#include "cluster/nats/nats_threads.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/alloc.h"
#include "cluster/nats/nats_arrivals.h"
#include "cluster/nats/nats_internal.h"
#include "cluster/nats/nats_notice.h"
#include "cluster/nats/nats_opening.h"
#include "cluster/nats/nats_socket.h"

struct nats_threads *nats_threads_create(struct loop *cluster, const struct nats_settings *settings,
                                         const struct nats_callbacks *callbacks, struct error *error) {
    struct nats_threads *threads = alloc_zero(sizeof *threads);

    threads->cluster = cluster;
    threads->settings = settings;
    threads->callbacks = *callbacks;
    nats_arrivals_init(threads);
    atomic_init(&threads->references, 1);
    threads->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    threads->io = loop_create(error);
    threads->waiting = threads->io != NULL ? loop_create(error) : NULL;
    if (threads->cancel_fd < 0)
        error_set(error, "NATS: %s", strerror(errno));
    else if (threads->waiting != NULL && nats_SetMessageDeliveryPoolSize(1) != NATS_OK)
        error_set(error, "the NATS library does not start: %s", nats_GetLastError(NULL));
    else if (threads->waiting != NULL) {
        nats_socket_init_threads(threads);
        if (loop_start(threads->io, error) && loop_start(threads->waiting, error))
            return threads;
    }
    nats_threads_destroy(threads);
    return NULL;
}

void nats_threads_destroy(struct nats_threads *threads) {
    struct nats_link *delivered;

    threads->ended = true;
    eventfd_write(threads->cancel_fd, 1);
    /* What the first posts to the second while it ends is handled there, and what comes back by loop_destroy. */
    if (threads->io != NULL)
        loop_stop(threads->io);
    if (threads->waiting != NULL)
        loop_stop(threads->waiting);
    delivered = atomic_load(&threads->delivered);
    if (delivered != NULL)
        nats_opening_free(delivered);
    loop_destroy(threads->io);
    loop_destroy(threads->waiting);
    nats_threads_unref(threads);
}

size_t nats_threads_unsent_bytes(const struct nats_threads *threads) {
    return atomic_load(&threads->unsent_bytes);
}

void nats_threads_drop_messages(struct nats_threads *threads) {
    nats_arrivals_drop(threads);
}
