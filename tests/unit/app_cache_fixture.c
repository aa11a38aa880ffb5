#include "app_cache_fixture.h"

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

#include "base/clock.h"
#include "base/log.h"
#include "channel/channel.h"
#include "config/config.h"
#include "harness.h"
#include "net/worker_loop.h"
#include "store/sqlite/sqlite_sleep.h"

struct cache_fixture fixture;

static char folder[64], config_path[96];
static struct config config;
static sqlite3 *others;

static void changed(struct worker *worker, void *context) {
    (void)context;
    fixture.told[worker->index]++;
}

static pthread_mutex_t replaced_mutex = PTHREAD_MUTEX_INITIALIZER;

static void replaced(struct app *before, struct app *after, void *context) {
    const struct app *known = after != NULL ? after : before;

    (void)context;
    pthread_mutex_lock(&replaced_mutex);
    buffer_appendf(&fixture.replaced, "%s %u>%u\n", known->id.data, before != NULL ? before->max_connections : 0,
                   after != NULL ? after->max_connections : 0);
    pthread_mutex_unlock(&replaced_mutex);
}

static void free_channels(void *channels) {
    if (!fixture.has_channels)
        fail_msg("no slot of this test has channels");
    channel_table_destroy(channels);
}

static bool channels_empty(void *channels) {
    return !fixture.has_channels || channel_table_empty(channels);
}

static const struct app_manager_hooks hooks = {
    .changed = changed, .replaced = replaced, .free_channels = free_channels, .channels_empty = channels_empty};

/* --- changes of others --- */

void fixture_run_sql(const char *sql) {
    char *text = NULL;

    if (sqlite3_exec(others, sql, NULL, NULL, &text) != SQLITE_OK)
        fail_msg("%s: %s", sql, text);
}

bool fixture_was_told(const char *line) {
    bool found;

    pthread_mutex_lock(&replaced_mutex);
    found = fixture.replaced.length != 0 && strstr(buffer_string(&fixture.replaced), line) != NULL;
    pthread_mutex_unlock(&replaced_mutex);
    return found;
}

void fixture_insert(const char *id, const char *key, const char *max_connections) {
    char sql[512];

    snprintf(sql, sizeof sql,
             "INSERT INTO applications (id, key, secret, enabled, enable_client_messages, max_connections, "
             "max_client_events_per_second) VALUES ('%s', '%s', 's', 1, 0, %s, 10)",
             id, key, max_connections);
    fixture_run_sql(sql);
}

/* --- a disk that hangs --- */

static pthread_mutex_t disk = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t disk_answers = PTHREAD_COND_INITIALIZER;
static bool disk_hangs;
static unsigned hanging; /* threads */
static int (*open_really)(sqlite3_vfs *, sqlite3_filename, sqlite3_file *, int, int *);
static sqlite3_io_methods real_methods, hanging_methods;

void fixture_let_disk_hang(bool hangs) {
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

void fixture_await_hanging(void) {
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

void fixture_use_hanging_disk(void) {
    sqlite3_vfs *vfs = sqlite3_vfs_find(sqlite_sleep_vfs());

    open_really = vfs->xOpen;
    vfs->xOpen = open_file;
}

static void use_real_disk(void) {
    if (open_really != NULL)
        sqlite3_vfs_find(sqlite_sleep_vfs())->xOpen = open_really;
    open_really = NULL;
}

/* A folder takes the file's place, or leaves it, in one step: a file that somebody makes there meanwhile is another. */
static void exchange_file_and_folder(const char *hidden) {
    assert_int_equal(renameat2(AT_FDCWD, fixture.database_path, AT_FDCWD, hidden, RENAME_EXCHANGE), 0);
}

void fixture_lose_store(void) {
    char hidden[128];

    snprintf(hidden, sizeof hidden, "%s.hidden", fixture.database_path);
    assert_int_equal(mkdir(hidden, 0700), 0);
    exchange_file_and_folder(hidden);
}

void fixture_bring_back_store(void) {
    char hidden[128];

    snprintf(hidden, sizeof hidden, "%s.hidden", fixture.database_path);
    exchange_file_and_folder(hidden);
    assert_int_equal(rmdir(hidden), 0);
}

/* --- the manager --- */

void fixture_open(const char *cache, unsigned timeout_ms) {
    struct config_report report = {0};
    FILE *file = fopen(config_path, "w");

    assert_non_null(file);
    fprintf(file,
            "{\"app_manager\":{\"driver\":\"sqlite\",\"lookup_timeout_ms\":%u,\"cache\":{%s}},"
            "\"database\":{\"sqlite\":{\"path\":\"%s\"}}}",
            timeout_ms, cache, fixture.database_path);
    fclose(file);
    if (!config_load(&config, config_path, &report, &fixture.error))
        fail_msg("%s", fixture.error.text);
    config_report_dispose(&report);
    fixture.manager = app_manager_create(&config, &fixture.workers, &hooks, &fixture.error);
    if (fixture.manager == NULL)
        fail_msg("%s", fixture.error.text);
    if (!app_manager_start(fixture.manager, &fixture.error))
        fail_msg("%s", fixture.error.text);
}

void fixture_await_answers(unsigned count) {
    uint64_t end_ms = clock_monotonic_ms() + FIXTURE_TIMEOUT_MS;

    while (fixture.answered < count) {
        struct pollfd polled[FIXTURE_WORKERS];
        bool nothing = true;
        for (unsigned i = 0; i < FIXTURE_WORKERS; i++) {
            struct mailbox *mailbox = &fixture.workers.list[i]->mailbox;
            harness_settle(fixture.workers.list[i]);
            nothing = mailbox_sleep(mailbox) && nothing;
            polled[i] = (struct pollfd){.fd = mailbox->event_fd, .events = POLLIN};
        }
        if (clock_monotonic_ms() > end_ms)
            fail_msg("%u of %u answers came", fixture.answered, count);
        if (nothing && fixture.answered < count)
            poll(polled, FIXTURE_WORKERS, FIXTURE_TIMEOUT_MS);
        for (unsigned i = 0; i < FIXTURE_WORKERS; i++) {
            mailbox_awake(&fixture.workers.list[i]->mailbox);
            mailbox_clear(&fixture.workers.list[i]->mailbox);
        }
    }
}

void fixture_settle(void) {
    for (unsigned i = 0; i < FIXTURE_WORKERS; i++) {
        fixture.workers.list[i]->now_ms = clock_monotonic_ms();
        harness_settle(fixture.workers.list[i]);
    }
}

static void note_answer(struct app_lookup *lookup) {
    if (lookup->answer == APP_INVALID)
        snprintf(fixture.reason, sizeof fixture.reason, "%s", lookup->reason);
    if (lookup->answer == APP_FOUND)
        fixture.limit = lookup->app->max_connections;
}

static void done(struct app_lookup *lookup) {
    note_answer(lookup);
    fixture.answered++;
}

static uint64_t address_of_client(struct app_lookup *lookup) {
    (void)lookup;
    return fixture.address;
}

enum app_answer fixture_start(struct app_lookup *lookup, unsigned worker, bool by_key, const char *name) {
    *lookup = (struct app_lookup){.done = done, .address = address_of_client};
    fixture.workers.list[worker]->now_ms = clock_monotonic_ms();
    (by_key ? app_manager_find_by_key : app_manager_find_by_id)(fixture.manager, fixture.workers.list[worker],
                                                                slice_of(name), lookup);
    note_answer(lookup);
    return lookup->answer;
}

static enum app_answer ask_by(bool by_key, const char *name) {
    unsigned before = fixture.answered;

    if (fixture_start(&fixture.last, 0, by_key, name) == APP_PENDING)
        fixture_await_answers(before + 1);
    return fixture.last.answer;
}

enum app_answer fixture_by_key(const char *key) {
    return ask_by(true, key);
}

enum app_answer fixture_by_id(const char *id) {
    return ask_by(false, id);
}

struct app_lookup_stats fixture_lookups(void) {
    struct app_lookup_stats result;
    struct store_pool_stats status;

    assert_true(app_manager_read_stats(fixture.manager, &result, &status));
    return result;
}

uint64_t fixture_queries(void) {
    struct app_lookup_stats ignored;
    struct store_pool_stats status;
    uint64_t sum = 0;

    assert_true(app_manager_read_stats(fixture.manager, &ignored, &status));
    for (unsigned i = 0; i < STORE_LATENCY_BUCKETS; i++)
        sum += status.latency[i];
    return sum;
}

void fixture_until(bool by_key, const char *name, enum app_answer answer, unsigned max_connections) {
    uint64_t end_ms = clock_monotonic_ms() + FIXTURE_TIMEOUT_MS;

    for (;;) {
        if (ask_by(by_key, name) == answer && (answer != APP_FOUND || fixture.limit == max_connections))
            return;
        if (clock_monotonic_ms() > end_ms)
            fail_msg("%s: the answer stays %d", name, fixture.last.answer);
        poll(NULL, 0, 2);
        fixture_settle();
    }
}

int fixture_set_up(void **state) {
    const struct log_settings quiet = {.level = LOG_ERROR + 1};

    (void)state;
    log_configure(&quiet);
    snprintf(folder, sizeof folder, "/tmp/curlew-cache-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(fixture.database_path, sizeof fixture.database_path, "%s/apps.db", folder);
    snprintf(config_path, sizeof config_path, "%s/config.json", folder);
    harness_create(&fixture.workers, FIXTURE_WORKERS);
    fixture.manager = NULL;
    fixture.answered = 0;
    fixture.has_channels = false;
    memset(fixture.told, 0, sizeof fixture.told);
    assert_int_equal(sqlite3_open(fixture.database_path, &others), SQLITE_OK);
    sqlite3_busy_timeout(others, FIXTURE_TIMEOUT_MS);
    fixture_run_sql("PRAGMA journal_mode = WAL");
    fixture_run_sql(
        "CREATE TABLE applications (id TEXT PRIMARY KEY, key TEXT UNIQUE NOT NULL, secret TEXT NOT NULL, "
        "max_connections INTEGER NOT NULL, max_client_events_per_second INTEGER NOT NULL, "
        "enable_client_messages BOOLEAN NOT NULL, enabled BOOLEAN NOT NULL)");
    fixture_insert("a", "ka", "1");
    return 0;
}

int fixture_tear_down(void **state) {
    char command[128];

    (void)state;
    fixture_let_disk_hang(false);
    if (fixture.manager != NULL) {
        app_manager_stop(fixture.manager);
        workers_settle(&fixture.workers);
        app_manager_destroy(fixture.manager);
        config_dispose(&config);
    }
    use_real_disk();
    harness_destroy(&fixture.workers);
    sqlite3_close(others);
    buffer_dispose(&fixture.replaced);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}
