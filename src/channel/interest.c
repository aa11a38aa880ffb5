#include <stdlib.h>

#include "base/alloc.h"
#include "channel/channel_internal.h"

/* --- notices; the caller holds the channel's mutex --- */

static bool is_wanted(const struct channel *channel) {
    return channel->subscriber_count != 0 || channel->watcher_count != 0 || channel->cluster->waiting != 0;
}

static bool give_notice(struct channel *channel) {
    struct channel_cluster *cluster = channel->cluster;
    const struct channel_hooks *hooks = cluster->hub->hooks;

    cluster->noted_wanted = is_wanted(channel);
    cluster->noted_stateful = cluster->stateful;
    if (cluster->noticed)
        return false;
    cluster->noticed = true;
    channel_ref(channel);
    hooks->interest(hooks->context, channel);
    return true;
}

static void begin_interest(struct channel_cluster *cluster) {
    cluster->held = true;
    cluster->ready = false;
    cluster->generation++;
}

bool interest_changed(struct channel *channel) {
    struct channel_cluster *cluster = channel->cluster;
    bool wanted = is_wanted(channel);

    if (wanted && !cluster->held)
        begin_interest(cluster);
    if (wanted == cluster->noted_wanted && cluster->stateful == cluster->noted_stateful)
        return false;
    return give_notice(channel);
}

bool interest_let_go(struct channel *channel) {
    struct channel_cluster *cluster = channel->cluster;

    cluster->held = false;
    cluster->stateful = cluster->own_state;
    if (is_wanted(channel))
        begin_interest(cluster);
    return give_notice(channel);
}

void interest_wake(const struct channel *channel) {
    const struct channel_hooks *hooks = channel->cluster->hub->hooks;

    hooks->wake(hooks->context);
}

struct channel_interest channel_take_interest(struct channel *channel) {
    struct channel_cluster *cluster = channel->cluster;
    struct channel_interest interest;

    pthread_mutex_lock(&channel->mutex);
    cluster->noticed = false;
    interest = (struct channel_interest){
        .wanted = is_wanted(channel),
        .held = cluster->held,
        .stateful = cluster->stateful,
        .waits = cluster->waiting != 0,
        .generation = cluster->generation,
    };
    pthread_mutex_unlock(&channel->mutex);
    return interest;
}

/* --- subscriptions that wait --- */

bool interest_is_ready(const struct channel_cluster *cluster) {
    return cluster->ready && cluster->readiness == atomic_load_explicit(&cluster->hub->readiness, memory_order_relaxed);
}

bool interest_enter(struct channel *channel, const struct worker *worker, struct channel_waiter *waiter) {
    struct channel_cluster *cluster = channel->cluster;

    if (interest_is_ready(cluster))
        return false;
    waiter->channel = channel_ref(channel);
    waiter->worker = worker->index;
    list_append(&cluster->waiters[worker->index], &waiter->link);
    cluster->waiting++;
    cluster->waiting_workers |= UINT64_C(1) << worker->index;
    atomic_fetch_add_explicit(&cluster->hub->waiting, 1, memory_order_relaxed);
    return true;
}

enum channel_joined channel_await(struct channel_hub *hub, struct app_slot *slot, struct worker *worker,
                                  struct slice name, struct channel_waiter *waiter) {
    bool dead = true, waits = false, wake = false;

    waiter->channel = NULL;
    while (dead) {
        struct channel *channel = channel_find_or_create(hub, slot, name);

        if (channel == NULL)
            return CHANNEL_NO_MEMORY;
        pthread_mutex_lock(&channel->mutex);
        dead = channel->dead;
        if (!dead && channel->cluster != NULL) {
            waits = interest_enter(channel, worker, waiter);
            wake = waits && interest_changed(channel);
        }
        pthread_mutex_unlock(&channel->mutex);
        if (wake)
            interest_wake(channel);
        if (dead)
            channel_unlink(channel);
        channel_unref(channel);
    }
    return waits ? CHANNEL_WAITS : CHANNEL_JOINED;
}

/* Ends the wait of one that is off its list. */
static void leave_waiters(struct channel *channel) {
    struct channel_cluster *cluster = channel->cluster;
    bool wake;

    atomic_fetch_sub_explicit(&cluster->hub->waiting, 1, memory_order_relaxed);
    pthread_mutex_lock(&channel->mutex);
    cluster->waiting--;
    wake = interest_changed(channel);
    pthread_mutex_unlock(&channel->mutex);
    if (wake)
        interest_wake(channel);
    channel_unref(channel);
}

void channel_await_end(struct channel_waiter *waiter) {
    struct channel *channel = waiter->channel;

    if (channel == NULL)
        return;
    waiter->channel = NULL;
    list_remove(&waiter->link);
    leave_waiters(channel);
}

/* Calling a worker's waiters of a channel, over several turns if they are many. */
struct waiter_call {
    struct message message;
    struct channel *channel; /* a reference */
    struct list waiters;     /* to be called; those that come meanwhile wait for the next time */
    bool begun;
};

/* Takes those that may go on: none if the channel is not ready any more. */
static void take_waiters(struct waiter_call *call, const struct worker *worker) {
    struct channel_cluster *cluster = call->channel->cluster;
    bool ready;

    pthread_mutex_lock(&call->channel->mutex);
    ready = interest_is_ready(cluster);
    if (!ready)
        cluster->waiting_workers |= UINT64_C(1) << worker->index;
    pthread_mutex_unlock(&call->channel->mutex);
    if (ready)
        list_move_all(&cluster->waiters[worker->index], &call->waiters);
}

static void call_waiters(struct worker *worker, struct message *message, struct message **rest) {
    struct waiter_call *call = container_of(message, struct waiter_call, message);

    (void)rest;
    if (!call->begun)
        take_waiters(call, worker);
    call->begun = true;
    while (!list_empty(&call->waiters)) {
        struct channel_waiter *waiter = container_of(call->waiters.next, struct channel_waiter, link);
        struct channel *channel = waiter->channel;

        list_remove(&waiter->link);
        waiter->channel = NULL;
        waiter->ready(waiter);
        leave_waiters(channel);               /* afterwards: until it has joined, the channel is wanted for it */
        worker_spend(worker, WORK_PER_CLOCK); /* a join may write a long list of members */
        if (worker->turn_over && !list_empty(&call->waiters)) {
            worker_post(worker, &call->message);
            return;
        }
    }
    channel_unref(call->channel);
    free(call);
}

void channel_ready(struct channel_hub *hub, struct channel *channel, uint32_t generation) {
    struct channel_cluster *cluster = channel->cluster;
    uint64_t workers = 0;

    pthread_mutex_lock(&channel->mutex);
    if (cluster->held && !cluster->emptying && !interest_is_ready(cluster) && cluster->generation == generation) {
        cluster->ready = true;
        cluster->readiness = atomic_load_explicit(&hub->readiness, memory_order_relaxed);
        workers = cluster->waiting_workers;
        cluster->waiting_workers = 0;
    }
    pthread_mutex_unlock(&channel->mutex);
    for (; workers != 0; workers &= workers - 1) {
        struct waiter_call *call = alloc_zero(sizeof *call);

        call->message.handle = call_waiters;
        call->channel = channel_ref(channel);
        list_init(&call->waiters);
        worker_post(hub->workers->list[__builtin_ctzll(workers)], &call->message);
    }
}

void channel_unready(struct channel *channel, uint32_t generation) {
    pthread_mutex_lock(&channel->mutex);
    if (channel->cluster->generation == generation)
        channel->cluster->ready = false;
    pthread_mutex_unlock(&channel->mutex);
}

void channel_hub_unready(struct channel_hub *hub) {
    atomic_fetch_add_explicit(&hub->readiness, 1, memory_order_relaxed);
}

struct app_slot *channel_held_slot(struct channel *channel) {
    bool held;

    pthread_mutex_lock(&channel->mutex);
    held = channel->cluster->held;
    pthread_mutex_unlock(&channel->mutex);
    return held ? channel->slot : NULL;
}

/* --- the channels of a worker --- */

void channel_held_begin(struct channel_hub *hub, const struct worker *worker, struct channel_held_walk *walk) {
    struct held_list *list = &hub->held[worker->index];

    walk->worker = worker->index;
    walk->cursor = alloc_zero(sizeof *walk->cursor);
    pthread_mutex_lock(&list->mutex);
    walk->cursor->link = (struct list){.next = list->channels.next, .previous = &list->channels};
    list->channels.next->previous = &walk->cursor->link;
    list->channels.next = &walk->cursor->link;
    pthread_mutex_unlock(&list->mutex);
}

/* Moves the cursor past the next channel, and takes a reference to that; NULL at the end. */
static struct channel *step_over_channel(struct held_list *list, struct channel_held *cursor) {
    struct list *at = cursor->link.next;

    while (at != &list->channels && container_of(at, struct channel_held, link)->channel == NULL)
        at = at->next; /* another walk's cursor */
    if (at == &list->channels)
        return NULL;
    list_remove(&cursor->link);
    cursor->link = (struct list){.next = at->next, .previous = at};
    at->next->previous = &cursor->link;
    at->next = &cursor->link;
    return channel_ref(container_of(at, struct channel_held, link)->channel);
}

struct channel *channel_held_next(struct channel_hub *hub, struct channel_held_walk *walk) {
    struct held_list *list = &hub->held[walk->worker];
    struct channel *channel;
    bool held;

    do {
        pthread_mutex_lock(&list->mutex);
        channel = step_over_channel(list, walk->cursor);
        pthread_mutex_unlock(&list->mutex);
        if (channel == NULL)
            return NULL;
        pthread_mutex_lock(&channel->mutex);
        held = channel->cluster->held;
        pthread_mutex_unlock(&channel->mutex);
        if (!held)
            channel_unref(channel);
    } while (!held);
    return channel;
}

void channel_held_end(struct channel_hub *hub, struct channel_held_walk *walk) {
    struct held_list *list = &hub->held[walk->worker];

    pthread_mutex_lock(&list->mutex);
    list_remove(&walk->cursor->link);
    pthread_mutex_unlock(&list->mutex);
    free(walk->cursor);
    *walk = (struct channel_held_walk){0};
}
