#include "server/server_relay.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "channel/channel.h"
#include "channel/filter/tags.h"
#include "handover/handover_relay_event.h"
#include "server/server_internal.h"

/* Types of messages, beside those of handover_message.h. */
enum {
    RELAY_EVENT = HANDOVER_RELAY_FIRST, /* an event was published */
    RELAY_TERMINATE,                    /* the connections of a user are to be closed */
    RELAY_KEPT,      /* a kept event; the time that is left stands in place of when it was published */
    RELAY_KEPT_NEXT, /* the new process asks for more kept events */
    RELAY_KEPT_PAGE, /* the end of a page: ask for the next one */
    RELAY_KEPT_END,  /* these were all */
    RELAY_WEBHOOK,   /* an event of webhooks about a channel or a member; its name is the kind */
};

/* The events of a page have so many bytes, a little more. */
#define RELAY_PAGE_BYTES (256 * 1024)

/* --- to the other process --- */

struct server_relay {
    struct channel_relay hooks;
    struct handover_link *link;
    atomic_uint_fast64_t lost;
    struct channel_kept_walk kept; /* of worker 0 */
    bool kept_begun;
};

/* Events that are published wait within a bound for each app; the rest are orders. */
static bool send_relayed(struct server_relay *relay, uint8_t type, const struct relay_event *event) {
    struct buffer bytes = {0};
    struct slice payload;
    bool sent;

    buffer_reserve(&bytes, 64 + event->app_id.length + event->channel.length + event->name.length + event->data.length +
                               event->user_id.length + event->tags.length);
    relay_event_append(&bytes, event);
    payload = buffer_slice(&bytes);
    sent = type == RELAY_EVENT ? handover_link_send_event(relay->link, type, event->app_id, payload)
                               : handover_link_send(relay->link, type, &payload, 1);
    if (!sent && type != RELAY_WEBHOOK)
        atomic_fetch_add_explicit(&relay->lost, 1, memory_order_relaxed);
    buffer_dispose(&bytes);
    return sent;
}

static void relay_published(void *context, struct app_slot *slot, struct slice channel,
                            const struct channel_event *event) {
    struct relay_event relayed = {
        .app_id = slice_of(slot->id),
        .channel = channel,
        .name = event->event,
        .data = event->data,
        .user_id = event->user_id,
        .keep = event->keep,
        .whole = event->whole,
        .has_except = event->except_socket != NULL,
        .published_ms = clock_wall_ms(),
    };
    struct buffer tags = {0};

    if (event->except_socket != NULL) {
        relayed.except[0] = event->except_socket->first;
        relayed.except[1] = event->except_socket->second;
    }
    if (event->tags != NULL)
        tags_append_json(&tags, event->tags);
    relayed.tags = buffer_slice(&tags);
    send_relayed(context, RELAY_EVENT, &relayed);
    buffer_dispose(&tags);
}

static void relay_terminated(void *context, struct app_slot *slot, struct slice user_id, bool reconnect) {
    send_relayed(
        context, RELAY_TERMINATE,
        &(struct relay_event){
            .app_id = slice_of(slot->id), .user_id = user_id, .reconnect = reconnect, .published_ms = clock_wall_ms()});
}

static const char *relay_refusal(void *context, const struct app_slot *slot, size_t bytes) {
    const struct server_relay *relay = context;

    return handover_link_has_room(relay->link, slice_of(slot->id), bytes)
               ? NULL
               : "the server is being upgraded, and too many events of this app wait for the process before or after "
                 "this one: try again";
}

void server_relay_begin(struct server *server, struct handover_link *link) {
    struct server_relay *relay = alloc_zero(sizeof *relay);

    relay->hooks = (struct channel_relay){
        .published = relay_published, .terminated = relay_terminated, .refusal = relay_refusal, .context = relay};
    relay->link = link;
    assert(atomic_load(&server->relay) == NULL);
    atomic_store(&server->relay, relay);
    if (server->cluster == NULL) /* else both processes are nodes, and events go over the bus */
        channel_hub_set_relay(server->sessions.channels, &relay->hooks);
}

static void free_relay(void *object, void *context) {
    struct server_relay *relay = object;
    uint64_t lost = atomic_load(&relay->lost);

    (void)context;
    if (lost != 0)
        log_warning("upgrade",
                    "%llu events did not reach the clients of the other process: it did not read them in time",
                    (unsigned long long)lost);
    channel_kept_end(&relay->kept);
    free(relay);
}

void server_relay_end(struct server *server) {
    if (server->cluster == NULL)
        channel_hub_set_relay(server->sessions.channels, NULL);
    reclaim_defer(&server->reclaimer, atomic_exchange(&server->relay, NULL), free_relay, NULL);
}

/* --- webhooks, to the new process --- */

static bool relay_webhook(void *context, const struct webhook_event *event) {
    struct server *server = context;
    struct server_relay *relay;
    bool sent = false;
    char kind[16];

    snprintf(kind, sizeof kind, "%u", (unsigned)event->kind);
    reclaim_read_begin(&server->reclaimer);
    relay = atomic_load(&server->relay);
    if (relay != NULL)
        sent = send_relayed(relay, RELAY_WEBHOOK,
                            &(struct relay_event){.app_id = event->app->id,
                                                  .channel = event->details.channel,
                                                  .name = slice_of(kind),
                                                  .user_id = event->details.user_id,
                                                  .published_ms = event->time_ms});
    reclaim_read_end(&server->reclaimer);
    return sent; /* else this process tells the webhook */
}

void server_relay_webhooks(struct server *server) {
    if (server->webhook_events != NULL && server->cluster == NULL)
        webhook_events_forward(server->webhook_events, relay_webhook, server);
}

/* --- kept events, to the new process before that is ready --- */

struct kept_request {
    struct message message;
    struct server *server;
};

static void send_kept_page(struct server *server, struct server_relay *relay, uint64_t now_ms) {
    struct channel_kept_event kept;
    size_t bytes = 0;

    if (!relay->kept_begun)
        channel_kept_begin(server->sessions.channels, &relay->kept);
    relay->kept_begun = true;
    while (bytes < RELAY_PAGE_BYTES && channel_kept_next(&relay->kept, now_ms, &kept)) {
        bytes += kept.app_id.length + kept.channel.length + kept.name.length + kept.data.length;
        send_relayed(relay, RELAY_KEPT,
                     &(struct relay_event){.app_id = kept.app_id,
                                           .channel = kept.channel,
                                           .name = kept.name,
                                           .data = kept.data,
                                           .keep = true,
                                           .published_ms = kept.left_ms});
        channel_kept_release(&kept);
    }
    handover_link_send(relay->link, relay->kept.at < relay->kept.count ? RELAY_KEPT_PAGE : RELAY_KEPT_END, NULL, 0);
}

static void handle_kept_request(struct worker *worker, struct message *message, struct message **rest) {
    struct kept_request *request = container_of(message, struct kept_request, message);
    struct server_relay *relay = atomic_load(&request->server->relay);

    (void)rest;
    if (relay != NULL)
        send_kept_page(request->server, relay, worker->now_ms);
    free(request);
}

static void post_kept_request(struct server *server) {
    struct kept_request *request = alloc(sizeof *request);

    *request = (struct kept_request){.message.handle = handle_kept_request, .server = server};
    worker_post(server->workers.list[0], &request->message);
}

static void send_if_relaying(struct server *server, uint8_t type) {
    struct server_relay *relay;

    reclaim_read_begin(&server->reclaimer);
    relay = atomic_load(&server->relay);
    if (relay != NULL)
        handover_link_send(relay->link, type, NULL, 0);
    reclaim_read_end(&server->reclaimer);
}

void server_relay_fetch_kept(struct server *server) {
    send_if_relaying(server, RELAY_KEPT_NEXT);
}

/* --- what is received and not handled yet --- */

/* Counters of messages of one kind: two for each, and one when the last of them has been received. */
#define ONE_RELAYED 2
#define RELAYED_ALL 1

static void begin_counted(atomic_uint *left) {
    atomic_fetch_add(left, ONE_RELAYED);
}

/* True if it was the last one. */
static bool end_counted(atomic_uint *left) {
    return atomic_fetch_sub(left, ONE_RELAYED) == ONE_RELAYED + RELAYED_ALL;
}

/* No more follow. True if all are handled already. */
static bool end_of_counted(atomic_uint *left) {
    return atomic_fetch_add(left, RELAYED_ALL) == 0;
}

static void on_kept_taken(struct server *server) {
    struct relay_inbox *inbox = &server->relay_inbox;

    atomic_store(&inbox->kept_left, 0);
    send_if_relaying(server, inbox->kept_ended ? HANDOVER_READY : RELAY_KEPT_NEXT);
}

static void end_overlap(struct server *server) {
    if (server->webhook_events != NULL)
        webhook_events_end_overlap(server->webhook_events);
}

void server_relay_end_overlap(struct server *server) {
    if (end_of_counted(&server->relay_inbox.webhooks_left))
        end_overlap(server);
}

/* Wakes the link's thread, which reads again. */
static void resume_link(struct server *server) {
    struct server_relay *relay;

    reclaim_read_begin(&server->reclaimer);
    relay = atomic_load(&server->relay);
    if (relay != NULL)
        handover_link_wake(relay->link);
    reclaim_read_end(&server->reclaimer);
}

/* --- from the other process --- */

/* An event that was received, on a worker. */
struct relayed_event {
    struct message message;
    struct app_task task;
    struct server *server;
    size_t size;
    uint8_t type;
    struct tags *tags;
    struct relay_event event; /* its texts are behind this structure */
    char bytes[];
};

static void begin_relayed(struct relayed_event *relayed) {
    struct relay_inbox *inbox = &relayed->server->relay_inbox;

    atomic_fetch_add(&inbox->held, relayed->size);
    budget_add(BUDGET_HANDOVER, NULL, relayed->size);
    if (relayed->type == RELAY_KEPT)
        begin_counted(&inbox->kept_left);
    else if (relayed->type == RELAY_WEBHOOK)
        begin_counted(&inbox->webhooks_left);
}

static void end_relayed(struct relayed_event *relayed) {
    struct server *server = relayed->server;
    struct relay_inbox *inbox = &server->relay_inbox;
    size_t size = relayed->size, held = atomic_fetch_sub(&inbox->held, size);

    budget_give(BUDGET_HANDOVER, NULL, size);
    if (relayed->type == RELAY_KEPT && end_counted(&inbox->kept_left))
        on_kept_taken(server);
    else if (relayed->type == RELAY_WEBHOOK && end_counted(&inbox->webhooks_left))
        end_overlap(server);
    if (held > LINK_HELD_BYTES && held - size <= LINK_HELD_BYTES)
        resume_link(server);
    tags_unref(relayed->tags);
    free(relayed);
}

static void post_relayed_webhook(const struct relayed_event *relayed) {
    const struct relay_event *event = &relayed->event;
    /* A text without data is left out of the webhook, an empty one is not. */
    struct slice user_id = event->user_id.length != 0 ? event->user_id : (struct slice){0};
    struct webhook_draft draft = {0};
    unsigned long long kind;

    if (!slice_to_number(event->name, INT32_MAX, &kind))
        return;
    webhook_draft_begin(&draft, relayed->server->sessions.webhooks, relayed->task.lookup.app,
                        (enum app_webhook_event)kind,
                        &(struct webhook_details){.channel = event->channel, .user_id = user_id});
    webhook_draft_post(&draft, 0);
    webhook_draft_end(&draft);
}

static void act_on_relayed(const struct relayed_event *relayed) {
    struct channel_hub *hub = relayed->server->sessions.channels;
    const struct relay_event *event = &relayed->event;
    struct socket_id except = {event->except[0], event->except[1]};

    if (relayed->type == RELAY_TERMINATE)
        channel_terminate_relayed(hub, relayed->task.lookup.slot, relayed->task.worker, event->user_id,
                                  event->reconnect, 0);
    else if (relayed->type == RELAY_WEBHOOK)
        post_relayed_webhook(relayed);
    else if (relayed->type == RELAY_KEPT)
        channel_keep(hub, relayed->task.lookup.slot, relayed->task.worker, event->channel,
                     &(struct channel_event){.event = event->name, .data = event->data},
                     (uint32_t)((event->published_ms + 999) / 1000));
    else
        channel_publish(hub, relayed->task.lookup.slot, relayed->task.worker, event->channel,
                        &(struct channel_event){
                            .event = event->name,
                            .data = event->data,
                            .user_id = event->user_id,
                            .tags = relayed->tags,
                            .whole = event->whole,
                            .except_socket = event->has_except ? &except : NULL,
                            .keep = event->keep,
                            .relayed = true,
                        },
                        NULL);
}

static void run_relayed(struct app_task *task) {
    struct relayed_event *relayed = container_of(task, struct relayed_event, task);

    if (task->lookup.answer == APP_FOUND) /* else nobody here can be subscribed */
        act_on_relayed(relayed);
    end_relayed(relayed);
}

static void handle_relayed(struct worker *worker, struct message *message, struct message **rest) {
    struct relayed_event *relayed = container_of(message, struct relayed_event, message);

    (void)rest;
    if (worker->stopping) {
        end_relayed(relayed);
        return;
    }
    relayed->task.run = run_relayed;
    relayed->task.app_id = relayed->event.app_id;
    app_queue_add(&relayed->server->relay_inbox.waiting, relayed->server->apps, worker, &relayed->task);
}

static bool relayed_is_valid(uint8_t type, const struct relay_event *event) {
    if (event->app_id.length == 0)
        return false;
    if (type == RELAY_TERMINATE)
        return event->user_id.length != 0 && event->user_id.length <= USER_ID_MAX;
    return channel_name_valid(event->channel) && event->name.length != 0 &&
           (event->data.length != 0 || type == RELAY_WEBHOOK);
}

/* Sets `tags` to those of the event, or NULL. */
static bool take_relayed_tags(const struct relay_event *event, struct tags **tags, struct error *error) {
    *tags = NULL;
    if (event->tags.length == 0)
        return true;
    *tags = tags_parse(event->tags, error);
    if (*tags == NULL)
        error_prefix(error, "the tags of an event from the other process: ");
    return *tags != NULL;
}

static bool take_relayed(struct server *server, const struct handover_message *message, struct error *error) {
    struct relayed_event *relayed;
    struct relay_event event;
    struct tags *tags;
    unsigned index;

    if (!relay_event_parse(message->payload, &event, error))
        return false;
    if (!relayed_is_valid(message->type, &event))
        return error_set(error, "the other process sends an event without an app, a channel, a name or data");
    if (!take_relayed_tags(&event, &tags, error))
        return false;
    relayed = malloc(sizeof *relayed + message->payload.length);
    if (relayed == NULL) {
        tags_unref(tags);
        return error_set(error, "no memory for an event of the other process");
    }
    *relayed =
        (struct relayed_event){.message.handle = handle_relayed, .server = server, .type = message->type, .tags = tags};
    relayed->size = sizeof *relayed + message->payload.length + tags_bytes(tags);
    memcpy(relayed->bytes, message->payload.data, message->payload.length);
    relay_event_parse((struct slice){relayed->bytes, message->payload.length}, &relayed->event, error);
    index = (unsigned)(hash_bytes(event.channel) % server->workers.count);
    begin_relayed(relayed);
    worker_post(server->workers.list[index], &relayed->message);
    return true;
}

bool server_relay_message(struct server *server, const struct handover_message *message, struct error *error) {
    switch (message->type) {
    case RELAY_EVENT:
    case RELAY_TERMINATE:
    case RELAY_KEPT:
    case RELAY_WEBHOOK:
        return take_relayed(server, message, error);
    case RELAY_KEPT_NEXT:
        post_kept_request(server);
        return true;
    case RELAY_KEPT_PAGE: /* when its events are taken, so that few of them wait */
    case RELAY_KEPT_END:
        server->relay_inbox.kept_ended = message->type == RELAY_KEPT_END;
        if (end_of_counted(&server->relay_inbox.kept_left))
            on_kept_taken(server);
        return true;
    default:
        return error_set(error, "the other process sends a message of type %u, which is unknown", message->type);
    }
}
