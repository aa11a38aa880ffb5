/*
 * The messages of one slot of a Redis Cluster on their way: in order, also when the slot moves to another master.
 *
 *   created ---> sent ---> answered: freed         or: sent ---> refused (MOVED) ---> sent again, to the new master
 *
 * A message that was refused was not published, so it may be sent again; before it none that was created later may be.
 * If one that was created later was published after all, it is dropped: messages are lost rather than reordered. For
 * one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "cluster/bus.h"
#include "cluster/redis/redis_pipeline.h"

struct redis_shard;
struct redis_slots;

struct redis_publication {
    struct redis_request request;
    struct list link;          /* while it waits */
    struct redis_slots *slots; /* that it belongs to; set by them, as the next one */
    struct redis_shard *shard; /* that it was sent to */
    struct bus_bytes *bytes;
    uint16_t slot;
    size_t subject_length;
    char subject[];
};

/* Zeroed but for the lists. */
struct redis_slot_queue {
    struct list refused; /* to be sent again, before those that wait */
    struct list waiting; /* not sent yet */
    uint32_t in_flight;  /* sent and not answered */
};

/* Takes a reference to the bytes. */
struct redis_publication *redis_publication_create(struct slice subject, struct bus_bytes *bytes, uint16_t slot);
void redis_publication_free(struct redis_publication *publication);

static inline struct slice redis_publication_subject(const struct redis_publication *publication) {
    return (struct slice){publication->subject, publication->subject_length};
}

void redis_slot_queue_init(struct redis_slot_queue *queue);

/* The next message to send, taken out; NULL: none waits. */
struct redis_publication *redis_slot_queue_take(struct redis_slot_queue *queue);

/* Frees all that waits, or only what was refused; returns its bytes. */
size_t redis_slot_queue_clear(struct redis_slot_queue *queue);
size_t redis_slot_queue_clear_refused(struct redis_slot_queue *queue);
