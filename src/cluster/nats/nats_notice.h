/*
 * Notices: what the other threads tell the cluster's thread, which calls the callbacks of the bus. A notice keeps
 * struct nats_threads in memory until it is handled.
 */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "cluster/loop.h"
#include "cluster/nats/nats_internal.h"

enum nats_notice_kind {
    NATS_NOTICE_CONNECTED, /* link, or error */
    NATS_NOTICE_LOST,      /* id, error */
    NATS_NOTICE_FLUSHED,   /* id, number */
    NATS_NOTICE_CLOSED,
    NATS_NOTICE_WARNING, /* error, which is logged */
};

struct nats_notice {
    struct loop_message message;
    struct nats_threads *threads;
    enum nats_notice_kind kind;
    struct nats_link *link;
    uint64_t id, number; /* of a link, of a flush */
    struct error error;
};

/* Makes a notice whose other members are zero. Any thread. */
struct nats_notice *nats_notice_create(struct nats_threads *threads, enum nats_notice_kind kind);
/* Posts it, which frees it later, and wakes the cluster's thread. Any thread. */
void nats_notice_post(struct nats_notice *notice);

/* Gives a reference back; the last one frees the structure. Any thread. */
void nats_threads_unref(struct nats_threads *threads);
