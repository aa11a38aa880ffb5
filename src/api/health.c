/*
 * GET /up and /up/{id}: what a load balancer asks. The word is both the body and a header.
 */
#include "api/call.h"

static void answer_health(struct api_call *call, unsigned status, const char *word) {
    struct buffer header = {0};

    buffer_append(&header, SLICE("X-Health-Check: "));
    buffer_append_string(&header, word);
    buffer_append(&header, SLICE("\r\n"));
    api_answer_with(call, status, SLICE("text/plain; charset=utf-8"), buffer_slice(&header), slice_of(word));
    buffer_dispose(&header);
}

static bool is_draining(const struct api_call *call) {
    return atomic_load_explicit(call->api->draining, memory_order_relaxed);
}

void api_get_up(struct api_call *call) {
    if (is_draining(call) || !app_manager_has_apps(call->api->apps))
        answer_health(call, 503, "ERROR");
    else
        answer_health(call, 200, "OK");
}

void api_get_up_app(struct api_call *call) {
    if (call->lookup.answer == APP_NOT_FOUND)
        answer_health(call, 404, "NOT_FOUND");
    else if (is_draining(call) || call->lookup.answer != APP_FOUND || !call->lookup.app->enabled)
        answer_health(call, 503, "ERROR");
    else
        answer_health(call, 200, "OK");
}
