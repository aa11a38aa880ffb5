#include <stdlib.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "channel/channel_internal.h"

/* --- a sweep: the members of a channel that a node has no more, some in each step --- */

struct remote_sweep {
    struct channel_hub *hub;
    struct channel *channel; /* the caller's reference; NULL: no sweep is under way */
    struct worker *worker;
    unsigned node;
    bool all; /* whether the node's set names them or not */
    struct member_list *list;
    uint32_t block;
};

static void sweep_begin(struct remote_sweep *sweep) {
    pthread_mutex_lock(&sweep->channel->mutex);
    sweep->list = presence_snapshot(&sweep->channel->members);
    pthread_mutex_unlock(&sweep->channel->mutex);
    sweep->block = 0;
}

static void sweep_end(struct remote_sweep *sweep) {
    member_list_unref(sweep->list);
    sweep->list = NULL;
}

/* Takes from a block of the list those that the node has no more. A user may have got another member meanwhile. */
static unsigned take_swept(const struct remote_sweep *sweep, const struct member_block *block,
                           struct presence_member **swept) {
    struct channel *channel = sweep->channel;
    uint64_t bit = UINT64_C(1) << sweep->node;
    unsigned count = 0;

    pthread_mutex_lock(&channel->mutex);
    for (uint32_t i = 0; i < block->count; i++) {
        struct presence_member *member =
            presence_find(&channel->members, presence_member_key(block->members[i]), block->members[i]->hash);
        if (member == NULL || (member->nodes & bit) == 0)
            continue;
        if (sweep->all || (member->named & bit) == 0)
            swept[count++] = presence_member_ref(member);
        member->named &= ~bit;
    }
    pthread_mutex_unlock(&channel->mutex);
    return count;
}

/* Sweeps one block. False after the last one. */
static bool sweep_step(struct remote_sweep *sweep) {
    struct presence_member *swept[MEMBERS_PER_BLOCK];
    unsigned count;

    if (sweep->list == NULL || sweep->block == sweep->list->block_count)
        return false;
    count = take_swept(sweep, sweep->list->blocks[sweep->block++], swept);
    worker_spend(sweep->worker, MEMBERS_PER_BLOCK);
    while (count != 0) {
        struct presence_member *member = swept[--count];

        remote_member_remove(sweep->hub, sweep->channel, sweep->worker, sweep->node, presence_member_key(member));
        presence_member_unref(member);
    }
    return true;
}

/* --- a whole set --- */

struct remote_set {
    struct message message;
    struct channel_hub *hub;
    struct channel *channel; /* a reference */
    struct worker *worker;
    unsigned node;
    uint32_t generation;
    uint64_t version;
    bool occupied, full, complete;
    struct remote_sweep sweep;
    void (*done)(void *context, enum remote_result result);
    void *context;
};

/* The entry of the set; NULL if the channel was let go meanwhile, or the node is forgotten. */
static struct remote_entry *entry_of_set(const struct remote_set *set) {
    struct remote_entry *entry;

    if (!remote_is_wanted(set->channel) || set->channel->cluster->generation != set->generation)
        return NULL;
    entry = remote_entry_find(set->channel->cluster, set->node);
    return entry != NULL && entry->taking == set ? entry : NULL;
}

struct remote_set *channel_remote_set_begin(struct channel_hub *hub, struct app_slot *slot, struct worker *worker,
                                            struct slice name, unsigned node, uint64_t version, bool occupied,
                                            enum remote_result *result) {
    struct channel *channel = channel_find(slot, name);
    struct remote_entry *entry = NULL;
    struct remote_set *set;

    *result = REMOTE_UNKNOWN;
    if (channel != NULL && remote_is_wanted(channel)) {
        entry = remote_entry_make(channel, node);
        *result = entry->taking != NULL ? REMOTE_GAP : version < entry->version ? REMOTE_OLD : REMOTE_DONE;
    }
    if (*result != REMOTE_DONE) {
        if (channel != NULL)
            channel_unref(channel);
        return NULL;
    }
    set = alloc_zero(sizeof *set);
    set->hub = hub;
    set->channel = channel;
    set->worker = worker;
    set->node = node;
    set->generation = channel->cluster->generation;
    set->version = version;
    set->occupied = occupied;
    entry->taking = set;
    return set;
}

void channel_remote_set_add(struct remote_set *set, const struct remote_member *members, size_t count) {
    if (entry_of_set(set) == NULL || set->channel->type.kind != CHANNEL_PRESENCE)
        return;
    for (size_t i = 0; i < count; i++)
        if (members[i].id.length != 0 &&
            !remote_member_add(set->hub, set->channel, set->worker, set->node, &members[i], true))
            set->full = true;
}

/* Without an entry the members of the node went, or go, with it. */
static enum remote_result conclude_set(struct remote_set *set) {
    struct remote_entry *entry = entry_of_set(set);

    if (entry == NULL)
        return REMOTE_UNKNOWN;
    entry->taking = NULL;
    if (set->full || !set->complete)
        return REMOTE_FULL;
    if (set->channel->type.kind != CHANNEL_PRESENCE)
        remote_occupied_set(set->hub, set->channel, set->worker, set->node, set->occupied);
    pthread_mutex_lock(&set->channel->mutex);
    entry->version = set->version;
    pthread_mutex_unlock(&set->channel->mutex);
    return REMOTE_DONE;
}

static void sweep_set(struct worker *worker, struct message *message, struct message **rest) {
    struct remote_set *set = container_of(message, struct remote_set, message);
    enum remote_result result;

    (void)rest;
    while (entry_of_set(set) != NULL && sweep_step(&set->sweep)) {
        if (worker->turn_over) {
            worker_post(worker, &set->message);
            return;
        }
    }
    sweep_end(&set->sweep);
    result = conclude_set(set);
    if (set->done != NULL)
        set->done(set->context, result);
    channel_unref(set->channel);
    free(set);
}

/* Forgets which members were named by a set that is given up. */
static void forget_named(struct remote_set *set) {
    struct channel *channel = set->channel;
    uint64_t bit = UINT64_C(1) << set->node;

    for (uint32_t at = 0; set->sweep.list != NULL && at < set->sweep.list->block_count; at++) {
        const struct member_block *block = set->sweep.list->blocks[at];

        pthread_mutex_lock(&channel->mutex);
        for (uint32_t i = 0; i < block->count; i++)
            block->members[i]->named &= ~bit;
        pthread_mutex_unlock(&channel->mutex);
    }
    sweep_end(&set->sweep);
}

void channel_remote_set_end(struct remote_set *set, bool complete,
                            void (*done)(void *context, enum remote_result result), void *context) {
    set->done = done;
    set->context = context;
    set->complete = complete;
    set->message.handle = sweep_set;
    set->sweep =
        (struct remote_sweep){.hub = set->hub, .channel = set->channel, .worker = set->worker, .node = set->node};
    sweep_begin(&set->sweep);
    /* What did not fit is not named, and nothing is removed: the node is asked again. */
    if (!complete || set->full)
        forget_named(set);
    sweep_set(set->worker, &set->message, NULL);
}

/* --- forgetting a node --- */

struct remote_forgetting {
    struct message message;
    struct channel_hub *hub;
    struct worker *worker;
    unsigned node;
    bool one;                      /* one channel only */
    struct channel_held_walk walk; /* else */
    struct remote_sweep sweep;     /* of the channel in hand */
    void (*done)(void *context);
    void *context;
};

/* Begins with a channel, whose reference it takes over. False if the node has told nothing of it. */
static bool forget_in_channel(struct remote_forgetting *forgetting, struct channel *channel) {
    if (!remote_is_wanted(channel) || remote_entry_find(channel->cluster, forgetting->node) == NULL) {
        channel_unref(channel);
        return false;
    }
    forgetting->sweep = (struct remote_sweep){.hub = forgetting->hub,
                                              .channel = channel,
                                              .worker = forgetting->worker,
                                              .node = forgetting->node,
                                              .all = true};
    sweep_begin(&forgetting->sweep);
    return true;
}

static void conclude_channel(struct remote_forgetting *forgetting) {
    struct channel *channel = forgetting->sweep.channel;

    sweep_end(&forgetting->sweep);
    if (remote_is_wanted(channel)) {
        remote_occupied_set(forgetting->hub, channel, forgetting->worker, forgetting->node, false);
        remote_count_set(forgetting->hub, channel, forgetting->worker, forgetting->node, UINT64_MAX, 0);
        remote_entry_drop(channel, forgetting->node);
    }
    forgetting->sweep.channel = NULL;
    channel_unref(channel);
}

/* Goes on with the next channel. False after the last one. */
static bool next_forgotten(struct remote_forgetting *forgetting) {
    struct channel *channel;

    if (forgetting->one)
        return false;
    while ((channel = channel_held_next(forgetting->hub, &forgetting->walk)) != NULL) {
        worker_spend(forgetting->worker, MEMBERS_PER_BLOCK);
        if (forget_in_channel(forgetting, channel))
            return true;
        if (forgetting->worker->turn_over)
            return true;
    }
    return false;
}

static void go_on_forgetting(struct worker *worker, struct message *message, struct message **rest) {
    struct remote_forgetting *forgetting = container_of(message, struct remote_forgetting, message);
    bool more = true;

    (void)rest;
    while (more && !worker->turn_over) {
        if (forgetting->sweep.channel == NULL)
            more = next_forgotten(forgetting);
        else if (!sweep_step(&forgetting->sweep))
            conclude_channel(forgetting);
    }
    if (more) {
        worker_post(worker, &forgetting->message);
        return;
    }
    if (!forgetting->one)
        channel_held_end(forgetting->hub, &forgetting->walk);
    if (forgetting->done != NULL)
        forgetting->done(forgetting->context);
    free(forgetting);
}

static struct remote_forgetting *create_forgetting(struct channel_hub *hub, struct worker *worker, unsigned node,
                                                   void (*done)(void *context), void *context) {
    struct remote_forgetting *forgetting = alloc_zero(sizeof *forgetting);

    forgetting->message.handle = go_on_forgetting;
    forgetting->hub = hub;
    forgetting->worker = worker;
    forgetting->node = node;
    forgetting->done = done;
    forgetting->context = context;
    return forgetting;
}

void channel_remote_forget(struct channel_hub *hub, struct worker *worker, unsigned node, void (*done)(void *context),
                           void *context) {
    struct remote_forgetting *forgetting = create_forgetting(hub, worker, node, done, context);

    channel_held_begin(hub, worker, &forgetting->walk);
    go_on_forgetting(worker, &forgetting->message, NULL);
}

void channel_remote_forget_in(struct channel_hub *hub, struct app_slot *slot, struct worker *worker, struct slice name,
                              unsigned node, void (*done)(void *context), void *context) {
    struct remote_forgetting *forgetting = create_forgetting(hub, worker, node, done, context);
    struct channel *channel = channel_find(slot, name);

    forgetting->one = true;
    if (channel != NULL)
        forget_in_channel(forgetting, channel);
    go_on_forgetting(worker, &forgetting->message, NULL);
}

/* --- letting a channel go --- */

/* Members that are removed with the mutex held once. */
#define LET_GO_MEMBERS 32

struct letting_go {
    struct message message;
    struct channel *channel; /* a reference */
};

/* Begins unless somebody is there. */
static bool begin_letting_go(struct channel *channel, uint32_t generation) {
    struct channel_cluster *cluster = channel->cluster;
    bool begins;

    pthread_mutex_lock(&channel->mutex);
    begins = cluster->held && !cluster->emptying && cluster->generation == generation &&
             channel->subscriber_count == 0 && channel->watcher_count == 0 && cluster->waiting == 0;
    if (begins) {
        cluster->emptying = true;
        cluster->ready = false;
        cluster->occupied = 0;
        cluster->told_subscriptions = 0;
    }
    pthread_mutex_unlock(&channel->mutex);
    if (begins)
        remote_entries_drop_all(channel);
    return begins;
}

/* Removes some members: nobody here can be told of them. False after the last one. */
static bool empty_members(struct channel *channel) {
    struct presence_member *members[LET_GO_MEMBERS], *member;
    struct presence_member **buckets = NULL;
    unsigned count = 0;
    bool last;

    pthread_mutex_lock(&channel->mutex);
    while (count < LET_GO_MEMBERS && (member = presence_last(&channel->members)) != NULL) {
        member->nodes = 0;
        presence_remove(&channel->members, member);
        members[count++] = member;
    }
    last = presence_count(&channel->members) == 0;
    if (last)
        buckets = presence_take_buckets(&channel->members);
    pthread_mutex_unlock(&channel->mutex);
    free(buckets);
    for (unsigned i = 0; i < count; i++) {
        budget_give(BUDGET_PRESENCE, channel->slot->budget, presence_member_bytes(members[i], last && i + 1 == count));
        presence_member_unref(members[i]);
    }
    return !last;
}

static void let_channel_go(struct worker *worker, struct message *message, struct message **rest) {
    struct letting_go *letting = container_of(message, struct letting_go, message);
    struct channel *channel = letting->channel;
    bool dead, wake;

    (void)rest;
    while (empty_members(channel)) {
        worker_spend(worker, LET_GO_MEMBERS * MEMBERS_PER_BLOCK);
        if (worker->turn_over) {
            worker_post(worker, &letting->message);
            return;
        }
    }
    pthread_mutex_lock(&channel->mutex);
    channel->cluster->emptying = false;
    wake = interest_let_go(channel);
    dead = channel->dead = channel_is_unused(channel);
    pthread_mutex_unlock(&channel->mutex);
    if (wake)
        interest_wake(channel);
    if (dead)
        channel_unlink(channel);
    channel_unref(channel);
    free(letting);
}

void channel_let_go(struct worker *worker, struct channel *channel, uint32_t generation) {
    struct letting_go *letting;

    if (!begin_letting_go(channel, generation))
        return;
    letting = alloc_zero(sizeof *letting);
    letting->message.handle = let_channel_go;
    letting->channel = channel_ref(channel);
    let_channel_go(worker, &letting->message, NULL);
}
