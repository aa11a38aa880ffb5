#include "app_manager/memory_apps.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "app/app_change.h"
#include "app_manager/mass_removal.h"
#include "app_manager/memory_index.h"
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "net/reclaim.h"
#include "store/drivers.h"

#define LIST_PAGE 1000
#define NAMES_MAX 5 /* in a line of the log */
#define BY_RELOAD "by a reload of the configuration"

struct memory_apps {
    const struct app_defaults *defaults;
    const struct app_manager_hooks *hooks;
    struct workers *workers;
    struct reclaimer reclaimer;
    struct app_store *store;
    _Atomic(struct app_index *) index;
    atomic_bool any;

    /* Of the main thread: apps that the configuration does not have any more, and that stay in force for a while. */
    struct app_slot **held;
    uint64_t held_until_ms;
    uint32_t grace_s;
    bool held_are_all;                      /* there is no other app */
    atomic_uint_fast64_t held_count, holds; /* `holds`: how often removals were held */

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
    reclaim_batch_add(&takeover->unlinked, slot_replace_app(slot, app_ref(record)), unref_replaced_record, NULL);
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

/* --- apps that are not listed any more --- */

static void remove_record(struct takeover *takeover, struct app_slot *slot) {
    struct app *record = slot_replace_app(slot, NULL);

    app_change_log_removal(slice_of(slot->id), slot_connections(slot), BY_RELOAD);
    announce_replaced(takeover, record, NULL);
    takeover->changes->removed++;
    reclaim_batch_add(&takeover->unlinked, record, unref_replaced_record, NULL);
}

static void release_held_apps(struct memory_apps *apps) {
    free(apps->held);
    apps->held = NULL;
    atomic_store(&apps->held_count, 0);
}

/* The slots with a record whose app is not in the new index; the others that are not get an entry, where they count as
 * not found, so that an app that comes back finds its connections. */
static struct app_slot **list_missing(const struct takeover *takeover, size_t *count) {
    const struct memory_apps *apps = takeover->apps;
    struct app_slot **missing = alloc_array(NULL, apps->slot_count + 1, sizeof missing[0]);

    *count = 0;
    for (size_t i = 0; i < apps->slot_count; i++) {
        struct app_slot *slot = apps->slots[i];
        if (app_index_add(&takeover->index->by_id, slice_of(slot->id), slot, NULL) &&
            atomic_load(&slot->current) != NULL)
            missing[(*count)++] = slot;
    }
    return missing;
}

/* True if the same apps were missing at the reload before. */
static bool is_confirmed(const struct memory_apps *apps, struct app_slot *const *missing, size_t count) {
    return count != 0 && count == atomic_load(&apps->held_count) &&
           memcmp(apps->held, missing, count * sizeof missing[0]) == 0;
}

static void log_hold(const struct memory_apps *apps, size_t known) {
    size_t count = atomic_load(&apps->held_count), named = count < NAMES_MAX ? count : NAMES_MAX;
    struct buffer text = {0};

    for (size_t i = 0; i < named; i++)
        buffer_appendf(&text, "%s%s", i == 0 ? "" : ", ", apps->held[i]->id);
    if (count > named)
        buffer_appendf(&text, " and %zu more", count - named);
    log_error("app",
              "%zu of %zu apps are not in the configuration any more (%.*s). In case this is a mistake they stay in "
              "force for %u s (app_manager.vanished_grace). To remove them now: SIGHUP once more. To keep them: put "
              "them back, then SIGHUP",
              count, known, SLICE_ARGS(buffer_slice(&text)), apps->grace_s);
    buffer_dispose(&text);
}

/* The apps stay in force. Takes over the list. */
static void hold_missing(struct takeover *takeover, struct app_slot **missing, size_t count, size_t known) {
    struct memory_apps *apps = takeover->apps;

    for (size_t i = 0; i < count; i++)
        app_index_add(&takeover->index->by_key, atomic_load(&missing[i]->current)->key, missing[i], NULL);
    apps->held = missing;
    apps->held_until_ms = clock_monotonic_ms() + apps->grace_s * UINT64_C(1000);
    atomic_store(&apps->held_count, count);
    atomic_fetch_add(&apps->holds, 1);
    takeover->changes->held = (unsigned)count;
    log_hold(apps, known);
}

/* Removes the records of the apps that are missing, or holds that. `known`: apps in force before. */
static void drop_missing_apps(struct takeover *takeover, size_t known, bool leaves_none) {
    struct memory_apps *apps = takeover->apps;
    struct app_slot **missing;
    size_t count;
    bool confirmed;

    missing = list_missing(takeover, &count);
    confirmed = is_confirmed(apps, missing, count);
    apps->held_are_all = leaves_none;
    release_held_apps(apps);
    if (!confirmed && apps->grace_s != 0 && mass_removal_of_reload(count, known, leaves_none)) {
        hold_missing(takeover, missing, count, known);
        return;
    }
    for (size_t i = 0; i < count; i++)
        remove_record(takeover, missing[i]);
    free(missing);
}

static size_t count_records(const struct memory_apps *apps) {
    size_t count = 0;

    for (size_t i = 0; i < apps->slot_count; i++)
        count += atomic_load(&apps->slots[i]->current) != NULL;
    return count;
}

static void take_over(struct memory_apps *apps, const struct listing *listing, struct app_changes *changes) {
    struct app_index *index = app_index_create(listing->count + apps->slot_count);
    struct takeover takeover = {.apps = apps, .old = atomic_load(&apps->index), .index = index, .changes = changes};
    size_t known = count_records(apps);
    bool leaves_none;

    *changes = (struct app_changes){0};
    for (size_t i = 0; i < listing->count; i++)
        take_over_app(&takeover, &listing->apps[i]);
    leaves_none = index->by_id.count == 0;
    drop_missing_apps(&takeover, known, leaves_none);
    atomic_store(&apps->any, !leaves_none || changes->held != 0);
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
    free(apps->held);
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
        apps->grace_s = config->app_manager.vanished_grace_s;
        take_over(apps, &listing, changes);
        workers_run_on_all(apps->workers, &(struct worker_task){.run = run_changed_hook, .context = apps});
    }
    listing_dispose(&listing);
    return store != NULL;
}

/* --- removals that are held --- */

uint64_t memory_apps_removal_due_ms(const struct memory_apps *apps) {
    return atomic_load(&apps->held_count) != 0 ? apps->held_until_ms : UINT64_MAX;
}

void memory_apps_remove_held(struct memory_apps *apps, uint64_t now_ms) {
    struct app_changes changes = {0};
    struct takeover takeover = {.apps = apps, .old = atomic_load(&apps->index), .changes = &changes};
    size_t count = atomic_load(&apps->held_count);

    if (now_ms < memory_apps_removal_due_ms(apps))
        return;
    for (size_t i = 0; i < count; i++)
        remove_record(&takeover, apps->held[i]);
    if (apps->held_are_all)
        atomic_store(&apps->any, false);
    release_held_apps(apps);
    reclaim_batch_defer(&apps->reclaimer, &takeover.unlinked);
    workers_run_on_all(apps->workers, &(struct worker_task){.run = run_changed_hook, .context = apps});
}

void memory_apps_read_removals(const struct memory_apps *apps, uint64_t *total, uint64_t *held) {
    *total = atomic_load(&apps->holds);
    *held = atomic_load(&apps->held_count);
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
