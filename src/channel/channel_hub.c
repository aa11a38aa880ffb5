#include <stdlib.h>

#include "base/alloc.h"
#include "channel/delta_state.h"

struct channel_hub *channel_hub_create(struct workers *workers, const struct channel_hub_settings *settings) {
    struct channel_hub *hub = alloc_zero(sizeof *hub);

    hub->workers = workers;
    hub->settings = *settings;
    kept_events_init(&hub->kept);
    hub->filters = alloc_cache_line(workers->count * sizeof hub->filters[0]);
    delta_texts_init(&hub->texts);
    return hub;
}

void channel_hub_destroy(struct channel_hub *hub) {
    kept_events_dispose(hub);
    channel_hub_destroy_held(hub);
    free(hub->filters);
    delta_texts_dispose(&hub->texts);
    free(hub);
}

void channel_hub_set_keeper(struct channel_hub *hub, const struct channel_keeper *keeper) {
    hub->keeper = keeper;
}

const struct channel_relay *channel_hub_set_relay(struct channel_hub *hub, const struct channel_relay *relay) {
    return atomic_exchange(&hub->relay, relay);
}

void channel_hub_expire(struct channel_hub *hub, uint64_t now_ms) {
    kept_events_expire(hub, now_ms);
    delta_state_expire(hub, now_ms);
}

void channel_hub_told_xdelta3(struct channel_hub *hub) {
    atomic_store_explicit(&hub->xdelta3_announced, true, memory_order_relaxed);
}

struct filter_set *channel_hub_filters(struct channel_hub *hub, const struct worker *worker) {
    return &hub->filters[worker->index];
}
