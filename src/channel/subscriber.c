#include "channel/delta_state.h"

static struct subscriber_list *subscription_list(const struct subscription *subscription) {
    return &subscription->channel->subscribers.lists[subscription->stream->worker->index];
}

static struct subscriber *subscription_entry(const struct subscription *subscription) {
    return &subscription_list(subscription)->entries[subscription->index];
}

void subscriber_forget(struct subscriber_list *list, struct subscriber *entry, uint64_t number) {
    if (entry->joined < number)
        entry->joined = number;
    if (list->newest < number)
        list->newest = number;
}

void subscriber_stops_deltas(struct channel_hub *hub, struct channel *channel, struct subscriber_list *list,
                             struct subscriber *entry) {
    if (entry->takes == TAKES_WHOLE)
        return;
    delta_state_leave(&hub->texts, atomic_load_explicit(&channel->deltas, memory_order_acquire),
                      (enum delta_takes)entry->takes, entry->asked);
    list->deltas--;
}

enum delta_takes channel_deltas(const struct subscription *subscription, bool *asked) {
    const struct subscriber *entry = subscription_entry(subscription);

    if (asked != NULL)
        *asked = entry->asked;
    return (enum delta_takes)entry->takes;
}

/* Returns the channel's state, which is made when it is first needed. NULL if there is no room for it. */
static struct delta_state *channel_delta_state(struct channel *channel) {
    struct delta_state *state = atomic_load_explicit(&channel->deltas, memory_order_acquire), *made;

    if (state != NULL)
        return state;
    if (!budget_take(BUDGET_CHANNELS, channel->slot->budget, delta_state_bytes()))
        return NULL;
    made = delta_state_create(channel);
    if (atomic_compare_exchange_strong(&channel->deltas, &state, made))
        return made;
    delta_state_unref(made);
    budget_give(BUDGET_CHANNELS, channel->slot->budget, delta_state_bytes());
    return state;
}

bool channel_set_deltas(struct channel_hub *hub, struct subscription *subscription, enum delta_takes takes,
                        bool asked) {
    struct subscriber_list *list = subscription_list(subscription);
    struct subscriber *entry = subscription_entry(subscription);

    if (takes != TAKES_WHOLE) {
        struct delta_state *state = channel_delta_state(subscription->channel);
        if (state == NULL)
            return false;
        delta_state_enter(state, takes, asked);
        list->deltas++;
    }
    subscriber_stops_deltas(hub, subscription->channel, list, entry);
    /* Events up to now may have come without their numbers. */
    if (entry->takes == TAKES_WHOLE || entry->asked != asked)
        subscriber_forget(list, entry, list->latest);
    entry->takes = takes;
    entry->asked = asked;
    return true;
}

void channel_forget_base(struct subscription *subscription) {
    struct subscriber_list *list = subscription_list(subscription);
    struct app_part *part = slot_part(subscription->channel->slot, subscription->stream->worker);

    counter_add(&part->counters.delta_resyncs, 1);
    subscriber_forget(list, subscription_entry(subscription), list->latest);
}

bool subscriber_takes_filter(const struct subscriber_list *list, const struct filter *filter,
                             const struct filter *next) {
    return next == filter ||
           list->filter_work + filter_work_of_first(next) - filter_work_of_last(filter) <= FILTERS_WORK_MAX;
}

bool channel_takes_filter(const struct subscription *subscription, const struct filter *filter) {
    return subscriber_takes_filter(subscription_list(subscription), subscription->filter, filter);
}

void subscriber_stops_filter(struct subscription *subscription) {
    struct filter *filter = subscription->filter;

    if (filter == NULL)
        return;
    subscription_list(subscription)->filter_work -= (uint32_t)filter_work_of_last(filter);
    filter_count_use(filter, -1);
}

void channel_set_filter(struct channel_hub *hub, struct subscription *subscription, struct filter *filter) {
    struct subscriber_list *list = subscription_list(subscription);
    struct subscriber *entry = subscription_entry(subscription);

    if (subscription->filter != filter) {
        subscriber_stops_filter(subscription);
        list->filter_work += (uint32_t)filter_work_of_first(filter);
        filter_count_use(filter, 1);
        entry->filtered = filter != NULL;
        subscriber_forget(list, entry, list->latest);
    }
    filter_release(channel_hub_filters(hub, subscription->stream->worker), subscription->filter);
    subscription->filter = filter;
}
