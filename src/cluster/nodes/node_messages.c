#include "cluster/nodes/node_messages.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app_slot.h"
#include "app_manager/app_manager.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/list.h"
#include "channel/channel.h"
#include "config/config.h"
#include "net/reclaim.h"

/* Those that are there have answered when no new one was heard of for so long, if the bus does not say how many there
 * are. */
#define SETTLED_MS 300

/* The list that people see is made anew so often. */
#define NODE_LIST_MS 500

struct node_messages {
    struct cluster_core *core;
    struct loop_timer timer;
    uint64_t started_ms; /* wall clock */
    struct slice name;
    char address[NODE_TEXT_MAX];
    struct buffer all, inbox; /* subjects */
    bool subscribed, all_in_force, inbox_in_force;
    bool renamed; /* and not told yet */
    struct node_load load;
    uint64_t busy_us, busy_ns; /* of the busiest worker, and when it was read */

    atomic_bool in_trouble;
    uint64_t listed_ms;
    pthread_mutex_t list_mutex;
    unsigned list_count; /* under the mutex, as the next */
    struct node_entry list[NODES_MAX];
};

/* --- what this node says of itself --- */

static void add_slot_load(struct app_slot *slot, void *context) {
    struct node_load *load = context;

    uint32_t active[CHANNEL_LABEL_COUNT];

    load->connections += atomic_load_explicit(&slot->connections, memory_order_relaxed);
    channel_count_active(slot, active);
    for (unsigned i = 0; i < CHANNEL_LABEL_COUNT; i++)
        load->channels += active[i];
}

/* The time that the busiest worker spent in its turns since the last call. */
static uint32_t read_busy_permille(struct node_messages *messages) {
    const struct workers *workers = messages->core->workers;
    uint64_t busy_us = 0, now_ns = clock_monotonic_ns(), span_us = (now_ns - messages->busy_ns) / 1000, spent_us;

    for (unsigned i = 0; i < workers->count; i++) {
        uint64_t sum_us = counter_read(&workers->list[i]->counters.lag_sum_us);
        busy_us = sum_us > busy_us ? sum_us : busy_us;
    }
    spent_us = busy_us - messages->busy_us;
    messages->busy_us = busy_us;
    messages->busy_ns = now_ns;
    if (span_us == 0 || spent_us > span_us)
        return spent_us == 0 ? 0 : 1000;
    return (uint32_t)(spent_us * 1000 / span_us);
}

/* With each heartbeat only: it takes milliseconds with 10,000 apps. */
static void read_own_load(struct node_messages *messages) {
    struct cluster_core *core = messages->core;

    messages->load = (struct node_load){0};
    if (core->apps == NULL)
        return;
    app_manager_each_slot(core->apps, add_slot_load, &messages->load);
    messages->load.permille = read_busy_permille(messages);
}

static void say_hello(void *context, const struct node_id *to, bool answer) {
    struct node_messages *messages = context;
    struct cluster_core *core = messages->core;
    struct cluster_message message = {.kind = answer ? MESSAGE_HELLO_ANSWER : MESSAGE_HELLO};

    message.hello = (struct message_hello){
        .versions = message_versions_own(),
        .replaces = nodes_replaced_id(core->nodes),
        .name = messages->name,
        .address = slice_of(messages->address),
        .since_ms = messages->started_ms,
        .connections = messages->load.connections,
        .channels = messages->load.channels,
        .load_permille = messages->load.permille,
    };
    cluster_core_say_hello(core, &message.hello);
    if (to != NULL) {
        cluster_core_say_to(core, *to, &message);
        return;
    }
    if (core->bus->driver->count_next != NULL)
        core->bus->driver->count_next(core->bus);
    cluster_core_say_to_all(core, &message);
}

static void say_heartbeat(void *context) {
    struct node_messages *messages = context;
    struct cluster_message message = {.kind = MESSAGE_HEARTBEAT};

    read_own_load(messages);
    message.heartbeat = (struct message_heartbeat){.connections = messages->load.connections,
                                                   .channels = messages->load.channels,
                                                   .load_permille = messages->load.permille};
    cluster_core_say_to_all(messages->core, &message);
}

static void say_dead(void *context, struct node_id dead, const struct node_id *to) {
    struct node_messages *messages = context;
    struct cluster_message message = {.kind = MESSAGE_DEAD, .dead = {.id = dead}};

    if (to == NULL)
        cluster_core_say_to_all(messages->core, &message);
    else
        cluster_core_say_to(messages->core, *to, &message);
}

void node_messages_say_bye(struct node_messages *messages) {
    struct cluster_message message = {.kind = MESSAGE_BYE};

    cluster_core_say_to_all(messages->core, &message);
    messages->core->silent = true;
    nodes_down(messages->core->nodes, loop_now_ms(messages->core->loop));
}

/* --- the list that people see --- */

static struct node_entry own_entry(const struct node_messages *messages) {
    struct node_entry entry = {
        .id = nodes_own_id(messages->core->nodes),
        .self = true,
        .version = message_versions_own().highest,
        .started_ms = messages->started_ms,
        .heard_ms = clock_wall_ms(),
        .load = messages->load,
    };

    snprintf(entry.name, sizeof entry.name, "%.*s", SLICE_ARGS(messages->name));
    memcpy(entry.address, messages->address, sizeof entry.address);
    return entry;
}

static void list_nodes(struct node_messages *messages) {
    const struct nodes *nodes = messages->core->nodes;
    struct node_entry own;

    messages->listed_ms = loop_now_ms(messages->core->loop);
    atomic_store(&messages->in_trouble, nodes_in_trouble(nodes, messages->listed_ms));
    own = own_entry(messages);
    pthread_mutex_lock(&messages->list_mutex);
    messages->list[0] = own;
    messages->list_count = 1;
    for (uint64_t left = nodes_alive(nodes); left != 0; left &= left - 1) {
        const struct node *node = nodes_at(nodes, (unsigned)__builtin_ctzll(left));
        struct node_entry *entry = &messages->list[messages->list_count++];
        *entry = (struct node_entry){.id = node->id,
                                     .version = node->versions.highest,
                                     .started_ms = node->started_ms,
                                     .heard_ms = node->heard_wall_ms,
                                     .load = node->load};
        memcpy(entry->name, node->name, sizeof entry->name);
        memcpy(entry->address, node->address, sizeof entry->address);
    }
    pthread_mutex_unlock(&messages->list_mutex);
}

unsigned node_messages_list(struct node_messages *messages, struct node_entry list[NODES_MAX]) {
    unsigned count;

    pthread_mutex_lock(&messages->list_mutex);
    count = messages->list_count;
    memcpy(list, messages->list, count * sizeof list[0]);
    pthread_mutex_unlock(&messages->list_mutex);
    return count;
}

bool node_messages_in_trouble(const struct node_messages *messages) {
    return atomic_load(&messages->in_trouble);
}

/* --- time --- */

static void run_node_table(struct node_messages *messages) {
    struct loop *loop = messages->core->loop;
    uint64_t now_ms = loop_now_ms(loop), due_ms = nodes_run(messages->core->nodes, now_ms);

    loop_timer_set(loop, &messages->timer, due_ms - now_ms);
}

static void on_nodes_timer(struct loop_timer *timer) {
    run_node_table(container_of(timer, struct node_messages, timer));
}

static void on_nodes_turn_end(void *context) {
    struct node_messages *messages = context;

    if (loop_now_ms(messages->core->loop) - messages->listed_ms >= NODE_LIST_MS)
        list_nodes(messages);
}

bool node_messages_are_settled(const struct node_messages *messages) {
    return nodes_settled(messages->core->nodes, SETTLED_MS, loop_now_ms(messages->core->loop));
}

/* --- the bus --- */

static void subscribe_to_inbox(struct node_messages *messages) {
    struct cluster_core *core = messages->core;

    messages->inbox.length = 0;
    messages->inbox_in_force = false;
    subject_append_inbox(&messages->inbox, &core->subjects, nodes_own_id(core->nodes));
    core->bus->driver->subscribe(core->bus, buffer_slice(&messages->inbox));
}

static void on_nodes_bus_up(void *context) {
    struct node_messages *messages = context;
    struct cluster_core *core = messages->core;

    if (messages->subscribed)
        return; /* the driver subscribes anew */
    messages->subscribed = true;
    core->bus->driver->subscribe(core->bus, buffer_slice(&messages->all));
    subscribe_to_inbox(messages);
}

static void on_nodes_down(void *context) {
    struct node_messages *messages = context;

    messages->all_in_force = messages->inbox_in_force = false;
    nodes_down(messages->core->nodes, loop_now_ms(messages->core->loop));
    run_node_table(messages);
}

static void on_nodes_in_force(void *context, struct slice subject) {
    struct node_messages *messages = context;
    bool is_all = slice_equal(subject, buffer_slice(&messages->all));
    bool is_inbox = slice_equal(subject, buffer_slice(&messages->inbox));

    if (!is_all && !is_inbox)
        return;
    messages->all_in_force |= is_all;
    messages->inbox_in_force |= is_inbox;
    if (!messages->all_in_force || !messages->inbox_in_force)
        return;
    nodes_up(messages->core->nodes, loop_now_ms(messages->core->loop));
    run_node_table(messages); /* hello goes before all that the other parts say */
    if (messages->renamed)
        cluster_core_tell_renamed(messages->core);
    messages->renamed = false;
    cluster_core_tell_up(messages->core);
}

/* Others may have been heard by all but this node: nothing is concluded from their silence. */
static void on_nodes_interrupted(void *context, struct slice subject) {
    struct node_messages *messages = context;
    bool is_all = slice_equal(subject, buffer_slice(&messages->all));
    bool is_inbox = slice_equal(subject, buffer_slice(&messages->inbox));

    if (!is_all && !is_inbox)
        return;
    messages->all_in_force &= !is_all;
    messages->inbox_in_force &= !is_inbox;
    nodes_down(messages->core->nodes, loop_now_ms(messages->core->loop));
}

static void on_own_rename(void *context, struct node_id before) {
    struct node_messages *messages = context;
    struct cluster_core *core = messages->core;

    (void)before;
    core->bus->driver->unsubscribe(core->bus, buffer_slice(&messages->inbox));
    messages->renamed = true;
    subscribe_to_inbox(messages);
}

/* --- messages --- */

static struct node_load load_of(uint64_t connections, uint64_t channels, uint32_t permille) {
    return (struct node_load){connections, channels, permille};
}

static bool take_hello_message(struct node_messages *messages, const struct cluster_message *message, bool answer) {
    struct cluster_core *core = messages->core;
    const struct message_hello *said = &message->hello;
    const struct node_hello hello = {
        .replaces = said->replaces,
        .versions = said->versions,
        .started_ms = said->since_ms,
        .name = said->name,
        .address = said->address,
        .load = load_of(said->connections, said->channels, said->load_permille),
    };
    unsigned node = nodes_hello(core->nodes, message->sender, &hello, answer, loop_now_ms(core->loop));

    if (node != 0)
        cluster_core_take_hello(core, node, said);
    run_node_table(messages);
    list_nodes(messages);
    return false;
}

static bool on_hello(void *context, unsigned node, const struct cluster_message *message, struct bus_message *bytes) {
    (void)node;
    (void)bytes;
    return take_hello_message(context, message, true);
}

static bool on_hello_answer(void *context, unsigned node, const struct cluster_message *message,
                            struct bus_message *bytes) {
    (void)node;
    (void)bytes;
    return take_hello_message(context, message, false);
}

static bool on_heartbeat(void *context, unsigned node, const struct cluster_message *message,
                         struct bus_message *bytes) {
    struct node_messages *messages = context;
    const struct message_heartbeat *said = &message->heartbeat;
    const struct node_load load = load_of(said->connections, said->channels, said->load_permille);

    (void)bytes;
    nodes_heartbeat(messages->core->nodes, node, &load);
    return false;
}

static bool on_bye(void *context, unsigned node, const struct cluster_message *message, struct bus_message *bytes) {
    struct node_messages *messages = context;

    (void)node;
    (void)bytes;
    nodes_bye(messages->core->nodes, message->sender, loop_now_ms(messages->core->loop));
    run_node_table(messages);
    list_nodes(messages);
    return false;
}

static bool on_dead(void *context, unsigned node, const struct cluster_message *message, struct bus_message *bytes) {
    struct node_messages *messages = context;

    (void)node;
    (void)bytes;
    nodes_dead(messages->core->nodes, message->dead.id, loop_now_ms(messages->core->loop));
    run_node_table(messages);
    return false;
}

/* --- hooks of the table --- */

static void on_node_came(void *context, unsigned number) {
    const struct node_messages *messages = context;

    cluster_core_tell_came(messages->core, number);
}

static void on_node_left(void *context, unsigned number) {
    const struct node_messages *messages = context;

    cluster_core_tell_gone(messages->core, number);
}

static void on_node_replaced(void *context, unsigned before, unsigned now) {
    const struct node_messages *messages = context;

    cluster_core_tell_replaced(messages->core, before, now);
}

static void on_nodes_gathered(void *context) {
    const struct node_messages *messages = context;

    cluster_core_tell_gathered(messages->core);
}

static void dispose_node_messages(void *context) {
    struct node_messages *messages = context;

    loop_timer_end(messages->core->loop, &messages->timer);
    nodes_destroy(messages->core->nodes);
    pthread_mutex_destroy(&messages->list_mutex);
    buffer_dispose(&messages->all);
    buffer_dispose(&messages->inbox);
    free(messages);
}

static void create_node_table(struct node_messages *messages) {
    const struct nodes_settings settings = {
        .heartbeat_ms = messages->core->config->adapter.cluster_health.heartbeat_interval_ms,
        .timeout_ms = messages->core->config->adapter.cluster_health.node_timeout_ms,
        .outage_ms = messages->core->config->adapter.outage_presence_s * UINT64_C(1000),
        .versions = message_versions_own(),
    };
    const struct nodes_hooks hooks = {
        .say_hello = say_hello,
        .say_heartbeat = say_heartbeat,
        .say_dead = say_dead,
        .renamed = on_own_rename,
        .came = on_node_came,
        .left = on_node_left,
        .replaced = on_node_replaced,
        .gathered = on_nodes_gathered,
        .context = messages,
    };

    messages->core->nodes = nodes_create(&settings, &hooks, loop_now_ms(messages->core->loop));
}

struct node_messages *node_messages_create(struct cluster_core *core, struct slice address) {
    struct node_messages *messages = alloc_zero(sizeof *messages);
    const struct cluster_part part = {
        .bus_up = on_nodes_bus_up,
        .down = on_nodes_down,
        .in_force = on_nodes_in_force,
        .interrupted = on_nodes_interrupted,
        .end_of_turn = on_nodes_turn_end,
        .dispose = dispose_node_messages,
        .context = messages,
    };

    messages->core = core;
    messages->started_ms = clock_wall_ms();
    messages->name = slice_of(core->config->instance.process_id);
    messages->timer.fire = on_nodes_timer;
    snprintf(messages->address, sizeof messages->address, "%.*s", SLICE_ARGS(address));
    pthread_mutex_init(&messages->list_mutex, NULL);
    subject_append_all(&messages->all, &core->subjects);
    create_node_table(messages);
    cluster_core_add_part(core, &part);
    cluster_core_handle(core, MESSAGE_HELLO, on_hello, true, messages);
    cluster_core_handle(core, MESSAGE_HELLO_ANSWER, on_hello_answer, true, messages);
    cluster_core_handle(core, MESSAGE_HEARTBEAT, on_heartbeat, false, messages);
    cluster_core_handle(core, MESSAGE_BYE, on_bye, true, messages);
    cluster_core_handle(core, MESSAGE_DEAD, on_dead, true, messages);
    return messages;
}
