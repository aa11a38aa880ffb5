/* Threads that post events of webhooks to the webhook thread at the same time, and records that change meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/thread.h"
#include "config_fixture.h"
#include "harness.h"
#include "webhook/webhook_events.h"

#define THREADS 4
#define CHANNELS 3
#define EVENTS 5000 /* of each thread */

struct channel_state {
    pthread_mutex_t mutex;
    uint32_t number;
};

static struct webhook_thread *thread;
static struct webhook_outlet outlet;
static struct app *app;
static struct channel_state channels[CHANNELS];

/* Written on the webhook thread, read after it has ended. */
static uint32_t last_number[CHANNELS];
static uint64_t received, disordered;

static struct app *create_app(const char *secret) {
    const struct app_defaults defaults = {0};
    struct buffer text = {0};
    struct error error;
    struct app *made;
    json_t *json;

    buffer_appendf(&text,
                   "{\"id\":\"1\",\"key\":\"k\",\"secret\":\"%s\",\"webhooks\":[{\"url\":\"http://127.0.0.1:1/\","
                   "\"event_types\":[\"subscription_count\",\"channel_vacated\"],\"filter\":{\"channel_pattern\":"
                   "\"^[0-9]+$\"}}]}",
                   secret);
    json = json_loads(buffer_string(&text), 0, NULL);
    made = app_parse(json, &defaults, APP_FROM_CONFIGURATION, NULL, NULL, &error);
    assert_non_null(made);
    json_decref(json);
    buffer_dispose(&text);
    return made;
}

static void check_order(struct webhook_thread *webhook_thread, struct webhook_message *message) {
    struct webhook_event *event = container_of(message, struct webhook_event, message);
    unsigned channel = (unsigned)(event->details.channel.data[0] - '0');

    (void)webhook_thread;
    webhook_event_taken(event);
    received++;
    disordered += event->count <= last_number[channel];
    last_number[channel] = event->count;
    webhook_event_free(event);
}

static int set_up(void **state) {
    struct delivery *delivery;
    struct error error;

    config_fixture_enter(state);
    assert_true(config_fixture_load("c.json", "{}"));
    delivery = delivery_create(&config_fixture.config, false, &error);
    assert_non_null(delivery);
    thread = webhook_thread_create(delivery, &error);
    assert_non_null(thread);
    app = create_app("s");
    for (unsigned i = 0; i < CHANNELS; i++) {
        pthread_mutex_init(&channels[i].mutex, NULL);
        channels[i].number = last_number[i] = 0;
    }
    received = disordered = 0;
    return 0;
}

static int tear_down(void **state) {
    for (unsigned i = 0; i < CHANNELS; i++)
        pthread_mutex_destroy(&channels[i].mutex);
    app_unref(app);
    return config_fixture_leave(state);
}

static void *post_counts(void *context) {
    struct webhook_outlet *into = context;

    for (unsigned i = 0; i < EVENTS; i++) {
        struct channel_state *channel = &channels[i % CHANNELS];
        const char name[] = {(char)('0' + i % CHANNELS)};
        const struct webhook_details details = {.channel = {name, 1}};
        struct webhook_draft draft = {0};

        webhook_draft_begin(&draft, into, app, WEBHOOK_SUBSCRIPTION_COUNT, &details);
        pthread_mutex_lock(&channel->mutex);
        webhook_draft_post(&draft, ++channel->number);
        pthread_mutex_unlock(&channel->mutex);
        webhook_draft_end(&draft);
    }
    return NULL;
}

static void run_threads(void *(*run)(void *context), void *context) {
    pthread_t threads[THREADS];
    struct error error;

    for (unsigned i = 0; i < THREADS; i++)
        assert_true(thread_start(&threads[i], "poster", run, context, &error));
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void events_of_a_channel_arrive_in_the_order_in_which_they_happened(void **state) {
    struct error error;
    uint64_t posted;

    (void)state;
    outlet = (struct webhook_outlet){.thread = thread,
                                     .post = webhook_thread_post,
                                     .wake = webhook_thread_wake,
                                     .handle = check_order,
                                     .max_events = 1000,
                                     .max_bytes = 1000000,
                                     .max_app_events = SIZE_MAX,
                                     .max_app_bytes = SIZE_MAX};
    assert_true(webhook_thread_start(thread, &error));
    run_threads(post_counts, &outlet);
    webhook_thread_stop(thread, clock_monotonic_ms() + 1000);
    posted = (uint64_t)THREADS * EVENTS - atomic_load(&outlet.dropped);
    assert_int_equal(received, posted);
    assert_int_equal(disordered, 0);
    assert_int_equal(atomic_load(&outlet.events), 0);
    assert_int_equal(atomic_load(&outlet.bytes), 0);
    webhook_thread_destroy(thread);
}

/* --- with the real work of the thread --- */

static struct webhook_events *events;
static _Atomic(struct app *) in_force;

static void *leave_channels(void *context) {
    (void)context;
    for (unsigned i = 0; i < EVENTS / 10; i++) {
        struct webhook_draft draft = {0};
        const struct webhook_details details = {.channel = SLICE("7")};

        webhook_draft_make(&draft, webhook_events_outlet(events), atomic_load(&in_force),
                           i % 2 == 0 ? WEBHOOK_CHANNEL_VACATED : WEBHOOK_CHANNEL_OCCUPIED, &details);
        webhook_draft_post(&draft, 0);
        webhook_draft_end(&draft);
    }
    return NULL;
}

static void *replace_records(void *context) {
    struct app **records = context;

    for (unsigned i = 1; i < 20; i++) {
        records[i] = create_app(i % 2 == 0 ? "s" : "t");
        app_set_successor(records[i - 1], records[i]); /* as slot_replace_app does */
        atomic_store(&in_force, records[i]);
        webhook_events_app_replaced(events, records[i - 1], records[i]);
    }
    app_set_successor(records[19], NULL);
    webhook_events_app_replaced(events, records[19], NULL);
    return NULL;
}

static void records_change_while_events_are_posted_and_held(void **state) {
    struct app *records[20] = {app};
    struct error error;
    pthread_t replacer;

    (void)state;
    events = webhook_events_create(thread);
    atomic_store(&in_force, app);
    assert_true(webhook_thread_start(thread, &error));
    assert_true(thread_start(&replacer, "replacer", replace_records, records, &error));
    run_threads(leave_channels, NULL);
    pthread_join(replacer, NULL);
    assert_null(app_latest(app)); /* whatever was held belongs to a deleted app */
    webhook_thread_stop(thread, clock_monotonic_ms() + 1000);
    for (unsigned i = 1; i < 20; i++)
        app_unref(records[i]);
    webhook_thread_destroy(thread);
    webhook_events_destroy(events);
}

static void without_an_event_a_changed_record_costs_nothing(void **state) {
    struct app *next = create_app("t");
    uint64_t before;

    (void)state;
    events = webhook_events_create(thread);
    before = harness_allocations();
    webhook_events_app_replaced(events, app, next);
    webhook_events_app_replaced(events, NULL, next);
    assert_int_equal(harness_allocations(), before);
    app_unref(next);
    webhook_thread_destroy(thread);
    webhook_events_destroy(events);
}

static void post_occupied(struct app *of) {
    struct webhook_draft draft = {0};

    webhook_draft_make(&draft, webhook_events_outlet(events), of, WEBHOOK_CHANNEL_OCCUPIED,
                       &(struct webhook_details){.channel = SLICE("7")});
    webhook_draft_post(&draft, 0);
    webhook_draft_end(&draft);
}

/* The thread takes nothing here: it was not started. 100,000 is the bound for all apps: see docs/webhooks.md. */
static void a_flood_of_one_app_costs_another_no_event(void **state) {
    struct app *other = create_app("t");
    struct webhook_outlet *into;

    (void)state;
    events = webhook_events_create(thread);
    into = webhook_events_outlet(events);
    for (unsigned i = 0; i < 100001; i++)
        post_occupied(app);
    assert_int_equal(atomic_load(&into->events), 12500);
    assert_int_equal(atomic_load(&into->dropped), 87501);
    post_occupied(other);
    assert_int_equal(atomic_load(&into->events), 12501);
    assert_int_equal(atomic_load(&into->dropped), 87501);
    webhook_thread_destroy(thread);
    assert_int_equal(atomic_load(&into->events), 0);
    assert_int_equal(atomic_load(&app->waiting_events), 0);
    assert_int_equal(atomic_load(&app->waiting_bytes), 0);
    webhook_events_destroy(events);
    app_unref(other);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(events_of_a_channel_arrive_in_the_order_in_which_they_happened),
        TEST(records_change_while_events_are_posted_and_held),
        TEST(without_an_event_a_changed_record_costs_nothing),
        TEST(a_flood_of_one_app_costs_another_no_event),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
