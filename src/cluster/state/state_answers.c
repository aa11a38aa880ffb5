#include <stdlib.h>

#include "base/alloc.h"
#include "cluster/state/state_internal.h"

/* The bytes of the sets of a part, a little more; and the parts that a worker makes at once. */
#define PART_BYTES (40 * 1024)
#define PARTS_AT_ONCE 4

/* Questions of one node that wait at most, and how long an answer waits for credit. */
#define ANSWERS_MAX 16
#define ANSWER_IDLE_MS 5000

/* --- an answer: the sets of some channels, made by their workers one after the other --- */

/* The channels of a worker, on their way to it and back. */
struct answer_group {
    struct message message;
    struct loop_message back;
    struct answer *answer; /* a reference */
    struct worker *worker;
    struct channel **channels; /* references */
    uint32_t count, capacity, at;
    struct channel_own_walk walk; /* of the channel at `at`, if it is begun */
    bool walking, begins;
    struct buffer parts[PARTS_AT_ONCE]; /* lists of sets */
    unsigned part_count;
};

struct answer {
    struct list link; /* in the answers to the node */
    struct state *state;
    unsigned node; /* 0: it is not to be sent any more */
    uint64_t request;
    uint64_t sent, granted; /* bytes */
    uint64_t moved_ms;
    uint32_t part;
    bool started;
    unsigned group; /* that is worked on */
    bool working;   /* it is at its worker */
    unsigned sent_parts;
    struct buffer empty; /* hashes of sets of a digest that are empty */
    struct answer_group groups[];
};

static void free_answer(struct answer *answer) {
    for (unsigned i = 0; i < answer->state->core->workers->count; i++) {
        struct answer_group *group = &answer->groups[i];

        if (group->walking)
            channel_own_end(&group->walk);
        while (group->count != 0)
            channel_unref(group->channels[--group->count]);
        free(group->channels);
        for (unsigned part = 0; part < PARTS_AT_ONCE; part++)
            buffer_dispose(&group->parts[part]);
    }
    buffer_dispose(&answer->empty);
    free(answer);
}

/* Takes the answer out of the list. One that is at a worker is freed when it is back. */
static void end_answer(struct state *state, struct answer *answer) {
    list_remove(&answer->link);
    state->nodes[answer->node].answer_count--;
    answer->node = 0;
    if (!answer->working)
        free_answer(answer);
}

/* --- on the worker: the sets as texts --- */

static struct buffer *part_of_group(struct answer_group *group) {
    return &group->parts[group->part_count];
}

static void next_part(struct answer_group *group) {
    if (part_of_group(group)->length >= PART_BYTES)
        group->part_count++;
}

/* Adds the kept event and the count, which go with the first part of a set. */
static void add_extras(struct answer_group *group, struct message_set *set) {
    const struct channel_own_walk *walk = &group->walk;

    set->count_version = walk->count_version;
    set->count = walk->subscriptions;
    if (!walk->has_kept)
        return;
    set->name = walk->kept.name;
    set->data = walk->kept.data;
    set->publisher = (struct node_id){walk->kept.stamp.node[0], walk->kept.stamp.node[1]};
    set->published_ms = walk->kept.stamp.ms;
    set->left_ms = walk->kept.left_ms;
}

static void add_member_to(struct buffer *members, const struct presence_member *member) {
    struct buffer info = {0};
    struct message_member told = {.id = presence_member_key(member), .since_ms = member->since_ms};

    presence_member_append_info(member, &info);
    told.info = buffer_slice(&info);
    message_add_member(members, &told);
    buffer_dispose(&info);
}

/* Writes the next piece of the set that is walked. False after the last one. */
static bool write_set_piece(struct answer_group *group) {
    struct channel_own_walk *walk = &group->walk;
    struct buffer members = {0};
    bool more = walk->presence && walk->occupied;
    struct message_set set = {
        .app = channel_app_id(walk->channel),
        .channel = channel_name(walk->channel),
        .version = walk->version,
        .occupied = walk->occupied,
        .begins = group->begins,
    };

    while (more && members.length < PART_BYTES / 2) {
        more = channel_own_next(walk);
        for (unsigned i = 0; more && i < walk->taken; i++)
            add_member_to(&members, walk->members[i]);
    }
    if (group->begins)
        add_extras(group, &set);
    set.ends = !more;
    set.members = buffer_slice(&members);
    message_add_set(part_of_group(group), &set);
    group->begins = false;
    channel_own_drop_kept(walk);
    buffer_dispose(&members);
    worker_spend(group->worker, part_of_group(group)->length);
    next_part(group);
    return more;
}

/* Begins with a channel. False: there is nothing to tell of it. */
static bool begin_channel(struct answer_group *group, struct channel *channel) {
    struct app_slot *slot = channel_held_slot(channel);

    if (slot == NULL || !channel_own_begin(slot, channel_name(channel), group->worker->now_ms, &group->walk))
        return false;
    if (!group->walk.occupied && !group->walk.has_kept && group->walk.version == 0) {
        channel_own_end(&group->walk);
        return false;
    }
    return group->walking = group->begins = true;
}

static void end_channel_walk(struct answer_group *group) {
    channel_own_end(&group->walk);
    group->walking = false;
    group->at++;
}

/* A walk that waited for credit holds the channel, not the app's slot: that may be gone, and with it the set. */
static bool walk_lost_its_slot(const struct answer_group *group) {
    return group->walking && channel_held_slot(group->walk.channel) == NULL;
}

static void write_answer_group(struct worker *worker, struct message *message, struct message **rest) {
    struct answer_group *group = container_of(message, struct answer_group, message);
    struct loop *loop = group->answer->state->core->loop;

    (void)rest;
    if (group->answer->state->core->ended)
        group->at = group->count;
    while (group->part_count < PARTS_AT_ONCE && group->at < group->count && !worker->turn_over) {
        if (!group->walking && !begin_channel(group, group->channels[group->at])) {
            group->at++;
            worker_spend(worker, 64);
        } else if (walk_lost_its_slot(group) || !write_set_piece(group)) {
            end_channel_walk(group);
        }
    }
    if (group->part_count < PARTS_AT_ONCE && group->at < group->count) {
        worker_post(worker, &group->message);
        return;
    }
    if (group->part_count < PARTS_AT_ONCE && part_of_group(group)->length != 0)
        group->part_count++;
    loop_post(loop, &group->back);
    loop_wake(loop);
}

/* --- on the thread: sending --- */

static bool send_part(struct state *state, struct answer *answer, struct slice sets, bool last) {
    struct cluster_message message = {.kind = MESSAGE_STATE_PART};

    message.state_part = (struct message_state_part){.request = answer->request,
                                                     .part = answer->part++,
                                                     .last = last,
                                                     .sets = sets,
                                                     .empty = last ? buffer_slice(&answer->empty) : (struct slice){0}};
    answer->sent += sets.length;
    answer->moved_ms = state_now_ms(state);
    counter_add(&state->counters.answer_bytes, sets.length);
    return cluster_core_say_to(state->core, nodes_at(state->core->nodes, answer->node)->id, &message);
}

/* Sends what is made, as far as there is credit. False: more is to be sent. */
static bool send_made_parts(struct state *state, struct answer *answer) {
    struct answer_group *group = &answer->groups[answer->group];

    while (answer->sent_parts < group->part_count) {
        struct buffer *part = &group->parts[answer->sent_parts];

        if (answer->sent >= answer->granted)
            return false;
        send_part(state, answer, buffer_slice(part), false);
        buffer_dispose(part);
        answer->sent_parts++;
    }
    answer->sent_parts = group->part_count = 0;
    return true;
}

/* Goes on with an answer: sends, or gives the next piece of work to a worker. False: it is complete. */
static bool go_on_answering(struct state *state, struct answer *answer) {
    if (answer->working)
        return true;
    while (answer->group < state->core->workers->count) {
        struct answer_group *group = &answer->groups[answer->group];

        if (!send_made_parts(state, answer))
            return true;
        if (group->at < group->count) {
            answer->working = true;
            cluster_core_post(state->core, group->worker, &group->message);
            return true;
        }
        answer->group++;
    }
    send_part(state, answer, (struct slice){0}, true);
    counter_add(&state->counters.answers, 1);
    return false;
}

/* Works on the first answer to a node. */
static void answer_next(struct state *state, unsigned node) {
    struct list *answers = &state->nodes[node].answers;

    while (!list_empty(answers)) {
        struct answer *answer = container_of(answers->next, struct answer, link);

        if (!answer->started)
            answer->moved_ms = state_now_ms(state);
        answer->started = true;
        if (go_on_answering(state, answer))
            return;
        end_answer(state, answer);
    }
}

static void handle_group_back(struct loop *loop, struct loop_message *message) {
    struct answer_group *group = container_of(message, struct answer_group, back);
    struct answer *answer = group->answer;

    (void)loop;
    answer->working = false;
    if (answer->node == 0)
        free_answer(answer);
    else
        answer_next(answer->state, answer->node);
}

/* --- questions --- */

/* Believes no more credit than an honest node gives: the parts wait in this node if the bus is slow. */
static void grant_credit(struct answer *answer, uint64_t credit) {
    uint64_t most = answer->sent + CREDIT_OF_NODE;

    if (credit > most)
        credit = most;
    if (answer->granted < credit)
        answer->granted = credit;
}

static struct answer *create_answer(struct state *state, unsigned node, uint64_t request, uint64_t credit) {
    unsigned workers = state->core->workers->count;
    struct answer *answer = alloc_zero(sizeof *answer + workers * sizeof answer->groups[0]);

    answer->state = state;
    answer->node = node;
    answer->request = request;
    grant_credit(answer, credit);
    for (unsigned i = 0; i < workers; i++) {
        answer->groups[i].answer = answer;
        answer->groups[i].worker = state->core->workers->list[i];
        answer->groups[i].message.handle = write_answer_group;
        answer->groups[i].back.handle = handle_group_back;
    }
    return answer;
}

static void add_to_answer(struct answer *answer, struct interest *interest) {
    struct worker *worker = interest_worker(answer->state->core, interest->channel);
    struct answer_group *group = &answer->groups[worker->index];

    if (group->count == group->capacity) {
        group->capacity = group->capacity == 0 ? 16 : group->capacity * 2;
        group->channels = alloc_array(group->channels, group->capacity, sizeof group->channels[0]);
    }
    group->channels[group->count++] = channel_ref(interest->channel);
}

/* Gives up answers whose node does not take them in, and makes room for another one. */
static bool state_answer_has_room(struct state *state, unsigned node) {
    struct state_node *to = &state->nodes[node];
    struct answer *first;

    if (list_empty(&to->answers))
        return true;
    first = container_of(to->answers.next, struct answer, link);
    if (state_now_ms(state) - first->moved_ms >= ANSWER_IDLE_MS && !first->working)
        end_answer(state, first);
    return to->answer_count < ANSWERS_MAX;
}

static void begin_answer(struct state *state, struct answer *answer) {
    struct state_node *to = &state->nodes[answer->node];

    list_append(&to->answers, &answer->link);
    to->answer_count++;
    answer_next(state, answer->node);
}

static bool on_state_request(void *context, unsigned node, const struct cluster_message *message,
                             struct bus_message *bus_message) {
    const struct message_state_request *request = &message->state_request;
    struct slice places = request->places;
    struct message_place place;
    struct state *state = context;
    struct buffer subject = {0};
    struct answer *answer;

    (void)bus_message;
    if (!state_answer_has_room(state, node))
        return false;
    answer = create_answer(state, node, request->request, request->credit);
    while (message_next_place(&places, &place)) {
        struct interest *interest;

        subject.length = 0;
        subject_append_channel(&subject, &state->core->subjects, place.app, place.channel);
        interest = interest_find_by_subject(&state->interests.table, buffer_slice(&subject));
        if (interest != NULL && slice_equal(channel_name(interest->channel), place.channel))
            add_to_answer(answer, interest);
    }
    buffer_dispose(&subject);
    begin_answer(state, answer);
    return false;
}

static void compare_digest_entry(struct answer *answer, const struct message_digest_entry *entry) {
    struct state *state = answer->state;
    struct interest *interest = interest_find_by_channel(&state->interests.table, entry->channel_hash);

    if (interest == NULL) {
        if (entry->version != 0)
            message_add_digest(&answer->empty, entry);
    } else if (channel_set_version(interest->channel, 0) != entry->version) {
        add_to_answer(answer, interest);
    }
}

static bool on_digest(void *context, unsigned node, const struct cluster_message *message,
                      struct bus_message *bus_message) {
    const struct message_digest *digest = &message->digest;
    struct slice entries = digest->entries;
    struct message_digest_entry entry;
    struct state *state = context;
    struct answer *answer;

    (void)bus_message;
    if (digest->returned)
        state_sweep(state, node, false);
    if (!state_answer_has_room(state, node))
        return false;
    answer = create_answer(state, node, digest->request, digest->credit);
    while (message_next_digest(&entries, &entry))
        compare_digest_entry(answer, &entry);
    begin_answer(state, answer);
    return false;
}

static bool on_state_credit(void *context, unsigned node, const struct cluster_message *message,
                            struct bus_message *bus_message) {
    const struct message_state_credit *credit = &message->state_credit;
    struct state *state = context;
    struct list *answers = &state->nodes[node].answers;

    (void)bus_message;
    for (struct list *link = answers->next; link != answers;) {
        struct answer *answer = container_of(link, struct answer, link);

        link = link->next;
        if (answer->request != credit->request)
            continue;
        if (credit->bytes == 0) /* the node has given it up */
            end_answer(state, answer);
        else
            grant_credit(answer, credit->bytes);
    }
    answer_next(state, node);
    return false;
}

void state_answers_drop(struct state *state, unsigned node) {
    struct list *answers = &state->nodes[node].answers;

    while (!list_empty(answers))
        end_answer(state, container_of(answers->next, struct answer, link));
}

void state_answers_init(struct state *state) {
    for (unsigned node = 0; node < NODES_MAX; node++)
        list_init(&state->nodes[node].answers);
    cluster_core_handle(state->core, MESSAGE_STATE_REQUEST, on_state_request, false, state);
    cluster_core_handle(state->core, MESSAGE_GAP_REQUEST, on_state_request, false, state);
    cluster_core_handle(state->core, MESSAGE_DIGEST, on_digest, false, state);
    cluster_core_handle(state->core, MESSAGE_STATE_CREDIT, on_state_credit, false, state);
}
