#include "app_manager/cache/cache_fetch.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/budget.h"

#define ANSWERS_PER_TURN 500 /* thousands may wait for one app */
#define LOOKUP_BYTES 512     /* in the account of memory: the lookup and what its owner keeps meanwhile, at most */

/* An answer on its way to the lookups that wait on one worker. */
struct fetch_delivery {
    struct message message;
    struct worker *worker;
    struct cache_fetch *fetch;
    struct cache_entry *entry; /* APP_FOUND: pinned */
    enum app_answer answer;
    bool stale;
    char *reason;
};

void fetches_init(struct fetches *fetches, struct workers *workers, struct lookup_counters *counters,
                  struct cache_wake *wake) {
    *fetches = (struct fetches){.workers = workers, .counters = counters, .wake = wake};
    for (unsigned kind = 0; kind < NAME_KIND_COUNT; kind++)
        name_table_init(&fetches->names[kind]);
    list_init(&fetches->list);
}

void fetches_dispose(struct fetches *fetches) {
    for (unsigned kind = 0; kind < NAME_KIND_COUNT; kind++)
        name_table_dispose(&fetches->names[kind]);
}

/* --- fetches begin --- */

struct cache_fetch *fetches_find(const struct fetches *fetches, enum name_kind kind, struct slice name, uint64_t hash) {
    struct name_node *node = name_table_find(&fetches->names[kind], name, hash);

    return node != NULL ? container_of(node, struct cache_fetch, node) : NULL;
}

static size_t fetch_bytes(struct slice name) {
    return alloc_footprint(sizeof(struct cache_fetch) + name.length + 1);
}

bool fetches_have_room(struct slice name) {
    if (budget_has_room(BUDGET_LOOKUPS, NULL, fetch_bytes(name) + LOOKUP_BYTES))
        return true;
    budget_refused(BUDGET_LOOKUPS);
    return false;
}

struct cache_fetch *fetches_add(struct fetches *fetches, enum name_kind kind, struct slice name,
                                struct cache_entry *entry, uint64_t now_ms, struct reclaim_batch *unlinked) {
    struct cache_fetch *fetch = alloc_zero(sizeof *fetch + name.length + 1);

    budget_add(BUDGET_LOOKUPS, NULL, fetch_bytes(name));
    memcpy(fetch->text, name.data, name.length);
    fetch->node.text = (struct slice){fetch->text, name.length};
    fetch->node.hash = hash_bytes(name);
    fetch->fetches = fetches;
    fetch->kind = kind;
    fetch->started_ms = now_ms;
    fetch->entry = entry;
    if (entry != NULL)
        entry_pin(entry);
    fetch->operation.priority = entry != NULL ? STORE_KNOWN : STORE_UNKNOWN;
    fetch->operation.repeatable = true;
    atomic_init(&fetch->references, 1);
    for (unsigned i = 0; i < fetches->workers->count; i++)
        list_init(&fetch->waiting[i]);
    name_table_add(&fetches->names[kind], &fetch->node, unlinked);
    list_append(&fetches->list, &fetch->link);
    cache_wake_for_work(fetches->wake);
    return fetch;
}

struct cache_fetch *fetches_add_refresh(struct fetches *fetches, struct cache_entry *entry, uint64_t now_ms,
                                        struct reclaim_batch *unlinked) {
    struct cache_fetch *fetch = fetches_add(fetches, NAME_ID, entry->by_id.text, entry, now_ms, unlinked);

    fetch->refresh = true;
    fetches->refreshes++;
    return fetch;
}

bool fetches_may_refresh(struct fetches *fetches) {
    fetches->sweep_waits = fetches->refreshes >= REFRESHES_MAX;
    return !fetches->sweep_waits;
}

void fetch_join(struct cache_fetch *fetch, struct worker *worker, struct app_lookup *lookup) {
    list_append(&fetch->waiting[worker->index], &lookup->link);
    fetch->waiting_workers |= UINT64_C(1) << worker->index;
    budget_add(BUDGET_LOOKUPS, NULL, LOOKUP_BYTES);
}

void fetch_leave(struct app_lookup *lookup) {
    if (list_empty(&lookup->link))
        return;
    list_remove(&lookup->link);
    budget_give(BUDGET_LOOKUPS, NULL, LOOKUP_BYTES);
}

/* --- fetches end --- */

void fetch_set_entry(struct cache_fetch *fetch, struct cache_entry *entry) {
    if (fetch->entry == entry)
        return;
    if (fetch->entry != NULL)
        entry_unpin(fetch->entry);
    fetch->entry = entry;
    entry_pin(entry);
}

static void note_refreshed(struct fetches *fetches) {
    fetches->refreshes--;
    if (!fetches->sweep_waits || fetches->refreshes > REFRESHES_MAX / 2)
        return;
    fetches->sweep_waits = false;
    cache_wake_for_sweep(fetches->wake);
}

void fetches_remove(struct fetches *fetches, struct cache_fetch *fetch) {
    name_table_remove(&fetches->names[fetch->kind], &fetch->node);
    list_remove(&fetch->link);
    if (fetch->entry != NULL)
        entry_unpin(fetch->entry);
    if (fetch->refresh)
        note_refreshed(fetches);
}

void fetch_unref(struct cache_fetch *fetch) {
    if (atomic_fetch_sub_explicit(&fetch->references, 1, memory_order_acq_rel) != 1)
        return;
    app_unref(fetch->app);
    budget_give(BUDGET_LOOKUPS, NULL, fetch_bytes(fetch->node.text));
    free(fetch);
}

/* --- deliveries --- */

static void answer_lookup(const struct fetch_delivery *delivery, struct lookup_counters *counters,
                          struct app_lookup *lookup) {
    lookup->answer = delivery->answer;
    lookup->reason = delivery->reason;
    if (delivery->answer == APP_FOUND) {
        lookup->slot = delivery->entry->slot;
        lookup->app = slot_app(lookup->slot);
        if (lookup->app == NULL) /* deleted since */
            lookup->answer = APP_NOT_FOUND;
        counter_add(&counters->stale, delivery->stale);
    }
    counter_add(&counters->errors, delivery->answer == APP_UNAVAILABLE || delivery->answer == APP_INVALID);
    lookup->done(lookup);
}

static void deliver_answer(struct worker *worker, struct message *message, struct message **rest) {
    struct fetch_delivery *delivery = container_of(message, struct fetch_delivery, message);
    struct cache_fetch *fetch = delivery->fetch;
    struct list *waiting = &fetch->waiting[worker->index];

    (void)rest;
    for (unsigned i = 0; i < ANSWERS_PER_TURN && !list_empty(waiting); i++) {
        struct app_lookup *lookup = container_of(waiting->next, struct app_lookup, link);
        fetch_leave(lookup);
        answer_lookup(delivery, &fetch->fetches->counters[worker->index], lookup);
    }
    if (!list_empty(waiting)) {
        worker_post(worker, message); /* the rest in the next turn */
        return;
    }
    if (delivery->entry != NULL)
        entry_unpin(delivery->entry);
    fetch_unref(fetch);
    free(delivery->reason);
    free(delivery);
}

static struct fetch_delivery *create_delivery(struct cache_fetch *fetch, unsigned worker, enum app_answer answer,
                                              const char *reason) {
    struct cache_entry *entry = answer == APP_FOUND ? fetch->entry : NULL;
    struct fetch_delivery *delivery = alloc(sizeof *delivery);

    *delivery = (struct fetch_delivery){
        .message.handle = deliver_answer,
        .worker = fetch->fetches->workers->list[worker],
        .fetch = fetch,
        .entry = entry,
        .answer = answer,
        .stale = entry != NULL && atomic_load_explicit(&entry->stale, memory_order_relaxed),
        .reason = reason != NULL ? alloc_copy(reason, strlen(reason)) : NULL,
    };
    if (entry != NULL)
        entry_pin(entry);
    atomic_fetch_add_explicit(&fetch->references, 1, memory_order_relaxed);
    return delivery;
}

void fetch_answer(struct cache_fetch *fetch, enum app_answer answer, const char *reason,
                  struct fetch_delivery **deliveries) {
    for (unsigned i = 0; i < fetch->fetches->workers->count; i++) {
        struct fetch_delivery *delivery;
        if ((fetch->waiting_workers >> i & 1) == 0)
            continue;
        delivery = create_delivery(fetch, i, answer, reason);
        delivery->message.next = *deliveries != NULL ? &(*deliveries)->message : NULL;
        *deliveries = delivery;
    }
    fetch->waiting_workers = 0;
}

void fetch_post(struct fetch_delivery *deliveries) {
    while (deliveries != NULL) {
        struct message *next = deliveries->message.next;
        worker_post(deliveries->worker, &deliveries->message);
        deliveries = next != NULL ? container_of(next, struct fetch_delivery, message) : NULL;
    }
}
