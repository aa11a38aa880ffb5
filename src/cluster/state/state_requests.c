#include <stdlib.h>

#include "base/alloc.h"
#include "cluster/state/state_internal.h"

/* The digest of each minute goes in pieces of so many channels, with at least this time between. */
#define SLOW_ITEMS 1000
#define SLOW_ROUND_MS 60000
#define SLOW_STEP_LEAST_MS 50

/* How long a set that became empty is remembered. */
#define EMPTIED_S 120

/* A node that left requests unanswered gets digests at most so often. */
#define SWEEP_AGAIN_MS 5000

const uint32_t state_answer_bounds_ms[STATE_ANSWER_BUCKETS - 1] = {1, 5, 10, 50, 100, 500, 1000, 5000};

/* --- asks --- */

static uint64_t bit_of_state_node(unsigned node) {
    return UINT64_C(1) << node;
}

/* What each node may send before its answer is taken in. All requests together grant what struct state says. */
static uint64_t credit_of_ask(const struct state *state) {
    unsigned others = nodes_alive_count(state->core->nodes);
    uint64_t credit = CREDIT_OF_ALL / (others == 0 ? 1 : others);

    if (credit > CREDIT_OF_NODE)
        credit = CREDIT_OF_NODE;
    credit = (credit / ASKS_MAX) >> state->credit_shift;
    return credit < CREDIT_LEAST ? CREDIT_LEAST : credit;
}

static void watch_asks(struct state *state) {
    if (!loop_timer_is_set(&state->ask_timer))
        loop_timer_set(state->core->loop, &state->ask_timer, ASK_STALL_MS);
}

static struct ask *create_ask(struct state *state, uint64_t awaited, uint32_t count) {
    struct ask *ask = alloc_zero(sizeof *ask + count * sizeof ask->items[0]);

    if (++state->number == 0)
        state->number = 1;
    ask->number = state->number;
    ask->awaited = awaited;
    ask->begun_ms = state_now_ms(state);
    ask->credit = credit_of_ask(state);
    for (uint64_t left = awaited; left != 0; left &= left - 1) {
        unsigned node = (unsigned)__builtin_ctzll(left);
        ask->nodes[node].granted = ask->credit;
        ask->nodes[node].moved_ms = ask->nodes[node].said_ms = ask->begun_ms;
    }
    list_append(&state->asks, &ask->link);
    watch_asks(state);
    return ask;
}

static struct ask *find_ask(const struct state *state, uint64_t number) {
    for (struct list *link = state->asks.next; link != &state->asks; link = link->next)
        if (container_of(link, struct ask, link)->number == number)
            return container_of(link, struct ask, link);
    return NULL;
}

/* `bytes` 0: the answer is not wanted any more. */
static void say_credit(struct state *state, struct ask *ask, unsigned node, uint64_t bytes) {
    struct cluster_message message = {.kind = MESSAGE_STATE_CREDIT, .state_credit = {ask->number, bytes}};

    ask->nodes[node].said_ms = state_now_ms(state);
    cluster_core_say_to(state->core, nodes_at(state->core->nodes, node)->id, &message);
}

static void note_behind(struct state *state, unsigned node) {
    if (!state->nodes[node].alive)
        return;
    state->nodes[node].behind = true;
    watch_asks(state);
}

static void count_state_answer(struct state_counters *counters, uint64_t took_ms) {
    unsigned bucket = 0;

    while (bucket < STATE_ANSWER_BUCKETS - 1 && took_ms > state_answer_bounds_ms[bucket])
        bucket++;
    counter_add(&counters->answered[bucket], 1);
    counter_add(&counters->answered_ms, took_ms);
}

/* A node has answered all of an ask, or will not. The end of a set that has begun to come does not come any more. */
static void conclude_node(struct state *state, struct ask *ask, unsigned node, bool answered) {
    struct state_node *from = &state->nodes[node];

    if (from->partial != NULL && from->partial_request == ask->number) {
        state_abandon_set(state, node);
        note_behind(state, node);
    }
    ask->awaited &= ~bit_of_state_node(node);
    if (ask->kind == ASK_DIGEST)
        from->digest_open = false;
    else if (ask->kind == ASK_GAPS)
        from->gaps_open = false;
    for (uint32_t i = 0; i < ask->count; i++) {
        struct interest *interest = interest_find_by_channel(&state->interests.table, ask->items[i]);

        if (interest == NULL)
            continue;
        set_versions_overtaken(&interest->versions, node, ask->number);
        if (!set_versions_awaits(&interest->versions, node, ask->number))
            continue;
        if (answered) {
            state_apply_nothing(state, interest, node);
        } else {
            set_versions_unanswered(&interest->versions, node);
            state_check_answered(state, interest);
        }
    }
    if (answered) {
        count_state_answer(&state->counters, state_now_ms(state) - ask->begun_ms);
    } else {
        counter_add(&state->counters.unanswered, 1);
        note_behind(state, node);
    }
}

static void let_next_ask_begin(struct state *state, struct ask *ask) {
    if (ask->kind == ASK_ALL && !ask->gave_way)
        state->open_asks--;
    ask->gave_way = true;
}

static void end_ask_if_done(struct state *state, struct ask *ask) {
    if ((ask->awaited | ask->given_up) != 0)
        return;
    list_remove(&ask->link);
    let_next_ask_begin(state, ask);
    free(ask);
}

/* The nodes of the mask will not answer. An ask may be about a thousand channels, and there may be many asks: the
 * channels are told later, some in each turn. */
static void give_up_nodes(struct state *state, struct ask *ask, uint64_t nodes) {
    nodes &= ask->awaited;
    ask->awaited &= ~nodes;
    ask->given_up |= nodes;
    state->given_up += (unsigned)__builtin_popcountll(nodes);
    if (nodes != 0)
        state_go_on(state);
}

bool state_requests_conclude(struct state *state) {
    struct list *link = state->asks.next;
    struct ask *ask;
    unsigned node;

    if (state->given_up == 0)
        return false;
    while (container_of(link, struct ask, link)->given_up == 0)
        link = link->next;
    ask = container_of(link, struct ask, link);
    node = (unsigned)__builtin_ctzll(ask->given_up);
    ask->given_up &= ~bit_of_state_node(node);
    state->given_up--;
    conclude_node(state, ask, node, false);
    end_ask_if_done(state, ask);
    return true;
}

/* Says a credit again that may have been lost, or gives the node up. False: nothing came of it lately. */
static bool review_asked_node(struct state *state, struct ask *ask, unsigned node) {
    uint64_t now_ms = state_now_ms(state), idle_ms = now_ms - ask->nodes[node].moved_ms;

    if (idle_ms < ASK_STALL_MS)
        return true;
    if (idle_ms >= ASK_IDLE_MS) {
        say_credit(state, ask, node, 0);
        give_up_nodes(state, ask, bit_of_state_node(node));
    } else if (ask->nodes[node].granted > ask->credit && now_ms - ask->nodes[node].said_ms >= ASK_STALL_MS) {
        say_credit(state, ask, node, ask->nodes[node].granted);
    }
    return false;
}

static void review_ask(struct state *state, struct ask *ask) {
    bool moves = false;

    for (uint64_t left = ask->awaited; left != 0; left &= left - 1)
        moves |= review_asked_node(state, ask, (unsigned)__builtin_ctzll(left));
    if (!moves)
        let_next_ask_begin(state, ask);
    end_ask_if_done(state, ask);
}

/* False: there are none. */
static bool sweep_nodes_behind(struct state *state) {
    bool more = false;

    for (uint64_t left = nodes_alive(state->core->nodes); left != 0; left &= left - 1) {
        unsigned node = (unsigned)__builtin_ctzll(left);

        if (state->nodes[node].behind && state_now_ms(state) - state->nodes[node].swept_ms >= SWEEP_AGAIN_MS)
            state_sweep(state, node, false);
        more |= state->nodes[node].behind;
    }
    return more;
}

static void on_state_ask_timer(struct loop_timer *timer) {
    struct state *state = container_of(timer, struct state, ask_timer);
    bool behind;

    for (struct list *link = state->asks.next; link != &state->asks;) {
        struct ask *ask = container_of(link, struct ask, link);

        link = link->next;
        review_ask(state, ask);
    }
    behind = sweep_nodes_behind(state);
    if (behind || !list_empty(&state->asks))
        loop_timer_set(state->core->loop, timer, ASK_STALL_MS / 5);
}

void state_requests_node_gone(struct state *state, unsigned node) {
    for (struct list *link = state->asks.next; link != &state->asks; link = link->next)
        give_up_nodes(state, container_of(link, struct ask, link), bit_of_state_node(node));
    state->slow_left &= ~bit_of_state_node(node);
    if (state->nodes[node].sweeps)
        state_cursor_end(&state->nodes[node].sweep);
    free(state->nodes[node].gaps.items);
    state->nodes[node].gaps = (struct gap_list){0};
    state->nodes[node].sweeps = state->nodes[node].again = state->nodes[node].behind = false;
}

void state_requests_end_all(struct state *state) {
    for (struct list *link = state->asks.next; link != &state->asks; link = link->next)
        give_up_nodes(state, container_of(link, struct ask, link), ~UINT64_C(0));
}

/* --- requests to all nodes --- */

bool state_request(void *context, struct interest *interest) {
    struct state *state = context;
    uint64_t alive = nodes_alive(state->core->nodes);

    if (!interest->stateful || (alive & ~interest->versions.known) == 0)
        return false;
    if (list_empty(&interest->wanted))
        list_append(&state->wanted, &interest->wanted);
    return true;
}

void state_request_counts(struct state *state, struct interest *interest) {
    if (nodes_alive(state->core->nodes) != 0 && list_empty(&interest->wanted))
        list_append(&state->wanted, &interest->wanted);
}

/* Notes that the nodes are asked for an interest, and names it in the request. Without state only their counts are
 * wanted: their changes are not applied, so no set becomes known. */
static void add_to_request(struct ask *ask, struct interest *interest, struct buffer *places) {
    struct message_place place = {interest_app(interest), channel_name(interest->channel)};

    for (uint64_t left = ask->awaited; left != 0; left &= left - 1) {
        unsigned node = (unsigned)__builtin_ctzll(left);
        if (interest->stateful && (ask->kind == ASK_GAPS || !set_versions_known(&interest->versions, node)))
            set_versions_ask(&interest->versions, node);
        if (set_versions_asked(&interest->versions, node))
            set_versions_asked_by(&interest->versions, node, ask->number);
    }
    ask->items[ask->count++] = interest->channel_hash;
    message_add_place(places, &place);
}

static void send_state_request(struct state *state) {
    struct ask *ask = create_ask(state, nodes_alive(state->core->nodes), ASK_ITEMS_MAX);
    struct cluster_message message = {.kind = MESSAGE_STATE_REQUEST};
    struct buffer places = {0};

    ask->kind = ASK_ALL;
    state->open_asks++;
    while (!list_empty(&state->wanted) && ask->count < ASK_ITEMS_MAX && places.length < ASK_PLACES_BYTES) {
        struct interest *interest = container_of(state->wanted.next, struct interest, wanted);

        list_remove(&interest->wanted);
        add_to_request(ask, interest, &places);
        /* If only the counts are wanted, their answers are not waited for. */
        state_check_answered(state, interest);
    }
    message.state_request =
        (struct message_state_request){.request = ask->number, .credit = ask->credit, .places = buffer_slice(&places)};
    counter_add(&state->counters.requests, 1);
    if (!cluster_core_say_to_all(state->core, &message))
        give_up_nodes(state, ask, ask->awaited);
    buffer_dispose(&places);
}

/* --- requests to one node, for what is missing --- */

static void send_gap_request(struct state *state, unsigned node) {
    struct gap_list *gaps = &state->nodes[node].gaps;
    uint32_t most = gaps->count < ASK_ITEMS_MAX ? gaps->count : ASK_ITEMS_MAX, taken = 0;
    struct ask *ask = create_ask(state, bit_of_state_node(node), most);
    struct cluster_message message = {.kind = MESSAGE_GAP_REQUEST};
    struct buffer places = {0};

    ask->kind = ASK_GAPS;
    state->nodes[node].gaps_open = true;
    while (taken < most && places.length < ASK_PLACES_BYTES) {
        struct interest *interest = interest_find_by_channel(&state->interests.table, gaps->items[taken++]);

        /* It may have been answered meanwhile. */
        if (interest != NULL && set_versions_asked(&interest->versions, node))
            add_to_request(ask, interest, &places);
    }
    gaps->count -= taken;
    memmove(gaps->items, gaps->items + taken, gaps->count * sizeof gaps->items[0]);
    message.state_request =
        (struct message_state_request){.request = ask->number, .credit = ask->credit, .places = buffer_slice(&places)};
    counter_add(&state->counters.gap_requests, 1);
    if (!cluster_core_say_to(state->core, nodes_at(state->core->nodes, node)->id, &message))
        give_up_nodes(state, ask, ask->awaited);
    buffer_dispose(&places);
}

/* --- digests --- */

static void add_to_digest(struct ask *ask, struct interest *interest, unsigned node, struct buffer *entries) {
    struct message_digest_entry entry = {interest->channel_hash, set_versions_of(&interest->versions, node)};

    if (!set_versions_known(&interest->versions, node))
        set_versions_ask(&interest->versions, node);
    ask->items[ask->count++] = interest->channel_hash;
    message_add_digest(entries, &entry);
}

/* Sends a digest of the next channels of the cursor. False: the end of the list is reached. */
static bool send_digest(struct state *state, unsigned node, struct state_cursor *cursor, uint32_t most) {
    struct ask *ask = create_ask(state, bit_of_state_node(node), most);
    struct cluster_message message = {.kind = MESSAGE_DIGEST};
    struct state_node *to = &state->nodes[node];
    struct buffer entries = {0};
    struct interest *interest = NULL;

    ask->kind = ASK_DIGEST;
    to->digest_open = true;
    for (uint32_t seen = 0; seen < most; seen++) {
        interest = state_cursor_next(state, cursor);
        if (interest == NULL)
            break;
        if (interest->stateful && interest_is_in_force(&state->interests, interest))
            add_to_digest(ask, interest, node, &entries);
    }
    message.digest = (struct message_digest){
        .request = ask->number, .credit = ask->credit, .returned = to->returned, .entries = buffer_slice(&entries)};
    counter_add(&state->counters.digests, 1);
    if (ask->count == 0 && !to->returned) {
        ask->awaited = 0;
        to->digest_open = false;
        end_ask_if_done(state, ask);
    } else if (!cluster_core_say_to(state->core, nodes_at(state->core->nodes, node)->id, &message)) {
        give_up_nodes(state, ask, ask->awaited);
    }
    to->returned = false;
    buffer_dispose(&entries);
    return interest != NULL;
}

void state_sweep(struct state *state, unsigned node, bool returned) {
    struct state_node *to = &state->nodes[node];

    to->returned |= returned;
    to->swept_ms = state_now_ms(state);
    to->behind = false;
    if (to->sweeps) {
        to->again = true;
        return;
    }
    to->sweeps = true;
    state_cursor_begin(state, &to->sweep);
}

/* The sweep waits at the end while subjects are not in force yet: they move to the end when they are. */
static void go_on_sweeping(struct state *state, unsigned node) {
    struct state_node *to = &state->nodes[node];

    if (send_digest(state, node, &to->sweep, ASK_ITEMS_MAX) || state->interests.out_of_force != 0)
        return;
    state_cursor_end(&to->sweep);
    to->sweeps = false;
    if (to->again) {
        to->again = false;
        state_sweep(state, node, false);
    }
}

static bool sweep_has_more(const struct state *state, const struct state_node *node) {
    return node->returned || node->sweep.at != &state->interests.table.all || state->interests.out_of_force == 0;
}

/* --- the digest of each minute --- */

static void set_slow_timer(struct state *state) {
    uint32_t pieces = state->interests.table.count / SLOW_ITEMS + 1;
    uint64_t step_ms = SLOW_ROUND_MS / pieces;

    loop_timer_set(state->core->loop, &state->slow_timer, step_ms < SLOW_STEP_LEAST_MS ? SLOW_STEP_LEAST_MS : step_ms);
}

/* Tells the own count of the next channel again, and forgets sets that have been empty for long and old counts. False:
 * the piece has no more channels. */
static bool look_after_channel(struct state *state) {
    struct interest *interest = state->look_left != 0 ? state_cursor_next(state, &state->look) : NULL;
    uint32_t now_s = state_now_s(state);

    state->look_left = interest != NULL ? state->look_left - 1 : 0;
    if (interest == NULL)
        return false;
    if (now_s > EMPTIED_S)
        set_versions_expire(&interest->versions, now_s - EMPTIED_S);
    if (interest->has_count && nodes_alive(state->core->nodes) != 0)
        state_tell_count(state, interest);
    state_drop_untold_counts(state, interest);
    return true;
}

/* Moves on by one piece, at the end to the first one. */
static void step_slow_cursor(struct state *state) {
    struct state_cursor *slow = &state->slow;

    for (uint32_t seen = 0; seen < SLOW_ITEMS && state_cursor_next(state, slow) != NULL; seen++)
        ;
    if (slow->at == &state->interests.table.all)
        slow->at = slow->at->next;
}

/* The piece is worked on at the end of the turn, and of the next ones. */
static void on_slow_timer(struct loop_timer *timer) {
    struct state *state = container_of(timer, struct state, slow_timer);

    set_slow_timer(state);
    if (!state->core->up || state->look_left != 0)
        return;
    step_slow_cursor(state);
    state->look.at = state->slow.at;
    state->look_left = SLOW_ITEMS;
    state->slow_left = nodes_alive(state->core->nodes);
}

static void send_slow_digest(struct state *state, unsigned node) {
    struct state_cursor cursor = state->slow;

    state->slow_left &= ~bit_of_state_node(node);
    if (!state->nodes[node].digest_open)
        send_digest(state, node, &cursor, SLOW_ITEMS);
}

/* --- the turn --- */

/* Sends a node one message of those that it is to get. False: it gets none now. */
static bool ask_node(struct state *state, unsigned number) {
    struct state_node *node = &state->nodes[number];

    if (!node->gaps_open && node->gaps.count != 0)
        send_gap_request(state, number);
    else if (node->sweeps && !node->digest_open && sweep_has_more(state, node))
        go_on_sweeping(state, number);
    else if ((state->slow_left & bit_of_state_node(number)) != 0)
        send_slow_digest(state, number);
    else
        return false;
    state->next_node = (number + 1) % NODES_MAX;
    return true;
}

/* The nodes take turns. */
static bool ask_next_node(struct state *state) {
    uint64_t alive = nodes_alive(state->core->nodes), later = alive & ~UINT64_C(0) << state->next_node;

    for (uint64_t left = later; left != 0; left &= left - 1)
        if (ask_node(state, (unsigned)__builtin_ctzll(left)))
            return true;
    for (uint64_t left = alive & ~later; left != 0; left &= left - 1)
        if (ask_node(state, (unsigned)__builtin_ctzll(left)))
            return true;
    return false;
}

/* One message, or one answer that does not come: each is about a thousand channels. What was given up says nothing of
 * what is asked afterwards, so it comes first. Last come single channels of the piece of each minute. */
static bool work_on_requests(struct state *state) {
    if (state_requests_conclude(state))
        return true;
    if (!state->core->up)
        return false;
    if (state->open_asks < ASKS_MAX && !list_empty(&state->wanted)) {
        send_state_request(state);
        return true;
    }
    return ask_next_node(state) || look_after_channel(state);
}

void state_requests_end_of_turn(struct state *state) {
    while (work_on_requests(state))
        if (!loop_has_time(state->core->loop)) {
            state_go_on(state);
            return;
        }
}

/* --- answers --- */

/* Grants the node more when half of what it may send has been taken in. */
static void on_part_taken(struct state *state, unsigned node, uint32_t request, size_t bytes) {
    struct ask *ask = find_ask(state, request);

    if (ask == NULL || (ask->awaited & bit_of_state_node(node)) == 0)
        return;
    ask->nodes[node].taken += bytes;
    if (ask->nodes[node].taken + ask->credit < ask->nodes[node].granted + ask->credit / 2)
        return;
    ask->nodes[node].granted = ask->nodes[node].taken + ask->credit;
    say_credit(state, ask, node, ask->nodes[node].granted);
}

static void handle_part_return(struct loop *loop, struct loop_message *message) {
    struct state_part *part = container_of(message, struct state_part, message);
    size_t bytes = part->bus_message->payload.length;

    (void)loop;
    part->bus_message->release(part->bus_message);
    part->taken(part->state, part->node, part->request, bytes);
    free(part);
}

static struct interest *find_interest_of(struct state *state, struct slice app, struct slice channel) {
    struct buffer subject = {0};
    struct interest *interest;

    subject_append_channel(&subject, &state->core->subjects, app, channel);
    interest = interest_find_by_subject(&state->interests.table, buffer_slice(&subject));
    buffer_dispose(&subject);
    return interest != NULL && slice_equal(interest_app(interest), app) &&
                   slice_equal(channel_name(interest->channel), channel)
               ? interest
               : NULL;
}

/* A set begins in a part of an answer. */
static void take_set_begin(struct state *state, unsigned node, const struct message_set *set, struct state_part *part) {
    struct interest *interest = find_interest_of(state, set->app, set->channel);
    struct state_node *from = &state->nodes[node];

    state_abandon_set(state, node);
    if (interest == NULL)
        return;
    if (set->count_version != 0)
        state_note_count(interest, node, set->count);
    if (!interest->stateful ||
        set_versions_begin(&interest->versions, node, set->version, part->request) != SET_APPLY) {
        if (set->count_version != 0)
            state_apply_count(state, interest, node, set->count_version, set->count);
        state_check_answered(state, interest);
        return;
    }
    state_apply_set(state, interest->channel, node, set, part);
    if (set->ends)
        return;
    from->partial = channel_ref(interest->channel);
    from->partial_version = set->version;
    from->partial_request = part->request;
}

static void take_set(struct state *state, unsigned node, const struct message_set *set, struct state_part *part) {
    struct state_node *from = &state->nodes[node];

    if (set->begins) {
        take_set_begin(state, node, set, part);
        return;
    }
    if (from->partial == NULL || from->partial_version != set->version ||
        !slice_equal(channel_name(from->partial), set->channel))
        return;
    state_apply_set(state, from->partial, node, set, part);
    if (set->ends) {
        channel_unref(from->partial);
        from->partial = NULL;
    }
}

/* Sets that the node names as empty, in the answer to a digest. */
static void take_empty_sets(struct state *state, unsigned node, struct slice list) {
    struct message_digest_entry entry;

    while (message_next_digest(&list, &entry)) {
        struct interest *interest = interest_find_by_channel(&state->interests.table, entry.channel_hash);

        if (interest != NULL && !set_versions_busy(&interest->versions, node))
            state_apply_nothing(state, interest, node);
    }
}

/* The node answers one ask after the other: those behind this one wait for it. */
static void note_part(struct state *state, struct ask *ask, unsigned node, uint32_t part) {
    for (struct list *link = &ask->link; link != &state->asks; link = link->next)
        container_of(link, struct ask, link)->nodes[node].moved_ms = state_now_ms(state);
    if (ask->nodes[node].parts != part) {
        ask->broken |= bit_of_state_node(node);
        state_abandon_set(state, node);
        note_behind(state, node);
    }
    ask->nodes[node].parts = part + 1;
}

/* Of an answer that nobody waits for any more only sets that are complete are taken. */
static void take_state_part(struct state *state, unsigned node, const struct message_state_part *answer, bool awaited,
                            struct state_part *part) {
    struct slice sets = answer->sets;
    struct message_set set;

    while (message_next_set(&sets, &set))
        if (awaited || (set.begins && set.ends))
            take_set(state, node, &set, part);
    if (awaited)
        take_empty_sets(state, node, answer->empty);
}

static bool on_state_part(void *context, unsigned node, const struct cluster_message *message,
                          struct bus_message *bus_message) {
    const struct message_state_part *answer = &message->state_part;
    struct state *state = context;
    struct ask *ask = find_ask(state, answer->request);
    bool awaited = ask != NULL && (ask->awaited & bit_of_state_node(node)) != 0;
    struct state_part *part = alloc(sizeof *part);

    *part = (struct state_part){.message.handle = handle_part_return,
                                .state = state,
                                .bus_message = bus_message,
                                .taken = on_part_taken,
                                .node = node,
                                .request = (uint32_t)answer->request};
    atomic_init(&part->references, 1);
    interests_read(&state->interests);
    if (awaited)
        note_part(state, ask, node, answer->part);
    take_state_part(state, node, answer, awaited, part);
    if (answer->last && awaited) {
        conclude_node(state, ask, node, (ask->broken & bit_of_state_node(node)) == 0);
        end_ask_if_done(state, ask);
    }
    state_part_unref(part);
    return true;
}

/* --- making and freeing --- */

void state_requests_init(struct state *state) {
    list_init(&state->wanted);
    list_init(&state->asks);
    state->ask_timer.fire = on_state_ask_timer;
    state->slow_timer.fire = on_slow_timer;
    state_cursor_begin(state, &state->slow);
    state_cursor_begin(state, &state->look);
    set_slow_timer(state);
    cluster_core_handle(state->core, MESSAGE_STATE_PART, on_state_part, false, state);
}

void state_requests_dispose(struct state *state) {
    loop_timer_end(state->core->loop, &state->ask_timer);
    loop_timer_end(state->core->loop, &state->slow_timer);
    while (!list_empty(&state->asks)) {
        struct ask *ask = container_of(state->asks.next, struct ask, link);

        list_remove(&ask->link);
        free(ask);
    }
    for (unsigned node = 0; node < NODES_MAX; node++)
        free(state->nodes[node].gaps.items);
}
