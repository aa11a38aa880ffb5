#include "webhook/webhook_queue.h"

#include <stdlib.h>
#include <zlib.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/buffer.h"
#include "base/crypto.h"
#include "config/config.h"

/* The text of a body around the events, and a comma for each of them. */
#define BODY_FRAME_BYTES 64
/* The longest pause between two attempts while the process stops. */
#define DRAIN_PAUSE_MS 500

struct queued_event {
    struct list lane_link;
    struct list waiting_link;
    uint64_t number; /* in the order of adding */
    uint64_t wall_ms;
    struct spool_unit unit;
    uint32_t length;
    uint8_t lane;
    char json[];
};

void webhook_queue_settings_init(struct webhook_queue_settings *settings, const struct config *config) {
    bool batching = config->webhooks.batching.enabled;

    *settings = (struct webhook_queue_settings){
        .batch_wait_ms = batching ? config->webhooks.batching.duration_ms : 0,
        .batch_size = batching ? config->webhooks.batching.size : 1,
        .retry = config->webhooks.retry.enabled,
        .max_attempts = config->webhooks.retry.max_attempts.set ? config->webhooks.retry.max_attempts.value : 0,
        .max_elapsed_ms = config->webhooks.retry.max_elapsed_time_ms,
        .first_pause_ms = config->webhooks.retry.initial_backoff_ms,
        .last_pause_ms = config->webhooks.retry.max_backoff_ms,
    };
    if (settings->last_pause_ms < settings->first_pause_ms)
        settings->last_pause_ms = settings->first_pause_ms;
}

static size_t event_bytes(const struct queued_event *event) {
    return alloc_footprint(sizeof *event + event->length);
}

void webhook_queue_init(struct webhook_queue *queue, const struct webhook_queue_settings *settings) {
    *queue = (struct webhook_queue){.settings = settings};
    list_init(&queue->waiting);
    list_init(&queue->batches);
    for (unsigned i = 0; i < WEBHOOK_LANES; i++)
        list_init(&queue->lanes[i].events);
}

/* Takes the event out of its lane; it still counts in the queue. */
static void unlink_event(struct webhook_queue *queue, struct queued_event *event) {
    struct webhook_lane *lane = &queue->lanes[event->lane];

    list_remove(&event->lane_link);
    list_remove(&event->waiting_link);
    lane->count--;
    lane->length -= event->length;
}

bool webhook_queue_drop_oldest(struct webhook_queue *queue) {
    struct queued_event *event;

    if (list_empty(&queue->waiting))
        return false;
    event = container_of(queue->waiting.next, struct queued_event, waiting_link);
    unlink_event(queue, event);
    queue->events--;
    queue->bytes -= event_bytes(event);
    if (queue->spool != NULL)
        spool_done(queue->spool, &event->unit);
    free(event);
    return true;
}

void webhook_queue_dispose(struct webhook_queue *queue) {
    while (webhook_queue_drop_oldest(queue))
        ;
    while (!list_empty(&queue->batches))
        webhook_batch_end(container_of(queue->batches.next, struct webhook_batch, link));
}

unsigned webhook_lane_of(struct slice channel) {
    return (unsigned)(crc32_z(0, (const Bytef *)channel.data, channel.length) % WEBHOOK_LANES);
}

static struct queued_event *add_event(struct webhook_queue *queue, unsigned number, struct slice json, uint64_t wall_ms,
                                      uint64_t now_ms) {
    struct webhook_lane *lane = &queue->lanes[number];
    struct queued_event *event = alloc(sizeof *event + json.length);

    *event = (struct queued_event){
        .number = queue->next_number++,
        .wall_ms = wall_ms,
        .length = (uint32_t)json.length,
        .lane = (uint8_t)number,
    };
    memcpy(event->json, json.data, json.length);
    if (lane->count == 0)
        lane->due_ms = now_ms + queue->settings->batch_wait_ms;
    list_append(&lane->events, &event->lane_link);
    list_append(&queue->waiting, &event->waiting_link);
    lane->count++;
    lane->length += json.length;
    queue->events++;
    queue->bytes += event_bytes(event);
    return event;
}

static struct spool_record event_record(const struct webhook_queue *queue, const struct queued_event *event) {
    struct spool_record record = {
        .type = SPOOL_EVENT,
        .wall_ms = event->wall_ms,
        .lanes = event->lane,
        .app_id = queue->place.app_id,
        .text = {event->json, event->length},
    };

    memcpy(record.target, queue->place.target, sizeof record.target);
    return record;
}

void webhook_queue_add(struct webhook_queue *queue, struct slice channel, struct slice json, uint64_t wall_ms,
                       uint64_t now_ms) {
    struct queued_event *event = add_event(queue, webhook_lane_of(channel), json, wall_ms, now_ms);

    if (queue->spool != NULL) {
        struct spool_record record = event_record(queue, event);

        spool_put(queue->spool, &event->unit, &record);
    }
}

/* --- forming batches --- */

static bool lane_ready(const struct webhook_lane *lane) {
    return lane->batch == NULL && lane->count > 0;
}

/* True if the lanes that are free hold a full batch. */
static bool full_batch_waits(const struct webhook_queue *queue) {
    uint64_t count = 0;

    for (unsigned i = 0; i < WEBHOOK_LANES; i++)
        count += lane_ready(&queue->lanes[i]) ? queue->lanes[i].count : 0;
    return count >= queue->settings->batch_size;
}

/* When the event that has waited longest in a free lane is due, and in which lane; UINT64_MAX: there is none. */
static uint64_t first_due_ms(const struct webhook_queue *queue, unsigned *lane) {
    uint64_t due_ms = UINT64_MAX;

    for (unsigned i = 0; i < WEBHOOK_LANES; i++) {
        if (lane_ready(&queue->lanes[i]) && queue->lanes[i].due_ms < due_ms) {
            due_ms = queue->lanes[i].due_ms;
            *lane = i;
        }
    }
    if (due_ms != UINT64_MAX && (queue->draining || full_batch_waits(queue)))
        return 0;
    return due_ms;
}

uint64_t webhook_queue_due_ms(const struct webhook_queue *queue) {
    unsigned lane = 0;
    uint64_t due_ms = first_due_ms(queue, &lane);

    for (struct list *link = queue->batches.next; link != &queue->batches; link = link->next) {
        const struct webhook_batch *batch = container_of(link, struct webhook_batch, link);

        if (batch->state == BATCH_WAITING && batch->next_attempt_ms < due_ms)
            due_ms = batch->next_attempt_ms;
    }
    return due_ms;
}

/* The lanes of a batch that begins with the lane `first`: others join with all that they hold, if it fits. */
static unsigned choose_lanes(const struct webhook_queue *queue, unsigned first) {
    uint64_t count = queue->lanes[first].count, length = queue->lanes[first].length + count;
    unsigned chosen = 1u << first;

    for (unsigned i = 0; i < WEBHOOK_LANES; i++) {
        const struct webhook_lane *lane = &queue->lanes[i];

        if (i == first || !lane_ready(lane) || count + lane->count > queue->settings->batch_size ||
            length + lane->length + lane->count > WEBHOOK_BODY_MAX_BYTES)
            continue;
        count += lane->count;
        length += lane->length + lane->count;
        chosen |= 1u << i;
    }
    return chosen;
}

/* The oldest event of the lanes; NULL: they are empty. */
static struct queued_event *oldest_event(const struct webhook_queue *queue, unsigned lanes) {
    struct queued_event *oldest = NULL;

    for (unsigned i = 0; i < WEBHOOK_LANES; i++) {
        const struct webhook_lane *lane = &queue->lanes[i];
        struct queued_event *event;

        if ((lanes >> i & 1) == 0 || lane->count == 0)
            continue;
        event = container_of(lane->events.next, struct queued_event, lane_link);
        if (oldest == NULL || event->number < oldest->number)
            oldest = event;
    }
    return oldest;
}

static struct spool_record batch_record(const struct webhook_batch *batch) {
    const struct webhook_place *place = &batch->queue->place;
    struct spool_record record = {
        .type = SPOOL_BATCH,
        .wall_ms = batch->oldest_wall_ms,
        .lanes = (uint8_t)batch->lanes,
        .app_id = place->app_id,
        .event_numbers = {batch->event_numbers, batch->events * (size_t)8},
        .text = {batch->body, batch->length},
    };

    memcpy(record.target, place->target, sizeof record.target);
    return record;
}

/* Writes the batch of the `taken` events to the spool, in place of them. */
static void spool_batch(struct webhook_batch *batch, struct list *taken) {
    struct spool *spool = batch->queue->spool;
    struct buffer numbers = {0};
    struct spool_record record;

    for (struct list *link = taken->next; link != taken; link = link->next)
        spool_append_number(&numbers, container_of(link, struct queued_event, waiting_link)->unit.number);
    batch->event_numbers = numbers.data;
    record = batch_record(batch);
    spool_put(spool, &batch->unit, &record);
    for (struct list *link = taken->next; link != taken; link = link->next) {
        struct queued_event *event = container_of(link, struct queued_event, waiting_link);

        if (batch->unit.segment != NULL)
            spool_absorbed(&event->unit);
        else
            spool_done(spool, &event->unit);
    }
}

/* Writes the body of the `taken` events. */
static void write_batch_body(struct webhook_batch *batch, struct list *taken, size_t length) {
    struct buffer body = {0};

    buffer_reserve(&body, length + BODY_FRAME_BYTES);
    buffer_appendf(&body, "{\"time_ms\":%llu,\"events\":[", (unsigned long long)batch->oldest_wall_ms);
    for (struct list *link = taken->next; link != taken; link = link->next) {
        struct queued_event *event = container_of(link, struct queued_event, waiting_link);

        buffer_append_bytes(&body, event->json, event->length);
        buffer_append_byte(&body, link->next == taken ? ']' : ',');
        batch->queue->bytes -= event_bytes(event);
    }
    buffer_append_byte(&body, '}');
    batch->body = body.data;
    batch->length = body.length;
    batch->bytes = alloc_footprint(sizeof *batch) + alloc_footprint(body.capacity);
    batch->queue->bytes += batch->bytes;
}

static void free_events(struct list *taken) {
    while (!list_empty(taken)) {
        struct queued_event *event = container_of(taken->next, struct queued_event, waiting_link);

        list_remove(&event->waiting_link);
        free(event);
    }
}

/* Gives the batch its lanes. A restored one may find one of them taken: that is the only case. */
static void take_lanes(struct webhook_batch *batch) {
    for (unsigned i = 0; i < WEBHOOK_LANES; i++)
        if ((batch->lanes >> i & 1) != 0 && batch->queue->lanes[i].batch == NULL)
            batch->queue->lanes[i].batch = batch;
    list_append(&batch->queue->batches, &batch->link);
}

static struct webhook_batch *form_batch(struct webhook_queue *queue, unsigned first, uint64_t now_ms) {
    struct webhook_batch *batch = alloc_zero(sizeof *batch);
    struct queued_event *event;
    struct list taken;
    size_t length = 0;

    list_init(&taken);
    batch->queue = queue;
    batch->lanes = choose_lanes(queue, first);
    batch->oldest_wall_ms = UINT64_MAX;
    batch->first_attempt_ms = now_ms;
    while (batch->events < queue->settings->batch_size && (event = oldest_event(queue, batch->lanes)) != NULL) {
        if (batch->events > 0 && length + event->length + 1 > WEBHOOK_BODY_MAX_BYTES)
            break;
        unlink_event(queue, event);
        list_append(&taken, &event->waiting_link);
        length += event->length + 1;
        batch->events++;
        if (event->wall_ms < batch->oldest_wall_ms)
            batch->oldest_wall_ms = event->wall_ms;
    }
    write_batch_body(batch, &taken, length);
    if (queue->spool != NULL)
        spool_batch(batch, &taken);
    free_events(&taken);
    take_lanes(batch);
    return batch;
}

struct webhook_batch *webhook_queue_take(struct webhook_queue *queue, uint64_t now_ms) {
    unsigned lane = 0;

    for (struct list *link = queue->batches.next; link != &queue->batches; link = link->next) {
        struct webhook_batch *batch = container_of(link, struct webhook_batch, link);

        if (batch->state == BATCH_WAITING && batch->next_attempt_ms <= now_ms) {
            batch->state = BATCH_SENDING;
            return batch;
        }
    }
    return first_due_ms(queue, &lane) <= now_ms ? form_batch(queue, lane, now_ms) : NULL;
}

/* --- after an attempt --- */

void webhook_batch_end(struct webhook_batch *batch) {
    struct webhook_queue *queue = batch->queue;

    for (unsigned i = 0; i < WEBHOOK_LANES; i++)
        if (queue->lanes[i].batch == batch)
            queue->lanes[i].batch = NULL;
    list_remove(&batch->link);
    if (queue->spool != NULL)
        spool_done(queue->spool, &batch->unit);
    free(batch->event_numbers);
    queue->events -= batch->events;
    queue->bytes -= batch->bytes;
    free(batch->body);
    free(batch->key);
    free(batch->signature);
    free(batch);
}

/* `pause_ms` with a jitter of 20 %, so that webhooks that failed together do not come back together. */
static uint64_t with_jitter(uint32_t pause_ms) {
    uint64_t spread_ms = (uint64_t)pause_ms * 2 / 5;
    uint32_t random;

    random_bytes(&random, sizeof random);
    return pause_ms - spread_ms / 2 + random % (spread_ms + 1);
}

/* The pause before the next attempt. While the process stops there is no time for a long one. */
static uint32_t pause_ms(const struct webhook_batch *batch) {
    return batch->queue->draining && batch->pause_ms > DRAIN_PAUSE_MS ? DRAIN_PAUSE_MS : batch->pause_ms;
}

bool webhook_batch_retry(struct webhook_batch *batch, uint64_t now_ms) {
    const struct webhook_queue_settings *settings = batch->queue->settings;

    batch->attempts++;
    if (!settings->retry || (settings->max_attempts != 0 && batch->attempts >= settings->max_attempts))
        return false;
    batch->pause_ms = backoff_next_ms(batch->pause_ms, settings->first_pause_ms, settings->last_pause_ms);
    batch->next_attempt_ms = now_ms + with_jitter(pause_ms(batch));
    if (batch->next_attempt_ms > batch->first_attempt_ms + settings->max_elapsed_ms)
        return false;
    batch->state = BATCH_WAITING;
    return true;
}

/* --- the spool --- */

static void restore_batch(struct webhook_queue *queue, const struct spool_restored *restored, uint64_t now_ms) {
    const struct spool_record *record = &restored->record;
    struct webhook_batch *batch = alloc_zero(sizeof *batch);

    batch->queue = queue;
    batch->state = BATCH_WAITING;
    batch->lanes = record->lanes;
    batch->events = (uint32_t)spool_record_events(record);
    batch->event_numbers = alloc_copy(record->event_numbers.data, record->event_numbers.length);
    batch->body = alloc_copy(record->text.data, record->text.length);
    batch->length = record->text.length;
    batch->bytes = alloc_footprint(sizeof *batch) + alloc_footprint(batch->length);
    batch->oldest_wall_ms = record->wall_ms;
    batch->unit = restored->unit;
    batch->first_attempt_ms = batch->next_attempt_ms = now_ms;
    queue->events += batch->events;
    queue->bytes += batch->bytes;
    take_lanes(batch);
}

void webhook_queue_restore(struct webhook_queue *queue, const struct spool_restored *restored, uint64_t now_ms) {
    const struct spool_record *record = &restored->record;

    if (record->type == SPOOL_BATCH)
        restore_batch(queue, restored, now_ms);
    else
        add_event(queue, record->lanes % WEBHOOK_LANES, record->text, record->wall_ms, now_ms)->unit = restored->unit;
}

void webhook_queue_put_again(struct webhook_queue *queue, const struct spool_segment *segment) {
    for (struct list *link = queue->waiting.next; link != &queue->waiting; link = link->next) {
        struct queued_event *event = container_of(link, struct queued_event, waiting_link);
        struct spool_record record = event_record(queue, event);

        if (event->unit.segment == segment)
            spool_put_again(queue->spool, &event->unit, &record);
    }
    for (struct list *link = queue->batches.next; link != &queue->batches; link = link->next) {
        struct webhook_batch *batch = container_of(link, struct webhook_batch, link);
        struct spool_record record = batch_record(batch);

        if (batch->unit.segment == segment)
            spool_put_again(queue->spool, &batch->unit, &record);
    }
}

void webhook_queue_put_all(struct webhook_queue *queue) {
    for (struct list *link = queue->waiting.next; link != &queue->waiting; link = link->next) {
        struct queued_event *event = container_of(link, struct queued_event, waiting_link);
        struct spool_record record = event_record(queue, event);

        spool_put(queue->spool, &event->unit, &record);
    }
    for (struct list *link = queue->batches.next; link != &queue->batches; link = link->next) {
        struct webhook_batch *batch = container_of(link, struct webhook_batch, link);
        struct spool_record record;

        batch->event_numbers = alloc_zero(batch->events * (size_t)8); /* the events were not in a spool */
        record = batch_record(batch);
        spool_put(queue->spool, &batch->unit, &record);
    }
}

void webhook_queue_drain(struct webhook_queue *queue, uint64_t now_ms) {
    queue->draining = true;
    for (struct list *link = queue->batches.next; link != &queue->batches; link = link->next)
        container_of(link, struct webhook_batch, link)->next_attempt_ms = now_ms;
}

uint64_t webhook_queue_oldest_wall_ms(const struct webhook_queue *queue) {
    uint64_t oldest_ms = UINT64_MAX;

    if (!list_empty(&queue->waiting))
        oldest_ms = container_of(queue->waiting.next, struct queued_event, waiting_link)->wall_ms;
    for (struct list *link = queue->batches.next; link != &queue->batches; link = link->next) {
        const struct webhook_batch *batch = container_of(link, struct webhook_batch, link);

        if (batch->oldest_wall_ms < oldest_ms)
            oldest_ms = batch->oldest_wall_ms;
    }
    return oldest_ms != UINT64_MAX ? oldest_ms : 0;
}
