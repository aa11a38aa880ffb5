#include "app_manager/cache/cache_negative.h"

#include <string.h>

#include "base/alloc.h"

/* Why a record is broken. Names of one record share it, since it names the record. */
struct broken_reason {
    struct name_node node;
    size_t names;
    uint64_t told; /* number of the last change to this reason */
    char text[];
};

struct negative {
    struct name_node node;
    atomic_uint_fast64_t until_ms;
    struct list link;             /* of negatives->unknown or ->broken */
    struct broken_reason *reason; /* NULL: the store does not know the name */
    uint64_t changed;             /* number of the last change of the reason */
    char text[];
};

void negatives_init(struct negatives *negatives, uint64_t ttl_ms) {
    *negatives = (struct negatives){.ttl_ms = ttl_ms};
    name_table_init(&negatives->reasons);
    for (unsigned kind = 0; kind < NAME_KIND_COUNT; kind++) {
        name_table_init(&negatives->names[kind]);
        list_init(&negatives->unknown[kind]);
        list_init(&negatives->broken[kind]);
    }
}

/* --- removing --- */

static void release_reason(struct negatives *negatives, struct broken_reason *reason, struct reclaim_batch *unlinked) {
    if (reason == NULL || --reason->names != 0)
        return;
    name_table_remove(&negatives->reasons, &reason->node);
    reclaim_batch_add_memory(unlinked, reason);
}

static void remove_negative(struct negatives *negatives, enum name_kind kind, struct negative *negative,
                            struct reclaim_batch *unlinked) {
    name_table_remove(&negatives->names[kind], &negative->node);
    list_remove(&negative->link);
    negatives->broken_count[kind] -= negative->reason != NULL;
    release_reason(negatives, negative->reason, unlinked);
    reclaim_batch_add_memory(unlinked, negative);
}

static void remove_all(struct negatives *negatives, enum name_kind kind, struct list *list,
                       struct reclaim_batch *unlinked) {
    while (!list_empty(list))
        remove_negative(negatives, kind, container_of(list->next, struct negative, link), unlinked);
}

void negatives_dispose(struct negatives *negatives) {
    struct reclaim_batch unlinked = {0};

    for (unsigned kind = 0; kind < NAME_KIND_COUNT; kind++) {
        remove_all(negatives, kind, &negatives->unknown[kind], &unlinked);
        remove_all(negatives, kind, &negatives->broken[kind], &unlinked);
        name_table_dispose(&negatives->names[kind]);
    }
    name_table_dispose(&negatives->reasons);
    reclaim_batch_free(&unlinked);
}

/* --- finding --- */

static struct negative *negative_of(const struct negatives *negatives, enum name_kind kind, struct slice name,
                                    uint64_t hash) {
    struct name_node *node = name_table_find(&negatives->names[kind], name, hash);

    return node != NULL ? container_of(node, struct negative, node) : NULL;
}

bool negatives_find(const struct negatives *negatives, enum name_kind kind, struct slice name, uint64_t hash,
                    uint64_t now_ms, struct app_lookup *lookup) {
    struct negative *negative = negative_of(negatives, kind, name, hash);

    if (negative == NULL || now_ms >= atomic_load_explicit(&negative->until_ms, memory_order_relaxed))
        return false;
    lookup->answer = negative->reason != NULL ? APP_INVALID : APP_NOT_FOUND;
    lookup->reason = negative->reason != NULL ? negative->reason->text : NULL;
    return true;
}

size_t negatives_count(const struct negatives *negatives) {
    return negatives->names[NAME_ID].count + negatives->names[NAME_KEY].count;
}

/* --- adding --- */

static struct negative *create_negative(const struct negatives *negatives, struct slice name, uint64_t hash,
                                        uint64_t now_ms) {
    struct negative *negative = alloc_zero(sizeof *negative + name.length + 1);

    memcpy(negative->text, name.data, name.length);
    negative->node.text = (struct slice){negative->text, name.length};
    negative->node.hash = hash;
    atomic_init(&negative->until_ms, now_ms + negatives->ttl_ms);
    return negative;
}

/* Puts the entry in the place of the one with its name, and of the oldest one in a list that is full. */
static void add_negative(struct negatives *negatives, enum name_kind kind, struct negative *negative,
                         struct negative *before, struct reclaim_batch *unlinked) {
    bool broken = negative->reason != NULL;
    struct list *order = broken ? &negatives->broken[kind] : &negatives->unknown[kind];
    size_t count;

    if (before != NULL)
        remove_negative(negatives, kind, before, unlinked);
    count = broken ? negatives->broken_count[kind] : negatives->names[kind].count - negatives->broken_count[kind];
    if (count >= NEGATIVE_MAX)
        remove_negative(negatives, kind, container_of(order->next, struct negative, link), unlinked);
    list_append(order, &negative->link);
    negatives->broken_count[kind] += broken;
    name_table_add(&negatives->names[kind], &negative->node, unlinked);
}

void negatives_put_unknown(struct negatives *negatives, enum name_kind kind, struct slice name, uint64_t now_ms,
                           struct reclaim_batch *unlinked) {
    uint64_t hash = hash_bytes(name);
    struct negative *before = negative_of(negatives, kind, name, hash);

    add_negative(negatives, kind, create_negative(negatives, name, hash, now_ms), before, unlinked);
}

/* The reason of that text, counted for one more name. */
static struct broken_reason *acquire_reason(struct negatives *negatives, const char *text,
                                            struct reclaim_batch *unlinked) {
    struct slice name = slice_of(text);
    uint64_t hash = hash_bytes(name);
    struct name_node *node = name_table_find(&negatives->reasons, name, hash);
    struct broken_reason *reason;

    if (node != NULL) {
        reason = container_of(node, struct broken_reason, node);
    } else {
        reason = alloc_zero(sizeof *reason + name.length + 1);
        memcpy(reason->text, name.data, name.length);
        reason->node.text = (struct slice){reason->text, name.length};
        reason->node.hash = hash;
        name_table_add(&negatives->reasons, &reason->node, unlinked);
    }
    reason->names++;
    return reason;
}

bool negatives_put_broken(struct negatives *negatives, enum name_kind kind, struct slice name, const char *reason,
                          uint64_t now_ms, struct reclaim_batch *unlinked) {
    uint64_t hash = hash_bytes(name);
    struct negative *before = negative_of(negatives, kind, name, hash);
    struct negative *negative = create_negative(negatives, name, hash, now_ms);
    uint64_t changed_before = before != NULL ? before->changed : 0;
    bool logs = false;

    negative->reason = acquire_reason(negatives, reason, unlinked);
    negative->changed = changed_before;
    if (before == NULL || before->reason != negative->reason) {
        /* Another name may have told of this reason already, later than this name told of its last one. */
        logs = negative->reason->told <= changed_before;
        negative->changed = negative->reason->told = ++negatives->last_change;
    }
    add_negative(negatives, kind, negative, before, unlinked);
    return logs;
}

/* --- dropping and expiring --- */

void negatives_drop(struct negatives *negatives, enum name_kind kind, struct slice name,
                    struct reclaim_batch *unlinked) {
    struct negative *negative = negative_of(negatives, kind, name, hash_bytes(name));

    if (negative != NULL)
        remove_negative(negatives, kind, negative, unlinked);
}

void negatives_expire(struct negatives *negatives, enum name_kind kind, struct slice name,
                      struct reclaim_batch *unlinked) {
    struct negative *negative = negative_of(negatives, kind, name, hash_bytes(name));

    if (negative != NULL && negative->reason != NULL)
        atomic_store(&negative->until_ms, 0);
    else if (negative != NULL)
        remove_negative(negatives, kind, negative, unlinked);
}

void negatives_expire_all(struct negatives *negatives, struct reclaim_batch *unlinked) {
    for (unsigned kind = 0; kind < NAME_KIND_COUNT; kind++) {
        struct list *broken = &negatives->broken[kind];
        remove_all(negatives, kind, &negatives->unknown[kind], unlinked);
        for (struct list *link = broken->next; link != broken; link = link->next)
            atomic_store(&container_of(link, struct negative, link)->until_ms, 0);
    }
}

size_t negatives_clean_up(struct negatives *negatives, enum name_kind kind, uint64_t now_ms, size_t limit,
                          struct reclaim_batch *unlinked) {
    struct list *unknown = &negatives->unknown[kind];
    size_t removed = 0;

    while (removed < limit && !list_empty(unknown)) {
        struct negative *negative = container_of(unknown->next, struct negative, link);
        if (now_ms < atomic_load(&negative->until_ms)) /* later ones have not expired either */
            break;
        remove_negative(negatives, kind, negative, unlinked);
        removed++;
    }
    return removed;
}
