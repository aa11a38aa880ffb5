#include "channel/kept_events.h"

#include "channel/channel_internal.h"

/* Events that are dropped at most to make room for one, so that a publish costs no more than so much. */
#define DROPPED_AT_ONCE 128

/* The last part of the share of kept events, one in so many: events are dropped before it is used, so that there is
 * room for a new event although a publish drops only some. A larger event is not kept. */
#define RESERVE_PART 8

void kept_events_init(struct kept_events *kept) {
    pthread_mutex_init(&kept->mutex, NULL);
}

static size_t kept_bytes(const struct cached_event *cached) {
    return cached_event_bytes(cached->event_length, cached->data_length);
}

static struct channel *first_channel(const struct list *list) {
    return list_empty(list) ? NULL : container_of(list->next, struct channel, kept_link);
}

/* The channel of the app whose event goes first. */
static struct channel *oldest_kept(const struct kept_app *app) {
    struct channel *idle = first_channel(&app->idle);

    return idle != NULL ? idle : first_channel(&app->occupied);
}

/* --- the lists; the caller holds the mutex of the kept events --- */

/* The lists are in the order of events and leaves, so the first event to expire may be behind the first of its list. It
 * is then dropped later, by the time that the one before it has left; nobody gets it meanwhile. */
static uint64_t next_expiry_ms(const struct kept_app *app) {
    const struct channel *idle = first_channel(&app->idle), *occupied = first_channel(&app->occupied);
    uint64_t idle_ms = idle != NULL ? idle->kept->expires_ms : UINT64_MAX;
    uint64_t occupied_ms = occupied != NULL ? occupied->kept->expires_ms : UINT64_MAX;

    return idle_ms < occupied_ms ? idle_ms : occupied_ms;
}

/* Call it after each change of the app's lists. */
static void update_kept_app(struct kept_events *kept, struct kept_app *app) {
    if (oldest_kept(app) == NULL) {
        heap_unlink(&kept->by_bytes, &app->by_bytes);
        heap_unlink(&kept->by_expiry, &app->by_expiry);
    } else {
        heap_set(&kept->by_bytes, &app->by_bytes, UINT64_MAX - app->bytes);
        heap_set(&kept->by_expiry, &app->by_expiry, next_expiry_ms(app));
    }
    if (app->idle_count == 0)
        heap_unlink(&kept->by_idle, &app->by_idle);
    else
        heap_set(&kept->by_idle, &app->by_idle, UINT64_MAX - app->idle_count);
}

/* Takes the channel off its list and returns the list's reference to the event; it has one to the channel, too. */
static struct cached_event *unlist_kept(struct kept_events *kept, struct channel *channel) {
    struct kept_app *app = &channel->table->kept;
    struct cached_event *cached = channel->kept;

    list_remove(&channel->kept_link);
    channel->kept = NULL;
    app->idle_count -= channel->kept_idle;
    kept->idle_count -= channel->kept_idle;
    if (--cached->listed == 0)
        app->bytes -= kept_bytes(cached);
    return cached;
}

/* Puts the channel at the end of a list, which takes over the references to it and to its event. */
static void list_kept(struct kept_events *kept, struct channel *channel, struct cached_event *cached, bool idle) {
    struct kept_app *app = &channel->table->kept;

    if (app->idle.next == NULL) {
        list_init(&app->idle);
        list_init(&app->occupied);
    }
    list_append(idle ? &app->idle : &app->occupied, &channel->kept_link);
    channel->kept = cached;
    channel->kept_idle = idle;
    app->idle_count += idle;
    kept->idle_count += idle;
    if (cached->listed++ == 0)
        app->bytes += kept_bytes(cached);
}

/* --- one channel --- */

/* Which event of a channel is to be dropped. */
enum kept_drop { DROP_NONE, DROP_EXPIRED, DROP_IDLE, DROP_ANY };

/* What is released after the mutex: NULL where there is nothing. */
struct kept_leftovers {
    struct cached_event *dropped; /* was the channel's */
    struct cached_event *listed;  /* was the list's */
    struct channel *channel;      /* was the list's */
    bool dead;                    /* it is to be unlinked */
};

static bool is_dropped(const struct channel *channel, enum kept_drop drop, uint64_t now_ms) {
    switch (drop) {
    case DROP_NONE:
        return false;
    case DROP_EXPIRED:
        return now_ms >= channel->cached->expires_ms;
    case DROP_IDLE:
        return channel->subscriber_count == 0;
    default:
        return true;
    }
}

/* Drops the channel's event if it is to go, and enters the channel where it belongs now. The caller holds the mutex of
 * the kept events, and a reference to the channel if it is in no list. */
static void settle_kept(struct kept_events *kept, struct channel *channel, enum kept_drop drop, uint64_t now_ms,
                        struct kept_leftovers *left) {
    struct cached_event *cached;
    bool idle;

    *left = (struct kept_leftovers){0};
    pthread_mutex_lock(&channel->mutex);
    if (channel->cached != NULL && is_dropped(channel, drop, now_ms)) {
        left->dropped = channel->cached;
        channel->cached = NULL;
        left->dead = channel->dead = channel_is_unused(channel);
    }
    cached = channel->cached != NULL ? cached_event_ref(channel->cached) : NULL;
    idle = channel->subscriber_count == 0;
    pthread_mutex_unlock(&channel->mutex);

    if (channel->kept == cached && (cached == NULL || channel->kept_idle == idle)) {
        left->listed = cached; /* nothing has changed */
        return;
    }
    if (channel->kept != NULL)
        left->listed = unlist_kept(kept, channel);
    else
        channel_ref(channel);
    if (cached != NULL)
        list_kept(kept, channel, cached, idle);
    else
        left->channel = channel;
    update_kept_app(kept, &channel->table->kept);
}

static void release_leftovers(const struct kept_leftovers *left) {
    cached_event_unref(left->dropped);
    cached_event_unref(left->listed);
    if (left->dead)
        channel_unlink(left->channel);
    if (left->channel != NULL)
        channel_unref(left->channel);
}

/* Settles the channel (NULL: none; false then) and releases the mutex of the kept events, which the caller holds. */
static bool settle_and_unlock(struct channel_hub *hub, struct channel *channel, enum kept_drop drop, uint64_t now_ms) {
    struct kept_leftovers left = {0};

    if (channel != NULL)
        settle_kept(&hub->kept, channel, drop, now_ms, &left);
    pthread_mutex_unlock(&hub->kept.mutex);
    release_leftovers(&left);
    return channel != NULL;
}

/* --- which events go --- */

/* Drops the oldest event of the app whose events have the most bytes. */
static bool drop_of_largest(struct channel_hub *hub, uint64_t now_ms) {
    struct heap_node *first;

    pthread_mutex_lock(&hub->kept.mutex);
    first = heap_first(&hub->kept.by_bytes);
    return settle_and_unlock(hub, first != NULL ? oldest_kept(container_of(first, struct kept_app, by_bytes)) : NULL,
                             DROP_ANY, now_ms);
}

/* Drops the oldest event of this app. */
static bool drop_of_app(struct channel_hub *hub, struct app_slot *slot, uint64_t now_ms) {
    struct channel_table *table = atomic_load_explicit(&slot->channels, memory_order_acquire);

    if (table == NULL)
        return false;
    pthread_mutex_lock(&hub->kept.mutex);
    return settle_and_unlock(hub, oldest_kept(&table->kept), DROP_ANY, now_ms);
}

/* The oldest channel without subscribers of the app that has the most of them, if there are too many in sum. */
static struct channel *idle_over_limit(const struct channel_hub *hub) {
    uint32_t max = hub->settings.cache_max_channels;

    if (max == 0 || hub->kept.idle_count <= max)
        return NULL;
    return first_channel(&container_of(heap_first(&hub->kept.by_idle), struct kept_app, by_idle)->idle);
}

/* The first channel in a list of the app whose event has expired. */
static struct channel *expired_of_app(const struct kept_app *app, uint64_t now_ms) {
    struct channel *idle = first_channel(&app->idle);

    return idle != NULL && idle->kept->expires_ms <= now_ms ? idle : first_channel(&app->occupied);
}

void kept_events_expire(struct channel_hub *hub, uint64_t now_ms) {
    const struct heap_node *first;
    struct channel *channel;

    do {
        pthread_mutex_lock(&hub->kept.mutex);
        first = heap_first(&hub->kept.by_expiry);
        channel = first != NULL && first->key <= now_ms
                      ? expired_of_app(container_of(first, struct kept_app, by_expiry), now_ms)
                      : NULL;
    } while (settle_and_unlock(hub, channel, DROP_EXPIRED, now_ms));
}

bool kept_events_make_room(struct channel_hub *hub, struct app_slot *slot, size_t bytes, uint64_t now_ms) {
    uint64_t limit = budget_kind_limit(BUDGET_KEPT_EVENTS), reserve = limit / RESERVE_PART;
    bool dropped = bytes <= reserve;

    for (unsigned i = 0; dropped && i < DROPPED_AT_ONCE; i++) {
        if (budget_used(BUDGET_KEPT_EVENTS) + bytes > limit - reserve)
            dropped = drop_of_largest(hub, now_ms);
        else if (budget_has_room(BUDGET_KEPT_EVENTS, slot->budget, bytes))
            return true;
        else /* the app's own events go only if that helps */
            dropped = budget_has_room(BUDGET_KEPT_EVENTS, NULL, bytes) && drop_of_app(hub, slot, now_ms);
    }
    if (bytes <= reserve && budget_has_room(BUDGET_KEPT_EVENTS, slot->budget, bytes))
        return true;
    budget_refused(BUDGET_KEPT_EVENTS);
    return false;
}

void kept_events_changed(struct channel_hub *hub, struct channel *channel, uint64_t now_ms) {
    struct kept_leftovers left;

    pthread_mutex_lock(&hub->kept.mutex);
    settle_kept(&hub->kept, channel, DROP_NONE, now_ms, &left);
    settle_and_unlock(hub, idle_over_limit(hub), DROP_IDLE, now_ms);
    release_leftovers(&left);
}

void kept_events_dispose(struct channel_hub *hub) {
    struct heap_node *first;

    while ((first = heap_first(&hub->kept.by_bytes)) != NULL) {
        struct kept_app *app = container_of(first, struct kept_app, by_bytes);
        struct channel *channel = oldest_kept(app);

        cached_event_unref(unlist_kept(&hub->kept, channel));
        channel_unref(channel);
        update_kept_app(&hub->kept, app);
    }
    heap_dispose(&hub->kept.by_bytes);
    heap_dispose(&hub->kept.by_idle);
    heap_dispose(&hub->kept.by_expiry);
    pthread_mutex_destroy(&hub->kept.mutex);
}
