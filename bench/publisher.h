/*
 * A closed-loop publisher: one keep-alive HTTP connection that sends signed POST /apps/ID/events, each after the answer
 * to the one before.
 *
 * The request is laid out once; for each event its data, digest, timestamp and signature are written in place.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "histogram.h"
#include "poller.h"
#include "target.h"

/* What all publishers of one measurement share. */
struct publishing {
    const struct target *target;
    struct poller *poller;
    const char *channel;
    bool fresh;                  /* each request is another event with its own time; else the first is sent again */
    bool running;                /* whether an answer is followed by the next request */
    uint64_t answered;           /* events published: answered with 200 */
    unsigned outstanding;        /* requests without an answer yet */
    struct histogram *latencies; /* from request to answer; NULL if nobody wants to know */
};

struct publisher {
    struct source source;
    struct publishing *shared;
    unsigned index;
    uint64_t next_number; /* of its next event, from 0 */
    uint64_t sent_at_ns;
    struct buffer request;
    size_t data_at, query_at, timestamp_at, md5_at, signature_at, body_at; /* places in the request */
    size_t written;                                                        /* bytes of it that the socket took */
    bool blocked;                                                          /* the socket did not take all of it */
    struct buffer answer;
};

/* Connects publisher number `index`. The shared part must outlive it. */
void publisher_open(struct publisher *publisher, struct publishing *shared, unsigned index);
void publisher_close(struct publisher *publisher);

/* Sends its next event. Answers that are not 200 and closed connections end the program with what was received. */
void publisher_send(struct publisher *publisher);
