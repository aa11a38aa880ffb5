#include <stdlib.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "cluster/state/state_internal.h"

/* Members that are handed to the channel at once. */
#define MEMBERS_AT_ONCE 64

/* --- doubts: the channel knows another version than this thread --- */

struct state_doubt {
    struct loop_message message;
    struct state *state;
    struct channel *channel; /* a reference */
    unsigned node;
    bool refused; /* there was no room; else something is missing, and is asked for at once */
};

static void ask_in_doubt(struct state *state, struct interest *interest, unsigned node) {
    state_drop_kept(state, interest, node);
    set_versions_doubt(&interest->versions, node);
    if (set_versions_ask(&interest->versions, node))
        state_want_from(state, interest, node);
}

/* The channel has no room for the node's set. */
static void note_refused(struct state *state, struct interest *interest, unsigned node) {
    state_drop_kept(state, interest, node);
    set_versions_refused(&interest->versions, node, state_now_s(state));
}

static void handle_doubt(struct loop *loop, struct loop_message *message) {
    struct state_doubt *doubt = container_of(message, struct state_doubt, message);
    struct interest *interest = channel_hook_memory(doubt->channel);

    (void)loop;
    if (interest->phase != INTEREST_NONE && doubt->state->nodes[doubt->node].alive &&
        set_versions_known(&interest->versions, doubt->node) && !set_versions_busy(&interest->versions, doubt->node)) {
        if (doubt->refused)
            note_refused(doubt->state, interest, doubt->node);
        else
            ask_in_doubt(doubt->state, interest, doubt->node);
        state_check_answered(doubt->state, interest); /* after a refusal the node is not waited for */
    }
    channel_unref(doubt->channel);
    free(doubt);
}

static void post_doubt(struct state *state, struct channel *channel, unsigned node, bool refused) {
    struct state_doubt *doubt = alloc(sizeof *doubt);

    *doubt = (struct state_doubt){.message.handle = handle_doubt,
                                  .state = state,
                                  .channel = channel_ref(channel),
                                  .node = node,
                                  .refused = refused};
    loop_post(state->core->loop, &doubt->message);
    loop_wake(state->core->loop);
}

/* --- changes --- */

void state_free_news(struct remote_news *news) {
    channel_unref(news->channel);
    news->bus_message->release(news->bus_message);
    free(news);
}

static void handle_remote_news(struct worker *worker, struct message *message, struct message **rest) {
    struct remote_news *news = container_of(message, struct remote_news, message);
    struct app_slot *slot = channel_held_slot(news->channel);
    enum remote_result result;

    (void)rest;
    if (slot != NULL) {
        result = channel_remote_change(news->state->core->channels, slot, worker, channel_name(news->channel),
                                       &news->change);
        if (result == REMOTE_GAP || result == REMOTE_FULL)
            post_doubt(news->state, news->channel, news->change.node, result == REMOTE_FULL);
    }
    state_free_news(news);
}

void state_apply_change(struct state *state, struct remote_news *news) {
    news->message.handle = handle_remote_news;
    cluster_core_post(state->core, interest_worker(state->core, news->channel), &news->message);
}

/* --- counts --- */

/* Another node's subscription count, on its way to the channel. */
struct remote_count {
    struct message message;
    struct state *state;
    struct channel *channel; /* a reference */
    unsigned node;
    uint64_t version;
    uint32_t count;
};

static void handle_remote_count(struct worker *worker, struct message *message, struct message **rest) {
    struct remote_count *count = container_of(message, struct remote_count, message);
    struct app_slot *slot = channel_held_slot(count->channel);

    (void)rest;
    if (slot != NULL)
        channel_remote_count(count->state->core->channels, slot, worker, channel_name(count->channel), count->node,
                             count->version, count->count);
    channel_unref(count->channel);
    free(count);
}

void state_apply_count(struct state *state, const struct interest *interest, unsigned node, uint64_t version,
                       uint32_t number) {
    struct remote_count *count = alloc(sizeof *count);

    *count = (struct remote_count){.message.handle = handle_remote_count,
                                   .state = state,
                                   .channel = channel_ref(interest->channel),
                                   .node = node,
                                   .version = version,
                                   .count = number};
    cluster_core_post(state->core, interest_worker(state->core, interest->channel), &count->message);
}

/* --- kept changes --- */

static size_t news_bytes(const struct remote_news *news) {
    return sizeof *news + news->bus_message->payload.length;
}

static void unkeep_news(struct state *state, const struct remote_news *news) {
    state->kept_bytes -= news_bytes(news);
    budget_give(BUDGET_CLUSTER, NULL, news_bytes(news));
}

static bool keep_news(struct state *state, struct interest *interest, struct remote_news *news) {
    size_t bytes = news_bytes(news);

    if (state->kept_bytes + bytes > KEPT_BYTES_MAX || !budget_take(BUDGET_CLUSTER, NULL, bytes))
        return false;
    state->kept_bytes += bytes;
    if (set_versions_keep(&interest->versions, &news->kept))
        return true;
    unkeep_news(state, news);
    return false;
}

static void drop_news_list(struct state *state, struct set_kept *kept) {
    while (kept != NULL) {
        struct remote_news *news = container_of(kept, struct remote_news, kept);

        kept = kept->next;
        unkeep_news(state, news);
        counter_add(&state->counters.kept_dropped, 1);
        state_free_news(news);
    }
}

void state_drop_kept(struct state *state, struct interest *interest, unsigned node) {
    struct set_kept *kept = set_versions_take_all(&interest->versions), *dropped = NULL;

    while (kept != NULL) {
        struct set_kept *next = kept->next;

        if (node == 0 || kept->node == node) {
            kept->next = dropped;
            dropped = kept;
        } else {
            set_versions_keep(&interest->versions, kept);
        }
        kept = next;
    }
    drop_news_list(state, dropped);
}

void state_keep_change(struct state *state, struct interest *interest, struct remote_news *news) {
    if (keep_news(state, interest, news))
        return;
    state_drop_kept(state, interest, 0);
    counter_add(&state->counters.kept_dropped, 1);
    state_free_news(news);
}

void state_want_from(struct state *state, const struct interest *interest, unsigned node) {
    struct gap_list *gaps = &state->nodes[node].gaps;

    counter_add(&state->counters.gaps, 1);
    if (gaps->count == gaps->capacity) {
        gaps->capacity = gaps->capacity == 0 ? 16 : gaps->capacity * 2;
        gaps->items = alloc_array(gaps->items, gaps->capacity, sizeof gaps->items[0]);
    }
    gaps->items[gaps->count++] = interest->channel_hash;
}

void state_check_answered(struct state *state, struct interest *interest) {
    uint64_t awaited = interest->versions.asked | interest->versions.busy;

    if (interest->phase == INTEREST_ASKING && !interest->reading && list_empty(&interest->wanted) &&
        list_empty(&interest->probed) && (awaited & nodes_alive(state->core->nodes)) == 0)
        interest_answered(&state->interests, interest);
}

void state_pass_kept(struct state *state, struct interest *interest, unsigned node) {
    struct set_kept *kept;
    enum set_step step;

    while ((kept = set_versions_next(&interest->versions, node, &step, state_now_s(state))) != NULL) {
        struct remote_news *news = container_of(kept, struct remote_news, kept);

        unkeep_news(state, news);
        if (step == SET_APPLY)
            state_apply_change(state, news);
        else
            state_free_news(news);
    }
    if (step == SET_ASK)
        state_want_from(state, interest, node);
    state_check_answered(state, interest);
}

/* --- whole sets: parts of answers --- */

void state_part_unref(struct state_part *part) {
    struct loop *loop = part->state->core->loop;

    if (atomic_fetch_sub_explicit(&part->references, 1, memory_order_acq_rel) != 1)
        return;
    loop_post(loop, &part->message);
    loop_wake(loop);
}

/* A set on its way to the channel. */
struct remote_set_part {
    struct message message;
    struct state *state;
    struct channel *channel; /* a reference */
    struct state_part *part; /* a reference; NULL: `set` has no texts */
    struct message_set set;
    unsigned node;
    bool abandoned; /* give up what has come */
};

/* A set that the channel is taking in; on the channel's worker. */
struct remote_taking {
    struct remote_taking *next;
    struct remote_set *set; /* NULL: it could not be begun */
    enum remote_result result;
    unsigned node;
};

/* The end of a set, on its way back. */
struct set_taken {
    struct loop_message message;
    struct state *state;
    struct channel *channel; /* a reference */
    unsigned node;
    uint64_t version;
    bool empty;
    enum remote_result result;
};

static void forget_replaced_in(struct state *state, struct interest *interest, unsigned node);

static void handle_set_taken(struct loop *loop, struct loop_message *message) {
    struct set_taken *taken = container_of(message, struct set_taken, message);
    struct interest *interest = channel_hook_memory(taken->channel);
    struct state *state = taken->state;

    (void)loop;
    if (interest->phase != INTEREST_NONE && state->nodes[taken->node].alive &&
        set_versions_busy(&interest->versions, taken->node)) {
        bool done = taken->result == REMOTE_DONE;

        set_versions_taken(&interest->versions, taken->node, taken->version, taken->empty, done, state_now_s(state));
        if (done) {
            forget_replaced_in(state, interest, taken->node);
            state_pass_kept(state, interest, taken->node);
        } else {
            if (taken->result == REMOTE_FULL)
                note_refused(state, interest, taken->node);
            state_check_answered(state, interest);
        }
    }
    channel_unref(taken->channel);
    free(taken);
}

static void on_set_taken(void *context, enum remote_result result) {
    struct set_taken *taken = context;
    struct loop *loop = taken->state->core->loop;

    taken->result = result;
    loop_post(loop, &taken->message);
    loop_wake(loop);
}

static struct remote_taking **find_taking(struct interest *interest, unsigned node) {
    struct remote_taking **link = &interest->taking;

    while (*link != NULL && (*link)->node != node)
        link = &(*link)->next;
    return link;
}

static struct remote_taking *begin_taking(struct interest *interest, unsigned node) {
    struct remote_taking *taking = alloc_zero(sizeof *taking);

    taking->node = node;
    taking->next = interest->taking;
    interest->taking = taking;
    return taking;
}

static void end_taking(struct remote_taking **link, bool complete,
                       void (*done)(void *context, enum remote_result result), void *context) {
    struct remote_taking *taking = *link;

    *link = taking->next;
    if (taking->set != NULL)
        channel_remote_set_end(taking->set, complete, done, context);
    else if (done != NULL)
        done(context, taking->result);
    free(taking);
}

static void add_members(struct remote_set *set, struct slice list) {
    struct remote_member members[MEMBERS_AT_ONCE];
    struct message_member member;
    size_t count = 0;

    while (message_next_member(&list, &member)) {
        members[count++] = (struct remote_member){.id = member.id, .info = member.info, .since_ms = member.since_ms};
        if (count == MEMBERS_AT_ONCE) {
            channel_remote_set_add(set, members, count);
            count = 0;
        }
    }
    if (count != 0)
        channel_remote_set_add(set, members, count);
}

/* What an answer says of a channel beside its set. */
static void apply_extras(const struct remote_set_part *part, struct app_slot *slot, struct worker *worker) {
    struct channel_hub *hub = part->state->core->channels;
    const struct message_set *set = &part->set;
    struct slice name = channel_name(part->channel);

    if (set->count_version != 0)
        channel_remote_count(hub, slot, worker, name, part->node, set->count_version, set->count);
    if (set->name.length != 0)
        channel_remote_cached(
            hub, slot, worker, name,
            &(struct channel_event){.event = set->name,
                                    .data = set->data,
                                    .keep = true,
                                    .relayed = true,
                                    .stamp = {set->published_ms, {set->publisher.high, set->publisher.low}}},
            set->left_ms);
}

static void free_set_part(struct remote_set_part *part) {
    if (part->part != NULL)
        state_part_unref(part->part);
    channel_unref(part->channel);
    free(part);
}

static void begin_set(const struct remote_set_part *part, struct interest *interest, struct app_slot *slot,
                      struct worker *worker) {
    struct remote_taking *taking = begin_taking(interest, part->node);

    taking->result = REMOTE_UNKNOWN;
    if (slot == NULL)
        return;
    taking->set = channel_remote_set_begin(part->state->core->channels, slot, worker, channel_name(part->channel),
                                           part->node, part->set.version, part->set.occupied, &taking->result);
    apply_extras(part, slot, worker);
}

static struct set_taken *create_taken(struct state *state, struct channel *channel, unsigned node,
                                      const struct message_set *set) {
    struct set_taken *taken = alloc(sizeof *taken);

    *taken = (struct set_taken){
        .message.handle = handle_set_taken,
        .state = state,
        .channel = channel_ref(channel),
        .node = node,
        .version = set->version,
        .empty = !set->occupied,
    };
    return taken;
}

static void finish_set(const struct remote_set_part *part, struct remote_taking **link) {
    struct set_taken *taken = create_taken(part->state, part->channel, part->node, &part->set);

    if (*link != NULL)
        end_taking(link, true, on_set_taken, taken);
    else
        on_set_taken(taken, REMOTE_UNKNOWN);
}

static void handle_set_part(struct worker *worker, struct message *message, struct message **rest) {
    struct remote_set_part *part = container_of(message, struct remote_set_part, message);
    struct interest *interest = channel_hook_memory(part->channel);
    struct remote_taking **link = find_taking(interest, part->node);

    (void)rest;
    if (*link != NULL && (part->set.begins || part->abandoned))
        end_taking(link, false, NULL, NULL);
    if (!part->abandoned) {
        if (part->set.begins)
            begin_set(part, interest, channel_held_slot(part->channel), worker);
        link = find_taking(interest, part->node);
        if (*link != NULL && (*link)->set != NULL)
            add_members((*link)->set, part->set.members);
        if (part->set.ends)
            finish_set(part, link);
    }
    free_set_part(part);
}

static void post_set_part(struct state *state, struct channel *channel, unsigned node, const struct message_set *set,
                          struct state_part *shared, bool abandoned) {
    struct remote_set_part *part = alloc(sizeof *part);

    if (shared != NULL)
        atomic_fetch_add_explicit(&shared->references, 1, memory_order_relaxed);
    *part = (struct remote_set_part){
        .message.handle = handle_set_part,
        .state = state,
        .channel = channel_ref(channel),
        .part = shared,
        .set = *set,
        .node = node,
        .abandoned = abandoned,
    };
    cluster_core_post(state->core, interest_worker(state->core, channel), &part->message);
}

void state_apply_set(struct state *state, struct channel *channel, unsigned node, const struct message_set *set,
                     struct state_part *part) {
    post_set_part(state, channel, node, set, part, false);
}

/* --- forgetting a node in one channel --- */

struct forget_in {
    struct message message;
    struct state *state;
    struct channel *channel; /* a reference */
    unsigned node;
    struct set_taken *taken; /* goes back when it is done; NULL: nothing does */
};

static void on_set_forgotten(void *context) {
    on_set_taken(context, REMOTE_DONE);
}

static void handle_forget_in(struct worker *worker, struct message *message, struct message **rest) {
    struct forget_in *forget = container_of(message, struct forget_in, message);
    struct app_slot *slot = channel_held_slot(forget->channel);

    (void)rest;
    if (slot != NULL)
        channel_remote_forget_in(forget->state->core->channels, slot, worker, channel_name(forget->channel),
                                 forget->node, forget->taken != NULL ? on_set_forgotten : NULL, forget->taken);
    else if (forget->taken != NULL)
        on_set_taken(forget->taken, REMOTE_UNKNOWN);
    channel_unref(forget->channel);
    free(forget);
}

static void post_forget_in(struct state *state, const struct interest *interest, unsigned node,
                           struct set_taken *taken) {
    struct forget_in *forget = alloc(sizeof *forget);

    *forget = (struct forget_in){.message.handle = handle_forget_in,
                                 .state = state,
                                 .channel = channel_ref(interest->channel),
                                 .node = node,
                                 .taken = taken};
    cluster_core_post(state->core, interest_worker(state->core, interest->channel), &forget->message);
}

/* The set of the node is there: that of the node which it replaces may go. */
static void forget_replaced_in(struct state *state, struct interest *interest, unsigned node) {
    unsigned before = state->nodes[node].replaces;

    if (before == 0 || !set_versions_known(&interest->versions, before))
        return;
    set_versions_forget(&interest->versions, before);
    post_forget_in(state, interest, before, NULL);
}

/* Empties the node's set in the channel. Its version there may be higher than any that is known here. */
static void empty_set(struct state *state, struct interest *interest, unsigned node) {
    struct message_set set = {.version = set_versions_applied(&interest->versions, node), .begins = true, .ends = true};

    if (set.version != 0)
        post_set_part(state, interest->channel, node, &set, NULL, false);
    else
        post_forget_in(state, interest, node, create_taken(state, interest->channel, node, &set));
}

void state_apply_nothing(struct state *state, struct interest *interest, unsigned node) {
    if (set_versions_nothing(&interest->versions, node, state_now_s(state)) == SET_APPLY) {
        if ((interest->counted >> node & 1) != 0)
            state_apply_count(state, interest, node, 0, 0);
        interest->counted &= ~(UINT64_C(1) << node);
        empty_set(state, interest, node);
        return;
    }
    forget_replaced_in(state, interest, node);
    state_pass_kept(state, interest, node);
}

void state_abandon_set(struct state *state, unsigned node) {
    struct state_node *from = &state->nodes[node];
    struct interest *interest;

    if (from->partial == NULL)
        return;
    post_set_part(state, from->partial, node, &(struct message_set){0}, NULL, true);
    interest = channel_hook_memory(from->partial);
    if (interest->phase != INTEREST_NONE && from->alive)
        set_versions_taken(&interest->versions, node, 0, true, false, state_now_s(state));
    if (interest->phase != INTEREST_NONE)
        state_check_answered(state, interest);
    channel_unref(from->partial);
    from->partial = NULL;
}
