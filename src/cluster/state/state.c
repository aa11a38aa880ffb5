#include "cluster/state/state.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/log.h"
#include "channel/channel_name.h"
#include "cluster/cached_events.h"
#include "cluster/state/state_internal.h"

/* How long the sets of a node that was replaced stay at most. */
#define REPLACED_MS 2000

/* Two outages in this time halve the credit: Redis closes a subscriber whose output is over its limits. */
#define DOWN_TWICE_MS 10000
#define CREDIT_SHIFT_MAX 4

/* --- cursors --- */

static void skip_in_cursors(struct state *state, struct interest *interest) {
    for (struct list *link = state->cursors.next; link != &state->cursors; link = link->next) {
        struct state_cursor *cursor = container_of(link, struct state_cursor, link);

        if (cursor->at == &interest->link)
            cursor->at = interest->link.next;
    }
}

/* --- interests --- */

static void on_stored_event_read(void *context, uint64_t channel_hash, uint32_t generation) {
    struct state *state = context;
    struct interest *interest = interest_find_by_channel(&state->interests.table, channel_hash);

    if (interest == NULL || interest->generation != generation)
        return;
    interest->reading = false;
    state_check_answered(state, interest);
}

/* At the first subscription to a cache channel: what the store has of it (cached_events.h). True: it is awaited. */
static bool read_stored_event(struct state *state, struct interest *interest) {
    struct cached_events *events = state->core->cached_events;
    const struct cached_asker asker = {on_stored_event_read, state, interest->channel_hash, interest->generation};

    if (events == NULL || interest->read || !channel_type_of(channel_name(interest->channel)).caches)
        return false;
    interest->read = interest->reading =
        cached_events_read(events, interest_app(interest), channel_name(interest->channel), &asker);
    return interest->reading;
}

static bool on_interest_in_force(void *context, struct interest *interest) {
    struct state *state = context;
    bool reads, probed, asks;

    skip_in_cursors(state, interest);
    interests_move_to_end(&state->interests, interest);
    reads = read_stored_event(state, interest);
    probed = state_probe(state, interest);
    asks = state_request(context, interest);
    /* What others told of counts was missed, and digests do not say it. */
    if (!asks && interest->has_count)
        state_request_counts(state, interest);
    return asks || reads || probed;
}

static void on_interest_ended(void *context, struct interest *interest) {
    struct state *state = context;

    skip_in_cursors(state, interest);
    list_remove(&interest->wanted);
    list_remove(&interest->probed);
    list_remove(&interest->telling);
    state_drop_kept(state, interest, 0);
    set_versions_dispose(&interest->versions);
}

/* --- forgetting a node: on all workers, then here --- */

struct forget_message {
    struct message message;
    struct loop_message back;
    struct state *state;
    unsigned node;
};

static void handle_forgotten(struct loop *loop, struct loop_message *message) {
    struct forget_message *forget = container_of(message, struct forget_message, back);
    struct state *state = forget->state;

    (void)loop;
    if (--state->nodes[forget->node].forgetting == 0) {
        state_cursor_begin(state, &state->nodes[forget->node].forget_walk);
        state_go_on(state);
    }
    free(forget);
}

static void on_worker_forgot(void *context) {
    struct forget_message *forget = context;
    struct loop *loop = forget->state->core->loop;

    loop_post(loop, &forget->back);
    loop_wake(loop);
}

static void handle_forget(struct worker *worker, struct message *message, struct message **rest) {
    struct forget_message *forget = container_of(message, struct forget_message, message);

    (void)rest;
    channel_remote_forget(forget->state->core->channels, worker, forget->node, on_worker_forgot, forget);
}

/* Forgets a node that does not come back; its number is held. */
static void forget_node(struct state *state, unsigned node) {
    struct workers *workers = state->core->workers;
    struct state_node *gone = &state->nodes[node];

    state_requests_node_gone(state, node);
    state_probes_node_gone(state, node);
    state_answers_drop(state, node);
    state_abandon_set(state, node);
    gone->alive = false;
    gone->forgetting = workers->count;
    for (unsigned i = 0; i < workers->count; i++) {
        struct forget_message *forget = alloc_zero(sizeof *forget);

        forget->message.handle = handle_forget;
        forget->back.handle = handle_forgotten;
        forget->state = state;
        forget->node = node;
        cluster_core_post(state->core, workers->list[i], &forget->message);
    }
}

static void forget_in_interest(struct state *state, struct interest *interest, unsigned node) {
    state_drop_kept(state, interest, node);
    set_versions_forget(&interest->versions, node);
    interest->counted &= ~(UINT64_C(1) << node);
    state_check_answered(state, interest);
}

/* Forgets the node in the next interest; after the last one the number is free. */
static void forget_next(struct state *state, unsigned node) {
    struct state_node *gone = &state->nodes[node];
    struct interest *interest = state_cursor_next(state, &gone->forget_walk);

    if (interest != NULL) {
        forget_in_interest(state, interest, node);
        return;
    }
    state_cursor_end(&gone->forget_walk);
    *gone = (struct state_node){0};
    list_init(&gone->answers);
    nodes_release(state->core->nodes, node);
}

/* What a node was asked is concluded before its number is given to another one. False: there is nothing to do. */
static bool work_on_forgetting(struct state *state) {
    for (unsigned node = 1; node < NODES_MAX; node++)
        if (!list_empty(&state->nodes[node].forget_walk.link)) {
            if (!state_requests_conclude(state))
                forget_next(state, node);
            return true;
        }
    return false;
}

static void run_state_slice(struct loop *loop, struct loop_message *message) {
    struct state *state = container_of(message, struct state, slice);

    state->slice_posted = false;
    while (work_on_forgetting(state))
        if (!loop_has_time(loop)) {
            state_go_on(state);
            return;
        }
}

/* --- nodes --- */

static void name_node(struct state *state, unsigned node, struct node_id id) {
    channel_hub_name_node(state->core->channels, node, (uint64_t[]){id.high, id.low});
}

static void on_state_node_came(void *context, unsigned node) {
    struct state *state = context;

    state->nodes[node].alive = true;
    name_node(state, node, nodes_at(state->core->nodes, node)->id);
    /* A node with a new id may have been taken for dead by this one, which heard nothing: it still knows this one, and
     * has to ask what changed meanwhile. */
    state_sweep(state, node, nodes_at(state->core->nodes, node)->renamed);
}

static void on_state_node_left(void *context, unsigned node) {
    struct state *state = context;
    unsigned now = state->nodes[node].replaced_by, before = state->nodes[node].replaces;

    if (now != 0)
        state->nodes[now].replaces = 0;
    if (before != 0) { /* nobody takes its place any more */
        state->nodes[before].replaced_by = 0;
        forget_node(state, before);
    }
    nodes_hold(state->core->nodes, node);
    forget_node(state, node);
}

static void end_replacement(struct state *state, unsigned before) {
    state->nodes[state->nodes[before].replaced_by].replaces = 0;
    state->nodes[before].replaced_by = 0;
    forget_node(state, before);
}

static void on_replaced_timer(struct loop_timer *timer) {
    struct state *state = container_of(timer, struct state, replaced_timer);
    uint64_t now_ms = state_now_ms(state), next_ms = UINT64_MAX;

    for (unsigned node = 1; node < NODES_MAX; node++) {
        if (state->nodes[node].replaced_by == 0)
            continue;
        if (state->nodes[node].replaced_ms + REPLACED_MS <= now_ms)
            end_replacement(state, node);
        else if (state->nodes[node].replaced_ms + REPLACED_MS < next_ms)
            next_ms = state->nodes[node].replaced_ms + REPLACED_MS;
    }
    if (next_ms != UINT64_MAX)
        loop_timer_set(state->core->loop, timer, next_ms - now_ms);
}

/* The sets of the node before stay until those of the new one are there. */
static void on_state_node_replaced(void *context, unsigned before, unsigned now) {
    struct state *state = context;

    nodes_hold(state->core->nodes, before);
    state_requests_node_gone(state, before);
    state_probes_node_gone(state, before);
    state_answers_drop(state, before);
    state_abandon_set(state, before);
    state->nodes[before].alive = false;
    state->nodes[before].replaced_by = now;
    state->nodes[before].replaced_ms = state_now_ms(state);
    on_state_node_came(state, now);
    state->nodes[now].replaces = before;
    if (!loop_timer_is_set(&state->replaced_timer))
        loop_timer_set(state->core->loop, &state->replaced_timer, REPLACED_MS);
}

static void on_state_renamed(void *context) {
    struct state *state = context;

    state_requests_end_all(state);
    state_probes_end_all(state);
    name_node(state, 0, nodes_own_id(state->core->nodes));
}

/* --- the bus --- */

static void on_state_bus_up(void *context) {
    struct state *state = context;

    interests_bus_up(&state->interests);
}

static void on_state_down(void *context) {
    struct state *state = context;
    uint64_t now_ms = state_now_ms(state);

    if (state->down_ms != 0 && now_ms - state->down_ms <= DOWN_TWICE_MS && state->credit_shift < CREDIT_SHIFT_MAX) {
        state->credit_shift++;
        log_info("cluster", "the bus went down twice within %u s: answers of other nodes get half the room",
                 DOWN_TWICE_MS / 1000);
    }
    state->down_ms = now_ms;
    state_requests_end_all(state);
    state_probes_end_all(state);
    for (unsigned node = 1; node < NODES_MAX; node++) {
        state_answers_drop(state, node);
        state_abandon_set(state, node);
    }
    interests_down(&state->interests);
}

/* All other nodes are asked what differs, and ask this one. */
static void on_state_gathered(void *context) {
    struct state *state = context;

    for (uint64_t left = nodes_alive(state->core->nodes); left != 0; left &= left - 1)
        state_sweep(state, (unsigned)__builtin_ctzll(left), true);
    state_tell_at_once(state);
}

static void on_state_in_force(void *context, struct slice subject) {
    struct state *state = context;

    interests_in_force(&state->interests, subject);
}

static void on_state_interrupted(void *context, struct slice subject) {
    struct state *state = context;

    interests_interrupted(&state->interests, subject);
}

static void on_state_end_of_turn(void *context) {
    struct state *state = context;

    state_requests_end_of_turn(state);
    state_probes_end_of_turn(state);
    interests_end_of_turn(&state->interests);
}

/* --- making and freeing --- */

static void dispose_state(void *context) {
    struct state *state = context;

    loop_timer_end(state->core->loop, &state->replaced_timer);
    for (unsigned node = 1; node < NODES_MAX; node++) {
        state_answers_drop(state, node);
        if (state->nodes[node].partial != NULL)
            channel_unref(state->nodes[node].partial);
    }
    state_changes_dispose(state);
    state_requests_dispose(state);
    state_probes_dispose(state);
    interests_dispose(&state->interests);
    free(state);
}

struct state *state_create(struct cluster_core *core, struct roster_reports *webhooks) {
    struct state *state = alloc_zero(sizeof *state);
    const struct interest_hooks hooks = {on_interest_in_force, on_interest_ended, state};

    state->core = core;
    state->webhooks = webhooks;
    list_init(&state->cursors);
    state->slice.handle = run_state_slice;
    state->replaced_timer.fire = on_replaced_timer;
    interests_init(&state->interests, core, &hooks, &state->hooks);
    state_changes_init(state);
    state_answers_init(state);
    state_requests_init(state);
    state_probes_init(state);
    channel_hub_set_hooks(core->channels, &state->hooks);
    name_node(state, 0, nodes_own_id(core->nodes));
    cluster_core_add_part(core, &(struct cluster_part){
                                    .bus_up = on_state_bus_up,
                                    .down = on_state_down,
                                    .gathered = on_state_gathered,
                                    .in_force = on_state_in_force,
                                    .interrupted = on_state_interrupted,
                                    .node_came = on_state_node_came,
                                    .node_left = on_state_node_left,
                                    .node_replaced = on_state_node_replaced,
                                    .renamed = on_state_renamed,
                                    .end_of_turn = on_state_end_of_turn,
                                    .dispose = dispose_state,
                                    .context = state,
                                });
    return state;
}

struct interests *state_interests(struct state *state) {
    return &state->interests;
}

const struct state_counters *state_counters_of(const struct state *state) {
    return &state->counters;
}
