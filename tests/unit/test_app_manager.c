/* The app manager: lookups, and what a reload of the configuration does to apps, slots and those who look meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app_manager/app_manager.h"
#include "app_manager/memory_index.h"
#include "base/hash.h"
#include "base/log.h"
#include "config/config.h"
#include "harness.h"
#include "net/worker_loop.h"

static struct workers workers;
static struct app_manager *manager;
static struct app_changes changes;
static struct app_lookup lookup;
static struct error error;
static unsigned told[WORKERS_MAX]; /* how often each worker heard of a change */
static struct buffer replacements;

static void no_channels(void *channels) {
    (void)channels;
    fail_msg("no slot of this test has channels");
}

static void changed(struct worker *worker, void *context) {
    (void)context;
    told[worker->index]++;
}

/* Writes down a change of a record: "a 1>2" for max_connections, 0 for none. */
static void replaced(struct app *before, struct app *after, void *context) {
    const struct app *known = after != NULL ? after : before;

    (void)context;
    buffer_appendf(&replacements, "%s %u>%u\n", known->id.data, before != NULL ? before->max_connections : 0,
                   after != NULL ? after->max_connections : 0);
}

static bool always_empty(void *channels) {
    (void)channels;
    return true;
}

static const struct app_manager_hooks hooks = {
    .changed = changed, .replaced = replaced, .free_channels = no_channels, .channels_empty = always_empty};

static struct config config_of(json_t *apps) {
    struct config config = {0};

    assert_non_null(apps);
    config.app_manager.array_apps = apps;
    return config;
}

static void open_with(const char *apps) {
    struct config config = config_of(json_loads(apps, 0, NULL));

    manager = app_manager_create(&config, &workers, &hooks, &error);
    json_decref(config.app_manager.array_apps);
    if (manager == NULL)
        fail_msg("%s", error.text);
}

/* Reloads without letting the workers have a turn. */
static void reload_only(const char *apps) {
    struct config config = config_of(json_loads(apps, 0, NULL));

    assert_true(app_manager_reload(manager, &config, &changes, &error));
    json_decref(config.app_manager.array_apps);
}

static void reload(const char *apps, unsigned added, unsigned modified, unsigned removed) {
    reload_only(apps);
    for (unsigned i = 0; i < workers.count; i++)
        harness_settle(workers.list[i]);
    if (changes.added != added || changes.changed != modified || changes.removed != removed)
        fail_msg("%u added, %u changed, %u removed", changes.added, changes.changed, changes.removed);
}

static enum app_answer by_key(const char *key) {
    lookup = (struct app_lookup){0};
    return app_manager_find_by_key(manager, workers.list[0], slice_of(key), &lookup);
}

static enum app_answer by_id(const char *id) {
    lookup = (struct app_lookup){0};
    return app_manager_find_by_id(manager, workers.list[0], slice_of(id), &lookup);
}

static void count_slot(struct app_slot *slot, void *context) {
    assert_non_null(slot);
    ++*(unsigned *)context;
}

static unsigned slot_count(void) {
    unsigned count = 0;

    app_manager_each_slot(manager, count_slot, &count);
    return count;
}

static int set_up(void **state) {
    const struct log_settings quiet = {.level = LOG_ERROR};

    (void)state;
    log_configure(&quiet);
    harness_create(&workers, 3);
    manager = NULL;
    memset(told, 0, sizeof told);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    for (unsigned i = 0; i < workers.count; i++)
        harness_settle(workers.list[i]);
    if (manager != NULL)
        app_manager_destroy(manager);
    harness_destroy(&workers);
    buffer_dispose(&replacements);
    return 0;
}

#define A1 "{\"id\":\"a\",\"key\":\"ka\",\"secret\":\"s\",\"max_connections\":1}"
#define A2 "{\"id\":\"a\",\"key\":\"ka\",\"secret\":\"s\",\"max_connections\":2}"
#define A_OTHER_KEY "{\"id\":\"a\",\"key\":\"other\",\"secret\":\"s\",\"max_connections\":1}"
#define A_BROKEN "{\"id\":\"a\",\"key\":\"ka\",\"secret\":\"s\",\"max_connections\":\"many\"}"
#define A_BROKEN_WITHOUT_KEY "{\"id\":\"a\",\"secret\":\"s\"}"
#define B1 "{\"id\":\"b\",\"key\":\"kb\",\"secret\":\"s\",\"enabled\":false}"

/* --- looking --- */

static void apps_are_found_by_id_and_by_key(void **state) {
    struct app_slot *slot;

    (void)state;
    open_with("[" A1 "," B1 "]");
    assert_int_equal(by_key("ka"), APP_FOUND);
    assert_int_equal(lookup.answer, APP_FOUND);
    assert_int_equal(lookup.app->max_connections, 1);
    assert_string_equal(lookup.slot->id, "a");
    slot = lookup.slot;
    assert_int_equal(by_id("a"), APP_FOUND);
    assert_ptr_equal(lookup.slot, slot);
    assert_ptr_equal(lookup.app, slot_app(slot));
    assert_int_equal(by_key("kb"), APP_FOUND); /* a disabled app is there */
    assert_false(lookup.app->enabled);
    assert_int_equal(by_key("a"), APP_NOT_FOUND);
    assert_int_equal(by_id("ka"), APP_NOT_FOUND);
    assert_int_equal(by_id(""), APP_NOT_FOUND);
    assert_int_equal(lookup.answer, APP_NOT_FOUND);
    assert_true(app_manager_has_apps(manager));
    assert_int_equal(slot_count(), 2);
}

static void a_broken_record_is_there_but_invalid(void **state) {
    (void)state;
    open_with("[" A_BROKEN "," B1 "]");
    assert_int_equal(by_id("a"), APP_INVALID);
    assert_non_null(strstr(lookup.reason, "max_connections"));
    assert_int_equal(by_key("ka"), APP_INVALID);
    assert_int_equal(by_id("b"), APP_FOUND);
    reload("[" A_BROKEN_WITHOUT_KEY "," B1 "]", 0, 0, 0);
    assert_int_equal(by_id("a"), APP_INVALID);
    assert_int_equal(by_key("ka"), APP_NOT_FOUND);
    reload("[" A1 "," B1 "]", 1, 0, 0);
    assert_int_equal(by_key("ka"), APP_FOUND);
}

static void of_a_key_that_two_apps_have_the_first_counts(void **state) {
    (void)state;
    open_with(
        "[{\"id\":\"2\",\"key\":\"k\",\"secret\":\"s\"},{\"id\":\"1\",\"key\":\"k\",\"secret\":\"s\"},"
        "{\"id\":\"1\",\"key\":\"twice\",\"secret\":\"s\"}]");
    assert_int_equal(by_key("k"), APP_FOUND);
    assert_string_equal(lookup.slot->id, "1"); /* the first by id */
    assert_int_equal(by_id("2"), APP_FOUND);
    assert_int_equal(by_key("twice"), APP_NOT_FOUND);
    reload("[{\"id\":\"2\",\"key\":\"k\",\"secret\":\"s\"}]", 0, 0, 1);
    assert_int_equal(by_key("k"), APP_FOUND);
    assert_string_equal(lookup.slot->id, "2");
}

static void without_apps_nothing_is_found(void **state) {
    (void)state;
    open_with("[]");
    assert_false(app_manager_has_apps(manager));
    assert_int_equal(by_id("a"), APP_NOT_FOUND);
    assert_int_equal(by_key(""), APP_NOT_FOUND);
    reload("[" A1 "]", 1, 0, 0);
    assert_true(app_manager_has_apps(manager));
    reload("[]", 0, 0, 1);
    assert_false(app_manager_has_apps(manager));
}

static void each_record_that_a_reload_replaces_is_told_once(void **state) {
    (void)state;
    open_with("[" A1 "]");
    assert_int_equal(replacements.length, 0); /* at the start nothing was there before */
    reload("[" A2 "," B1 "]", 1, 1, 0);
    reload("[" A2 "]", 0, 0, 1);
    reload("[" A2 "]", 0, 0, 0);
    reload("[" A_BROKEN "]", 0, 0, 0);
    assert_string_equal(buffer_string(&replacements), "a 1>2\nb 0>100\nb 100>0\n");
}

static void records_without_an_id_are_left_out(void **state) {
    struct buffer apps = {0};

    (void)state;
    buffer_append_byte(&apps, '[');
    for (unsigned i = 0; i < 1100; i++) /* more than one page of the store */
        buffer_append(&apps, SLICE("{\"key\":\"k\"},"));
    buffer_append(&apps, SLICE(A1 "]"));
    buffer_append_byte(&apps, '\0');
    open_with(apps.data);
    assert_int_equal(by_id("a"), APP_FOUND);
    assert_int_equal(by_id(""), APP_NOT_FOUND);
    assert_int_equal(slot_count(), 1);
    buffer_dispose(&apps);
}

/* --- reloading --- */

static void a_changed_record_is_in_force_at_once_in_the_same_slot(void **state) {
    struct app_slot *slot;

    (void)state;
    open_with("[" A1 "]");
    by_id("a");
    slot = lookup.slot;
    reload("[" A2 "]", 0, 1, 0);
    assert_int_equal(slot_app(slot)->max_connections, 2);
    assert_int_equal(by_key("ka"), APP_FOUND);
    assert_ptr_equal(lookup.slot, slot);
    reload("[" A_OTHER_KEY "]", 0, 1, 0);
    assert_int_equal(by_key("ka"), APP_NOT_FOUND);
    assert_int_equal(by_key("other"), APP_FOUND);
    assert_ptr_equal(lookup.slot, slot);
    assert_int_equal(slot_count(), 1);
}

static void what_did_not_change_keeps_its_record(void **state) {
    const struct app *app;

    (void)state;
    open_with("[" A1 "," B1 "]");
    by_id("a");
    app = lookup.app;
    reload("[" B1 ", " A1 "]", 0, 0, 0);
    by_id("a");
    assert_ptr_equal(lookup.app, app);
}

static void an_app_that_goes_and_comes_back_finds_its_slot(void **state) {
    struct app_slot *slot;

    (void)state;
    open_with("[" A1 "," B1 "]");
    by_id("a");
    slot = lookup.slot;
    assert_true(slot_connection_enter(slot, 1));
    reload("[" B1 "]", 0, 0, 1);
    assert_int_equal(by_id("a"), APP_NOT_FOUND);
    assert_int_equal(by_key("ka"), APP_NOT_FOUND);
    assert_null(slot_app(slot));
    assert_int_equal(slot_count(), 2); /* for its connections and its metrics */
    reload("[" B1 "]", 0, 0, 0);
    reload("[" A2 "," B1 "]", 1, 0, 0);
    assert_int_equal(by_key("ka"), APP_FOUND);
    assert_ptr_equal(lookup.slot, slot);
    assert_false(slot_connection_enter(slot, 1)); /* the connections count on */
    slot_connection_leave(slot);
    assert_int_equal(slot_count(), 2);
}

static void a_record_that_breaks_leaves_the_last_valid_one_in_force(void **state) {
    static const char *const broken[] = {"[" A_BROKEN "," B1 "]", "[" A_BROKEN_WITHOUT_KEY "," B1 "]"};

    (void)state;
    open_with("[" A1 "," B1 "]");
    for (size_t i = 0; i < 2; i++) {
        reload(broken[i], 0, 0, 0);
        assert_int_equal(by_id("a"), APP_FOUND);
        assert_int_equal(by_key("ka"), APP_FOUND);
        assert_int_equal(lookup.app->max_connections, 1);
    }
    reload("[" A2 "," B1 "]", 0, 1, 0);
    by_key("ka");
    assert_int_equal(lookup.app->max_connections, 2);
}

static void a_key_moves_from_one_app_to_another(void **state) {
    (void)state;
    open_with("[" A1 "]");
    reload("[{\"id\":\"c\",\"key\":\"ka\",\"secret\":\"s\"}]", 1, 0, 1);
    assert_int_equal(by_key("ka"), APP_FOUND);
    assert_string_equal(lookup.slot->id, "c");
    assert_int_equal(by_id("a"), APP_NOT_FOUND);
}

/* A worker may be in the middle of a turn in which it has looked at the record: its memory must stay. */
static void a_replaced_record_lives_until_every_worker_has_ended_its_turn(void **state) {
    const struct app *app;

    (void)state;
    open_with("[" A1 "]");
    by_id("a");
    app = lookup.app;
    reload_only("[" A2 "]");
    assert_int_equal(slot_app(lookup.slot)->max_connections, 2);
    assert_int_equal(app->max_connections, 1);
    harness_settle(workers.list[0]);
    harness_settle(workers.list[1]);
    assert_int_equal(app->max_connections, 1);
    assert_int_equal(told[2], 0);
    harness_settle(workers.list[2]);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(told[i], 1); /* each heard of it once */
}

static void several_reloads_before_a_turn_free_everything(void **state) {
    (void)state;
    open_with("[" A1 "]");
    reload_only("[" A2 "]");
    reload_only("[]");
    reload_only("[" A1 "," B1 "]");
    for (unsigned i = 0; i < 3; i++) {
        harness_settle(workers.list[i]);
        assert_int_equal(told[i], 3);
    }
    assert_int_equal(by_key("ka"), APP_FOUND);
}

/* --- many --- */

#define MANY 30000

/* `count` apps with limits of `limit`, the last one first: the worst order for a list that is kept sorted. */
static json_t *many_apps(unsigned count, unsigned limit) {
    json_t *apps = json_array();

    for (unsigned i = count; i-- != 0;) {
        char id[16], key[16];
        snprintf(id, sizeof id, "app-%06u", i);
        snprintf(key, sizeof key, "key-%06u", i);
        json_array_append_new(apps, json_pack("{s:s, s:s, s:s, s:i}", "id", id, "key", key, "secret", "s",
                                              "max_connections", (int)limit));
    }
    return apps;
}

/* With work that grows with the square of their number this test would not end in time. */
static void tens_of_thousands_of_apps_are_loaded_and_reloaded(void **state) {
    struct config config = config_of(many_apps(MANY, 1));

    (void)state;
    manager = app_manager_create(&config, &workers, &hooks, &error);
    assert_non_null(manager);
    json_decref(config.app_manager.array_apps);
    for (unsigned i = 0; i < MANY; i += 7) {
        char text[16];
        snprintf(text, sizeof text, "app-%06u", i);
        assert_int_equal(by_id(text), APP_FOUND);
        memcpy(text, "key", 3);
        assert_int_equal(by_key(text), APP_FOUND);
        assert_int_equal(lookup.app->max_connections, 1);
    }
    config = config_of(many_apps(MANY / 2, 2));
    assert_true(app_manager_reload(manager, &config, &changes, &error));
    json_decref(config.app_manager.array_apps);
    assert_int_equal(changes.changed, MANY / 2);
    assert_int_equal(changes.removed, MANY / 2);
    assert_int_equal(by_id("app-000000"), APP_FOUND);
    assert_int_equal(by_id("app-029999"), APP_NOT_FOUND);
}

/* --- lookups while apps change --- */

#define READERS 3
#define LOOKUPS 30000

struct reader {
    struct message message;
    unsigned left, found, wrong;
    uint64_t seed;
};

static sem_t readers_done;

static void look(struct worker *worker, struct message *message, struct message **rest) {
    struct reader *reader = container_of(message, struct reader, message);

    (void)rest;
    for (unsigned i = 0; i < 20 && reader->left != 0; i++, reader->left--) {
        struct app_lookup own = {0};
        char key[16];
        unsigned limit;

        snprintf(key, sizeof key, "key-%06u", harness_random(&reader->seed, 300));
        if (app_manager_find_by_key(manager, worker, slice_of(key), &own) != APP_FOUND)
            continue;
        reader->found++;
        limit = own.app->max_connections;
        reader->wrong += limit < 1 || limit > 20 || !slice_equal(own.app->key, slice_of(key));
        slot_refused(own.slot, worker, REFUSED_MESSAGE);
    }
    if (reader->left != 0)
        worker_post(worker, &reader->message);
    else
        sem_post(&readers_done);
}

static void stop_worker(struct worker *worker, void *context) {
    (void)context;
    worker_stop(worker);
}

static void lookups_go_on_while_apps_change(void **state) {
    struct reader readers[READERS] = {0};
    struct config config = config_of(many_apps(300, 1));

    (void)state;
    manager = app_manager_create(&config, &workers, &hooks, &error);
    assert_non_null(manager);
    json_decref(config.app_manager.array_apps);
    assert_int_equal(sem_init(&readers_done, 0, 0), 0);
    assert_true(workers_start(&workers, &error));
    for (unsigned i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.message.handle = look, .left = LOOKUPS, .seed = i};
        worker_post(workers.list[i], &readers[i].message);
    }
    for (unsigned i = 0; i < 40; i++) {
        config = config_of(many_apps(i % 3 == 0 ? 100 : 300, 1 + i % 20));
        assert_true(app_manager_reload(manager, &config, &changes, &error));
        json_decref(config.app_manager.array_apps);
    }
    for (unsigned i = 0; i < READERS; i++)
        while (sem_wait(&readers_done) != 0)
            continue;
    workers_run_on_all(&workers, &(struct worker_task){.run = stop_worker});
    workers_join(&workers);
    for (unsigned i = 0; i < READERS; i++) {
        assert_true(readers[i].found > 0);
        assert_int_equal(readers[i].wrong, 0);
    }
    sem_destroy(&readers_done);
}

/* --- the parts below --- */

static void an_index_has_room_for_what_it_was_made_for(void **state) {
    struct app_index *index = app_index_create(1000);
    const struct app_index_entry *entry;
    char text[16];

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "%u", i);
        assert_true(app_index_add(&index->by_id, slice_of(text), NULL, i % 2 == 0 ? "why" : NULL));
        assert_false(app_index_add(&index->by_id, slice_of(text), NULL, "twice"));
    }
    assert_int_equal(index->by_id.count, 1000);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "%u", i);
        entry = app_index_find(&index->by_id, slice_of(text));
        assert_non_null(entry);
        assert_int_equal(entry->broken != NULL, i % 2 == 0);
    }
    assert_null(app_index_find(&index->by_id, SLICE("1000")));
    assert_null(app_index_find(&index->by_key, SLICE("1")));
    assert_true(app_index_add(&index->by_key, SLICE(""), NULL, NULL));
    assert_non_null(app_index_find(&index->by_key, SLICE("")));
    app_index_destroy(index);
    app_index_destroy(NULL);
}

static void a_slot_takes_as_many_connections_as_are_allowed(void **state) {
    struct app_slot *slot = app_slot_create(SLICE("a"), 3);

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        assert_true(slot_connection_enter(slot, 5));
    assert_false(slot_connection_enter(slot, 5));
    assert_true(slot_connection_enter(slot, 0)); /* no limit */
    assert_false(slot_connection_enter(slot, 6));
    assert_true(slot_connection_enter(slot, 7)); /* the limit was raised */
    for (unsigned i = 0; i < 7; i++)
        slot_connection_leave(slot);
    assert_int_equal(atomic_load(&slot->connections), 0);
    assert_ptr_equal(slot_part(slot, workers.list[1]), slot_part(slot, workers.list[1]));
    assert_ptr_not_equal(slot_part(slot, workers.list[1]), slot_part(slot, workers.list[2]));
    for (unsigned i = 0; i < REFUSAL_COUNT; i++)
        assert_non_null(refusal_names[i]);
    for (unsigned i = 0; i < CONNECTION_ERROR_COUNT; i++)
        assert_non_null(connection_error_names[i]);
    for (unsigned i = 0; i < CHANNEL_LABEL_COUNT; i++)
        assert_non_null(channel_label_names[i]);
    app_slot_destroy(slot, no_channels);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static void reload_meanwhile(struct app_slot *slot, void *context) {
    const struct app *record = slot_app(slot);

    (void)context;
    reload("[" A2 "]", 0, 1, 0);
    assert_int_equal(record->max_connections, 1);
    assert_int_equal(slot_app(slot)->max_connections, 2);
}

static void a_record_stays_for_a_thread_that_reads_all_slots(void **state) {
    (void)state;
    open_with("[" A1 "]");
    app_manager_each_slot(manager, reload_meanwhile, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(apps_are_found_by_id_and_by_key),
        TEST(a_broken_record_is_there_but_invalid),
        TEST(of_a_key_that_two_apps_have_the_first_counts),
        TEST(without_apps_nothing_is_found),
        TEST(each_record_that_a_reload_replaces_is_told_once),
        TEST(records_without_an_id_are_left_out),
        TEST(a_changed_record_is_in_force_at_once_in_the_same_slot),
        TEST(what_did_not_change_keeps_its_record),
        TEST(an_app_that_goes_and_comes_back_finds_its_slot),
        TEST(a_record_that_breaks_leaves_the_last_valid_one_in_force),
        TEST(a_key_moves_from_one_app_to_another),
        TEST(a_replaced_record_lives_until_every_worker_has_ended_its_turn),
        TEST(several_reloads_before_a_turn_free_everything),
        TEST(tens_of_thousands_of_apps_are_loaded_and_reloaded),
        TEST(lookups_go_on_while_apps_change),
        TEST(an_index_has_room_for_what_it_was_made_for),
        TEST(a_slot_takes_as_many_connections_as_are_allowed),
        TEST(a_record_stays_for_a_thread_that_reads_all_slots),
    };
    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
