#include "cluster/incoming.h"

#include <stdlib.h>

#include "app_manager/app_queue.h"
#include "base/alloc.h"
#include "base/budget.h"
#include "base/hash.h"
#include "channel/channel.h"
#include "channel/filter/tags.h"
#include "config/config.h"

struct incoming {
    struct cluster_core *core;
    struct app_queue waiting;     /* by worker: what waits for an app */
    struct buffer subject, names; /* of the message in hand */
    uint64_t to_wake;             /* bit n: worker n got something in this turn */
    size_t most_bytes;
    atomic_size_t held; /* bytes that workers have not applied yet */
    struct counter dropped, foreign;
};

/* A message on its way to a worker. */
struct incoming_item {
    struct message message;
    struct app_task task;
    struct incoming *incoming;
    struct bus_message *bytes;
    size_t size;
    struct node_id sender;
    bool is_event; /* else an order */
    union {
        struct message_event event;
        struct message_terminate terminate;
    };
};

/* --- on workers --- */

static void end_incoming(struct incoming_item *item) {
    atomic_fetch_sub_explicit(&item->incoming->held, item->size, memory_order_relaxed);
    budget_give(BUDGET_CLUSTER, NULL, item->size);
    item->bytes->release(item->bytes);
    free(item);
}

static void apply_incoming_event(const struct incoming_item *item) {
    const struct message_event *event = &item->event;
    struct socket_id except = {event->except[0], event->except[1]};
    struct tags *tags = event->tags.length != 0 ? tags_parse(event->tags, NULL) : NULL;

    channel_publish(item->incoming->core->channels, item->task.lookup.slot, item->task.worker, event->channel,
                    &(struct channel_event){
                        .event = event->name,
                        .data = event->data,
                        .user_id = event->user_id,
                        .tags = tags,
                        .whole = event->whole,
                        .except_socket = event->has_except ? &except : NULL,
                        .keep = event->keep,
                        .relayed = true,
                        .stamp = {event->published_ms, {item->sender.high, item->sender.low}},
                        .left_ms = event->left_ms,
                    },
                    NULL);
    tags_unref(tags);
}

static void apply_incoming(struct app_task *task) {
    struct incoming_item *item = container_of(task, struct incoming_item, task);

    if (task->lookup.answer != APP_FOUND) {
        /* Nobody here can be subscribed. */
    } else if (item->is_event) {
        apply_incoming_event(item);
    } else {
        channel_terminate_relayed(item->incoming->core->channels, task->lookup.slot, task->worker,
                                  item->terminate.user_id, item->terminate.reconnect, item->terminate.waited_ms);
    }
    end_incoming(item);
}

static void handle_incoming(struct worker *worker, struct message *message, struct message **rest) {
    struct incoming_item *item = container_of(message, struct incoming_item, message);

    (void)rest;
    if (worker->stopping)
        end_incoming(item);
    else
        app_queue_add(&item->incoming->waiting, item->incoming->core->apps, worker, &item->task);
}

/* --- on the cluster's thread --- */

/* True if the message came on the subject of this channel. */
static bool is_of_subject(struct incoming *incoming, struct slice app, struct slice channel,
                          const struct bus_message *bytes) {
    incoming->subject.length = 0;
    subject_append_channel(&incoming->subject, &incoming->core->subjects, app, channel);
    if (slice_equal(buffer_slice(&incoming->subject), bytes->subject))
        return true;
    counter_add(&incoming->foreign, 1);
    return false;
}

/* Takes the message over for the worker of the channel; NULL: there is no room. The caller fills in what it says, and
 * posts it. */
static struct incoming_item *create_incoming(struct incoming *incoming, struct slice app, struct bus_message *bytes) {
    size_t size = sizeof(struct incoming_item) + bytes->payload.length;
    struct incoming_item *item = NULL;

    if (atomic_load_explicit(&incoming->held, memory_order_relaxed) + size <= incoming->most_bytes &&
        budget_has_room(BUDGET_CLUSTER, NULL, size))
        item = malloc(sizeof *item);
    if (item == NULL) {
        counter_add(&incoming->dropped, 1);
        return NULL;
    }
    *item =
        (struct incoming_item){.message.handle = handle_incoming, .incoming = incoming, .bytes = bytes, .size = size};
    item->task.run = apply_incoming;
    item->task.app_id = app;
    return item;
}

static void post_incoming(struct incoming_item *item, struct slice channel) {
    struct incoming *incoming = item->incoming;
    const struct workers *workers = incoming->core->workers;
    unsigned index = (unsigned)(hash_bytes(channel) % workers->count);

    atomic_fetch_add_explicit(&incoming->held, item->size, memory_order_relaxed);
    budget_add(BUDGET_CLUSTER, NULL, item->size);
    mailbox_post(&workers->list[index]->mailbox, &item->message);
    incoming->to_wake |= UINT64_C(1) << index;
}

static bool on_incoming_event(void *context, unsigned node, const struct cluster_message *message,
                              struct bus_message *bytes) {
    struct incoming *incoming = context;
    struct incoming_item *item;

    (void)node;
    if (!is_of_subject(incoming, message->event.app, message->event.channel, bytes))
        return false;
    item = create_incoming(incoming, message->event.app, bytes);
    if (item == NULL)
        return false;
    item->is_event = true;
    item->sender = message->sender;
    item->event = message->event;
    post_incoming(item, message->event.channel);
    return true;
}

static bool on_incoming_terminate(void *context, unsigned node, const struct cluster_message *message,
                                  struct bus_message *bytes) {
    struct incoming *incoming = context;
    struct incoming_item *item;
    struct slice channel;

    (void)node;
    incoming->names.length = 0;
    buffer_append(&incoming->names, SLICE(USER_CHANNEL_PREFIX));
    buffer_append(&incoming->names, message->terminate.user_id);
    channel = buffer_slice(&incoming->names);
    if (!is_of_subject(incoming, message->terminate.app, channel, bytes))
        return false;
    item = create_incoming(incoming, message->terminate.app, bytes);
    if (item == NULL)
        return false;
    item->terminate = message->terminate;
    post_incoming(item, channel);
    return true;
}

static void wake_incoming_workers(void *context) {
    struct incoming *incoming = context;

    for (uint64_t left = incoming->to_wake; left != 0; left &= left - 1)
        mailbox_wake(&incoming->core->workers->list[__builtin_ctzll(left)]->mailbox);
    incoming->to_wake = 0;
}

static void dispose_incoming(void *context) {
    struct incoming *incoming = context;

    buffer_dispose(&incoming->subject);
    buffer_dispose(&incoming->names);
    free(incoming);
}

struct incoming *incoming_create(struct cluster_core *core) {
    struct incoming *incoming = alloc_zero(sizeof *incoming);
    const struct cluster_part part = {
        .end_of_turn = wake_incoming_workers, .dispose = dispose_incoming, .context = incoming};

    incoming->core = core;
    incoming->most_bytes = core->config->adapter.outage_buffer_mb * (size_t)1024 * 1024;
    cluster_core_add_part(core, &part);
    cluster_core_handle_of_any(core, MESSAGE_EVENT, on_incoming_event, incoming);
    cluster_core_handle_of_any(core, MESSAGE_TERMINATE, on_incoming_terminate, incoming);
    return incoming;
}

void incoming_read_stats(const struct incoming *incoming, struct incoming_stats *stats) {
    *stats = (struct incoming_stats){counter_read(&incoming->dropped), counter_read(&incoming->foreign)};
}
