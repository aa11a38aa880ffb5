#include "cluster/nats/nats_notice.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"

void nats_threads_unref(struct nats_threads *threads) {
    if (atomic_fetch_sub(&threads->references, 1) == 1) {
        close(threads->cancel_fd);
        free(threads);
    }
}

static void handle_nats_notice(struct loop *loop, struct loop_message *message) {
    struct nats_notice *notice = container_of(message, struct nats_notice, message);
    struct nats_threads *threads = notice->threads;
    const struct nats_callbacks *callbacks = &threads->callbacks;

    (void)loop;
    if (!threads->ended)
        switch (notice->kind) {
        case NATS_NOTICE_CONNECTED:
            atomic_store(&threads->delivered, NULL);
            callbacks->connected(callbacks->context, notice->link, &notice->error);
            break;
        case NATS_NOTICE_LOST:
            callbacks->lost(callbacks->context, notice->id, notice->error.text);
            break;
        case NATS_NOTICE_FLUSHED:
            callbacks->flushed(callbacks->context, notice->id, notice->number);
            break;
        case NATS_NOTICE_CLOSED:
            callbacks->closed(callbacks->context);
            break;
        case NATS_NOTICE_WARNING:
            log_warning("cluster", "%s", notice->error.text);
            break;
        }
    free(notice);
    nats_threads_unref(threads);
}

struct nats_notice *nats_notice_create(struct nats_threads *threads, enum nats_notice_kind kind) {
    struct nats_notice *notice = alloc_zero(sizeof *notice);

    notice->message.handle = handle_nats_notice;
    notice->threads = threads;
    notice->kind = kind;
    atomic_fetch_add(&threads->references, 1);
    return notice;
}

void nats_notice_post(struct nats_notice *notice) {
    struct loop *cluster = notice->threads->cluster;

    loop_post(cluster, &notice->message);
    loop_wake(cluster);
}
