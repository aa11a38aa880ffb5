#include "session/session_internal.h"

static bool is_absent(struct json_value value) {
    return value.type == JSON_TYPE_ABSENT || value.type == JSON_TYPE_NULL;
}

/* Without filtering a filter is checked, so that a client's mistake shows, and is not kept. */
static enum filter_result check_filter(struct json_value json, struct error *error) {
    struct buffer program = {0};
    bool compiled = filter_compile(json, &program, error);

    buffer_dispose(&program);
    return compiled ? FILTER_READY : FILTER_REFUSED;
}

enum filter_result session_read_filter(struct session *session, struct slice channel, struct json_value given,
                                       struct json_value tags_filter, struct filter **filter) {
    struct json_value json = is_absent(given) ? tags_filter : given;
    enum filter_result result;
    struct error error;

    *filter = NULL;
    if (is_absent(json))
        return FILTER_READY;
    worker_spend(session_worker(session), json.token.length * FILTER_DEPTH_MAX); /* each level is walked through */
    if (session->server->config->tag_filtering.enabled)
        result = filter_intern(channel_hub_filters(session->server->channels, session_worker(session)),
                               session->slot->budget, channel, json, filter, &error);
    else
        result = check_filter(json, &error);
    if (result == FILTER_REFUSED) {
        session_counted_error(session, CONNECTION_ERROR_INVALID_MESSAGE_FORMAT);
        session_refused(session, REFUSED_MESSAGE);
        session_error(session, 4300, "Invalid message format: Invalid tags filter: %s", error.text);
    }
    return result;
}

void session_drop_filter(struct session *session, struct filter *filter) {
    filter_release(channel_hub_filters(session->server->channels, session_worker(session)), filter);
}
