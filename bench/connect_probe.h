/*
 * Connection probes: each opens a WebSocket connection to an app and reads the server's first message, which accepts
 * or refuses the connection.
 *
 *   CONNECTING --> READY --> ASKING --> ESTABLISHED or REFUSED
 *    connect()              GET /app     first message
 *
 * The latency of a probe is the time from its GET request to the first message.
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
    /* Error code of the refusal that the scenario expects; 0: the connection must be established. */
    unsigned expected_code;
    unsigned in_state[PROBE_REFUSED + 1]; /* number of probes in each state */
    uint64_t wrong;                       /* number of unexpected answers */
    char first_wrong[200];                /* description of the first unexpected answer */
    struct histogram *latencies;          /* NULL: latencies are not recorded */
};

/* Starts to connect a new probe, or connects an ended one again. The app key is the target's, with `number` appended
 * if it is not 0. */
void probe_connect(struct connect_probe *probe, struct connect_probes *probes, unsigned number);

/* Sends the GET request for the app. The probe must be READY. */
void probe_ask(struct connect_probe *probe);

/* Closes the socket without a closing handshake, in any state. */
void probe_end(struct connect_probe *probe);

/* True from probe_connect until the answer has arrived. */
static inline bool probe_under_way(const struct connect_probe *probe) {
    return probe->state != PROBE_NONE && probe->state < PROBE_ESTABLISHED;
}
