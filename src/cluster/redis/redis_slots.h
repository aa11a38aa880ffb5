/*
 * The slots of a Redis Cluster with sharded pub/sub: which master each belongs to, with the subjects and messages that
 * go there.
 *
 *   settled ---> the master drops a subject, or refuses a message (MOVED) ---> unsettled ---> settled
 *
 * What is published on an unsettled slot waits, in order, until the newest topology names the slot's master, that
 * master is ready, and each message on its way to the former master is answered (redis_slot_queue.h). On the cluster's
 * thread.
 */
#pragma once

#include "cluster/redis/redis_shard.h"
#include "cluster/redis/redis_slot.h"

struct redis_slots_events {
    /* As of a bus; only while `up` is set. The subject is valid during the call. */
    void (*interrupted)(void *context, struct slice subject);
    /* This master does not have a slot any more: it may tell which one has. */
    void (*moved)(void *context, struct redis_shard *former);
    /* The walk over all slots is over (redis_slots_walk). */
    void (*walked)(void *context);
    void *context;
};

struct redis_slot_state;

struct redis_slots {
    struct loop *loop;
    struct redis_slots_events events;
    struct redis_slot_state *states; /* of each slot */
    struct redis_subjects wanted;
    struct list unsettled;
    size_t held_bytes;      /* of the messages that wait */
    bool up;                /* set by the owner: so is the bus */
    struct loop_timer walk; /* goes on with the walk over all slots */
    size_t walk_at;         /* the next slot; REDIS_SLOTS: there is no walk */
};

/* Slots that no master is known for. Dispose of them in the end, after the shards that they were assigned to. */
void redis_slots_init(struct redis_slots *slots, struct loop *loop, const struct redis_slots_events *events);
void redis_slots_dispose(struct redis_slots *slots);

/* --- their masters --- */

/* Assigns a slot to the master that has it in the newest topology. `unowned`: none has it, and `shard` is any. Nothing
 * is moved yet: redis_slots_walk follows when all slots are assigned. */
void redis_slots_assign(struct redis_slots *slots, size_t slot, struct redis_shard *shard, bool unowned);

/* All slots are assigned: what waited for that may go on. */
void redis_slots_locate(struct redis_slots *slots);

/* Begins to move all slots to their masters, and, while `up` is set, to send what waits; the turn has bounds. A shard
 * is needed until no slot is with it: until `walked` if it has none in the newest topology. */
void redis_slots_walk(struct redis_slots *slots);
bool redis_slots_are_walked(const struct redis_slots *slots);

/* --- subjects and messages --- */

/* As of a bus. Messages are published while `up` is set only. */
void redis_slots_publish(struct redis_slots *slots, struct slice subject, struct bus_bytes *bytes);
void redis_slots_subscribe(struct redis_slots *slots, struct slice subject);
void redis_slots_unsubscribe(struct redis_slots *slots, struct slice subject);

/* A subscription is in force. False: it was ended meanwhile. */
bool redis_slots_in_force(struct redis_slots *slots, struct slice subject);

/* A master has left a subject (struct redis_shard_events). */
void redis_slots_leave(struct redis_slots *slots, struct redis_shard *shard, struct slice subject);

/* Frees the messages that wait. */
void redis_slots_clear(struct redis_slots *slots);

/* True if nothing waits for a master. */
bool redis_slots_are_settled(const struct redis_slots *slots);
