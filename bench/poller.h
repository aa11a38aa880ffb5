/*
 * The generator's loop.
 *
 * Two sets of sockets, because a generator that wakes up for every frame measures its own waking, which the kernel
 * charges to the server that sends:
 *
 *   prompt     publishers: an answer wakes the loop at once
 *   gathered   subscribers: read in batches of up to POLLER_BATCH; what arrives wakes nobody, and is looked after at
 * the end of each wait, which is POLLER_GATHER_NS at the longest
 *
 * In a turn the gathered sockets come first and the prompt ones after them, so that answers that arrive together are
 * answered together. That is POLLER_GATHER; the other modes are for when there is only one kind to wait for.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define POLLER_BATCH 1024
#define POLLER_GATHER_NS 200000

/* One socket in the poller; lives inside the struct of its owner. */
struct source {
    void (*ready)(struct source *source, uint32_t events);
    int fd;
};

enum poller_set { POLLER_PROMPT, POLLER_GATHERED };

enum poller_mode {
    POLLER_GATHER,      /* as drawn above */
    POLLER_CONNECT,     /* waits for the gathered set like for any other: steps of connections wait for one another */
    POLLER_PROMPT_ONLY, /* there is nothing to gather */
};

struct poller {
    int prompt;
    int gathered;
    enum poller_mode mode;
    bool full; /* the last batch was large: more is probably there already */
};

void poller_init(struct poller *poller);

/* Watches the source's descriptor: gathered ones edge-triggered for both directions, prompt ones for reading. */
void poller_add(struct poller *poller, struct source *source, enum poller_set set);

/* Whether a prompt source is watched for writing too. */
void poller_watch_writing(struct poller *poller, struct source *source, bool on);

/* One turn; waits at most POLLER_GATHER_NS if nothing is ready. */
void poller_turn(struct poller *poller);
