#include <stdlib.h>

#include "base/alloc.h"
#include "cluster/state/state_internal.h"

/* Rounds that are under way at most, and the interests that one is for. */
#define ROUNDS_MAX 4
#define ROUND_INTERESTS_MAX 1000

/* A question to all nodes whose answers travel behind the subscriptions that were made before it. */
struct probe_round {
    struct list link;
    uint32_t number;
    uint64_t awaited; /* bit n: node n has not answered */
    uint64_t begun_ms;
    struct list interests;
};

bool state_probe(struct state *state, struct interest *interest) {
    struct bus_state bus;

    state->core->bus->driver->state(state->core->bus, &bus);
    if (!bus.needs_answers || nodes_alive(state->core->nodes) == 0)
        return false;
    list_remove(&interest->probed);
    list_append(&state->unprobed, &interest->probed);
    return true;
}

static void begin_round(struct state *state) {
    struct probe_round *round = alloc_zero(sizeof *round);
    struct cluster_message message = {.kind = MESSAGE_PROBE};

    round->number = ++state->probe_number;
    round->awaited = nodes_alive(state->core->nodes);
    round->begun_ms = state_now_ms(state);
    list_init(&round->interests);
    for (unsigned i = 0; i < ROUND_INTERESTS_MAX && !list_empty(&state->unprobed); i++) {
        struct list *link = state->unprobed.next;

        list_remove(link);
        list_append(&round->interests, link);
    }
    list_append(&state->rounds, &round->link);
    state->round_count++;
    message.probe.request = round->number;
    cluster_core_say_to_all(state->core, &message);
    if (!loop_timer_is_set(&state->round_timer))
        loop_timer_set(state->core->loop, &state->round_timer, INTEREST_WAIT_MS);
}

/* Tells the channels whose round is over. False: the turn has no time for all. */
static bool end_probes(struct state *state) {
    while (!list_empty(&state->probed)) {
        struct interest *interest = container_of(state->probed.next, struct interest, probed);

        list_remove(&interest->probed);
        state_check_answered(state, interest);
        if (!loop_has_time(state->core->loop))
            return list_empty(&state->probed);
    }
    return true;
}

void state_probes_end_of_turn(struct state *state) {
    if (!end_probes(state)) {
        state_go_on(state);
        return;
    }
    while (state->core->up && state->round_count < ROUNDS_MAX && !list_empty(&state->unprobed))
        begin_round(state);
}

static void end_round(struct state *state, struct probe_round *round) {
    list_move_all(&round->interests, &state->probed);
    list_remove(&round->link);
    state->round_count--;
    free(round);
}

/* Nodes that do not answer in time are not waited for. */
static void on_round_timer(struct loop_timer *timer) {
    struct state *state = container_of(timer, struct state, round_timer);
    uint64_t now_ms = state_now_ms(state);

    while (!list_empty(&state->rounds)) {
        struct probe_round *round = container_of(state->rounds.next, struct probe_round, link);

        if (round->begun_ms + INTEREST_WAIT_MS > now_ms) {
            loop_timer_set(state->core->loop, timer, round->begun_ms + INTEREST_WAIT_MS - now_ms);
            return;
        }
        counter_add(&state->counters.unanswered, 1);
        end_round(state, round);
    }
}

void state_probes_node_gone(struct state *state, unsigned node) {
    for (struct list *link = state->rounds.next; link != &state->rounds;) {
        struct probe_round *round = container_of(link, struct probe_round, link);

        link = link->next;
        round->awaited &= ~(UINT64_C(1) << node);
        if (round->awaited == 0)
            end_round(state, round);
    }
}

void state_probes_end_all(struct state *state) {
    for (struct list *link = state->rounds.next; link != &state->rounds;) {
        struct probe_round *round = container_of(link, struct probe_round, link);

        link = link->next;
        end_round(state, round);
    }
    list_move_all(&state->unprobed, &state->probed);
}

static bool on_probe(void *context, unsigned node, const struct cluster_message *message,
                     struct bus_message *bus_message) {
    struct state *state = context;
    struct cluster_message answer = {.kind = MESSAGE_PROBE_ANSWER, .probe = {message->probe.request}};

    (void)bus_message;
    cluster_core_say_to(state->core, nodes_at(state->core->nodes, node)->id, &answer);
    return false;
}

static bool on_probe_answer(void *context, unsigned node, const struct cluster_message *message,
                            struct bus_message *bus_message) {
    struct state *state = context;

    (void)bus_message;
    for (struct list *link = state->rounds.next; link != &state->rounds; link = link->next) {
        struct probe_round *round = container_of(link, struct probe_round, link);

        if (round->number != message->probe.request)
            continue;
        round->awaited &= ~(UINT64_C(1) << node);
        if (round->awaited == 0)
            end_round(state, round);
        break;
    }
    return false;
}

void state_probes_init(struct state *state) {
    list_init(&state->unprobed);
    list_init(&state->probed);
    list_init(&state->rounds);
    state->round_timer.fire = on_round_timer;
    cluster_core_handle(state->core, MESSAGE_PROBE, on_probe, false, state);
    cluster_core_handle(state->core, MESSAGE_PROBE_ANSWER, on_probe_answer, false, state);
}

void state_probes_dispose(struct state *state) {
    loop_timer_end(state->core->loop, &state->round_timer);
    while (!list_empty(&state->rounds)) {
        struct probe_round *round = container_of(state->rounds.next, struct probe_round, link);

        while (!list_empty(&round->interests))
            list_remove(round->interests.next);
        list_remove(&round->link);
        free(round);
    }
}
