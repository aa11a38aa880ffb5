#include "channel/channel_internal.h"

#include "base/clock.h"

/* No more events than this are joined into one run of bytes. */
#define GROUP_MAX 64

static struct publication *publication_of(struct message *message) {
    return container_of(message, struct delivery, message)->publication;
}

static void sent(struct app_part *part, uint64_t messages, uint64_t bytes) {
    counter_add(&part->counters.messages_sent, messages);
    counter_add(&part->counters.bytes_sent, bytes);
}

/* Notes how long it took until here; what is written to the sockets leaves them at the end of this turn. */
static void note_latency(struct app_part *app, const struct publication *publication, uint32_t recipients,
                         uint64_t now_ns) {
    uint64_t latency_us = now_ns > publication->born_ns ? (now_ns - publication->born_ns) / 1000 : 0;

    broadcast_latency_record(&app->latency, channel_label_of(publication->channel->type), recipients, latency_us);
}

/* Closes the audience. Backwards: whoever leaves is replaced by one that was visited already. */
static void terminate(const struct publication *publication, const struct audience_part *part) {
    for (uint32_t i = part->count; i-- != 0;)
        if (part->entries[i].joined < publication->number)
            publication->hub->settings.terminate(part->entries[i].stream);
}

/* A small audience does not wait for a large one that is being written to. */
static ssize_t send_event(const struct audience_part *part, struct stream *stream, struct chunk *chunk) {
    return part->count > STREAM_FAN_OUT_LEAST ? stream_fan_out(stream, chunk) : stream_send(stream, chunk);
}

/* One event, looking at each entry: someone is left out, or joined after it. */
static void deliver_with_care(const struct publication *publication, const struct audience_part *part,
                              struct app_part *app) {
    struct chunk *chunk = chunk_of_frame(publication->frame);
    uint64_t bytes = 0;
    uint32_t count = 0;

    for (uint32_t i = 0; i < part->count; i++) {
        const struct audience_entry *entry = &part->entries[i];
        ssize_t queued;
        if (entry->joined >= publication->number || entry->stream == publication->except_stream)
            continue;
        if (publication->has_except_socket &&
            publication->hub->settings.has_socket_id(entry->stream, &publication->except_socket))
            continue;
        queued = send_event(part, entry->stream, chunk);
        if (queued >= 0) {
            bytes += (uint64_t)queued;
            count++;
        }
    }
    sent(app, count, bytes);
    note_latency(app, publication, count, clock_monotonic_ns());
    chunk_unref(chunk);
}

static bool is_plain(const struct publication *publication) {
    return publication->frame != NULL && publication->except_stream == NULL && !publication->has_except_socket;
}

/*
 * Takes the deliveries that can go out together with the first one off the mailbox: those right behind it, to the same
 * audience, that nobody is left out of. Only neighbours are joined, so events of different channels keep their order
 * too.
 */
static unsigned take_group(struct publication *first, struct publication **group, struct message **rest) {
    const struct channel_hub_settings *settings = &first->hub->settings;
    size_t bytes = first->frame->length;
    unsigned count = 0;

    group[count++] = first;
    while (*rest != NULL && (*rest)->handle == deliver && count < GROUP_MAX && count < settings->group_max_messages) {
        struct publication *next = publication_of(*rest);
        if (next->channel != first->channel || next->to_watchers != first->to_watchers || !is_plain(next) ||
            next->frame->droppable != first->frame->droppable ||
            bytes + next->frame->length > settings->group_max_bytes)
            break;
        bytes += next->frame->length;
        group[count++] = next;
        *rest = (*rest)->next;
    }
    return count;
}

static struct chunk *join_frames(struct publication *const *group, unsigned count) {
    size_t length = 0;
    struct chunk *chunk;
    char *at;

    if (count == 1)
        return chunk_of_frame(group[0]->frame);
    for (unsigned i = 0; i < count; i++)
        length += group[i]->frame->length;
    chunk = chunk_create(length, &at);
    for (unsigned i = 0; i < count; i++) {
        memcpy(at, group[i]->frame->bytes, group[i]->frame->length);
        at += group[i]->frame->length;
    }
    chunk->messages = count;
    chunk->droppable = group[0]->frame->droppable;
    return chunk;
}

static void deliver_group(struct publication *const *group, unsigned count, const struct audience_part *part,
                          struct app_part *app) {
    struct chunk *chunk = join_frames(group, count);
    uint64_t now_ns, bytes = 0;
    uint32_t recipients = 0;

    for (uint32_t i = 0; i < part->count; i++) {
        ssize_t queued = send_event(part, part->entries[i].stream, chunk);
        if (queued >= 0) {
            bytes += (uint64_t)queued;
            recipients++;
        }
    }
    sent(app, (uint64_t)count * recipients, bytes);
    now_ns = clock_monotonic_ns();
    for (unsigned i = 0; i < count; i++)
        note_latency(app, group[i], recipients, now_ns);
    chunk_unref(chunk);
}

void deliver(struct worker *worker, struct message *message, struct message **rest) {
    struct publication *first = publication_of(message);
    struct channel *channel = first->channel;
    const struct audience_part *part =
        &(first->to_watchers ? channel->watching.parts : channel->audience.parts)[worker->index];
    struct publication *group[GROUP_MAX];
    struct app_part *app;

    if (part->count == 0) {
        publication_unref(first);
        return;
    }
    app = slot_part(channel->slot, worker);
    if (first->frame == NULL) {
        terminate(first, part);
        publication_unref(first);
    } else if (is_plain(first) && part->newest < first->number) {
        unsigned count = take_group(first, group, rest);
        deliver_group(group, count, part, app);
        for (unsigned i = 0; i < count; i++)
            publication_unref(group[i]);
    } else {
        deliver_with_care(first, part, app);
        publication_unref(first);
    }
}
