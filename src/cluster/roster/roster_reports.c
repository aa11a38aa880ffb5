#include "cluster/roster/roster_reports.h"

#include <stdlib.h>
#include <string.h>

#include "app_manager/app_queue.h"
#include "base/alloc.h"
#include "base/budget.h"
#include "base/buffer.h"
#include "base/hash.h"
#include "base/json.h"
#include "cluster/roster/roster.h"

#define BATCH_MS 50
/* A batch of this size does not wait. */
#define BATCH_BYTES (48 * 1024)
#define REPEAT_MS 5000
#define REPEATS_PER_MINUTE 12
/* A long walk pauses while the bus has more to write, and between its steps. */
#define WALK_BUS_BYTES (1024 * 1024)
#define WALK_PAUSE_MS 10
#define ASK_MS 1000

/* The batches from and to another node. */
struct roster_stream {
    struct buffer items;
    bool urgent, begins;
    uint64_t sent;     /* number of the last batch */
    uint64_t repeated; /* the one that was said once more */
    uint64_t received; /* number of the last batch of the other node */
    bool lost;         /* one is missing: everything was asked for */
    uint64_t asked_ms;
};

struct roster_reports {
    struct cluster_core *core;
    struct webhook_outlet *outlet;
    struct roster *roster;
    struct app_queue waiting; /* by worker */
    struct loop_timer run_timer, batch_timer, repeat_timer;
    unsigned repeats;
    bool leaving;
    uint64_t held; /* numbers of nodes that left, until the roster has forgotten them */
    struct roster_stream streams[NODES_MAX];
};

/* --- events, to the webhook thread --- */

struct roster_telling {
    struct message message;
    struct app_task task;
    struct roster_reports *reports;
    size_t bytes; /* in the account of memory */
    enum roster_event_kind kind;
    uint32_t count;
    struct slice channel, user;
    char texts[];
};

static enum app_webhook_event roster_webhook_of(enum roster_event_kind kind) {
    switch (kind) {
    case ROSTER_OCCUPIED:
        return WEBHOOK_CHANNEL_OCCUPIED;
    case ROSTER_VACATED:
        return WEBHOOK_CHANNEL_VACATED;
    case ROSTER_JOINED:
        return WEBHOOK_MEMBER_ADDED;
    case ROSTER_LEFT:
        return WEBHOOK_MEMBER_REMOVED;
    default:
        return WEBHOOK_SUBSCRIPTION_COUNT;
    }
}

static void post_told_webhook(struct app_task *task) {
    struct roster_telling *telling = container_of(task, struct roster_telling, task);
    struct webhook_draft draft = {0};
    struct buffer user = {0};
    struct webhook_details details = {.channel = telling->channel, .graced = true};

    if (task->lookup.answer == APP_FOUND) {
        if (telling->user.length != 0)
            json_append_string(&user, telling->user);
        details.user_id = buffer_slice(&user);
        webhook_draft_begin(&draft, telling->reports->outlet, task->lookup.app, roster_webhook_of(telling->kind),
                            &details);
        webhook_draft_post(&draft, telling->count);
        webhook_draft_end(&draft);
        buffer_dispose(&user);
    }
    budget_give(BUDGET_CLUSTER, NULL, telling->bytes);
    free(telling);
}

static void handle_telling(struct worker *worker, struct message *message, struct message **rest) {
    struct roster_telling *telling = container_of(message, struct roster_telling, message);

    (void)rest;
    app_queue_add(&telling->reports->waiting, telling->reports->core->apps, worker, &telling->task);
}

/* What waits for workers, or for the record of an app, is in the account: without room the event is lost, and counted.
 */
static void tell_webhook_of(void *context, const struct roster_event *event) {
    struct roster_reports *reports = context;
    size_t texts = event->app.length + event->channel.length + event->user.length;
    size_t bytes = alloc_footprint(sizeof(struct roster_telling) + texts);
    struct workers *workers = reports->core->workers;
    struct roster_telling *telling;
    char *at;

    if (!budget_take(BUDGET_CLUSTER, NULL, bytes)) {
        atomic_fetch_add_explicit(&reports->outlet->dropped, 1, memory_order_relaxed);
        return;
    }
    telling = alloc(sizeof *telling + texts);
    at = telling->texts;
    *telling = (struct roster_telling){.message.handle = handle_telling,
                                       .task.run = post_told_webhook,
                                       .reports = reports,
                                       .bytes = bytes,
                                       .kind = event->kind,
                                       .count = event->count};
    telling->task.app_id = (struct slice){memcpy(at, event->app.data, event->app.length), event->app.length};
    at += event->app.length;
    telling->channel = (struct slice){memcpy(at, event->channel.data, event->channel.length), event->channel.length};
    at += event->channel.length;
    if (event->user.length != 0)
        telling->user = (struct slice){memcpy(at, event->user.data, event->user.length), event->user.length};
    worker_post(workers->list[hash_bytes(event->channel) % workers->count], &telling->message);
}

/* --- batches --- */

static void send_roster_batch(struct roster_reports *reports, unsigned node) {
    struct roster_stream *stream = &reports->streams[node];
    struct cluster_message message = {.kind = MESSAGE_ROSTER};
    const struct node *other = nodes_at(reports->core->nodes, node);

    if (stream->items.length != 0)
        stream->sent++;
    message.roster = (struct message_roster){
        .number = stream->sent, .begins = stream->begins, .items = buffer_slice(&stream->items)};
    if (other->state == NODE_ALIVE)
        cluster_core_say_to(reports->core, other->id, &message);
    stream->begins = stream->urgent = false;
    buffer_dispose(&stream->items);
}

static void send_batches(struct roster_reports *reports, bool only_urgent) {
    for (unsigned node = 1; node < NODES_MAX; node++)
        if (reports->streams[node].items.length != 0 && (!only_urgent || reports->streams[node].urgent))
            send_roster_batch(reports, node);
}

static void on_batch_timer(struct loop_timer *timer) {
    send_batches(container_of(timer, struct roster_reports, batch_timer), false);
}

static void say_roster_item(void *context, unsigned node, const struct roster_item *item) {
    struct roster_reports *reports = context;
    struct roster_stream *stream = &reports->streams[node];

    if (!reports->core->up)
        return;
    if (item->type == ROSTER_ALL) {
        if (stream->items.length != 0)
            send_roster_batch(reports, node);
        stream->begins = true;
    }
    message_add_roster_item(&stream->items, item);
    /* What was told must not be told again if this node dies now. */
    stream->urgent = stream->urgent || item->type == ROSTER_TOLD || item->type == ROSTER_UNTOLD;
    if (stream->items.length >= BATCH_BYTES)
        send_roster_batch(reports, node);
    else if (!loop_timer_is_set(&reports->batch_timer))
        loop_timer_set(reports->core->loop, &reports->batch_timer, BATCH_MS);
}

static void ask_for_all(struct roster_reports *reports, unsigned node) {
    struct roster_stream *stream = &reports->streams[node];
    struct cluster_message message = {.kind = MESSAGE_ROSTER_ASK};
    uint64_t now_ms = loop_now_ms(reports->core->loop);

    if (stream->lost && now_ms < stream->asked_ms + ASK_MS)
        return;
    stream->lost = true;
    stream->asked_ms = now_ms;
    cluster_core_say_to(reports->core, nodes_at(reports->core->nodes, node)->id, &message);
}

/* Tells each node the number of the last batch, and asks those of which one is missing: what was asked may be lost. */
static void on_repeat_timer(struct loop_timer *timer) {
    struct roster_reports *reports = container_of(timer, struct roster_reports, repeat_timer);
    bool each = ++reports->repeats % REPEATS_PER_MINUTE == 0;

    for (unsigned node = 1; node < NODES_MAX; node++) {
        struct roster_stream *stream = &reports->streams[node];

        if (stream->lost)
            ask_for_all(reports, node);
        if (stream->items.length != 0 || stream->sent == 0 || (!each && stream->repeated == stream->sent))
            continue;
        stream->repeated = stream->sent;
        send_roster_batch(reports, node);
    }
    if (nodes_alive(reports->core->nodes) != 0)
        loop_timer_set(reports->core->loop, timer, REPEAT_MS);
}

/* --- running the roster --- */

static void release_forgotten(struct roster_reports *reports) {
    for (unsigned node = 1; reports->held != 0 && node < NODES_MAX; node++)
        if ((reports->held >> node & 1) != 0)
            nodes_release(reports->core->nodes, node);
    reports->held = 0;
}

static bool roster_bus_has_room(const struct cluster_core *core) {
    struct bus_state state;

    core->bus->driver->state(core->bus, &state);
    return state.waiting_bytes < WALK_BUS_BYTES;
}

static void run_roster(struct roster_reports *reports) {
    struct cluster_core *core = reports->core;
    uint64_t now_ms = loop_now_ms(core->loop), next_ms = now_ms;
    bool walks = reports->leaving;

    if (roster_bus_has_room(core)) {
        next_ms = roster_run(reports->roster, now_ms);
        if (reports->leaving)
            walks = roster_leave(reports->roster, now_ms);
    }
    if (!roster_is_walking(reports->roster))
        release_forgotten(reports);
    if (reports->leaving && !walks) {
        reports->leaving = false;
        send_batches(reports, false);
        cluster_core_left(core);
    }
    if (walks || next_ms <= now_ms)
        loop_timer_set(core->loop, &reports->run_timer, reports->leaving ? 1 : WALK_PAUSE_MS);
    else if (next_ms != UINT64_MAX)
        loop_timer_set(core->loop, &reports->run_timer, next_ms - now_ms);
}

static void on_run_timer(struct loop_timer *timer) {
    run_roster(container_of(timer, struct roster_reports, run_timer));
}

/* Something has changed: the roster says what is due when. */
static void run_roster_soon(struct roster_reports *reports) {
    loop_timer_set(reports->core->loop, &reports->run_timer, 0);
}

void roster_reports_changed(struct roster_reports *reports, struct slice app, const struct channel_own_change *change) {
    struct slice name = channel_name(change->channel);
    uint64_t now_ms;

    if (reports == NULL)
        return;
    now_ms = loop_now_ms(reports->core->loop);
    if (change->added && (change->before == 0 || change->member == NULL))
        roster_own_change(reports->roster, app, name, SLICE(""), true, now_ms);
    if (change->member != NULL)
        roster_own_change(reports->roster, app, name, presence_member_key(change->member), change->added, now_ms);
    if (!change->added && (change->becomes_empty || change->member == NULL))
        roster_own_change(reports->roster, app, name, SLICE(""), false, now_ms);
    run_roster_soon(reports);
}

void roster_reports_counted(struct roster_reports *reports, struct slice app, struct slice channel, uint32_t count) {
    if (reports == NULL)
        return;
    roster_own_count(reports->roster, app, channel, count, loop_now_ms(reports->core->loop));
    run_roster_soon(reports);
}

/* --- other nodes --- */

/* True if the batch follows the one before, or begins with everything. */
static bool is_next_batch(struct roster_stream *stream, const struct message_roster *batch) {
    bool next = batch->number == stream->received + (batch->items.length != 0 ? 1 : 0);

    if (batch->begins)
        stream->lost = false;
    else if (!next || stream->lost)
        return false;
    stream->received = batch->number;
    return true;
}

static bool on_roster_batch(void *context, unsigned node, const struct cluster_message *message,
                            struct bus_message *bytes) {
    struct roster_reports *reports = context;
    struct slice items = message->roster.items;
    struct roster_item item;

    (void)bytes;
    if (!is_next_batch(&reports->streams[node], &message->roster)) {
        ask_for_all(reports, node);
        return false;
    }
    while (message_next_roster_item(&items, &item))
        roster_take(reports->roster, node, &item, loop_now_ms(reports->core->loop));
    run_roster_soon(reports);
    return false;
}

static bool on_roster_ask(void *context, unsigned node, const struct cluster_message *message,
                          struct bus_message *bytes) {
    struct roster_reports *reports = context;

    (void)message;
    (void)bytes;
    roster_tell_all(reports->roster, UINT64_C(1) << node, loop_now_ms(reports->core->loop));
    run_roster_soon(reports);
    return false;
}

static void set_roster_nodes(struct roster_reports *reports, uint64_t forget) {
    const struct nodes *nodes = reports->core->nodes;
    struct node_id ids[ROSTER_NODES] = {0};

    ids[0] = nodes_own_id(nodes);
    for (unsigned node = 1; node < NODES_MAX; node++)
        ids[node] = nodes_at(nodes, node)->id;
    roster_set_nodes(reports->roster, nodes_alive(nodes) | 1, ids, forget, loop_now_ms(reports->core->loop));
    run_roster_soon(reports);
}

static void reset_stream(struct roster_reports *reports, unsigned node) {
    struct roster_stream *stream = &reports->streams[node];

    buffer_dispose(&stream->items);
    *stream = (struct roster_stream){0};
}

static void on_roster_node_came(void *context, unsigned node) {
    struct roster_reports *reports = context;

    reset_stream(reports, node);
    set_roster_nodes(reports, UINT64_C(1) << node);
    if (!loop_timer_is_set(&reports->repeat_timer))
        loop_timer_set(reports->core->loop, &reports->repeat_timer, REPEAT_MS);
}

/* Its number is not given again before the roster has forgotten it. */
static void on_roster_node_left(void *context, unsigned node) {
    struct roster_reports *reports = context;

    if ((reports->held >> node & 1) == 0)
        nodes_hold(reports->core->nodes, node);
    reports->held |= UINT64_C(1) << node;
    reset_stream(reports, node);
    set_roster_nodes(reports, UINT64_C(1) << node);
}

static void on_roster_node_replaced(void *context, unsigned before, unsigned now) {
    on_roster_node_left(context, before);
    on_roster_node_came(context, now);
}

static void on_roster_renamed(void *context) {
    struct roster_reports *reports = context;

    for (unsigned node = 1; node < NODES_MAX; node++)
        reset_stream(reports, node);
    roster_was_away(reports->roster, loop_now_ms(reports->core->loop));
    set_roster_nodes(reports, 0);
}

/* Batches may have been lost in the outage. */
static void on_roster_gathered(void *context) {
    struct roster_reports *reports = context;

    roster_tell_all(reports->roster, nodes_alive(reports->core->nodes), loop_now_ms(reports->core->loop));
    run_roster_soon(reports);
}

static void on_roster_leaving(void *context) {
    struct roster_reports *reports = context;

    reports->leaving = true;
    run_roster_soon(reports);
}

static void on_roster_turn_end(void *context) {
    send_batches(context, true);
}

static void dispose_reports(void *context) {
    struct roster_reports *reports = context;

    for (unsigned node = 0; node < NODES_MAX; node++)
        reset_stream(reports, node);
    loop_timer_end(reports->core->loop, &reports->run_timer);
    loop_timer_end(reports->core->loop, &reports->batch_timer);
    loop_timer_end(reports->core->loop, &reports->repeat_timer);
    roster_destroy(reports->roster);
    free(reports);
}

struct roster_reports *roster_reports_create(struct cluster_core *core, struct webhook_outlet *outlet) {
    struct roster_reports *reports;
    struct cluster_part part;

    if (outlet == NULL)
        return NULL;
    reports = alloc_zero(sizeof *reports);
    reports->core = core;
    reports->outlet = outlet;
    reports->run_timer.fire = on_run_timer;
    reports->batch_timer.fire = on_batch_timer;
    reports->repeat_timer.fire = on_repeat_timer;
    reports->roster = roster_create(&(struct roster_hooks){say_roster_item, tell_webhook_of, reports});
    part = (struct cluster_part){.gathered = on_roster_gathered,
                                 .node_came = on_roster_node_came,
                                 .node_left = on_roster_node_left,
                                 .node_replaced = on_roster_node_replaced,
                                 .renamed = on_roster_renamed,
                                 .leaving = on_roster_leaving,
                                 .end_of_turn = on_roster_turn_end,
                                 .dispose = dispose_reports,
                                 .context = reports};
    cluster_core_add_part(core, &part);
    cluster_core_handle(core, MESSAGE_ROSTER, on_roster_batch, false, reports);
    cluster_core_handle(core, MESSAGE_ROSTER_ASK, on_roster_ask, false, reports);
    return reports;
}
