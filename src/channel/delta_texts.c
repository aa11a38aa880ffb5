#include "channel/delta_texts.h"

#include "channel/delta_state.h"

/* Texts of locked states that are passed over. */
#define TRIED_MAX 256

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

static struct delta_state *try_lock(const struct delta_key *key) {
    return pthread_mutex_trylock(&key->state->mutex) == 0 ? delta_state_ref(key->state) : NULL;
}

/* Locks the state of the app's oldest text that can be had. The caller holds the mutex. */
static struct delta_state *lock_in_app(const struct delta_app_texts *app) {
    struct delta_state *state = NULL;
    unsigned left = TRIED_MAX;

    for (struct list *link = app->oldest.next; link != &app->oldest && state == NULL && left-- != 0; link = link->next)
        state = try_lock(container_of(link, struct delta_key, in_app));
    return state;
}

struct delta_state *delta_texts_lock_largest(struct delta_texts *texts) {
    const struct heap_node *first;
    struct delta_state *state = NULL;

    pthread_mutex_lock(&texts->mutex);
    first = heap_first(&texts->by_bytes);
    if (first != NULL)
        state = lock_in_app(container_of(first, struct delta_app_texts, by_bytes));
    pthread_mutex_unlock(&texts->mutex);
    return state;
}

struct delta_state *delta_texts_lock_app(struct delta_texts *texts, const struct delta_app_texts *app) {
    struct delta_state *state;

    pthread_mutex_lock(&texts->mutex);
    state = lock_in_app(app);
    pthread_mutex_unlock(&texts->mutex);
    return state;
}

struct delta_state *delta_texts_lock_sent_before(struct delta_texts *texts, uint64_t since_ms) {
    struct delta_state *state = NULL;

    pthread_mutex_lock(&texts->mutex);
    if (!list_empty(&texts->oldest)) {
        const struct delta_key *oldest = container_of(texts->oldest.next, struct delta_key, in_process);
        if (oldest->sent_ms < since_ms)
            state = try_lock(oldest);
    }
    pthread_mutex_unlock(&texts->mutex);
    return state;
}
