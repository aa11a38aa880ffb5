#include "cluster/cluster_core.h"

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "net/worker.h"

/* Broken messages are logged so often. */
#define MALFORMED_LOG_MS 60000

void cluster_core_add_part(struct cluster_core *core, const struct cluster_part *part) {
    assert(core->part_count < CLUSTER_PARTS_MAX);
    core->parts[core->part_count++] = *part;
}

void cluster_core_handle(struct cluster_core *core, unsigned kind, cluster_handler *handle, bool strangers,
                         void *context) {
    assert(kind < MESSAGE_KINDS && core->kinds[kind].handle == NULL);
    core->kinds[kind].handle = handle;
    core->kinds[kind].strangers = strangers;
    core->kinds[kind].context = context;
}

void cluster_core_handle_of_any(struct cluster_core *core, unsigned kind, cluster_handler *handle, void *context) {
    cluster_core_handle(core, kind, handle, true, context);
    core->kinds[kind].departed = true;
}

/* --- to the bus --- */

bool cluster_core_publish(struct cluster_core *core, struct slice subject, struct bus_bytes *bytes) {
    struct cluster_kind *kind = &core->kinds[(unsigned char)bytes->data[1] % MESSAGE_KINDS] /* see message.h */;

    if (!core->up || core->silent) {
        counter_add(&core->unsent, 1);
        return false;
    }
    message_seal(bytes, nodes_own_id(core->nodes), ++core->run_number);
    if (!core->bus->driver->publish(core->bus, subject, bytes)) {
        counter_add(&core->unsent, 1);
        return false;
    }
    counter_add(&kind->sent, 1);
    counter_add(&kind->sent_bytes, bytes->length);
    return true;
}

/* True for what a node has to say to be taken for alive. All else that is not said is asked for again, or said again
 * after a while. */
static bool is_of_life(enum message_kind kind) {
    return kind == MESSAGE_HELLO || kind == MESSAGE_HELLO_ANSWER || kind == MESSAGE_HEARTBEAT || kind == MESSAGE_BYE ||
           kind == MESSAGE_DEAD;
}

static size_t bytes_in_bus(const struct cluster_core *core) {
    struct bus_state state;

    core->bus->driver->state(core->bus, &state);
    return state.waiting_bytes;
}

/* False if the bus is so slow that what waits in it is as much as may wait in an outage. */
static bool core_has_room(const struct cluster_core *core) {
    size_t most_bytes = core->config->adapter.outage_buffer_mb * (size_t)1024 * 1024;

    if (bytes_in_bus(core) < most_bytes)
        return true;
    core->bus->driver->flush(core->bus);
    return bytes_in_bus(core) < most_bytes;
}

bool cluster_core_say(struct cluster_core *core, struct slice subject, struct cluster_message *message) {
    struct bus_bytes *bytes;
    bool said;

    if (core->up && !is_of_life(message->kind) && !core_has_room(core)) {
        counter_add(&core->unsent, 1);
        return false;
    }
    message->version = nodes_version(core->nodes);
    message->sender = nodes_own_id(core->nodes);
    bytes = message_encode(message);
    if (bytes == NULL) {
        counter_add(&core->unsent, 1);
        return false;
    }
    said = cluster_core_publish(core, subject, bytes);
    bus_bytes_unref(bytes);
    return said;
}

bool cluster_core_say_to_all(struct cluster_core *core, struct cluster_message *message) {
    struct buffer subject = {0};
    bool said;

    subject_append_all(&subject, &core->subjects);
    said = cluster_core_say(core, buffer_slice(&subject), message);
    buffer_dispose(&subject);
    return said;
}

bool cluster_core_say_to(struct cluster_core *core, struct node_id node, struct cluster_message *message) {
    struct buffer subject = {0};
    bool said;

    subject_append_inbox(&subject, &core->subjects, node);
    said = cluster_core_say(core, buffer_slice(&subject), message);
    buffer_dispose(&subject);
    return said;
}

void cluster_core_post(const struct cluster_core *core, struct worker *worker, struct message *message) {
    struct message *rest = NULL;

    if (core->ended)
        message->handle(worker, message, &rest);
    else
        worker_post(worker, message);
}

/* --- from the bus --- */

static void note_malformed(struct cluster_core *core, struct slice subject, const char *why) {
    uint64_t now_ms = loop_now_ms(core->loop);

    counter_add(&core->malformed, 1);
    if (core->malformed_logged_ms != 0 && now_ms - core->malformed_logged_ms < MALFORMED_LOG_MS)
        return;
    core->malformed_logged_ms = now_ms;
    log_warning("cluster", "a message on %.*s was dropped: %s; %llu so far", SLICE_ARGS(subject), why,
                (unsigned long long)counter_read(&core->malformed));
}

/* True if the handler has taken the message. */
static bool handle_cluster_message(struct cluster_core *core, const struct cluster_kind *kind, unsigned node,
                                   struct bus_message *bus_message) {
    struct cluster_message message;
    struct error error;

    switch (message_decode(bus_message->payload, &message, &error)) {
    case MESSAGE_GOOD:
        return kind->handle(kind->context, node, &message, bus_message);
    case MESSAGE_BROKEN:
        note_malformed(core, bus_message->subject, error.text);
        return false;
    default:
        counter_add(&core->skipped, 1);
        return false;
    }
}

static bool is_from_right_sender(const struct cluster_kind *kind, enum nodes_sender sender, enum message_kind message) {
    switch (sender) {
    case NODES_KNOWN:
        return true;
    case NODES_UNKNOWN:
        return kind->strangers;
    case NODES_LEFT:
        return kind->departed || message == MESSAGE_DEAD;
    default:
        /* Two nodes may take each other for dead: then each must hear that from the other, and take a new id. */
        return message == MESSAGE_DEAD;
    }
}

static bool take_cluster_message(struct cluster_core *core, struct bus_message *bus_message) {
    struct cluster_message message;
    struct cluster_kind *kind;
    enum nodes_sender sender;
    unsigned node;

    if (!message_decode_header(bus_message->payload, &message)) {
        note_malformed(core, bus_message->subject, "its header is broken");
        return false;
    }
    sender =
        nodes_heard(core->nodes, message.sender, message.kind == MESSAGE_HELLO || message.kind == MESSAGE_HELLO_ANSWER,
                    &node, loop_now_ms(core->loop));
    if (sender == NODES_SELF)
        return false;
    kind = (unsigned)message.kind < MESSAGE_KINDS ? &core->kinds[message.kind] : NULL;
    if (kind != NULL) {
        counter_add(&kind->received, 1);
        counter_add(&kind->received_bytes, bus_message->payload.length);
    }
    if (kind == NULL || kind->handle == NULL) {
        counter_add(&core->skipped, 1);
        return false;
    }
    if (!is_from_right_sender(kind, sender, message.kind)) {
        counter_add(&core->dropped, 1);
        return false;
    }
    return handle_cluster_message(core, kind, node, bus_message);
}

static void on_core_message(void *context, struct bus_message *message) {
    if (!take_cluster_message(context, message))
        message->release(message);
}

/* --- the parts --- */

#define EACH_PART(core, part)                                                                                          \
    for (struct cluster_part *part = (core)->parts; part < (core)->parts + (core)->part_count; part++)

static void on_core_up(void *context) {
    struct cluster_core *core = context;
    uint64_t since_ms = atomic_exchange(&core->down_since_ms, 0);

    core->up = true;
    counter_add(&core->outage_ms, clock_monotonic_ms() - since_ms);
    log_info("cluster", "the bus (%s) is up", core->bus->driver->name);
    EACH_PART(core, part)
    if (part->bus_up != NULL)
        part->bus_up(part->context);
}

static void on_core_down(void *context, const char *why) {
    struct cluster_core *core = context;

    if (core->up) {
        atomic_store(&core->down_since_ms, clock_monotonic_ms());
        counter_add(&core->outages, 1);
    }
    core->up = false;
    if (!core->silent)
        log_warning("cluster", "the bus (%s) is down, this node goes on alone: %s", core->bus->driver->name, why);
    cluster_core_tell_down(core);
}

static void on_core_in_force(void *context, struct slice subject) {
    struct cluster_core *core = context;

    EACH_PART(core, part)
    if (part->in_force != NULL)
        part->in_force(part->context, subject);
}

static void on_core_interrupted(void *context, struct slice subject) {
    struct cluster_core *core = context;

    EACH_PART(core, part)
    if (part->interrupted != NULL)
        part->interrupted(part->context, subject);
}

/* A hello has reached so many nodes: the answers of the others are waited for. */
static void on_core_counted(void *context, uint64_t connections) {
    struct cluster_core *core = context;

    if (connections != 0) /* else this node subscribes at another server than it publishes to */
        nodes_expect(core->nodes, connections - 1);
}

struct bus_events cluster_core_events(struct cluster_core *core) {
    return (struct bus_events){.up = on_core_up,
                               .down = on_core_down,
                               .in_force = on_core_in_force,
                               .interrupted = on_core_interrupted,
                               .message = on_core_message,
                               .counted = on_core_counted,
                               .context = core};
}

void cluster_core_tell_up(struct cluster_core *core) {
    EACH_PART(core, part)
    if (part->up != NULL)
        part->up(part->context);
}

void cluster_core_tell_down(struct cluster_core *core) {
    EACH_PART(core, part)
    if (part->down != NULL)
        part->down(part->context);
}

void cluster_core_tell_gathered(struct cluster_core *core) {
    EACH_PART(core, part)
    if (part->gathered != NULL)
        part->gathered(part->context);
}

void cluster_core_tell_came(struct cluster_core *core, unsigned node) {
    atomic_store(&core->alive, nodes_alive(core->nodes));
    EACH_PART(core, part)
    if (part->node_came != NULL)
        part->node_came(part->context, node);
}

void cluster_core_tell_gone(struct cluster_core *core, unsigned node) {
    atomic_store(&core->alive, nodes_alive(core->nodes));
    EACH_PART(core, part)
    if (part->node_left != NULL)
        part->node_left(part->context, node);
}

void cluster_core_tell_replaced(struct cluster_core *core, unsigned before, unsigned now) {
    atomic_store(&core->alive, nodes_alive(core->nodes));
    EACH_PART(core, part)
    if (part->node_replaced != NULL)
        part->node_replaced(part->context, before, now);
}

void cluster_core_tell_renamed(struct cluster_core *core) {
    EACH_PART(core, part)
    if (part->renamed != NULL)
        part->renamed(part->context);
}

void cluster_core_tell_turn_end(struct cluster_core *core) {
    EACH_PART(core, part)
    if (part->end_of_turn != NULL)
        part->end_of_turn(part->context);
}

void cluster_core_say_hello(struct cluster_core *core, struct message_hello *hello) {
    EACH_PART(core, part)
    if (part->say_hello != NULL)
        part->say_hello(part->context, hello);
}

void cluster_core_take_hello(struct cluster_core *core, unsigned node, const struct message_hello *hello) {
    EACH_PART(core, part)
    if (part->hello != NULL)
        part->hello(part->context, node, hello);
}

void cluster_core_tell_leaving(struct cluster_core *core) {
    core->leaving = 1; /* of this function, so that all have left once only */
    EACH_PART(core, part)
    core->leaving += part->leaving != NULL;
    EACH_PART(core, part)
    if (part->leaving != NULL)
        part->leaving(part->context);
    cluster_core_left(core);
}

void cluster_core_left(struct cluster_core *core) {
    assert(core->leaving > 0);
    if (--core->leaving == 0)
        core->all_left(core->all_left_context);
}

void cluster_core_dispose_parts(struct cluster_core *core) {
    while (core->part_count > 0) {
        const struct cluster_part *part = &core->parts[--core->part_count];
        if (part->dispose != NULL)
            part->dispose(part->context);
    }
}
