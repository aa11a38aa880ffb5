#include "webhook/grace.h"

#include <search.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/heap.h"

#define FIRST_BUCKETS 64

/* An app of which events are held. */
struct grace_app {
    struct app *record; /* a reference, for the id: one of the app's records */
    struct list held;   /* its events, the oldest first */
    size_t count, bytes;
    struct heap_node by_count, by_bytes; /* the key is UINT64_MAX minus the amount */
};

struct webhook_grace {
    struct webhook_grace_settings settings;
    void *apps; /* a tree of <search.h> */
    struct heap by_count, by_bytes;
    struct list held; /* in the order in which they happened, so in the order in which they are due */
    size_t count, bytes;
    struct webhook_event **buckets;
    size_t bucket_count; /* a power of two */
    bool finished;
    bool overlap;        /* arrivals are held, too */
    struct list arrived; /* channel_occupied, member_added that are held, oldest first */
};

struct webhook_grace *webhook_grace_create(const struct webhook_grace_settings *settings) {
    struct webhook_grace *grace = alloc_zero(sizeof *grace);

    grace->settings = *settings;
    list_init(&grace->held);
    list_init(&grace->arrived);
    grace->bucket_count = FIRST_BUCKETS;
    grace->buckets = alloc_zero(FIRST_BUCKETS * sizeof(struct webhook_event *));
    return grace;
}

/* --- apps --- */

static int compare_grace_apps(const void *a, const void *b) {
    return slice_compare(((const struct grace_app *)a)->record->id, ((const struct grace_app *)b)->record->id);
}

/* The entry of the event's app, which is made if there is none. */
static struct grace_app *grace_app_of(struct webhook_grace *grace, const struct webhook_event *event) {
    const struct grace_app wanted = {.record = event->app};
    void *found = tfind(&wanted, &grace->apps, compare_grace_apps);
    struct grace_app *app;

    if (found != NULL)
        return *(struct grace_app **)found;
    app = alloc_zero(sizeof *app);
    app->record = app_ref(event->app);
    list_init(&app->held);
    if (tsearch(app, &grace->apps, compare_grace_apps) == NULL)
        abort(); /* out of memory */
    return app;
}

/* After a change of what is held of the app: keeps the heaps, and frees the entry when nothing is. */
static void update_grace_app(struct webhook_grace *grace, struct grace_app *app) {
    if (app->count > 0) {
        heap_set(&grace->by_count, &app->by_count, UINT64_MAX - app->count);
        heap_set(&grace->by_bytes, &app->by_bytes, UINT64_MAX - app->bytes);
        return;
    }
    heap_unlink(&grace->by_count, &app->by_count);
    heap_unlink(&grace->by_bytes, &app->by_bytes);
    tdelete(app, &grace->apps, compare_grace_apps);
    app_unref(app->record);
    free(app);
}

/* The app that holds the most of what is over its bound; NULL: nothing is. */
static struct grace_app *largest_grace_app(const struct webhook_grace *grace) {
    if (grace->count > grace->settings.max_events)
        return container_of(heap_first(&grace->by_count), struct grace_app, by_count);
    if (grace->bytes > webhook_bytes_max(grace->settings.max_bytes, 3))
        return container_of(heap_first(&grace->by_bytes), struct grace_app, by_bytes);
    return NULL;
}

/* --- the table --- */

static uint64_t hash_event(const struct webhook_event *event) {
    uint64_t hash = hash_bytes(event->app->id);

    /* Multiplied by odd numbers, so that equal texts in different places do not cancel each other. */
    hash = hash * 0x9e3779b97f4a7c15u + hash_bytes(event->details.channel);
    return hash * 0x9e3779b97f4a7c15u + hash_bytes(event->details.user_id);
}

static bool is_about_member(const struct webhook_event *event) {
    return (event->kind & (WEBHOOK_MEMBER_ADDED | WEBHOOK_MEMBER_REMOVED)) != 0;
}

/* True if both are about the same channel of the same app, and the same user, if they are about users. */
static bool same_subject(const struct webhook_event *a, const struct webhook_event *b) {
    return a->hash == b->hash && is_about_member(a) == is_about_member(b) && slice_equal(a->app->id, b->app->id) &&
           slice_equal(a->details.channel, b->details.channel) && slice_equal(a->details.user_id, b->details.user_id);
}

/* The event that is held for the same subject; NULL: none. */
static struct webhook_event *find_held(const struct webhook_grace *grace, const struct webhook_event *event) {
    struct webhook_event *held = grace->buckets[event->hash & (grace->bucket_count - 1)];

    while (held != NULL && !same_subject(held, event))
        held = held->next;
    return held;
}

/* Removes an event that is held; the caller then owns it. */
static struct webhook_event *unhold_event(struct webhook_grace *grace, struct webhook_event *event) {
    struct webhook_event **at = &grace->buckets[event->hash & (grace->bucket_count - 1)];

    while (*at != event)
        at = &(*at)->next;
    *at = event->next;
    list_remove(&event->link);
    list_remove(&event->app_link);
    grace->count--;
    grace->bytes -= event->bytes;
    event->held_app->count--;
    event->held_app->bytes -= event->bytes;
    update_grace_app(grace, event->held_app);
    return event;
}

static struct webhook_event *unhold_first(struct webhook_grace *grace, const struct list *list) {
    return unhold_event(grace, container_of(list->next, struct webhook_event, link));
}

static struct webhook_event *unhold_oldest(struct webhook_grace *grace) {
    return unhold_first(grace, &grace->held);
}

static bool is_arrival(const struct webhook_event *event) {
    return (event->kind & (WEBHOOK_CHANNEL_OCCUPIED | WEBHOOK_MEMBER_ADDED)) != 0;
}

static bool is_departure(const struct webhook_event *event) {
    return (event->kind & (WEBHOOK_CHANNEL_VACATED | WEBHOOK_MEMBER_REMOVED)) != 0;
}

static void put_in_buckets(struct list *list, struct webhook_event **buckets, size_t count) {
    for (struct list *link = list->next; link != list; link = link->next) {
        struct webhook_event *event = container_of(link, struct webhook_event, link);
        struct webhook_event **bucket = &buckets[event->hash & (count - 1)];

        event->next = *bucket;
        *bucket = event;
    }
}

static void grow_grace(struct webhook_grace *grace) {
    size_t wanted = grace->bucket_count * 2;
    struct webhook_event **buckets = alloc_zero(wanted * sizeof(struct webhook_event *));

    put_in_buckets(&grace->held, buckets, wanted);
    put_in_buckets(&grace->arrived, buckets, wanted);
    free(grace->buckets);
    grace->buckets = buckets;
    grace->bucket_count = wanted;
}

static void hold_event(struct webhook_grace *grace, struct webhook_event *event, uint64_t now_ms) {
    struct webhook_event *earlier = find_held(grace, event), **at;

    if (earlier != NULL) /* its opposite was lost on the way here */
        webhook_event_free(unhold_event(grace, earlier));
    if (grace->count == grace->bucket_count)
        grow_grace(grace);
    at = &grace->buckets[event->hash & (grace->bucket_count - 1)];
    event->next = *at;
    *at = event;
    event->due_ms = now_ms + WEBHOOK_GRACE_MS;
    list_append(is_arrival(event) ? &grace->arrived : &grace->held, &event->link);
    grace->count++;
    grace->bytes += event->bytes;
    event->held_app = grace_app_of(grace, event);
    list_append(&event->held_app->held, &event->app_link);
    event->held_app->count++;
    event->held_app->bytes += event->bytes;
    update_grace_app(grace, event->held_app);
}

void webhook_grace_destroy(struct webhook_grace *grace) {
    while (!list_empty(&grace->arrived))
        webhook_event_free(unhold_first(grace, &grace->arrived));
    while (!list_empty(&grace->held))
        webhook_event_free(unhold_oldest(grace));
    heap_dispose(&grace->by_count);
    heap_dispose(&grace->by_bytes);
    free(grace->buckets);
    free(grace);
}

/* --- events --- */

static void send_oldest(struct webhook_grace *grace) {
    grace->settings.send(grace->settings.context, unhold_oldest(grace));
}

/* Sends events of the apps that hold the most until the bounds hold: so one app does not end the grace of another. */
static void hold_grace_bounds(struct webhook_grace *grace) {
    struct grace_app *largest;

    while ((largest = largest_grace_app(grace)) != NULL) {
        struct webhook_event *oldest = container_of(largest->held.next, struct webhook_event, app_link);

        grace->settings.send(grace->settings.context, unhold_event(grace, oldest));
    }
}

void webhook_grace_add(struct webhook_grace *grace, struct webhook_event *event, uint64_t now_ms) {
    bool arrival = is_arrival(event), departure = is_departure(event);
    struct webhook_event *held;

    event->hash = hash_event(event);
    held = arrival || departure ? find_held(grace, event) : NULL;
    if (held != NULL && is_arrival(held) != arrival) {
        webhook_event_free(unhold_event(grace, held));
        webhook_event_free(event);
    } else if (!grace->finished && (departure || (arrival && grace->overlap))) {
        hold_event(grace, event, now_ms);
        hold_grace_bounds(grace);
    } else {
        grace->settings.send(grace->settings.context, event);
    }
}

uint64_t webhook_grace_run(struct webhook_grace *grace, uint64_t now_ms) {
    while (!list_empty(&grace->held)) {
        const struct webhook_event *oldest = container_of(grace->held.next, struct webhook_event, link);
        if (now_ms < oldest->due_ms)
            return oldest->due_ms;
        send_oldest(grace);
    }
    return UINT64_MAX;
}

static void send_arrived(struct webhook_grace *grace) {
    while (!list_empty(&grace->arrived))
        grace->settings.send(grace->settings.context, unhold_first(grace, &grace->arrived));
}

void webhook_grace_overlap(struct webhook_grace *grace, bool overlap) {
    grace->overlap = overlap;
    if (!overlap)
        send_arrived(grace);
}

void webhook_grace_take_all(struct webhook_grace *grace, void (*take)(void *context, struct webhook_event *event),
                            void *context) {
    while (!list_empty(&grace->held))
        take(context, unhold_oldest(grace));
    while (!list_empty(&grace->arrived))
        take(context, unhold_first(grace, &grace->arrived));
}

void webhook_grace_finish(struct webhook_grace *grace) {
    grace->finished = true;
    while (!list_empty(&grace->held))
        send_oldest(grace);
    send_arrived(grace);
}
