#include "app_manager/store_queue.h"

void store_queue_init(struct store_queue *queue) {
    *queue = (struct store_queue){0};
    for (unsigned i = 0; i < STORE_PRIORITY_COUNT; i++)
        list_init(&queue->waiting[i]);
}

unsigned store_queue_count(const struct store_queue *queue) {
    unsigned count = 0;

    for (unsigned i = 0; i < STORE_PRIORITY_COUNT; i++)
        count += queue->counts[i];
    return count;
}

void store_queue_append(struct store_queue *queue, struct store_operation *operation) {
    list_append(&queue->waiting[operation->priority], &operation->link);
    queue->counts[operation->priority]++;
}

struct store_operation *store_queue_take(struct store_queue *queue) {
    for (unsigned i = 0; i < STORE_PRIORITY_COUNT; i++) {
        struct list *first = queue->waiting[i].next;
        if (list_empty(&queue->waiting[i]))
            continue;
        list_remove(first);
        queue->counts[i]--;
        return container_of(first, struct store_operation, link);
    }
    return NULL;
}

void store_queue_take_all(struct store_queue *queue, struct list *taken) {
    for (unsigned i = 0; i < STORE_PRIORITY_COUNT; i++) {
        list_move_all(&queue->waiting[i], taken);
        queue->counts[i] = 0;
    }
}

void store_queue_take_expired(struct store_queue *queue, uint64_t now_ns, struct list *expired) {
    for (unsigned i = 0; i < STORE_PRIORITY_COUNT; i++) {
        struct list *link = queue->waiting[i].next, *next;
        for (; link != &queue->waiting[i]; link = next) {
            next = link->next;
            if (container_of(link, struct store_operation, link)->deadline_ns > now_ns)
                continue;
            list_remove(link);
            list_append(expired, link);
            queue->counts[i]--;
        }
    }
}
