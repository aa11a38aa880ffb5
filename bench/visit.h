/*
 * Visits: connections that ask for an app and wait for the server's first message, which says whether they may stay.
 *
 *   CONNECTING --> READY --> ASKING --> ESTABLISHED or REFUSED
 *    connect()              GET /app     first message
 *
 * The time of a visit is that from asking to the first message.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "histogram.h"
#include "poller.h"
#include "target.h"

enum visit_state { VISIT_NONE, VISIT_CONNECTING, VISIT_READY, VISIT_ASKING, VISIT_ESTABLISHED, VISIT_REFUSED };

struct visit {
    struct source source;
    struct visits *visits;
    enum visit_state state;
    char key[64];
    uint64_t asked_ns;
    struct buffer input;
};

struct visits {
    const struct target *target;
    struct poller *poller;
    unsigned expected_code;               /* that the server has to refuse them with; 0: they are to be established */
    unsigned in_state[VISIT_REFUSED + 1]; /* how many visits are in each */
    uint64_t wrong;                       /* answers that were not the expected */
    char first_wrong[200];                /* the first of them */
    struct histogram *latencies;          /* NULL if nobody wants to know */
};

/* Begins to connect, or, if the visit was made before, connects anew. Number 0: the key is the target's; else the
 * number stands behind it. */
void visit_connect(struct visit *visit, struct visits *visits, unsigned number);

/* Asks for the app; once it is READY. */
void visit_ask(struct visit *visit);

/* Closes it without a word, whatever its state. */
void visit_end(struct visit *visit);

/* True until the answer is there, if it has been connected. */
static inline bool visit_under_way(const struct visit *visit) {
    return visit->state != VISIT_NONE && visit->state < VISIT_ESTABLISHED;
}
