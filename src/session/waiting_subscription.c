#include "session/waiting_subscription.h"

#include <stdlib.h>

struct waiting_subscription *waiting_subscription_create(struct session *session,
                                                         void (*ready)(struct channel_waiter *waiter)) {
    struct waiting_subscription *waiting = alloc_zero(sizeof *waiting);

    waiting->session = session;
    waiting->waiter.ready = ready;
    waiting->subscription.waiting = true;
    return waiting;
}

/* The memory beyond that of a subscription, in the account. */
static size_t waiting_bytes(const struct waiting_subscription *waiting) {
    return alloc_footprint(sizeof *waiting) + alloc_footprint(waiting->text_bytes);
}

/* Copies a slice to the end of the texts. */
static struct slice keep_text(struct waiting_subscription *waiting, struct slice text) {
    struct slice kept = {waiting->texts + waiting->text_bytes, text.length};

    if (text.length != 0)
        memcpy(waiting->texts + waiting->text_bytes, text.data, text.length);
    waiting->text_bytes += text.length;
    return kept;
}

static void keep_texts(struct waiting_subscription *waiting, const struct waiting_subscription *request) {
    size_t length =
        request->channel_token.length + request->name.length + request->user_id.length + request->user_info.length;

    waiting->texts = alloc(length);
    waiting->channel_token = keep_text(waiting, request->channel_token);
    waiting->name = keep_text(waiting, request->name);
    waiting->user_id = keep_text(waiting, request->user_id);
    waiting->user_info = keep_text(waiting, request->user_info);
}

/* The wish for deltas is kept apart, since a second request may bring another one. Its memory follows from a message
 * that was accepted. */
static void keep_delta(struct waiting_subscription *waiting, struct json_value delta) {
    struct budget_app *budget = waiting->session->slot->budget;
    size_t before = waiting->delta.token.length;
    char *text = delta.token.length != 0 ? alloc_copy(delta.token.data, delta.token.length) : NULL;

    free(waiting->delta_text);
    waiting->delta_text = text;
    waiting->delta = (struct json_value){delta.type, delta.escaped, {text, delta.token.length}};
    budget_add(BUDGET_CHANNELS, budget, delta.token.length);
    budget_give(BUDGET_CHANNELS, budget, before);
}

bool waiting_subscription_keep(struct waiting_subscription *waiting, const struct waiting_subscription *request) {
    struct session *session = waiting->session;

    keep_texts(waiting, request);
    if (!budget_take(BUDGET_CHANNELS, session->slot->budget, waiting_bytes(waiting))) {
        free(waiting->texts);
        waiting->texts = NULL;
        waiting_subscription_destroy(waiting);
        return false;
    }
    keep_delta(waiting, request->delta);
    waiting->answers = 1;
    waiting->filter = request->filter;
    waiting->subscription.channel = waiting->waiter.channel;
    subscriptions_add(&session->subscriptions, &waiting->subscription);
    return true;
}

void waiting_subscription_repeat(struct waiting_subscription *waiting, struct filter *filter, struct json_value delta) {
    session_drop_filter(waiting->session, waiting->filter);
    waiting->filter = filter;
    if (waiting->answers < WAITING_ANSWERS_MAX)
        waiting->answers++;
    if (delta.type != JSON_TYPE_ABSENT)
        keep_delta(waiting, delta);
}

void waiting_subscription_take(struct waiting_subscription *waiting) {
    struct session *session = waiting->session;
    size_t bytes = subscriptions_bytes(&session->subscriptions);

    subscriptions_remove(&session->subscriptions, &waiting->subscription);
    budget_give(BUDGET_CHANNELS, session->slot->budget, bytes - subscriptions_bytes(&session->subscriptions));
}

void waiting_subscription_destroy(struct waiting_subscription *waiting) {
    struct session *session = waiting->session;

    channel_await_end(&waiting->waiter);
    session_drop_filter(session, waiting->filter);
    if (waiting->texts != NULL)
        budget_give(BUDGET_CHANNELS, session->slot->budget, waiting_bytes(waiting) + waiting->delta.token.length);
    free(waiting->texts);
    free(waiting->delta_text);
    free(waiting);
}
