/*
 * The subjects that this node wants: those of channels with subscribers, watchers or waiting subscriptions here.
 *
 *   notice of a worker ---> subscribe at the bus ---> in force ---> the state of other nodes ---> channel_ready
 *   nobody left ---> 10 s ---> channel_let_go on the worker ---> notice ---> unsubscribe
 *
 * Whether a channel needs the state of others, and when that is there, is decided by state.c, through struct
 * interest_hooks and interest_answered. A channel becomes ready after INTEREST_WAIT_MS at the latest, and at once while
 * the bus is down; if its subject does not come in force, after INTEREST_FORCE_MS. When the bus is up again, all
 * channels wait again, at once, until their subject is in force.
 *
 * Work on all interests goes on from turn to turn (loop_has_time). On the cluster's thread.
 */
#pragma once

#include "cluster/cluster_core.h"
#include "cluster/state/interest_table.h"

/* How long subscriptions wait for the answers of other nodes. */
#define INTEREST_WAIT_MS 500
/* How long they wait for the subject to come in force while the bus is up. */
#define INTEREST_FORCE_MS 3000
/* How long the subject of a channel that nobody wants is kept. */
#define INTEREST_LINGER_MS 10000

struct interest_hooks {
    /* The subject has come in force, or the state is wanted since now. True: others are asked, and interest_answered
     * will be called. */
    bool (*in_force)(void *context, struct interest *interest);
    /* The interest leaves the table. */
    void (*ended)(void *context, struct interest *interest);
    void *context;
};

struct interests {
    struct cluster_core *core;
    struct interest_hooks hooks;
    struct interest_table table;
    bool up;
    uint32_t epoch;        /* counts how often the bus came up */
    uint32_t out_of_force; /* interests whose subject is not in force in this epoch */

    struct list subscribing, asking; /* interests in these phases, by time */
    struct list lingering;           /* by time */
    struct loop_timer force_timer, ask_timer, linger_timer;

    struct loop_message slice; /* work on many interests */
    bool slice_posted;
    struct list *review; /* the next one that has to wait again after the bus came up; NULL: none */
    /* Called before an interest leaves its place in the list of all; NULL: nobody else walks over that. */
    void (*moves)(void *context, const struct interest *interest);
    void *moves_context;
    bool reading; /* between reclaim_read_begin and reclaim_read_end, until the end of the turn */
};

/* Initialises the table; `hooks->...` of channel/ that are about interest are set. */
void interests_init(struct interests *interests, struct cluster_core *core, const struct interest_hooks *hooks,
                    struct channel_hooks *channel_hooks);
/* Drops all interests. When the thread has ended. */
void interests_dispose(struct interests *interests);

/* What a part is told (cluster_core.h). */
void interests_bus_up(struct interests *interests);
void interests_down(struct interests *interests);
void interests_in_force(struct interests *interests, struct slice subject);
void interests_interrupted(struct interests *interests, struct slice subject);
void interests_end_of_turn(struct interests *interests);

/* Makes the interest the last one of all. */
void interests_move_to_end(struct interests *interests, struct interest *interest);

/* The answers of other nodes are in. Ignored if they are not awaited. */
void interest_answered(struct interests *interests, struct interest *interest);

static inline bool interest_is_in_force(const struct interests *interests, const struct interest *interest) {
    return interests->up && interest->epoch == interests->epoch;
}

/* The worker where everything that other nodes say of the channel is applied. Any thread. */
struct worker *interest_worker(const struct cluster_core *core, const struct channel *channel);

/* Keeps what channels refer to until the end of this turn. */
void interests_read(struct interests *interests);
