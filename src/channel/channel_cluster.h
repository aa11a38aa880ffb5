/*
 * What a channel knows of other nodes, and how this node counts towards them. Made with the channel if the hub has
 * hooks (remote.h); else a channel has none. The files that work on it:
 *
 *   channel_cluster.c  making and freeing it, the hub's lists of all of them
 *   interest.c         who is there, notices to cluster/, subscriptions that wait
 *   own_set.c          this node's own set: versions, changes, the walk for answers; its subscription count
 *   kept_stamp.c       which event of a cache channel is the newest
 *   remote_entry.c     what is known of one node
 *   remote_members.c   members that other nodes have
 *   remote_set.c       taking in a whole set, forgetting a node, letting a channel go
 *   remote.c           changes and counts that other nodes tell
 *
 * Entries and what other nodes have are changed on the channel's worker only (remote.h), with the channel's mutex held;
 * so that worker reads them without it.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "channel/remote.h"

struct remote_set;

/* What a node has told of the channel. */
struct remote_entry {
    uint64_t version;          /* of its set; 0: none was told */
    uint64_t count_version;    /* of its subscription count */
    struct remote_set *taking; /* its set that is being taken in; NULL: none */
    uint32_t count;            /* its subscription count */
    uint32_t members;          /* of its set */
    uint8_t node;
};

/* A link in the hub's lists; a cursor of a walk has no channel. */
struct channel_held {
    struct list link;
    struct channel *channel;
};

/* The channels of one worker, by hash. */
struct held_list {
    pthread_mutex_t mutex;
    struct list channels;
};

struct channel_cluster {
    struct channel_hub *hub;
    struct held_list *held_list;
    struct channel_held link; /* protected by the list's mutex */
    size_t bytes;             /* of this structure, in the account of memory */
    bool own_state;           /* the type of the channel has state, whatever the app is */

    /* Protected by the channel's mutex. */
    bool held, ready;
    bool stateful;
    bool noticed;        /* a notice is under way */
    bool noted_wanted;   /* as of the last notice */
    bool noted_stateful; /* the same */
    bool emptying;       /* it is being let go: other nodes' sets go */
    uint32_t generation;
    uint32_t waiting; /* waiters that were not called yet, or are being called */
    uint64_t waiting_workers;

    bool own_occupied;  /* what was told of the own set, for channels without members */
    uint32_t readiness; /* the hub's number, when `ready` was set */
    uint64_t own_version;

    uint64_t occupied; /* bit n: the set of node n is "occupied", for channels without members */
    struct remote_entry *entries;
    uint8_t entry_count, entry_capacity;
    uint32_t told_subscriptions; /* the sum of the other nodes' counts */

    bool count_later; /* a timer is set to tell the own count */
    uint32_t count_told;
    uint64_t count_told_ms, count_version;

    uint64_t seen_ms; /* the highest publish time seen */
    struct channel_stamp kept_stamp;

    char *hook_memory;
    struct list waiters[]; /* by worker, on its thread only; the memory of the hooks follows */
};

/* --- channel_cluster.c --- */

/* The bytes of the structure, if there are hooks. */
size_t channel_cluster_bytes(const struct channel_hub *hub);
/* Makes the structure of a channel that is not in the table yet, and lists it. With hooks only. */
struct channel_cluster *channel_cluster_create(struct channel_hub *hub, struct channel *channel);
/* Takes it off the hub's list: before the table drops its reference. NULL is ignored. */
void channel_cluster_unlist(struct channel_cluster *cluster);
/* Frees it, with the last reference to the channel. NULL is ignored. */
void channel_cluster_destroy(struct channel_cluster *cluster);
/* The memory of the entries in the account, which the structure's `bytes` do not have. */
size_t channel_entries_bytes(const struct channel_cluster *cluster);

/* The hub's part: without hooks nothing is made. */
void channel_hub_create_held(struct channel_hub *hub);
void channel_hub_destroy_held(struct channel_hub *hub);

/* True if another node's set is "occupied". The caller holds the channel's mutex. */
static inline bool cluster_is_occupied(const struct channel_cluster *cluster) {
    return cluster != NULL && cluster->occupied != 0;
}

/* --- interest.c --- */

/* True if subscriptions do not wait. The caller holds the channel's mutex. */
bool interest_is_ready(const struct channel_cluster *cluster);

/* Call it under the mutex after a change of who is there. True: call interest_wake without the mutex. */
bool interest_changed(struct channel *channel);
void interest_wake(const struct channel *channel);

/* Enters the waiter if the channel is not ready; it takes a reference to the channel. False: go on. Under the mutex, on
 * the waiter's worker; call interest_changed after it. */
bool interest_enter(struct channel *channel, const struct worker *worker, struct channel_waiter *waiter);

/* Gives a notice of a channel that was let go, or wanted again meanwhile. Under the mutex; as interest_changed. */
bool interest_let_go(struct channel *channel);

/* --- own_set.c --- */

/* What a join or leave tells other nodes: made before the mutex, noted under it, finished after it. */
struct own_news {
    struct channel_own_change *change; /* NULL: nobody was to be told, before the mutex was taken */
    /* The change, if `change` is NULL. It is told after all if a node has come meanwhile. Its `channel` is NULL
     * if the set has not changed. */
    struct channel_own_change untold;
    bool posted, wake;
    bool has_counts; /* other nodes get the subscription count */
    bool tell_count, count_later;
    uint32_t count;
    uint64_t count_version;
    bool stateful; /* by the app's record */
};

/* `counts`: clients or webhooks get subscription counts. */
void own_news_create(struct own_news *news, struct channel *channel, const struct app *app);
/* The subscriber has come or left, and is counted. `member` is the one that this node has got or lost with that, else
 * NULL. Under the mutex. */
void own_news_note(struct own_news *news, struct channel *channel, struct presence_member *member, bool joined,
                   uint64_t now_ms);
void own_news_finish(struct own_news *news, struct channel *channel, struct worker *worker);

/* --- kept_stamp.c --- */

/* Compares the ids of two nodes: less than, equal to or greater than 0. */
int channel_hub_compare_nodes(const struct channel_hub *hub, unsigned node, unsigned other);
/* True if an event with the stamp takes the place of the kept one; its stamp is noted then. Under the mutex. */
bool kept_stamp_take(struct channel *channel, struct channel_stamp stamp);
/* The stamp of this node's next event on the channel: its time is above all that the channel has seen. */
struct channel_stamp kept_stamp_next(const struct channel_hub *hub, struct app_slot *slot, struct slice name);

/* --- remote_entry.c --- */

struct remote_entry *remote_entry_find(const struct channel_cluster *cluster, unsigned node);
/* The same; makes it if there is none. Without the mutex. */
struct remote_entry *remote_entry_make(struct channel *channel, unsigned node);
/* Frees the entry of a node, or all. Without the mutex. */
void remote_entry_drop(struct channel *channel, unsigned node);
void remote_entries_drop_all(struct channel *channel);
/* True if the channel is held, and not being let go. On its worker. */
bool remote_is_wanted(struct channel *channel);

/* --- remote_members.c --- */

/* Adds a user to those that the node has, and tells local subscribers if the union changes. `set` not NULL: the user is
 * named by it. False if there is no room. Without the mutex. */
bool remote_member_add(struct channel_hub *hub, struct channel *channel, struct worker *worker, unsigned node,
                       const struct remote_member *member, bool named);
/* Takes the user away from those that the node has, and tells them if nobody else has the user. */
void remote_member_remove(struct channel_hub *hub, struct channel *channel, struct worker *worker, unsigned node,
                          struct slice id);
/* Sets whether the node's set is "occupied", and tells a user's watchers. */
void remote_occupied_set(struct channel_hub *hub, struct channel *channel, struct worker *worker, unsigned node,
                         bool occupied);
/* Sets the subscription count of the node, and tells local subscribers the sum. */
void remote_count_set(struct channel_hub *hub, struct channel *channel, struct worker *worker, unsigned node,
                      uint64_t version, uint32_t count);
