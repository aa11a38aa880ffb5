#include <stdlib.h>

#include "base/alloc.h"
#include "channel/channel_internal.h"

static struct channel *pop_idle(struct channel_hub *hub);

struct channel_hub *channel_hub_create(struct workers *workers, const struct channel_hub_settings *settings) {
    struct channel_hub *hub = alloc_zero(sizeof *hub);

    hub->workers = workers;
    hub->settings = *settings;
    pthread_mutex_init(&hub->idle_mutex, NULL);
    list_init(&hub->idle);
    return hub;
}

void channel_hub_destroy(struct channel_hub *hub) {
    while (!list_empty(&hub->idle))
        channel_unref(pop_idle(hub));
    pthread_mutex_destroy(&hub->idle_mutex);
    free(hub);
}

/* --- cache channels without subscribers: the idle list --- */

/* Removes the first channel from the idle list; the caller gets the list's reference and holds the idle mutex. */
static struct channel *pop_idle(struct channel_hub *hub) {
    struct channel *channel = container_of(hub->idle.next, struct channel, idle_link);

    list_remove(&channel->idle_link);
    hub->idle_count--;
    return channel;
}

/* Drops the event of an idle channel, unless it has subscribers again. Takes over the caller's reference. */
static void drop_idle_channel(struct channel *channel) {
    struct cached_event *cached = NULL;
    bool dead = false;

    pthread_mutex_lock(&channel->mutex);
    if (!channel->dead && channel->subscriber_count == 0) {
        cached = channel->cached;
        channel->cached = NULL;
        dead = channel->dead = channel_is_unused(channel);
    }
    pthread_mutex_unlock(&channel->mutex);
    cached_event_unref(cached);
    if (dead)
        channel_unlink(channel);
    channel_unref(channel);
}

/* The same for an event that has expired. False if it has not; the caller then keeps the reference. */
static bool drop_expired_channel(struct channel *channel, uint64_t now_ms) {
    struct cached_event *cached;
    bool dead = false, kept;

    pthread_mutex_lock(&channel->mutex);
    cached = channel_take_expired(channel, now_ms);
    kept = channel->cached != NULL;
    if (!channel->dead)
        dead = channel->dead = channel_is_unused(channel);
    pthread_mutex_unlock(&channel->mutex);
    cached_event_unref(cached);
    if (dead)
        channel_unlink(channel);
    if (!kept)
        channel_unref(channel);
    return !kept;
}

void channel_idle_begin(struct channel_hub *hub, struct channel *channel) {
    struct channel *oldest = NULL;

    pthread_mutex_lock(&hub->idle_mutex);
    if (!list_empty(&channel->idle_link)) {
        list_remove(&channel->idle_link);
    } else {
        channel_ref(channel);
        hub->idle_count++;
    }
    list_append(&hub->idle, &channel->idle_link);
    if (hub->settings.cache_max_channels != 0 && hub->idle_count > hub->settings.cache_max_channels)
        oldest = pop_idle(hub);
    pthread_mutex_unlock(&hub->idle_mutex);
    if (oldest != NULL)
        drop_idle_channel(oldest);
}

void channel_idle_end(struct channel_hub *hub, struct channel *channel) {
    bool was_idle;

    pthread_mutex_lock(&hub->idle_mutex);
    was_idle = !list_empty(&channel->idle_link);
    if (was_idle) {
        list_remove(&channel->idle_link);
        hub->idle_count--;
    }
    pthread_mutex_unlock(&hub->idle_mutex);
    if (was_idle)
        channel_unref(channel);
}

/* Puts a popped channel back at the front, unless another thread has listed it again. Takes over the caller's
 * reference.
 */
static void put_back_idle(struct channel_hub *hub, struct channel *channel) {
    bool back;

    pthread_mutex_lock(&hub->idle_mutex);
    back = !list_empty(&channel->idle_link);
    if (!back) {
        list_append(hub->idle.next, &channel->idle_link);
        hub->idle_count++;
    }
    pthread_mutex_unlock(&hub->idle_mutex);
    if (back)
        channel_unref(channel);
}

void channel_hub_expire(struct channel_hub *hub, uint64_t now_ms) {
    /*
     * The list is ordered by the last event or leave, so the oldest event is not always at the front. This only delays
     * freeing: a lookup never returns an expired event (channel_take_expired), and an event at the front delays those
     * after it by its own remaining time at most.
     *
     * A channel is not in the list while it is checked: a publisher may give it another event and list it again.
     */
    for (;;) {
        struct channel *channel = NULL;

        pthread_mutex_lock(&hub->idle_mutex);
        if (!list_empty(&hub->idle))
            channel = pop_idle(hub);
        pthread_mutex_unlock(&hub->idle_mutex);
        if (channel == NULL)
            return;
        if (!drop_expired_channel(channel, now_ms)) {
            put_back_idle(hub, channel);
            return;
        }
    }
}
