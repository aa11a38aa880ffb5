#include "api/idempotency.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "base/hash.h"

#define EXPIRED_PER_CALL 4000

/* What an app, or all apps, hold. */
/* What is remembered has at most one part of so many of memory.limit_mb, for all apps and for one. */
#define MEMORY_PART 16
#define MEMORY_PART_OF_APP 128

enum measure { KEYS, BYTES, MEASURES };

/* An app with keys. */
struct app_keys {
    struct app_keys *next; /* in its bucket */
    uint64_t hash;
    uint64_t held[MEASURES];
    size_t places[MEASURES]; /* in the heaps, while it holds keys */
    unsigned under_way;      /* requests */
    struct list entries;     /* remembered, oldest first */
    size_t id_length;
    char id[];
};

struct idempotency_entry {
    struct idempotency_entry *next; /* in its bucket; later in the list of dropped entries */
    uint64_t hash;
    struct app_keys *app;
    struct frame *answer; /* NULL: under way */
    struct list app_link; /* while remembered: in app->entries */
    struct list age_link; /* while remembered: in idempotency.by_age */
    struct list waiters;  /* while under way */
    uint64_t expires_ms;
    char kind;
    char digest[IDEMPOTENCY_DIGEST];
    uint8_t key_length;
    char key[];
};

/* A binary heap of the apps that hold keys: the first one holds the most by this measure. */
struct app_heap {
    struct app_keys **apps;
    size_t count;
};

struct idempotency {
    struct idempotency_limits limits;
    pthread_mutex_t mutex;
    size_t mask; /* of both tables */
    struct idempotency_entry **entries;
    struct app_keys **apps;
    struct app_heap heaps[MEASURES];
    struct list by_age; /* remembered entries, oldest first */
    uint64_t held[MEASURES];
};

/* What one call unlinks under the mutex and frees afterwards. */
struct dropped {
    struct idempotency_entry *entries;
    struct app_keys *apps;
};

static void free_dropped(const struct dropped *dropped) {
    for (struct idempotency_entry *entry = dropped->entries, *next; entry != NULL; entry = next) {
        next = entry->next;
        if (entry->answer != NULL)
            frame_unref(entry->answer);
        free(entry);
    }
    for (struct app_keys *app = dropped->apps, *next; app != NULL; app = next) {
        next = app->next;
        free(app);
    }
}

/* --- the heaps --- */

static void heap_place(struct app_heap *heap, enum measure by, size_t place, struct app_keys *app) {
    heap->apps[place] = app;
    app->places[by] = place;
}

/* Moves the app at `place` up or down to where it belongs. */
static void heap_restore(struct app_heap *heap, enum measure by, size_t place) {
    struct app_keys *app = heap->apps[place];

    while (place != 0 && heap->apps[(place - 1) / 2]->held[by] < app->held[by]) {
        heap_place(heap, by, place, heap->apps[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * place + 1;
        if (child + 1 < heap->count && heap->apps[child + 1]->held[by] > heap->apps[child]->held[by])
            child++;
        if (child >= heap->count || heap->apps[child]->held[by] <= app->held[by])
            break;
        heap_place(heap, by, place, heap->apps[child]);
        place = child;
    }
    heap_place(heap, by, place, app);
}

static void heap_add(struct app_heap *heap, enum measure by, struct app_keys *app) {
    heap_place(heap, by, heap->count++, app);
    heap_restore(heap, by, app->places[by]);
}

static void heap_remove(struct app_heap *heap, enum measure by, const struct app_keys *app) {
    size_t place = app->places[by];
    struct app_keys *last = heap->apps[--heap->count];

    if (last == app)
        return;
    heap_place(heap, by, place, last);
    heap_restore(heap, by, place);
}

/* --- the tables --- */

static struct app_keys *find_app_keys(const struct idempotency *own, uint64_t hash, struct slice id) {
    struct app_keys *app = own->apps[hash & own->mask];

    while (app != NULL && (app->hash != hash || !slice_equal((struct slice){app->id, app->id_length}, id)))
        app = app->next;
    return app;
}

static bool entry_matches(const struct idempotency_entry *entry, const struct app_keys *app, uint64_t hash,
                          const struct idempotency_request *request) {
    return entry->hash == hash && entry->app == app && entry->kind == request->kind &&
           slice_equal((struct slice){entry->key, entry->key_length}, request->key);
}

static struct idempotency_entry *find_key_entry(const struct idempotency *own, const struct app_keys *app,
                                                uint64_t hash, const struct idempotency_request *request) {
    struct idempotency_entry *entry = app != NULL ? own->entries[hash & own->mask] : NULL;

    while (entry != NULL && !entry_matches(entry, app, hash, request))
        entry = entry->next;
    return entry;
}

static void unlink_app(struct idempotency *own, struct app_keys *app, struct dropped *dropped) {
    struct app_keys **at = &own->apps[app->hash & own->mask];

    while (*at != app)
        at = &(*at)->next;
    *at = app->next;
    app->next = dropped->apps;
    dropped->apps = app;
}

/* Takes an entry that is neither remembered nor under way out of the table. */
static void unlink_entry(struct idempotency *own, struct idempotency_entry *entry, struct dropped *dropped) {
    struct idempotency_entry **at = &own->entries[entry->hash & own->mask];
    struct app_keys *app = entry->app;

    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    entry->next = dropped->entries;
    dropped->entries = entry;
    if (app->under_way == 0 && app->held[KEYS] == 0)
        unlink_app(own, app, dropped);
}

/* --- what is remembered --- */

static uint64_t entry_bytes(const struct idempotency_entry *entry) {
    return sizeof *entry + entry->key_length + sizeof *entry->answer + entry->answer->length;
}

static void add_held(struct idempotency *own, struct app_keys *app, enum measure by, uint64_t amount) {
    app->held[by] += amount;
    own->held[by] += amount;
    heap_restore(&own->heaps[by], by, app->places[by]);
}

static void remove_held(struct idempotency *own, struct app_keys *app, enum measure by, uint64_t amount) {
    app->held[by] -= amount;
    own->held[by] -= amount;
    heap_restore(&own->heaps[by], by, app->places[by]);
}

static void remember_entry(struct idempotency *own, struct idempotency_entry *entry) {
    struct app_keys *app = entry->app;

    if (app->held[KEYS] == 0) {
        for (enum measure by = KEYS; by < MEASURES; by++)
            heap_add(&own->heaps[by], by, app);
        add_held(own, app, BYTES, sizeof *app + app->id_length);
    }
    add_held(own, app, KEYS, 1);
    add_held(own, app, BYTES, entry_bytes(entry));
    list_append(&app->entries, &entry->app_link);
    list_append(&own->by_age, &entry->age_link);
}

static void forget_entry(struct idempotency *own, struct idempotency_entry *entry, struct dropped *dropped) {
    struct app_keys *app = entry->app;

    list_remove(&entry->app_link);
    list_remove(&entry->age_link);
    remove_held(own, app, KEYS, 1);
    remove_held(own, app, BYTES, entry_bytes(entry));
    if (app->held[KEYS] == 0) {
        remove_held(own, app, BYTES, sizeof *app + app->id_length);
        for (enum measure by = KEYS; by < MEASURES; by++)
            heap_remove(&own->heaps[by], by, app);
    }
    unlink_entry(own, entry, dropped);
}

static void forget_oldest(struct idempotency *own, const struct app_keys *app, struct dropped *dropped) {
    forget_entry(own, container_of(app->entries.next, struct idempotency_entry, app_link), dropped);
}

/* The smaller one of `bytes` and this part of memory.limit_mb. */
static uint64_t bytes_within_memory(uint64_t bytes, unsigned part) {
    uint64_t limit = budget_limit();

    return limit != 0 && limit / part < bytes ? limit / part : bytes;
}

/* Forgets what is above the bounds; `app` has got a key. */
static void apply_limits(struct idempotency *own, const struct app_keys *app, struct dropped *dropped) {
    uint64_t app_bytes = bytes_within_memory(own->limits.app_bytes, MEMORY_PART_OF_APP);
    uint64_t bytes = bytes_within_memory(own->limits.bytes, MEMORY_PART);

    while (app->held[KEYS] > own->limits.app_keys || app->held[BYTES] > app_bytes)
        forget_oldest(own, app, dropped);
    while (own->held[KEYS] > own->limits.keys)
        forget_oldest(own, own->heaps[KEYS].apps[0], dropped);
    while (own->held[BYTES] > bytes)
        forget_oldest(own, own->heaps[BYTES].apps[0], dropped);
}

/* --- the way of a request --- */

static uint64_t hash_request(const struct idempotency_request *request, uint64_t app_hash) {
    char text[sizeof app_hash + 1 + IDEMPOTENCY_KEY_MAX];

    memcpy(text, &app_hash, sizeof app_hash);
    text[sizeof app_hash] = request->kind;
    memcpy(text + sizeof app_hash + 1, request->key.data, request->key.length);
    return hash_bytes((struct slice){text, sizeof app_hash + 1 + request->key.length});
}

static struct app_keys *create_app_keys(uint64_t hash, struct slice id) {
    struct app_keys *app = alloc_zero(sizeof *app + id.length);

    app->hash = hash;
    app->id_length = id.length;
    memcpy(app->id, id.data, id.length);
    list_init(&app->entries);
    return app;
}

static struct idempotency_entry *create_key_entry(uint64_t hash, const struct idempotency_request *request) {
    struct idempotency_entry *entry = alloc_zero(sizeof *entry + request->key.length);

    entry->hash = hash;
    entry->kind = request->kind;
    memcpy(entry->digest, request->digest.data, IDEMPOTENCY_DIGEST);
    entry->key_length = (uint8_t)request->key.length;
    memcpy(entry->key, request->key.data, request->key.length);
    list_init(&entry->waiters);
    return entry;
}

/* Puts a new entry into the tables; `fresh` becomes its app's, unless the app is there. */
static void insert_entry(struct idempotency *own, struct idempotency_entry *entry, struct app_keys *app,
                         struct app_keys **fresh) {
    if (app == NULL) {
        app = *fresh;
        *fresh = NULL;
        app->next = own->apps[app->hash & own->mask];
        own->apps[app->hash & own->mask] = app;
    }
    entry->app = app;
    app->under_way++;
    entry->next = own->entries[entry->hash & own->mask];
    own->entries[entry->hash & own->mask] = entry;
}

/* What a known key means for a request. */
static enum idempotency_state compare_entry(struct idempotency_entry *known, const struct idempotency_request *request,
                                            struct idempotency_waiter *waiter, struct frame **answer) {
    if (memcmp(known->digest, request->digest.data, IDEMPOTENCY_DIGEST) != 0)
        return IDEMPOTENCY_CONFLICT;
    if (known->answer == NULL) {
        list_append(&known->waiters, &waiter->link);
        return IDEMPOTENCY_WAIT;
    }
    frame_ref(known->answer);
    *answer = known->answer;
    return IDEMPOTENCY_REPLAY;
}

enum idempotency_state idempotency_begin(struct idempotency *own, const struct idempotency_request *request,
                                         uint64_t now_ms, struct idempotency_waiter *waiter,
                                         struct idempotency_entry **entry, struct frame **answer) {
    uint64_t app_hash = hash_bytes(request->app_id), hash = hash_request(request, app_hash);
    struct idempotency_entry *fresh = create_key_entry(hash, request), *known;
    struct app_keys *fresh_app = create_app_keys(app_hash, request->app_id), *app;
    enum idempotency_state state = IDEMPOTENCY_NEW;
    struct dropped dropped = {0};

    *entry = NULL;
    pthread_mutex_lock(&own->mutex);
    app = find_app_keys(own, app_hash, request->app_id);
    known = find_key_entry(own, app, hash, request);
    if (known != NULL && known->answer != NULL && now_ms >= known->expires_ms) {
        app->under_way++; /* keeps the app */
        forget_entry(own, known, &dropped);
        app->under_way--;
        known = NULL;
    }
    if (known != NULL) {
        state = compare_entry(known, request, waiter, answer);
    } else {
        insert_entry(own, fresh, app, &fresh_app);
        *entry = fresh;
        fresh = NULL;
    }
    pthread_mutex_unlock(&own->mutex);
    free(fresh);
    free(fresh_app);
    free_dropped(&dropped);
    return state;
}

static void wake_waiters(struct list *waiters, struct frame *answer) {
    while (!list_empty(waiters)) {
        struct idempotency_waiter *waiter = container_of(waiters->next, struct idempotency_waiter, link);
        list_remove(&waiter->link);
        if (answer != NULL)
            frame_ref(answer);
        waiter->wake(waiter, answer);
    }
}

void idempotency_finish(struct idempotency *own, struct idempotency_entry *entry, struct slice answer,
                        uint64_t now_ms) {
    struct frame *frame = frame_create(answer.length);
    struct app_keys *app = entry->app;
    struct dropped dropped = {0};
    struct list waiters;

    memcpy(frame->bytes, answer.data, answer.length);
    frame_count_as(frame, BUDGET_KIND_COUNT); /* the keys have a bound of their own */
    frame_ref(frame);                         /* for the waiters: the entry may be dropped at once */
    list_init(&waiters);
    pthread_mutex_lock(&own->mutex);
    entry->answer = frame;
    entry->expires_ms = now_ms + own->limits.lifetime_ms;
    list_move_all(&entry->waiters, &waiters);
    app->under_way--;
    remember_entry(own, entry);
    apply_limits(own, app, &dropped);
    pthread_mutex_unlock(&own->mutex);
    wake_waiters(&waiters, frame);
    frame_unref(frame);
    free_dropped(&dropped);
}

void idempotency_abandon(struct idempotency *own, struct idempotency_entry *entry) {
    struct dropped dropped = {0};
    struct list waiters;

    list_init(&waiters);
    pthread_mutex_lock(&own->mutex);
    list_move_all(&entry->waiters, &waiters);
    entry->app->under_way--;
    unlink_entry(own, entry, &dropped);
    pthread_mutex_unlock(&own->mutex);
    wake_waiters(&waiters, NULL);
    free_dropped(&dropped);
}

void idempotency_expire(struct idempotency *own, uint64_t now_ms) {
    struct dropped dropped = {0};

    pthread_mutex_lock(&own->mutex);
    for (unsigned i = 0; i < EXPIRED_PER_CALL && !list_empty(&own->by_age); i++) {
        struct idempotency_entry *oldest = container_of(own->by_age.next, struct idempotency_entry, age_link);
        if (now_ms < oldest->expires_ms)
            break;
        forget_entry(own, oldest, &dropped);
    }
    pthread_mutex_unlock(&own->mutex);
    free_dropped(&dropped);
}

void idempotency_read_size(struct idempotency *own, uint64_t *keys, uint64_t *bytes) {
    pthread_mutex_lock(&own->mutex);
    *keys = own->held[KEYS];
    *bytes = own->held[BYTES];
    pthread_mutex_unlock(&own->mutex);
}

struct idempotency *idempotency_create(const struct idempotency_limits *limits) {
    struct idempotency *own = alloc_zero(sizeof *own);
    size_t buckets = 16;

    while (buckets < limits->keys)
        buckets *= 2;
    own->limits = *limits;
    own->mask = buckets - 1;
    pthread_mutex_init(&own->mutex, NULL);
    list_init(&own->by_age);
    /* The kernel backs these with memory only where they are used. */
    own->entries = alloc_zero(buckets * sizeof own->entries[0]);
    own->apps = alloc_zero(buckets * sizeof own->apps[0]);
    for (enum measure by = KEYS; by < MEASURES; by++)
        own->heaps[by].apps = alloc_zero((limits->keys + 1) * sizeof own->heaps[by].apps[0]);
    return own;
}

void idempotency_destroy(struct idempotency *own) {
    struct dropped dropped = {0};

    if (own == NULL)
        return;
    while (!list_empty(&own->by_age))
        forget_entry(own, container_of(own->by_age.next, struct idempotency_entry, age_link), &dropped);
    free_dropped(&dropped);
    pthread_mutex_destroy(&own->mutex);
    for (enum measure by = KEYS; by < MEASURES; by++)
        free(own->heaps[by].apps);
    free(own->entries);
    free(own->apps);
    free(own);
}
