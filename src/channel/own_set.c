#include <stdlib.h>

#include "base/alloc.h"
#include "channel/channel_internal.h"

/* Other nodes are told the subscription count of a channel at most once in this time. */
#define COUNT_TOLD_MS 1000

/* Webhooks of an app that need to know of a channel whether it is occupied anywhere, and by how many. */
#define STATE_WEBHOOKS (WEBHOOK_CHANNEL_OCCUPIED | WEBHOOK_CHANNEL_VACATED | WEBHOOK_SUBSCRIPTION_COUNT)

/* Webhooks that are told who is in a channel. */
#define SET_WEBHOOKS                                                                                                   \
    (WEBHOOK_CHANNEL_OCCUPIED | WEBHOOK_CHANNEL_VACATED | WEBHOOK_MEMBER_ADDED | WEBHOOK_MEMBER_REMOVED)

static uint64_t next_version(struct channel_hub *hub) {
    return atomic_fetch_add_explicit(&hub->versions, 1, memory_order_relaxed) + 1;
}

/* --- changes --- */

void own_news_create(struct own_news *news, struct channel *channel, const struct app *app) {
    const struct channel_hooks *hooks = channel->cluster->hub->hooks;
    enum channel_kind kind = channel->type.kind;
    bool webhooks;

    *news = (struct own_news){.stateful = app != NULL && (app->webhook_kinds & STATE_WEBHOOKS) != 0};
    news->has_counts = app != NULL && app_wants_subscription_count(app) && kind != CHANNEL_PRESENCE;
    webhooks = app != NULL && kind != CHANNEL_USER && channel->cluster->hub->settings.webhooks != NULL &&
               app->webhook_kinds != 0 && app_webhook_kinds_of(app, SET_WEBHOOKS, channel_name(channel)) != 0;
    if (channel->cluster->own_state || news->stateful)
        news->change = hooks->change_create(hooks->context, webhooks);
    if (news->change != NULL)
        news->change->webhooks = webhooks;
}

/* Fills the change in, with references. */
static void fill_own_change(struct channel_own_change *change, struct channel *channel, struct presence_member *member,
                            bool joined, uint64_t before) {
    bool webhooks = change->webhooks;

    *change = (struct channel_own_change){
        .channel = channel_ref(channel),
        .member = member != NULL ? presence_member_ref(member) : NULL,
        .version = channel->cluster->own_version,
        .before = before,
        .since_ms = member != NULL ? member->since_ms : 0,
        .added = joined,
        .becomes_empty = channel->subscriber_count == 0,
        .webhooks = webhooks,
    };
}

/* Gives the change the next version, and posts it. */
static void post_own_change(struct own_news *news, struct channel *channel, struct presence_member *member,
                            bool joined) {
    struct channel_cluster *cluster = channel->cluster;
    const struct channel_hooks *hooks = cluster->hub->hooks;
    /* The first subscriber makes the set not empty, the last one makes it empty. */
    uint64_t before = joined && channel->subscriber_count == 1 ? 0 : cluster->own_version;

    cluster->own_version = next_version(cluster->hub);
    if (news->change == NULL) {
        fill_own_change(&news->untold, channel, member, joined, before);
        return;
    }
    fill_own_change(news->change, channel, member, joined, before);
    hooks->change_post(hooks->context, news->change);
    news->posted = news->wake = true;
}

/* Tells a change for which none was made. If another node came meanwhile, it may have asked for the set before the
 * change. Later changes of the channel may overtake this one: the node then asks for the set. */
static void tell_untold_change(struct own_news *news, const struct channel_hooks *hooks) {
    struct channel_own_change *change = hooks->change_create(hooks->context, false);

    if (change == NULL) {
        channel_unref(news->untold.channel);
        presence_member_unref(news->untold.member);
        return;
    }
    *change = news->untold;
    hooks->change_post(hooks->context, change);
    news->wake = true;
}

/* Takes the count that other nodes are told now. */
static void take_told_count(struct channel *channel, uint64_t now_ms, uint32_t *count, uint64_t *version) {
    struct channel_cluster *cluster = channel->cluster;

    cluster->count_told_ms = now_ms;
    *count = cluster->count_told = channel->subscriber_count;
    *version = cluster->count_version = next_version(cluster->hub);
}

static void note_own_count(struct own_news *news, struct channel *channel, uint64_t now_ms) {
    struct channel_cluster *cluster = channel->cluster;

    if (!news->has_counts || cluster->count_later)
        return;
    if (cluster->count_told_ms == 0 || now_ms - cluster->count_told_ms >= COUNT_TOLD_MS) {
        news->tell_count = true;
        take_told_count(channel, now_ms, &news->count, &news->count_version);
    } else {
        news->count_later = cluster->count_later = true;
    }
}

void own_news_note(struct own_news *news, struct channel *channel, struct presence_member *member, bool joined,
                   uint64_t now_ms) {
    struct channel_cluster *cluster = channel->cluster;
    bool occupied = channel->subscriber_count != 0, changes;

    cluster->stateful |= news->stateful;
    if (channel->type.kind == CHANNEL_PRESENCE) {
        changes = member != NULL;
    } else {
        changes = cluster->stateful && cluster->own_occupied != occupied;
        if (changes)
            cluster->own_occupied = occupied;
    }
    if (changes)
        post_own_change(news, channel, member, joined);
    note_own_count(news, channel, now_ms);
    if (interest_changed(channel))
        news->wake = true;
}

/* --- the timer of the count --- */

struct told_count_timer {
    struct timer timer;
    struct worker *worker;
    struct channel *channel; /* a reference */
};

static void told_count_timer_fired(struct timer *timer) {
    struct told_count_timer *told = container_of(timer, struct told_count_timer, timer);
    struct channel *channel = told->channel;
    struct channel_cluster *cluster = channel->cluster;
    uint64_t version = 0;
    uint32_t count = 0;

    pthread_mutex_lock(&channel->mutex);
    cluster->count_later = false;
    /* When it was let go, nobody hears it; the hub may then be gone. */
    if (cluster->held && channel->subscriber_count != cluster->count_told)
        take_told_count(channel, told->worker->now_ms, &count, &version);
    pthread_mutex_unlock(&channel->mutex);
    if (version != 0)
        cluster->hub->hooks->own_count(cluster->hub->hooks->context, channel, version, count);
    channel_unref(channel);
    free(told);
}

static void set_told_count_timer(struct channel *channel, struct worker *worker) {
    struct told_count_timer *told = alloc_zero(sizeof *told);

    told->timer.fire = told_count_timer_fired;
    told->worker = worker;
    told->channel = channel_ref(channel);
    timer_set(&worker->timers, &told->timer, worker->now_ms, COUNT_TOLD_MS);
}

void own_news_finish(struct own_news *news, struct channel *channel, struct worker *worker) {
    const struct channel_hooks *hooks = channel->cluster->hub->hooks;

    if (news->change != NULL && !news->posted)
        hooks->change_free(hooks->context, news->change);
    if (news->untold.channel != NULL)
        tell_untold_change(news, hooks);
    if (news->tell_count)
        hooks->own_count(hooks->context, channel, news->count_version, news->count);
    if (news->count_later)
        set_told_count_timer(channel, worker);
    if (news->wake)
        hooks->wake(hooks->context);
}

/* --- the walk --- */

/* Takes what the channel keeps. The caller holds the mutex. */
static void take_kept_of_walk(struct channel_own_walk *walk, uint64_t now_ms) {
    struct cached_event *cached = channel_cached(walk->channel, now_ms);

    walk->has_kept = cached != NULL;
    if (cached == NULL)
        return;
    walk->kept = (struct channel_kept_event){
        .app_id = channel_app_id(walk->channel),
        .channel = channel_name(walk->channel),
        .name = cached_event_name(cached),
        .data = cached_event_data(cached),
        .left_ms = cached->expires_ms != UINT64_MAX ? cached->expires_ms - now_ms : 0,
        .stamp = walk->channel->cluster->kept_stamp,
        .cached = cached,
        .owner = channel_ref(walk->channel),
    };
}

/* Notes what the set is. The caller holds the mutex. */
static void cut_own_set(struct channel_own_walk *walk, uint64_t now_ms) {
    const struct channel *channel = walk->channel;
    struct channel_cluster *cluster = channel->cluster;

    walk->occupied = channel->subscriber_count != 0;
    walk->presence = channel->type.kind == CHANNEL_PRESENCE;
    if (walk->occupied && !walk->presence && !cluster->own_occupied) {
        /* Nobody was told so far, since the app had no use for it. */
        cluster->own_occupied = true;
        cluster->own_version = next_version(cluster->hub);
    }
    walk->version = cluster->own_version;
    walk->subscriptions = channel->subscriber_count;
    walk->count_version = next_version(cluster->hub);
    walk->list = walk->occupied ? presence_snapshot(&channel->members) : NULL;
    take_kept_of_walk(walk, now_ms);
}

bool channel_own_begin(struct app_slot *slot, struct slice name, uint64_t now_ms, struct channel_own_walk *walk) {
    struct channel *channel = channel_find(slot, name);
    bool found;

    memset(walk, 0, sizeof *walk);
    if (channel == NULL)
        return false;
    walk->channel = channel;
    pthread_mutex_lock(&channel->mutex);
    found = !channel->dead && channel->cluster != NULL;
    if (found)
        cut_own_set(walk, now_ms);
    pthread_mutex_unlock(&channel->mutex);
    if (!found)
        channel_own_end(walk);
    return found;
}

static void release_walked_members(struct channel_own_walk *walk) {
    while (walk->taken != 0)
        presence_member_unref(walk->members[--walk->taken]);
}

bool channel_own_next(struct channel_own_walk *walk) {
    release_walked_members(walk);
    while (walk->taken == 0 && walk->list != NULL && walk->block < walk->list->block_count) {
        const struct member_block *block = walk->list->blocks[walk->block++];

        pthread_mutex_lock(&walk->channel->mutex);
        for (uint32_t i = 0; i < block->count; i++)
            if ((block->members[i]->nodes & 1) != 0)
                walk->members[walk->taken++] = presence_member_ref(block->members[i]);
        pthread_mutex_unlock(&walk->channel->mutex);
    }
    return walk->taken != 0;
}

void channel_own_drop_kept(struct channel_own_walk *walk) {
    if (walk->has_kept)
        channel_kept_release(&walk->kept);
    walk->has_kept = false;
}

void channel_own_end(struct channel_own_walk *walk) {
    release_walked_members(walk);
    channel_own_drop_kept(walk);
    member_list_unref(walk->list);
    if (walk->channel != NULL)
        channel_unref(walk->channel);
    walk->list = NULL;
    walk->channel = NULL;
}
