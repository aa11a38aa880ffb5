#include "webhook/webhook_events.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "webhook/event_json.h"
#include "webhook/grace.h"

/* Bounds of what waits for the thread, and of what is held during its grace. One app may fill an eighth of the room to
 * the thread. */
#define WAITING_EVENTS_MAX 100000
#define WAITING_BYTES_MAX (32 * 1024 * 1024)
#define APPS_WITH_FULL_SHARE 8

struct webhook_events {
    struct webhook_thread *thread;
    struct webhook_outlet outlet;
    struct webhook_grace *grace;
    struct buffer json; /* the event that is sent */
    /* To another process that goes on with what arrives and leaves; NULL: this one does. */
    bool (*forward)(void *context, const struct webhook_event *event);
    void *forward_context;
};

/* --- sending --- */

static void send_webhook_event(void *context, struct webhook_event *event) {
    struct webhook_events *events = context;
    struct app *app = app_latest(event->app);

    events->json.length = 0;
    for (size_t i = 0; app != NULL && i < app->webhook_count; i++) {
        if (!app_webhook_takes(app, i, event->kind, event->details.channel))
            continue;
        if (events->json.length == 0)
            webhook_event_append(&events->json, event);
        delivery_add(webhook_thread_delivery(events->thread), app, i, event->details.channel,
                     buffer_slice(&events->json), event->time_ms);
    }
    webhook_event_free(event);
}

/* Passes an event about who is there on to the other process; others are sent from here. */
static void forward_event(void *context, struct webhook_event *event) {
    struct webhook_events *events = context;
    const unsigned passed_on =
        WEBHOOK_CHANNEL_OCCUPIED | WEBHOOK_CHANNEL_VACATED | WEBHOOK_MEMBER_ADDED | WEBHOOK_MEMBER_REMOVED;

    if ((event->kind & passed_on) != 0 && events->forward(events->forward_context, event))
        webhook_event_free(event);
    else
        send_webhook_event(events, event);
}

static void handle_webhook_event(struct webhook_thread *thread, struct webhook_message *message) {
    struct webhook_events *events = webhook_thread_context(thread);
    struct webhook_event *event = container_of(message, struct webhook_event, message);

    webhook_event_taken(event);
    if (event->details.graced)
        send_webhook_event(events, event);
    else if (events->forward != NULL)
        forward_event(events, event);
    else
        webhook_grace_add(events->grace, event, clock_monotonic_ms());
}

/* --- two processes --- */

struct handover_step {
    struct webhook_message message;
    bool (*forward)(void *context, const struct webhook_event *event); /* NULL: the end of an overlap */
    void *context;
};

static void handle_handover_step(struct webhook_thread *thread, struct webhook_message *message) {
    struct webhook_events *events = webhook_thread_context(thread);
    struct handover_step *step = container_of(message, struct handover_step, message);

    events->forward = step->forward;
    events->forward_context = step->context;
    if (step->forward == NULL)
        webhook_grace_overlap(events->grace, false);
    else
        webhook_grace_take_all(events->grace, forward_event, events);
    free(step);
}

static void post_handover_step(struct webhook_events *events,
                               bool (*forward)(void *context, const struct webhook_event *event), void *context) {
    struct handover_step *step = alloc(sizeof *step);

    *step = (struct handover_step){.message.handle = handle_handover_step, .forward = forward, .context = context};
    webhook_thread_post(events->thread, &step->message);
    webhook_thread_wake(events->thread);
}

void webhook_events_forward(struct webhook_events *events,
                            bool (*forward)(void *context, const struct webhook_event *event), void *context) {
    post_handover_step(events, forward, context);
}

void webhook_events_begin_overlap(struct webhook_events *events) {
    webhook_grace_overlap(events->grace, true);
}

void webhook_events_end_overlap(struct webhook_events *events) {
    post_handover_step(events, NULL, NULL);
}

static uint64_t run_grace(void *context, uint64_t now_ms) {
    struct webhook_events *events = context;

    return webhook_grace_run(events->grace, now_ms);
}

static void finish_grace(void *context) {
    struct webhook_events *events = context;

    webhook_grace_finish(events->grace);
}

/* --- changes of apps --- */

struct app_replaced {
    struct webhook_message message;
    struct app *before, *after; /* references; one of them may be NULL */
};

static void handle_app_replaced(struct webhook_thread *thread, struct webhook_message *message) {
    struct app_replaced *replaced = container_of(message, struct app_replaced, message);
    struct app *known = replaced->after != NULL ? replaced->after : replaced->before;

    /* A later change may have overtaken this one. */
    delivery_app_changed(webhook_thread_delivery(thread), known->id, app_latest(known));
    app_unref(replaced->before);
    app_unref(replaced->after);
    free(replaced);
}

void webhook_events_app_replaced(struct webhook_events *events, struct app *before, struct app *after) {
    struct app_replaced *replaced;

    if (!atomic_load(&events->outlet.used))
        return; /* nothing waits that the record could concern */
    replaced = alloc(sizeof *replaced);
    *replaced = (struct app_replaced){
        .message.handle = handle_app_replaced,
        .before = before != NULL ? app_ref(before) : NULL,
        .after = after != NULL ? app_ref(after) : NULL,
    };
    webhook_thread_post(events->thread, &replaced->message);
    webhook_thread_wake(events->thread);
}

/* --- creating and freeing --- */

struct webhook_events *webhook_events_create(struct webhook_thread *thread) {
    struct webhook_events *events = alloc_zero(sizeof *events);
    const struct webhook_grace_settings settings = {WAITING_EVENTS_MAX, WAITING_BYTES_MAX, send_webhook_event, events};

    events->thread = thread;
    events->grace = webhook_grace_create(&settings);
    events->outlet = (struct webhook_outlet){
        .thread = thread,
        .post = webhook_thread_post,
        .wake = webhook_thread_wake,
        .handle = handle_webhook_event,
        .max_events = WAITING_EVENTS_MAX,
        .max_bytes = WAITING_BYTES_MAX,
        .max_app_events = WAITING_EVENTS_MAX / APPS_WITH_FULL_SHARE,
        .max_app_bytes = WAITING_BYTES_MAX / APPS_WITH_FULL_SHARE,
    };
    if (delivery_restores(webhook_thread_delivery(thread)))
        atomic_store(&events->outlet.used, true); /* changes of records concern these events */
    webhook_thread_set_work(thread, &(struct webhook_work){run_grace, finish_grace, events});
    return events;
}

void webhook_events_destroy(struct webhook_events *events) {
    if (events == NULL)
        return;
    webhook_grace_destroy(events->grace);
    buffer_dispose(&events->json);
    free(events);
}

struct webhook_outlet *webhook_events_outlet(struct webhook_events *events) {
    return &events->outlet;
}
