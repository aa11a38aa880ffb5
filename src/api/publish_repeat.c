#include "api/publish_repeat.h"

#include <stdlib.h>

#include "api/dispatch.h"
#include "api/idempotency.h"
#include "api/publish_claim.h"
#include "api/request_rates.h"
#include "base/alloc.h"

#define HEADER SLICE("x-idempotency-key")

/* A call that waits for the first one with its key; woken by the message to its worker. */
struct waiting_call {
    struct idempotency_waiter waiter;
    struct message message;
    struct worker *worker;
    struct api_call *call; /* NULL: the client has gone; the worker's */
    struct frame *answer;  /* of the first call, with a reference; NULL: it was refused */
};

/* --- the key --- */

static bool key_is_valid(struct slice key) {
    for (size_t i = 0; i < key.length; i++)
        if (key.data[i] < ' ' || key.data[i] > '~')
            return false;
    return key.length != 0 && key.length <= IDEMPOTENCY_KEY_MAX;
}

/* False after a 400. `key` is unchanged if there is no header. */
static bool read_header_key(struct api_call *call, struct slice *key) {
    for (unsigned i = 0; i < call->request->header_count; i++) {
        const struct http_header *header = &call->request->headers[i];
        if (!slice_equal_ignoring_case(header->name, HEADER))
            continue;
        if (!key_is_valid(header->value)) {
            api_refuse(call, 400, REFUSED_REQUEST, "X-Idempotency-Key must be 1 to %d printable characters of ASCII",
                       IDEMPOTENCY_KEY_MAX);
            return false;
        }
        if (key->length != 0 && !slice_equal(*key, header->value)) {
            api_refuse(call, 400, REFUSED_REQUEST, "X-Idempotency-Key is there more than once, with different values");
            return false;
        }
        *key = header->value;
    }
    return true;
}

/* False after a 400. `key` is unchanged if there is no member. */
static bool read_member_key(struct api_call *call, struct json_value member, struct buffer *scratch,
                            struct slice *key) {
    struct slice value;

    if (member.type == JSON_TYPE_ABSENT || member.type == JSON_TYPE_NULL)
        return true;
    value = member.type == JSON_TYPE_STRING ? json_decode_string(member, scratch) : SLICE("");
    if (!key_is_valid(value)) {
        api_refuse(call, 400, REFUSED_REQUEST,
                   "`idempotency_key` must be a string of 1 to %d printable characters of ASCII", IDEMPOTENCY_KEY_MAX);
        return false;
    }
    if (key->length != 0 && !slice_equal(*key, value)) {
        api_refuse(call, 400, REFUSED_REQUEST,
                   "`idempotency_key` and the header X-Idempotency-Key differ: give one of them");
        return false;
    }
    *key = value;
    return true;
}

/* --- waiting --- */

static void forget_waiting(struct api_call *call) {
    ((struct waiting_call *)call->waits_for)->call = NULL;
}

/* The app may have changed or gone meanwhile, so the call begins again with the search for it. */
static void on_woken(struct worker *worker, struct message *message, struct message **rest) {
    struct waiting_call *waiting = container_of(message, struct waiting_call, message);
    struct api_call *call = waiting->call;

    (void)worker;
    (void)rest;
    if (call != NULL) {
        api_call_resume(call);
        call->repeated = waiting->answer;
        api_dispatch_again(call);
    } else if (waiting->answer != NULL) {
        frame_unref(waiting->answer);
    }
    free(waiting);
}

/* On the thread of the first call. */
static void wake_waiting(struct idempotency_waiter *waiter, struct frame *answer) {
    struct waiting_call *waiting = container_of(waiter, struct waiting_call, waiter);

    waiting->answer = answer;
    worker_post(waiting->worker, &waiting->message);
}

/* --- the way of a request --- */

/* A repeat costs a read: it publishes nothing, and must not be free. */
static void answer_repeat(struct api_call *call, struct frame *answer) {
    if (request_rate_take_read(call))
        api_answer_with(call, 200, SLICE(""), SLICE("Idempotency-Replayed: true\r\n"),
                        (struct slice){answer->bytes, answer->length});
    frame_unref(answer);
}

static void refuse_other_body(struct api_call *call) {
    api_refuse(call, 422, REFUSED_REQUEST,
               "the idempotency key was used for a request with another body in the last %d s", REPEAT_LIFETIME_S);
}

static bool look_up_key(struct api_call *call, char kind, struct slice key) {
    struct waiting_call *waiting = alloc_zero(sizeof *waiting);
    struct idempotency_request request = {.app_id = slice_of(call->lookup.slot->id), .kind = kind, .key = key};
    struct frame *answer;

    (void)query_find(call->query, SLICE("body_md5"), &request.digest); /* it is there and verified */
    waiting->waiter.wake = wake_waiting;
    waiting->message.handle = on_woken;
    waiting->worker = call->worker;
    waiting->call = call;
    /* Before another thread can know of it; the other states do not wait. */
    api_call_wait(call, waiting, forget_waiting);
    switch (idempotency_begin(call->api->idempotency, &request, call->worker->now_ms, &waiting->waiter, &call->repeat,
                              &answer)) {
    case IDEMPOTENCY_WAIT:
        return false;
    case IDEMPOTENCY_NEW:
        api_call_resume(call);
        if (claim_is_due(call))
            claim_begin(call, &(struct claim_key){request.app_id, kind, key, request.digest});
        break;
    case IDEMPOTENCY_REPLAY:
        api_call_resume(call);
        answer_repeat(call, answer);
        break;
    case IDEMPOTENCY_CONFLICT:
        api_call_resume(call);
        refuse_other_body(call);
        break;
    }
    free(waiting);
    return call->repeat != NULL;
}

bool repeat_begin(struct api_call *call, char kind, struct json_value member) {
    struct slice key = SLICE("");
    struct buffer scratch = {0};
    bool publishes = false;

    if (read_header_key(call, &key) && read_member_key(call, member, &scratch, &key)) {
        if (key.length == 0) {
            publishes = true;
        } else if (call->repeated != NULL) {
            answer_repeat(call, call->repeated);
            call->repeated = NULL;
        } else if (call->claim != NULL) {
            publishes = claim_ended(call);
            if (!publishes)
                refuse_other_body(call);
        } else {
            publishes = look_up_key(call, kind, key);
        }
    }
    buffer_dispose(&scratch);
    return publishes;
}

void repeat_accepted(struct api_call *call, struct slice body) {
    claim_keep(call);
    if (call->repeat != NULL)
        idempotency_finish(call->api->idempotency, call->repeat, body, call->worker->now_ms);
    call->repeat = NULL;
    api_answer(call, body);
}

void repeat_refused(struct api_call *call) {
    if (call->repeat != NULL)
        idempotency_abandon(call->api->idempotency, call->repeat);
    call->repeat = NULL;
}
