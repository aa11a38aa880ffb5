/*
 * What this node knows of the other nodes' sets of one channel: as of which version, and what a message about a set
 * means for that. Only versions are here, not members: the caller passes on to the channel what is to be applied.
 *
 *   known   the node's set is known as of a version; without an entry in the list it is empty
 *   asked   the node was asked for its set and has not answered yet
 *   busy    the channel is taking in the node's set
 *
 * The channel may have members of a set that has an entry and is not known: a part of an answer that was given up, or
 * those from before a refusal.
 *
 * While a set is asked for or taken in, changes of that node are kept.
 *
 * A set for which the channel had no room is not known either, but its node is not asked again at once: after one
 * second, and after twice as long with each time in a row, up to a minute. Meanwhile its changes are not kept.
 *
 * A node gives its changes ascending versions. A change names the version of the one before it on this channel (0: the
 * set was empty), so a message that is missing shows with the next one. The changes of one node arrive in order, and so
 * do its answers, but an answer and a change may overtake each other.
 *
 * Pure functions of their arguments: no clock, no input or output.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Changes that are kept for a channel at most. With more, all are dropped, and the nodes are asked again. */
#define SET_KEPT_MAX 1000

/* A change of a node's set. */
struct set_change {
    uint64_t before; /* version of the change before it; 0: the set was empty */
    uint64_t version;
    bool empties; /* the set is empty after it */
};

/* A change that is kept; embedded in a structure of the caller. */
struct set_kept {
    struct set_kept *next;
    struct set_change change;
    uint8_t node; /* 1 to 63 */
};

/* What is known of one node's set. */
struct set_version {
    uint64_t version;    /* that was applied */
    uint64_t heard;      /* the newest one that a message named; above `version`: something is missing */
    uint64_t heard_then; /* `heard` when the request was sent */
    uint32_t emptied_s;  /* when the set became empty; 0: it is not */
    uint32_t asked_by;   /* number of the request that asks for it, if it is known; 0: the request is not sent yet */
    uint8_t node;
    uint8_t claim;       /* enum set_claim */
    uint8_t refusals;    /* how often in a row the channel had no room for the set */
    uint32_t ask_from_s; /* if there are refusals: it is not asked before */
};

/* Zeroed memory: nothing is known of any node. */
struct set_versions {
    uint64_t known, asked, busy; /* bit n: of node n */
    struct set_version *list;
    struct set_kept *kept, *newest_kept;
    uint16_t count, capacity, kept_count;
};

enum set_step {
    SET_APPLY,  /* pass it on to the channel */
    SET_IGNORE, /* it says nothing new */
    SET_KEEP,   /* keep it, with set_versions_keep */
    SET_ASK,    /* keep it if it is a change, and ask the node for its set; this is noted already */
};

/* Frees the list. Kept changes must have been taken out. */
void set_versions_dispose(struct set_versions *versions);

/* --- messages; `now_s` is any clock --- */

/* What a change means. SET_APPLY: its version is noted. */
enum set_step set_versions_change(struct set_versions *versions, unsigned node, const struct set_change *change,
                                  uint32_t now_s);

/* What it means that a node tells the version of its set once more (0: it is empty): SET_IGNORE or SET_ASK. */
enum set_step set_versions_told(struct set_versions *versions, unsigned node, uint64_t version, uint32_t now_s);

/* A node's whole set as of a version has come, or begins to come, as the answer to a request. SET_APPLY: the channel
 * shall take it in; call set_versions_taken when it has. SET_IGNORE: drop all parts of it. What was heard of newer ones
 * before the request was sent is then no more believed. */
enum set_step set_versions_begin(struct set_versions *versions, unsigned node, uint64_t version, uint32_t request);

/* A node that was asked holds nothing. SET_APPLY: the channel shall empty its set, as of the version that
 * set_versions_applied returns (0: whatever version the channel has); call set_versions_taken when it has. SET_IGNORE:
 * it is empty here, too; call set_versions_next. */
enum set_step set_versions_nothing(struct set_versions *versions, unsigned node, uint32_t now_s);

/* The channel has taken the set in: call set_versions_next. `done` false: it could not, and has what it had, or a part
 * of the set more; the next change, or a digest, asks again. */
void set_versions_taken(struct set_versions *versions, unsigned node, uint64_t version, bool empty, bool done,
                        uint32_t now_s);

/* The channel had no room for the set, or for a change of it: it is not known any more. The caller drops what is kept
 * of the node. */
void set_versions_refused(struct set_versions *versions, unsigned node, uint32_t now_s);

/* The channel has another version than was applied: the set is not known any more. The caller drops what is kept of the
 * node, and asks it. */
void set_versions_doubt(struct set_versions *versions, unsigned node);

/* --- kept changes --- */

/* Keeps a change, whose `node` and `change` are set. False: too many are kept already; the caller frees this one and
 * all that set_versions_take_all returns. What is then missing stays noted. */
bool set_versions_keep(struct set_versions *versions, struct set_kept *kept);

/* Takes all kept changes out, as a list. */
struct set_kept *set_versions_take_all(struct set_versions *versions);

/* Takes the oldest kept change of a node out if its time has come; `*step` is then SET_APPLY or SET_IGNORE. Call it
 * until it returns NULL; `*step` is then SET_IGNORE, or SET_ASK if something is still missing. */
struct set_kept *set_versions_next(struct set_versions *versions, unsigned node, enum set_step *step, uint32_t now_s);

/* --- requests --- */

/* Notes that a node shall be asked. False: it is asked already, or its first set is being taken in. */
bool set_versions_ask(struct set_versions *versions, unsigned node);

/* The number of the request that asks the node. */
void set_versions_asked_by(struct set_versions *versions, unsigned node, uint32_t request);

/* True if the node is asked by this request, and no answer has begun to come: at the request's end it holds nothing. */
bool set_versions_awaits(const struct set_versions *versions, unsigned node, uint32_t request);

/* The request has ended. If another one's set is being taken in, it is not waited for: what that set lacks is asked for
 * when it is there. */
void set_versions_overtaken(struct set_versions *versions, unsigned node, uint32_t request);

/* The node has not answered in time. */
void set_versions_unanswered(struct set_versions *versions, unsigned node);

/* --- all the rest --- */

/* Forgets what is known of a node. Kept changes of it stay until they are taken out. */
void set_versions_forget(struct set_versions *versions, unsigned node);

/* Drops what is remembered of sets that became empty before. */
void set_versions_expire(struct set_versions *versions, uint32_t before_s);

/* The version of a node's set for a digest; 0: it is empty or not known. */
uint64_t set_versions_of(const struct set_versions *versions, unsigned node);

/* The version that was applied last; 0: none. */
uint64_t set_versions_applied(const struct set_versions *versions, unsigned node);

static inline bool set_versions_known(const struct set_versions *versions, unsigned node) {
    return (versions->known >> node & 1) != 0;
}

static inline bool set_versions_asked(const struct set_versions *versions, unsigned node) {
    return (versions->asked >> node & 1) != 0;
}

static inline bool set_versions_busy(const struct set_versions *versions, unsigned node) {
    return (versions->busy >> node & 1) != 0;
}
