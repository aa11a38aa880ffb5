/*
 * Closed-loop publisher: one keep-alive HTTP connection that sends signed POST /apps/ID/events requests, each after the
 * answer to the previous one.
 *
 * The request is built once; data, digest, timestamp and signature of each event are written in place.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "histogram.h"
#include "poller.h"
#include "target.h"

/* State shared by all publishers of one measurement. */
struct publishing {
    const struct target *target;
    struct poller *poller;
    const char *channel;
    /* Each request is a new event with its own time; false: the first request is repeated. */
    bool fresh;
    bool running;                /* send the next request after each answer */
    uint64_t answered;           /* number of events answered with 200 */
    unsigned outstanding;        /* number of requests without an answer */
    struct histogram *latencies; /* time from request to answer; NULL: not recorded */
};

struct publisher {
    struct source source;
    struct publishing *shared;
    unsigned index;
    uint64_t next_number; /* number of its next event, from 0 */
    uint64_t sent_at_ns;
    struct buffer request;
    size_t data_at, query_at, timestamp_at, md5_at, signature_at, body_at; /* offsets in the request */
    size_t written;                                                        /* bytes of the request already sent */
    bool blocked;                                                          /* waits for the full socket */
    struct buffer answer;
};

/* Connects publisher number `index`. `shared` must outlive it. */
void publisher_open(struct publisher *publisher, struct publishing *shared, unsigned index);
void publisher_close(struct publisher *publisher);

/* Sends the next event. An answer other than 200 or a closed connection ends the program with the received text. */
void publisher_send(struct publisher *publisher);
