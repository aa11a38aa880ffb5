#include "server/server_relay.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "channel/channel.h"
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

static void send_relayed(struct server_relay *relay, uint8_t type, const struct relay_event *event) {
    struct buffer bytes = {0};
    struct slice payload;

    buffer_reserve(&bytes, 64 + event->app_id.length + event->channel.length + event->name.length + event->data.length +
                               event->user_id.length);
    relay_event_append(&bytes, event);
    payload = buffer_slice(&bytes);
    if (!handover_link_send(relay->link, type, &payload, 1))
        atomic_fetch_add_explicit(&relay->lost, 1, memory_order_relaxed);
    buffer_dispose(&bytes);
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
        .has_except = event->except_socket != NULL,
        .published_ms = clock_wall_ms(),
    };

    if (event->except_socket != NULL) {
        relayed.except[0] = event->except_socket->first;
        relayed.except[1] = event->except_socket->second;
    }
    send_relayed(context, RELAY_EVENT, &relayed);
}

static void relay_terminated(void *context, struct app_slot *slot, struct slice user_id, bool reconnect) {
    send_relayed(
        context, RELAY_TERMINATE,
        &(struct relay_event){
            .app_id = slice_of(slot->id), .user_id = user_id, .reconnect = reconnect, .published_ms = clock_wall_ms()});
}

void server_relay_begin(struct server *server, struct handover_link *link) {
    struct server_relay *relay = alloc_zero(sizeof *relay);

    relay->hooks =
        (struct channel_relay){.published = relay_published, .terminated = relay_terminated, .context = relay};
    relay->link = link;
    assert(atomic_load(&server->relay) == NULL);
    atomic_store(&server->relay, relay);
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
    channel_hub_set_relay(server->sessions.channels, NULL);
    reclaim_defer(&server->reclaimer, atomic_exchange(&server->relay, NULL), free_relay, NULL);
}

/* --- webhooks, to the new process --- */

static bool relay_webhook(void *context, const struct webhook_event *event) {
    struct server *server = context;
    struct server_relay *relay;
    char kind[16];

    snprintf(kind, sizeof kind, "%u", (unsigned)event->kind);
    reclaim_read_begin(&server->reclaimer);
    relay = atomic_load(&server->relay);
    if (relay != NULL)
        send_relayed(relay, RELAY_WEBHOOK,
                     &(struct relay_event){.app_id = event->app->id,
                                           .channel = event->details.channel,
                                           .name = slice_of(kind),
                                           .user_id = event->details.user_id,
                                           .published_ms = event->time_ms});
    reclaim_read_end(&server->reclaimer);
    return relay != NULL;
}

void server_relay_webhooks(struct server *server) {
    if (server->webhook_events != NULL)
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

static void do_nothing(struct worker *worker, void *context) {
    (void)worker;
    (void)context;
}

static void ask_for_kept(void *context) {
    struct server *server = context;
    struct server_relay *relay = atomic_load(&server->relay);

    if (relay != NULL)
        handover_link_send(relay->link, RELAY_KEPT_NEXT, NULL, 0);
}

static void say_kept_taken(void *context) {
    struct server *server = context;
    struct server_relay *relay = atomic_load(&server->relay);

    if (relay != NULL)
        handover_link_send(relay->link, HANDOVER_READY, NULL, 0);
}

void server_relay_fetch_kept(struct server *server) {
    ask_for_kept(server);
}

/* --- from the other process --- */

/* An event that was received, on a worker. */
struct relayed_event {
    struct message message;
    struct app_lookup lookup;
    struct server *server;
    struct worker *worker;
    uint8_t type;
    struct relay_event event; /* its texts are behind this structure */
    char bytes[];
};

static void post_relayed_webhook(const struct relayed_event *relayed) {
    const struct relay_event *event = &relayed->event;
    /* A text without data is left out of the webhook, an empty one is not. */
    struct slice user_id = event->user_id.length != 0 ? event->user_id : (struct slice){0};
    struct webhook_draft draft = {0};
    unsigned long long kind;

    if (!slice_to_number(event->name, INT32_MAX, &kind))
        return;
    webhook_draft_begin(&draft, relayed->server->sessions.webhooks, relayed->lookup.app, (enum app_webhook_event)kind,
                        &(struct webhook_details){.channel = event->channel, .user_id = user_id});
    webhook_draft_post(&draft, 0);
    webhook_draft_end(&draft);
}

static void act_on_relayed(const struct relayed_event *relayed) {
    struct channel_hub *hub = relayed->server->sessions.channels;
    const struct relay_event *event = &relayed->event;
    struct socket_id except = {event->except[0], event->except[1]};

    if (relayed->type == RELAY_TERMINATE)
        channel_terminate_relayed(hub, relayed->lookup.slot, relayed->worker, event->user_id, event->reconnect);
    else if (relayed->type == RELAY_WEBHOOK)
        post_relayed_webhook(relayed);
    else if (relayed->type == RELAY_KEPT)
        channel_keep(hub, relayed->lookup.slot, relayed->worker, event->channel,
                     &(struct channel_event){.event = event->name, .data = event->data},
                     (uint32_t)((event->published_ms + 999) / 1000));
    else
        channel_publish(hub, relayed->lookup.slot, relayed->worker, event->channel,
                        &(struct channel_event){
                            .event = event->name,
                            .data = event->data,
                            .user_id = event->user_id,
                            .except_socket = event->has_except ? &except : NULL,
                            .keep = event->keep,
                            .relayed = true,
                        },
                        NULL);
}

static void on_relayed_app(struct app_lookup *lookup) {
    struct relayed_event *relayed = container_of(lookup, struct relayed_event, lookup);

    if (lookup->answer == APP_FOUND) /* else nobody here can be subscribed */
        act_on_relayed(relayed);
    free(relayed);
}

static void handle_relayed(struct worker *worker, struct message *message, struct message **rest) {
    struct relayed_event *relayed = container_of(message, struct relayed_event, message);
    enum app_answer answer;

    (void)rest;
    if (worker->stopping) {
        free(relayed);
        return;
    }
    relayed->worker = worker;
    relayed->lookup.done = on_relayed_app;
    answer = app_manager_find_by_id(relayed->server->apps, worker, relayed->event.app_id, &relayed->lookup);
    if (answer != APP_PENDING)
        on_relayed_app(&relayed->lookup);
}

static bool relayed_is_valid(uint8_t type, const struct relay_event *event) {
    if (event->app_id.length == 0)
        return false;
    if (type == RELAY_TERMINATE)
        return event->user_id.length != 0 && event->user_id.length <= USER_ID_MAX;
    return channel_name_valid(event->channel) && event->name.length != 0 &&
           (event->data.length != 0 || type == RELAY_WEBHOOK);
}

static bool take_relayed(struct server *server, const struct handover_message *message, struct error *error) {
    struct relayed_event *relayed;
    struct relay_event event;
    unsigned index;

    if (!relay_event_parse(message->payload, &event, error))
        return false;
    if (!relayed_is_valid(message->type, &event))
        return error_set(error, "the other process sends an event without an app, a channel, a name or data");
    relayed = alloc(sizeof *relayed + message->payload.length);
    *relayed = (struct relayed_event){.message.handle = handle_relayed, .server = server, .type = message->type};
    memcpy(relayed->bytes, message->payload.data, message->payload.length);
    relay_event_parse((struct slice){relayed->bytes, message->payload.length}, &relayed->event, error);
    index = (unsigned)(hash_bytes(event.channel) % server->workers.count);
    worker_post(server->workers.list[index], &relayed->message);
    return true;
}

bool server_relay_message(struct server *server, const struct handover_message *message, struct error *error) {
    struct worker_task after = {.run = do_nothing, .context = server};

    switch (message->type) {
    case RELAY_EVENT:
    case RELAY_TERMINATE:
    case RELAY_KEPT:
    case RELAY_WEBHOOK:
        return take_relayed(server, message, error);
    case RELAY_KEPT_NEXT:
        post_kept_request(server);
        return true;
    case RELAY_KEPT_PAGE: /* when the workers have taken its events, so that few of them wait */
        after.finished = ask_for_kept;
        break;
    case RELAY_KEPT_END:
        after.finished = say_kept_taken;
        break;
    default:
        return error_set(error, "the other process sends a message of type %u, which is unknown", message->type);
    }
    workers_run_on_all(&server->workers, &after);
    return true;
}
