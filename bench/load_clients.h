/*
 * Load clients: many WebSocket connections, each subscribed to one public channel, read in batches.
 *
 *   CONNECTING -> UPGRADING -> ESTABLISHING -> SUBSCRIBING -> SUBSCRIBED -> CLOSING -> CLOSED
 *   connect()     GET /app     waits for       subscribe      events       close       end of
 *                              connection_     sent                        sent        stream
 *                              established
 *
 * Every received event of the generator is checked. The first subscriber that receives the n-th event of the channel
 * adds it to the record, in which the numbers of each publisher must be consecutive. The n-th event of every other
 * subscriber must equal the recorded one. So each subscriber gets each event exactly once and in the same order; if one
 * loses an event, its position stays behind.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "event.h"
#include "histogram.h"
#include "poller.h"
#include "target.h"

#define LOAD_CLIENTS_PUBLISHERS_MAX 64

enum subscriber_state {
    SUBSCRIBER_NEW, /* no socket yet */
    SUBSCRIBER_UPGRADING,
    SUBSCRIBER_ESTABLISHING,
    SUBSCRIBER_SUBSCRIBING,
    SUBSCRIBER_SUBSCRIBED,
    SUBSCRIBER_CLOSING,
    SUBSCRIBER_CLOSED,
};

struct subscriber {
    struct source source;
    struct load_clients *clients;
    enum subscriber_state state;
    uint32_t position;    /* number of events received since the record was cleared */
    uint64_t started_ns;  /* time of connect */
    struct buffer carry;  /* start of an incomplete frame */
    struct buffer unsent; /* bytes that the full socket did not accept */
};

struct load_clients {
    const struct target *target;
    struct poller *poller;
    const char *channel; /* channel name; a number is appended if `channels` > 1 */
    unsigned channels;   /* subscriber i is on channel i % channels */
    /* Latencies of received events, or of subscribing; NULL: not recorded. */
    struct histogram *latencies;
    struct subscriber *subscribers;
    unsigned count;
    unsigned in_state[SUBSCRIBER_CLOSED + 1]; /* number of subscribers in each state */
    uint64_t progress;                        /* counts everything received */

    uint64_t subscribed_more; /* number of answers to load_clients_subscribe_more */

    struct event_identity *record; /* events of the channel in order */
    size_t recorded, record_room;
    uint64_t next_number[LOAD_CLIENTS_PUBLISHERS_MAX]; /* expected number of each publisher's next event */
    struct inflated *inflated;                         /* the last compressed events; NULL: none yet */
    uint64_t received_bytes;                           /* bytes of frames of events */
    uint64_t received;                                 /* number of events received by all subscribers */
    uint64_t wrong;                                    /* number of unexpected events */
    char first_wrong[200];                             /* description of the first unexpected event */
    size_t data_at;                                    /* offset of the data in the last event frame */
    char *input;
};

/* Initializes `count` subscribers without connecting them. `channel` must outlive the clients. */
void load_clients_init(struct load_clients *clients, const struct target *target, struct poller *poller,
                       const char *channel, unsigned channels, unsigned count);

/* Connects and subscribes all, at most `in_flight` at a time. Ends the program if the server refuses one. */
void load_clients_open(struct load_clients *clients, unsigned in_flight);

/* Subscribes each client to `channels_each` more channels of its own and waits for the answers. All must be open. */
void load_clients_subscribe_more(struct load_clients *clients, unsigned channels_each);

/* Closes all with the closing handshake, at most `in_flight` at a time, and waits until the server has closed each. */
void load_clients_close(struct load_clients *clients, unsigned in_flight);

/* Clears the record and sets every subscriber to its start. The publishers' numbers continue. */
void load_clients_clear_record(struct load_clients *clients);

/* Expects new publishers from now on, whose numbers start at 0. */
void load_clients_expect_new_publishers(struct load_clients *clients);

/* True if every subscriber has received `events` events since the record was cleared. */
bool load_clients_complete(const struct load_clients *clients, uint64_t events);

void load_clients_dispose(struct load_clients *clients);
