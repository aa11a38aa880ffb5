/*
 * Probes: connections that ask for an app and wait for the server's first message, which says whether they may stay.
 *
 *   CONNECTING --> READY --> ASKING --> ESTABLISHED or REFUSED
 *    connect()              GET /app     first message
 *
 * The time of a probe is that from asking to the first message.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "histogram.h"
#include "poller.h"
#include "target.h"

enum probe_state { PROBE_NONE, PROBE_CONNECTING, PROBE_READY, PROBE_ASKING, PROBE_ESTABLISHED, PROBE_REFUSED };

struct connect_probe {
    struct source source;
    struct connect_probes *probes;
    enum probe_state state;
    char key[64];
    uint64_t asked_ns;
    struct buffer input;
};

struct connect_probes {
    const struct target *target;
    struct poller *poller;
    unsigned expected_code;               /* that the server has to refuse them with; 0: they are to be established */
    unsigned in_state[PROBE_REFUSED + 1]; /* how many probes are in each */
    uint64_t wrong;                       /* answers that were not the expected */
    char first_wrong[200];                /* the first of them */
    struct histogram *latencies;          /* NULL if nobody wants to know */
};

/* Begins to connect, or, if the probe was made before, connects anew. Number 0: the key is the target's; else the
 * number stands behind it. */
void probe_connect(struct connect_probe *probe, struct connect_probes *probes, unsigned number);

/* Asks for the app; once it is READY. */
void probe_ask(struct connect_probe *probe);

/* Closes it without a word, whatever its state. */
void probe_end(struct connect_probe *probe);

/* True until the answer is there, if it has been connected. */
static inline bool probe_under_way(const struct connect_probe *probe) {
    return probe->state != PROBE_NONE && probe->state < PROBE_ESTABLISHED;
}
