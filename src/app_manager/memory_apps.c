#include "app_manager/memory_apps.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "app/app_change.h"
#include "app_manager/memory_index.h"
#include "base/alloc.h"
#include "base/log.h"
#include "net/reclaim.h"
#include "store/drivers.h"

#define LIST_PAGE 1000
#define BY_RELOAD "by a reload of the configuration"

struct memory_apps {
    const struct app_defaults *defaults;
    const struct app_manager_hooks *hooks;
    struct workers *workers;
    struct reclaimer reclaimer;
    struct app_store *store;
    _Atomic(struct app_index *) index;
    atomic_bool any;

    /* Guards the two below: the metrics page reads them while a reload adds. */
    pthread_mutex_t mutex;
    /* All that there ever were: a slot outlives its record, for its connections. */
    struct app_slot **slots;
    size_t slot_count;
};

/* --- reading the store --- */

/* A valid or broken record of a list. */
struct listed_app {
    char *id, *key;
    struct app *app; /* NULL: broken */
    char *broken;    /* why */
};

struct listing {
    struct listed_app *apps;
    size_t count, capacity;
};

static void collect_app(void *context, struct slice id, struct slice key, struct app *app, const struct error *error) {
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
static bool list_store(struct app_store *store, struct listing *listing, struct error *error) {
    const struct deadline deadline = deadline_after(0, -1); /* the memory driver never waits */
    struct store_connection *connection = store_connect(store, &deadline, error);
    enum store_answer answer;
    size_t before;

    do {
        struct slice after = SLICE("");
        before = listing->count;
        if (before != 0)
            after = slice_of(listing->apps[before - 1].id);
        answer = store_list(connection, after, LIST_PAGE, collect_app, listing, error);
    } while (answer == STORE_OK && listing->count - before >= LIST_PAGE);
    store_disconnect(connection);
    return answer == STORE_OK;
}

/* Opens the store that `config` describes, and reads it. */
static struct app_store *read_store(struct memory_apps *apps, const struct config *config, struct listing *listing,
                                    struct error *error) {
    struct app_store *store = store_open(&memory_store_driver, config, apps->defaults, error);

    if (store == NULL || list_store(store, listing, error))
        return store;
    store_close(store);
    return NULL;
}

/* --- taking a listing over --- */

struct takeover {
    struct memory_apps *apps;
    const struct app_index *old; /* NULL: the first one */
    struct app_index *index;
    struct app_changes *changes;
    struct reclaim_batch unlinked; /* records and the old index, which workers may still read */
};

static void unref_replaced_record(void *record, void *context) {
    (void)context;
    app_unref(record);
}

static void release_index(void *index, void *context) {
    (void)context;
    app_index_destroy(index);
}

/* The slot of an id: the one that was there before, or a new one. */
static struct app_slot *slot_of_id(struct memory_apps *apps, const struct app_index *old, struct slice id) {
    const struct app_index_entry *entry = old != NULL ? app_index_find(&old->by_id, id) : NULL;
    struct app_slot *slot;

    if (entry != NULL)
        return entry->slot;
    slot = app_slot_create(id, apps->workers->count);
    pthread_mutex_lock(&apps->mutex);
    apps->slots = alloc_array(apps->slots, apps->slot_count + 1, sizeof apps->slots[0]);
    apps->slots[apps->slot_count++] = slot;
    pthread_mutex_unlock(&apps->mutex);
    return slot;
}

/* Tells of a change. At the start there is none. */
static void announce_replaced(const struct takeover *takeover, struct app *before, struct app *after) {
    const struct app_manager_hooks *hooks = takeover->apps->hooks;

    if (takeover->old != NULL && hooks->replaced != NULL)
        hooks->replaced(before, after, hooks->context);
}

static void put_record(struct takeover *takeover, struct app_slot *slot, struct app *record) {
    struct app *old = atomic_load(&slot->current);

    if (old != NULL && app_equal(old, record))
        return;
    if (takeover->old != NULL) /* else this is the start */
        app_change_log_bounded(record->id, old, record, BY_RELOAD);
    takeover->changes->changed += old != NULL;
    takeover->changes->added += old == NULL;
    reclaim_batch_add(&takeover->unlinked, atomic_exchange(&slot->current, app_ref(record)), unref_replaced_record,
                      NULL);
    announce_replaced(takeover, old, record);
}

/* Enters a listed app into the new index, and its record into its slot. */
static void take_over_app(struct takeover *takeover, const struct listed_app *listed) {
    struct app_index *index = takeover->index;
    struct slice id = slice_of(listed->id), key = slice_of(listed->key);
    struct app_slot *slot;
    struct app *last;

    if (id.length == 0)
        return;
    slot = slot_of_id(takeover->apps, takeover->old, id);
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
        put_record(takeover, slot, listed->app);
}

/* Removes the records of apps that are not listed any more. Their slots stay in the index by id, where they count as
 * not found, so that an app that comes back finds its connections. */
static void drop_missing_apps(struct takeover *takeover) {
    struct memory_apps *apps = takeover->apps;

    for (size_t i = 0; i < apps->slot_count; i++) {
        struct app_slot *slot = apps->slots[i];
        struct app *record;

        if (!app_index_add(&takeover->index->by_id, slice_of(slot->id), slot, NULL))
            continue;
        record = atomic_exchange(&slot->current, NULL);
        if (record != NULL) {
            app_change_log_bounded(record->id, record, NULL, BY_RELOAD);
            announce_replaced(takeover, record, NULL);
        }
        takeover->changes->removed += record != NULL;
        reclaim_batch_add(&takeover->unlinked, record, unref_replaced_record, NULL);
    }
}

static void take_over(struct memory_apps *apps, const struct listing *listing, struct app_changes *changes) {
    struct app_index *index = app_index_create(listing->count + apps->slot_count);
    struct takeover takeover = {.apps = apps, .old = atomic_load(&apps->index), .index = index, .changes = changes};

    *changes = (struct app_changes){0};
    for (size_t i = 0; i < listing->count; i++)
        take_over_app(&takeover, &listing->apps[i]);
    atomic_store(&apps->any, index->by_id.count != 0);
    drop_missing_apps(&takeover);
    reclaim_batch_add(&takeover.unlinked, atomic_exchange(&apps->index, index), release_index, NULL);
    reclaim_batch_defer(&apps->reclaimer, &takeover.unlinked);
}

/* --- start, reload and end --- */

struct memory_apps *memory_apps_create(const struct config *config, const struct app_defaults *defaults,
                                       struct workers *workers, const struct app_manager_hooks *hooks,
                                       struct error *error) {
    struct memory_apps *apps = alloc_zero(sizeof *apps);
    struct listing listing = {0};
    struct app_changes unused;

    apps->defaults = defaults;
    apps->hooks = hooks;
    apps->workers = workers;
    reclaimer_init(&apps->reclaimer, workers);
    pthread_mutex_init(&apps->mutex, NULL);
    apps->store = read_store(apps, config, &listing, error);
    if (apps->store != NULL)
        take_over(apps, &listing, &unused);
    listing_dispose(&listing);
    if (apps->store != NULL)
        return apps;
    memory_apps_destroy(apps);
    return NULL;
}

void memory_apps_destroy(struct memory_apps *apps) {
    if (apps == NULL)
        return;
    reclaimer_dispose(&apps->reclaimer);
    for (size_t i = 0; i < apps->slot_count; i++)
        app_slot_destroy(apps->slots[i], apps->hooks->free_channels);
    free(apps->slots);
    app_index_destroy(atomic_load(&apps->index));
    if (apps->store != NULL)
        store_close(apps->store);
    pthread_mutex_destroy(&apps->mutex);
    free(apps);
}

static void run_changed_hook(struct worker *worker, void *context) {
    const struct memory_apps *apps = context;

    apps->hooks->changed(worker, apps->hooks->context);
}

bool memory_apps_reload(struct memory_apps *apps, const struct config *config, struct app_changes *changes,
                        struct error *error) {
    struct listing listing = {0};
    struct app_store *store = read_store(apps, config, &listing, error);

    if (store != NULL) {
        store_close(apps->store);
        apps->store = store;
        take_over(apps, &listing, changes);
        workers_run_on_all(apps->workers, &(struct worker_task){.run = run_changed_hook, .context = apps});
    }
    listing_dispose(&listing);
    return store != NULL;
}

/* --- lookups --- */

enum app_answer memory_apps_find(struct memory_apps *apps, enum name_kind kind, struct slice name,
                                 struct app_lookup *lookup) {
    const struct app_index *index = atomic_load_explicit(&apps->index, memory_order_acquire);
    const struct app_index_entry *entry = app_index_find(kind == NAME_ID ? &index->by_id : &index->by_key, name);

    if (entry == NULL)
        return lookup->answer = APP_NOT_FOUND;
    lookup->slot = entry->slot;
    lookup->app = slot_app(entry->slot);
    lookup->reason = entry->broken;
    if (lookup->app != NULL)
        return lookup->answer = APP_FOUND;
    return lookup->answer = entry->broken != NULL ? APP_INVALID : APP_NOT_FOUND;
}

bool memory_apps_any(struct memory_apps *apps) {
    return atomic_load(&apps->any);
}

void memory_apps_each_slot(struct memory_apps *apps, void (*each)(struct app_slot *slot, void *context),
                           void *context) {
    struct app_slot **slots;
    size_t count;

    pthread_mutex_lock(&apps->mutex);
    count = apps->slot_count;
    slots = alloc_array(NULL, count + 1, sizeof slots[0]);
    if (count != 0)
        memcpy(slots, apps->slots, count * sizeof slots[0]);
    pthread_mutex_unlock(&apps->mutex);
    reclaim_read_begin(&apps->reclaimer); /* of records: slots are freed at the end only */
    for (size_t i = 0; i < count; i++)
        each(slots[i], context);
    reclaim_read_end(&apps->reclaimer);
    free(slots);
}
