#include "app/webhook_event.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "base/clock.h"

/* Copies a text to `*at` and moves it on. */
static struct slice copy_detail(char **at, struct slice text) {
    struct slice copy = {*at, text.length};

    if (text.data == NULL)
        return text;
    memcpy(*at, text.data, text.length);
    *at += text.length;
    return copy;
}

void webhook_draft_make(struct webhook_draft *draft, struct webhook_outlet *outlet, const struct app *app,
                        enum app_webhook_event kind, const struct webhook_details *details) {
    size_t bytes = sizeof *draft->event + details->channel.length + details->user_id.length + details->event.length +
                   details->data.length + details->socket_id.length;
    struct webhook_event *event = malloc(bytes); /* a client decides the size of `data` */
    char *at;

    if (event == NULL) {
        atomic_fetch_add_explicit(&outlet->dropped, 1, memory_order_relaxed);
        return;
    }
    *event = (struct webhook_event){
        .kind = kind,
        /* The count of references is no part of the record, which stays as it is. */
        .app = app_ref((struct app *)app),
        .outlet = outlet,
        .time_ms = clock_wall_ms(),
        .bytes = alloc_footprint(bytes),
    };
    event->message.handle = outlet->handle;
    at = event->texts;
    event->details = (struct webhook_details){
        .channel = copy_detail(&at, details->channel),
        .user_id = copy_detail(&at, details->user_id),
        .event = copy_detail(&at, details->event),
        .data = copy_detail(&at, details->data),
        .socket_id = copy_detail(&at, details->socket_id),
        .graced = details->graced,
    };
    *draft = (struct webhook_draft){.outlet = outlet, .event = event};
}

/* Adds an amount to what waits, if the sum stays within the bound. */
static bool reserve_amount(atomic_size_t *waiting, size_t amount, size_t max) {
    if (atomic_fetch_add_explicit(waiting, amount, memory_order_relaxed) + amount <= max)
        return true;
    atomic_fetch_sub_explicit(waiting, amount, memory_order_relaxed);
    return false;
}

/* Adds an event to two sums; neither changes if it exceeds a bound. */
static bool reserve_event(atomic_size_t *events, size_t max_events, atomic_size_t *bytes, size_t max_bytes,
                          size_t amount) {
    if (!reserve_amount(events, 1, max_events))
        return false;
    if (reserve_amount(bytes, amount, max_bytes))
        return true;
    atomic_fetch_sub_explicit(events, 1, memory_order_relaxed);
    return false;
}

static uint64_t webhook_share(void) {
    return budget_kind_limit(BUDGET_WEBHOOKS);
}

static size_t smaller_of(size_t bytes, uint64_t other) {
    return bytes < other ? bytes : (size_t)other;
}

static void release_event(atomic_size_t *events, atomic_size_t *bytes, size_t amount) {
    atomic_fetch_sub_explicit(events, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(bytes, amount, memory_order_relaxed);
}

/* The app first: the sums of all apps do not even change for a moment because of one that is over its bound. */
static bool reserve_room(struct webhook_outlet *outlet, const struct webhook_event *event) {
    size_t max_bytes = smaller_of(outlet->max_bytes, webhook_share() / 8);
    size_t max_app_bytes = smaller_of(outlet->max_app_bytes, webhook_share() / 8 / 8);
    struct app *app = event->app;

    if (!reserve_event(&app->waiting_events, outlet->max_app_events, &app->waiting_bytes, max_app_bytes, event->bytes))
        return false;
    if (reserve_event(&outlet->events, outlet->max_events, &outlet->bytes, max_bytes, event->bytes)) {
        if (budget_take(BUDGET_WEBHOOKS, NULL, event->bytes))
            return true;
        release_event(&outlet->events, &outlet->bytes, event->bytes);
    }
    release_event(&app->waiting_events, &app->waiting_bytes, event->bytes);
    return false;
}

void webhook_draft_send(struct webhook_draft *draft, uint32_t count) {
    struct webhook_outlet *outlet = draft->outlet;
    struct webhook_event *event = draft->event;

    if (!reserve_room(outlet, event)) {
        atomic_fetch_add_explicit(&outlet->dropped, 1, memory_order_relaxed);
        return;
    }
    if (!atomic_load_explicit(&outlet->used, memory_order_relaxed))
        atomic_store(&outlet->used, true);
    event->count = count;
    event->counted = true;
    draft->event = NULL;
    draft->posted = true;
    outlet->post(outlet->thread, &event->message);
}

void webhook_draft_close(struct webhook_draft *draft) {
    if (draft->posted)
        draft->outlet->wake(draft->outlet->thread);
    else if (draft->event != NULL)
        webhook_event_free(draft->event);
    *draft = (struct webhook_draft){0};
}

void webhook_event_taken(struct webhook_event *event) {
    release_event(&event->outlet->events, &event->outlet->bytes, event->bytes);
    release_event(&event->app->waiting_events, &event->app->waiting_bytes, event->bytes);
}

size_t webhook_bytes_max(size_t bytes, unsigned eighths) {
    return smaller_of(bytes, webhook_share() / 8 * eighths);
}

void webhook_event_free(struct webhook_event *event) {
    if (event->counted)
        budget_give(BUDGET_WEBHOOKS, NULL, event->bytes);
    app_unref(event->app);
    free(event);
}
