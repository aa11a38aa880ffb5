#include "channel/delta_step.h"

#include <stdlib.h>

#include "app/delta_pattern.h"
#include "base/crypto.h"
#include "base/hash.h"
#include "base/json.h"
#include "channel/conflation_key.h"
#include "channel/delta/fossil.h"
#include "channel/delta/vcdiff.h"
#include "net/websocket.h"

/* The work of a delta apart from the search, beside this part of the text; see worker_spend. */
#define DELTA_WORK 64
#define DELTA_WORK_PART 16
/* The work of all deltas of one event, about 30 milliseconds; then its other channels get it whole. Ten thousand ticks
 * are less. */
#define DELTA_WORK_MAX ((size_t)4 << 20)
/* To find a key, the event is parsed, and the text in its `data`. */
#define KEY_SCANS 2

/* What counts for a channel now: from the app's record, else from the server's settings. */
struct delta_policy {
    enum app_delta_algorithm algorithm;
    bool only_for_askers;
    struct slice key_path;
    uint32_t max_keys; /* 0: no bound */
};

static struct delta_policy policy_of(const struct channel_hub *hub, const struct channel *channel) {
    const struct delta_settings *server = &hub->settings.deltas;
    const struct app *app = slot_app(channel->slot);
    const struct app_delta_setting *own = app != NULL ? app_delta_find(app, channel_name(channel)) : NULL;
    struct delta_policy policy = {
        .algorithm = server->algorithm, .key_path = server->key_path, .max_keys = server->max_keys};

    policy.only_for_askers = app_delta_is_off(own);
    if (!app_delta_has_settings(own))
        return policy;
    policy.algorithm = own->algorithm;
    if (own->conflation_key.length != 0)
        policy.key_path = own->conflation_key;
    if (own->max_conflation_keys_set)
        policy.max_keys = own->max_conflation_keys;
    return policy;
}

/* --- which events take part --- */

/* The JSON text of a frame from the server. */
static struct slice frame_text(const struct frame *frame) {
    uint64_t length;
    size_t header = websocket_header_read((const uint8_t *)frame->bytes, &length);

    return (struct slice){frame->bytes + header, (size_t)length};
}

/* Clients delete these members from what they keep as a base, wherever they are: a text that has them cannot be one. A
 * quote inside a string is escaped, so `data` may contain them. */
static bool has_reserved_member(struct slice text) {
    const char *at = text.data, *end = text.data + text.length;

    /* A single byte is found fast, and most texts have fewer underlines than quotes. */
    while ((at = memchr(at, '_', (size_t)(end - at))) != NULL) {
        struct slice rest = {at - 1, (size_t)(end - at) + 1}; /* the first byte of a text is a brace */
        if (slice_starts_with(rest, SLICE("\"__delta_seq\":")) ||
            slice_starts_with(rest, SLICE("\"__conflation_key\":")))
            return true;
        while (++at != end && *at == '_') /* a name begins behind a quote */
            ;
    }
    return false;
}

static bool takes_part(const struct publication *publication, const struct channel_event *event, struct slice text) {
    return !event->whole && event->user_id.length == 0 && text.length >= publication->hub->settings.deltas.min_size &&
           (publication->filterable || !event_is_protocol(event->event)) && /* the filters have asked for it already */
           !has_reserved_member(text);
}

/* --- frames --- */

void delta_frames_free(struct delta_frames *frames) {
    if (frames == NULL)
        return;
    frame_unref(frames->whole);
    tags_unref(frames->base.tags);
    for (unsigned i = 0; i < DELTA_ALGORITHMS; i++)
        if (frames->deltas[i] != NULL)
            frame_unref(frames->deltas[i]);
    free(frames);
}

/* The event with its number and key, which stand before its last brace. */
static struct frame *numbered_frame(struct slice text, uint32_t sequence, struct slice key_json) {
    struct buffer members = {0};
    struct frame *frame;

    buffer_append(&members, SLICE(",\"__delta_seq\":"));
    buffer_append_number(&members, sequence);
    if (key_json.length != 0) {
        buffer_append(&members, SLICE(",\"__conflation_key\":"));
        buffer_append(&members, key_json);
    }
    buffer_append_byte(&members, '}');
    text.length--;
    frame = websocket_text_frame((struct slice[]){text, buffer_slice(&members)}, 2);
    frame->droppable = true;
    buffer_dispose(&members);
    return frame;
}

static bool encode_delta(const struct delta_step *step, enum app_delta_algorithm algorithm, struct slice base,
                         size_t limit, struct buffer *delta) {
    struct slice target = step->sent.text;
    struct delta_match_work match;
    size_t work;
    bool good = algorithm == APP_DELTA_FOSSIL ? fossil_encode(base, target, limit, delta, &match)
                                              : vcdiff_encode(base, target, limit, delta, &match);

    work = DELTA_WORK + target.length / DELTA_WORK_PART + delta_match_time(&match);
    if (step->work != NULL)
        *step->work += work;
    worker_spend(step->worker, work);
    return good;
}

/* What a delta frame says beside the delta. */
static void append_description(struct buffer *out, const struct delta_step *step, const struct delta_key *base,
                               enum app_delta_algorithm algorithm, struct slice key_json, bool omits_algorithm) {
    buffer_append(out, SLICE(",\"seq\":"));
    buffer_append_number(out, step->sent.sequence);
    if (!omits_algorithm)
        buffer_append(out, algorithm == APP_DELTA_FOSSIL ? SLICE(",\"algorithm\":\"fossil\"")
                                                         : SLICE(",\"algorithm\":\"xdelta3\""));
    if (key_json.length != 0) {
        buffer_append(out, SLICE(",\"conflation_key\":"));
        buffer_append(out, key_json);
    }
    buffer_append(out, SLICE(",\"base_index\":"));
    buffer_append_number(out, base->sequence);
    buffer_append(out, SLICE("}}"));
}

/* The length that a delta must not have, for less than `longest` bytes (not 0) in base 64: it makes four of three. */
static size_t raw_limit(size_t longest) {
    return (longest - 1) / 4 * 3 + 1;
}

/* Encodes the event as a delta; NULL if its frame would not be shorter than `longest`, or there is no memory. */
static struct frame *delta_frame(const struct delta_step *step, const struct delta_key *base,
                                 enum app_delta_algorithm algorithm, struct slice event, struct slice key_json,
                                 bool omits_algorithm, size_t longest) {
    struct slice before[] = {SLICE("{\"event\":\"pusher:delta\",\"channel\":\""), channel_name(step->channel),
                             SLICE("\",\"data\":{\"event\":"), event, SLICE(",\"delta\":\"")};
    struct slice parts[sizeof before / sizeof before[0] + 2];
    struct buffer delta = {0}, after = {0}, base64 = {0};
    struct frame *frame = NULL;
    size_t length = 0, count = 0;

    buffer_append_byte(&after, '"');
    append_description(&after, step, base, algorithm, key_json, omits_algorithm);
    for (size_t i = 0; i < sizeof before / sizeof before[0]; i++)
        length += before[i].length;
    length += after.length;
    if (length < longest &&
        encode_delta(step, algorithm, (struct slice){base->text, base->text_length}, raw_limit(longest - length),
                     &delta) &&
        buffer_try_reserve(&base64, BASE64_LENGTH(delta.length))) {
        base64.length = BASE64_LENGTH(delta.length);
        base64_encode(buffer_slice(&delta), base64.data);
        for (; count < sizeof before / sizeof before[0]; count++)
            parts[count] = before[count];
        parts[count++] = buffer_slice(&base64);
        parts[count++] = buffer_slice(&after);
        frame = websocket_text_frame(parts, count);
        frame->droppable = true;
    }
    buffer_dispose(&delta);
    buffer_dispose(&after);
    buffer_dispose(&base64);
    return frame;
}

/* --- the step --- */

/* The base of the event; NULL if everyone gets it whole, because there is none or it is time for a whole one. */
static const struct delta_key *find_base(const struct delta_step *step) {
    const struct delta_settings *settings = &step->hub->settings.deltas;
    const struct delta_key *base = delta_state_find(step->state, step->sent.key, step->sent.hash);

    if (step->work != NULL && *step->work > DELTA_WORK_MAX)
        return NULL;
    if (base == NULL || base->deltas >= settings->interval ||
        (settings->max_age_s != 0 && step->worker->now_ms > base->sent_ms + UINT64_C(1000) * settings->max_age_s))
        return NULL;
    return base;
}

/* True if Fossil deltas need not name their algorithm: clients take it for granted until they were told another one.
 */
static bool may_omit_algorithm(struct channel_hub *hub) {
    return hub->settings.deltas.omit_algorithm && !atomic_load_explicit(&hub->xdelta3_announced, memory_order_relaxed);
}

static void make_frames(struct delta_step *step, const struct delta_policy *policy, struct slice event,
                        const bool needed[DELTA_ALGORITHMS], struct publication *publication) {
    struct delta_frames *frames = alloc_zero(sizeof *frames);
    const struct delta_key *base = find_base(step);
    struct buffer key_json = {0};

    if (step->state->keyed)
        json_append_string(&key_json, step->sent.key);
    frames->algorithm = policy->algorithm;
    frames->only_for_askers = policy->only_for_askers;
    frames->whole = numbered_frame(step->sent.text, step->sent.sequence, buffer_slice(&key_json));
    frame_assign(frames->whole, step->channel->slot->budget);
    if (base != NULL) {
        frames->base = base->base;
        tags_ref(frames->base.tags);
    }
    frames->omits_algorithm = may_omit_algorithm(step->hub);
    for (unsigned i = 0; i < DELTA_ALGORITHMS && base != NULL; i++) {
        if (!needed[i])
            continue;
        frames->deltas[i] =
            delta_frame(step, base, i, event, buffer_slice(&key_json), i == APP_DELTA_FOSSIL && frames->omits_algorithm,
                        frame_text(frames->whole).length);
        if (frames->deltas[i] == NULL)
            continue;
        frame_assign(frames->deltas[i], step->channel->slot->budget);
        step->sent.delta = true;
    }
    publication->deltas = frames;
    buffer_dispose(&key_json);
}

/* Finds the event's key; false if it has none. */
static bool find_event_key(struct delta_step *step, struct slice path) {
    worker_spend(step->worker, KEY_SCANS * step->sent.text.length);
    return conflation_key_of(path, step->sent.text, &step->key);
}

void delta_step_begin(struct delta_step *step, struct delta_state *state, struct worker *worker,
                      const struct channel_event *event, struct publication *publication) {
    struct channel_hub *hub = publication->hub;
    struct delta_policy policy;
    bool needed[DELTA_ALGORITHMS];

    *step =
        (struct delta_step){.hub = hub, .channel = publication->channel, .worker = worker, .work = event->delta_work};
    if (!delta_state_has_takers(state))
        return;
    step->sent.text = frame_text(publication->frame);
    if (!takes_part(publication, event, step->sent.text))
        return;
    policy = policy_of(hub, publication->channel);
    if (policy.key_path.length != 0 && !find_event_key(step, policy.key_path))
        return;
    pthread_mutex_lock(&state->mutex);
    if (!delta_state_needs(state, policy.algorithm, policy.only_for_askers, needed)) {
        pthread_mutex_unlock(&state->mutex);
        return;
    }
    step->state = state;
    /* A channel that had keys and has no path now: clients still look for bases by key. */
    if (step->key.length == 0 && state->keyed)
        buffer_append_byte(&step->key, '*');
    step->sent.key = buffer_slice(&step->key);
    step->sent.hash = hash_bytes(step->sent.key);
    step->sent.max_keys = policy.max_keys;
    step->sent.sequence = delta_state_number(&hub->texts, state, step->key.length != 0);
    make_frames(step, &policy, event->event, needed, publication);
}

/* Who will not have got the event. */
static struct delta_base base_of(const struct publication *publication) {
    struct delta_base base = {.number = publication->number,
                              .sender = publication->except_stream,
                              .has_except_socket = publication->has_except_socket,
                              .only_for_askers = publication->deltas->only_for_askers,
                              .tags = publication->tags};

    if (base.has_except_socket)
        base.except_socket = publication->except_socket;
    return base;
}

bool delta_step_end(struct delta_step *step, const struct publication *publication, bool posted) {
    bool kept = step->state != NULL && posted;

    if (step->state != NULL) {
        if (posted) {
            step->sent.base = base_of(publication);
            delta_state_keep(step->hub, step->state, step->worker, &step->sent);
        }
        pthread_mutex_unlock(&step->state->mutex);
    }
    buffer_dispose(&step->key);
    return kept;
}
