#include "net/address_table.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "base/hash.h"

#define SHARDS 64
#define BUCKETS_PER_SHARD 512

struct address_entry {
    struct address_entry *next; /* in its bucket */
    uint64_t address;
    uint32_t count;
    uint32_t shard;
};

struct address_shard {
    pthread_mutex_t mutex; /* protects the buckets and their entries */
    struct address_entry *buckets[BUCKETS_PER_SHARD];
};

struct address_table {
    uint32_t most;
    bool at_accept;
    atomic_uint_fast64_t refusals, addresses;
    struct address_entry unknown; /* of connections without an address */
    size_t descriptors;
    /* By descriptor; NULL: not counted. Each is used by one thread at a time. */
    _Atomic(struct address_entry *) *entries;
    struct address_shard shards[SHARDS];
};

struct address_table *address_table_create(uint32_t most, size_t descriptors, bool at_accept) {
    struct address_table *table = alloc_zero(sizeof *table);

    table->most = most;
    table->at_accept = at_accept;
    table->descriptors = descriptors;
    table->entries = alloc_zero(descriptors * sizeof table->entries[0]);
    for (unsigned i = 0; i < SHARDS; i++)
        pthread_mutex_init(&table->shards[i].mutex, NULL);
    return table;
}

void address_table_destroy(struct address_table *table) {
    if (table == NULL)
        return;
    for (unsigned i = 0; i < SHARDS; i++) {
        for (unsigned bucket = 0; bucket < BUCKETS_PER_SHARD; bucket++) {
            struct address_entry *entry = table->shards[i].buckets[bucket];
            while (entry != NULL) {
                struct address_entry *next = entry->next;
                budget_give(BUDGET_CONNECTIONS, NULL, alloc_footprint(sizeof *entry));
                free(entry);
                entry = next;
            }
        }
        pthread_mutex_destroy(&table->shards[i].mutex);
    }
    free(table->entries);
    free(table);
}

uint32_t address_table_most(const struct address_table *table) {
    return table->most;
}

bool address_table_counts_at_accept(const struct address_table *table) {
    return table->at_accept;
}

static struct address_entry *entry_of(const struct address_table *table, int fd) {
    return (size_t)fd < table->descriptors ? atomic_load_explicit(&table->entries[fd], memory_order_relaxed) : NULL;
}

static struct address_entry **find_entry_link(struct address_shard *shard, uint64_t address, uint64_t hash) {
    struct address_entry **link = &shard->buckets[hash / SHARDS % BUCKETS_PER_SHARD];

    while (*link != NULL && (*link)->address != address)
        link = &(*link)->next;
    return link;
}

static uint64_t hash_address(uint64_t address) {
    return hash_bytes((struct slice){(const char *)&address, sizeof address});
}

bool address_table_enter(struct address_table *table, int fd, uint64_t address) {
    uint64_t hash = hash_address(address);
    struct address_shard *shard = &table->shards[hash % SHARDS];
    struct address_entry *made, *entry, **link;
    bool admitted;

    if ((size_t)fd >= table->descriptors || entry_of(table, fd) != NULL)
        return true;
    made = alloc_zero(sizeof *made); /* not under the mutex */
    made->address = address;
    made->shard = (uint32_t)(hash % SHARDS);
    pthread_mutex_lock(&shard->mutex);
    link = find_entry_link(shard, address, hash);
    if (*link == NULL) {
        *link = made;
        made = NULL;
        budget_add(BUDGET_CONNECTIONS, NULL, alloc_footprint(sizeof *made));
        atomic_fetch_add_explicit(&table->addresses, 1, memory_order_relaxed);
    }
    entry = *link;
    admitted = entry->count < table->most;
    entry->count += admitted;
    pthread_mutex_unlock(&shard->mutex);
    free(made);
    if (admitted)
        atomic_store_explicit(&table->entries[fd], entry, memory_order_relaxed);
    return admitted;
}

void address_table_enter_unknown(struct address_table *table, int fd) {
    if ((size_t)fd < table->descriptors && entry_of(table, fd) == NULL)
        atomic_store_explicit(&table->entries[fd], &table->unknown, memory_order_relaxed);
}

bool address_table_holds(const struct address_table *table, int fd) {
    return (size_t)fd >= table->descriptors || entry_of(table, fd) != NULL;
}

void address_table_leave(struct address_table *table, int fd) {
    struct address_entry *entry = entry_of(table, fd), *unused = NULL, **link;
    struct address_shard *shard;

    if (entry == NULL)
        return;
    atomic_store_explicit(&table->entries[fd], NULL, memory_order_relaxed);
    if (entry == &table->unknown)
        return;
    shard = &table->shards[entry->shard];
    pthread_mutex_lock(&shard->mutex);
    if (--entry->count == 0) {
        link = find_entry_link(shard, entry->address, hash_address(entry->address));
        *link = entry->next;
        unused = entry;
        budget_give(BUDGET_CONNECTIONS, NULL, alloc_footprint(sizeof *unused));
        atomic_fetch_sub_explicit(&table->addresses, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&shard->mutex);
    free(unused);
}

void address_table_count_refusal(struct address_table *table) {
    atomic_fetch_add_explicit(&table->refusals, 1, memory_order_relaxed);
}

void address_table_read(const struct address_table *table, uint64_t *refusals, uint64_t *addresses) {
    *refusals = atomic_load_explicit(&table->refusals, memory_order_relaxed);
    *addresses = atomic_load_explicit(&table->addresses, memory_order_relaxed);
}
