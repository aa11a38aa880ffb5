/*
 * The texts that all channels keep as bases of deltas, in the order in which they were last sent. Over the bound of the
 * process (`delta_compression.max_memory_mb`) the oldest text of the app that has the most bytes goes, so that an app
 * cannot throw out the texts of another one: the next event under its key is sent whole.
 *
 * A text belongs to the state of its channel (delta_state.h), whose mutex is taken before the one here; under the one
 * here it is only tried. All functions are for any thread.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/list.h"

struct delta_key;
struct delta_state;

/* The texts of an app; part of its channel table. */
struct delta_app_texts {
    struct list oldest; /* keys, the one sent longest ago first */
    uint64_t bytes;
    struct heap_node by_bytes;
};

/* The part of the hub. */
struct delta_texts {
    pthread_mutex_t mutex;      /* protects all of this but `bytes`, and the apps' parts */
    struct list oldest;         /* keys, the one sent longest ago first */
    struct heap by_bytes;       /* the apps that have texts, the one with the most bytes first */
    atomic_uint_fast64_t bytes; /* of all keys with their texts */
};

void delta_texts_init(struct delta_texts *texts);
void delta_texts_dispose(struct delta_texts *texts);
void delta_app_texts_init(struct delta_app_texts *app);

static inline uint64_t delta_texts_bytes(struct delta_texts *texts) {
    return atomic_load_explicit(&texts->bytes, memory_order_relaxed);
}

/* Puts a key at the end of the lists, with `more` bytes more (or less) than before, and notes the time. The caller
 * holds its state's mutex. */
void delta_texts_sent(struct delta_texts *texts, struct delta_key *key, int64_t more, uint64_t now_ms);
/* Takes a key with so many bytes off the lists. The caller holds its state's mutex. */
void delta_texts_remove(struct delta_texts *texts, struct delta_key *key, size_t bytes);
/* Takes all keys of a state off the lists. The caller holds its mutex. */
void delta_texts_remove_all(struct delta_texts *texts, struct delta_state *state);

/* Lock the state of a text that is to go, which is the oldest one of the state, and return a reference to the state: of
 * the app that has the most bytes, of this app, or of all if it was sent before `since_ms`. A state that another thread
 * has locked is passed over, since its holder may be encoding; by time, only the oldest text is tried. NULL: there is
 * none. The caller holds no lock. */
struct delta_state *delta_texts_lock_largest(struct delta_texts *texts);
struct delta_state *delta_texts_lock_app(struct delta_texts *texts, const struct delta_app_texts *app);
struct delta_state *delta_texts_lock_sent_before(struct delta_texts *texts, uint64_t since_ms);
