#include "api/request_rates.h"

#include "base/log.h"

#define MINUTE_NS (60 * SECOND_IN_NS)

static const struct {
    enum app_field field;
    enum refusal reason;
    const char *what;
} request_rates[REQUEST_RATES] = {
    [RATE_READS] = {APP_MAX_READ_REQUESTS_PER_SECOND, REFUSED_READ_RATE, "requests"},
    [RATE_BACKEND_EVENTS] = {APP_MAX_BACKEND_EVENTS_PER_SECOND, REFUSED_BACKEND_RATE, "events"},
};

static struct token_rate rate_of(const struct api_call *call, enum request_rate rate) {
    return (struct token_rate){app_number(call->lookup.app, request_rates[rate].field), 1};
}

static struct token_bucket *bucket_of(const struct api_call *call, enum request_rate rate) {
    return &call->lookup.slot->rates[rate];
}

/* Logs the first refusal within a minute of an app that has the server-wide default, which its owner may not know. */
static void log_default_limit(struct api_call *call, enum request_rate rate) {
    struct app_slot *slot = call->lookup.slot;
    uint_fast64_t minute = call->worker->now_ns / MINUTE_NS + 1;
    const char *name = app_fields[request_rates[rate].field].name;

    if (app_field_is_set(call->lookup.app, request_rates[rate].field) ||
        atomic_exchange_explicit(&slot->rate_logged_minute[rate], minute, memory_order_relaxed) == minute)
        return;
    log_warning("api",
                "app \"%s\": %s are refused with 429, because %s is %u: the app does not set it, so this is the "
                "server-wide default; set %s of the app, or rate_limits.%s (0: no limit)",
                slot->id, request_rates[rate].what, name, rate_of(call, rate).limit, name, name);
}

static uint64_t seconds_up(uint64_t ns) {
    return (ns + SECOND_IN_NS - 1) / SECOND_IN_NS;
}

static void refuse_over_rate(struct api_call *call, enum request_rate rate, uint64_t cost) {
    uint32_t limit = rate_of(call, rate).limit;
    struct token_level level =
        token_bucket_level(bucket_of(call, rate), rate_of(call, rate), cost, call->worker->now_ns);
    const char *name = app_fields[request_rates[rate].field].name;
    struct buffer headers = {0};
    struct error error;

    if (level.wait_ns == TOKENS_NEVER)
        error_set(&error,
                  "this publishes %llu events, one for each channel, and %s of this app is %u: send fewer at once",
                  (unsigned long long)cost, name, limit);
    else if (cost > 1)
        error_set(&error, "too many %s: %s of this app is %u; this publishes %llu, one for each channel",
                  request_rates[rate].what, name, limit, (unsigned long long)cost);
    else
        error_set(&error, "too many %s: %s of this app is %u", request_rates[rate].what, name, limit);
    if (level.wait_ns != TOKENS_NEVER)
        buffer_appendf(&headers, "Retry-After: %llu\r\n",
                       (unsigned long long)(level.wait_ns != 0 ? seconds_up(level.wait_ns) : 1));
    buffer_appendf(&headers, "X-RateLimit-Limit: %u\r\nX-RateLimit-Remaining: %u\r\nX-RateLimit-Reset: %llu\r\n", limit,
                   level.tokens, (unsigned long long)seconds_up(level.full_ns));
    log_default_limit(call, rate);
    api_refuse_with(call, 429, request_rates[rate].reason, buffer_slice(&headers), error.text);
    buffer_dispose(&headers);
}

/* True if a token is there; takes none. */
static bool has_rate_token(struct api_call *call, enum request_rate rate) {
    return token_bucket_level(bucket_of(call, rate), rate_of(call, rate), 1, call->worker->now_ns).tokens != 0;
}

static bool take_tokens(struct api_call *call, enum request_rate rate, uint64_t cost) {
    if (token_bucket_take(bucket_of(call, rate), rate_of(call, rate), cost, call->worker->now_ns))
        return true;
    refuse_over_rate(call, rate, cost);
    return false;
}

/* A repeat of a publish is answered from memory and costs a read; whether it is one shows when the body is there. */
static bool may_be_repeat(const struct api_call *call) {
    struct slice key;

    return call->repeated != NULL || http_header(call->request, SLICE("x-idempotency-key"), &key);
}

bool request_rate_admit(struct api_call *call) {
    enum request_rate rate = call->route->costs == ROUTE_COSTS_READ ? RATE_READS : RATE_BACKEND_EVENTS;

    if (call->listed != NULL) /* it was admitted before the list was made */
        return true;
    if (call->route->costs == ROUTE_COSTS_NOTHING || (rate == RATE_BACKEND_EVENTS && may_be_repeat(call)))
        return true;
    if (rate == RATE_READS && !call->head_only) {
        if (!take_tokens(call, rate, 1))
            return false;
        call->read_rate = rate_of(call, rate);
        return true;
    }
    if (has_rate_token(call, rate))
        return true;
    refuse_over_rate(call, rate, 1);
    return false;
}

bool request_rate_take_events(struct api_call *call, size_t count) {
    return take_tokens(call, RATE_BACKEND_EVENTS, count);
}

bool request_rate_take_read(struct api_call *call) {
    return take_tokens(call, RATE_READS, 1);
}
