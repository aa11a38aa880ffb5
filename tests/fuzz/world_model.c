#include "world_model.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/json.h"
#include "world_nodes.h"
#include "world_wire.h"

/* The server drops kept events once a second. */
#define KEPT_TOLERANCE_MS 2000

const char *const place_names[PLACES] = {
    "room",
    "private-room",
    "presence-room",
    "cache-room",
    "private-cache-room",
    "presence-cache",
    "presence-cache-room",
    "#server-to-user-u0",
    "#server-to-user-u1",
    "#server-to-user-u2",
    "#server-to-user-u3",
};

struct world_model model;

void world_fail(const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    fputs("WRONG: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

/* --- names --- */

enum place_kind place_kind(unsigned place) {
    if (place >= CHANNELS)
        return KIND_USER;
    if (slice_starts_with(slice_of(place_names[place]), SLICE("presence-")))
        return KIND_PRESENCE;
    return slice_starts_with(slice_of(place_names[place]), SLICE("private-")) ? KIND_PRIVATE : KIND_PUBLIC;
}

bool place_caches(unsigned place) {
    const char *name = place_names[place];

    return place < CHANNELS && (slice_starts_with(slice_of(name), SLICE("cache-")) || strstr(name, "-cache-") != NULL);
}

unsigned place_of(struct slice name) {
    unsigned place = 0;

    while (place < PLACES && !slice_equal(name, slice_of(place_names[place])))
        place++;
    return place;
}

/* --- events --- */

void model_begin(void) {
    for (unsigned i = 0; i < WORLD_APPS; i++)
        model.apps[i] = (struct world_app){.present = true, .enabled = true, .client_events = true};
    memset(model.kept, 0, sizeof model.kept);
    model.events = 0;
}

bool model_app_works(unsigned app) {
    return model.apps[app].present && model.apps[app].enabled;
}

unsigned model_new_event(unsigned app, unsigned place, unsigned tag) {
    unsigned number = ++model.events;

    MUST(number <= EVENTS_MAX);
    model.event[number].app = app;
    model.event[number].place = place;
    model.event[number].tag = tag;
    return number;
}

static bool filter_takes(enum world_filter filter, unsigned tag) {
    switch (filter) {
    case TAKES_ONE:
        return tag == 1;
    case TAKES_NOT_ONE:
        return tag != 1;
    case TAKES_ONE_OR_TWO:
        return tag == 1 || tag == 2;
    default:
        return true;
    }
}

void model_ask_filter(struct place *place, enum world_filter filter) {
    place->asked_filter = filter;
    if (filter == place->filter)
        return;
    /* What is on its way meets the one filter or the other. */
    for (unsigned i = 0; i < place->count; i++) {
        place->queue[place->first + i].may = true;
        place->queue[place->first + i].filtered = false;
    }
}

static void expect_event(struct place *place, unsigned number, bool may) {
    bool takes = may || filter_takes(place->filter, model.event[number].tag);

    if (place->first + place->count == EVENTS_MAX) {
        memmove(place->queue, place->queue + place->first, place->count * sizeof place->queue[0]);
        place->first = 0;
    }
    place->queue[place->first + place->count++] = (struct expected){(uint16_t)number, may, !takes};
}

void model_publish(unsigned number, unsigned worker, const struct client *except, bool may) {
    unsigned index = model.event[number].place, app = model.event[number].app;

    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &model.clients[i];
        struct place *place = &client->places[index];
        bool same_turn = client->worker == worker;
        if (!client->used || client->app != app || client == except)
            continue;
        if (place->state == PLACE_IN)
            expect_event(place, number, may || place->busy || client->doomed);
        else if (place->state == PLACE_ASKED && same_turn)
            expect_event(place, number, true);
    }
}

/* True if the event is so old that the server may have dropped it. */
static bool kept_may_end(const struct kept_event *kept) {
    return world_now_ms() - kept->at_ms >= WORLD_CACHE_TTL_S * 1000 - KEPT_TOLERANCE_MS;
}

void model_keep(unsigned number) {
    unsigned place = model.event[number].place;
    struct kept_event *kept;

    if (!place_caches(place))
        return;
    kept = &model.kept[model.event[number].app][place];
    if (kept->turn != model.turn) {
        kept->in_turn[0] = kept->number;
        kept->in_turn_count = 1;
        kept->none_before = kept->number == 0 || kept->unsure || kept_may_end(kept);
    }
    kept->in_turn[kept->in_turn_count < 4 ? kept->in_turn_count++ : 3] = number;
    kept->number = number;
    kept->turn = model.turn;
    kept->at_ms = world_now_ms();
    kept->unsure = false;
}

static void forget_expected(struct place *place) {
    place->first = place->count = 0;
}

static bool kept_can_be(const struct kept_event *kept, unsigned number) {
    if (number == kept->number)
        return true;
    for (unsigned i = 0; kept->turn == model.turn && i < kept->in_turn_count; i++)
        if (kept->in_turn[i] == number)
            return true;
    return false;
}

static bool may_miss(const struct expected *expected) {
    return expected->may || expected->filtered;
}

/* Forgets the events that came before the kept event. */
static void skip_to_kept(struct place *place, unsigned index, unsigned number) {
    unsigned at = 0;

    while (at < place->count && place->queue[place->first + at].number != number)
        at++;
    if (at == place->count)
        return;
    for (; place->queue[place->first].number != number; place->first++, place->count--)
        WORLD_MUST(may_miss(&place->queue[place->first]), "event %u of %s was lost", place->queue[place->first].number,
                   place_names[index]);
    place->first++;
    place->count--;
}

static void receive_kept_event(const struct client *client, struct place *place, unsigned index, unsigned number) {
    const struct kept_event *kept = &model.kept[client->app][index];

    WORLD_MUST(kept_can_be(kept, number), "client got %u as the kept event of %s, which is %u", number,
               place_names[index], kept->number);
    WORLD_MUST(world_now_ms() - kept->at_ms <= WORLD_CACHE_TTL_S * 1000 + KEPT_TOLERANCE_MS,
               "client got the kept event of %s after its time", place_names[index]);
    place->cache_due = false;
    if (!place->was_in)
        skip_to_kept(place, index, number);
}

void model_received_event(struct client *client, unsigned index, unsigned number) {
    struct place *place = &client->places[index];

    WORLD_MUST(number != 0 && number <= model.events && model.event[number].place == index &&
                   model.event[number].app == client->app,
               "client got event %u on %s, where it was not published", number, place_names[index]);
    if (place->cache_due) {
        receive_kept_event(client, place, index, number);
        return;
    }
    while (place->count != 0 && place->queue[place->first].number != number) {
        WORLD_MUST(may_miss(&place->queue[place->first]), "event %u of %s was lost: client got %u",
                   place->queue[place->first].number, place_names[index], number);
        place->first++;
        place->count--;
    }
    WORLD_MUST(place->count != 0, "client got event %u of %s, which is not for it, or a second time", number,
               place_names[index]);
    WORLD_MUST(!place->queue[place->first].filtered, "client got event %u of %s, which its filter excludes", number,
               place_names[index]);
    place->first++;
    place->count--;
}

void model_received_cache_miss(struct client *client, unsigned index) {
    struct place *place = &client->places[index];
    const struct kept_event *kept = &model.kept[client->app][index];
    bool none_before = kept->turn == model.turn && kept->none_before;

    WORLD_MUST(place->cache_due, "client got cache_miss of %s, which it has not just joined", place_names[index]);
    WORLD_MUST(kept->number == 0 || none_before || kept->unsure || kept_may_end(kept),
               "the kept event of %s, %u, is gone", place_names[index], kept->number);
    place->cache_due = false;
}

/* --- subscriptions --- */

static unsigned user_of(struct slice id) {
    WORLD_MUST(id.length == 2 && id.data[0] == 'u' && id.data[1] >= '0' && id.data[1] < '0' + USERS,
               "there is no member %.*s", SLICE_ARGS(id));
    return (unsigned)(id.data[1] - '0');
}

/* Reads `{"presence":{"count":1,"ids":["u1"],"hash":{"u1":{}}}}`. */
static unsigned read_members(struct slice data) {
    static const struct slice outer = SLICE_INIT("presence");
    static const struct slice names[2] = {SLICE_INIT("count"), SLICE_INIT("ids")};
    struct json_value presence, values[2], id;
    struct json_iterator iterator;
    struct buffer storage = {0};
    unsigned members = 0, count = 0;

    MUST(json_scan_object(data, &outer, &presence, 1, NULL));
    MUST(json_scan_object(presence.token, names, values, 2, NULL) && values[1].type == JSON_TYPE_ARRAY);
    iterator = json_iterate(values[1]);
    for (; json_next(&iterator, NULL, &id); count++) {
        unsigned bit = 1u << user_of(json_decode_string(id, &storage));
        WORLD_MUST((members & bit) == 0, "a member is in a list twice: %.*s", SLICE_ARGS(data));
        members |= bit;
        storage.length = 0;
    }
    WORLD_MUST(values[0].token.length == 1 && values[0].token.data[0] == (char)('0' + count),
               "count of a member list is wrong: %.*s", SLICE_ARGS(data));
    buffer_dispose(&storage);
    return members;
}

void model_received_success(struct client *client, unsigned index, struct slice data) {
    struct place *place = &client->places[index];

    WORLD_MUST(place->state == PLACE_ASKED || (place->again && place->state == PLACE_IN),
               "client was subscribed to %s, which it has not asked for", place_names[index]);
    WORLD_MUST(!place->wrong, "client was subscribed to %s with a wrong signature", place_names[index]);
    place->was_in = place->state == PLACE_IN;
    place->state = PLACE_IN;
    place->filter = place->asked_filter;
    place->again = false;
    place->cache_due = place_caches(index);
    if (place_kind(index) == KIND_PRESENCE) {
        place->view = read_members(data);
        WORLD_MUST((place->view & 1u << place->user) != 0, "client is not in the member list of %s",
                   place_names[index]);
    }
}

void model_received_error(struct client *client, unsigned index) {
    struct place *place = &client->places[index];
    bool full = place_kind(index) == KIND_PRESENCE && model.apps[client->app].max_members != 0;

    WORLD_MUST(place->state == PLACE_ASKED || place->again, "client got an error of %s, which it has not asked for",
               place_names[index]);
    WORLD_MUST(place->wrong || full || client->doomed, "client was not subscribed to %s", place_names[index]);
    if (place->state == PLACE_ASKED)
        place->state = PLACE_OUT;
    place->again = false;
}

void model_received_member(struct client *client, unsigned index, struct slice data, bool added) {
    struct place *place = &client->places[index];
    unsigned bit = 1u << user_of(wire_member(data, "user_id"));

    WORLD_MUST(place->state == PLACE_IN, "client got a member of %s, where it is not", place_names[index]);
    WORLD_MUST(((place->view & bit) == 0) == added, "client was told twice of a member of %s: %.*s", place_names[index],
               SLICE_ARGS(data));
    place->view = added ? place->view | bit : place->view & ~bit;
}

/* --- turns --- */

void model_end_turn(struct client *client) {
    for (unsigned i = 0; i < PLACES; i++) {
        struct place *place = &client->places[i];
        if (!place->busy)
            continue;
        WORLD_MUST((place->state != PLACE_ASKED && !place->again) || client->doomed || client->must_close,
                   "a subscription to %s was not answered", place_names[i]);
        WORLD_MUST(!place->cache_due || client->doomed, "no kept event of %s came", place_names[i]);
        if (place->leaving || place->state == PLACE_ASKED) {
            place->state = PLACE_OUT;
            forget_expected(place);
        }
        place->busy = place->leaving = place->again = place->wrong = false;
    }
}

unsigned model_count(unsigned app, unsigned place) {
    unsigned count = 0;

    for (unsigned i = 0; i < CLIENTS; i++) {
        const struct client *client = &model.clients[i];
        count += client->used && client->app == app && client->places[place].state == PLACE_IN;
    }
    return count;
}

unsigned model_members(unsigned app, unsigned place) {
    unsigned members = 0;

    for (unsigned i = 0; i < CLIENTS; i++) {
        const struct client *client = &model.clients[i];
        if (client->used && client->app == app && client->places[place].state == PLACE_IN)
            members |= 1u << client->places[place].user;
    }
    if (place_kind(place) == KIND_PRESENCE)
        members |= world_nodes_members(app, place_names[place]);
    return members;
}

void model_check_client(const struct client *client) {
    WORLD_MUST(!client->must_close && (model_app_works(client->app) || client->socket_id[0] == '\0'),
               "a client was not closed");
    WORLD_MUST(client->pongs == 0, "a ping was not answered");
    for (unsigned i = 0; i < PLACES; i++) {
        const struct place *place = &client->places[i];
        WORLD_MUST(place->state != PLACE_ASKED, "a subscription to %s was not answered", place_names[i]);
        for (unsigned at = 0; at < place->count; at++)
            WORLD_MUST(may_miss(&place->queue[place->first + at]), "event %u of %s did not arrive",
                       place->queue[place->first + at].number, place_names[i]);
        if (place->state == PLACE_IN && place_kind(i) == KIND_PRESENCE)
            WORLD_MUST(place->view == model_members(client->app, i),
                       "a client's member list of %s is %x and must be %x", place_names[i], place->view,
                       model_members(client->app, i));
    }
}
