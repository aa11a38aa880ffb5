#include "net/rate_limiter.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "net/client_address.h"

#define SECOND_NS UINT64_C(1000000000)
#define ENTRIES_PER_SET 16
#define SHARDS 64

struct bucket_entry {
    uint64_t address;
    /* Time at which the bucket is full again; a free entry has a time in the past. */
    uint64_t full_ns;
};

struct entry_set {
    struct bucket_entry entries[ENTRIES_PER_SET];
};

struct shard {
    /* Protects the counters, and the sets whose number modulo SHARDS is the shard's. */
    pthread_mutex_t mutex;
    struct counter checks;
    struct counter refusals;
    char padding[CACHE_LINE];
};

struct rate_limiter {
    struct rate_limiter_settings settings;
    uint64_t token_ns; /* time in which a bucket gains one token */
    /* Time in which an empty bucket fills: the window, or a few nanoseconds more by rounding. */
    uint64_t burst_ns;
    struct shard shards[SHARDS];
    uint32_t set_count;
    struct entry_set sets[];
};

struct rate_limiter *rate_limiter_create(const struct rate_limiter_settings *settings, uint32_t entries) {
    uint32_t set_count = entries > ENTRIES_PER_SET ? entries / ENTRIES_PER_SET : 1;
    struct rate_limiter *limiter = alloc_zero(sizeof *limiter + set_count * sizeof limiter->sets[0]);

    limiter->settings = *settings;
    limiter->set_count = set_count;
    /* Rounded up, so that a window never allows one request too many. */
    limiter->token_ns = (settings->window_s * SECOND_NS + settings->max_requests - 1) / settings->max_requests;
    limiter->burst_ns = limiter->token_ns * settings->max_requests;
    for (size_t i = 0; i < SHARDS; i++)
        pthread_mutex_init(&limiter->shards[i].mutex, NULL);
    return limiter;
}

void rate_limiter_destroy(struct rate_limiter *limiter) {
    if (limiter == NULL)
        return;
    for (size_t i = 0; i < SHARDS; i++)
        pthread_mutex_destroy(&limiter->shards[i].mutex);
    free(limiter);
}

/* Finds the entry of the address; if there is none, the entry to replace, whose bucket is full first. */
static struct bucket_entry *find_entry(struct entry_set *set, uint64_t address) {
    struct bucket_entry *fullest = &set->entries[0];

    for (size_t i = 0; i < ENTRIES_PER_SET; i++) {
        if (set->entries[i].address == address)
            return &set->entries[i];
        if (set->entries[i].full_ns < fullest->full_ns)
            fullest = &set->entries[i];
    }
    return fullest;
}

/* Takes a token and returns 0; if there is none, returns the nanoseconds until the next one. */
static uint64_t take_request_token(const struct rate_limiter *limiter, struct entry_set *set, uint64_t address,
                                   uint64_t now_ns) {
    struct bucket_entry *entry = find_entry(set, address);
    uint64_t full_ns = entry->address == address && entry->full_ns > now_ns ? entry->full_ns : now_ns;

    full_ns += limiter->token_ns;
    if (full_ns - now_ns > limiter->burst_ns)
        return full_ns - now_ns - limiter->burst_ns;
    *entry = (struct bucket_entry){address, full_ns};
    return 0;
}

uint32_t rate_limiter_take(struct rate_limiter *limiter, uint64_t address, uint64_t now_ns) {
    uint64_t hash = hash_bytes((struct slice){(const char *)&address, sizeof address});
    uint32_t number = (uint32_t)(hash % limiter->set_count);
    struct shard *shard = &limiter->shards[number % SHARDS];
    uint64_t wait_ns;

    pthread_mutex_lock(&shard->mutex);
    wait_ns = take_request_token(limiter, &limiter->sets[number], address, now_ns);
    counter_add(&shard->checks, 1);
    counter_add(&shard->refusals, wait_ns != 0);
    pthread_mutex_unlock(&shard->mutex);
    return (uint32_t)((wait_ns + SECOND_NS - 1) / SECOND_NS);
}

uint32_t rate_limiter_check(struct rate_limiter *limiter, struct http_connection *connection,
                            const struct http_request *request) {
    uint64_t address;

    if (limiter == NULL || !client_address(connection, request, limiter->settings.trust_hops, &address))
        return 0;
    return rate_limiter_take(limiter, address, http_worker(connection)->now_ns);
}

const struct rate_limiter_settings *rate_limiter_settings(const struct rate_limiter *limiter) {
    return &limiter->settings;
}

void rate_limiter_count(const struct rate_limiter *limiter, uint64_t *checks, uint64_t *refusals) {
    *checks = *refusals = 0;
    for (size_t i = 0; i < SHARDS; i++) {
        *checks += counter_read(&limiter->shards[i].checks);
        *refusals += counter_read(&limiter->shards[i].refusals);
    }
}
