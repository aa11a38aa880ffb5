#include "app/app_manager.h"

#include <pthread.h>
#include <stdlib.h>

#include "app/app_index.h"
#include "base/alloc.h"
#include "base/log.h"

#define LIST_PAGE 1000

struct app_manager {
    struct workers *workers;
    void (*free_channels)(void *channels);
    const struct app_store_driver *driver;
    struct app_store *store;
    _Atomic(struct app_index *) index;
    atomic_bool has_apps;

    pthread_mutex_t mutex;   /* of the two below: the metrics page walks them while a reload adds */
    struct app_slot **slots; /* every slot there ever was: a slot outlives its record, for those still connected */
    size_t slot_count;
};

/* One broken or valid record of a list. */
struct listed_app {
    char *id, *key;
    struct app *app;
    char *broken;
};

struct listing {
    struct listed_app *apps;
    size_t count, capacity;
};

/* --- loading --- */

static void collect(void *context, struct slice id, struct slice key, struct app *app, const struct error *error) {
    struct listing *listing = context;

    if (listing->count == listing->capacity) {
        listing->capacity = listing->capacity == 0 ? 16 : listing->capacity * 2;
        listing->apps = alloc_array(listing->apps, listing->capacity, sizeof listing->apps[0]);
    }
    listing->apps[listing->count++] = (struct listed_app){
        .id = alloc_copy(id.data, id.length),
        .key = alloc_copy(key.data, key.length),
        .app = app,
        .broken = app == NULL ? alloc_copy(error->text, strlen(error->text)) : NULL,
    };
    if (app == NULL)
        log_error("app", "%s", error->text);
}

static void listing_dispose(struct listing *listing) {
    for (size_t i = 0; i < listing->count; i++) {
        free(listing->apps[i].id);
        free(listing->apps[i].key);
        free(listing->apps[i].broken);
        app_unref(listing->apps[i].app);
    }
    free(listing->apps);
}

/* Reads the whole store, page by page. */
static bool list_all(const struct app_store_driver *driver, struct app_store *store, struct listing *listing,
                     struct error *error) {
    const struct patience patience = patience_for(0, -1); /* the memory driver needs none */
    struct store_connection *connection = driver->connect(store, &patience, error);
    enum store_answer answer;
    size_t before;

    do {
        struct slice after = SLICE("");
        before = listing->count;
        if (before != 0)
            after = slice_of(listing->apps[before - 1].id);
        answer = driver->list(connection, after, LIST_PAGE, &patience, collect, listing, error);
    } while (answer == STORE_OK && listing->count - before >= LIST_PAGE);
    driver->disconnect(connection);
    return answer == STORE_OK;
}

/* The slot of an id: the one that was there before, or a new one. */
static struct app_slot *slot_for(struct app_manager *manager, const struct app_index *old, struct slice id) {
    const struct app_index_entry *entry = old != NULL ? app_index_find(&old->by_id, id) : NULL;
    struct app_slot *slot;

    if (entry != NULL)
        return entry->slot;
    slot = app_slot_create(id, manager->workers->count);
    pthread_mutex_lock(&manager->mutex);
    manager->slots = alloc_array(manager->slots, manager->slot_count + 1, sizeof manager->slots[0]);
    manager->slots[manager->slot_count++] = slot;
    pthread_mutex_unlock(&manager->mutex);
    return slot;
}

/* What a reload replaced, until no worker can be looking at it. */
struct retired {
    struct app_index *index;
    struct app **records;
    size_t count;
    void (*changed)(struct worker *worker);
};

static void retired_free(void *context) {
    struct retired *retired = context;

    for (size_t i = 0; i < retired->count; i++)
        app_unref(retired->records[i]);
    free(retired->records);
    app_index_destroy(retired->index);
    free(retired);
}

static void retire_record(struct retired *retired, struct app *record) {
    if (record == NULL)
        return;
    retired->records = alloc_array(retired->records, retired->count + 1, sizeof retired->records[0]);
    retired->records[retired->count++] = record;
}

static void put_record(struct app_slot *slot, struct app *record, struct retired *retired,
                       struct app_changes *changes) {
    struct app *old = atomic_load(&slot->current);

    if (old != NULL && app_equal(old, record))
        return;
    changes->changed += old != NULL;
    changes->added += old == NULL;
    retire_record(retired, atomic_exchange(&slot->current, app_ref(record)));
}

/* Enters one listed app into the new index, and its record into its slot. */
static void take_over(struct app_manager *manager, struct app_index *index, const struct app_index *old,
                      const struct listed_app *listed, struct retired *retired, struct app_changes *changes) {
    struct slice id = slice_of(listed->id);
    struct slice key = slice_of(listed->key);
    struct app_slot *slot;
    struct app *last;

    if (id.length == 0)
        return;
    slot = slot_for(manager, old, id);
    last = atomic_load(&slot->current);
    if (listed->app == NULL && last != NULL) {
        log_error("app", "app %s: its last valid record stays in force", listed->id);
        app_index_add(&index->by_id, id, slot, NULL);
        app_index_add(&index->by_key, last->key, slot, NULL);
        return;
    }
    if (!app_index_add(&index->by_id, id, slot, listed->broken)) {
        log_error("app", "app %s: there is another app with this id; the first one counts", listed->id);
        return;
    }
    if (key.length != 0 && !app_index_add(&index->by_key, key, slot, listed->broken))
        log_error("app", "app %s: its key is another app's; the first one counts", listed->id);
    if (listed->app != NULL)
        put_record(slot, listed->app, retired, changes);
}

/* Apps that are not listed any more lose their record. Their slots stay in the index by id, where they count as not
 * found, so that an app that comes back finds its connections. */
static void drop_missing(struct app_manager *manager, struct app_index *index, struct retired *retired,
                         struct app_changes *changes) {
    for (size_t i = 0; i < manager->slot_count; i++) {
        struct app_slot *slot = manager->slots[i];
        struct app *record;

        if (!app_index_add(&index->by_id, slice_of(slot->id), slot, NULL))
            continue;
        record = atomic_exchange(&slot->current, NULL);
        changes->removed += record != NULL;
        retire_record(retired, record);
    }
}

static struct retired *take_over_all(struct app_manager *manager, const struct listing *listing,
                                     struct app_changes *changes) {
    struct retired *retired = alloc_zero(sizeof *retired);
    struct app_index *old = atomic_load(&manager->index);
    struct app_index *index = app_index_create(listing->count + manager->slot_count);

    *changes = (struct app_changes){0};
    for (size_t i = 0; i < listing->count; i++)
        take_over(manager, index, old, &listing->apps[i], retired, changes);
    atomic_store(&manager->has_apps, index->by_id.count != 0);
    drop_missing(manager, index, retired, changes);
    retired->index = atomic_exchange(&manager->index, index);
    return retired;
}

struct app_manager *app_manager_create(const struct config *config, struct workers *workers,
                                       void (*free_channels)(void *channels), struct error *error) {
    struct app_manager *manager = alloc_zero(sizeof *manager);
    struct app_defaults defaults;
    struct app_changes changes;
    struct listing listing = {0};

    manager->workers = workers;
    manager->free_channels = free_channels;
    manager->driver = app_store_driver_of(config->app_manager.driver);
    pthread_mutex_init(&manager->mutex, NULL);
    atomic_init(&manager->index, NULL);
    app_defaults_from_config(&defaults, config);
    if (manager->driver != NULL)
        manager->store = manager->driver->open(config, &defaults, error);
    else
        error_set(error, "this build cannot keep apps in %s", config_driver_name(config->app_manager.driver));
    if (manager->store == NULL || !list_all(manager->driver, manager->store, &listing, error)) {
        listing_dispose(&listing);
        app_manager_destroy(manager);
        return NULL;
    }
    retired_free(take_over_all(manager, &listing, &changes));
    listing_dispose(&listing);
    return manager;
}

void app_manager_destroy(struct app_manager *manager) {
    for (size_t i = 0; i < manager->slot_count; i++)
        app_slot_destroy(manager->slots[i], manager->free_channels);
    free(manager->slots);
    app_index_destroy(atomic_load(&manager->index));
    if (manager->store != NULL)
        manager->driver->close(manager->store);
    pthread_mutex_destroy(&manager->mutex);
    free(manager);
}

static void run_changed(struct worker *worker, void *context) {
    ((struct retired *)context)->changed(worker);
}

bool app_manager_reload(struct app_manager *manager, const struct config *config,
                        void (*changed)(struct worker *worker), struct app_changes *changes, struct error *error) {
    struct app_store *store;
    struct app_defaults defaults;
    struct listing listing = {0};
    struct retired *retired;

    app_defaults_from_config(&defaults, config);
    store = manager->driver->open(config, &defaults, error);
    if (store == NULL)
        return false;
    if (!list_all(manager->driver, store, &listing, error)) {
        manager->driver->close(store);
        return false;
    }
    manager->driver->close(manager->store);
    manager->store = store;
    retired = take_over_all(manager, &listing, changes);
    listing_dispose(&listing);
    retired->changed = changed;
    workers_run_on_all(manager->workers,
                       &(struct worker_task){.run = run_changed, .finished = retired_free, .context = retired});
    return true;
}

/* --- lookups --- */

static enum app_answer answer(struct app_lookup *lookup, const struct app_index_entry *entry) {
    if (entry == NULL)
        return lookup->answer = APP_NOT_FOUND;
    lookup->slot = entry->slot;
    lookup->app = slot_app(entry->slot);
    lookup->reason = entry->broken;
    if (lookup->app != NULL)
        return lookup->answer = APP_FOUND;
    return lookup->answer = entry->broken != NULL ? APP_INVALID : APP_NOT_FOUND;
}

enum app_answer app_manager_find_by_key(struct app_manager *manager, struct worker *worker, struct slice key,
                                        struct app_lookup *lookup) {
    const struct app_index *index = atomic_load_explicit(&manager->index, memory_order_acquire);

    (void)worker;
    return answer(lookup, app_index_find(&index->by_key, key));
}

enum app_answer app_manager_find_by_id(struct app_manager *manager, struct worker *worker, struct slice id,
                                       struct app_lookup *lookup) {
    const struct app_index *index = atomic_load_explicit(&manager->index, memory_order_acquire);

    (void)worker;
    return answer(lookup, app_index_find(&index->by_id, id));
}

void app_manager_cancel(struct app_manager *manager, struct app_lookup *lookup) {
    (void)manager;
    (void)lookup; /* no lookup of the memory driver is ever pending */
}

bool app_manager_has_apps(struct app_manager *manager) {
    return atomic_load(&manager->has_apps);
}

void app_manager_each_slot(struct app_manager *manager, void (*each)(struct app_slot *slot, void *context),
                           void *context) {
    pthread_mutex_lock(&manager->mutex);
    for (size_t i = 0; i < manager->slot_count; i++)
        each(manager->slots[i], context);
    pthread_mutex_unlock(&manager->mutex);
}
