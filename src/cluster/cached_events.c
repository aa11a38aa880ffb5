#include "cluster/cached_events.h"

#include <stdlib.h>
#include <string.h>

#include "app_manager/app_queue.h"
#include "base/alloc.h"
#include "base/budget.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/log.h"
#include "channel/remote.h"
#include "cluster/key_store.h"
#include "config/config.h"

/* What is sent at once of the events that wait, and the time until the next ones. */
#define RUN_EVENTS 1000
#define RUN_BYTES (1024 * 1024)
#define RUN_NEXT_MS 1

struct cached_events {
    struct cluster_core *core;
    struct channel_keeper keeper;
    struct subjects keys;
    uint64_t ttl_ms;     /* 0: events do not expire */
    size_t most_bytes;   /* of what is held; of what waits, half of it */
    struct list waiting; /* events that the store did not get yet */
    struct list writing; /* those for which it has not answered */
    struct list reading; /* questions */
    uint64_t last_number;
    bool store_up; /* for a store that has its own connections */
    struct loop_timer timer;
    struct app_queue applying; /* by worker */
    atomic_size_t held;        /* bytes on their way to the store */
    atomic_uint_fast64_t dropped;
    struct counter count, bytes, refused; /* that wait; answers */
};

/* --- writing --- */

/* An event on its way to the store. */
struct cached_write {
    struct loop_message message;  /* for the way from the worker */
    struct redis_request request; /* for the way to the store */
    struct cached_events *events; /* NULL: the part is gone */
    struct list link;
    struct bus_bytes *bytes;
    uint64_t published_ms; /* monotonic */
    uint64_t number;       /* given by the thread */
    size_t size;
    size_t key_length;
    char key[];
};

static void free_cached_write(struct cached_write *write) {
    list_remove(&write->link);
    if (write->events != NULL)
        atomic_fetch_sub_explicit(&write->events->held, write->size, memory_order_relaxed);
    budget_give(BUDGET_CLUSTER, NULL, write->size);
    bus_bytes_unref(write->bytes);
    free(write);
}

/* Without an answer it is lost with the connection: what was handed over is not sent again. */
static void on_cached_written(struct redis_request *request, const struct redis_value *value) {
    struct cached_write *write = container_of(request, struct cached_write, request);

    if (value != NULL && value->type == REDIS_ERROR && write->events != NULL) {
        counter_add(&write->events->refused, 1);
        log_warning("cluster", "the store of cache.driver does not take an event of a cache channel: %.200s",
                    value->text.data);
    }
    free_cached_write(write);
}

/* False: the store is down. An event whose time is over is dropped. */
static bool send_cached_write(struct cached_events *events, struct cached_write *write) {
    struct key_store *store = events->core->store;
    uint64_t waited_ms = loop_now_ms(events->core->loop) - write->published_ms;
    struct slice key = {write->key, write->key_length};
    char digits[NUMBER_DIGITS];
    struct slice words[] = {SLICE("SET"), key, {write->bytes->data, write->bytes->length}, SLICE("PX"), {0}};

    if ((int64_t)waited_ms < 0)
        waited_ms = 0; /* it is newer than the time of this turn */
    if (events->ttl_ms != 0 && waited_ms >= events->ttl_ms) {
        free_cached_write(write);
        return true;
    }
    words[4] = slice_of_number(events->ttl_ms - waited_ms, digits);
    message_seal(write->bytes, nodes_own_id(events->core->nodes), 0);
    write->request.answered = on_cached_written;
    if (!store->driver->request(store, key, &write->request, words, events->ttl_ms != 0 ? 5 : 3))
        return false;
    list_remove(&write->link);
    list_append(&events->writing, &write->link);
    return true;
}

static void note_cached_waiting(struct cached_events *events, const struct cached_write *write, int64_t count) {
    counter_add(&events->count, (uint64_t)count);
    counter_add(&events->bytes, (uint64_t)(count * (int64_t)write->size));
}

/* Sends what waits, or some of it. */
static void run_cached_writes(struct cached_events *events) {
    size_t count = 0, bytes = 0;

    while (!list_empty(&events->waiting)) {
        struct cached_write *write = container_of(events->waiting.next, struct cached_write, link);
        if (count++ == RUN_EVENTS || bytes > RUN_BYTES) {
            loop_timer_set(events->core->loop, &events->timer, RUN_NEXT_MS);
            return;
        }
        bytes += write->size;
        note_cached_waiting(events, write, -1);
        if (send_cached_write(events, write))
            continue;
        note_cached_waiting(events, write, 1);
        return;
    }
}

static void on_cached_timer(struct loop_timer *timer) {
    run_cached_writes(container_of(timer, struct cached_events, timer));
}

static void handle_cached_write(struct loop *loop, struct loop_message *message) {
    struct cached_write *write = container_of(message, struct cached_write, message);
    struct cached_events *events = write->events;

    (void)loop;
    write->number = ++events->last_number;
    list_append(&events->waiting, &write->link);
    note_cached_waiting(events, write, 1);
    if (!loop_timer_is_set(&events->timer))
        run_cached_writes(events);
    while (counter_read(&events->bytes) > events->most_bytes / 2) {
        struct cached_write *oldest = container_of(events->waiting.next, struct cached_write, link);
        note_cached_waiting(events, oldest, -1);
        atomic_fetch_add_explicit(&events->dropped, 1, memory_order_relaxed);
        free_cached_write(oldest);
    }
}

uint64_t cached_events_last(const struct cached_events *events) {
    if (events == NULL || !events->core->store->driver->publishes_wait || !events->store_up)
        return 0;
    return events->last_number;
}

/* Both lists are in the order of the numbers, and what waits follows what is being written. */
bool cached_events_are_stored(const struct cached_events *events, uint64_t number) {
    const struct list *list = list_empty(&events->writing) ? &events->waiting : &events->writing;

    return list_empty(list) || container_of(list->next, struct cached_write, link)->number > number;
}

/* On the worker: an event of this node is about to be kept. */
static void keep_in_store(void *context, struct app_slot *slot, struct slice channel,
                          const struct channel_event *event) {
    struct cached_events *events = context;
    struct cluster_message message = {.kind = MESSAGE_EVENT, .version = message_versions_own().lowest};
    struct cached_write *write = NULL;
    struct buffer key = {0};
    struct bus_bytes *bytes;
    size_t size;

    message.event = (struct message_event){.app = slice_of(slot->id),
                                           .channel = channel,
                                           .name = event->event,
                                           .data = event->data,
                                           .keep = true,
                                           .published_ms = event->stamp.ms,
                                           .left_ms = events->ttl_ms};
    bytes = message_encode(&message);
    subject_append_channel(&key, &events->keys, message.event.app, channel);
    size = sizeof *write + key.length + (bytes != NULL ? bytes->length : 0);
    if (bytes != NULL && atomic_load_explicit(&events->held, memory_order_relaxed) + size <= events->most_bytes &&
        budget_has_room(BUDGET_CLUSTER, NULL, size))
        write = malloc(sizeof *write + key.length);
    if (write == NULL) {
        atomic_fetch_add_explicit(&events->dropped, 1, memory_order_relaxed);
        bus_bytes_unref(bytes);
        buffer_dispose(&key);
        return;
    }
    *write = (struct cached_write){.message.handle = handle_cached_write,
                                   .events = events,
                                   .bytes = bytes,
                                   .published_ms = clock_monotonic_ms(),
                                   .size = size,
                                   .key_length = key.length};
    memcpy(write->key, key.data, key.length);
    buffer_dispose(&key);
    atomic_fetch_add_explicit(&events->held, size, memory_order_relaxed);
    budget_add(BUDGET_CLUSTER, NULL, size);
    loop_post(events->core->loop, &write->message);
    loop_wake(events->core->loop);
}

/* --- reading --- */

/* A question, and the way of its answer to the channel's worker and back. */
struct cached_question {
    struct redis_request get, left; /* the value, and the time that it has left */
    struct cached_events *events;   /* NULL: the part is gone */
    struct list link;
    struct cached_asker asker;
    char *value; /* NULL: there is none */
    size_t value_length;
    struct message message; /* to the worker */
    struct app_task task;
    struct message_event event; /* texts in `value` */
    struct channel_stamp stamp;
    uint64_t left_ms;
    struct loop_message back;
    size_t app_length, channel_length;
    char names[]; /* what was asked for */
};

static void end_cached_question(struct cached_question *question) {
    const struct cached_asker asker = question->asker;
    bool there = question->events != NULL;

    list_remove(&question->link);
    free(question->value);
    free(question);
    if (there)
        asker.done(asker.context, asker.channel_hash, asker.generation);
}

static void handle_cached_back(struct loop *loop, struct loop_message *message) {
    (void)loop;
    end_cached_question(container_of(message, struct cached_question, back));
}

static void return_cached_question(struct cached_question *question) {
    struct loop *loop = question->events->core->loop;

    question->back.handle = handle_cached_back;
    loop_post(loop, &question->back);
    loop_wake(loop);
}

static void apply_cached_event(struct app_task *task) {
    struct cached_question *question = container_of(task, struct cached_question, task);

    if (task->lookup.answer == APP_FOUND)
        channel_remote_cached(
            question->events->core->channels, task->lookup.slot, task->worker, question->event.channel,
            &(struct channel_event){
                .event = question->event.name, .data = question->event.data, .stamp = question->stamp, .keep = true},
            question->left_ms);
    return_cached_question(question);
}

static void handle_cached_event(struct worker *worker, struct message *message, struct message **rest) {
    struct cached_question *question = container_of(message, struct cached_question, message);

    (void)rest;
    if (worker->stopping)
        return_cached_question(question);
    else
        app_queue_add(&question->events->applying, question->events->core->apps, worker, &question->task);
}

/* True if the value is an event of the channel that was asked for. */
static bool read_cached_value(struct cached_question *question) {
    struct cluster_message message;
    struct error error;

    if (question->value == NULL ||
        message_decode((struct slice){question->value, question->value_length}, &message, &error) != MESSAGE_GOOD ||
        message.kind != MESSAGE_EVENT ||
        !slice_equal(message.event.app, (struct slice){question->names, question->app_length}) ||
        !slice_equal(message.event.channel,
                     (struct slice){question->names + question->app_length, question->channel_length}))
        return false;
    question->event = message.event;
    question->stamp = (struct channel_stamp){message.event.published_ms, {message.sender.high, message.sender.low}};
    return true;
}

static void on_cached_left(struct redis_request *request, const struct redis_value *value) {
    struct cached_question *question = container_of(request, struct cached_question, left);
    const struct workers *workers;
    struct worker *worker;

    /* -2: it has expired meanwhile; -1: it does not expire. */
    if (question->events == NULL || value == NULL || value->type != REDIS_INTEGER || value->integer == -2 ||
        value->integer == 0 || !read_cached_value(question)) {
        end_cached_question(question);
        return;
    }
    question->left_ms = value->integer > 0 ? (uint64_t)value->integer : 0;
    question->message.handle = handle_cached_event;
    question->task.run = apply_cached_event;
    question->task.app_id = question->event.app;
    workers = question->events->core->workers;
    worker = workers->list[hash_bytes(question->event.channel) % workers->count];
    mailbox_post(&worker->mailbox, &question->message);
    mailbox_wake(&worker->mailbox);
}

static void on_cached_value(struct redis_request *request, const struct redis_value *value) {
    struct cached_question *question = container_of(request, struct cached_question, get);

    if (value == NULL || value->type != REDIS_TEXT)
        return;
    question->value = malloc(value->text.length);
    question->value_length = value->text.length;
    if (question->value != NULL)
        memcpy(question->value, value->text.data, value->text.length);
}

bool cached_events_read(struct cached_events *events, struct slice app, struct slice channel,
                        const struct cached_asker *asker) {
    struct cached_question *question;
    struct key_store *store;
    struct slice words[2] = {SLICE("GET")};
    struct buffer key = {0};
    bool asked;

    if (events == NULL)
        return false;
    store = events->core->store;
    question = alloc_zero(sizeof *question + app.length + channel.length);
    question->events = events;
    question->asker = *asker;
    question->get.answered = on_cached_value;
    question->left.answered = on_cached_left;
    question->app_length = app.length;
    question->channel_length = channel.length;
    memcpy(question->names, app.data, app.length);
    memcpy(question->names + app.length, channel.data, channel.length);
    subject_append_channel(&key, &events->keys, app, channel);
    words[1] = buffer_slice(&key);
    asked = store->driver->request(store, words[1], &question->get, words, 2);
    words[0] = SLICE("PTTL");
    if (asked && store->driver->request(store, words[1], &question->left, words, 2))
        list_append(&events->reading, &question->link);
    else
        free(question);
    buffer_dispose(&key);
    return asked;
}

/* --- the part --- */

static void on_store_up(void *context) {
    struct cached_events *events = context;

    log_info("cluster", "the store of cache.driver is up");
    events->store_up = true;
    run_cached_writes(events);
}

static void on_store_down(void *context, const char *why) {
    struct cached_events *events = context;

    events->store_up = false;
    log_warning("cluster", "the store of cache.driver is down, events of cache channels are kept by the nodes: %s",
                why);
}

/* The store may be on the bus. */
static void on_cached_bus_up(void *context) {
    run_cached_writes(context);
}

static void flush_cached_events(void *context) {
    const struct cached_events *events = context;

    events->core->store->driver->flush(events->core->store);
}

/* The bus may answer what was asked over its connection until it is destroyed, after this. */
static void disown_cached_requests(struct cached_events *events) {
    while (!list_empty(&events->waiting))
        free_cached_write(container_of(events->waiting.next, struct cached_write, link));
    while (!list_empty(&events->writing)) {
        struct cached_write *write = container_of(events->writing.next, struct cached_write, link);
        list_remove(&write->link);
        write->events = NULL;
    }
    while (!list_empty(&events->reading)) {
        struct cached_question *question = container_of(events->reading.next, struct cached_question, link);
        list_remove(&question->link);
        question->events = NULL;
    }
}

static void dispose_cached_events(void *context) {
    struct cached_events *events = context;

    if (events->core->channels != NULL)
        channel_hub_set_keeper(events->core->channels, NULL);
    loop_timer_end(events->core->loop, &events->timer);
    disown_cached_requests(events);
    if (events->core->store != NULL)
        events->core->store->driver->destroy(events->core->store);
    events->core->store = NULL;
    subjects_dispose(&events->keys);
    free(events);
}

static bool create_cached_store(struct cached_events *events, const struct key_store_driver *driver,
                                struct error *error) {
    const struct key_store_events store_events = {on_store_up, on_store_down, events};
    struct cluster_core *core = events->core;

    core->store = driver->create(core->loop, core->config, core->bus, &store_events, error);
    return core->store != NULL;
}

bool cached_events_create(struct cluster_core *core, struct error *error) {
    const struct key_store_driver *driver = key_store_driver_of(core->config);
    struct cached_events *events;
    struct cluster_part part = {
        .bus_up = on_cached_bus_up, .end_of_turn = flush_cached_events, .dispose = dispose_cached_events};

    if (driver == NULL)
        return true;
    events = alloc_zero(sizeof *events);
    events->core = core;
    events->keeper = (struct channel_keeper){keep_in_store, events};
    events->ttl_ms = core->config->channel_limits.cache_ttl_s * UINT64_C(1000);
    events->most_bytes = core->config->adapter.outage_buffer_mb * (size_t)1024 * 1024;
    events->timer.fire = on_cached_timer;
    list_init(&events->waiting);
    list_init(&events->writing);
    list_init(&events->reading);
    subjects_init(&events->keys, SUBJECT_PLAIN, slice_of(core->config->cache.redis.prefix));
    part.context = events;
    cluster_core_add_part(core, &part);
    core->cached_events = events;
    if (!create_cached_store(events, driver, error))
        return false; /* the part goes with the others */
    if (core->channels != NULL)
        channel_hub_set_keeper(core->channels, &events->keeper);
    return true;
}

void cached_events_read_stats(const struct cached_events *events, struct cached_events_stats *stats) {
    *stats = (struct cached_events_stats){0};
    if (events != NULL)
        *stats = (struct cached_events_stats){counter_read(&events->count), counter_read(&events->bytes),
                                              atomic_load(&events->dropped), counter_read(&events->refused)};
}
