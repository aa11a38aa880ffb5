#include "channel/delta_texts.h"

#include "channel/delta_state.h"

void delta_texts_init(struct delta_texts *texts) {
    pthread_mutex_init(&texts->mutex, NULL);
    list_init(&texts->oldest);
    atomic_init(&texts->bytes, 0);
}

void delta_texts_dispose(struct delta_texts *texts) {
    pthread_mutex_destroy(&texts->mutex);
}

void delta_texts_sent(struct delta_texts *texts, struct delta_key *key, int64_t more, uint64_t now_ms) {
    pthread_mutex_lock(&texts->mutex);
    key->sent_ms = now_ms;
    list_remove(&key->in_process);
    list_append(&texts->oldest, &key->in_process);
    atomic_fetch_add_explicit(&texts->bytes, (uint64_t)more, memory_order_relaxed);
    pthread_mutex_unlock(&texts->mutex);
}

void delta_texts_remove(struct delta_texts *texts, struct delta_key *key, size_t bytes) {
    pthread_mutex_lock(&texts->mutex);
    list_remove(&key->in_process);
    atomic_fetch_sub_explicit(&texts->bytes, bytes, memory_order_relaxed);
    pthread_mutex_unlock(&texts->mutex);
}

struct delta_state *delta_texts_excess(struct delta_texts *texts, uint64_t max_bytes, uint64_t since_ms) {
    struct delta_state *state = NULL;

    pthread_mutex_lock(&texts->mutex);
    if (!list_empty(&texts->oldest)) {
        const struct delta_key *key = container_of(texts->oldest.next, struct delta_key, in_process);
        if (delta_texts_bytes(texts) > max_bytes || key->sent_ms < since_ms)
            state = delta_state_ref(key->state);
    }
    pthread_mutex_unlock(&texts->mutex);
    return state;
}
