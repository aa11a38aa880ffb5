/*
 * GET /apps/{id}/channels, /channels/{name}, /channels/{name}/users and /connections.
 */
#include <stdlib.h>

#include "api/api_call.h"
#include "api/dispatch.h"
#include "api/list_thread.h"
#include "api/publish_body.h"
#include "base/alloc.h"
#include "base/json.h"

/* --- what other nodes have --- */

/* A call that waits until other nodes were asked about its channel. */
struct channel_hearing {
    struct channel_waiter waiter;
    struct api_call *call;
};

/* The app may have changed or gone meanwhile, so the call begins again with the search for it. */
static void on_channel_heard(struct channel_waiter *waiter) {
    struct channel_hearing *hearing = container_of(waiter, struct channel_hearing, waiter);
    struct api_call *call = hearing->call;

    free(hearing);
    api_call_resume(call);
    call->heard = true;
    api_dispatch_again(call);
}

static void abandon_hearing(struct api_call *call) {
    struct channel_hearing *hearing = call->waits_for;

    channel_await_end(&hearing->waiter);
    free(hearing);
}

/* Asks other nodes about a channel of which nodes tell each other everything, unless this one is in the picture
 * already. True: the call waits, and begins again. */
static bool hear_of_channel(struct api_call *call, struct slice name) {
    struct channel_type type = channel_type_of(name);
    struct channel_hub *hub = call->api->channels;
    struct channel_hearing *hearing;

    if (call->heard || !channel_hub_waits(hub) || (type.kind != CHANNEL_PRESENCE && !type.caches))
        return false;
    hearing = alloc(sizeof *hearing);
    *hearing = (struct channel_hearing){.waiter.ready = on_channel_heard, .call = call};
    api_call_wait(call, hearing, abandon_hearing);
    if (channel_await(hub, call->lookup.slot, call->worker, name, &hearing->waiter) == CHANNEL_WAITS)
        return true;
    api_call_resume(call);
    free(hearing);
    return false;
}

static unsigned asked_info(const struct api_call *call) {
    struct slice text;

    return query_find(call->query, SLICE("info"), &text) ? info_parse(text) : 0;
}

/* --- the list --- */

/* Longer lists are made by a thread: this many entries take a worker about half a millisecond. */
#define LIST_AT_ONCE_MOST 500

struct listing {
    struct buffer *answer;
    unsigned info;
    bool any;
};

static void append_channel(void *context, struct slice name, struct channel_type type, struct channel_counts counts) {
    struct listing *listing = context;

    if (listing->any)
        buffer_append_byte(listing->answer, ',');
    listing->any = true;
    json_append_string(listing->answer, name);
    buffer_append(listing->answer, SLICE(":{"));
    info_append_counts(listing->answer, listing->info, type, counts);
    buffer_append_byte(listing->answer, '}');
}

static void append_channel_list(struct buffer *answer, struct app_slot *slot, struct slice prefix, unsigned info) {
    struct listing listing = {.answer = answer, .info = info};

    buffer_append(answer, SLICE("{\"channels\":{"));
    if (slot != NULL)
        channel_each(slot, prefix, append_channel, &listing);
    buffer_append(answer, SLICE("}}"));
}

static void append_user_list(struct buffer *answer, struct app_slot *slot, struct slice name, unsigned info) {
    (void)info;
    buffer_append(answer, SLICE("{\"users\":["));
    if (slot != NULL)
        channel_append_users(slot, name, answer);
    buffer_append(answer, SLICE("]}"));
}

/* Answers with a list, at once or later. */
static void answer_list(struct api_call *call, const struct list_request *request) {
    struct buffer answer = {0};

    if (call->listed != NULL) {
        api_answer_frame(call, SLICE(""), call->listed);
        return;
    }
    if (request->count > LIST_AT_ONCE_MOST) {
        list_answer_later(call->api->lists, call, request);
        return;
    }
    request->append(&answer, call->lookup.slot, request->text, request->info);
    api_answer(call, buffer_slice(&answer));
    buffer_dispose(&answer);
}

void api_get_channels(struct api_call *call) {
    struct list_request request = {.text = SLICE_INIT(""), .info = asked_info(call), .append = append_channel_list};

    (void)query_find(call->query, SLICE("filter_by_prefix"), &request.text);
    if ((request.info & INFO_USER_COUNT) && !slice_starts_with(request.text, SLICE("presence-"))) {
        api_refuse(call, 400, REFUSED_REQUEST,
                   "`info`: user_count is known of presence channels only: give a `filter_by_prefix` that begins with "
                   "presence-");
        return;
    }
    request.count = channel_count_all(call->lookup.slot);
    answer_list(call, &request);
}

/* --- one channel --- */

static bool check_channel_name(struct api_call *call, struct slice name) {
    if (!channel_name_valid(name)) {
        api_refuse(call, 400, REFUSED_REQUEST,
                   "the path names a channel that cannot exist: letters, digits and "
                   "_-=@,.;:# are allowed");
        return false;
    }
    return true;
}

static void append_cached(struct buffer *answer, const struct channel_info *info) {
    if (info->cached_data.length == 0) {
        buffer_append(answer, SLICE(",\"cache\":null"));
        return;
    }
    buffer_append(answer, SLICE(",\"cache\":{\"data\":"));
    buffer_append(answer, buffer_slice(&info->cached_data));
    if (info->cached_ttl_s != 0) {
        buffer_append(answer, SLICE(",\"ttl\":"));
        buffer_append_number(answer, info->cached_ttl_s);
    }
    buffer_append_byte(answer, '}');
}

void api_get_channel(struct api_call *call) {
    struct slice name = call->parameters[1];
    struct channel_type type = channel_type_of(name);
    unsigned asked = asked_info(call);
    struct channel_info info;
    struct buffer answer = {0};

    if (!check_channel_name(call, name))
        return;
    if ((asked & INFO_USER_COUNT) && type.kind != CHANNEL_PRESENCE) {
        api_refuse(call, 400, REFUSED_REQUEST, "`info`: user_count is known of presence channels only");
        return;
    }
    if (hear_of_channel(call, name))
        return;
    channel_inspect(call->lookup.slot, name, (asked & INFO_CACHE) != 0, &info);
    buffer_append(&answer, info.occupied ? SLICE("{\"occupied\":true") : SLICE("{\"occupied\":false"));
    if (asked & (INFO_USER_COUNT | INFO_SUBSCRIPTION_COUNT)) {
        buffer_append_byte(&answer, ',');
        info_append_counts(&answer, asked, type, info.counts);
    }
    if (asked & INFO_CACHE)
        append_cached(&answer, &info);
    buffer_append_byte(&answer, '}');
    api_answer(call, buffer_slice(&answer));
    buffer_dispose(&info.cached_data);
    buffer_dispose(&answer);
}

void api_get_channel_users(struct api_call *call) {
    struct slice name = call->parameters[1];
    struct channel_info info;

    if (!check_channel_name(call, name))
        return;
    if (channel_type_of(name).kind != CHANNEL_PRESENCE) {
        api_refuse(call, 400, REFUSED_REQUEST, "only a presence channel has users: its name begins with presence-");
        return;
    }
    if (call->listed == NULL && hear_of_channel(call, name))
        return;
    channel_inspect(call->lookup.slot, name, false, &info);
    answer_list(call, &(struct list_request){.text = name, .append = append_user_list, .count = info.counts.users});
}

/* --- connections --- */

void api_get_connections(struct api_call *call) {
    struct buffer answer = {0};

    buffer_append(&answer, SLICE("{\"connections\":"));
    buffer_append_number(&answer, slot_connections(call->lookup.slot));
    buffer_append_byte(&answer, '}');
    api_answer(call, buffer_slice(&answer));
    buffer_dispose(&answer);
}
