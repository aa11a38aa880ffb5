#include <stdlib.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "channel/channel_internal.h"

#define MEMBER_WORK 64 /* of adding or removing a member; see worker_spend */

/* True if `node` with `since_ms` comes before the node whose user_info the member has. */
static bool is_earlier(const struct channel_hub *hub, const struct presence_member *member, unsigned node,
                       uint64_t since_ms) {
    if (since_ms != member->since_ms || node == member->told_by)
        return since_ms < member->since_ms || (node == member->told_by && since_ms != member->since_ms);
    return channel_hub_compare_nodes(hub, node, member->told_by) < 0;
}

/* --- adding --- */

enum addition_step { ADDITION_DONE, ADDITION_FULL, ADDITION_AGAIN };

struct remote_addition {
    struct channel_hub *hub;
    struct channel *channel;
    unsigned node;
    bool named;
    struct presence_member *candidate;
    bool fits;                       /* its memory was taken from the account */
    bool first;                      /* it has become the only member */
    bool adopted;                    /* the members have it */
    struct presence_member *present; /* a reference to the one whose place it took, or NULL */
    struct publication *added;       /* NULL: it was not made */
};

/* Prepares what the step under the mutex needs and must not allocate. */
static void prepare_addition(struct remote_addition *addition, struct worker *worker) {
    struct channel *channel = addition->channel;
    struct presence_member **buckets;
    uint32_t wanted;
    bool tell;

    pthread_mutex_lock(&channel->mutex);
    wanted = presence_wants_buckets(&channel->members);
    tell = channel->subscriber_count != 0;
    pthread_mutex_unlock(&channel->mutex);
    if (tell && addition->added == NULL)
        addition->added = member_publication(addition->hub, channel, addition->candidate, true, worker->now_ns);
    if (wanted == 0)
        return;
    buckets = alloc_zero(wanted * sizeof(struct presence_member *));
    pthread_mutex_lock(&channel->mutex);
    if (presence_wants_buckets(&channel->members) == wanted)
        buckets = presence_rehash(&channel->members, buckets, wanted);
    pthread_mutex_unlock(&channel->mutex);
    free(buckets);
}

/* Adds the candidate as a new member. The caller holds the mutex. */
static enum addition_step add_candidate(struct remote_addition *addition) {
    struct channel *channel = addition->channel;

    if (!addition->fits)
        return ADDITION_FULL;
    if (presence_wants_buckets(&channel->members) != 0 || (channel->subscriber_count != 0 && addition->added == NULL))
        return ADDITION_AGAIN;
    addition->first = presence_count(&channel->members) == 0;
    presence_add(&channel->members, addition->candidate);
    addition->adopted = true;
    if (channel->subscriber_count != 0)
        publication_post(addition->added);
    return ADDITION_DONE;
}

/* Puts the candidate in the place of the member, since nobody here was told of that one. The caller holds the mutex. */
static void replace_told(struct remote_addition *addition, struct presence_member *member) {
    struct presence_member *candidate = addition->candidate;

    candidate->nodes = member->nodes;
    candidate->named = member->named;
    member->nodes = 0;
    presence_remove(&addition->channel->members, member);
    presence_add(&addition->channel->members, candidate);
    addition->adopted = true;
    addition->present = member;
}

static enum addition_step add_under_mutex(struct remote_addition *addition) {
    struct channel *channel = addition->channel;
    struct presence_member *candidate = addition->candidate;
    struct remote_entry *entry = remote_entry_find(channel->cluster, addition->node);
    struct presence_member *member = presence_find(&channel->members, presence_member_key(candidate), candidate->hash);
    uint64_t bit = UINT64_C(1) << addition->node;

    if (member == NULL) {
        enum addition_step step = add_candidate(addition);
        if (step != ADDITION_DONE)
            return step;
        member = candidate;
    } else if (channel->subscriber_count == 0 && addition->fits &&
               is_earlier(addition->hub, member, addition->node, candidate->since_ms)) {
        replace_told(addition, member);
        member = candidate;
    }
    if ((member->nodes & bit) == 0)
        entry->members++;
    member->nodes |= bit;
    if (addition->named)
        member->named |= bit;
    return ADDITION_DONE;
}

/* Settles the account of memory, and frees what is left over. */
static void end_addition(struct remote_addition *addition) {
    struct budget_app *budget = addition->channel->slot->budget;
    struct presence_member *candidate = addition->candidate;

    publication_finish(addition->added);
    if (addition->first)
        budget_add(BUDGET_PRESENCE, budget,
                   presence_member_bytes(candidate, true) - presence_member_bytes(candidate, false));
    if (addition->present != NULL) {
        budget_give(BUDGET_PRESENCE, budget, presence_member_bytes(addition->present, false));
        presence_member_unref(addition->present);
    }
    if (addition->adopted)
        return;
    if (addition->fits)
        budget_give(BUDGET_PRESENCE, budget, presence_member_bytes(candidate, false));
    presence_member_unref(candidate);
}

bool remote_member_add(struct channel_hub *hub, struct channel *channel, struct worker *worker, unsigned node,
                       const struct remote_member *member, bool named) {
    struct remote_addition addition = {.hub = hub, .channel = channel, .node = node, .named = named};
    enum addition_step step;

    addition.candidate = presence_member_create(member->id, member->info);
    addition.candidate->since_ms = member->since_ms;
    addition.candidate->told_by = (uint8_t)node;
    addition.fits =
        budget_take(BUDGET_PRESENCE, channel->slot->budget, presence_member_bytes(addition.candidate, false));
    do {
        prepare_addition(&addition, worker);
        pthread_mutex_lock(&channel->mutex);
        step = add_under_mutex(&addition);
        pthread_mutex_unlock(&channel->mutex);
    } while (step == ADDITION_AGAIN);
    end_addition(&addition);
    worker_spend(worker, MEMBER_WORK);
    return step == ADDITION_DONE;
}

/* --- removing --- */

struct remote_removal {
    struct presence_member *member; /* a reference; NULL: there is no such user */
    bool tell;                      /* there are local subscribers */
    bool left;                      /* the union has lost the user */
    bool last;                      /* it was the only one */
    struct presence_member **buckets;
};

/* Finds the member. */
static void begin_removal(struct remote_removal *removal, struct channel *channel, struct slice id, uint64_t hash) {
    pthread_mutex_lock(&channel->mutex);
    removal->member = presence_find(&channel->members, id, hash);
    removal->tell = channel->subscriber_count != 0;
    if (removal->member != NULL)
        presence_member_ref(removal->member);
    pthread_mutex_unlock(&channel->mutex);
}

/* False if the event was not made and is needed. The caller holds the mutex. */
static bool remove_under_mutex(struct remote_removal *removal, struct channel *channel, unsigned node,
                               struct publication *removed) {
    struct remote_entry *entry = remote_entry_find(channel->cluster, node);
    struct presence_member *member = removal->member;
    uint64_t bit = UINT64_C(1) << node;

    if ((member->nodes & bit) == 0)
        return true;
    if (member->nodes == bit && channel->subscriber_count != 0 && removed == NULL)
        return false;
    member->nodes &= ~bit;
    member->named &= ~bit;
    if (entry != NULL)
        entry->members--;
    if (member->nodes != 0)
        return true;
    presence_remove(&channel->members, member);
    removal->left = true;
    removal->last = presence_count(&channel->members) == 0;
    if (removal->last)
        removal->buckets = presence_take_buckets(&channel->members);
    if (channel->subscriber_count != 0)
        publication_post(removed);
    return true;
}

void remote_member_remove(struct channel_hub *hub, struct channel *channel, struct worker *worker, unsigned node,
                          struct slice id) {
    uint64_t hash = hash_bytes(id);
    bool done = false;

    while (!done) {
        struct remote_removal removal = {0};
        struct publication *removed = NULL;

        begin_removal(&removal, channel, id, hash);
        if (removal.member == NULL)
            break;
        if (removal.tell)
            removed = member_publication(hub, channel, removal.member, false, worker->now_ns);
        pthread_mutex_lock(&channel->mutex);
        done = remove_under_mutex(&removal, channel, node, removed);
        pthread_mutex_unlock(&channel->mutex);
        publication_finish(removed);
        if (removal.left) {
            budget_give(BUDGET_PRESENCE, channel->slot->budget, presence_member_bytes(removal.member, removal.last));
            presence_member_unref(removal.member); /* the table's */
        }
        free(removal.buckets);
        presence_member_unref(removal.member);
    }
    worker_spend(worker, MEMBER_WORK);
}

/* --- what has no members --- */

void remote_occupied_set(struct channel_hub *hub, struct channel *channel, struct worker *worker, unsigned node,
                         bool occupied) {
    struct channel_cluster *cluster = channel->cluster;
    struct publication *watch = NULL;
    uint64_t bit = UINT64_C(1) << node, before;

    if (channel->type.kind == CHANNEL_USER)
        watch = watch_publication(hub, channel, occupied, worker->now_ns);
    pthread_mutex_lock(&channel->mutex);
    before = cluster->occupied;
    cluster->occupied = occupied ? before | bit : before & ~bit;
    if (watch != NULL && channel->subscriber_count == 0 && (before == 0) != (cluster->occupied == 0))
        publication_post(watch);
    pthread_mutex_unlock(&channel->mutex);
    publication_finish(watch);
    worker_spend(worker, MEMBER_WORK);
}

void remote_count_set(struct channel_hub *hub, struct channel *channel, struct worker *worker, unsigned node,
                      uint64_t version, uint32_t count) {
    struct remote_entry *entry = remote_entry_find(channel->cluster, node);
    struct announcements announcements;

    if (entry == NULL || (entry->count == count && entry->count_version == version))
        return;
    announcements_create_count(&announcements, hub, channel, worker, slot_app(channel->slot));
    pthread_mutex_lock(&channel->mutex);
    channel->cluster->told_subscriptions += count - entry->count;
    entry->count_version = version;
    if (entry->count != count && channel->subscriber_count != 0)
        announcements_post_count(&announcements);
    entry->count = count;
    pthread_mutex_unlock(&channel->mutex);
    announcements_finish_count(&announcements);
}
