/*
 * The table of subjects that this node wants, by subject and by channel.
 *
 * An interest lies in its channel's memory (channel_hook_memory), so a channel that is wanted costs one more block: the
 * subject with the app's id. The two indexes grow by one bucket for each interest, so that no turn moves them all.
 *
 * On the cluster's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/hash_index.h"
#include "base/list.h"
#include "base/slice.h"
#include "channel/remote.h"
#include "cluster/loop.h"
#include "cluster/state/set_versions.h"

struct interests;
struct remote_taking;

enum interest_phase {
    INTEREST_NONE,        /* not in the table */
    INTEREST_SUBSCRIBING, /* the subject is not in force */
    INTEREST_ASKING,      /* the answers of other nodes are awaited */
    INTEREST_READY,       /* the channel's subscriptions do not wait, or the bus is down */
};

struct interest {
    /* The notice of a worker (remote.h). The hook sets these, and has them until the notice is taken. */
    struct loop_message notice;
    struct interests *owner;
    struct channel *noticed; /* a reference */

    /* On the cluster's thread. */
    struct channel *channel; /* a reference, while it is in the table */
    struct hash_link by_subject, by_channel;
    uint64_t channel_hash; /* message_channel_hash */
    char *text;            /* subject, app id */
    uint32_t subject_length, app_length;
    uint8_t phase; /* enum interest_phase */
    bool stateful;
    bool reading;          /* the store is asked for the event of a cache channel, of state_requests.c */
    bool read;             /* it was asked */
    bool has_version;      /* others were told the last change of the own set, as `told_version` */
    bool has_count;        /* the own subscription count was told */
    uint32_t epoch;        /* of interests, in which the subject came in force; 0: it is not */
    uint32_t generation;   /* of struct channel_interest */
    uint64_t due_ms;       /* in `subscribing` or `asking` */
    uint64_t let_go_ms;    /* in `lingering` */
    struct list link;      /* in the list of all, oldest first */
    struct list unready;   /* in `subscribing` or `asking` of interests */
    struct list lingering; /* while nobody wants it */
    struct list wanted;    /* while other nodes are to be asked for it, of state_requests.c */
    struct list probed;    /* while a round of answers is to put it in force, of state_probes.c */
    struct list telling;   /* while its version is to be told again, of state_changes.c */
    uint64_t tell_due_ms;
    uint64_t told_version; /* of the own set; 0: it is empty */
    uint64_t count_version;
    uint32_t count;
    uint32_t ready_epoch; /* of interests, in which it became ready */
    /* Other nodes, by bits: those that told a count other than 0, and those that told one since the last look at it or
     * the one before, of state_changes.c. */
    uint64_t counted, count_heard, count_heard_before;
    struct set_versions versions;

    /* On the channel's worker: sets that it is taking in, in several parts. */
    struct remote_taking *taking;
};

struct interest_table {
    struct hash_index by_subject, by_channel;
    struct list all;
    uint32_t count;
};

void interest_table_init(struct interest_table *table);
/* The interests must have been removed. */
void interest_table_dispose(struct interest_table *table);

/* The subject and the app's id; valid while the interest is in the table. */
static inline struct slice interest_subject(const struct interest *interest) {
    return (struct slice){interest->text, interest->subject_length};
}

static inline struct slice interest_app(const struct interest *interest) {
    return (struct slice){interest->text + interest->subject_length, interest->app_length};
}

/* Adds an interest, whose `channel` is set. */
void interest_table_add(struct interest_table *table, struct interest *interest, struct slice subject,
                        struct slice app);
/* Removes it and frees its texts. */
void interest_table_remove(struct interest_table *table, struct interest *interest);

/* NULL: there is none. */
struct interest *interest_find_by_subject(const struct interest_table *table, struct slice subject);
struct interest *interest_find_by_channel(const struct interest_table *table, uint64_t channel_hash);
