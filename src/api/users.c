/*
 * POST /apps/{id}/users/{user}/terminate_connections and /force_reconnect.
 */
#include "api/api_call.h"

static void close_user(struct api_call *call, bool reconnect) {
    struct slice user = call->parameters[1];

    if (user.length > USER_ID_MAX) {
        api_refuse(call, 400, REFUSED_REQUEST, "the user's id in the path is over %d bytes", USER_ID_MAX);
        return;
    }
    channel_terminate_user(call->api->channels, call->lookup.slot, call->worker, user, reconnect);
    api_answer(call, SLICE("{}"));
}

void api_terminate_user(struct api_call *call) {
    close_user(call, false);
}

void api_reconnect_user(struct api_call *call) {
    close_user(call, true);
}
