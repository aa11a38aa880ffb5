/*
 * Load clients: many WebSocket connections, each subscribed to one public channel, read in batches.
 *
 *   CONNECTING -> UPGRADING -> ESTABLISHING -> SUBSCRIBING -> SUBSCRIBED -> CLOSING -> CLOSED
 *   connect()     GET /app     waits for       subscribe      events       close       end of
 *                              connection_     sent                        sent        stream
 *                              established
 *
 * Every event of the generator that a subscriber receives is checked: the first subscriber that gets the n-th event of
 * the channel puts it on record, where each publisher's numbers must follow one another; the n-th event of each other
 * one must be the one on record. So at the end each got each event once, and all in one order, or the position of one
 * is behind.
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
    uint32_t position;    /* events received since the record was cleared */
    uint64_t started_ns;  /* of connect */
    struct buffer carry;  /* the beginning of a frame whose rest has not come */
    struct buffer unsent; /* what the socket did not take yet */
};

struct load_clients {
    const struct target *target;
    struct poller *poller;
    const char *channel;         /* its name; with more than one channel a number is put behind it */
    unsigned channels;           /* subscriber i is on channel i % channels */
    struct histogram *latencies; /* of events received, or of subscribing; NULL if nobody wants to know */
    struct subscriber *subscribers;
    unsigned count;
    unsigned in_state[SUBSCRIBER_CLOSED + 1]; /* how many subscribers are in each */
    uint64_t progress;                        /* goes up with everything that comes */

    uint64_t subscribed_more; /* answers to load_clients_subscribe_more */

    struct event_identity *record; /* the channel's events in their order */
    size_t recorded, record_room;
    uint64_t next_number[LOAD_CLIENTS_PUBLISHERS_MAX]; /* that each publisher's next event must have */
    uint64_t received;                                 /* events, by all subscribers */
    uint64_t wrong;                                    /* events that were not the one that had to come */
    char first_wrong[200];                             /* what was wrong with the first of them */
    size_t data_at;                                    /* where the data is in the frames of this server, once known */
    char *input;
};

/* Prepares `count` subscribers; nothing is sent yet. The channel's name must outlive the clients. */
void load_clients_init(struct load_clients *clients, const struct target *target, struct poller *poller,
                       const char *channel, unsigned channels, unsigned count);

/* Connects and subscribes all, at most `in_flight` of them at a time. Ends the program if the server refuses one. */
void load_clients_open(struct load_clients *clients, unsigned in_flight);

/* Subscribes each, once all are open, to `channels_each` more channels that no other has, and waits for the answers. */
void load_clients_subscribe_more(struct load_clients *clients, unsigned channels_each);

/* Closes all with the closing handshake, at most `in_flight` at a time, and waits until the server is done with each.
 */
void load_clients_close(struct load_clients *clients, unsigned in_flight);

/* Begins a new record, with every subscriber at its start. The publishers' numbers go on. */
void load_clients_clear_record(struct load_clients *clients);

/* The publishers from now on are new ones, whose numbers begin at 0. */
void load_clients_expect_new_publishers(struct load_clients *clients);

/* True when every subscriber has received `events` events since the record was cleared. */
bool load_clients_complete(const struct load_clients *clients, uint64_t events);

void load_clients_dispose(struct load_clients *clients);
