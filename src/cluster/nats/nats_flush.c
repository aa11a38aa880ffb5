#include "cluster/nats/nats_flush.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "cluster/nats/nats_notice.h"

/* How long the thread that waits does so for the answer. The bus gives up earlier. */
#define NATS_FLUSH_TIMEOUT_MS 15000

struct nats_flush {
    struct loop_message message;
    struct nats_link *link;
    uint64_t number;
};

static void handle_nats_flush(struct loop *loop, struct loop_message *message) {
    struct nats_flush *flush = container_of(message, struct nats_flush, message);
    struct nats_link *link = flush->link;

    (void)loop;
    if (natsConnection_FlushTimeout(link->connection, NATS_FLUSH_TIMEOUT_MS) == NATS_OK) {
        struct nats_notice *notice = nats_notice_create(link->threads, NATS_NOTICE_FLUSHED);
        notice->id = link->id;
        notice->number = flush->number;
        nats_notice_post(notice);
    }
    free(flush);
}

void nats_flush_begin(struct nats_link *link, uint64_t number) {
    struct nats_flush *flush = alloc(sizeof *flush);

    *flush = (struct nats_flush){.message.handle = handle_nats_flush, .link = link, .number = number};
    loop_post(link->threads->waiting, &flush->message);
    loop_wake(link->threads->waiting);
}
