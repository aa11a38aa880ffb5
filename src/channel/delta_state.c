#include "channel/delta_state.h"

#include <stdlib.h>

#include "base/crypto.h"
#include "base/hash.h"

/* The texts of one channel may take this part of those of the process. */
#define CHANNEL_PART 4
/* This part of the share in the account of memory is kept free, so that texts go before they, or what others ask for,
 * are refused. */
#define RESERVED_PART 8
/* Buckets of a key: at first, and at most. */
#define KEY_BUCKETS 4
/* Keyed numbers begin below: clients with 32-bit integers count up from there for long. */
#define DRAWN_BELOW (UINT32_C(1) << 30)
/* Texts that are dropped at most in a second because of their age, or because memory is short: a clean-up, not a bound.
 */
#define EXPIRED_AT_ONCE 10000
/* Texts that an event drops at most because memory is short; the next one goes on. */
#define EVICTED_AT_ONCE 128

static uint32_t draw_sequence(void) {
    uint32_t drawn;

    random_bytes(&drawn, sizeof drawn);
    return drawn % DRAWN_BELOW;
}

struct delta_state *delta_state_create(struct channel *channel) {
    struct delta_state *state = alloc_zero(sizeof *state);

    atomic_init(&state->references, 1);
    pthread_mutex_init(&state->mutex, NULL);
    state->channel = channel;
    state->drawn = draw_sequence();
    list_init(&state->oldest);
    return state;
}

void delta_state_unref(struct delta_state *state) {
    if (state == NULL || atomic_fetch_sub_explicit(&state->references, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy(&state->mutex);
    free(state);
}

size_t delta_state_bytes(void) {
    return alloc_footprint(sizeof(struct delta_state));
}

/* --- keys; the caller holds the mutex --- */

static struct delta_key **key_link(const struct delta_state *state, struct slice name, uint64_t hash) {
    struct delta_key **link = &state->buckets[hash & (state->bucket_count - 1)];

    while (*link != NULL &&
           !((*link)->hash == hash && slice_equal((struct slice){(*link)->name, (*link)->length}, name)))
        link = &(*link)->next;
    return link;
}

struct delta_key *delta_state_find(const struct delta_state *state, struct slice name, uint64_t hash) {
    return state->bucket_count != 0 ? *key_link(state, name, hash) : NULL;
}

/* The number of buckets for so many keys: at most KEY_BUCKETS for each. */
static uint32_t wanted_key_buckets(const struct delta_state *state) {
    if (state->bucket_count == 0)
        return KEY_BUCKETS;
    if (state->key_count >= state->bucket_count)
        return 2 * state->bucket_count;
    if (state->key_count < state->bucket_count / KEY_BUCKETS)
        return state->bucket_count / 2;
    return state->bucket_count;
}

/* Doubles the buckets if there are as many keys, or halves them if few are left. */
static void fit_key_buckets(struct delta_state *state) {
    uint32_t count = wanted_key_buckets(state);
    struct delta_key **buckets;

    if (count == state->bucket_count)
        return;
    buckets = alloc_zero(count * sizeof buckets[0]);
    for (uint32_t i = 0; i < state->bucket_count; i++) {
        struct delta_key *key = state->buckets[i];
        while (key != NULL) {
            struct delta_key *next = key->next;
            struct delta_key **bucket = &buckets[key->hash & (count - 1)];
            key->next = *bucket;
            *bucket = key;
            key = next;
        }
    }
    free(state->buckets);
    state->buckets = buckets;
    state->bucket_count = count;
}

static void free_key_buckets(struct delta_state *state) {
    free(state->buckets);
    state->buckets = NULL;
    state->bucket_count = 0;
}

/* Frees a key that is in no list and no bucket any more. */
static void free_key(struct delta_state *state, struct delta_key *key) {
    budget_give(BUDGET_DELTAS, state->channel->slot->budget, key->bytes);
    state->bytes -= key->bytes;
    state->key_count--;
    free(key->text);
    tags_unref(key->base.tags);
    free(key);
}

static void drop_key(struct delta_texts *texts, struct delta_state *state, struct delta_key *key) {
    struct delta_key **link = key_link(state, (struct slice){key->name, key->length}, key->hash);

    *link = key->next;
    list_remove(&key->in_channel);
    delta_texts_remove(texts, key, key->bytes);
    free_key(state, key);
    if (state->key_count == 0)
        free_key_buckets(state);
    else
        fit_key_buckets(state);
}

static struct delta_key *oldest_key(const struct delta_state *state) {
    return list_empty(&state->oldest) ? NULL : container_of(state->oldest.next, struct delta_key, in_channel);
}

static void drop_all_keys(struct delta_texts *texts, struct delta_state *state) {
    struct delta_key *key;

    if (state->key_count == 0)
        return;
    delta_texts_remove_all(texts, state);
    while ((key = oldest_key(state)) != NULL) {
        list_remove(&key->in_channel);
        free_key(state, key);
    }
    free_key_buckets(state);
}

/* Drops the key to make room, and counts that. */
static void evict_key(struct channel_hub *hub, struct delta_state *state, struct worker *worker,
                      struct delta_key *key) {
    drop_key(&hub->texts, state, key);
    counter_add(&slot_part(state->channel->slot, worker)->counters.delta_evictions, 1);
}

/* --- takers --- */

static void count_taker(struct delta_state *state, enum delta_takes takes, bool asked, unsigned change) {
    state->takers[takes][asked] += change;
    atomic_fetch_add_explicit(&state->taker_count, change, memory_order_relaxed);
}

void delta_state_enter(struct delta_state *state, enum delta_takes takes, bool asked) {
    pthread_mutex_lock(&state->mutex);
    count_taker(state, takes, asked, 1);
    pthread_mutex_unlock(&state->mutex);
}

void delta_state_leave(struct delta_texts *texts, struct delta_state *state, enum delta_takes takes, bool asked) {
    pthread_mutex_lock(&state->mutex);
    count_taker(state, takes, asked, -1u);
    if (!delta_state_has_takers(state))
        drop_all_keys(texts, state);
    pthread_mutex_unlock(&state->mutex);
}

bool delta_state_needs(const struct delta_state *state, enum app_delta_algorithm algorithm, bool only_for_askers,
                       bool needed[DELTA_ALGORITHMS]) {
    static const enum delta_takes takes[DELTA_ALGORITHMS] = {
        [APP_DELTA_FOSSIL] = TAKES_FOSSIL, [APP_DELTA_XDELTA3] = TAKES_XDELTA3};
    uint32_t count = 0;

    for (unsigned i = 0; i < DELTA_ALGORITHMS; i++) {
        uint32_t takers = 0;
        for (unsigned asked = only_for_askers; asked <= 1; asked++) {
            takers += state->takers[takes[i]][asked];
            if (i == algorithm)
                takers += state->takers[TAKES_DEFAULT][asked];
        }
        needed[i] = takers != 0;
        count += takers;
    }
    return count != 0;
}

/* --- events --- */

uint32_t delta_state_number(struct delta_texts *texts, struct delta_state *state, bool keyed) {
    if (keyed && !state->keyed) {
        drop_all_keys(texts, state); /* clients look for bases by key from now on */
        state->keyed = true;
        state->sequence = state->drawn;
    } else if (state->sequence == DELTA_SEQUENCE_MAX) {
        drop_all_keys(texts, state);
        state->sequence = draw_sequence();
    }
    return state->sequence;
}

/* The memory of a key with a text of `capacity` bytes and tags, and of its buckets. */
static size_t key_bytes(size_t length, size_t capacity, const struct tags *tags) {
    return alloc_footprint(sizeof(struct delta_key) + length) + alloc_footprint(capacity) + tags_bytes(tags) +
           KEY_BUCKETS * sizeof(struct delta_key *);
}

/* The capacity for a text: what there is, if it fits well. */
static size_t text_capacity_for(const struct delta_key *key, size_t length) {
    return key != NULL && length <= key->text_capacity && key->text_capacity / 2 <= length ? key->text_capacity
                                                                                           : length;
}

/* Makes room for `more` bytes of a key that then has `bytes`, in the channel and in the account, by dropping other
 * texts of the channel. */
static bool take_room(struct channel_hub *hub, struct delta_state *state, struct worker *worker, size_t more,
                      size_t bytes) {
    struct budget_app *app = state->channel->slot->budget;
    size_t max = hub->settings.deltas.max_bytes / CHANNEL_PART;
    struct delta_key *oldest;

    if (bytes > max) /* no other text goes for one that is too large in any case */
        return false;
    while (state->bytes + more > max) {
        if ((oldest = oldest_key(state)) == NULL)
            return false;
        evict_key(hub, state, worker, oldest);
    }
    /* A text that goes for another is an eviction, and not a refusal. */
    for (unsigned i = 0; i < EVICTED_AT_ONCE && !budget_has_room(BUDGET_DELTAS, app, more); i++) {
        if ((oldest = oldest_key(state)) == NULL)
            break;
        evict_key(hub, state, worker, oldest);
    }
    return budget_take(BUDGET_DELTAS, app, more);
}

/* Allocates a key that is in no list and no bucket yet; NULL if there is no memory. */
static struct delta_key *create_key(struct delta_state *state, const struct delta_sent *sent) {
    struct delta_key *key = calloc(1, sizeof *key + sent->key.length);

    if (key == NULL)
        return NULL;
    key->state = state;
    key->hash = sent->hash;
    key->length = (uint32_t)sent->key.length;
    if (key->length != 0)
        memcpy(key->name, sent->key.data, sent->key.length);
    return key;
}

static void link_key(struct delta_state *state, struct delta_key *key) {
    struct delta_key **bucket;

    fit_key_buckets(state);
    bucket = &state->buckets[key->hash & (state->bucket_count - 1)];
    key->next = *bucket;
    *bucket = key;
    state->key_count++;
}

/* Gives the key (NULL: none) memory for a text, in place of its old one; false if there is none. */
static bool make_text(struct delta_key *key, size_t capacity) {
    char *text;

    if (key == NULL)
        return false;
    if (key->text != NULL && key->text_capacity == capacity)
        return true;
    text = malloc(capacity);
    if (text == NULL)
        return false;
    free(key->text);
    key->text = text;
    key->text_capacity = (uint32_t)capacity;
    return true;
}

static void fill_key(struct delta_key *key, const struct delta_sent *sent) {
    memcpy(key->text, sent->text.data, sent->text.length);
    key->text_length = (uint32_t)sent->text.length;
    key->sequence = sent->sequence;
    key->deltas = sent->delta ? key->deltas + 1 : 0;
    tags_unref(key->base.tags);
    key->base = sent->base;
    tags_ref(key->base.tags);
}

void delta_state_keep(struct channel_hub *hub, struct delta_state *state, struct worker *worker,
                      const struct delta_sent *sent) {
    struct delta_key *old = delta_state_find(state, sent->key, sent->hash);
    struct delta_key *key = old != NULL ? old : create_key(state, sent);
    size_t capacity = text_capacity_for(old, sent->text.length);
    size_t bytes = key_bytes(sent->key.length, capacity, sent->base.tags), before = old != NULL ? old->bytes : 0;
    uint32_t others = state->key_count - (old != NULL);

    state->sequence = sent->sequence + 1;
    if (old != NULL)
        list_remove(&old->in_channel); /* it is not among those that go for it */
    for (; sent->max_keys != 0 && others >= sent->max_keys && others != 0; others--)
        evict_key(hub, state, worker, oldest_key(state));
    if (!make_text(key, capacity) || (bytes > before && !take_room(hub, state, worker, bytes - before, bytes))) {
        if (old != NULL) {
            evict_key(hub, state, worker, old);
        } else if (key != NULL) {
            free(key->text);
            free(key);
        }
        return;
    }
    if (bytes < before)
        budget_give(BUDGET_DELTAS, state->channel->slot->budget, before - bytes);
    if (old == NULL)
        link_key(state, key);
    fill_key(key, sent);
    key->bytes = bytes;
    state->bytes += bytes - before;
    list_append(&state->oldest, &key->in_channel);
    delta_texts_sent(&hub->texts, key, (int64_t)bytes - (int64_t)before, worker->now_ms);
}

/* --- the process --- */

/* True if the account is so full that texts, which nobody needs, are to go for what others take: the process's, or that
 * of an app. */
static bool account_is_short(const struct budget_app *app) {
    return !budget_has_room(BUDGET_DELTAS, app, budget_kind_limit(BUDGET_DELTAS) / RESERVED_PART);
}

/* Drops the oldest text of a state that delta_texts.h has locked, unlocks it, and drops the reference. `worker` counts
 * it as an eviction; NULL: it is none. False if there is no state. */
static bool drop_oldest(struct channel_hub *hub, struct worker *worker, struct delta_state *state) {
    if (state == NULL)
        return false;
    if (worker != NULL)
        evict_key(hub, state, worker, oldest_key(state));
    else
        drop_key(&hub->texts, state, oldest_key(state));
    pthread_mutex_unlock(&state->mutex);
    delta_state_unref(state);
    return true;
}

void delta_state_shrink(struct channel_hub *hub, struct app_slot *slot, struct worker *worker) {
    const struct channel_table *table = atomic_load_explicit(&slot->channels, memory_order_acquire);
    struct delta_texts *texts = &hub->texts;
    bool more = true;

    while (more && delta_texts_bytes(texts) > hub->settings.deltas.max_bytes)
        more = drop_oldest(hub, worker, delta_texts_lock_largest(texts));
    for (unsigned i = 0; more && i < EVICTED_AT_ONCE && account_is_short(NULL); i++)
        more = drop_oldest(hub, worker, delta_texts_lock_largest(texts));
    for (unsigned i = 0; more && i < EVICTED_AT_ONCE && table != NULL && account_is_short(slot->budget); i++)
        more = drop_oldest(hub, worker, delta_texts_lock_app(texts, &table->deltas));
}

void delta_state_expire(struct channel_hub *hub, uint64_t now_ms) {
    uint64_t age_ms = UINT64_C(1000) * hub->settings.deltas.max_age_s;
    struct delta_texts *texts = &hub->texts;
    bool more = age_ms != 0 && now_ms > age_ms;

    for (unsigned i = 0; more && i < EXPIRED_AT_ONCE; i++)
        more = drop_oldest(hub, NULL, delta_texts_lock_sent_before(texts, now_ms - age_ms));
    more = true;
    for (unsigned i = 0; more && i < EXPIRED_AT_ONCE && account_is_short(NULL); i++)
        more = drop_oldest(hub, NULL, delta_texts_lock_largest(texts));
}
