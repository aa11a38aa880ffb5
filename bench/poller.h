/*
 * Event loop of the generator.
 *
 * It has two sets of sockets. If every frame woke the generator, the kernel would charge the wakeups to the sending
 * server and the benchmark would measure them:
 *
 *   prompt     publishers: an answer wakes the loop at once
 *   gathered   subscribers: frames do not wake the loop; they are read in batches of up to POLLER_BATCH after each
 *              wait, which is at most POLLER_GATHER_NS
 *
 * A turn handles the gathered sockets first and the prompt ones after them, so that publishers whose answers arrive
 * together also send together. This is POLLER_GATHER; the other modes wait for one of the two sets only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define POLLER_BATCH 1024
#define POLLER_GATHER_NS 200000

/* Socket in the poller, embedded in the struct of its owner. */
struct source {
    void (*ready)(struct source *source, uint32_t events);
    int fd;
    struct ssl_st *tls; /* NULL: without TLS */
};

enum poller_set { POLLER_PROMPT, POLLER_GATHERED };

enum poller_mode {
    POLLER_GATHER, /* both sets, as described above */
    /* Wakes at once for the gathered set: each step of a connection depends on the one before. */
    POLLER_CONNECT,
    POLLER_PROMPT_ONLY, /* the prompt set only */
};

struct poller {
    int prompt;
    int gathered;
    enum poller_mode mode;
    bool full; /* the last batch was large, so more data is probably ready */
};

void poller_init(struct poller *poller);

/* Adds a source: a gathered one edge-triggered for reading and writing, a prompt one level-triggered for reading. */
void poller_add(struct poller *poller, struct source *source, enum poller_set set);

/* Turns watching of a prompt source for writing on or off. */
void poller_watch_writing(struct poller *poller, struct source *source, bool on);

/* Runs one turn; waits at most POLLER_GATHER_NS if nothing is ready. */
void poller_turn(struct poller *poller);
