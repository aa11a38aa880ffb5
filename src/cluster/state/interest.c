#include "cluster/state/interest.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "net/reclaim.h"

struct worker *interest_worker(const struct cluster_core *core, const struct channel *channel) {
    return core->workers->list[hash_bytes(channel_name(channel)) % core->workers->count];
}

void interests_read(struct interests *interests) {
    if (!interests->reading && interests->core->reclaimer != NULL)
        reclaim_read_begin(interests->core->reclaimer);
    interests->reading = true;
}

void interests_end_of_turn(struct interests *interests) {
    if (interests->reading && interests->core->reclaimer != NULL)
        reclaim_read_end(interests->core->reclaimer);
    interests->reading = false;
}

static uint64_t interests_now(const struct interests *interests) {
    return loop_now_ms(interests->core->loop);
}

/* Sets the timer for the first one of a list that is ordered by time. */
static void wake_at(struct interests *interests, struct loop_timer *timer, uint64_t due_ms) {
    uint64_t now_ms = interests_now(interests);

    if (!loop_timer_is_set(timer))
        loop_timer_set(interests->core->loop, timer, due_ms > now_ms ? due_ms - now_ms : 1);
}

static void post_slice(struct interests *interests) {
    if (!interests->slice_posted)
        loop_post(interests->core->loop, &interests->slice);
    interests->slice_posted = true;
}

/* --- ready --- */

static void make_ready(struct interests *interests, struct interest *interest) {
    interest->phase = INTEREST_READY;
    interest->ready_epoch = interests->epoch;
    list_remove(&interest->unready);
    interests_read(interests);
    channel_ready(interests->core->channels, interest->channel, interest->generation);
}

/* True if its subscriptions do not wait. One that was ready before the bus came up is not ready any more. */
static bool is_ready_now(const struct interests *interests, const struct interest *interest) {
    return interest->phase == INTEREST_READY && interest->ready_epoch == interests->epoch;
}

/* The subject is in force; other nodes are asked if they must be. */
static void ask_for_interest(struct interests *interests, struct interest *interest) {
    bool waits = !is_ready_now(interests, interest);

    if (!interests->hooks.in_force(interests->hooks.context, interest)) {
        if (waits)
            make_ready(interests, interest);
    } else if (waits) {
        interest->phase = INTEREST_ASKING;
        interest->due_ms = interests_now(interests) + INTEREST_WAIT_MS;
        list_remove(&interest->unready);
        list_append(&interests->asking, &interest->unready);
        wake_at(interests, &interests->ask_timer, interest->due_ms);
    }
}

/* New subscriptions wait until the subject is in force again, or for a while. */
static void wait_for_force(struct interests *interests, struct interest *interest) {
    interest->phase = INTEREST_SUBSCRIBING;
    interest->due_ms = interests_now(interests) + INTEREST_FORCE_MS;
    list_remove(&interest->unready);
    list_append(&interests->subscribing, &interest->unready);
    wake_at(interests, &interests->force_timer, interest->due_ms);
}

static void wait_again(struct interests *interests, struct interest *interest) {
    interests_read(interests);
    channel_unready(interest->channel, interest->generation);
    wait_for_force(interests, interest);
}

/* What was asked before an outage that is over says nothing of the subject. */
static void end_asking(struct interests *interests, struct interest *interest) {
    if (interests->up && !interest_is_in_force(interests, interest))
        wait_again(interests, interest);
    else
        make_ready(interests, interest);
}

void interest_answered(struct interests *interests, struct interest *interest) {
    if (interest->phase == INTEREST_ASKING)
        end_asking(interests, interest);
}

/* Ends the waiting of those in the list that have waited long enough. */
static void end_due_waits(struct interests *interests, struct list *list, struct loop_timer *timer,
                          void (*end)(struct interests *interests, struct interest *interest)) {
    uint64_t now_ms = interests_now(interests);

    while (!list_empty(list)) {
        struct interest *interest = container_of(list->next, struct interest, unready);

        if (interest->due_ms > now_ms || !loop_has_time(interests->core->loop)) {
            wake_at(interests, timer, interest->due_ms);
            return;
        }
        end(interests, interest);
    }
}

/* The answers have not come in time. */
static void on_ask_timer(struct loop_timer *timer) {
    struct interests *interests = container_of(timer, struct interests, ask_timer);

    end_due_waits(interests, &interests->asking, timer, end_asking);
}

/* The subject has not come in force in time: no master may have its slot. Subscriptions here do not wait for that. */
static void on_force_timer(struct loop_timer *timer) {
    struct interests *interests = container_of(timer, struct interests, force_timer);

    end_due_waits(interests, &interests->subscribing, timer, make_ready);
}

void interests_in_force(struct interests *interests, struct slice subject) {
    struct interest *interest = interest_find_by_subject(&interests->table, subject);

    if (interest == NULL || interest_is_in_force(interests, interest))
        return;
    interest->epoch = interests->epoch;
    interests->out_of_force--;
    ask_for_interest(interests, interest);
}

static void skip_in_review(struct interests *interests, const struct interest *interest) {
    if (interests->review == &interest->link)
        interests->review = interest->link.next;
    if (interests->moves != NULL)
        interests->moves(interests->moves_context, interest);
}

void interests_move_to_end(struct interests *interests, struct interest *interest) {
    skip_in_review(interests, interest);
    list_remove(&interest->link);
    list_append(&interests->table.all, &interest->link);
}

void interests_interrupted(struct interests *interests, struct slice subject) {
    struct interest *interest = interest_find_by_subject(&interests->table, subject);

    if (interest == NULL || !interest_is_in_force(interests, interest))
        return;
    interest->epoch = 0;
    interests->out_of_force++;
    wait_again(interests, interest);
}

/* --- the bus goes and comes --- */

void interests_down(struct interests *interests) {
    interests->up = false;
    post_slice(interests);
}

void interests_bus_up(struct interests *interests) {
    interests->up = true;
    interests->epoch++;
    channel_hub_unready(interests->core->channels); /* at once: the review may take many turns */
    interests->out_of_force = interests->table.count;
    interests->review = interests->table.all.next;
    post_slice(interests);
}

/* Looks at the next one that was ready before the bus came up. False after the last one. */
static bool review_next(struct interests *interests) {
    struct interest *interest;

    if (interests->review == NULL || interests->review == &interests->table.all) {
        interests->review = NULL;
        return false;
    }
    interest = container_of(interests->review, struct interest, link);
    interests->review = interests->review->next;
    if (!interests->up)
        make_ready(interests, interest);
    else if (interest->phase != INTEREST_SUBSCRIBING && !interest_is_in_force(interests, interest))
        wait_again(interests, interest);
    return true;
}

/* While the bus is down nobody waits. */
static bool let_one_go_on(struct interests *interests) {
    struct list *list = list_empty(&interests->subscribing) ? &interests->asking : &interests->subscribing;

    if (list_empty(list))
        return review_next(interests); /* the bus went down again before all were looked at */
    make_ready(interests, container_of(list->next, struct interest, unready));
    return true;
}

static bool work_on_interests(struct interests *interests) {
    return interests->up ? review_next(interests) : let_one_go_on(interests);
}

static void run_slice(struct loop *loop, struct loop_message *message) {
    struct interests *interests = container_of(message, struct interests, slice);

    interests->slice_posted = false;
    while (work_on_interests(interests))
        if (!loop_has_time(loop)) {
            post_slice(interests);
            return;
        }
}

/* --- the table --- */

static void list_interest(struct interests *interests, struct interest *interest,
                          const struct channel_interest *wanted) {
    struct cluster_core *core = interests->core;
    struct buffer subject = {0};
    struct slice app;

    interests_read(interests);
    app = channel_app_id(interest->channel);
    subject_append_channel(&subject, &core->subjects, app, channel_name(interest->channel));
    interest_table_add(&interests->table, interest, buffer_slice(&subject), app);
    buffer_dispose(&subject);
    interest->generation = wanted->generation;
    interest->stateful = wanted->stateful;
    interest->epoch = 0;
    interest->has_count = interest->has_version = false;
    interest->reading = interest->read = false;
    interest->told_version = 0;
    interest->counted = interest->count_heard = interest->count_heard_before = 0;
    interests->out_of_force++;
    wait_for_force(interests, interest);
    core->bus->driver->subscribe(core->bus, interest_subject(interest));
    if (!interests->up)
        make_ready(interests, interest);
}

static void unlist_interest(struct interests *interests, struct interest *interest) {
    struct cluster_core *core = interests->core;

    if (!interest_is_in_force(interests, interest))
        interests->out_of_force--;
    skip_in_review(interests, interest);
    list_remove(&interest->unready);
    list_remove(&interest->lingering);
    interests->hooks.ended(interests->hooks.context, interest);
    core->bus->driver->unsubscribe(core->bus, interest_subject(interest));
    interest_table_remove(&interests->table, interest);
    interest->phase = INTEREST_NONE;
}

/* --- notices of workers --- */

static void linger_or_not(struct interests *interests, struct interest *interest, bool wanted) {
    list_remove(&interest->lingering);
    if (wanted)
        return;
    interest->let_go_ms = interests_now(interests) + INTEREST_LINGER_MS;
    list_append(&interests->lingering, &interest->lingering);
    wake_at(interests, &interests->linger_timer, interest->let_go_ms);
}

/* Something is new of an interest that stays. */
static void review_interest(struct interests *interests, struct interest *interest,
                            const struct channel_interest *wanted) {
    linger_or_not(interests, interest, wanted->wanted);
    if (wanted->stateful && !interest->stateful) {
        interest->stateful = true;
        if (interest_is_in_force(interests, interest))
            ask_for_interest(interests, interest);
    }
    if (!wanted->waits || interest->phase != INTEREST_READY)
        return;
    if (is_ready_now(interests, interest) || !interests->up)
        make_ready(interests, interest);
    else
        wait_again(interests, interest); /* the review has not come to it */
}

static void handle_notice(struct loop *loop, struct loop_message *message) {
    struct interest *interest = container_of(message, struct interest, notice);
    struct interests *interests = interest->owner;
    struct channel *channel = interest->noticed; /* until the next line */
    struct channel_interest wanted = channel_take_interest(channel);
    bool listed = interest->phase != INTEREST_NONE;

    (void)loop;
    if (listed && (!wanted.held || wanted.generation != interest->generation)) {
        unlist_interest(interests, interest);
        channel_unref(interest->channel);
        listed = false;
    }
    if (!wanted.held) {
        channel_unref(channel);
        return;
    }
    if (listed) {
        channel_unref(channel);
    } else {
        interest->channel = channel;
        list_interest(interests, interest, &wanted);
    }
    review_interest(interests, interest, &wanted);
}

static void post_interest_notice(void *context, struct channel *channel) {
    struct interests *interests = context;
    struct interest *interest = channel_hook_memory(channel);

    interest->owner = interests;
    interest->noticed = channel;
    interest->notice.handle = handle_notice;
    loop_post(interests->core->loop, &interest->notice);
}

static void wake_for_channels(void *context) {
    const struct interests *interests = context;

    loop_wake(interests->core->loop);
}

/* --- letting go --- */

struct let_go {
    struct message message;
    struct channel *channel; /* a reference */
    uint32_t generation;
};

static void handle_let_go(struct worker *worker, struct message *message, struct message **rest) {
    struct let_go *let_go = container_of(message, struct let_go, message);

    (void)rest;
    channel_let_go(worker, let_go->channel, let_go->generation);
    channel_unref(let_go->channel);
    free(let_go);
}

static void post_let_go(struct interests *interests, struct interest *interest) {
    struct let_go *let_go = alloc(sizeof *let_go);

    *let_go = (struct let_go){
        .message.handle = handle_let_go, .channel = channel_ref(interest->channel), .generation = interest->generation};
    cluster_core_post(interests->core, interest_worker(interests->core, interest->channel), &let_go->message);
}

static void on_linger_timer(struct loop_timer *timer) {
    struct interests *interests = container_of(timer, struct interests, linger_timer);
    uint64_t now_ms = interests_now(interests);

    while (!list_empty(&interests->lingering)) {
        struct interest *interest = container_of(interests->lingering.next, struct interest, lingering);

        if (interest->let_go_ms > now_ms || !loop_has_time(interests->core->loop)) {
            wake_at(interests, timer, interest->let_go_ms);
            return;
        }
        list_remove(&interest->lingering);
        post_let_go(interests, interest);
    }
}

/* --- making and freeing --- */

void interests_init(struct interests *interests, struct cluster_core *core, const struct interest_hooks *hooks,
                    struct channel_hooks *channel_hooks) {
    *interests = (struct interests){.core = core, .hooks = *hooks};
    interest_table_init(&interests->table);
    list_init(&interests->subscribing);
    list_init(&interests->asking);
    list_init(&interests->lingering);
    interests->ask_timer.fire = on_ask_timer;
    interests->force_timer.fire = on_force_timer;
    interests->linger_timer.fire = on_linger_timer;
    interests->slice.handle = run_slice;
    channel_hooks->memory_bytes = sizeof(struct interest);
    channel_hooks->interest = post_interest_notice;
    channel_hooks->wake = wake_for_channels;
    channel_hooks->context = interests;
}

void interests_dispose(struct interests *interests) {
    struct list *all = &interests->table.all;

    loop_timer_end(interests->core->loop, &interests->ask_timer);
    loop_timer_end(interests->core->loop, &interests->force_timer);
    loop_timer_end(interests->core->loop, &interests->linger_timer);
    while (!list_empty(all)) {
        struct interest *interest = container_of(all->next, struct interest, link);

        list_remove(&interest->unready);
        list_remove(&interest->lingering);
        interests->hooks.ended(interests->hooks.context, interest);
        interest_table_remove(&interests->table, interest);
        interest->phase = INTEREST_NONE;
        channel_unref(interest->channel);
    }
    interest_table_dispose(&interests->table);
}
