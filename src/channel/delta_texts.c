#include "channel/delta_texts.h"

#include "channel/delta_state.h"

void delta_texts_init(struct delta_texts *texts) {
    pthread_mutex_init(&texts->mutex, NULL);
    list_init(&texts->oldest);
    atomic_init(&texts->bytes, 0);
}

void delta_texts_dispose(struct delta_texts *texts) {
    heap_dispose(&texts->by_bytes);
    pthread_mutex_destroy(&texts->mutex);
}

void delta_app_texts_init(struct delta_app_texts *app) {
    *app = (struct delta_app_texts){0};
    list_init(&app->oldest);
}

/* Counts a change of the bytes of the state's app. The caller holds the mutex. */
static void count_bytes(struct delta_texts *texts, const struct delta_state *state, uint64_t more) {
    struct delta_app_texts *app = &state->channel->table->deltas;

    app->bytes += more;
    if (app->bytes == 0)
        heap_unlink(&texts->by_bytes, &app->by_bytes);
    else
        heap_set(&texts->by_bytes, &app->by_bytes, UINT64_MAX - app->bytes);
    atomic_fetch_add_explicit(&texts->bytes, more, memory_order_relaxed);
}

void delta_texts_sent(struct delta_texts *texts, struct delta_key *key, int64_t more, uint64_t now_ms) {
    pthread_mutex_lock(&texts->mutex);
    key->sent_ms = now_ms;
    list_remove(&key->in_process);
    list_append(&texts->oldest, &key->in_process);
    list_remove(&key->in_app);
    list_append(&key->state->channel->table->deltas.oldest, &key->in_app);
    count_bytes(texts, key->state, (uint64_t)more);
    pthread_mutex_unlock(&texts->mutex);
}

void delta_texts_remove(struct delta_texts *texts, struct delta_key *key, size_t bytes) {
    pthread_mutex_lock(&texts->mutex);
    list_remove(&key->in_process);
    list_remove(&key->in_app);
    count_bytes(texts, key->state, -(uint64_t)bytes);
    pthread_mutex_unlock(&texts->mutex);
}

void delta_texts_remove_all(struct delta_texts *texts, struct delta_state *state) {
    pthread_mutex_lock(&texts->mutex);
    for (struct list *link = state->oldest.next; link != &state->oldest; link = link->next) {
        struct delta_key *key = container_of(link, struct delta_key, in_channel);
        list_remove(&key->in_process);
        list_remove(&key->in_app);
    }
    count_bytes(texts, state, -(uint64_t)state->bytes);
    pthread_mutex_unlock(&texts->mutex);
}

/* The oldest text of the app that has the most bytes. There is one. */
static const struct delta_key *oldest_of_largest(const struct delta_texts *texts) {
    const struct delta_app_texts *app = container_of(heap_first(&texts->by_bytes), struct delta_app_texts, by_bytes);

    return container_of(app->oldest.next, struct delta_key, in_app);
}

struct delta_state *delta_texts_excess(struct delta_texts *texts, uint64_t max_bytes, uint64_t since_ms) {
    const struct delta_key *key = NULL;
    struct delta_state *state = NULL;

    pthread_mutex_lock(&texts->mutex);
    if (!list_empty(&texts->oldest)) {
        const struct delta_key *oldest = container_of(texts->oldest.next, struct delta_key, in_process);
        if (delta_texts_bytes(texts) > max_bytes)
            key = oldest_of_largest(texts);
        else if (oldest->sent_ms < since_ms)
            key = oldest;
    }
    if (key != NULL)
        state = delta_state_ref(key->state);
    pthread_mutex_unlock(&texts->mutex);
    return state;
}
