#include <stdlib.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "session/session_internal.h"

/* Messages in a second that are refused, ignored, or pings and pongs; one more closes the connection. */
#define JUNK_MAX 1000
#define JUNK_WINDOW_MS 1000
/* A walk over so many subscriptions costs about as much as such a message. */
#define SUBSCRIPTIONS_PER_JUNK 64

struct session_rate {
    struct token_bucket bucket;
    uint32_t window_s; /* 0: not used yet */
};

struct session_rates {
    struct session_rate client_events, messages;
};

size_t session_rates_footprint(void) {
    return alloc_footprint(sizeof(struct session_rates));
}

static struct session_rates *rates_of(struct session *session) {
    if (session->rates == NULL) {
        session->rates = alloc_zero(sizeof *session->rates);
        budget_add(BUDGET_CONNECTIONS, session->slot->budget, session_rates_bytes(session));
    }
    return session->rates;
}

/* After a change of the window the bucket begins empty, so that a change gives no tokens. */
static bool take_session_token(struct session *session, struct session_rate *counted, struct token_rate rate) {
    uint64_t now_ns = session_worker(session)->now_ns;

    if (counted->window_s != rate.window_s && counted->window_s != 0)
        token_bucket_empty(&counted->bucket, rate, now_ns);
    counted->window_s = rate.window_s;
    return token_bucket_take(&counted->bucket, rate, 1, now_ns);
}

/* Drops a message over its limit, or closes the connection if the app wants that. */
static void refuse_over_limit_of(struct session *session, enum refusal reason, bool terminate, const char *text) {
    session_refused(session, reason);
    if (terminate)
        session_close(session, 4009, "%s", text);
    else
        session_error(session, 4301, "%s", text);
}

bool session_takes_client_event(struct session *session) {
    const struct app *app = session->app;
    const struct token_rate rate = {app->max_client_events_per_second, app->policy.decay_seconds};
    struct error text;

    if (rate.limit == 0 || take_session_token(session, &rates_of(session)->client_events, rate))
        return true;
    if (rate.window_s == 1)
        error_set(&text, "client event refused: `max_client_events_per_second` of this app is %u for each connection",
                  rate.limit);
    else
        error_set(
            &text,
            "client event refused: `max_client_events_per_second` of this app is %u in %u s (`decay_seconds`) for "
            "each connection",
            rate.limit, rate.window_s);
    refuse_over_limit_of(session, REFUSED_CLIENT_EVENT_RATE, app->policy.terminate_on_limit, text.text);
    return false;
}

bool session_takes_message(struct session *session) {
    const struct app_policy *policy = &session->app->policy;
    const struct token_rate rate = {policy->message_rate_limit.max_attempts, policy->message_rate_limit.decay_seconds};
    struct error text;

    if (!policy->message_rate_limit.enabled || take_session_token(session, &rates_of(session)->messages, rate))
        return true;
    error_set(&text, "message refused: `message_rate_limit` of this app is %u in %u s for each connection", rate.limit,
              rate.window_s);
    refuse_over_limit_of(session, REFUSED_MESSAGE_RATE, policy->message_rate_limit.terminate_on_limit, text.text);
    return false;
}

static void open_junk_window(struct session *session) {
    uint32_t now_ms = (uint32_t)session_worker(session)->now_ms;

    if (now_ms - session->junk_from_ms >= JUNK_WINDOW_MS) {
        session->junk_from_ms = now_ms;
        session->junk_count = 0;
    }
}

void session_count_walk(struct session *session) {
    uint32_t work = session->subscriptions.count / SUBSCRIPTIONS_PER_JUNK;

    open_junk_window(session);
    session->junk_count += (uint16_t)(work < JUNK_MAX ? work : JUNK_MAX);
    session->junk = true;
}

void session_count_junk(struct session *session) {
    session->junk = false;
    if (session->slot == NULL)
        return;
    open_junk_window(session);
    if (++session->junk_count <= JUNK_MAX)
        return;
    session_refused(session, REFUSED_JUNK);
    session_close(session, 4009, "more than %d messages in a second were refused, ignored, or only pings and pongs",
                  JUNK_MAX);
}

bool session_takes_control_frame(struct session *session, bool ping) {
    bool taken;

    session->app = slot_app(session->slot);
    if (session->app == NULL)
        return true;
    taken = !ping || session_takes_message(session);
    session_count_junk(session);
    return taken && session->slot != NULL;
}
