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
#include "cluster/cluster.h"
#include "cluster/requests.h"

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

/* A call that waits for what other nodes have of channels. */
struct call_question {
    struct question question;
    struct api_call *call; /* NULL: the client has gone */
    char text[];           /* the app's id and the name */
};

static void on_question_answered(struct question *question) {
    struct call_question *asked = container_of(question, struct call_question, question);
    struct api_call *call = asked->call;

    if (call != NULL) {
        api_call_resume(call);
        call->asked = true;
        call->incomplete = !question->complete;
        call->answers = question->answers;
        api_dispatch_again(call);
    } else {
        buffer_dispose(&question->answers);
    }
    free(asked);
}

static void abandon_question(struct api_call *call) {
    ((struct call_question *)call->waits_for)->call = NULL;
}

/* Asks other nodes. True: the call waits, and begins again. */
static bool ask_other_nodes(struct api_call *call, enum question_kind kind, struct slice name) {
    struct slice app = slice_of(call->lookup.slot->id);
    struct call_question *asked;

    if (call->asked || call->api->cluster == NULL)
        return false;
    asked = alloc_zero(sizeof *asked + app.length + name.length);
    memcpy(asked->text, app.data, app.length);
    if (name.length != 0)
        memcpy(asked->text + app.length, name.data, name.length);
    asked->call = call;
    asked->question = (struct question){.kind = kind,
                                        .app = {asked->text, app.length},
                                        .name = {asked->text + app.length, name.length},
                                        .worker = call->worker,
                                        .answered = on_question_answered};
    api_call_wait(call, asked, abandon_question);
    if (cluster_ask(call->api->cluster, &asked->question))
        return true;
    api_call_resume(call);
    free(asked);
    return false;
}

static unsigned asked_info(const struct api_call *call) {
    struct slice text;

    return query_find(call->query, SLICE("info"), &text) ? info_parse(text) : 0;
}

/* --- the list --- */

/* Longer lists are made by a thread: this many entries take a worker about half a millisecond. */
#define LIST_AT_ONCE_MOST 500

/* What another node's answer has at least of a channel. */
#define ANSWER_BYTES 13

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

static void add_own_channel(void *context, struct slice name, struct channel_type type, struct channel_counts counts) {
    (void)type;
    requests_add(context, &(struct channel_answer){name, counts.subscriptions, counts.users});
}

static int compare_answers(const void *a, const void *b) {
    return slice_compare(((const struct channel_answer *)a)->name, ((const struct channel_answer *)b)->name);
}

/* Sorts the elements of two lists. Returns an array that the caller frees. */
static struct channel_answer *sort_answers(struct slice own, struct slice others, size_t *count) {
    struct channel_answer *list = NULL, answer;
    size_t room = 0;

    *count = 0;
    while (requests_next(&own, &answer) || requests_next(&others, &answer)) {
        if (*count == room) {
            room = room == 0 ? 64 : room * 2;
            list = alloc_array(list, room, sizeof *list);
        }
        list[(*count)++] = answer;
    }
    if (list != NULL)
        qsort(list, *count, sizeof *list, compare_answers);
    return list;
}

/* Subscriptions are added. Each node knows the users of all nodes in the channels that it has. */
static void append_merged_list(struct listing *listing, struct app_slot *slot, const struct list_request *request) {
    struct channel_answer *list;
    struct buffer own = {0};
    size_t count, at = 0;

    if (slot != NULL)
        channel_each(slot, request->text, add_own_channel, &own);
    list = sort_answers(buffer_slice(&own), buffer_slice(&request->others), &count);
    while (at < count) {
        struct channel_counts counts = {0};
        struct slice name = list[at].name;

        for (; at < count && slice_equal(list[at].name, name); at++) {
            counts.subscriptions += list[at].subscriptions;
            if (counts.users < list[at].users)
                counts.users = list[at].users;
        }
        append_channel(listing, name, channel_type_of(name), counts);
    }
    free(list);
    buffer_dispose(&own);
}

static void append_channel_list(struct buffer *answer, struct app_slot *slot, const struct list_request *request) {
    struct listing listing = {.answer = answer, .info = request->info};

    buffer_append(answer, SLICE("{\"channels\":{"));
    if (request->others.length != 0)
        append_merged_list(&listing, slot, request);
    else if (slot != NULL)
        channel_each(slot, request->text, append_channel, &listing);
    buffer_append_byte(answer, '}');
    info_append_incomplete(answer, request->incomplete);
    buffer_append_byte(answer, '}');
}

static void append_user_list(struct buffer *answer, struct app_slot *slot, const struct list_request *request) {
    buffer_append(answer, SLICE("{\"users\":["));
    if (slot != NULL)
        channel_append_users(slot, request->text, answer);
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
        call->answers = (struct buffer){0}; /* the list has them */
        list_answer_later(call->api->lists, call, request);
        return;
    }
    request->append(&answer, call->lookup.slot, request);
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
    if (call->listed == NULL && ask_other_nodes(call, QUESTION_PREFIX, request.text))
        return;
    request.others = call->answers;
    request.incomplete = call->incomplete;
    request.count = channel_count_all(call->lookup.slot) + call->answers.length / ANSWER_BYTES;
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

/* Of presence and cache channels nodes tell each other all but the number of subscriptions. */
static bool needs_counts(unsigned asked, struct channel_type type) {
    return (asked & INFO_SUBSCRIPTION_COUNT) != 0 || (type.kind != CHANNEL_PRESENCE && !type.caches);
}

/* Adds what other nodes have answered to the own subscriptions. */
static void add_other_counts(const struct api_call *call, struct channel_info *info) {
    struct slice answers = buffer_slice(&call->answers);
    struct channel_answer answer;

    info->counts.subscriptions = info->own_subscriptions;
    info->occupied = info->own_subscriptions != 0;
    while (requests_next(&answers, &answer)) {
        info->occupied = true;
        info->counts.subscriptions += answer.subscriptions;
        if (info->counts.users < answer.users)
            info->counts.users = answer.users;
    }
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
    if (hear_of_channel(call, name) || (needs_counts(asked, type) && ask_other_nodes(call, QUESTION_CHANNEL, name)))
        return;
    channel_inspect(call->lookup.slot, name, (asked & INFO_CACHE) != 0, &info);
    if (call->asked)
        add_other_counts(call, &info);
    buffer_append(&answer, info.occupied ? SLICE("{\"occupied\":true") : SLICE("{\"occupied\":false"));
    if (asked & (INFO_USER_COUNT | INFO_SUBSCRIPTION_COUNT)) {
        buffer_append_byte(&answer, ',');
        info_append_counts(&answer, asked, type, info.counts);
    }
    if (asked & INFO_CACHE)
        append_cached(&answer, &info);
    info_append_incomplete(&answer, call->incomplete);
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

    if (ask_other_nodes(call, QUESTION_CONNECTIONS, SLICE("")))
        return;
    buffer_append(&answer, SLICE("{\"connections\":"));
    buffer_append_number(&answer,
                         slot_connections(call->lookup.slot) + requests_connections(buffer_slice(&call->answers)));
    if (call->incomplete)
        buffer_append(&answer, SLICE(",\"connections_complete\":false"));
    buffer_append_byte(&answer, '}');
    api_answer(call, buffer_slice(&answer));
    buffer_dispose(&answer);
}
