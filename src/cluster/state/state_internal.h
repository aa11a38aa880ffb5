/*
 * What the files about the state of channels share. See state.h for what they do.
 *
 *   state.c           the part: hooks, nodes that come and leave, outages
 *   state_requests.c  asking other nodes: requests, digests, and their answers
 *   state_answers.c   answering them
 *   state_changes.c   changes of this node's sets and counts to others, and theirs to this node
 *   state_probes.c    rounds of answers that put subscriptions in force, on systems of several servers
 *   state_apply.c     applying what they say on the channel's worker; kept changes
 */
#pragma once

#include <stdatomic.h>

#include "cluster/state/interest.h"
#include "cluster/state/state.h"

/* Requests to all nodes that are under way at most. */
#define ASKS_MAX 4
/* What a request names at most, and a digest. */
#define ASK_ITEMS_MAX 1000
#define ASK_PLACES_BYTES (48 * 1024)
/* After so long without a part a node's credit is said again, and a request to all gives way to the next one; after
 * ASK_IDLE_MS the node is given up. Subscriptions do not wait for that: they have INTEREST_WAIT_MS. */
#define ASK_STALL_MS 500
#define ASK_IDLE_MS 3000

/* The most that is on its way to this node in answers: from one node, and from all. */
#define CREDIT_OF_NODE (1024 * 1024)
#define CREDIT_OF_ALL (4 * 1024 * 1024)
#define CREDIT_LEAST (16 * 1024)

/* What changes that are kept may hold in all; then they are dropped, and asked for. They are counted in
 * memory.limit_mb, too. */
#define KEPT_BYTES_MAX (16 * 1024 * 1024)

/* A place in the list of all interests, which stays valid when interests leave it. */
struct state_cursor {
    struct list link; /* in the state's list, while it is in use */
    struct list *at;  /* the next one */
};

/* A question to other nodes that is under way. */
enum ask_kind {
    ASK_ALL,    /* STATE_REQUEST */
    ASK_GAPS,   /* GAP_REQUEST */
    ASK_DIGEST, /* DIGEST */
};

struct ask {
    struct list link;
    uint32_t number;
    enum ask_kind kind;
    bool gave_way;     /* it does not count any more */
    uint64_t awaited;  /* bit n: node n has not answered all of it */
    uint64_t given_up; /* bit n: node n will not answer, which the channels do not know yet */
    uint64_t broken;   /* bit n: parts of its answer were lost */
    uint64_t begun_ms;
    uint64_t credit; /* of each node */
    struct {
        uint32_t parts;          /* that came */
        uint64_t taken, granted; /* bytes */
        uint64_t moved_ms;       /* the last part, of this answer or of one before it */
        uint64_t said_ms;        /* the last credit */
    } nodes[NODES_MAX];
    uint32_t count;
    uint64_t items[]; /* hashes of channels */
};

/* Hashes of channels that are to be asked for at one node. */
struct gap_list {
    uint64_t *items;
    uint32_t count, capacity;
};

/* What there is for each other node. */
struct state_node {
    bool alive;
    bool returned;      /* the next digest says that this node was away */
    bool sweeps, again; /* a sweep of digests is under way; one more follows */
    struct state_cursor sweep;
    bool digest_open; /* a digest is not answered yet */
    bool behind;      /* it has left a request unanswered: a sweep follows */
    uint64_t swept_ms;
    struct gap_list gaps;
    bool gaps_open;       /* a request for them is not answered yet */
    unsigned replaces;    /* the number of the node before; 0: none */
    unsigned replaced_by; /* 0: none */
    uint64_t replaced_ms;
    unsigned forgetting; /* it left: workers that have not forgotten it yet */
    struct state_cursor forget_walk;
    /* The set whose parts are coming: it goes to this channel. */
    struct channel *partial; /* a reference; NULL: none */
    uint64_t partial_version;
    uint32_t partial_request;
    /* Answers to it, one after the other. */
    struct list answers;
    unsigned answer_count;
};

struct state {
    struct cluster_core *core;
    struct roster_reports *webhooks; /* NULL: no webhooks are sent */
    struct interests interests;
    struct channel_hooks hooks;
    struct list cursors;

    /* state_requests.c */
    struct list wanted; /* interests that all nodes are to be asked for */
    struct list asks;
    unsigned open_asks; /* of `asks`, to all nodes */
    uint32_t number;
    unsigned given_up;     /* bits of `given_up` in all asks */
    unsigned credit_shift; /* halvings of the credit */
    unsigned next_node;    /* the first one to be asked next */
    uint64_t down_ms;      /* the last outage; 0: none */
    struct loop_timer ask_timer;
    struct state_cursor slow; /* the digest of each minute */
    uint64_t slow_left;       /* bit n: node n has not been sent the piece that begins there */
    struct state_cursor look; /* the channels of the piece that were not looked at yet: `look_left` */
    uint32_t look_left;
    struct loop_timer slow_timer;

    /* state_probes.c */
    struct list unprobed; /* interests that wait for a round */
    struct list probed;   /* interests whose round is over, which their channels do not know yet */
    struct list rounds;
    unsigned round_count;
    uint32_t probe_number;
    struct loop_timer round_timer;

    /* state_changes.c */
    struct list telling;
    struct loop_timer tell_timer;
    uint64_t tell_at_once_ms; /* the end of the last outage; 0: there was none */
    size_t kept_bytes;

    struct loop_message slice; /* forgetting nodes, and the next turn for requests */
    bool slice_posted;
    struct loop_timer replaced_timer;
    struct state_node nodes[NODES_MAX];
    struct state_counters counters;
};

static inline uint64_t state_now_ms(const struct state *state) {
    return loop_now_ms(state->core->loop);
}

static inline uint32_t state_now_s(const struct state *state) {
    return (uint32_t)(loop_now_ms(state->core->loop) / 1000);
}

/* Makes the loop go on at once after this turn. */
static inline void state_go_on(struct state *state) {
    if (!state->slice_posted)
        loop_post(state->core->loop, &state->slice);
    state->slice_posted = true;
}

/* --- state.c --- */

/* Begin and end the use of a cursor. */
static inline void state_cursor_begin(struct state *state, struct state_cursor *cursor) {
    cursor->at = state->interests.table.all.next;
    list_append(&state->cursors, &cursor->link);
}

static inline void state_cursor_end(struct state_cursor *cursor) {
    list_remove(&cursor->link);
}

/* The next interest; NULL at the end. */
static inline struct interest *state_cursor_next(const struct state *state, struct state_cursor *cursor) {
    struct list *at = cursor->at;

    if (at == &state->interests.table.all)
        return NULL;
    cursor->at = at->next;
    return container_of(at, struct interest, link);
}

/* --- state_apply.c --- */

/* A change of another node's set, on its way to the channel. */
struct remote_news {
    struct message message;
    struct set_kept kept;
    struct state *state;
    struct channel *channel; /* a reference */
    struct remote_change change;
    struct bus_message *bus_message; /* which the texts of the change point into */
};

/* Passes a change to the worker. */
void state_apply_change(struct state *state, struct remote_news *news);
/* Keeps it. */
void state_keep_change(struct state *state, struct interest *interest, struct remote_news *news);
void state_free_news(struct remote_news *news);
/* Passes another node's count to the channel; `version` 0: see channel_remote_count. */
void state_apply_count(struct state *state, const struct interest *interest, unsigned node, uint64_t version,
                       uint32_t number);
/* Passes on what was kept of a node, asks for what is missing, and ends the wait of the channel if all is there. */
void state_pass_kept(struct state *state, struct interest *interest, unsigned node);
/* Ends the wait of the channel's subscriptions if no answer is awaited. */
void state_check_answered(struct state *state, struct interest *interest);
/* Drops what is kept of a channel: of one node, 0: of all. */
void state_drop_kept(struct state *state, struct interest *interest, unsigned node);
/* Notes that a node is to be asked for the channel. */
void state_want_from(struct state *state, const struct interest *interest, unsigned node);

/* A part of an answer, shared by its sets. */
struct state_part {
    atomic_uint references;
    struct loop_message message; /* for its return to the thread */
    struct state *state;
    struct bus_message *bus_message;
    void (*taken)(struct state *state, unsigned node, uint32_t request, size_t bytes);
    unsigned node;
    uint32_t request;
};

/* Passes a set, or a part of it, to the channel. */
void state_apply_set(struct state *state, struct channel *channel, unsigned node, const struct message_set *set,
                     struct state_part *part);
/* The node's set is empty, as of that version. */
void state_apply_nothing(struct state *state, struct interest *interest, unsigned node);
/* Gives up a set whose parts do not come. */
void state_abandon_set(struct state *state, unsigned node);
void state_part_unref(struct state_part *part);

/* --- state_requests.c --- */

void state_requests_init(struct state *state);
void state_requests_dispose(struct state *state);
bool state_request(void *context, struct interest *interest); /* interest_hooks.in_force */
/* Asks for the counts of a channel, whose sets are known: the answers are not waited for. */
void state_request_counts(struct state *state, struct interest *interest);
/* Asks what is to be asked, while the turn has time: one message at least. */
void state_requests_end_of_turn(struct state *state);
/* Tells the channels of an ask that a node does not answer it. False: there is no such ask. */
bool state_requests_conclude(struct state *state);
void state_requests_node_gone(struct state *state, unsigned node);
void state_requests_end_all(struct state *state);
/* Begins digests of all channels to a node. `returned`: this one was away. */
void state_sweep(struct state *state, unsigned node, bool returned);

/* --- state_answers.c --- */

void state_answers_init(struct state *state);
/* Drops the answers to a node. */
void state_answers_drop(struct state *state, unsigned node);

/* --- state_probes.c --- */

void state_probes_init(struct state *state);
void state_probes_dispose(struct state *state);
/* True if the interest has to wait for a round of answers. A round may be for a thousand interests, and many more may
 * wait for one: when that is over, the channels are told at the end of the turn, and of the next ones. */
bool state_probe(struct state *state, struct interest *interest);
void state_probes_end_of_turn(struct state *state);
void state_probes_node_gone(struct state *state, unsigned node);
void state_probes_end_all(struct state *state);

/* --- state_changes.c --- */

void state_changes_init(struct state *state);
void state_changes_dispose(struct state *state);
/* Tells the own subscription count of a channel. */
void state_tell_count(struct state *state, const struct interest *interest);
/* An outage has ended: tells the counts that changed in it or shortly before, and versions that were told shortly
 * before. Digests tell the versions of sets that changed in it. */
void state_tell_at_once(struct state *state);
/* Notes that a node has told its count. */
void state_note_count(struct interest *interest, unsigned node, uint32_t count);
/* A look at a channel, each minute: drops the counts of nodes that have not told them again since the look before the
 * last one. A node whose subscribers left during an outage tells nothing more. */
void state_drop_untold_counts(struct state *state, struct interest *interest);
