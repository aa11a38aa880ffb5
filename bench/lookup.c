/*
 * usage: curlew-bench-lookup
 *
 * What the app manager's public lookup costs once an app is in the cache: over 10,000 random keys while another thread
 * writes once a millisecond, and with two workers that look up the same app. Then the memory of a cache of 10,000 apps
 * through which 100,000 pass. The store is SQLite, in a temporary folder.
 */
#include <pthread.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/app_manager.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "config/config.h"

#define APPS 10000
#define PASSING_APPS 100000
#define LOOKUPS 5000000
#define AT_ONCE 500 /* fewer than may wait */

static struct workers workers;
static struct app_manager *manager;
static char keys[PASSING_APPS][16];
static sem_t finished;

static void nothing_changed(struct worker *worker, void *context) {
    (void)worker;
    (void)context;
}

static void no_channels(void *channels) {
    (void)channels;
}

static bool always_empty(void *channels) {
    (void)channels;
    return true;
}

static const struct app_manager_hooks hooks = {
    .changed = nothing_changed, .free_channels = no_channels, .channels_empty = always_empty};

static void fail(const char *what) {
    fprintf(stderr, "curlew-bench-lookup: %s\n", what);
    exit(1);
}

static void fill(const char *path) {
    sqlite3 *database;
    char sql[512];

    if (sqlite3_open(path, &database) != SQLITE_OK)
        fail("the database cannot be made");
    sqlite3_exec(database,
                 "CREATE TABLE applications (id TEXT PRIMARY KEY, key TEXT UNIQUE NOT NULL, secret TEXT NOT NULL, "
                 "max_connections INTEGER NOT NULL, max_client_events_per_second INTEGER NOT NULL, "
                 "enable_client_messages BOOLEAN NOT NULL, enabled BOOLEAN NOT NULL); BEGIN",
                 NULL, NULL, NULL);
    for (unsigned i = 0; i < PASSING_APPS; i++) {
        snprintf(keys[i], sizeof keys[i], "key-%u", i);
        snprintf(sql, sizeof sql, "INSERT INTO applications VALUES ('app-%u', '%s', 'secret', 100, 100, 0, 1)", i,
                 keys[i]);
        if (sqlite3_exec(database, sql, NULL, NULL, NULL) != SQLITE_OK)
            fail("an app cannot be written");
    }
    sqlite3_exec(database, "COMMIT", NULL, NULL, NULL);
    sqlite3_close(database);
}

/* --- looking all up once --- */

struct warm_up {
    struct app_lookup lookups[AT_ONCE];
    struct worker *worker;
    unsigned next, end, waiting;
};

static struct warm_up warm;

static void look_up_more(void);

static void answered(struct app_lookup *lookup) {
    if (lookup->answer != APP_FOUND)
        fail("an app was not found");
    lookup->context = NULL;
    warm.waiting--;
    look_up_more();
}

static void look_up_more(void) {
    for (unsigned i = 0; i < AT_ONCE && warm.next < warm.end; i++) {
        struct app_lookup *lookup = &warm.lookups[i];
        if (lookup->context != NULL)
            continue;
        *lookup = (struct app_lookup){.done = answered, .context = &warm};
        if (app_manager_find_by_key(manager, warm.worker, slice_of(keys[warm.next++]), lookup) == APP_PENDING) {
            warm.waiting++;
            continue;
        }
        lookup->context = NULL; /* known already: the place is free for the next */
        i--;
    }
    if (warm.next == warm.end && warm.waiting == 0)
        sem_post(&finished);
}

static void warm_up_on(struct worker *worker, void *context) {
    (void)context;
    if (worker->index != 0)
        return;
    warm.worker = worker;
    look_up_more();
}

static void look_all_up(unsigned first, unsigned end) {
    warm = (struct warm_up){.next = first, .end = end};
    workers_run_on_all(&workers, &(struct worker_task){.run = warm_up_on});
    sem_wait(&finished);
}

/* --- measuring --- */

struct measurement {
    unsigned workers; /* how many take part */
    unsigned keys;    /* random among so many */
    double ns[WORKERS_MAX];
};

static void measure_on(struct worker *worker, void *context) {
    struct measurement *measurement = context;
    uint64_t seed = 88172645463325252u + worker->index, start_ns;

    if (worker->index >= measurement->workers)
        return;
    start_ns = clock_monotonic_ns();
    for (unsigned i = 0; i < LOOKUPS; i++) {
        struct app_lookup lookup = {.done = answered};
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        if (app_manager_find_by_key(manager, worker, slice_of(keys[seed % measurement->keys]), &lookup) != APP_FOUND)
            fail("a lookup was no hit");
    }
    measurement->ns[worker->index] = (double)(clock_monotonic_ns() - start_ns) / LOOKUPS;
    sem_post(&finished);
}

static double measure(unsigned count, unsigned key_count) {
    struct measurement measurement = {.workers = count, .keys = key_count};
    double worst = 0;

    workers_run_on_all(&workers, &(struct worker_task){.run = measure_on, .context = &measurement});
    for (unsigned i = 0; i < count; i++)
        sem_wait(&finished);
    for (unsigned i = 0; i < count; i++)
        worst = measurement.ns[i] > worst ? measurement.ns[i] : worst;
    return worst;
}

static atomic_bool writing;

/* Once a millisecond another limit for one app or another, as the admin API would write it. */
static void *write_on(void *context) {
    (void)context;
    for (unsigned i = 0; atomic_load(&writing); i++) {
        json_t *json = json_pack("{s:s, s:s, s:s, s:i}", "id", "app-0", "key", keys[0], "secret", "secret",
                                 "max_connections", (int)(i % 1000 + 1));
        struct app *app = app_parse(json, app_manager_defaults(manager), APP_FROM_CONFIGURATION, NULL, NULL, NULL);
        app_manager_written(manager, app->id, NULL, app);
        app_unref(app);
        json_decref(json);
        usleep(1000);
    }
    return NULL;
}

static double resident_mb(void) {
    long pages = 0, ignored;
    FILE *file = fopen("/proc/self/statm", "r");

    if (file == NULL || fscanf(file, "%ld %ld", &ignored, &pages) != 2)
        fail("/proc/self/statm cannot be read");
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

static void end_worker(struct worker *worker, void *context) {
    (void)context;
    worker_stop(worker);
}

static void run_all(void) {
    struct app_lookup_counts counts;
    struct store_pool_status status;
    pthread_t writer;
    double one, two;

    look_all_up(0, APPS);
    usleep(2500000); /* the watch sees that preparing changed the file, and idle records are to be read again */
    look_all_up(0, APPS);
    measure(1, APPS);
    printf("a cached lookup, %u random keys, one worker:               %6.1f ns\n", APPS, measure(1, APPS));
    atomic_store(&writing, true);
    pthread_create(&writer, NULL, write_on, NULL);
    printf("the same while another thread writes each millisecond:       %6.1f ns\n", measure(1, APPS));
    one = measure(1, 1);
    two = measure(2, 1);
    atomic_store(&writing, false);
    pthread_join(writer, NULL);
    printf("one app that is written each millisecond, one worker:        %6.1f ns\n", one);
    printf("the same app, two workers at once, each:                     %6.1f ns (%.2f x)\n", two, two / one);
    one = measure(1, APPS);
    two = measure(2, APPS);
    printf("%u random keys, two workers at once, each:                %6.1f ns (%.2f x)\n", APPS, two, two / one);
    look_all_up(0, PASSING_APPS / 2);
    one = resident_mb();
    look_all_up(PASSING_APPS / 2, PASSING_APPS);
    two = resident_mb();
    app_manager_look(manager, &counts, &status);
    printf("a cache of %u through which %u apps pass: %lu apps in it, %.1f MB after half of them, %.1f MB after all\n",
           APPS, PASSING_APPS, (unsigned long)counts.entries, one, two);
}

int main(void) {
    char folder[] = "/tmp/curlew-bench-XXXXXX", path[64], file[64], command[96];
    const struct log_settings quiet = {.level = LOG_WARNING};
    struct config_report report = {0};
    struct config config;
    struct error error;
    FILE *out;

    if (mkdtemp(folder) == NULL)
        fail("there is no place for temporary files");
    snprintf(path, sizeof path, "%s/apps.db", folder);
    snprintf(file, sizeof file, "%s/config.json", folder);
    fill(path);
    out = fopen(file, "w");
    fprintf(out,
            "{\"workers\":2,\"app_manager\":{\"driver\":\"sqlite\",\"cache\":{\"ttl\":3600}},"
            "\"database\":{\"sqlite\":{\"path\":\"%s\"}}}",
            path);
    fclose(out);
    if (!config_load(&config, file, &report, &error))
        fail(error.text);
    config_report_dispose(&report);
    log_configure(&quiet);
    hash_seed();
    sem_init(&finished, 0, 0);
    if (!workers_create(&workers, 2, &error) || !workers_start(&workers, &error))
        fail(error.text);
    manager = app_manager_create(&config, &workers, &hooks, &error);
    if (manager == NULL)
        fail(error.text);
    app_manager_start(manager);
    run_all();
    app_manager_stop(manager);
    workers_run_on_all(&workers, &(struct worker_task){.run = end_worker});
    workers_join(&workers);
    app_manager_destroy(manager);
    workers_destroy(&workers);
    config_dispose(&config);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}
