/*
 * What a channel knows for deltas: who takes them, and for each conflation key the text that was sent last.
 *
 *   channel "prices" --> state --> takers    how many subscribers take deltas, by algorithm
 *                              \-> sequence  the next number: one for all keys and subscribers
 *                               \-> keys     "ABC" --> {text, its number, who did not get it}
 *
 * A channel has a state from the first subscriber that takes deltas on, and texts while there is one. The state counts
 * subscribers, not connections: which of them know a text follows from the number at which they joined (struct
 * subscriber) and from what the key keeps of its last event. So an event costs one delta, however many subscribers it
 * has.
 *
 * The mutex of a state is taken before the mutex of its channel: the publisher of an event holds it from the choice of
 * the base until the event is posted, so that the next publisher finds this one's text. Deltas are encoded under it.
 */
#pragma once

#include "channel/channel_internal.h"

#define DELTA_ALGORITHMS 2 /* of enum app_delta_algorithm */
#define DELTA_SEQUENCE_MAX INT32_MAX

/* The event that a delta is based on, and who did not get it. */
struct delta_base {
    uint64_t number;             /* of the channel; 0: there is none */
    const struct stream *sender; /* a connection that was left out; only compared, since it may be gone */
    bool has_except_socket;      /* the connection with this id was left out, too */
    bool only_for_askers;        /* it went as a delta only to those that asked for deltas themselves */
    struct socket_id except_socket;
    struct tags *tags; /* for the filters of subscriptions; who keeps the base has a reference */
};

/* A conflation key; an empty one on a channel without them. */
struct delta_key {
    struct list in_channel; /* in the state's list */
    struct list in_process; /* in the lists of delta_texts.h */
    struct list in_app;
    struct delta_key *next; /* in the bucket */
    struct delta_state *state;
    uint64_t hash;
    size_t bytes; /* in the account of memory */
    char *text;   /* the whole event as JSON text */
    uint32_t text_length, text_capacity;
    uint32_t sequence;
    uint32_t deltas; /* since the last event that went whole to everyone */
    uint64_t sent_ms;
    struct delta_base base;
    uint32_t length;
    char name[];
};

struct delta_state {
    atomic_uint references;
    pthread_mutex_t mutex;
    /* Not to be used without a text: there are texts only while there is a subscriber, which holds a reference to the
     * channel. */
    struct channel *channel;
    _Atomic(uint32_t) taker_count; /* changed under the mutex */
    /* Protected by the mutex. */
    uint32_t takers[TAKES_DEFAULT + 1][2]; /* by enum delta_takes, and whether they asked themselves */
    uint32_t sequence;                     /* of the next event */
    uint32_t drawn;                        /* where the numbers begin once there are keys */
    bool keyed;
    uint32_t key_count, bucket_count; /* a power of two, or 0 */
    struct delta_key **buckets;
    struct list oldest; /* keys, the one sent longest ago first */
    size_t bytes;       /* of all keys */
};

/* Creates the state of a channel, with one reference. */
struct delta_state *delta_state_create(struct channel *channel);
/* Take and drop a reference; with the last one there are no texts. NULL is dropped without effect. */
static inline struct delta_state *delta_state_ref(struct delta_state *state) {
    atomic_fetch_add_explicit(&state->references, 1, memory_order_relaxed);
    return state;
}
void delta_state_unref(struct delta_state *state);
/* The memory of a state without keys, in the account of channels. */
size_t delta_state_bytes(void);

/* True if a subscriber takes deltas; for any thread, without the mutex. A state stays for the life of its channel. */
static inline bool delta_state_has_takers(const struct delta_state *state) {
    return atomic_load_explicit(&state->taker_count, memory_order_relaxed) != 0;
}

/* Counts a subscriber in or out; with the last one the texts go. The caller holds no lock. */
void delta_state_enter(struct delta_state *state, enum delta_takes takes, bool asked);
void delta_state_leave(struct delta_texts *texts, struct delta_state *state, enum delta_takes takes, bool asked);

/* The functions below are for the holder of the state's mutex. */

/* Which algorithms are needed, if a channel's own one is `algorithm`, and deltas are off for those that did not ask for
 * them. False if none is. */
bool delta_state_needs(const struct delta_state *state, enum app_delta_algorithm algorithm, bool only_for_askers,
                       bool needed[DELTA_ALGORITHMS]);

/* Returns the number of the next event. All texts go if the numbers begin anew. */
uint32_t delta_state_number(struct delta_texts *texts, struct delta_state *state, bool keyed);

/* Finds a key with its text; NULL if there is none. */
struct delta_key *delta_state_find(const struct delta_state *state, struct slice name, uint64_t hash);

/* An event that was posted. */
struct delta_sent {
    struct slice key, text;
    uint64_t hash; /* of the key */
    uint32_t sequence;
    bool delta; /* for some at least */
    struct delta_base base;
    uint32_t max_keys; /* of the channel; 0: no bound */
};

/* Keeps the text under its key. Texts of the channel that were sent longest ago go if it has too many keys or bytes; if
 * there is no room in the account of memory, or no memory, so does this one. */
void delta_state_keep(struct channel_hub *hub, struct delta_state *state, struct worker *worker,
                      const struct delta_sent *sent);

/* --- the process --- */

/* Drops texts while there are more bytes of them than `delta_compression.max_memory_mb` allows, or while the account of
 * memory is short, of the process or of this app: the oldest ones of the app that has the most, or of this app. Passes
 * over a text whose state another thread has locked, which may be encoding. The caller holds no lock. */
void delta_state_shrink(struct channel_hub *hub, struct app_slot *slot, struct worker *worker);
/* Drops texts that are too old to be a base, but stops at one whose state is locked; and others while the account of
 * the process is short. Once a second, on one worker. */
void delta_state_expire(struct channel_hub *hub, uint64_t now_ms);
