#include "net/rate_limiter.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "net/client_address.h"

#define SECOND_NS UINT64_C(1000000000)
#define PLACES_PER_SET 16
#define SHARDS 64

struct place {
    uint64_t address;
    uint64_t full_ns; /* when the bucket is full again; a place that is free is in the past */
};

struct set {
    struct place places[PLACES_PER_SET];
};

struct shard {
    pthread_mutex_t mutex; /* of the sets whose number is this one's modulo SHARDS, and of the counters */
    struct counter checks;
    struct counter refusals;
    char padding[CACHE_LINE];
};

struct rate_limiter {
    struct rate_limiter_settings settings;
    uint64_t token_ns; /* in which a bucket gets one token */
    uint64_t burst_ns; /* in which an empty one gets full: the window, or a few nanoseconds more by rounding */
    struct shard shards[SHARDS];
    uint32_t set_count;
    struct set sets[];
};

struct rate_limiter *rate_limiter_create(const struct rate_limiter_settings *settings, uint32_t places) {
    uint32_t set_count = places > PLACES_PER_SET ? places / PLACES_PER_SET : 1;
    struct rate_limiter *limiter = alloc_zero(sizeof *limiter + set_count * sizeof limiter->sets[0]);

    limiter->settings = *settings;
    limiter->set_count = set_count;
    /* Rounded up, so that a window never has room for one request more. */
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

/* The place of the address, else the one whose loss means least. */
static struct place *find_place(struct set *set, uint64_t address) {
    struct place *least = &set->places[0];

    for (size_t i = 0; i < PLACES_PER_SET; i++) {
        if (set->places[i].address == address)
            return &set->places[i];
        if (set->places[i].full_ns < least->full_ns)
            least = &set->places[i];
    }
    return least;
}

/* The nanoseconds until there is a token; if there is one, it is taken. */
static uint64_t take_request_token(const struct rate_limiter *limiter, struct set *set, uint64_t address,
                                   uint64_t now_ns) {
    struct place *place = find_place(set, address);
    uint64_t full_ns = place->address == address && place->full_ns > now_ns ? place->full_ns : now_ns;

    full_ns += limiter->token_ns;
    if (full_ns - now_ns > limiter->burst_ns)
        return full_ns - now_ns - limiter->burst_ns;
    *place = (struct place){address, full_ns};
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
