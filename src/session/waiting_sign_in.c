#include "session/waiting_sign_in.h"

#include <stdlib.h>

static size_t sign_in_bytes(const struct waiting_sign_in *sign_in, uint32_t capacity) {
    return alloc_footprint(sizeof *sign_in + capacity * sizeof sign_in->users[0]) +
           alloc_footprint(sign_in->token.length) + alloc_footprint(sign_in->user_data.length);
}

struct waiting_sign_in *waiting_sign_in_create(struct session *session, struct slice token, struct slice user_data,
                                               uint32_t capacity, void (*ready)(struct waiting_sign_in *sign_in)) {
    struct waiting_sign_in *sign_in = alloc_zero(sizeof *sign_in + capacity * sizeof sign_in->users[0]);

    sign_in->session = session;
    sign_in->slot = session->slot;
    sign_in->ready = ready;
    sign_in->answers = 1;
    sign_in->token.length = token.length;
    sign_in->user_data.length = user_data.length;
    if (!budget_take(BUDGET_PRESENCE, session->slot->budget, sign_in_bytes(sign_in, capacity))) {
        free(sign_in);
        return NULL;
    }
    sign_in->capacity = capacity;
    sign_in->token.data = alloc_copy(token.data, token.length);
    sign_in->user_data.data = alloc_copy(user_data.data, user_data.length);
    return sign_in;
}

static void waited_user_heard(struct channel_waiter *waiter) {
    struct waiting_sign_in *sign_in = container_of(waiter, struct waited_user, waiter)->sign_in;

    if (--sign_in->left == 0)
        sign_in->ready(sign_in);
}

bool waiting_sign_in_add(struct waiting_sign_in *sign_in, struct slice user_id) {
    struct session *session = sign_in->session;
    struct waited_user *user = &sign_in->users[sign_in->count];
    struct buffer name = {0};
    enum channel_joined awaited;

    user->waiter.ready = waited_user_heard;
    user->sign_in = sign_in;
    buffer_append(&name, SLICE(USER_CHANNEL_PREFIX));
    buffer_append(&name, user_id);
    awaited = channel_await(session->server->channels, session->slot, session_worker(session), buffer_slice(&name),
                            &user->waiter);
    buffer_dispose(&name);
    if (awaited == CHANNEL_WAITS) {
        sign_in->count++;
        sign_in->left++;
    }
    return awaited != CHANNEL_NO_MEMORY;
}

void waiting_sign_in_destroy(struct waiting_sign_in *sign_in) {
    for (uint32_t i = 0; i < sign_in->count; i++)
        channel_await_end(&sign_in->users[i].waiter);
    budget_give(BUDGET_PRESENCE, sign_in->slot->budget, sign_in_bytes(sign_in, sign_in->capacity));
    free((char *)sign_in->token.data);
    free((char *)sign_in->user_data.data);
    free(sign_in);
}
