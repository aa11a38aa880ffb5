#include "cluster/outgoing.h"

#include <stdlib.h>
#include <string.h>

#include "base/budget.h"
#include "cluster/message/message.h"

struct outgoing_item *outgoing_item_create(struct slice subject, struct bus_bytes *bytes, bool expires,
                                           uint64_t now_ms) {
    struct outgoing_item *item = malloc(sizeof *item + subject.length);

    if (item == NULL) {
        bus_bytes_unref(bytes);
        return NULL;
    }
    *item = (struct outgoing_item){
        .bytes = bytes, .published_ms = now_ms, .expires = expires, .subject_length = subject.length};
    memcpy(item->subject, subject.data, subject.length);
    return item;
}

void outgoing_item_free(struct outgoing_item *item) {
    bus_bytes_unref(item->bytes);
    free(item);
}

static size_t item_bytes(const struct outgoing_item *item) {
    return sizeof *item + item->subject_length + sizeof *item->bytes + item->bytes->length;
}

void outgoing_init(struct outgoing *outgoing, const struct outgoing_target *target, size_t most_bytes,
                   uint64_t max_age_ms) {
    *outgoing = (struct outgoing){.target = *target, .most_bytes = most_bytes, .max_age_ms = max_age_ms, .held = true};
    outgoing->last = &outgoing->first;
}

/* --- the queue --- */

static void note_waiting(struct outgoing *outgoing, int64_t items, int64_t bytes) {
    outgoing->bytes += (size_t)bytes;
    counter_add(&outgoing->waiting, (uint64_t)items);
    counter_add(&outgoing->waiting_bytes, (uint64_t)bytes);
}

static void append_item(struct outgoing *outgoing, struct outgoing_item *item) {
    size_t bytes = item_bytes(item);

    item->next = NULL;
    *outgoing->last = item;
    outgoing->last = &item->next;
    budget_add(BUDGET_CLUSTER, NULL, bytes);
    note_waiting(outgoing, 1, (int64_t)bytes);
}

static struct outgoing_item *take_item(struct outgoing *outgoing) {
    struct outgoing_item *item = outgoing->first;
    size_t bytes = item_bytes(item);

    outgoing->first = item->next;
    if (outgoing->first == NULL)
        outgoing->last = &outgoing->first;
    budget_give(BUDGET_CLUSTER, NULL, bytes);
    note_waiting(outgoing, -1, -(int64_t)bytes);
    return item;
}

static void drop_oldest_items(struct outgoing *outgoing) {
    size_t in_bus = outgoing->held ? 0 : outgoing->target.waiting_bytes(outgoing->target.context);

    while (outgoing->first != NULL &&
           (outgoing->bytes + in_bus > outgoing->most_bytes || !budget_has_room(BUDGET_CLUSTER, NULL, 0))) {
        outgoing_item_free(take_item(outgoing));
        counter_add(&outgoing->dropped, 1);
    }
}

void outgoing_clear(struct outgoing *outgoing) {
    while (outgoing->first != NULL)
        outgoing_item_free(take_item(outgoing));
}

void outgoing_dispose(struct outgoing *outgoing) {
    outgoing_clear(outgoing);
}

/* --- to the bus --- */

static bool bus_has_room(const struct outgoing *outgoing) {
    const struct outgoing_target *target = &outgoing->target;

    if (target->waiting_bytes(target->context) < OUTGOING_BUS_BYTES)
        return true;
    target->flush(target->context);
    return target->waiting_bytes(target->context) < OUTGOING_BUS_BYTES;
}

static bool publish_item(const struct outgoing *outgoing, const struct outgoing_item *item) {
    return outgoing->target.publish(outgoing->target.context, (struct slice){item->subject, item->subject_length},
                                    item->bytes);
}

bool outgoing_publish(struct outgoing *outgoing, struct outgoing_item *item) {
    if (outgoing->first == NULL && !outgoing->held && bus_has_room(outgoing) && publish_item(outgoing, item)) {
        outgoing_item_free(item);
        return true;
    }
    append_item(outgoing, item);
    drop_oldest_items(outgoing);
    return false;
}

void outgoing_hold(struct outgoing *outgoing) {
    outgoing->held = true;
}

void outgoing_release(struct outgoing *outgoing) {
    outgoing->held = false;
}

/* Publishes the first item of the queue; false if the bus takes nothing. */
static bool run_item(struct outgoing *outgoing, uint64_t now_ms) {
    const struct outgoing_item *item = outgoing->first;
    uint64_t waited_ms = now_ms > item->published_ms ? now_ms - item->published_ms : 0;

    if (item->expires && waited_ms > outgoing->max_age_ms) {
        counter_add(&outgoing->expired, 1);
    } else {
        message_note_wait(item->bytes, waited_ms);
        if (!publish_item(outgoing, item))
            return false;
    }
    outgoing_item_free(take_item(outgoing));
    return true;
}

bool outgoing_run(struct outgoing *outgoing, uint64_t now_ms) {
    size_t bytes = 0;

    for (unsigned i = 0; i < OUTGOING_RUN_MESSAGES && bytes < OUTGOING_RUN_BYTES; i++) {
        if (outgoing->first == NULL)
            return true;
        if (outgoing->held || !bus_has_room(outgoing))
            return false;
        bytes += item_bytes(outgoing->first);
        if (!run_item(outgoing, now_ms))
            return false;
    }
    return outgoing->first == NULL;
}
