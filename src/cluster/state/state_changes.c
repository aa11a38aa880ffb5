#include <stdlib.h>

#include "base/alloc.h"
#include "cluster/roster/roster_reports.h"
#include "cluster/state/state_internal.h"

/* The version of a set is told once more so long after its last change. */
#define TELL_AGAIN_MS 5000

/* --- this node's changes: hooks on workers, then on the thread --- */

struct own_change {
    struct loop_message message;
    struct channel_own_change change;
    struct state *state;
};

/* The interest of a channel, if other nodes may hear of it. */
static struct interest *heard_interest(const struct state *state, struct channel *channel) {
    struct interest *interest = channel_hook_memory(channel);

    return interest->phase != INTEREST_NONE && state->core->up && nodes_alive(state->core->nodes) != 0 ? interest
                                                                                                       : NULL;
}

static void tell_again_later(struct state *state, struct interest *interest) {
    list_remove(&interest->telling);
    interest->tell_due_ms = state_now_ms(state) + TELL_AGAIN_MS;
    list_append(&state->telling, &interest->telling);
    if (!loop_timer_is_set(&state->tell_timer))
        loop_timer_set(state->core->loop, &state->tell_timer, TELL_AGAIN_MS);
}

static void publish_own_change(struct state *state, struct interest *interest,
                               const struct channel_own_change *change) {
    struct cluster_message message = {.kind = MESSAGE_CHANGE};
    struct buffer info = {0};

    message.change = (struct message_change){
        .app = interest_app(interest),
        .channel = channel_name(interest->channel),
        .version = change->version,
        .before = change->before,
        .added = change->added,
        .empties = change->becomes_empty,
        .since_ms = change->since_ms,
    };
    if (change->member != NULL) {
        message.change.id = presence_member_key(change->member);
        if (change->added)
            presence_member_append_info(change->member, &info);
        message.change.info = buffer_slice(&info);
    }
    cluster_core_say(state->core, interest_subject(interest), &message);
    buffer_dispose(&info);
}

static void free_own_change(struct own_change *own) {
    channel_unref(own->change.channel);
    presence_member_unref(own->change.member);
    free(own);
}

static void handle_own_change(struct loop *loop, struct loop_message *message) {
    struct own_change *own = container_of(message, struct own_change, message);
    struct state *state = own->state;
    struct interest *interest = channel_hook_memory(own->change.channel);

    (void)loop;
    if (own->change.webhooks && interest->phase != INTEREST_NONE)
        roster_reports_changed(state->webhooks, interest_app(interest), &own->change);
    interest->has_version = heard_interest(state, own->change.channel) != NULL;
    if (interest->has_version) {
        publish_own_change(state, interest, &own->change);
        interest->told_version = own->change.becomes_empty ? 0 : own->change.version;
        tell_again_later(state, interest);
    }
    free_own_change(own);
}

static struct channel_own_change *create_own_change(void *context, bool webhooks) {
    struct interests *interests = context;
    struct own_change *own;

    if (!webhooks && atomic_load_explicit(&interests->core->alive, memory_order_relaxed) == 0)
        return NULL;
    own = alloc_zero(sizeof *own);
    own->message.handle = handle_own_change;
    own->state = container_of(interests, struct state, interests);
    return &own->change;
}

static void post_own_change_on(void *context, struct channel_own_change *change) {
    const struct interests *interests = context;

    loop_post(interests->core->loop, &container_of(change, struct own_change, change)->message);
}

static void free_unused_change(void *context, struct channel_own_change *change) {
    (void)context;
    free(container_of(change, struct own_change, change));
}

/* --- this node's subscription counts --- */

struct own_count {
    struct loop_message message;
    struct state *state;
    struct channel *channel; /* a reference */
    uint64_t version;
    uint32_t count;
};

void state_tell_count(struct state *state, const struct interest *interest) {
    struct cluster_message message = {.kind = MESSAGE_COUNT};

    message.count = (struct message_count){.app = interest_app(interest),
                                           .channel = channel_name(interest->channel),
                                           .version = interest->count_version,
                                           .count = interest->count};
    cluster_core_say(state->core, interest_subject(interest), &message);
}

static void handle_own_count(struct loop *loop, struct loop_message *message) {
    struct own_count *own = container_of(message, struct own_count, message);
    struct interest *interest = channel_hook_memory(own->channel);

    (void)loop;
    if (interest->phase != INTEREST_NONE && (!interest->has_count || own->version > interest->count_version)) {
        interest->has_count = true;
        interest->count = own->count;
        interest->count_version = own->version;
        roster_reports_counted(own->state->webhooks, interest_app(interest), channel_name(own->channel), own->count);
        if (heard_interest(own->state, own->channel) != NULL)
            state_tell_count(own->state, interest);
        if (nodes_alive(own->state->core->nodes) != 0) /* in an outage, too: it is told afterwards */
            tell_again_later(own->state, interest);
    }
    channel_unref(own->channel);
    free(own);
}

static void post_own_count(void *context, struct channel *channel, uint64_t version, uint32_t count) {
    struct interests *interests = context;
    struct own_count *own = alloc(sizeof *own);

    *own = (struct own_count){.message.handle = handle_own_count,
                              .state = container_of(interests, struct state, interests),
                              .channel = channel_ref(channel),
                              .version = version,
                              .count = count};
    loop_post(interests->core->loop, &own->message);
    loop_wake(interests->core->loop);
}

/* --- versions, once more --- */

static void tell_version(struct state *state, struct interest *interest) {
    struct cluster_message message = {.kind = MESSAGE_TOLD};

    list_remove(&interest->telling);
    if (heard_interest(state, interest->channel) == NULL)
        return;
    message.told = (struct message_told){
        .app = interest_app(interest), .channel = channel_name(interest->channel), .version = interest->told_version};
    if (interest->has_version)
        cluster_core_say(state->core, interest_subject(interest), &message);
    if (interest->has_count)
        state_tell_count(state, interest);
}

/* What waited before the end of an outage is due at once. */
static uint64_t tell_due(const struct state *state, const struct interest *interest) {
    bool waited = state->tell_at_once_ms != 0 && interest->tell_due_ms <= state->tell_at_once_ms + TELL_AGAIN_MS;

    return waited ? state->tell_at_once_ms : interest->tell_due_ms;
}

static void on_tell_timer(struct loop_timer *timer) {
    struct state *state = container_of(timer, struct state, tell_timer);
    uint64_t now_ms = state_now_ms(state);

    while (state->core->up && !list_empty(&state->telling)) {
        struct interest *interest = container_of(state->telling.next, struct interest, telling);
        uint64_t due_ms = tell_due(state, interest);

        if (due_ms > now_ms || !loop_has_time(state->core->loop)) {
            loop_timer_set(state->core->loop, timer, due_ms > now_ms ? due_ms - now_ms : 1);
            return;
        }
        tell_version(state, interest);
    }
}

void state_tell_at_once(struct state *state) {
    state->tell_at_once_ms = state_now_ms(state);
    loop_timer_set(state->core->loop, &state->tell_timer, 1);
}

/* --- what other nodes tell on a channel's subject --- */

/* The interest that a message is about; NULL: there is none, or the message names another channel. */
static struct interest *interest_of_message(struct state *state, struct slice subject, struct slice app,
                                            struct slice channel) {
    struct interest *interest = interest_find_by_subject(&state->interests.table, subject);

    return interest != NULL && slice_equal(interest_app(interest), app) &&
                   slice_equal(channel_name(interest->channel), channel)
               ? interest
               : NULL;
}

/* A node whose set of the channel is empty has no subscription to it, and its app may have no use for counts: then it
 * tells none. */
static void drop_count_of(struct state *state, struct interest *interest, unsigned node) {
    if ((interest->counted >> node & 1) == 0)
        return;
    state_note_count(interest, node, 0);
    state_apply_count(state, interest, node, 0, 0);
}

static bool on_change_message(void *context, unsigned node, const struct cluster_message *message,
                              struct bus_message *bus_message) {
    const struct message_change *said = &message->change;
    struct state *state = context;
    struct interest *interest = interest_of_message(state, bus_message->subject, said->app, said->channel);
    struct set_change change = {said->before, said->version, said->empties};
    struct remote_news *news;
    enum set_step step;

    if (interest == NULL || !interest->stateful)
        return false;
    if (said->empties && said->version > set_versions_applied(&interest->versions, node))
        drop_count_of(state, interest, node);
    step = set_versions_change(&interest->versions, node, &change, state_now_s(state));
    if (step == SET_ASK)
        state_want_from(state, interest, node);
    if (step == SET_IGNORE)
        return false;
    news = alloc(sizeof *news);
    *news = (struct remote_news){
        .kept = {.change = change, .node = (uint8_t)node},
        .state = state,
        .channel = channel_ref(interest->channel),
        .change = {.node = node,
                   .version = said->version,
                   .before = said->before,
                   .added = said->added,
                   .member = {.id = said->id, .info = said->info, .since_ms = said->since_ms}},
        .bus_message = bus_message,
    };
    if (step == SET_APPLY)
        state_apply_change(state, news);
    else
        state_keep_change(state, interest, news);
    return true;
}

static bool on_told_message(void *context, unsigned node, const struct cluster_message *message,
                            struct bus_message *bus_message) {
    const struct message_told *told = &message->told;
    struct state *state = context;
    struct interest *interest = interest_of_message(state, bus_message->subject, told->app, told->channel);

    if (interest != NULL && interest->stateful &&
        set_versions_told(&interest->versions, node, told->version, state_now_s(state)) == SET_ASK)
        state_want_from(state, interest, node);
    return false;
}

void state_drop_untold_counts(struct state *state, struct interest *interest) {
    uint64_t untold = interest->counted & ~interest->count_heard & ~interest->count_heard_before;

    for (uint64_t left = untold; left != 0; left &= left - 1)
        state_apply_count(state, interest, (unsigned)__builtin_ctzll(left), 0, 0);
    interest->counted &= ~untold;
    interest->count_heard_before = interest->count_heard;
    interest->count_heard = 0;
}

void state_note_count(struct interest *interest, unsigned node, uint32_t count) {
    uint64_t bit = UINT64_C(1) << node;

    interest->counted = count != 0 ? interest->counted | bit : interest->counted & ~bit;
    interest->count_heard |= bit;
}

static bool on_count_message(void *context, unsigned node, const struct cluster_message *message,
                             struct bus_message *bus_message) {
    const struct message_count *said = &message->count;
    struct state *state = context;
    struct interest *interest = interest_of_message(state, bus_message->subject, said->app, said->channel);

    if (interest == NULL || said->version == 0)
        return false;
    state_note_count(interest, node, said->count);
    state_apply_count(state, interest, node, said->version, said->count);
    return false;
}

/* --- making and freeing --- */

void state_changes_init(struct state *state) {
    list_init(&state->telling);
    state->tell_timer.fire = on_tell_timer;
    state->hooks.change_create = create_own_change;
    state->hooks.change_post = post_own_change_on;
    state->hooks.change_free = free_unused_change;
    state->hooks.own_count = post_own_count;
    cluster_core_handle(state->core, MESSAGE_CHANGE, on_change_message, false, state);
    cluster_core_handle(state->core, MESSAGE_TOLD, on_told_message, false, state);
    cluster_core_handle(state->core, MESSAGE_COUNT, on_count_message, false, state);
}

void state_changes_dispose(struct state *state) {
    loop_timer_end(state->core->loop, &state->tell_timer);
}
