#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "channel/delta_delivery.h"
#include "channel/delta_step.h"

#define DELIVERY_WORK 4 /* for each subscriber; see worker_spend */

static void deliver_publication(struct worker *worker, struct message *message, struct message **rest);

/* --- from the publisher --- */

struct publication *publication_create(struct channel_hub *hub, struct channel *channel, struct frame *frame,
                                       uint64_t now_ns) {
    unsigned workers = hub->workers->count;
    struct publication *publication = alloc(sizeof *publication + workers * sizeof publication->deliveries[0]);

    *publication = (struct publication){.channel = channel_ref(channel), .frame = frame, .born_ns = now_ns, .hub = hub};
    atomic_init(&publication->references, 1);
    if (frame != NULL)
        frame_assign(frame, channel->slot->budget);
    for (unsigned i = 0; i < workers; i++)
        publication->deliveries[i] = (struct delivery){{NULL, deliver_publication}, publication};
    return publication;
}

static void publication_unref(struct publication *publication) {
    if (atomic_fetch_sub_explicit(&publication->references, 1, memory_order_acq_rel) != 1)
        return;
    if (publication->frame != NULL)
        frame_unref(publication->frame);
    delta_frames_free(publication->deltas);
    tags_unref(publication->tags);
    channel_unref(publication->channel);
    free(publication);
}

void publication_post(struct publication *publication) {
    struct channel *channel = publication->channel;
    uint64_t workers = publication->to_watchers ? channel->watchers.workers : channel->subscribers.workers;

    publication->posted_to = workers;
    publication->number = ++channel->number;
    atomic_fetch_add_explicit(&publication->references, (unsigned)__builtin_popcountll(workers), memory_order_relaxed);
    for (uint64_t left = workers; left != 0; left &= left - 1) {
        unsigned index = (unsigned)__builtin_ctzll(left);
        mailbox_post(&publication->hub->workers->list[index]->mailbox, &publication->deliveries[index].message);
    }
}

void publication_finish(struct publication *publication) {
    if (publication == NULL)
        return;
    for (uint64_t left = publication->posted_to; left != 0; left &= left - 1)
        mailbox_wake(&publication->hub->workers->list[__builtin_ctzll(left)]->mailbox);
    publication_unref(publication);
}

/* --- to the subscribers of one worker --- */

static struct publication *publication_of(struct message *message) {
    return container_of(message, struct delivery, message)->publication;
}

static void count_sent(struct app_part *part, uint64_t messages, uint64_t bytes) {
    counter_add(&part->counters.messages_sent, messages);
    counter_add(&part->counters.bytes_sent, bytes);
}

/* Records the latency from publishing to queueing; the sockets are written at the end of this turn. */
static void note_latency(struct app_part *app, const struct publication *publication, uint32_t recipients,
                         uint64_t now_ns) {
    uint64_t latency_us = now_ns > publication->born_ns ? (now_ns - publication->born_ns) / 1000 : 0;

    broadcast_latency_record(&app->latency, channel_label_of(publication->channel->type), recipients, latency_us);
}

/* Closes the connections of a user. The loop runs backwards because the last entry, which was visited already, replaces
 * an entry that is removed. */
static void close_subscribers(const struct publication *publication, const struct subscriber_list *list) {
    for (uint32_t i = list->count; i-- != 0;)
        if (list->entries[i].joined < publication->number)
            publication->hub->settings.terminate(list->entries[i].stream, publication->reconnect,
                                                 publication->born_ns / 1000000);
}

/* Delivers one event, except to subscribers that are excluded, came after it, or have a filter that it does not pass.
 */
static void deliver_filtered(const struct publication *publication, const struct subscriber_list *list,
                             struct filter_set *filters, struct app_part *app) {
    struct chunk *chunk = chunk_of_frame(publication->frame);
    uint64_t bytes = 0;
    uint32_t count = 0, filtered = 0;

    for (uint32_t i = 0; i < list->count; i++) {
        const struct subscriber *entry = &list->entries[i];
        ssize_t queued;
        if (subscriber_is_later(entry, publication) || entry->stream == publication->except_stream)
            continue;
        if (publication->has_except_socket &&
            publication->hub->settings.has_socket_id(entry->stream, &publication->except_socket))
            continue;
        if (subscriber_filters(entry, publication, filters)) {
            filtered++;
            continue;
        }
        queued = subscriber_send(list, entry->stream, chunk);
        if (queued >= 0) {
            bytes += (uint64_t)queued;
            count++;
        }
    }
    count_sent(app, count, bytes);
    if (filtered != 0)
        counter_add(&app->counters.filtered_messages, filtered);
    note_latency(app, publication, count, clock_monotonic_ns());
    chunk_unref(chunk);
}

static bool has_no_exclusions(const struct publication *publication) {
    return publication->frame != NULL && publication->except_stream == NULL && !publication->has_except_socket;
}

/* True if some subscribers of the list may not want the event. */
static bool has_filters(const struct publication *publication, const struct subscriber_list *list) {
    return list->filter_work != 0 && publication->filterable;
}

/*
 * Removes from the mailbox the deliveries that can be sent in one chunk with the first one: those that follow it
 * directly, for the same subscribers and without exclusions. Only adjacent events are grouped, so events of different
 * channels keep their order.
 */
static unsigned take_group(struct publication *first, const struct subscriber_list *list, struct publication **group,
                           struct message **rest) {
    const struct channel_hub_settings *settings = &first->hub->settings;
    size_t bytes = first->frame->length;
    unsigned count = 0;

    group[count++] = first;
    while (*rest != NULL && (*rest)->handle == deliver_publication && count < DELIVERY_GROUP_MAX &&
           count < settings->group_max_messages) {
        struct publication *next = publication_of(*rest);
        if (next->channel != first->channel || next->to_watchers != first->to_watchers || !has_no_exclusions(next) ||
            next->frame->droppable != first->frame->droppable ||
            bytes + next->frame->length > settings->group_max_bytes || has_filters(next, list) ||
            (list->deltas != 0 && !(delta_delivery_joins(next) && delta_delivery_agrees(first, next))))
            break;
        bytes += next->frame->length;
        group[count++] = next;
        *rest = (*rest)->next;
    }
    return count;
}

static struct chunk *join_frames(struct publication *const *group, unsigned count) {
    struct frame *frames[DELIVERY_GROUP_MAX];

    if (count == 1)
        return chunk_of_frame(group[0]->frame);
    for (unsigned i = 0; i < count; i++)
        frames[i] = group[i]->frame;
    return chunk_of_frames(frames, count);
}

static void deliver_group(struct publication *const *group, unsigned count, const struct subscriber_list *list,
                          struct app_part *app) {
    struct chunk *chunk = join_frames(group, count);
    uint64_t now_ns, bytes = 0;
    uint32_t recipients = 0;

    for (uint32_t i = 0; i < list->count; i++) {
        ssize_t queued = subscriber_send(list, list->entries[i].stream, chunk);
        if (queued >= 0) {
            bytes += (uint64_t)queued;
            recipients++;
        }
    }
    count_sent(app, (uint64_t)count * recipients, bytes);
    now_ns = clock_monotonic_ns();
    for (unsigned i = 0; i < count; i++)
        note_latency(app, group[i], recipients, now_ns);
    chunk_unref(chunk);
}

/* The same if some of the subscribers take deltas; with one event they may be excluded or have joined after it. */
static void deliver_deltas(struct publication *const *group, unsigned count, struct subscriber_list *list,
                           struct app_part *app) {
    struct delivered delivered = {0};
    uint64_t now_ns;

    delta_delivery_send(group, count, list, app, &delivered);
    count_sent(app, delivered.messages, delivered.bytes);
    now_ns = clock_monotonic_ns();
    for (unsigned i = 0; i < count; i++)
        note_latency(app, group[i], delivered.recipients[i], now_ns);
}

static void deliver_publication(struct worker *worker, struct message *message, struct message **rest) {
    struct publication *first = publication_of(message);
    struct channel *channel = first->channel;
    struct subscriber_list *list =
        &(first->to_watchers ? channel->watchers.lists : channel->subscribers.lists)[worker->index];
    struct filter_set *filters = channel_hub_filters(first->hub, worker);
    struct publication *group[DELIVERY_GROUP_MAX];
    struct app_part *app;
    unsigned count = 1;
    bool filtered;

    if (list->count == 0) {
        publication_unref(first);
        return;
    }
    app = slot_part(channel->slot, worker);
    worker_spend(worker, (size_t)list->count * DELIVERY_WORK);
    group[0] = first;
    filtered = has_filters(first, list);
    if (filtered)
        filter_ask(filters);
    if (first->frame == NULL) {
        close_subscribers(first, list);
    } else if (list->deltas != 0) {
        if (!filtered && has_no_exclusions(first) && delta_delivery_joins(first))
            count = take_group(first, list, group, rest);
        deliver_deltas(group, count, list, app);
    } else if (!filtered && has_no_exclusions(first) && list->newest < first->number) {
        count = take_group(first, list, group, rest);
        deliver_group(group, count, list, app);
    } else {
        deliver_filtered(first, list, filters, app);
    }
    if (filtered)
        worker_spend(worker, filters->work);
    list->latest = group[count - 1]->number;
    for (unsigned i = 0; i < count; i++)
        publication_unref(group[i]);
}
