/*
 * A node as far as the bus is concerned, for the suite of all drivers: a loop with its thread, a bus, and what the bus
 * has told. Everything here is called on the main thread, and waits for the thread of the loop where that has to act.
 *
 * Subjects have numbers. The payload of a message begins with a number, too, and what follows depends on it, so that
 * the receiver can tell what was lost, doubled, reordered or damaged.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/bus.h"

/* How long an event may take. */
#define PEER_TIMEOUT_MS 60000

/* The shortest message: its number. */
#define PEER_MESSAGE_MIN 8

struct peer_subject {
    unsigned in_force, interrupted, messages;
    uint64_t first, last; /* the numbers of the first and the last message */
    unsigned gaps;        /* messages that did not have the number after the one before */
    unsigned unordered;   /* messages whose number was not higher */
    unsigned damaged;
};

struct peer {
    unsigned ups, downs;
    char why[512]; /* the last cause of "down" */
    bool closed;
    struct peer_subject *subjects;
    size_t subject_count;

    struct loop *loop;
    struct bus *bus;
    struct peer_shared *shared;
};

/* Opens a bus with the driver of the configuration, and starts it. Fails the test on an error. */
void peer_open(struct peer *peer, const struct config *config);
/* Closes it, unless it is closed, and frees everything. */
void peer_close(struct peer *peer);
/* Only asks for the end: what was published is written within so many milliseconds. Wait for `closed`. */
void peer_begin_close(struct peer *peer, uint64_t within_ms);

/* Forgets all subjects, which have to be unsubscribed, and begins with `count` others. All peers at once. */
void peers_renew(struct peer *peers, size_t peer_count, size_t count);

/* Begin and end the subscription to `count` subjects from `first` on. */
void peer_subscribe(struct peer *peer, size_t first, size_t count);
void peer_unsubscribe(struct peer *peer, size_t first, size_t count);

/* Publishes `count` messages of `length` bytes on one subject, with numbers from `number` on; returns how many were
 * taken. */
size_t peer_publish(struct peer *peer, size_t subject, uint64_t number, size_t count, size_t length);

/* Publishes the message `number` on each subject that `other` learns to be in force, as soon as it learns it. 0: no
 * longer. */
void peer_publish_when_in_force(struct peer *peer, struct peer *other, uint64_t number);

void peer_state(struct peer *peer, struct bus_state *state);

/* Takes in what has been told so far; if that is nothing, waits for more, until `deadline_ms` of the monotonic clock.
 * False: nothing came. */
bool peer_listen(struct peer *peer, uint64_t deadline_ms);

/* True if each of the subjects was in force so many times at least. */
bool peer_has_in_force(const struct peer *peer, size_t first, size_t count, unsigned times);

/* The name of a subject. */
void peer_subject_name(size_t subject, char name[64]);

/* Waits until the condition holds. */
#define PEER_WAIT(peer, condition)                                                                                     \
    do {                                                                                                               \
        uint64_t until_ms = clock_monotonic_ms() + PEER_TIMEOUT_MS;                                                    \
        while (!(condition))                                                                                           \
            if (!peer_listen(peer, until_ms))                                                                          \
                fail_msg("not within %d ms: %s", PEER_TIMEOUT_MS, #condition);                                         \
    } while (0)
