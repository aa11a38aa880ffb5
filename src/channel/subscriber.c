#include "channel/channel_internal.h"

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

enum delta_takes channel_deltas(const struct subscription *subscription, bool *asked) {
    const struct subscriber *entry = subscription_entry(subscription);

    if (asked != NULL)
        *asked = entry->asked;
    return (enum delta_takes)entry->takes;
}

bool channel_set_deltas(struct channel_hub *hub, struct subscription *subscription, enum delta_takes takes,
                        bool asked) {
    struct subscriber_list *list = subscription_list(subscription);
    struct subscriber *entry = subscription_entry(subscription);

    (void)hub;
    list->deltas += (takes != TAKES_WHOLE);
    list->deltas -= (entry->takes != TAKES_WHOLE);
    /* Events up to now came without their numbers. */
    if (entry->takes == TAKES_WHOLE || entry->asked != asked)
        subscriber_forget(list, entry, list->latest);
    entry->takes = takes;
    entry->asked = asked;
    return true;
}

void channel_forget_base(struct subscription *subscription) {
    struct subscriber_list *list = subscription_list(subscription);

    subscriber_forget(list, subscription_entry(subscription), list->latest);
}

void channel_set_filter(struct channel_hub *hub, struct subscription *subscription, struct filter *filter) {
    struct subscriber_list *list = subscription_list(subscription);
    struct subscriber *entry = subscription_entry(subscription);

    if (subscription->filter != filter) {
        list->filters += filter != NULL;
        list->filters -= entry->filtered;
        entry->filtered = filter != NULL;
        subscriber_forget(list, entry, list->latest);
    }
    filter_release(channel_hub_filters(hub, subscription->stream->worker), subscription->filter);
    subscription->filter = filter;
}
