/*
 * POST /apps/{id}/events and /apps/{id}/batch_events.
 *
 * A body is validated once and then read in place; only names with escapes are copied. A body is refused before any of
 * its events is published.
 */
#include <stdlib.h>

#include "api/api_call.h"
#include "api/publish_body.h"
#include "api/publish_counts.h"
#include "api/publish_repeat.h"
#include "api/request_rates.h"
#include "base/utf8.h"

/* The channels of an event; a few need no allocation. */
struct targets {
    struct slice *names;
    size_t count;
    struct slice inline_names[16];
    struct buffer decoded; /* names with escapes */
};

static void targets_dispose(struct targets *targets) {
    if (targets->names != targets->inline_names)
        free(targets->names);
    buffer_dispose(&targets->decoded);
}

static void refuse_publish(struct api_call *call, const struct event_refusal *refusal) {
    repeat_refused(call);
    api_refuse_with(call, refusal->status, refusal->reason, SLICE(""), refusal->error.text);
}

static bool check_body(const struct http_request *request, struct event_refusal *refusal) {
    if (request->body.length == 0)
        return event_refuse(refusal, REFUSED_REQUEST, "the body is empty: it must be a JSON object");
    if (!utf8_valid(request->body))
        return event_refuse(refusal, REFUSED_REQUEST, "the body is not valid UTF-8");
    return true;
}

static void publish_event(struct api_call *call, const struct event *event, struct slice data,
                          const struct slice *names, size_t count, struct channel_counts *counts) {
    struct cached_event *shared = NULL;
    size_t delta_work = 0;
    const struct channel_event published = {
        .event = event->members[EVENT_NAME].token,
        .data = data,
        .tags = event->tags,
        .whole = event->whole,
        .except_socket = event->has_socket_id ? &event->socket_id : NULL,
        .keep = true,
        .shared = count > 1 ? &shared : NULL,
        .delta_work = count > 1 ? &delta_work : NULL,
    };

    for (size_t i = 0; i < count; i++)
        channel_publish(call->api->channels, call->lookup.slot, call->worker, names[i], &published,
                        counts != NULL ? &counts[i] : NULL);
    channel_event_end(shared);
    counter_add(&slot_part(call->lookup.slot, call->worker)->counters.publishes, count);
}

/* While other processes have clients: refuses what might not reach those. */
static bool check_relay_room(struct api_call *call, size_t bytes) {
    const char *refusal = channel_relay_refusal(call->api->channels, call->lookup.slot, bytes);

    if (refusal == NULL)
        return true;
    repeat_refused(call);
    api_refuse_with(call, 503, REFUSED_REQUEST, SLICE("Retry-After: 1\r\n"), refusal);
    return false;
}

/* --- one event --- */

static int compare_names(const void *a, const void *b) {
    const struct slice *const *first = a, *const *second = b;
    int difference = slice_compare(**first, **second);

    if (difference == 0) /* equal names in their order, so that the first one stays */
        return *first < *second ? -1 : *first > *second;
    return difference;
}

/* A channel that is named twice gets the event once. */
static bool drop_repeated(struct targets *targets) {
    struct slice **sorted;
    size_t kept = 0;

    if (targets->count < 2)
        return true;
    sorted = malloc(targets->count * sizeof(struct slice *));
    if (sorted == NULL)
        return false;
    for (size_t i = 0; i < targets->count; i++)
        sorted[i] = &targets->names[i];
    qsort(sorted, targets->count, sizeof(struct slice *), compare_names);
    for (size_t i = targets->count - 1; i != 0; i--)
        if (slice_equal(*sorted[i], *sorted[i - 1]))
            sorted[i]->length = 0;
    free(sorted);
    for (size_t i = 0; i < targets->count; i++)
        if (targets->names[i].length != 0)
            targets->names[kept++] = targets->names[i];
    targets->count = kept;
    return true;
}

static size_t count_elements(struct json_value array) {
    struct json_iterator iterator = json_iterate(array);
    struct json_value element;
    size_t count = 0;

    while (json_next(&iterator, NULL, &element))
        count++;
    return count;
}

static bool refuse_for_memory(struct event_refusal *refusal, size_t count) {
    event_refuse(refusal, REFUSED_EVENT_CHANNELS, "`channels` names %zu channels, more than there is memory for",
                 count);
    refusal->status = 413;
    return false;
}

static bool read_channel_list(const struct app *app, struct json_value list, struct targets *targets,
                              struct event_refusal *refusal) {
    struct json_iterator iterator = json_iterate(list);
    struct json_value element;
    size_t count = count_elements(list);

    if (count == 0)
        return event_refuse(refusal, REFUSED_REQUEST, "`channels` must name at least one channel");
    if (limit_exceeded(app->max_event_channels_at_once, count))
        return event_refuse(refusal, REFUSED_EVENT_CHANNELS,
                            "`channels` names %zu channels, which is over max_event_channels_at_once = %u", count,
                            app->max_event_channels_at_once);
    if (count > sizeof targets->inline_names / sizeof targets->inline_names[0])
        targets->names = malloc(count * sizeof targets->names[0]);
    /* Decoding never lengthens a name: with this space the buffer does not move. */
    if (targets->names == NULL || (memchr(list.token.data, '\\', list.token.length) != NULL &&
                                   !buffer_try_reserve(&targets->decoded, list.token.length)))
        return refuse_for_memory(refusal, count);
    while (json_next(&iterator, NULL, &element)) {
        if (!event_check_channel(app, element, "channels", &targets->decoded, &targets->names[targets->count], refusal))
            return false;
        targets->count++;
    }
    return drop_repeated(targets) || refuse_for_memory(refusal, count);
}

static bool read_targets(const struct app *app, const struct event *event, struct targets *targets,
                         struct event_refusal *refusal) {
    struct json_value one = event->members[EVENT_CHANNEL], list = event->members[EVENT_CHANNELS];
    bool has_one = event_has(event, EVENT_CHANNEL), has_list = event_has(event, EVENT_CHANNELS);

    if (has_one == has_list)
        return event_refuse(refusal, REFUSED_REQUEST,
                            has_one ? "`channel` and `channels` are both there: give one of them"
                                    : "`channel` or `channels` must say where the event goes");
    if (has_list && list.type != JSON_TYPE_ARRAY)
        return event_refuse(refusal, REFUSED_REQUEST, "`channels` must be an array of strings: names of channels");
    if (has_list)
        return read_channel_list(app, list, targets, refusal);
    targets->count = 1;
    return event_check_channel(app, one, "channel", &targets->decoded, &targets->names[0], refusal);
}

static void publish_with_info(struct api_call *call, const struct event *event, struct slice data,
                              const struct targets *targets) {
    struct counts *counts = counts_create(targets->count, false);
    struct channel_counts *known = calloc(targets->count, sizeof known[0]);

    if (counts == NULL || known == NULL) {
        counts_free(counts);
        free(known);
        repeat_refused(call);
        api_refuse(call, 413, REFUSED_EVENT_CHANNELS, "`channels` names more channels than there is memory for");
        return;
    }
    publish_event(call, event, data, targets->names, targets->count, known);
    for (size_t i = 0; i < targets->count; i++)
        counts_add(counts, event->info, targets->names[i], known[i]);
    counts_answer(counts, call);
    free(known);
}

static void publish_checked(struct api_call *call, const struct event *event, const struct targets *targets,
                            struct buffer *scratch) {
    struct slice data = event_data(event, scratch);
    size_t bytes = event->members[EVENT_NAME].token.length + data.length + event->members[EVENT_TAGS].token.length;

    if (!check_relay_room(call, targets->count * (bytes + CHANNEL_RELAY_BYTES)))
        return;
    if (!request_rate_take_events(call, targets->count)) {
        repeat_refused(call);
    } else if (event->info != 0) {
        publish_with_info(call, event, data, targets);
    } else {
        publish_event(call, event, data, targets->names, targets->count, NULL);
        repeat_accepted(call, SLICE("{}"));
    }
}

void api_post_event(struct api_call *call) {
    const struct app *app = call->lookup.app;
    struct event_refusal refusal;
    struct targets targets;
    struct buffer scratch = {0};
    struct event event;

    if (counts_answered(call))
        return;
    targets.names = targets.inline_names;
    targets.count = 0;
    targets.decoded = (struct buffer){0};
    event.tags = NULL;
    if (!check_body(call->request, &refusal) || !event_scan(call->request->body, &event, &refusal)) {
        refuse_publish(call, &refusal);
    } else if (repeat_begin(call, 'e', event.members[EVENT_IDEMPOTENCY_KEY])) {
        if (!event_fits(app, channel_relay_most_bytes(call->api->channels), &event, &refusal) ||
            !event_check(app, &event, &scratch, &refusal) || !read_targets(app, &event, &targets, &refusal))
            refuse_publish(call, &refusal);
        else
            publish_checked(call, &event, &targets, &scratch);
    }
    event_dispose(&event);
    targets_dispose(&targets);
    buffer_dispose(&scratch);
}

/* --- a batch --- */

/* Checks one item, but not the size of its data. */
static bool check_item(const struct app *app, struct event *event, struct buffer *scratch, struct buffer *decoded,
                       struct slice *channel, struct event_refusal *refusal) {
    decoded->length = 0;
    if (!event_check(app, event, scratch, refusal))
        return false;
    if (event_has(event, EVENT_IDEMPOTENCY_KEY))
        return event_refuse(refusal, REFUSED_REQUEST,
                            "`idempotency_key` is not taken in an event of a batch: give it beside `batch`");
    if (event_has(event, EVENT_CHANNELS))
        return event_refuse(refusal, REFUSED_REQUEST,
                            "`channels` is not taken: an event of a batch goes to one `channel`");
    if (!event_has(event, EVENT_CHANNEL))
        return event_refuse(refusal, REFUSED_REQUEST, "`channel` is missing: an event of a batch goes to one channel");
    return event_check_channel(app, event->members[EVENT_CHANNEL], "channel", decoded, channel, refusal);
}

/*
 * Checks and counts all items, and sees whether one asks for info. Data that is too large (413) takes precedence over
 * other faults (400), so the check continues after the first faulty item.
 */
static bool check_batch(const struct app *app, size_t most_bytes, struct json_value batch, unsigned *info,
                        size_t *count, struct event_refusal *refusal) {
    struct json_iterator iterator = json_iterate(batch);
    struct buffer scratch = {0}, decoded = {0};
    bool valid = true, fits = true;
    struct json_value item;
    size_t index = 0;

    for (; fits && json_next(&iterator, NULL, &item); index++) {
        struct event_refusal found;
        struct event event;
        struct slice channel;
        bool good = event_scan(item.token, &event, &found);

        fits = !good || event_fits(app, most_bytes, &event, &found);
        good = good && fits && check_item(app, &event, &scratch, &decoded, &channel, &found);
        event_dispose(&event);
        if (good)
            *info |= event.info;
        if (!good && (valid || !fits)) {
            *refusal = found;
            error_prefix(&refusal->error, "batch[%zu]", index);
            valid = false;
        }
    }
    if (valid && limit_exceeded(app->max_event_batch_size, index))
        valid = event_refuse(refusal, REFUSED_BATCH_SIZE,
                             "Batch too large (%zu > %u): `batch` holds %zu events, and max_event_batch_size is %u",
                             index, app->max_event_batch_size, index, app->max_event_batch_size);
    buffer_dispose(&scratch);
    buffer_dispose(&decoded);
    *count = index;
    return valid;
}

/* Publishes the checked items. They are parsed again, not kept: their number has no bound here. */
static void publish_batch(struct api_call *call, struct json_value batch, struct counts *counts) {
    struct json_iterator iterator = json_iterate(batch);
    struct buffer scratch = {0}, decoded = {0};
    struct event_refusal refusal;
    struct channel_counts known = {0};
    struct json_value item;
    struct slice channel;
    struct event event;

    while (json_next(&iterator, NULL, &item)) {
        if (!event_scan(item.token, &event, &refusal) ||
            !check_item(call->lookup.app, &event, &scratch, &decoded, &channel, &refusal)) {
            event_dispose(&event);
            continue;
        }
        publish_event(call, &event, event_data(&event, &scratch), &channel, 1, event.info != 0 ? &known : NULL);
        if (counts != NULL)
            counts_add(counts, event.info, channel, known);
        event_dispose(&event);
    }
    buffer_dispose(&scratch);
    buffer_dispose(&decoded);
}

/* The members of the body of a batch. */
enum { BATCH_EVENTS, BATCH_IDEMPOTENCY_KEY, BATCH_MEMBERS };

static bool scan_batch(struct api_call *call, struct json_value members[BATCH_MEMBERS], struct event_refusal *refusal) {
    static const struct slice names[BATCH_MEMBERS] = {SLICE_INIT("batch"), SLICE_INIT("idempotency_key")};
    struct error error;

    if (!check_body(call->request, refusal))
        return false;
    if (!json_scan_object(call->request->body, names, members, BATCH_MEMBERS, &error))
        return event_refuse(refusal, REFUSED_REQUEST, "the body must be a JSON object: %s", error.text);
    if (members[BATCH_EVENTS].type != JSON_TYPE_ARRAY)
        return event_refuse(refusal, REFUSED_REQUEST, "`batch` must be an array of events");
    return true;
}

void api_post_batch(struct api_call *call) {
    struct json_value members[BATCH_MEMBERS];
    struct event_refusal refusal;
    struct counts *counts = NULL;
    unsigned info = 0;
    size_t count;

    if (counts_answered(call))
        return;
    if (!scan_batch(call, members, &refusal)) {
        refuse_publish(call, &refusal);
        return;
    }
    if (!repeat_begin(call, 'b', members[BATCH_IDEMPOTENCY_KEY]))
        return;
    if (!check_batch(call->lookup.app, channel_relay_most_bytes(call->api->channels), members[BATCH_EVENTS], &info,
                     &count, &refusal)) {
        refuse_publish(call, &refusal);
    } else if (!check_relay_room(call, call->request->body.length + count * CHANNEL_RELAY_BYTES)) {
        return;
    } else if (info != 0 && (counts = counts_create(count, true)) == NULL) {
        repeat_refused(call);
        api_refuse(call, 413, REFUSED_BATCH_SIZE, "`batch` holds more events than there is memory for");
    } else if (!request_rate_take_events(call, count)) {
        counts_free(counts);
        repeat_refused(call);
    } else {
        publish_batch(call, members[BATCH_EVENTS], counts);
        if (counts != NULL)
            counts_answer(counts, call);
        else
            repeat_accepted(call, SLICE("{}"));
    }
}
