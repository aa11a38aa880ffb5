/*
 * POST /apps/{id}/users/{user}/terminate_connections.
 */
#include "api/api_call.h"

void api_terminate_user(struct api_call *call) {
    struct slice user = call->parameters[1];

    if (user.length > USER_ID_MAX) {
        api_refuse(call, 400, REFUSED_REQUEST, "the user's id in the path is over %d bytes", USER_ID_MAX);
        return;
    }
    channel_terminate_user(call->api->channels, call->lookup.slot, call->worker, user);
    api_answer(call, SLICE("{}"));
}
