#include "cluster/redis/redis_slots.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "cluster/redis/redis_slot_queue.h"

struct redis_slot_state {
    struct redis_shard *owner;  /* that has its subjects; NULL: no topology has come yet */
    struct redis_shard *target; /* the owner in the newest topology: the slot moves to it (redis_slots_walk) */
    struct list subjects;       /* that are wanted; `pending`: not given to the owner's subscriber */
    struct redis_slot_queue queue;
    struct list link; /* of those that are not settled: something waits until the owner is known and ready */
    bool unsettled;
    bool unowned; /* no master has it: it stays unsettled, and what is published on it goes nowhere */
    bool located; /* the topology was read since it became so */
};

void redis_slots_init(struct redis_slots *slots, struct loop *loop, const struct redis_slots_events *events) {
    *slots = (struct redis_slots){.loop = loop, .events = *events, .walk_at = REDIS_SLOTS};
    list_init(&slots->unsettled);
    slots->states = alloc_zero(REDIS_SLOTS * sizeof *slots->states);
    for (size_t i = 0; i < REDIS_SLOTS; i++) {
        list_init(&slots->states[i].subjects);
        redis_slot_queue_init(&slots->states[i].queue);
    }
}

void redis_slots_dispose(struct redis_slots *slots) {
    loop_timer_end(slots->loop, &slots->walk);
    redis_slots_clear(slots);
    redis_subjects_dispose(&slots->wanted);
    free(slots->states);
}

/* --- what a slot has waiting --- */

static void unsettle_slot(struct redis_slots *slots, struct redis_slot_state *slot) {
    slot->located = false;
    if (slot->unsettled)
        return;
    slot->unsettled = true;
    list_append(&slots->unsettled, &slot->link);
}

/* Gives the subjects that the owner's subscriber does not have to it. */
static void place_slot_subjects(struct redis_slot_state *slot) {
    if (slot->unowned)
        return;
    for (struct list *link = slot->subjects.next; link != &slot->subjects; link = link->next) {
        struct redis_subject *subject = container_of(link, struct redis_subject, link);

        if (!subject->pending)
            continue;
        subject->pending = false;
        redis_subscriber_add(&slot->owner->subscriber, redis_subject_text(subject));
    }
}

static void interrupt_subject(struct redis_slots *slots, struct redis_subject *subject) {
    bool told = slots->up && subject->in_force;

    subject->in_force = false;
    if (told)
        slots->events.interrupted(slots->events.context, redis_subject_text(subject));
}

static void move_slot(struct redis_slots *slots, struct redis_slot_state *slot) {
    struct redis_shard *before = slot->owner;

    slot->owner = slot->target;
    for (struct list *link = slot->subjects.next, *next; link != &slot->subjects; link = next) {
        struct redis_subject *subject = container_of(link, struct redis_subject, link);

        next = link->next;
        if (before != NULL && !subject->pending)
            redis_subscriber_drop(&before->subscriber, redis_subject_text(subject));
        subject->pending = true;
        interrupt_subject(slots, subject);
    }
    place_slot_subjects(slot);
    /* The former owner may refuse what is on its way to it: that goes before what comes now. */
    if (slot->queue.in_flight > 0 && !slot->unsettled) {
        unsettle_slot(slots, slot);
        slot->located = true;
    }
}

/* Moves the slot to its owner in the newest topology. Called before the slot is used: the walk may not be there yet. */
static void update_slot_owner(struct redis_slots *slots, struct redis_slot_state *slot) {
    if (slot->owner != slot->target)
        move_slot(slots, slot);
}

static void send_publication(struct redis_slot_state *slot, struct redis_publication *publication) {
    slot->queue.in_flight++;
    publication->shard = slot->owner;
    redis_pipeline_publish_request(&slot->owner->publisher, &publication->request, SLICE("SPUBLISH"),
                                   redis_publication_subject(publication), publication->bytes);
}

/* Sends what waits, if the owner is known and ready, and nothing is on its way any more that it could overtake. */
static void settle_slot(struct redis_slots *slots, struct redis_slot_state *slot) {
    struct redis_publication *publication;

    if (!slot->located)
        return;
    update_slot_owner(slots, slot);
    place_slot_subjects(slot);
    if (slot->queue.in_flight > 0 || !redis_shard_is_ready(slot->owner))
        return;
    slot->unsettled = slot->located = false;
    list_remove(&slot->link);
    while ((publication = redis_slot_queue_take(&slot->queue)) != NULL) {
        slots->held_bytes -= publication->bytes->length;
        send_publication(slot, publication);
    }
    redis_pipeline_flush(&slot->owner->publisher);
}

bool redis_slots_are_settled(const struct redis_slots *slots) {
    return list_empty(&slots->unsettled);
}

void redis_slots_clear(struct redis_slots *slots) {
    for (struct list *link = slots->unsettled.next; link != &slots->unsettled; link = link->next)
        redis_slot_queue_clear(&container_of(link, struct redis_slot_state, link)->queue);
    slots->held_bytes = 0;
}

/* --- their masters --- */

void redis_slots_assign(struct redis_slots *slots, size_t number, struct redis_shard *shard, bool unowned) {
    struct redis_slot_state *slot = &slots->states[number];

    slot->target = shard;
    slot->unowned = unowned;
    if (!unowned)
        return;
    unsettle_slot(slots, slot);
    slots->held_bytes -= redis_slot_queue_clear(&slot->queue);
}

void redis_slots_locate(struct redis_slots *slots) {
    for (struct list *link = slots->unsettled.next; link != &slots->unsettled; link = link->next) {
        struct redis_slot_state *slot = container_of(link, struct redis_slot_state, link);

        slot->located = !slot->unowned;
    }
}

/* Moves and settles slots until the turn has no time left. Each has few subjects: all together may have very many. */
static void on_slots_walk(struct loop_timer *timer) {
    struct redis_slots *slots = container_of(timer, struct redis_slots, walk);

    while (slots->walk_at < REDIS_SLOTS) {
        struct redis_slot_state *slot = &slots->states[slots->walk_at++];

        update_slot_owner(slots, slot);
        if (slot->unsettled && slots->up)
            settle_slot(slots, slot);
        if (!loop_has_time(slots->loop) && slots->walk_at < REDIS_SLOTS) {
            loop_timer_set(slots->loop, timer, 0);
            return;
        }
    }
    slots->events.walked(slots->events.context);
}

void redis_slots_walk(struct redis_slots *slots) {
    slots->walk_at = 0;
    slots->walk.fire = on_slots_walk;
    loop_timer_set(slots->loop, &slots->walk, 0);
}

bool redis_slots_are_walked(const struct redis_slots *slots) {
    return slots->walk_at == REDIS_SLOTS;
}

/* --- messages --- */

static void on_published(struct redis_request *request, const struct redis_value *value) {
    struct redis_publication *publication = container_of(request, struct redis_publication, request);
    struct redis_slots *slots = publication->slots;
    struct redis_slot_state *slot = &slots->states[publication->slot];
    bool refused = value != NULL && redis_shard_is_refusal(value);

    slot->queue.in_flight--;
    if (refused && !slot->unowned) {
        list_append(&slot->queue.refused, &publication->link);
        slots->held_bytes += publication->bytes->length;
        unsettle_slot(slots, slot);
        slots->events.moved(slots->events.context, publication->shard);
        return;
    }
    if (value != NULL && value->type == REDIS_INTEGER)
        slots->held_bytes -= redis_slot_queue_clear_refused(&slot->queue);
    else if (value != NULL && !refused)
        redis_shard_fail(publication->shard, value);
    redis_publication_free(publication);
    if (value != NULL && slot->unsettled)
        settle_slot(slots, slot);
}

void redis_slots_publish(struct redis_slots *slots, struct slice subject, struct bus_bytes *bytes) {
    struct redis_publication *publication;
    uint16_t number = redis_slot_of(subject);
    struct redis_slot_state *slot = &slots->states[number];

    if (slot->unowned)
        return; /* nobody can be subscribed there */
    publication = redis_publication_create(subject, bytes, number);
    publication->request.answered = on_published;
    publication->slots = slots;
    update_slot_owner(slots, slot);
    if (!slot->unsettled && redis_shard_is_ready(slot->owner)) {
        send_publication(slot, publication);
        return;
    }
    if (!slot->unsettled) {
        unsettle_slot(slots, slot);
        slot->located = true; /* only the connection to the owner is missing */
    }
    list_append(&slot->queue.waiting, &publication->link);
    slots->held_bytes += bytes->length;
}

/* --- subjects --- */

void redis_slots_subscribe(struct redis_slots *slots, struct slice text) {
    struct redis_slot_state *slot = &slots->states[redis_slot_of(text)];
    struct redis_subject *subject;

    if (text.length > UINT16_MAX || redis_subjects_find(&slots->wanted, text) != NULL)
        return;
    subject = redis_subjects_add(&slots->wanted, text);
    subject->pending = true;
    list_append(&slot->subjects, &subject->link);
    update_slot_owner(slots, slot);
    if (slot->owner == NULL || slot->unsettled) /* it is placed with the slot */
        return;
    subject->pending = false;
    redis_subscriber_add(&slot->owner->subscriber, text);
}

void redis_slots_unsubscribe(struct redis_slots *slots, struct slice text) {
    const struct redis_slot_state *slot = &slots->states[redis_slot_of(text)];
    struct redis_subject *subject = redis_subjects_find(&slots->wanted, text);

    if (subject == NULL)
        return;
    if (!subject->pending)
        redis_subscriber_end(&slot->owner->subscriber, text);
    redis_subjects_remove(&slots->wanted, subject);
}

bool redis_slots_in_force(struct redis_slots *slots, struct slice text) {
    struct redis_subject *subject = redis_subjects_find(&slots->wanted, text);

    if (subject == NULL)
        return false;
    subject->in_force = true;
    return true;
}

void redis_slots_leave(struct redis_slots *slots, struct redis_shard *shard, struct slice text) {
    struct redis_subject *subject = redis_subjects_find(&slots->wanted, text);
    struct redis_slot_state *slot = &slots->states[redis_slot_of(text)];

    update_slot_owner(slots, slot);
    if (subject == NULL || slot->owner != shard)
        return;
    subject->pending = true;
    unsettle_slot(slots, slot);
    slots->events.moved(slots->events.context, shard);
    interrupt_subject(slots, subject);
}
