#include "cluster/redis/redis_slot_queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

struct redis_publication *redis_publication_create(struct slice subject, struct bus_bytes *bytes, uint16_t slot) {
    struct redis_publication *publication = alloc(sizeof *publication + subject.length);

    *publication =
        (struct redis_publication){.bytes = bus_bytes_ref(bytes), .slot = slot, .subject_length = subject.length};
    memcpy(publication->subject, subject.data, subject.length);
    return publication;
}

void redis_publication_free(struct redis_publication *publication) {
    list_remove(&publication->link);
    bus_bytes_unref(publication->bytes);
    free(publication);
}

void redis_slot_queue_init(struct redis_slot_queue *queue) {
    *queue = (struct redis_slot_queue){0};
    list_init(&queue->refused);
    list_init(&queue->waiting);
}

static struct redis_publication *first_publication(struct list *list) {
    return list_empty(list) ? NULL : container_of(list->next, struct redis_publication, link);
}

struct redis_publication *redis_slot_queue_take(struct redis_slot_queue *queue) {
    struct redis_publication *publication = first_publication(&queue->refused);

    if (publication == NULL)
        publication = first_publication(&queue->waiting);
    if (publication != NULL)
        list_remove(&publication->link);
    return publication;
}

static size_t clear_publications(struct list *list) {
    struct redis_publication *publication;
    size_t bytes = 0;

    while ((publication = first_publication(list)) != NULL) {
        bytes += publication->bytes->length;
        redis_publication_free(publication);
    }
    return bytes;
}

size_t redis_slot_queue_clear_refused(struct redis_slot_queue *queue) {
    return clear_publications(&queue->refused);
}

size_t redis_slot_queue_clear(struct redis_slot_queue *queue) {
    return clear_publications(&queue->refused) + clear_publications(&queue->waiting);
}
