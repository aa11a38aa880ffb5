/* The cache in front of a store: who asks, what is asked, and what is served while the store cannot be. The store is
 * SQLite; another handle on its file plays the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app_manager/app_manager.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "config/config.h"
#include "harness.h"
#include "net/workers.h"
#include "store/sqlite/sqlite_sleep.h"

#define WORKERS 2
#define PATIENCE_MS 20000

static char folder[64], database_path[96], config_path[96];
static struct config config;
static struct workers workers;
static struct app_manager *manager;
static struct error error;
static sqlite3 *others;
static unsigned told[WORKERS_MAX], answered;

static void changed(struct worker *worker, void *context) {
    (void)context;
    told[worker->index]++;
}

static void no_channels(void *channels) {
    (void)channels;
    fail_msg("no slot of this test has channels");
}

static bool always_empty(void *channels) {
    (void)channels;
    return true;
}

static const struct app_manager_hooks hooks = {
    .changed = changed, .free_channels = no_channels, .channels_empty = always_empty};

/* --- the others --- */

static void others_run(const char *sql) {
    char *text = NULL;

    if (sqlite3_exec(others, sql, NULL, NULL, &text) != SQLITE_OK)
        fail_msg("%s: %s", sql, text);
}

static void others_insert(const char *id, const char *key, const char *max_connections) {
    char sql[512];

    snprintf(sql, sizeof sql,
             "INSERT INTO applications (id, key, secret, enabled, enable_client_messages, max_connections, "
             "max_client_events_per_second) VALUES ('%s', '%s', 's', 1, 0, %s, 10)",
             id, key, max_connections);
    others_run(sql);
}

/* --- a disk that hangs, as one on a network does: whoever wants to read waits in the kernel --- */

static pthread_mutex_t disk = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t disk_answers = PTHREAD_COND_INITIALIZER;
static bool disk_hangs;
static unsigned hanging; /* threads */
static int (*open_really)(sqlite3_vfs *, sqlite3_filename, sqlite3_file *, int, int *);
static sqlite3_io_methods real_methods, hanging_methods;

static void let_disk_hang(bool hangs) {
    pthread_mutex_lock(&disk);
    disk_hangs = hangs;
    hanging = 0;
    pthread_cond_broadcast(&disk_answers);
    pthread_mutex_unlock(&disk);
}

static int lock_to_read(sqlite3_file *file, int offset, int count, int flags) {
    pthread_mutex_lock(&disk);
    hanging += disk_hangs;
    pthread_cond_broadcast(&disk_answers);
    while (disk_hangs)
        pthread_cond_wait(&disk_answers, &disk);
    pthread_mutex_unlock(&disk);
    return real_methods.xShmLock(file, offset, count, flags);
}

static void await_hanging(void) {
    pthread_mutex_lock(&disk);
    while (hanging == 0)
        pthread_cond_wait(&disk_answers, &disk);
    pthread_mutex_unlock(&disk);
}

static int open_file(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags, int *flags_then) {
    int code = open_really(vfs, name, file, flags, flags_then);

    if (code != SQLITE_OK || (flags & SQLITE_OPEN_MAIN_DB) == 0)
        return code;
    pthread_mutex_lock(&disk);
    if (real_methods.xShmLock == NULL) {
        real_methods = hanging_methods = *file->pMethods;
        hanging_methods.xShmLock = lock_to_read;
    }
    file->pMethods = &hanging_methods;
    pthread_mutex_unlock(&disk);
    return code;
}

static void use_hanging_disk(void) {
    sqlite3_vfs *vfs = sqlite3_vfs_find(sqlite_sleep_vfs());

    open_really = vfs->xOpen;
    vfs->xOpen = open_file;
}

static void use_real_disk(void) {
    if (open_really != NULL)
        sqlite3_vfs_find(sqlite_sleep_vfs())->xOpen = open_really;
    open_really = NULL;
}

/* --- the manager --- */

static void open_with(const char *cache, unsigned timeout_ms) {
    struct config_report report = {0};
    FILE *file = fopen(config_path, "w");

    assert_non_null(file);
    fprintf(file,
            "{\"app_manager\":{\"driver\":\"sqlite\",\"lookup_timeout_ms\":%u,\"cache\":{%s}},"
            "\"database\":{\"sqlite\":{\"path\":\"%s\"}}}",
            timeout_ms, cache, database_path);
    fclose(file);
    if (!config_load(&config, config_path, &report, &error))
        fail_msg("%s", error.text);
    config_report_dispose(&report);
    manager = app_manager_create(&config, &workers, &hooks, &error);
    if (manager == NULL)
        fail_msg("%s", error.text);
    if (!app_manager_start(manager, &error))
        fail_msg("%s", error.text);
}

/* Lets the workers run until `count` lookups were answered later than at once. */
static void await_answers(unsigned count) {
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;

    while (answered < count) {
        struct pollfd polled[WORKERS];
        bool nothing = true;
        for (unsigned i = 0; i < WORKERS; i++) {
            struct mailbox *mailbox = &workers.list[i]->mailbox;
            harness_settle(workers.list[i]);
            nothing = mailbox_sleep(mailbox) && nothing;
            polled[i] = (struct pollfd){.fd = mailbox->event_fd, .events = POLLIN};
        }
        if (clock_monotonic_ms() > end_ms)
            fail_msg("%u of %u answers came", answered, count);
        if (nothing && answered < count)
            poll(polled, WORKERS, PATIENCE_MS);
        for (unsigned i = 0; i < WORKERS; i++) {
            mailbox_awake(&workers.list[i]->mailbox);
            mailbox_clear(&workers.list[i]->mailbox);
        }
    }
}

static void settle(void) {
    for (unsigned i = 0; i < WORKERS; i++) {
        workers.list[i]->now_ms = clock_monotonic_ms();
        harness_settle(workers.list[i]);
    }
}

/* Of the last answer: a record and a reason are good for a turn only. */
static char reason[512];
static unsigned limit;

static void note(struct app_lookup *lookup) {
    if (lookup->answer == APP_INVALID)
        snprintf(reason, sizeof reason, "%s", lookup->reason);
    if (lookup->answer == APP_FOUND)
        limit = lookup->app->max_connections;
}

static void done(struct app_lookup *lookup) {
    note(lookup);
    answered++;
}

static enum app_answer start(struct app_lookup *lookup, unsigned worker, bool by_key, const char *name) {
    *lookup = (struct app_lookup){.done = done};
    workers.list[worker]->now_ms = clock_monotonic_ms();
    (by_key ? app_manager_find_by_key : app_manager_find_by_id)(manager, workers.list[worker], slice_of(name), lookup);
    note(lookup);
    return lookup->answer;
}

static struct app_lookup last;

static enum app_answer ask(bool by_key, const char *name) {
    unsigned before = answered;

    if (start(&last, 0, by_key, name) == APP_PENDING)
        await_answers(before + 1);
    return last.answer;
}

static enum app_answer by_key(const char *key) {
    return ask(true, key);
}

static enum app_answer by_id(const char *id) {
    return ask(false, id);
}

static struct app_lookup_stats counts(void) {
    struct app_lookup_stats result;
    struct store_pool_stats status;

    assert_true(app_manager_read_stats(manager, &result, &status));
    return result;
}

static uint64_t queries(void) {
    struct app_lookup_stats ignored;
    struct store_pool_stats status;
    uint64_t sum = 0;

    assert_true(app_manager_read_stats(manager, &ignored, &status));
    for (unsigned i = 0; i < STORE_LATENCY_BUCKETS; i++)
        sum += status.latency[i];
    return sum;
}

/* Asks again and again until the answer is this; for what comes about by a refresh. */
static void until(bool by_key_, const char *name, enum app_answer answer, unsigned max_connections) {
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;

    for (;;) {
        if (ask(by_key_, name) == answer && (answer != APP_FOUND || limit == max_connections))
            return;
        if (clock_monotonic_ms() > end_ms)
            fail_msg("%s: the answer stays %d", name, last.answer);
        poll(NULL, 0, 2);
        settle();
    }
}

static int set_up(void **state) {
    const struct log_settings quiet = {.level = LOG_ERROR + 1};

    (void)state;
    log_configure(&quiet);
    snprintf(folder, sizeof folder, "/tmp/curlew-cache-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(database_path, sizeof database_path, "%s/apps.db", folder);
    snprintf(config_path, sizeof config_path, "%s/config.json", folder);
    harness_create(&workers, WORKERS);
    manager = NULL;
    answered = 0;
    memset(told, 0, sizeof told);
    assert_int_equal(sqlite3_open(database_path, &others), SQLITE_OK);
    sqlite3_busy_timeout(others, PATIENCE_MS);
    others_run("PRAGMA journal_mode = WAL");
    others_run(
        "CREATE TABLE applications (id TEXT PRIMARY KEY, key TEXT UNIQUE NOT NULL, secret TEXT NOT NULL, "
        "max_connections INTEGER NOT NULL, max_client_events_per_second INTEGER NOT NULL, "
        "enable_client_messages BOOLEAN NOT NULL, enabled BOOLEAN NOT NULL)");
    others_insert("a", "ka", "1");
    return 0;
}

static int tear_down(void **state) {
    char command[128];

    (void)state;
    let_disk_hang(false);
    if (manager != NULL) {
        app_manager_stop(manager);
        workers_settle(&workers);
        app_manager_destroy(manager);
        config_dispose(&config);
    }
    use_real_disk();
    harness_destroy(&workers);
    sqlite3_close(others);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* --- looking up --- */

static void a_record_that_was_found_by_key_is_there_at_once_by_key_and_by_id(void **state) {
    (void)state;
    open_with("", 5000);
    assert_int_equal(by_key("ka"), APP_FOUND);
    assert_int_equal(limit, 1);
    assert_string_equal(last.slot->id, "a");
    assert_int_equal(answered, 1);
    /* When the watch begins, idle records are to be read once more. */
    for (unsigned round = 1, known = 0; known == 0; round++) {
        uint64_t before = queries(), hits = counts().hits;
        assert_int_equal(by_key("ka"), APP_FOUND);
        assert_int_equal(by_id("a"), APP_FOUND);
        known = queries() == before && counts().hits == hits + 2;
        assert_true(round < 5);
    }
    assert_true(counts().misses <= 5);
}

static void a_hit_allocates_nothing(void **state) {
    uint64_t before = harness_allocations(), asked;

    (void)state;
    open_with("", 5000);
    assert_true(harness_allocations() > before);
    do { /* when the watch begins, the record is to be read once more */
        asked = queries();
        before = harness_allocations();
        for (unsigned i = 0; i < 100; i++) {
            assert_int_equal(by_key("ka"), APP_FOUND);
            assert_int_equal(by_id("a"), APP_FOUND);
        }
    } while (queries() != asked);
    assert_int_equal(harness_allocations(), before);
}

static void a_thousand_who_ask_at_once_cost_one_query_on_all_workers(void **state) {
    struct app_lookup *lookups = alloc_array(NULL, 1000, sizeof *lookups);

    (void)state;
    others_run("BEGIN EXCLUSIVE"); /* WAL: readers go on, but the first connection prepares, and waits */
    open_with("", 20000);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(start(&lookups[i], i % WORKERS, true, "ka"), APP_PENDING);
    others_run("COMMIT");
    await_answers(1000);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(lookups[i].answer, APP_FOUND);
        assert_ptr_equal(lookups[i].slot, lookups[0].slot);
    }
    assert_true(queries() <= 2); /* once more if the watch began meanwhile */
    free(lookups);
}

static void who_went_away_is_not_answered(void **state) {
    struct app_lookup gone, stays;

    (void)state;
    others_run("BEGIN EXCLUSIVE");
    open_with("", 20000);
    assert_int_equal(start(&gone, 0, true, "ka"), APP_PENDING);
    assert_int_equal(start(&stays, 0, true, "ka"), APP_PENDING);
    app_manager_cancel(manager, &gone);
    others_run("COMMIT");
    await_answers(1);
    assert_int_equal(stays.answer, APP_FOUND);
    assert_int_equal(gone.answer, APP_PENDING);
    assert_int_equal(answered, 1);
}

static void a_name_that_is_not_there_is_asked_for_once_in_its_time(void **state) {
    uint64_t asked;

    (void)state;
    open_with("\"negative_ttl\":3600", 5000);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(by_key("nobody"), APP_NOT_FOUND);
        assert_int_equal(by_id("nobody"), APP_NOT_FOUND);
    }
    assert_in_range(queries(), 2, 6); /* what was known is forgotten when the watch begins */
    assert_in_range(counts().negatives, 34, 38);
    asked = queries();
    assert_int_equal(by_key("with blank"), APP_NOT_FOUND); /* no app can have it */
    assert_int_equal(by_key(""), APP_NOT_FOUND);
    assert_int_equal(queries(), asked);
}

static void names_that_are_not_there_take_a_bounded_space(void **state) {
    char name[32];

    (void)state;
    open_with("\"negative_ttl\":3600", 5000);
    assert_int_equal(by_key("ka"), APP_FOUND);
    /* At its first look at the file the watch may forget them all once. */
    for (unsigned i = 0, full = 0; full < 500; i++) {
        snprintf(name, sizeof name, "made-up-%u", i);
        assert_int_equal(by_key(name), APP_NOT_FOUND);
        assert_true(counts().negative_entries <= 10000);
        full += counts().negative_entries == 10000;
        assert_true(i < 25000);
    }
    assert_int_equal(counts().entries, 1);
    assert_int_equal(by_key("ka"), APP_FOUND);
}

static void a_broken_record_is_invalid_with_its_field_until_it_is_repaired(void **state) {
    (void)state;
    others_insert("b", "kb", "'many'");
    open_with("\"negative_ttl\":1", 5000);
    assert_int_equal(by_key("kb"), APP_INVALID);
    assert_non_null(strstr(reason, "max_connections"));
    assert_int_equal(by_id("b"), APP_INVALID);
    assert_int_equal(by_id("a"), APP_FOUND);
    others_run("UPDATE applications SET max_connections = 5 WHERE id = 'b'");
    until(true, "kb", APP_FOUND, 5);
}

static void a_record_that_breaks_leaves_the_last_valid_one_in_force(void **state) {
    (void)state;
    open_with("\"ttl\":1", 5000);
    assert_int_equal(by_key("ka"), APP_FOUND);
    others_run("UPDATE applications SET max_connections = 'many' WHERE id = 'a'");
    others_insert("fence", "kfence", "2");
    until(true, "kfence", APP_FOUND, 2);
    for (uint64_t end_ms = clock_monotonic_ms() + 1500; clock_monotonic_ms() < end_ms; poll(NULL, 0, 20)) {
        assert_int_equal(by_key("ka"), APP_FOUND); /* past its time, and past a refresh */
        assert_int_equal(limit, 1);
    }
    assert_int_equal(counts().broken, 1);
    others_run("UPDATE applications SET max_connections = 6 WHERE id = 'a'");
    until(true, "ka", APP_FOUND, 6);
    assert_int_equal(counts().broken, 0);
    others_run("UPDATE applications SET max_connections = 'many' WHERE id = 'a'");
    while (counts().broken == 0)
        by_key("ka");
    others_run("DELETE FROM applications WHERE id = 'a'");
    until(true, "ka", APP_NOT_FOUND, 0);
    until(false, "a", APP_NOT_FOUND, 0);
    assert_int_equal(counts().broken, 0);
}

/* --- a store that fails --- */

/* A folder takes the file's place, or leaves it, in one step: a file that somebody makes there meanwhile is another. */
static void exchange_file_and_folder(const char *hidden) {
    assert_int_equal(renameat2(AT_FDCWD, database_path, AT_FDCWD, hidden, RENAME_EXCHANGE), 0);
}

static void lose_the_store(void) {
    char hidden[128];

    snprintf(hidden, sizeof hidden, "%s.hidden", database_path);
    assert_int_equal(mkdir(hidden, 0700), 0);
    exchange_file_and_folder(hidden);
}

static void bring_it_back(void) {
    char hidden[128];

    snprintf(hidden, sizeof hidden, "%s.hidden", database_path);
    exchange_file_and_folder(hidden);
    assert_int_equal(rmdir(hidden), 0);
}

static void without_the_store_known_apps_are_served_and_unknown_ones_unavailable(void **state) {
    (void)state;
    open_with("\"ttl\":1,\"negative_ttl\":0", 1000);
    assert_int_equal(by_key("ka"), APP_FOUND);
    assert_int_equal(app_manager_health(manager), APP_HEALTH_OK);
    lose_the_store();
    for (uint64_t end_ms = clock_monotonic_ms() + 2500; clock_monotonic_ms() < end_ms; poll(NULL, 0, 20)) {
        assert_int_equal(by_key("ka"), APP_FOUND);
        assert_int_equal(by_key("unknown"), APP_UNAVAILABLE);
    }
    assert_int_equal(app_manager_health(manager), APP_HEALTH_DEGRADED);
    assert_true(counts().stale > 0);
    assert_true(counts().errors > 0);
    assert_int_equal(counts().outages, 1);
    bring_it_back();
    until(true, "unknown", APP_NOT_FOUND, 0);
    assert_int_equal(app_manager_health(manager), APP_HEALTH_OK);
    others_run("UPDATE applications SET max_connections = 9 WHERE id = 'a'");
    until(true, "ka", APP_FOUND, 9);
}

static void who_waits_for_a_store_that_hangs_in_the_kernel_is_told_to_come_back_in_time(void **state) {
    uint64_t began_ms;

    (void)state;
    use_hanging_disk();
    open_with("\"ttl\":1,\"stale_if_error\":3600", 300);
    until(true, "ka", APP_FOUND, 1);
    others_insert("b", "kb", "2");
    let_disk_hang(true);
    began_ms = clock_monotonic_ms();
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(by_key("kb"), APP_UNAVAILABLE);
    assert_in_range(clock_monotonic_ms() - began_ms, 300, 10000);
    /* Known apps are served all the same, long after the end of their time. */
    while (clock_monotonic_ms() < began_ms + 1500)
        poll(NULL, 0, 10);
    assert_int_equal(by_key("ka"), APP_FOUND);
    let_disk_hang(false);
    until(true, "kb", APP_FOUND, 2);
}

static void the_end_does_not_wait_for_a_store_that_hangs_in_the_kernel(void **state) {
    unsigned before;

    (void)state;
    use_hanging_disk();
    open_with("", 60000);
    until(true, "ka", APP_FOUND, 1);
    others_insert("b", "kb", "2");
    let_disk_hang(true);
    before = answered;
    assert_int_equal(start(&last, 0, true, "kb"), APP_PENDING);
    await_hanging();
    assert_false(app_manager_stop(manager));
    let_disk_hang(false);
    assert_true(app_manager_stop(manager));
    await_answers(before + 1);
}

static void more_names_than_can_be_asked_for_are_no_outage(void **state) {
    struct app_lookup *lookups = alloc_array(NULL, 2000, sizeof *lookups);
    unsigned unavailable = 0;
    char name[32];

    (void)state;
    use_hanging_disk();
    open_with("", 60000);
    until(true, "ka", APP_FOUND, 1);
    let_disk_hang(true);
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "unknown-%u", i);
        start(&lookups[i], i % WORKERS, true, name);
    }
    settle();
    for (unsigned i = 0; i < 2000; i++)
        unavailable += lookups[i].answer == APP_UNAVAILABLE;
    assert_in_range(unavailable, 900, 1000);
    assert_int_equal(counts().outages, 0);
    assert_int_equal(app_manager_health(manager), APP_HEALTH_OK);
    let_disk_hang(false);
    await_answers(answered + 2000 - unavailable);
    assert_int_equal(counts().outages, 0);
    free(lookups);
}

static void a_store_that_was_never_there_is_an_error_until_it_comes(void **state) {
    (void)state;
    lose_the_store();
    open_with("\"negative_ttl\":0", 1000);
    assert_int_equal(by_key("ka"), APP_UNAVAILABLE);
    assert_int_equal(app_manager_health(manager), APP_HEALTH_ERROR);
    bring_it_back();
    until(true, "ka", APP_FOUND, 1);
    assert_int_equal(app_manager_health(manager), APP_HEALTH_OK);
}

static void nothing_stale_is_served_beyond_its_time(void **state) {
    (void)state;
    open_with("\"ttl\":1,\"stale_if_error\":1", 1000);
    assert_int_equal(by_key("ka"), APP_FOUND);
    lose_the_store();
    until(true, "ka", APP_UNAVAILABLE, 0);
    bring_it_back();
    until(true, "ka", APP_FOUND, 1);
}

static void every_lookup_asks_the_store(const char *cache) {
    open_with(cache, 1000);
    for (unsigned i = 1; i <= 5; i++) {
        assert_int_equal(by_key("ka"), APP_FOUND);
        assert_int_equal(by_key("nobody"), APP_NOT_FOUND);
        assert_true(queries() >= 2 * i);
    }
    lose_the_store();
    until(true, "ka", APP_UNAVAILABLE, 0);
    bring_it_back();
}

static void without_the_cache_every_lookup_asks_the_store(void **state) {
    (void)state;
    every_lookup_asks_the_store("\"enabled\":false");
}

static void with_a_ttl_of_0_every_lookup_asks_the_store(void **state) {
    (void)state;
    every_lookup_asks_the_store("\"ttl\":0,\"negative_ttl\":0");
}

static void without_the_cache_an_app_that_is_gone_is_not_found_before_its_connections_are_closed(void **state) {
    struct app_slot *slot;
    uint64_t deleted_ms;

    (void)state;
    open_with("\"enabled\":false", 5000);
    assert_int_equal(by_id("a"), APP_FOUND);
    slot = last.slot;
    assert_true(slot_connection_enter(slot, 0));
    deleted_ms = clock_monotonic_ms();
    others_run("DELETE FROM applications WHERE id = 'a'");
    while (told[0] == 0) {
        assert_int_equal(by_id("a"), APP_NOT_FOUND);
        assert_int_equal(by_key("ka"), APP_NOT_FOUND);
        settle();
        assert_true(clock_monotonic_ms() < deleted_ms + PATIENCE_MS);
    }
    assert_true(clock_monotonic_ms() >= deleted_ms + 1000); /* it was looked for twice */
    assert_null(slot_app(slot));
    slot_connection_leave(slot);
}

/* --- writes --- */

static struct app *record(const char *id, const char *key, unsigned max_connections, bool enabled) {
    json_t *json = json_pack("{s:s, s:s, s:s, s:i, s:b}", "id", id, "key", key, "secret", "s", "max_connections",
                             (int)max_connections, "enabled", enabled);
    struct app *app = app_parse(json, app_manager_defaults(manager), APP_FROM_CONFIGURATION, NULL, NULL, &error);

    json_decref(json);
    assert_non_null(app);
    return app;
}

static void a_changed_key_works_at_once_and_the_old_one_no_more(void **state) {
    struct app *old, *new;

    (void)state;
    open_with("\"negative_ttl\":3600", 5000);
    assert_int_equal(by_key("ka2"), APP_NOT_FOUND);
    assert_int_equal(by_key("ka"), APP_FOUND);
    old = record("a", "ka", 1, true);
    new = record("a", "ka2", 2, true);
    others_run("UPDATE applications SET key = 'ka2', max_connections = 2 WHERE id = 'a'");
    app_manager_written(manager, app_manager_write_version(manager), SLICE("a"), old, new);
    assert_int_equal(by_key("ka2"), APP_FOUND);
    assert_int_equal(limit, 2);
    assert_int_equal(by_key("ka"), APP_NOT_FOUND);
    assert_int_equal(by_id("a"), APP_FOUND);
    others_run("DELETE FROM applications WHERE id = 'a'");
    app_manager_written(manager, app_manager_write_version(manager), SLICE("a"), new, NULL);
    assert_int_equal(by_id("a"), APP_NOT_FOUND);
    assert_int_equal(by_key("ka2"), APP_NOT_FOUND);
    app_unref(old);
    app_unref(new);
    settle();
}

/* The writers' threads may tell of their writes in the other order. */
static void of_two_writes_at_the_same_moment_the_later_one_counts_whoever_tells_of_it_first(void **state) {
    struct app *old, *new;
    uint64_t first, second;

    (void)state;
    open_with("\"ttl\":3600", 5000);
    assert_int_equal(by_key("ka"), APP_FOUND);
    old = record("a", "ka", 2, true);
    new = record("a", "ka", 3, true);
    first = app_manager_write_version(manager);
    others_run("UPDATE applications SET max_connections = 2 WHERE id = 'a'");
    second = app_manager_write_version(manager);
    others_run("UPDATE applications SET max_connections = 3 WHERE id = 'a'");
    app_manager_written(manager, second, SLICE("a"), NULL, new);
    app_manager_written(manager, first, SLICE("a"), NULL, old);
    assert_int_equal(by_key("ka"), APP_FOUND);
    assert_int_equal(limit, 3);
    first = app_manager_write_version(manager);
    others_run("UPDATE applications SET max_connections = 2 WHERE id = 'a'");
    second = app_manager_write_version(manager);
    others_run("DELETE FROM applications WHERE id = 'a'");
    app_manager_written(manager, second, SLICE("a"), new, NULL);
    app_manager_written(manager, first, SLICE("a"), NULL, old);
    assert_int_equal(by_key("ka"), APP_NOT_FOUND);
    assert_int_equal(by_id("a"), APP_NOT_FOUND);
    app_unref(old);
    app_unref(new);
    settle();
}

static void live_connections_hear_of_an_app_that_is_disabled_or_deleted(void **state) {
    struct app *off, *on;

    (void)state;
    open_with("", 5000);
    assert_int_equal(by_key("ka"), APP_FOUND);
    off = record("a", "ka", 1, false);
    on = record("a", "ka", 1, true);
    assert_true(slot_connection_enter(last.slot, 0));
    app_manager_written(manager, app_manager_write_version(manager), SLICE("a"), NULL, off);
    settle();
    assert_int_equal(told[0], 1);
    assert_int_equal(told[1], 1);
    app_manager_written(manager, app_manager_write_version(manager), SLICE("a"), NULL, on);
    app_manager_written(manager, app_manager_write_version(manager), SLICE("a"), on, NULL);
    settle();
    assert_int_equal(told[1], 2);
    assert_null(slot_app(last.slot));
    slot_connection_leave(last.slot);
    app_unref(off);
    app_unref(on);
}

/* A worker has found the app, and lets somebody in in the same turn. */
static void who_is_let_in_while_the_app_is_disabled_or_deleted_hears_of_it(void **state) {
    struct app *off;

    (void)state;
    open_with("", 5000);
    for (unsigned deleted = 0; deleted < 2; deleted++) {
        unsigned before = told[0];
        assert_int_equal(by_key("ka"), APP_FOUND);
        settle();
        for (unsigned count = answered;
             start(&last, 0, true, "ka") == APP_PENDING;) /* others' changes are watched now */
            await_answers(++count);
        off = deleted ? NULL : record("a", "ka", 1, false);
        app_manager_written(manager, app_manager_write_version(manager), SLICE("a"), NULL, off);
        assert_true(slot_connection_enter(last.slot, 0));
        settle();
        assert_true(told[0] > before && told[1] > before);
        slot_connection_leave(last.slot);
        app_unref(off);
        off = record("a", "ka", 1, true);
        app_manager_written(manager, app_manager_write_version(manager), SLICE("a"), NULL, off);
        app_unref(off);
    }
}

/* Many changes in a turn are one look; what changes after it is another. */
static void one_look_is_for_all_changes_before_it(void **state) {
    struct app *off, *on;

    (void)state;
    open_with("", 5000);
    assert_int_equal(by_key("ka"), APP_FOUND);
    settle();
    off = record("a", "ka", 1, false);
    on = record("a", "ka", 1, true);
    for (unsigned i = 0; i < 100; i++) {
        app_manager_written(manager, app_manager_write_version(manager), SLICE("a"), NULL, off);
        app_manager_written(manager, app_manager_write_version(manager), SLICE("a"), NULL, on);
    }
    settle();
    assert_int_equal(told[0], 1);
    assert_int_equal(told[1], 1);
    app_manager_written(manager, app_manager_write_version(manager), SLICE("a"), NULL, off);
    settle();
    assert_int_equal(told[0], 2);
    assert_int_equal(told[1], 2);
    app_unref(off);
    app_unref(on);
}

static void an_app_that_others_delete_is_gone_for_live_connections_too(void **state) {
    uint64_t deleted_ms;
    struct app_slot *slot;

    (void)state;
    open_with("", 5000);
    assert_int_equal(by_key("ka"), APP_FOUND);
    slot = last.slot;
    assert_true(slot_connection_enter(slot, 0));
    deleted_ms = clock_monotonic_ms();
    others_run("DELETE FROM applications WHERE id = 'a'");
    while (told[0] == 0 && clock_monotonic_ms() < deleted_ms + PATIENCE_MS) {
        poll(NULL, 0, 5);
        settle();
    }
    assert_int_equal(told[0], 1);
    assert_true(clock_monotonic_ms() >= deleted_ms + 1000); /* it was looked for twice */
    assert_null(slot_app(slot));
    slot_connection_leave(slot);
}

/* As a store may have it that answers from a copy which lags behind. */
static void an_app_that_is_missing_once_and_there_a_second_later_closes_nobody(void **state) {
    uint64_t asked, end_ms = clock_monotonic_ms() + PATIENCE_MS;
    struct app_slot *slot;

    (void)state;
    open_with("", 5000);
    assert_int_equal(by_key("ka"), APP_FOUND);
    slot = last.slot;
    assert_true(slot_connection_enter(slot, 0));
    others_insert("fence", "kfence",
                  "2"); /* the watch is there when this is noticed, and the app has been read again */
    until(true, "kfence", APP_FOUND, 2);
    others_run("UPDATE applications SET max_connections = 7 WHERE id = 'a'");
    until(true, "ka", APP_FOUND, 7);
    asked = queries();
    others_run("DELETE FROM applications WHERE id = 'a'");
    while (queries() == asked) {
        poll(NULL, 0, 1);
        assert_true(clock_monotonic_ms() < end_ms);
    }
    others_insert("a", "ka", "8");
    until(true, "ka", APP_FOUND, 8); /* it was read again */
    settle();
    assert_int_equal(told[0], 0);
    assert_ptr_equal(last.slot, slot);
    slot_connection_leave(slot);
}

#define MANY 8000

/* What all of them wait for; each is on a connection's slot. */
static void find_many(struct app_lookup *lookups) {
    char key[32];

    for (unsigned i = 0; i < MANY; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        assert_int_equal(start(&lookups[i], i % WORKERS, true, key), APP_PENDING);
        if (i % 500 == 499) /* no more than may wait */
            await_answers(i + 1);
    }
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(lookups[i].answer, APP_FOUND);
        assert_true(slot_connection_enter(lookups[i].slot, 0));
    }
}

static unsigned count_with_limit(const struct app_lookup *lookups, unsigned max_connections) {
    unsigned count = 0;

    for (unsigned i = 0; i < MANY; i++)
        count += slot_app(lookups[i].slot)->max_connections == max_connections;
    return count;
}

/* The file is looked at every second. Rounds of a thousand apps, a second apart, would need seven seconds more. */
static void thousands_of_live_apps_that_others_change_are_read_again_at_once(void **state) {
    struct app_lookup *lookups = alloc_array(NULL, MANY, sizeof *lookups);
    uint64_t end_ms;

    (void)state;
    others_run(
        "WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < 7999) "
        "INSERT INTO applications SELECT 'app-' || i, 'key-' || i, 's', 1, 1, 0, 1 FROM n");
    open_with("", 20000);
    find_many(lookups);
    others_run("UPDATE applications SET max_connections = 2");
    end_ms = clock_monotonic_ms() + 6000;
    while (count_with_limit(lookups, 2) < MANY && clock_monotonic_ms() < end_ms) {
        poll(NULL, 0, 5);
        settle();
    }
    assert_int_equal(count_with_limit(lookups, 2), MANY);
    for (unsigned i = 0; i < MANY; i++)
        slot_connection_leave(lookups[i].slot);
    free(lookups);
}

struct writer {
    atomic_bool end;
    atomic_uint written; /* no lookup that starts now may see less */
};

static void *write_on(void *context) {
    struct writer *writer = context;
    sqlite3 *own;
    char sql[128];

    assert_int_equal(sqlite3_open(database_path, &own), SQLITE_OK);
    sqlite3_busy_timeout(own, PATIENCE_MS);
    for (unsigned i = 2; i < 400; i++) {
        struct app *app = record("a", "ka", i, true);
        snprintf(sql, sizeof sql, "UPDATE applications SET max_connections = %u WHERE id = 'a'", i);
        assert_int_equal(sqlite3_exec(own, sql, NULL, NULL, NULL), SQLITE_OK);
        app_manager_written(manager, app_manager_write_version(manager), SLICE("a"), NULL, app);
        atomic_store(&writer->written, i);
        app_unref(app);
    }
    atomic_store(&writer->end, true);
    sqlite3_close(own);
    return NULL;
}

static void a_query_that_began_before_a_write_never_fills_the_cache(void **state) {
    struct writer writer = {0};
    pthread_t thread;

    (void)state;
    open_with("\"enabled\":false", 20000); /* each lookup is a query that races with the writes */
    assert_int_equal(pthread_create(&thread, NULL, write_on, &writer), 0);
    while (!atomic_load(&writer.end)) {
        unsigned least = atomic_load(&writer.written);
        assert_int_equal(by_key("ka"), APP_FOUND);
        assert_true(limit >= least);
    }
    pthread_join(thread, NULL);
}

/* --- space --- */

static void apps_beyond_the_capacity_go_but_never_one_with_connections(void **state) {
    uint64_t end_ms = clock_monotonic_ms() + PATIENCE_MS;
    struct app_slot *slot;
    char id[32], key[32];

    (void)state;
    setenv("CACHE_MAX_CAPACITY", "20", 1);
    others_run("BEGIN");
    for (unsigned i = 0; i < 300; i++) {
        snprintf(id, sizeof id, "app-%u", i);
        snprintf(key, sizeof key, "key-%u", i);
        others_insert(id, key, "3");
    }
    others_run("COMMIT");
    open_with("", 5000);
    unsetenv("CACHE_MAX_CAPACITY");
    assert_int_equal(by_key("ka"), APP_FOUND);
    slot = last.slot;
    assert_true(slot_connection_enter(slot, 0));
    for (unsigned i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        assert_int_equal(by_key(key), APP_FOUND);
        settle();
    }
    while (counts().entries > 21 && clock_monotonic_ms() < end_ms) {
        poll(NULL, 0, 5);
        settle();
    }
    assert_in_range(counts().entries, 1, 21);
    assert_int_equal(start(&last, 0, true, "ka"), APP_FOUND);
    assert_ptr_equal(last.slot, slot);
    assert_int_equal(by_key("key-0"), APP_FOUND); /* is asked for again */
    slot_connection_leave(slot);
}

/* What goes does so when every worker has ended a turn; one of them does not, as on a machine that is too busy. */
static void no_more_apps_come_in_than_can_go(void **state) {
    struct app_lookup *lookups = alloc_array(NULL, 1000, sizeof *lookups);
    uint64_t end_ms;
    char key[32];

    (void)state;
    setenv("CACHE_MAX_CAPACITY", "20", 1);
    others_run(
        "WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < 999) "
        "INSERT INTO applications SELECT 'app-' || i, 'key-' || i, 's', 1, 1, 0, 1 FROM n");
    open_with("", 20000);
    unsetenv("CACHE_MAX_CAPACITY");
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        assert_int_equal(start(&lookups[i], 0, true, key), APP_PENDING);
    }
    for (end_ms = clock_monotonic_ms() + PATIENCE_MS; counts().entries < 500; harness_settle(workers.list[0]))
        assert_true(clock_monotonic_ms() < end_ms);
    for (end_ms = clock_monotonic_ms() + 400; clock_monotonic_ms() < end_ms; harness_settle(workers.list[0]))
        assert_in_range(counts().entries, 500, 750);
    await_answers(1000);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(lookups[i].answer, APP_FOUND);
    end_ms = clock_monotonic_ms() + PATIENCE_MS;
    while (counts().entries > 20 && clock_monotonic_ms() < end_ms) {
        poll(NULL, 0, 5);
        settle();
    }
    assert_in_range(counts().entries, 1, 20);
    free(lookups);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_record_that_was_found_by_key_is_there_at_once_by_key_and_by_id),
        TEST(a_hit_allocates_nothing),
        TEST(a_thousand_who_ask_at_once_cost_one_query_on_all_workers),
        TEST(who_went_away_is_not_answered),
        TEST(a_name_that_is_not_there_is_asked_for_once_in_its_time),
        TEST(names_that_are_not_there_take_a_bounded_space),
        TEST(a_broken_record_is_invalid_with_its_field_until_it_is_repaired),
        TEST(a_record_that_breaks_leaves_the_last_valid_one_in_force),
        TEST(without_the_store_known_apps_are_served_and_unknown_ones_unavailable),
        TEST(who_waits_for_a_store_that_hangs_in_the_kernel_is_told_to_come_back_in_time),
        TEST(the_end_does_not_wait_for_a_store_that_hangs_in_the_kernel),
        TEST(more_names_than_can_be_asked_for_are_no_outage),
        TEST(a_store_that_was_never_there_is_an_error_until_it_comes),
        TEST(nothing_stale_is_served_beyond_its_time),
        TEST(without_the_cache_every_lookup_asks_the_store),
        TEST(with_a_ttl_of_0_every_lookup_asks_the_store),
        TEST(without_the_cache_an_app_that_is_gone_is_not_found_before_its_connections_are_closed),
        TEST(a_changed_key_works_at_once_and_the_old_one_no_more),
        TEST(of_two_writes_at_the_same_moment_the_later_one_counts_whoever_tells_of_it_first),
        TEST(live_connections_hear_of_an_app_that_is_disabled_or_deleted),
        TEST(who_is_let_in_while_the_app_is_disabled_or_deleted_hears_of_it),
        TEST(one_look_is_for_all_changes_before_it),
        TEST(an_app_that_others_delete_is_gone_for_live_connections_too),
        TEST(an_app_that_is_missing_once_and_there_a_second_later_closes_nobody),
        TEST(thousands_of_live_apps_that_others_change_are_read_again_at_once),
        TEST(a_query_that_began_before_a_write_never_fills_the_cache),
        TEST(apps_beyond_the_capacity_go_but_never_one_with_connections),
        TEST(no_more_apps_come_in_than_can_go),
    };

    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
