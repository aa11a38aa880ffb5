#include "cluster/publisher.h"

#include <stdlib.h>

#include "app/app_slot.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "channel/channel.h"
#include "channel/filter/tags.h"
#include "cluster/cached_events.h"
#include "config/config.h"

/* How long to wait when the bus takes nothing more, and between two turns that have more to publish. */
#define PUBLISHER_FULL_MS 5
#define PUBLISHER_NEXT_MS 1

/* How long a node that has met no other waits for hellos before it takes itself for alone. */
#define PUBLISHER_FIRST_MS 1000

/* The longest wait of an event until it is stored. */
#define PUBLISHER_STORED_MS 100

struct publisher {
    struct cluster_core *core;
    struct channel_relay relay;
    bool relay_set;
    uint64_t cache_ttl_ms;
    bool refuses;           /* adapter.publish_when_down */
    bool gathered, leaving; /* `gathered`: since the bus came up */
    bool never_gathered;    /* this node does not know yet whether there are others */
    struct outgoing outgoing;
    struct loop_timer timer;
    struct loop_timer first;                       /* a node that has met no other waits until then for hellos */
    struct outgoing_item *storing, **storing_last; /* an event that is being stored, and what waits behind it */
    struct loop_timer storing_timer;
    /* Shared with the workers. */
    atomic_uint_fast8_t version;   /* of messages */
    atomic_bool down;              /* the bus is */
    atomic_size_t most_bytes;      /* of a message of the bus; 0: no limit */
    atomic_size_t posted;          /* bytes on their way to the thread */
    atomic_uint_fast64_t unposted; /* messages for which there was no room or memory */
};

/* --- to the bus --- */

static bool publish_outgoing(void *context, struct slice subject, struct bus_bytes *bytes) {
    const struct publisher *publisher = context;

    /* After a rename the others have to hear hello first. */
    return nodes_are_up(publisher->core->nodes) && cluster_core_publish(publisher->core, subject, bytes);
}

static void flush_outgoing(void *context) {
    const struct publisher *publisher = context;

    publisher->core->bus->driver->flush(publisher->core->bus);
}

static size_t outgoing_in_bus(void *context) {
    const struct publisher *publisher = context;
    struct bus_state state;

    publisher->core->bus->driver->state(publisher->core->bus, &state);
    return state.waiting_bytes;
}

/* Publishes what waits, or some of it. */
static void run_publisher(struct publisher *publisher) {
    uint64_t before = counter_read(&publisher->outgoing.waiting);

    if (!outgoing_run(&publisher->outgoing, loop_now_ms(publisher->core->loop))) {
        bool moves = counter_read(&publisher->outgoing.waiting) != before;
        if (!publisher->outgoing.held)
            loop_timer_set(publisher->core->loop, &publisher->timer, moves ? PUBLISHER_NEXT_MS : PUBLISHER_FULL_MS);
    } else if (publisher->leaving && publisher->storing == NULL) {
        publisher->leaving = false;
        cluster_core_left(publisher->core);
    }
}

static void on_publisher_timer(struct loop_timer *timer) {
    run_publisher(container_of(timer, struct publisher, timer));
}

static void publish_item_now(struct publisher *publisher, struct outgoing_item *item) {
    if (!outgoing_publish(&publisher->outgoing, item) && !publisher->outgoing.held &&
        !loop_timer_is_set(&publisher->timer))
        loop_timer_set(publisher->core->loop, &publisher->timer, PUBLISHER_NEXT_MS);
}

/* --- behind what is being stored --- */

static size_t posted_bytes(const struct outgoing_item *item) {
    return sizeof *item + item->subject_length + item->bytes->length;
}

/* What a worker has posted counts as on its way until now. */
static void publish_stored(struct publisher *publisher, struct outgoing_item *item) {
    if (item->context != NULL)
        atomic_fetch_sub_explicit(&publisher->posted, posted_bytes(item), memory_order_relaxed);
    publish_item_now(publisher, item);
}

static void run_storing(struct publisher *publisher) {
    uint64_t now_ms = loop_now_ms(publisher->core->loop);
    struct outgoing_item *item;

    if (publisher->storing == NULL)
        return;
    while ((item = publisher->storing) != NULL &&
           (item->stored_number == 0 || now_ms >= item->wait_ends_ms ||
            cached_events_are_stored(publisher->core->cached_events, item->stored_number))) {
        publisher->storing = item->next;
        publish_stored(publisher, item);
    }
    if (publisher->storing != NULL) {
        loop_timer_set(publisher->core->loop, &publisher->storing_timer, publisher->storing->wait_ends_ms - now_ms);
        return;
    }
    publisher->storing_last = &publisher->storing;
    loop_timer_end(publisher->core->loop, &publisher->storing_timer);
    if (publisher->leaving)
        run_publisher(publisher);
}

static void on_storing_timer(struct loop_timer *timer) {
    run_storing(container_of(timer, struct publisher, storing_timer));
}

/* The store may have answered in this turn. */
static void on_publisher_turn_end(void *context) {
    run_storing(context);
}

static void publish_in_order(struct publisher *publisher, struct outgoing_item *item) {
    if (item->kept)
        item->stored_number = cached_events_last(publisher->core->cached_events);
    if (publisher->storing == NULL && item->stored_number == 0) {
        publish_stored(publisher, item);
        return;
    }
    item->wait_ends_ms = loop_now_ms(publisher->core->loop) + PUBLISHER_STORED_MS;
    item->next = NULL;
    *publisher->storing_last = item;
    publisher->storing_last = &item->next;
}

void publisher_say(struct publisher *publisher, struct slice subject, struct cluster_message *message) {
    struct outgoing_item *item = NULL;
    struct bus_bytes *bytes;

    message->version = nodes_version(publisher->core->nodes);
    bytes = message_encode(message);
    if (bytes != NULL)
        item = outgoing_item_create(subject, bytes, message->kind == MESSAGE_EVENT, loop_now_ms(publisher->core->loop));
    if (item != NULL)
        publish_in_order(publisher, item);
    else
        atomic_fetch_add_explicit(&publisher->unposted, 1, memory_order_relaxed);
}

/* --- from workers to the thread --- */

static void publish_posted(struct loop *loop, struct loop_message *message) {
    struct outgoing_item *item = container_of(message, struct outgoing_item, message);
    struct publisher *publisher = item->context;

    (void)loop;
    publish_in_order(publisher, item);
}

/* True if the thread is not so far behind that its mailbox would be the larger queue. */
static bool mailbox_has_room(struct publisher *publisher, size_t bytes) {
    return atomic_load_explicit(&publisher->posted, memory_order_relaxed) + bytes <= publisher->outgoing.most_bytes;
}

/* Posts a message of a worker; takes it over. */
static void post_outgoing(struct publisher *publisher, struct slice subject, struct bus_bytes *bytes, bool expires,
                          bool kept) {
    struct outgoing_item *item = NULL;

    if (bytes != NULL && mailbox_has_room(publisher, bytes->length))
        item = outgoing_item_create(subject, bus_bytes_ref(bytes), expires, clock_monotonic_ms());
    bus_bytes_unref(bytes);
    if (item == NULL) {
        atomic_fetch_add_explicit(&publisher->unposted, 1, memory_order_relaxed);
        return;
    }
    item->context = publisher;
    item->kept = kept;
    item->message.handle = publish_posted;
    atomic_fetch_add_explicit(&publisher->posted, posted_bytes(item), memory_order_relaxed);
    loop_post(publisher->core->loop, &item->message);
    loop_wake(publisher->core->loop);
}

static void post_to_channel(struct publisher *publisher, struct slice app, struct slice channel,
                            struct cluster_message *message, bool kept) {
    struct buffer subject = {0};

    message->version = (uint8_t)atomic_load_explicit(&publisher->version, memory_order_relaxed);
    subject_append_channel(&subject, &publisher->core->subjects, app, channel);
    post_outgoing(publisher, buffer_slice(&subject), message_encode(message), message->kind == MESSAGE_EVENT, kept);
    buffer_dispose(&subject);
}

/* --- the relay, on workers --- */

static void publish_to_nodes(void *context, struct app_slot *slot, struct slice channel,
                             const struct channel_event *event) {
    struct publisher *publisher = context;
    struct cluster_message message = {.kind = MESSAGE_EVENT};
    struct buffer tags = {0};

    message.event = (struct message_event){
        .app = slice_of(slot->id),
        .channel = channel,
        .name = event->event,
        .data = event->data,
        .user_id = event->user_id,
        .keep = event->keep,
        .whole = event->whole,
        .has_except = event->except_socket != NULL,
        .published_ms = event->stamp.ms != 0 ? event->stamp.ms : clock_wall_ms(),
        .left_ms = publisher->cache_ttl_ms,
    };
    if (event->except_socket != NULL) {
        message.event.except[0] = event->except_socket->first;
        message.event.except[1] = event->except_socket->second;
    }
    if (event->tags != NULL)
        tags_append_json(&tags, event->tags);
    message.event.tags = buffer_slice(&tags);
    post_to_channel(publisher, message.event.app, channel, &message, event->stamp.ms != 0);
    buffer_dispose(&tags);
}

static void terminate_on_nodes(void *context, struct app_slot *slot, struct slice user_id, bool reconnect) {
    struct cluster_message message = {.kind = MESSAGE_TERMINATE};
    struct buffer channel = {0};

    message.terminate =
        (struct message_terminate){.app = slice_of(slot->id), .user_id = user_id, .reconnect = reconnect};
    buffer_append(&channel, SLICE(USER_CHANNEL_PREFIX));
    buffer_append(&channel, user_id);
    post_to_channel(context, message.terminate.app, buffer_slice(&channel), &message, false);
    buffer_dispose(&channel);
}

static const char *publisher_refusal(void *context, const struct app_slot *slot, size_t bytes) {
    struct publisher *publisher = context;

    (void)slot;
    if (publisher->refuses && atomic_load_explicit(&publisher->down, memory_order_relaxed))
        return "the message system between the nodes is down, and this server is set to refuse events meanwhile "
               "(adapter.publish_when_down): try again";
    return mailbox_has_room(publisher, bytes) ? NULL : "too many events wait for the other nodes: try again";
}

static size_t publisher_most_bytes(void *context) {
    struct publisher *publisher = context;

    return atomic_load_explicit(&publisher->most_bytes, memory_order_relaxed);
}

/* Sets the relay if events are for somebody, or may be, or have to be refused. */
static void set_publisher_relay(struct publisher *publisher) {
    bool wanted = nodes_alive(publisher->core->nodes) != 0 ||
                  (!publisher->gathered && (publisher->relay_set || publisher->refuses || publisher->never_gathered));

    atomic_store_explicit(&publisher->version, nodes_version(publisher->core->nodes), memory_order_relaxed);
    if (wanted != publisher->relay_set && publisher->core->channels != NULL)
        channel_hub_set_relay(publisher->core->channels, wanted ? &publisher->relay : NULL);
    publisher->relay_set = wanted;
}

/* --- the part --- */

static void on_publisher_down(void *context) {
    struct publisher *publisher = context;

    atomic_store(&publisher->down, true);
    loop_timer_end(publisher->core->loop, &publisher->first);
    publisher->gathered = false;
    outgoing_hold(&publisher->outgoing);
    set_publisher_relay(publisher);
}

static void note_most_bytes(struct publisher *publisher) {
    const struct bus *bus = publisher->core->bus;
    uint64_t payload = publisher->core->config->event_limits.max_payload_in_kb * UINT64_C(1024);
    struct bus_state state;

    bus->driver->state(bus, &state);
    if (state.max_message_bytes != 0 && payload >= state.max_message_bytes)
        log_warning("cluster",
                    "the message system takes messages of at most %zu bytes (max_payload of NATS), which is less than "
                    "event_limits.max_payload_in_kb: larger events are refused",
                    state.max_message_bytes);
    atomic_store_explicit(&publisher->most_bytes, state.max_message_bytes, memory_order_relaxed);
}

static void on_publisher_up(void *context) {
    struct publisher *publisher = context;

    atomic_store(&publisher->down, false);
    note_most_bytes(publisher);
}

/* It is known who is there. */
static void go_on_publishing(struct publisher *publisher) {
    publisher->gathered = true;
    publisher->never_gathered = false;
    set_publisher_relay(publisher);
    if (nodes_alive(publisher->core->nodes) == 0)
        outgoing_clear(&publisher->outgoing);
    outgoing_release(&publisher->outgoing);
    run_publisher(publisher);
}

static void on_publisher_first(struct loop_timer *timer) {
    go_on_publishing(container_of(timer, struct publisher, first));
}

/* At first no node is known whose hello could be waited for. */
static void on_publisher_gathered(void *context) {
    struct publisher *publisher = context;

    if (publisher->never_gathered && nodes_alive(publisher->core->nodes) == 0)
        loop_timer_set(publisher->core->loop, &publisher->first, PUBLISHER_FIRST_MS);
    else
        go_on_publishing(publisher);
}

static void on_publisher_node(void *context, unsigned node) {
    struct publisher *publisher = context;

    (void)node;
    set_publisher_relay(publisher);
    if (!loop_timer_is_set(&publisher->first))
        return;
    loop_timer_end(publisher->core->loop, &publisher->first);
    go_on_publishing(publisher);
}

static void on_publisher_replaced(void *context, unsigned before, unsigned now) {
    (void)before;
    on_publisher_node(context, now);
}

static void on_publisher_hello(void *context, unsigned node, const struct message_hello *hello) {
    (void)hello;
    on_publisher_node(context, node);
}

static void on_publisher_leaving(void *context) {
    struct publisher *publisher = context;

    publisher->leaving = true;
    run_publisher(publisher);
}

static void dispose_publisher(void *context) {
    struct publisher *publisher = context;

    if (publisher->relay_set && publisher->core->channels != NULL)
        channel_hub_set_relay(publisher->core->channels, NULL);
    loop_timer_end(publisher->core->loop, &publisher->timer);
    loop_timer_end(publisher->core->loop, &publisher->first);
    loop_timer_end(publisher->core->loop, &publisher->storing_timer);
    while (publisher->storing != NULL) {
        struct outgoing_item *item = publisher->storing;
        publisher->storing = item->next;
        outgoing_item_free(item);
    }
    outgoing_dispose(&publisher->outgoing);
    free(publisher);
}

struct publisher *publisher_create(struct cluster_core *core) {
    struct publisher *publisher = alloc_zero(sizeof *publisher);
    const struct outgoing_target target = {publish_outgoing, flush_outgoing, outgoing_in_bus, publisher};
    const struct cluster_part part = {
        .up = on_publisher_up,
        .down = on_publisher_down,
        .gathered = on_publisher_gathered,
        .node_came = on_publisher_node,
        .node_left = on_publisher_node,
        .node_replaced = on_publisher_replaced,
        .hello = on_publisher_hello,
        .leaving = on_publisher_leaving,
        .end_of_turn = on_publisher_turn_end,
        .dispose = dispose_publisher,
        .context = publisher,
    };

    publisher->core = core;
    publisher->relay = (struct channel_relay){.published = publish_to_nodes,
                                              .terminated = terminate_on_nodes,
                                              .refusal = publisher_refusal,
                                              .most_bytes = publisher_most_bytes,
                                              .context = publisher};
    publisher->never_gathered = true;
    publisher->refuses = core->config->adapter.publish_when_down == CONFIG_PUBLISH_REFUSE;
    publisher->cache_ttl_ms = core->config->channel_limits.cache_ttl_s * UINT64_C(1000);
    publisher->timer.fire = on_publisher_timer;
    publisher->first.fire = on_publisher_first;
    publisher->storing_timer.fire = on_storing_timer;
    publisher->storing_last = &publisher->storing;
    atomic_init(&publisher->version, message_versions_own().highest);
    atomic_init(&publisher->down, true);
    outgoing_init(&publisher->outgoing, &target, core->config->adapter.outage_buffer_mb * (size_t)1024 * 1024,
                  core->config->adapter.outage_max_age_s * UINT64_C(1000));
    cluster_core_add_part(core, &part);
    return publisher;
}

void publisher_read_stats(const struct publisher *publisher, struct publisher_stats *stats) {
    const struct outgoing *outgoing = &publisher->outgoing;

    *stats = (struct publisher_stats){
        .waiting = counter_read(&outgoing->waiting),
        .waiting_bytes = counter_read(&outgoing->waiting_bytes),
        .dropped = counter_read(&outgoing->dropped) + atomic_load(&publisher->unposted),
        .expired = counter_read(&outgoing->expired),
    };
}
