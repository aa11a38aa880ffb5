#include "channel/delta_delivery.h"

#include "channel/delta_step.h"

/* The forms of an event. */
enum form { FORM_PLAIN, FORM_FOSSIL, FORM_XDELTA3, FORM_NUMBERED, FORMS };

/* Chunks, made when the first subscriber needs them, and what one of them is for the counters. */
struct formed {
    struct chunk *chunk;
    uint32_t times;          /* how often it was queued */
    uint32_t deltas, wholes; /* events in it */
    uint64_t original;       /* bytes of these deltas' events when they are sent whole */
    uint64_t encoded;        /* bytes of the deltas */
};

struct delta_delivery {
    struct publication *const *group;
    unsigned count;
    struct subscriber_list *list;
    struct filter_set *filters; /* of the worker */
    struct delivered *delivered;
    bool xdelta3_announced;
    uint64_t known_from; /* subscribers that joined before this number know the bases of the whole group */
    uint64_t filtered, deltas, wholes, original, encoded;
    struct formed joined[FORMS];                     /* the group; FORM_NUMBERED is not used */
    struct formed single[DELIVERY_GROUP_MAX][FORMS]; /* the first `count` are initialised */
};

bool delta_delivery_joins(const struct publication *publication) {
    const struct delta_frames *frames = publication->deltas;

    return frames == NULL || frames->base.number == 0 ||
           (frames->base.sender == NULL && !frames->base.has_except_socket &&
            (frames->only_for_askers || !frames->base.only_for_askers));
}

bool delta_delivery_agrees(const struct publication *publication, const struct publication *next) {
    const struct delta_frames *a = publication->deltas, *b = next->deltas;

    return (a == NULL) == (b == NULL) &&
           (a == NULL || (a->only_for_askers == b->only_for_askers && a->algorithm == b->algorithm));
}

/* --- forms --- */

/* The form that a subscriber takes, if it knows the base of a delta. */
static enum form form_taken(const struct delta_frames *frames, const struct subscriber *entry) {
    if (frames == NULL || entry->takes == TAKES_WHOLE || (frames->only_for_askers && !entry->asked))
        return FORM_PLAIN;
    if (entry->takes == TAKES_FOSSIL || (entry->takes == TAKES_DEFAULT && frames->algorithm == APP_DELTA_FOSSIL))
        return FORM_FOSSIL;
    return FORM_XDELTA3;
}

/* The delta in that form; NULL if there is none that every client can read. */
static struct frame *delta_in_form(const struct delta_delivery *delivery, const struct delta_frames *frames,
                                   enum form form) {
    if (form == FORM_FOSSIL)
        return frames->omits_algorithm && delivery->xdelta3_announced ? NULL : frames->deltas[APP_DELTA_FOSSIL];
    return form == FORM_XDELTA3 ? frames->deltas[APP_DELTA_XDELTA3] : NULL;
}

/* The frame for a form, whole if there is no delta, and counts it. */
static struct frame *frame_in_form(const struct delta_delivery *delivery, const struct publication *publication,
                                   enum form form, struct formed *formed) {
    const struct delta_frames *frames = publication->deltas;
    struct frame *delta;

    if (form == FORM_PLAIN || frames == NULL)
        return publication->frame;
    delta = delta_in_form(delivery, frames, form);
    if (delta == NULL) {
        formed->wholes++;
        return frames->whole;
    }
    formed->deltas++;
    formed->original += frames->whole->length;
    formed->encoded += delta->length;
    return delta;
}

/* The whole group in one form. */
static struct formed *group_in_form(struct delta_delivery *delivery, enum form form) {
    struct formed *formed = &delivery->joined[form];
    struct frame *frames[DELIVERY_GROUP_MAX];

    if (formed->chunk == NULL) {
        for (unsigned i = 0; i < delivery->count; i++)
            frames[i] = frame_in_form(delivery, delivery->group[i], form, formed);
        formed->chunk = chunk_of_frames(frames, delivery->count);
    }
    return formed;
}

/* One event of the group in a form. */
static struct formed *event_in_form(struct delta_delivery *delivery, unsigned event, enum form form) {
    struct formed *formed = &delivery->single[event][form];

    if (formed->chunk == NULL)
        formed->chunk = chunk_of_frame(frame_in_form(delivery, delivery->group[event], form, formed));
    return formed;
}

/* Adds what was queued of a form to the counters, and releases it. Returns how often that was. */
static uint32_t finish_form(struct delta_delivery *delivery, const struct formed *formed, unsigned events) {
    if (formed->chunk == NULL)
        return 0;
    delivery->delivered->messages += (uint64_t)formed->times * events;
    delivery->deltas += (uint64_t)formed->times * formed->deltas;
    delivery->wholes += (uint64_t)formed->times * formed->wholes;
    delivery->original += formed->times * formed->original;
    delivery->encoded += formed->times * formed->encoded;
    chunk_unref(formed->chunk);
    return formed->times;
}

static void finish_forms(struct delta_delivery *delivery) {
    uint32_t together = 0;

    for (unsigned form = 0; form < FORMS; form++)
        together += finish_form(delivery, &delivery->joined[form], delivery->count);
    for (unsigned event = 0; event < delivery->count; event++) {
        delivery->delivered->recipients[event] = together;
        for (unsigned form = 0; form < FORMS; form++)
            delivery->delivered->recipients[event] += finish_form(delivery, &delivery->single[event][form], 1);
    }
}

/* --- subscribers --- */

/* Queues a chunk, whose last event has the number. */
static void send_formed(struct delta_delivery *delivery, struct subscriber *entry, struct formed *formed,
                        uint64_t number) {
    ssize_t queued = subscriber_send(delivery->list, entry->stream, formed->chunk);

    if (queued < 0) { /* dropped, if the connection is not about to close */
        subscriber_forget(delivery->list, entry, number);
        return;
    }
    formed->times++;
    delivery->delivered->bytes += (uint64_t)queued;
}

static bool is_left_out(const struct publication *publication, const struct subscriber *entry) {
    return subscriber_is_later(entry, publication) || entry->stream == publication->except_stream ||
           (publication->has_except_socket &&
            publication->hub->settings.has_socket_id(entry->stream, &publication->except_socket));
}

/* True if the subscriber got the event that the deltas are based on, as one that takes deltas. */
static bool knows_base(const struct publication *publication, const struct subscriber *entry,
                       struct filter_set *filters) {
    const struct delta_base *base = &publication->deltas->base;

    if (entry->filtered && !filter_passes(filters, entry->subscription->filter, FILTER_BASE, base->tags))
        return false;
    return entry->joined < base->number && entry->stream != base->sender && (entry->asked || !base->only_for_askers) &&
           !(base->has_except_socket && publication->hub->settings.has_socket_id(entry->stream, &base->except_socket));
}

static void send_one_event(struct delta_delivery *delivery, struct subscriber *entry, unsigned event) {
    const struct publication *publication = delivery->group[event];
    enum form form;

    if (is_left_out(publication, entry))
        return;
    if (subscriber_filters(entry, publication, delivery->filters)) {
        delivery->filtered++;
        return;
    }
    form = form_taken(publication->deltas, entry);
    if (form != FORM_PLAIN && !knows_base(publication, entry, delivery->filters))
        form = FORM_NUMBERED;
    send_formed(delivery, entry, event_in_form(delivery, event, form), publication->number);
}

/* True if nothing has to be known of the subscriber but what it takes. */
static bool takes_whole_group(const struct delta_delivery *delivery, const struct subscriber *entry) {
    return entry->joined < delivery->known_from && !(entry->filtered && delivery->group[0]->filterable);
}

/* The number that all bases of the group have at least; 0 if the events are not for all alike. */
static uint64_t known_from_of(struct publication *const *group, unsigned count, const struct subscriber_list *list) {
    uint64_t number = group[0]->number;

    if (group[0]->except_stream != NULL || group[0]->has_except_socket || !delta_delivery_joins(group[0]))
        return 0;
    for (unsigned i = 0; i < count; i++) {
        const struct delta_frames *frames = group[i]->deltas;
        if (group[i]->about_member && list->newest >= group[i]->number)
            return 0;
        if (frames != NULL && frames->base.number != 0 && frames->base.number < number)
            number = frames->base.number;
    }
    return number;
}

static void begin_delivery(struct delta_delivery *delivery, struct publication *const *group, unsigned count,
                           struct subscriber_list *list, struct delivered *delivered) {
    memset(delivery, 0, offsetof(struct delta_delivery, single) + count * sizeof delivery->single[0]);
    delivery->group = group;
    delivery->count = count;
    delivery->list = list;
    delivery->filters = channel_hub_filters(group[0]->hub, list->entries[0].stream->worker);
    delivery->delivered = delivered;
    delivery->known_from = known_from_of(group, count, list);
    delivery->xdelta3_announced = atomic_load_explicit(&group[0]->hub->xdelta3_announced, memory_order_relaxed);
}

void delta_delivery_send(struct publication *const *group, unsigned count, struct subscriber_list *list,
                         struct app_part *app, struct delivered *delivered) {
    struct delta_delivery delivery;

    begin_delivery(&delivery, group, count, list, delivered);
    for (uint32_t i = 0; i < list->count; i++) {
        struct subscriber *entry = &list->entries[i];
        if (takes_whole_group(&delivery, entry)) {
            send_formed(&delivery, entry, group_in_form(&delivery, form_taken(group[0]->deltas, entry)),
                        group[count - 1]->number);
            continue;
        }
        for (unsigned event = 0; event < count; event++)
            send_one_event(&delivery, entry, event);
    }
    finish_forms(&delivery);
    counter_add(&app->counters.filtered_messages, delivery.filtered);
    counter_add(&app->counters.delta_messages, delivery.deltas);
    counter_add(&app->counters.delta_wholes, delivery.wholes);
    counter_add(&app->counters.delta_original_bytes, delivery.original);
    counter_add(&app->counters.delta_saved_bytes, delivery.original - delivery.encoded);
}
