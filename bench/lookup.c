/*
 * usage: curlew-bench-lookup
 *
 * Cost of the app manager's public lookup of a cached app: with one worker and with two at once, over 10,000 random
 * keys, with one shared app and with one app per worker, without and with another thread that writes once a
 * millisecond. Workers that share an app are compared with two that share none, since two busy cores slow each other
 * down on many machines. Then the memory of a cache of 10,000 apps while 100,000 apps pass through it. The store is
 * SQLite in a temporary folder. Exit code: 1 if a goal was missed.
 */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "app_manager/app_manager.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "config/config.h"
#include "net/worker_loop.h"

#define APPS 10000
#define PASSING_APPS 100000
#define PASSES 2 /* passes before the first memory reading, and again before the second */
#define LOOKUPS 1000000
#define ROUNDS 15
#define AT_ONCE 500 /* concurrent lookups; below the limit of waiting lookups */

#define GOAL_NS 100       /* CPU time of a lookup over random keys on one worker */
#define GOAL_SHARED 1.10  /* two workers with one shared app, relative to two without */
#define GOAL_MEMORY 1.10  /* memory after all passes, relative to half of them */
#define GOAL_ENTRIES 1.25 /* entries relative to capacity, which may be exceeded briefly */

static struct workers workers;
static struct app_manager *manager;
static char keys[PASSING_APPS][16];
static sem_t finished;
static bool missed;

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

/* --- warm-up: look up every app once --- */

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
    lookup->done = NULL;
    warm.waiting--;
    look_up_more();
}

static void look_up_more(void) {
    for (unsigned i = 0; i < AT_ONCE && warm.next < warm.end; i++) {
        struct app_lookup *lookup = &warm.lookups[i];
        if (lookup->done != NULL)
            continue;
        *lookup = (struct app_lookup){.done = answered};
        if (app_manager_find_by_key(manager, warm.worker, slice_of(keys[warm.next++]), lookup) == APP_PENDING) {
            warm.waiting++;
            continue;
        }
        lookup->done = NULL; /* answered from the cache: reuse the slot */
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

/* --- measurement --- */

/* Choice of the apps that the measured workers look up. */
enum keys { KEYS_RANDOM, KEYS_SAME, KEYS_OWN };

struct measurement {
    unsigned workers; /* number of measured workers */
    enum keys keys;
    double ns[WORKERS_MAX];
};

/* CPU time of this thread: time that other threads, such as the writer, take from it does not count. */
static uint64_t thread_cpu_ns(void) {
    struct timespec time;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void measure_on(struct worker *worker, void *context) {
    struct measurement *measurement = context;
    uint64_t seed = 88172645463325252u + worker->index, start_ns;
    unsigned first = measurement->keys == KEYS_OWN ? worker->index : 0;
    unsigned count = measurement->keys == KEYS_RANDOM ? APPS : 1;

    if (worker->index >= measurement->workers)
        return;
    start_ns = thread_cpu_ns();
    for (unsigned i = 0; i < LOOKUPS; i++) {
        struct app_lookup lookup = {.done = answered};
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        if (app_manager_find_by_key(manager, worker, slice_of(keys[first + seed % count]), &lookup) != APP_FOUND)
            fail("a lookup was no hit");
    }
    measurement->ns[worker->index] = (double)(thread_cpu_ns() - start_ns) / LOOKUPS;
    sem_post(&finished);
}

/* Returns the CPU time of a lookup in ns, as the mean of the workers. */
static double measure(unsigned count, enum keys which) {
    struct measurement measurement = {.workers = count, .keys = which};
    double sum = 0;

    workers_run_on_all(&workers, &(struct worker_task){.run = measure_on, .context = &measurement});
    for (unsigned i = 0; i < count; i++)
        sem_wait(&finished);
    for (unsigned i = 0; i < count; i++)
        sum += measurement.ns[i];
    return sum / count;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values) {
    qsort(values, ROUNDS, sizeof values[0], compare);
    return values[ROUNDS / 2];
}

/* Prints the end of a result line: the goal, and MISSED if it was not reached. */
static void judge(bool reached, const char *goal) {
    printf(" (goal: %s)%s\n", goal, reached ? "" : "  MISSED");
    missed |= !reached;
}

/* Alternates measurements of one worker and of two, so that other load of the machine affects both alike. */
static void measure_rounds(void) {
    static const struct {
        const char *what;
        enum keys keys;
    } kinds[] = {{"10,000 random keys", KEYS_RANDOM}, {"the same app", KEYS_SAME}, {"an app of each's own", KEYS_OWN}};
    enum { KINDS = sizeof kinds / sizeof kinds[0] };
    double ns[KINDS][2][ROUNDS], ratio[KINDS][ROUNDS];

    for (unsigned round = 0; round < ROUNDS; round++)
        for (unsigned kind = 0; kind < KINDS; kind++) {
            ns[kind][0][round] = measure(1, kinds[kind].keys);
            ns[kind][1][round] = measure(2, kinds[kind].keys);
            ratio[kind][round] = ns[kind][1][round] / ns[kind][0][round];
        }
    for (unsigned kind = 0; kind < KINDS; kind++) {
        double one = median(ns[kind][0]), cost = median(ratio[kind]);
        printf("  %-22s one worker %6.1f ns, two at once %6.1f ns each (%.2f x)", kinds[kind].what, one,
               median(ns[kind][1]), cost);
        if (kinds[kind].keys == KEYS_RANDOM)
            judge(one < GOAL_NS, "one worker under 100 ns");
        else if (kinds[kind].keys == KEYS_SAME)
            judge(cost <= GOAL_SHARED * median(ratio[KEYS_OWN]), "two lose no more than with apps of their own");
        else
            printf("\n");
    }
}

static atomic_bool writing;

/* Writes a changed limit to one of two apps, in turns, once a millisecond, in the way of the admin API. */
static void *write_on(void *context) {
    (void)context;
    for (unsigned i = 0; atomic_load(&writing); i++) {
        char id[16];
        json_t *json;
        struct app *app;
        snprintf(id, sizeof id, "app-%u", i % 2);
        json = json_pack("{s:s, s:s, s:s, s:i}", "id", id, "key", keys[i % 2], "secret", "secret", "max_connections",
                         (int)(i % 1000 + 1));
        app = app_parse(json, app_manager_defaults(manager), APP_FROM_CONFIGURATION, NULL, NULL, NULL);
        app_manager_written(manager, app_manager_write_version(manager), app->id, NULL, app);
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

static void pin_worker(struct worker *worker, void *context) {
    cpu_set_t set;

    (void)context;
    CPU_ZERO(&set);
    CPU_SET(worker->index, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void run_all(void) {
    struct app_lookup_stats counts;
    struct store_pool_stats status;
    pthread_t writer;
    double one = 0, two;

    workers_run_on_all(&workers, &(struct worker_task){.run = pin_worker});
    look_all_up(0, APPS);
    usleep(2500000); /* until the watch has seen the prepared file change: idle records must be read again */
    look_all_up(0, APPS);
    measure(2, KEYS_RANDOM);
    printf("CPU time of a cached lookup, median of %u rounds:\n", ROUNDS);
    measure_rounds();
    printf("the same while another thread writes two of the apps, one each millisecond:\n");
    atomic_store(&writing, true);
    pthread_create(&writer, NULL, write_on, NULL);
    measure_rounds();
    atomic_store(&writing, false);
    pthread_join(writer, NULL);
    for (unsigned pass = 0; pass < 2 * PASSES; pass++) {
        look_all_up(0, PASSING_APPS);
        if (pass == PASSES - 1)
            one = resident_mb();
    }
    two = resident_mb();
    app_manager_read_stats(manager, &counts, &status);
    printf(
        "a cache of %u through which %u apps pass %u times: %lu apps in it, %.1f MB after half of that, %.1f MB after "
        "all",
        APPS, PASSING_APPS, 2 * PASSES, (unsigned long)counts.entries, one, two);
    judge(two <= GOAL_MEMORY * one && (double)counts.entries <= GOAL_ENTRIES * APPS, "no growth");
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
    if (!app_manager_start(manager, &error))
        fail(error.text);
    run_all();
    app_manager_stop(manager);
    workers_run_on_all(&workers, &(struct worker_task){.run = end_worker});
    workers_join(&workers);
    app_manager_destroy(manager);
    workers_destroy(&workers);
    config_dispose(&config);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || missed;
}
