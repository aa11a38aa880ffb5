/* Deltas of channels: which events go whole, which as a delta and to whom; keys; bounds. What is sent is read by a
 * client that does what the clients of the protocol family do (delta_reader.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/delta_pattern.h"
#include "channel/delta_state.h"
#include "channel/delta_step.h"
#include "delta_reader.h"
#include "harness.h"
#include "text_frames.h"

#define PEERS_MAX 8
#define KB 1024

/* A connection; its socket id is {number, 1}. */
struct peer {
    struct stream *stream;
    int client;
    uint64_t number;
    struct buffer in; /* received bytes that the test has not read */
    struct subscription own;
    struct delta_reader reader;
};

static struct workers workers;
static struct channel_hub *hub;
static struct app_slot *slot;
static struct app record;
static struct peer peers[PEERS_MAX];
static unsigned peer_count;
static struct buffer message; /* the last one that was read */
static char padding[200];

/* --- peers --- */

static void terminate(struct stream *stream, bool reconnect, uint64_t before_ms) {
    (void)before_ms;
    (void)stream;
    (void)reconnect;
}

static bool has_socket_id(const struct stream *stream, const struct socket_id *id) {
    return ((const struct peer *)stream->context)->number == id->first && id->second == 1;
}

static void join_channel_again(struct peer *peer, const char *channel) {
    struct channel_join answers = {.user_id = SLICE("u"), .user_info = SLICE("{}")};

    assert_int_equal(channel_subscribe(hub, slot, peer->stream, slice_of(channel), &peer->own, &answers),
                     CHANNEL_JOINED);
    member_list_unref(answers.members);
    if (answers.cached != NULL)
        frame_unref(answers.cached);
}

static struct peer *join(unsigned worker, const char *channel, enum delta_takes takes) {
    struct peer *peer = &peers[peer_count++];
    *peer = (struct peer){.number = peer_count};
    peer->stream = harness_open(workers.list[worker], peer, &peer->client);
    join_channel_again(peer, channel);
    if (takes != TAKES_WHOLE)
        assert_true(channel_set_deltas(hub, &peer->own, takes, false));
    return peer;
}

static void leave(struct peer *peer) {
    channel_leave(hub, &peer->own, NULL);
    delta_reader_forget(&peer->reader);
}

/* Reads the next message into `message`; false if there is none. */
static bool next_message(struct peer *peer) {
    return text_frame_receive(peer->client, &peer->in, &message);
}

static void read_message(struct peer *peer, struct reader_message *read) {
    const char *wrong = delta_reader_read(&peer->reader, buffer_slice(&message), read);

    if (wrong != NULL)
        fail_msg("%s: %.*s", wrong, SLICE_ARGS(buffer_slice(&message)));
}

static struct reader_message read_next(struct peer *peer) {
    struct reader_message read;

    if (!next_message(peer))
        fail_msg("no message came");
    read_message(peer, &read);
    return read;
}

static void assert_nothing_came(struct peer *peer) {
    if (next_message(peer))
        fail_msg("%.*s came", SLICE_ARGS(buffer_slice(&message)));
}

/* --- events --- */

static char event_text[4 * KB];

/* The text of an event, as it is published. */
static const char *text_of(const char *name, const char *channel, const char *data) {
    snprintf(event_text, sizeof event_text, "{\"event\":\"%s\",\"channel\":\"%s\",\"data\":%s}", name, channel, data);
    return event_text;
}

/* Data of about 300 bytes for a number, under a key. */
static const char *tick(const char *key, unsigned number) {
    static char data[KB];

    snprintf(data, sizeof data, "\"{\\\"key\\\":\\\"%s\\\",\\\"price\\\":%u,\\\"padding\\\":\\\"%s\\\"}\"", key, number,
             padding);
    return data;
}

static void publish_event(unsigned worker, const char *channel, const struct channel_event *event) {
    channel_publish(hub, slot, workers.list[worker], slice_of(channel), event, NULL);
}

static void publish(unsigned worker, const char *channel, const char *data) {
    publish_event(worker, channel, &(struct channel_event){.event = SLICE("\"e\""), .data = slice_of(data)});
}

/* Reads the next message, which has this form and is the event. */
static struct reader_message assert_read(struct peer *peer, enum reader_form form, const char *text) {
    struct reader_message read = read_next(peer);

    if (read.form != form)
        fail_msg("%.*s came for %s, in form %d instead of %d", SLICE_ARGS(buffer_slice(&message)), text, read.form,
                 form);
    if (!slice_equal(read.text, slice_of(text)))
        fail_msg("%.*s was read for %s", SLICE_ARGS(read.text), text);
    return read;
}

/* Publishes a tick, and asserts its form and text for a peer. */
static struct reader_message assert_form_of_next(struct peer *peer, const char *channel, unsigned number,
                                                 enum reader_form form) {
    publish(0, channel, tick("", number));
    harness_settle_all(&workers);
    return assert_read(peer, form, text_of("e", channel, tick("", number)));
}

static uint64_t counted(size_t offset) {
    uint64_t sum = 0;

    for (unsigned i = 0; i < workers.count; i++)
        sum +=
            counter_read((const struct counter *)((const char *)&slot_part(slot, workers.list[i])->counters + offset));
    return sum;
}

#define COUNTED(member) counted(offsetof(struct app_counters, member))

static int set_up(void **state) {
    const struct channel_hub_settings settings = {
        .group_max_messages = 64,
        .group_max_bytes = 65536,
        .terminate = terminate,
        .has_socket_id = has_socket_id,
        .deltas = {.interval = 3, .min_size = 100, .max_age_s = 300, .max_keys = 100, .max_bytes = KB * KB}};

    (void)state;
    memset(padding, 'p', sizeof padding - 1);
    harness_create(&workers, 2);
    hub = channel_hub_create(&workers, &settings);
    slot = app_slot_create(SLICE("42"), 2);
    peer_count = 0;
    record = (struct app){.references = 1};
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    harness_settle_all(&workers);
    for (unsigned i = 0; i < peer_count; i++) {
        struct peer *peer = &peers[i];
        if (peer->own.channel != NULL)
            leave(peer);
        harness_close(peer->stream, peer->client);
        buffer_dispose(&peer->in);
    }
    harness_settle_all(&workers);
    assert_int_equal(delta_texts_bytes(&hub->texts), 0);
    channel_hub_destroy(hub);
    atomic_store(&slot->current, NULL);
    assert_int_equal(budget_app_held(slot->budget), 0);
    app_slot_destroy(slot, channel_table_destroy);
    harness_destroy(&workers);
    budget_settle();
    assert_int_equal(budget_used(BUDGET_DELTAS), 0);
    buffer_dispose(&message);
    return 0;
}

/* Puts channel_delta_compression of the app in force, as JSON. */
static void set_record(const char *json) {
    struct error error;
    json_t *parsed = json_loads(json, 0, NULL);

    atomic_store(&slot->current, NULL);
    free(record.delta_settings);
    json_decref(record.delta_json);
    record.delta_json =
        app_delta_settings_parse(parsed, &record.delta_settings, &record.delta_setting_count, NULL, NULL, &error);
    if (record.delta_json == NULL)
        fail_msg("%s", error.text);
    record.delta_name_count = app_delta_sort(record.delta_settings, record.delta_setting_count);
    json_decref(parsed);
    atomic_store(&slot->current, &record);
}

static void clear_record(void) {
    atomic_store(&slot->current, NULL);
    free(record.delta_settings);
    json_decref(record.delta_json);
    record.delta_settings = NULL;
    record.delta_json = NULL;
}

/* --- whole and delta --- */

static void whole_then_three_deltas_then_whole_again(void **state) {
    static const enum reader_form forms[] = {READ_NUMBERED, READ_DELTA,    READ_DELTA,
                                             READ_DELTA,    READ_NUMBERED, READ_DELTA};
    struct peer *plain = join(0, "chat", TAKES_WHOLE), *taker = join(1, "chat", TAKES_DEFAULT);

    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        struct reader_message read = assert_form_of_next(taker, "chat", i, forms[i]);
        assert_int_equal(read.number, i);
        assert_string_equal(read.key, "");
        if (read.form == READ_DELTA) {
            assert_int_equal(read.base, i - 1);
            assert_string_equal(read.algorithm, "fossil");
        }
        assert_read(plain, READ_PLAIN, text_of("e", "chat", tick("", i)));
    }
    assert_int_equal(COUNTED(delta_messages), 4);
    assert_int_equal(COUNTED(delta_wholes), 2);
    assert_true(COUNTED(delta_saved_bytes) > COUNTED(delta_original_bytes) / 3);
    assert_true(COUNTED(delta_saved_bytes) < COUNTED(delta_original_bytes));
}

static void the_frames_are_those_of_the_protocol(void **state) {
    struct peer *taker = join(0, "small", TAKES_FOSSIL);

    (void)state;
    hub->settings.deltas.min_size = 1;
    publish(0, "small",
            "\"x1 and something long enough that a delta of it is worth its frame, which is long, too: "
            "the name of its event, its channel, a number, and that of its base\"");
    publish(0, "small",
            "\"x2 and something long enough that a delta of it is worth its frame, which is long, too: "
            "the name of its event, its channel, a number, and that of its base\"");
    harness_settle_all(&workers);
    assert_true(next_message(taker));
    assert_string_equal(
        buffer_string(&message),
        "{\"event\":\"e\",\"channel\":\"small\",\"data\":\"x1 and something long enough that a delta of "
        "it is worth its frame, which is long, too: the name of its event, its channel, a number, and "
        "that of its base\",\"__delta_seq\":0}");
    assert_true(next_message(taker));
    assert_non_null(strstr(buffer_string(&message),
                           "{\"event\":\"pusher:delta\",\"channel\":\"small\",\"data\":{\"event\":\"e\",\"delta\":\""));
    assert_non_null(strstr(buffer_string(&message), "\",\"seq\":1,\"algorithm\":\"fossil\",\"base_index\":0}}"));
}

/* Gives the subscription a filter for events with the tag "to". */
static void set_filter(struct peer *peer, const char *to) {
    struct buffer source = {0};
    struct json_value json;
    struct filter *filter;
    struct error error;

    buffer_appendf(&source, "{\"key\":\"to\",\"cmp\":\"eq\",\"val\":\"%s\"}", to);
    assert_true(json_scan(buffer_slice(&source), &json, &error));
    assert_int_equal(filter_intern(channel_hub_filters(hub, peer->stream->worker), slot->budget, SLICE("chat"), json,
                                   &filter, &error),
                     FILTER_READY);
    channel_set_filter(hub, &peer->own, filter);
    buffer_dispose(&source);
}

/* Publishes tick `number` with the tag "to", which subscribers do not see, and asserts what the peers get of it. */
static void assert_tagged_tick(unsigned number, const char *to, struct peer *all, enum reader_form form,
                               struct peer *some, enum reader_form some_form) {
    struct buffer source = {0};
    struct tags *tags;

    buffer_appendf(&source, "{\"to\":\"%s\"}", to);
    tags = tags_parse(buffer_slice(&source), NULL);
    publish_event(0, "chat",
                  &(struct channel_event){.event = SLICE("\"e\""), .data = slice_of(tick("", number)), .tags = tags});
    tags_unref(tags);
    buffer_dispose(&source);
    harness_settle_all(&workers);
    assert_read(all, form, text_of("e", "chat", tick("", number)));
    if (some != NULL)
        assert_read(some, some_form, text_of("e", "chat", tick("", number)));
}

static void a_filtered_subscriber_gets_a_delta_only_if_the_base_was_for_it(void **state) {
    struct peer *all = join(0, "chat", TAKES_DEFAULT), *some = join(0, "chat", TAKES_DEFAULT);

    (void)state;
    hub->settings.filters = true;
    hub->settings.deltas.interval = 100;
    set_filter(some, "some");
    assert_tagged_tick(1, "some", all, READ_NUMBERED, some, READ_NUMBERED);
    assert_tagged_tick(2, "some", all, READ_DELTA, some, READ_DELTA);
    assert_tagged_tick(3, "others", all, READ_DELTA, NULL, 0);
    assert_nothing_came(some);
    assert_tagged_tick(4, "some", all, READ_DELTA, some, READ_NUMBERED);
    assert_tagged_tick(5, "some", all, READ_DELTA, some, READ_DELTA);
    /* With another filter it knows nothing any more, even if the base passes that one. */
    set_filter(some, "others");
    assert_tagged_tick(6, "some", all, READ_DELTA, NULL, 0);
    assert_tagged_tick(7, "others", all, READ_DELTA, some, READ_NUMBERED);
    set_filter(some, "others");
    assert_tagged_tick(8, "others", all, READ_DELTA, some, READ_DELTA);
    channel_set_filter(hub, &some->own, NULL);
    assert_tagged_tick(9, "others", all, READ_DELTA, some, READ_NUMBERED);
    assert_tagged_tick(10, "some", all, READ_DELTA, some, READ_DELTA);
    assert_int_equal(COUNTED(filtered_messages), 2);
}

static void each_client_gets_the_algorithm_that_it_takes(void **state) {
    struct peer *fossil = join(0, "chat", TAKES_FOSSIL), *xdelta3 = join(0, "chat", TAKES_XDELTA3);
    struct peer *own = join(1, "chat", TAKES_DEFAULT);

    (void)state;
    hub->settings.deltas.interval = 100;
    for (unsigned i = 0; i < 6; i++) {
        enum reader_form form = i == 0 ? READ_NUMBERED : READ_DELTA;
        const char *algorithm = i < 3 ? "fossil" : "xdelta3";
        struct reader_message read;
        if (i == 3)
            set_record("{\"chat\":\"xdelta3\"}");
        read = assert_form_of_next(fossil, "chat", i, form);
        assert_true(form == READ_NUMBERED || strcmp(read.algorithm, "fossil") == 0);
        read = assert_read(xdelta3, form, text_of("e", "chat", tick("", i)));
        assert_true(form == READ_NUMBERED || strcmp(read.algorithm, "xdelta3") == 0);
        read = assert_read(own, form, text_of("e", "chat", tick("", i)));
        assert_true(form == READ_NUMBERED || strcmp(read.algorithm, algorithm) == 0);
    }
    clear_record();
}

static void an_interval_of_zero_sends_all_whole(void **state) {
    struct peer *taker = join(0, "chat", TAKES_DEFAULT);

    (void)state;
    hub->settings.deltas.interval = 0;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(assert_form_of_next(taker, "chat", i, READ_NUMBERED).number, i);
}

static void a_delta_that_is_no_shorter_is_not_sent(void **state) {
    struct peer *taker = join(0, "chat", TAKES_DEFAULT);

    (void)state;
    hub->settings.deltas.min_size = 1;
    for (unsigned i = 0; i < 4; i++) { /* 40 bytes: a frame of a delta is longer */
        char data[20];
        snprintf(data, sizeof data, "%u", i);
        publish(0, "chat", data);
        harness_settle_all(&workers);
        assert_int_equal(assert_read(taker, READ_NUMBERED, text_of("e", "chat", data)).number, i);
    }
}

static void a_delta_is_shorter_than_the_whole_event(void **state) {
    struct peer *fossil = join(0, "chat", TAKES_FOSSIL), *xdelta3 = join(0, "chat", TAKES_XDELTA3);
    struct peer *takers[] = {fossil, xdelta3};
    unsigned forms[READ_DELTA + 1] = {0};

    (void)state;
    hub->settings.deltas.min_size = 1;
    hub->settings.deltas.interval = 1000;
    for (int i = 0; i < 190; i++) { /* one of them has a delta that is as long */
        char data[200], whole[KB];
        snprintf(data, sizeof data, "\"%.*s\"", i, padding);
        publish(0, "chat", data);
        harness_settle_all(&workers);
        for (unsigned k = 0; k < 2; k++) {
            struct reader_message read = read_next(takers[k]);
            int length =
                snprintf(whole, sizeof whole, "%s,\"__delta_seq\":%lld", text_of("e", "chat", data), read.number);
            assert_true(message.length < (size_t)length || read.form == READ_NUMBERED);
            forms[read.form]++;
        }
    }
    assert_true(forms[READ_NUMBERED] > 100 && forms[READ_DELTA] > 100);
}

static void names_of_events_share_the_base(void **state) {
    struct peer *taker = join(0, "chat", TAKES_DEFAULT);

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        publish_event(0, "chat",
                      &(struct channel_event){.event = i % 2 == 0 ? SLICE("\"a\"") : SLICE("\"b \\u00e9\""),
                                              .data = slice_of(tick("", i))});
        harness_settle_all(&workers);
        assert_read(taker, i == 0 ? READ_NUMBERED : READ_DELTA,
                    text_of(i % 2 == 0 ? "a" : "b \\u00e9", "chat", tick("", i)));
    }
}

static void some_events_go_whole_and_leave_the_base_alone(void **state) {
    struct peer *taker = join(0, "presence-x", TAKES_DEFAULT), *other = join(0, "presence-x", TAKES_DEFAULT);
    const char *reserved =
        "{\"a\":1,\"__delta_seq\":5,\"padding\":\"long enough to take part, if it were not for this "
        "member, which clients delete\"}";
    const char *reserved_key =
        "[\"__conflation_key\", {\"__conflation_key\":\"x\",\"padding\":\"long enough to take "
        "part, if it were not for this member\"}]";
    const char *escaped =
        "\"{\\\"__delta_seq\\\":5,\\\"padding\\\":\\\"long enough to take part, and an escaped quote "
        "is no quote. Clients see that, too\\\"}\"";
    const struct channel_event events[] = {
        {.event = SLICE("\"e\""), .data = SLICE("\"short\"")},
        {.event = SLICE("\"e\""), .data = slice_of(tick("", 1)), .whole = true},
        {.event = SLICE("\"client-e\""), .data = slice_of(tick("", 1)), .user_id = SLICE("\"u\"")},
        {.event = SLICE("\"pusher:e\""), .data = slice_of(tick("", 1))},
        {.event = SLICE("\"\\u0070usher_internal:e\""), .data = slice_of(tick("", 1))},
        {.event = SLICE("\"e\""), .data = slice_of(reserved)},
        {.event = SLICE("\"e\""), .data = slice_of(reserved_key)},
    };

    (void)state;
    leave(other);
    harness_settle_all(&workers);
    assert_form_of_next(taker, "presence-x", 1, READ_NUMBERED);
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        publish_event(0, "presence-x", &events[i]);
        harness_settle_all(&workers);
        assert_true(next_message(taker));
        if (memmem(message.data, message.length, "pusher:delta", 12) != NULL || message.data[message.length - 2] == '1')
            fail_msg("event %zu took part: %.*s", i, SLICE_ARGS(buffer_slice(&message)));
        assert_int_equal(assert_form_of_next(taker, "presence-x", 2, READ_DELTA).base, 2 * i);
        assert_form_of_next(taker, "presence-x", 3, READ_DELTA);
        hub->settings.deltas.interval = 100;
    }
    publish(0, "presence-x", escaped);
    harness_settle_all(&workers);
    assert_read(taker, READ_NUMBERED, text_of("e", "presence-x", escaped)); /* a delta would be longer */
    join_channel_again(other, "presence-x");
}

/* --- who knows the base --- */

static void who_comes_later_or_has_lost_its_texts_gets_the_next_event_whole(void **state) {
    struct peer *first = join(0, "chat", TAKES_DEFAULT), *second, *third;

    (void)state;
    hub->settings.deltas.interval = 100;
    assert_form_of_next(first, "chat", 1, READ_NUMBERED);
    second = join(0, "chat", TAKES_DEFAULT);
    third = join(1, "chat", TAKES_WHOLE);
    assert_form_of_next(first, "chat", 2, READ_DELTA);
    assert_read(second, READ_NUMBERED, text_of("e", "chat", tick("", 2)));
    assert_read(third, READ_PLAIN, text_of("e", "chat", tick("", 2)));
    assert_true(channel_set_deltas(hub, &third->own, TAKES_DEFAULT, false));
    assert_form_of_next(first, "chat", 3, READ_DELTA);
    assert_read(second, READ_DELTA, text_of("e", "chat", tick("", 3)));
    assert_read(third, READ_NUMBERED, text_of("e", "chat", tick("", 3)));
    delta_reader_forget(&second->reader);
    channel_forget_base(&second->own);
    assert_int_equal(COUNTED(delta_resyncs), 1);
    assert_form_of_next(first, "chat", 4, READ_DELTA);
    assert_read(second, READ_NUMBERED, text_of("e", "chat", tick("", 4)));
    assert_read(third, READ_DELTA, text_of("e", "chat", tick("", 4)));
    /* Asked for again, without a change: nothing is lost. */
    assert_true(channel_set_deltas(hub, &second->own, TAKES_DEFAULT, false));
    assert_form_of_next(first, "chat", 5, READ_DELTA);
    assert_read(second, READ_DELTA, text_of("e", "chat", tick("", 5)));
    /* Left and come again, between two events. */
    leave(second);
    join_channel_again(second, "chat");
    assert_true(channel_set_deltas(hub, &second->own, TAKES_DEFAULT, false));
    assert_form_of_next(first, "chat", 6, READ_DELTA);
    assert_read(second, READ_NUMBERED, text_of("e", "chat", tick("", 6)));
    assert_true(channel_set_deltas(hub, &second->own, TAKES_WHOLE, true));
    assert_form_of_next(first, "chat", 7, READ_DELTA);
    assert_read(second, READ_PLAIN, text_of("e", "chat", tick("", 7)));
}

static void what_waits_when_a_client_asks_for_deltas_is_its_base(void **state) {
    struct peer *taker = join(0, "chat", TAKES_DEFAULT), *late = join(0, "chat", TAKES_WHOLE);

    (void)state;
    publish(1, "chat", tick("", 1)); /* waits in the mailbox */
    assert_true(channel_set_deltas(hub, &late->own, TAKES_FOSSIL, true));
    publish(1, "chat", tick("", 2));
    harness_settle_all(&workers);
    for (unsigned i = 1; i <= 2; i++) {
        assert_read(taker, i == 1 ? READ_NUMBERED : READ_DELTA, text_of("e", "chat", tick("", i)));
        assert_read(late, i == 1 ? READ_NUMBERED : READ_DELTA, text_of("e", "chat", tick("", i)));
    }
}

static void who_was_left_out_of_the_base_gets_the_next_event_whole(void **state) {
    struct peer *first = join(0, "private-x", TAKES_DEFAULT), *second = join(1, "private-x", TAKES_DEFAULT);
    struct socket_id second_id = {second->number, 1};

    (void)state;
    hub->settings.deltas.interval = 100;
    assert_form_of_next(first, "private-x", 1, READ_NUMBERED);
    assert_read(second, READ_NUMBERED, text_of("e", "private-x", tick("", 1)));
    publish_event(
        0, "private-x",
        &(struct channel_event){.event = SLICE("\"e\""), .data = slice_of(tick("", 2)), .except_socket = &second_id});
    harness_settle_all(&workers);
    assert_read(first, READ_DELTA, text_of("e", "private-x", tick("", 2)));
    assert_nothing_came(second);
    assert_form_of_next(first, "private-x", 3, READ_DELTA);
    assert_read(second, READ_NUMBERED, text_of("e", "private-x", tick("", 3)));
    publish_event(0, "private-x",
                  &(struct channel_event){
                      .event = SLICE("\"client-e\""), .data = slice_of(tick("", 4)), .except_stream = first->stream});
    harness_settle_all(&workers);
    assert_nothing_came(first);
    assert_read(second, READ_DELTA, text_of("client-e", "private-x", tick("", 4)));
    assert_form_of_next(second, "private-x", 5, READ_DELTA);
    assert_read(first, READ_NUMBERED, text_of("e", "private-x", tick("", 5)));
    assert_form_of_next(second, "private-x", 6, READ_DELTA);
    assert_read(first, READ_DELTA, text_of("e", "private-x", tick("", 6)));
}

static void who_lost_an_event_because_it_was_slow_gets_the_next_one_whole(void **state) {
    static const struct stream_limits limits = {.max_messages = 2, .drop_droppable = true};
    struct peer *slow = join(0, "chat", TAKES_DEFAULT), *other = join(0, "chat", TAKES_DEFAULT);
    unsigned number = 0, read = 0;

    (void)state;
    hub->settings.deltas.interval = 1000;
    harness_shrink(slow->client);
    stream_set_limits(slow->stream, &limits);
    while (counter_read(&workers.list[0]->counters.dropped_messages) == 0) {
        publish(1, "chat", tick("", number++));
        harness_settle_all(&workers);
    }
    for (unsigned round = 0; round < 3; round++) { /* it reads on: what came, and after the gap a whole one */
        harness_settle(workers.list[0]);
        while (next_message(slow)) {
            struct reader_message message_read;
            read_message(slow, &message_read);
            read++;
            harness_settle(workers.list[0]);
        }
        assert_true(read < number);
        publish(1, "chat", tick("", number++));
        harness_settle_all(&workers);
        assert_read(slow, round == 0 ? READ_NUMBERED : READ_DELTA, text_of("e", "chat", tick("", number - 1)));
        read++;
    }
    for (unsigned i = 0; i < number; i++, harness_settle(workers.list[0]))
        assert_read(other, i == 0 ? READ_NUMBERED : READ_DELTA, text_of("e", "chat", tick("", i)));
}

static void events_that_wait_together_go_in_one_piece_in_the_form_of_each(void **state) {
    struct peer *plain = join(0, "chat", TAKES_WHOLE), *taker = join(0, "chat", TAKES_DEFAULT), *late;
    struct peer *off = join(0, "chat", TAKES_WHOLE);

    (void)state;
    hub->settings.deltas.interval = 100;
    assert_true(channel_set_deltas(hub, &off->own, TAKES_WHOLE, true));
    publish(1, "chat", tick("", 0));
    publish(1, "chat", "\"short\"");
    publish(1, "chat", tick("", 1));
    late = join(0, "chat", TAKES_DEFAULT); /* while events wait */
    publish(1, "chat", tick("", 2));
    publish(1, "chat", tick("", 3));
    harness_settle_all(&workers);
    for (unsigned i = 0; i < 4; i++) {
        assert_read(plain, READ_PLAIN, text_of("e", "chat", tick("", i)));
        assert_read(off, READ_PLAIN, text_of("e", "chat", tick("", i)));
        assert_read(taker, i == 0 ? READ_NUMBERED : READ_DELTA, text_of("e", "chat", tick("", i)));
        if (i == 0) {
            assert_read(plain, READ_PLAIN, text_of("e", "chat", "\"short\""));
            assert_read(off, READ_PLAIN, text_of("e", "chat", "\"short\""));
            assert_read(taker, READ_PLAIN, text_of("e", "chat", "\"short\""));
        }
    }
    assert_read(late, READ_NUMBERED, text_of("e", "chat", tick("", 2)));
    assert_read(late, READ_DELTA, text_of("e", "chat", tick("", 3)));
    assert_nothing_came(late);
}

/* --- keys --- */

static void each_key_has_its_own_base(void **state) {
    struct peer *taker = join(0, "prices", TAKES_DEFAULT);
    long long last[2] = {0}, first = 0;

    (void)state;
    hub->settings.deltas.key_path = SLICE("key");
    for (unsigned i = 0; i < 10; i++) {
        unsigned which = i % 3 == 2;
        const char *key = which ? "a\\\\\\\\b \u00e9:x" : "ABC";
        struct reader_message read;
        publish(0, "prices", tick(key, i));
        publish(0, "prices",
                "\"{\\\"nokey\\\":\\\"long enough to take part, but it has no key, so it goes as it is "
                "published\\\"}\"");
        harness_settle_all(&workers);
        read = assert_read(taker,
                           i == 0 || i == 2  ? READ_NUMBERED
                           : i == 5 && which ? READ_DELTA
                                             : READ_DELTA,
                           text_of("e", "prices", tick(key, i)));
        assert_string_equal(read.key, which ? "a\\b \u00e9:x" : "ABC");
        if (i == 0)
            first = read.number;
        assert_int_equal(read.number, first + i);
        if (read.form == READ_DELTA)
            assert_int_equal(read.base, last[which]);
        last[which] = read.number;
        assert_int_equal(read_next(taker).form, READ_PLAIN);
        hub->settings.deltas.interval = 100;
    }
    assert_in_range(first, 0, (1 << 30) - 1);
}

static void two_lives_of_a_channel_begin_with_different_numbers(void **state) {
    struct peer *taker = join(0, "prices", TAKES_DEFAULT);
    long long first, second;

    (void)state;
    hub->settings.deltas.key_path = SLICE("key");
    publish(0, "prices", tick("a", 1));
    harness_settle_all(&workers);
    first = read_next(taker).number;
    leave(taker);
    join_channel_again(taker, "prices");
    assert_true(channel_set_deltas(hub, &taker->own, TAKES_DEFAULT, false));
    publish(0, "prices", tick("a", 1));
    harness_settle_all(&workers);
    second = read_next(taker).number;
    assert_int_not_equal(first, second);
}

static void the_key_that_was_sent_longest_ago_goes_for_a_new_one(void **state) {
    static const char *const keys[] = {"a", "b", "a", "c", "a", "b"}; /* c takes the place of b, b that of c */
    static const enum reader_form forms[] = {READ_NUMBERED, READ_NUMBERED, READ_DELTA,
                                             READ_NUMBERED, READ_DELTA,    READ_NUMBERED};
    struct peer *taker = join(0, "prices", TAKES_DEFAULT);
    long long first = 0;

    (void)state;
    hub->settings.deltas.key_path = SLICE("key");
    hub->settings.deltas.max_keys = 2;
    for (unsigned i = 0; i < 6; i++) {
        struct reader_message read;
        publish(0, "prices", tick(keys[i], i));
        harness_settle_all(&workers);
        read = assert_read(taker, forms[i], text_of("e", "prices", tick(keys[i], i)));
        first = i == 0 ? read.number : first;
        assert_int_equal(read.number, first + i); /* an eviction does not begin the numbers anew */
    }
    assert_int_equal(COUNTED(delta_evictions), 2);
}

static void at_the_largest_number_all_keys_begin_anew(void **state) {
    struct peer *taker = join(0, "prices", TAKES_DEFAULT);
    struct delta_state *deltas = atomic_load(&taker->own.channel->deltas);

    (void)state;
    hub->settings.deltas.key_path = SLICE("key");
    publish(0, "prices", tick("a", 0));
    publish(0, "prices", tick("b", 0));
    deltas->sequence = DELTA_SEQUENCE_MAX - 1;
    publish(0, "prices", tick("a", 1));
    publish(0, "prices", tick("b", 1));
    publish(0, "prices", tick("a", 2));
    publish(0, "prices", tick("a", 3));
    harness_settle_all(&workers);
    assert_int_equal(read_next(taker).form, READ_NUMBERED);
    assert_int_equal(read_next(taker).form, READ_NUMBERED);
    assert_int_equal(assert_read(taker, READ_DELTA, text_of("e", "prices", tick("a", 1))).number, INT32_MAX - 1);
    assert_in_range(assert_read(taker, READ_NUMBERED, text_of("e", "prices", tick("b", 1))).number, 0, 1 << 30);
    assert_read(taker, READ_NUMBERED, text_of("e", "prices", tick("a", 2)));
    assert_read(taker, READ_DELTA, text_of("e", "prices", tick("a", 3)));
}

static void a_channel_may_get_keys_and_lose_them(void **state) {
    struct peer *taker = join(0, "prices", TAKES_DEFAULT);

    (void)state;
    assert_int_equal(assert_form_of_next(taker, "prices", 1, READ_NUMBERED).number, 0);
    assert_form_of_next(taker, "prices", 2, READ_DELTA);
    set_record("{\"*\":{\"conflation_key\":\"key\"}}");
    publish(0, "prices", tick("a", 3));
    publish(0, "prices", tick("a", 4));
    harness_settle_all(&workers);
    assert_read(taker, READ_NUMBERED, text_of("e", "prices", tick("a", 3)));
    assert_read(taker, READ_DELTA, text_of("e", "prices", tick("a", 4)));
    clear_record();
    publish(0, "prices", tick("a", 5));
    publish(0, "prices", tick("b", 6));
    harness_settle_all(&workers);
    assert_read(taker, READ_NUMBERED, text_of("e", "prices", tick("a", 5)));
    assert_read(taker, READ_DELTA, text_of("e", "prices", tick("b", 6)));
}

/* --- settings of the app --- */

static void a_channel_that_is_turned_off_sends_deltas_only_to_those_that_asked(void **state) {
    struct peer *plain = join(0, "chat", TAKES_DEFAULT), *asked = join(0, "chat", TAKES_WHOLE);

    (void)state;
    hub->settings.deltas.interval = 100;
    assert_true(channel_set_deltas(hub, &asked->own, TAKES_DEFAULT, true));
    assert_form_of_next(plain, "chat", 1, READ_NUMBERED);
    assert_read(asked, READ_NUMBERED, text_of("e", "chat", tick("", 1)));
    set_record("{\"ch*\":\"disabled\"}");
    assert_form_of_next(plain, "chat", 2, READ_PLAIN);
    assert_read(asked, READ_DELTA, text_of("e", "chat", tick("", 2)));
    clear_record(); /* on again: the base is an event that one of them did not get with a number */
    assert_form_of_next(plain, "chat", 3, READ_NUMBERED);
    assert_read(asked, READ_DELTA, text_of("e", "chat", tick("", 3)));
    assert_form_of_next(plain, "chat", 4, READ_DELTA);
    assert_read(asked, READ_DELTA, text_of("e", "chat", tick("", 4)));
    set_record("{\"ch*\":\"disabled\"}");
    leave(asked); /* nobody is left that takes deltas */
    assert_form_of_next(plain, "chat", 5, READ_PLAIN);
    clear_record();
    assert_form_of_next(plain, "chat", 6, READ_DELTA);
}

static void an_algorithm_is_left_unnamed_until_a_client_is_told_another_one(void **state) {
    struct peer *taker = join(0, "chat", TAKES_DEFAULT);

    (void)state;
    hub->settings.deltas.omit_algorithm = true;
    hub->settings.deltas.interval = 100;
    assert_form_of_next(taker, "chat", 1, READ_NUMBERED);
    assert_false(assert_form_of_next(taker, "chat", 2, READ_DELTA).names_algorithm);
    publish(0, "chat", tick("", 3)); /* waits, with a delta that does not name it */
    channel_hub_told_xdelta3(hub);
    harness_settle_all(&workers);
    assert_read(taker, READ_NUMBERED, text_of("e", "chat", tick("", 3)));
    assert_true(assert_form_of_next(taker, "chat", 4, READ_DELTA).names_algorithm);
}

/* --- bounds --- */

static void texts_go_with_the_last_taker_and_the_numbers_go_on(void **state) {
    struct peer *taker = join(0, "chat", TAKES_DEFAULT), *plain = join(0, "chat", TAKES_WHOLE);

    (void)state;
    assert_form_of_next(taker, "chat", 1, READ_NUMBERED);
    assert_form_of_next(taker, "chat", 2, READ_DELTA);
    assert_true(delta_texts_bytes(&hub->texts) > 300);
    leave(taker);
    assert_int_equal(delta_texts_bytes(&hub->texts), 0);
    for (unsigned i = 1; i <= 2; i++)
        assert_read(plain, READ_PLAIN, text_of("e", "chat", tick("", i)));
    assert_form_of_next(plain, "chat", 3, READ_PLAIN);
    join_channel_again(taker, "chat");
    assert_true(channel_set_deltas(hub, &taker->own, TAKES_DEFAULT, false));
    assert_int_equal(assert_form_of_next(taker, "chat", 4, READ_NUMBERED).number, 2);
}

/* The work that publishing an event is for its worker, apart from the delivery. */
static uint32_t work_to_publish(const char *channel, const char *data) {
    uint32_t before = workers.list[0]->turn_work;

    publish(0, channel, data);
    return workers.list[0]->turn_work - before;
}

static void without_a_taker_an_event_is_not_searched_for_its_key(void **state) {
    struct peer *taker = join(0, "chat", TAKES_DEFAULT), *plain = join(0, "chat", TAKES_WHOLE);

    (void)state;
    hub->settings.deltas.key_path = SLICE("key");
    assert_in_range(work_to_publish("chat", tick("a", 1)), strlen(tick("a", 1)), 8000);
    leave(taker);
    assert_int_equal(work_to_publish("chat", tick("a", 2)), 0);
    harness_settle_all(&workers);
    for (unsigned i = 1; i <= 2; i++)
        assert_read(plain, READ_PLAIN, text_of("e", "chat", tick("a", i)));
}

static void a_publisher_of_distinct_keys_stays_within_the_bounds(void **state) {
    struct peer *taker = join(0, "prices", TAKES_DEFAULT), *other = join(1, "other", TAKES_DEFAULT);
    uint64_t most = 0;

    (void)state;
    hub->settings.deltas.key_path = SLICE("key");
    hub->settings.deltas.max_keys = 0;
    hub->settings.deltas.max_bytes = 256 * KB;
    publish(1, "other", tick("quiet", 0));
    for (unsigned i = 0; i < 2000; i++) {
        char key[20];
        snprintf(key, sizeof key, "key %u", i);
        publish(0, "prices", tick(key, i));
        if (delta_texts_bytes(&hub->texts) > most)
            most = delta_texts_bytes(&hub->texts);
        harness_settle_all(&workers);
        assert_int_equal(read_next(taker).form, READ_NUMBERED);
    }
    assert_in_range(most, 60 * KB, 64 * KB + KB); /* a quarter, and the other channel's text */
    budget_settle();
    assert_int_equal(budget_used(BUDGET_DELTAS), delta_texts_bytes(&hub->texts));
    publish(1, "other", tick("quiet", 1));
    harness_settle_all(&workers);
    assert_int_equal(read_next(other).form, READ_NUMBERED);
    assert_int_equal(read_next(other).form, READ_DELTA); /* the other channel has kept its text */
    assert_true(COUNTED(delta_evictions) > 1700);
}

static void many_channels_share_the_bound_and_the_oldest_text_goes(void **state) {
    struct peer *first = join(0, "first", TAKES_DEFAULT), *second = join(0, "second", TAKES_DEFAULT);
    struct peer *third = join(0, "third", TAKES_DEFAULT);

    (void)state;
    hub->settings.deltas.max_bytes = KB * 2; /* room for three texts, a quarter for one */
    assert_form_of_next(first, "first", 1, READ_NUMBERED);
    assert_true(delta_texts_bytes(&hub->texts) < KB);
    hub->settings.deltas.max_bytes = 4 * delta_texts_bytes(&hub->texts); /* a quarter is a text */
    assert_form_of_next(second, "second", 1, READ_NUMBERED);
    assert_form_of_next(third, "third", 1, READ_NUMBERED);
    assert_form_of_next(first, "first", 2, READ_DELTA); /* the second is the oldest now */
    hub->settings.deltas.max_bytes = 4 * (delta_texts_bytes(&hub->texts) / 3);
    join(0, "fourth", TAKES_DEFAULT);
    publish(0, "fourth", tick("", 1));
    join(0, "fifth", TAKES_DEFAULT);
    publish(0, "fifth", tick("", 1));
    harness_settle_all(&workers);
    assert_true(delta_texts_bytes(&hub->texts) <= hub->settings.deltas.max_bytes);
    assert_int_equal(COUNTED(delta_evictions), 1);
    assert_form_of_next(first, "first", 3, READ_DELTA);
    assert_form_of_next(third, "third", 2, READ_DELTA);
    assert_form_of_next(second, "second", 2, READ_NUMBERED);
}

/* Its holder may be encoding, which takes long: nobody waits for that to drop a text. */
static void a_text_whose_state_is_locked_is_passed_over(void **state) {
    struct peer *first = join(0, "first", TAKES_DEFAULT), *second = join(0, "second", TAKES_DEFAULT);
    struct delta_state *locked = atomic_load(&first->own.channel->deltas);
    uint64_t one;

    (void)state;
    assert_form_of_next(first, "first", 1, READ_NUMBERED);
    one = delta_texts_bytes(&hub->texts);
    assert_form_of_next(second, "second", 1, READ_NUMBERED);
    hub->settings.deltas.max_bytes = one;
    pthread_mutex_lock(&locked->mutex);
    delta_state_shrink(hub, slot, workers.list[0]);
    assert_int_equal(delta_texts_bytes(&hub->texts), one);
    hub->settings.deltas.max_bytes = one - 1;
    delta_state_shrink(hub, slot, workers.list[0]);
    channel_hub_expire(hub, workers.list[0]->now_ms + 301000);
    assert_int_equal(delta_texts_bytes(&hub->texts), one);
    pthread_mutex_unlock(&locked->mutex);
    delta_state_shrink(hub, slot, workers.list[0]);
    assert_int_equal(delta_texts_bytes(&hub->texts), 0);
    assert_int_equal(COUNTED(delta_evictions), 2);
}

/* An event of the API for several channels: each has its own base, so each needs a delta of its own. */
static void over_a_bound_of_work_the_other_channels_of_an_event_get_it_whole(void **state) {
    struct peer *taker = join(0, "chat", TAKES_DEFAULT);
    size_t work = 0;
    struct channel_event event = {.event = SLICE("\"e\""), .data = slice_of(tick("", 2)), .delta_work = &work};

    (void)state;
    assert_form_of_next(taker, "chat", 1, READ_NUMBERED);
    publish_event(0, "chat", &event);
    harness_settle_all(&workers);
    assert_int_equal(read_next(taker).form, READ_DELTA);
    assert_in_range(work, 1, 1000);
    work = (size_t)16 * KB * KB;
    publish_event(0, "chat", &event);
    harness_settle_all(&workers);
    assert_int_equal(read_next(taker).form, READ_NUMBERED);
    assert_form_of_next(taker, "chat", 3, READ_DELTA);
}

static void an_app_with_many_texts_loses_its_own(void **state) {
    static const char *const channels[] = {"a", "b", "c", "d", "e"};
    struct app_slot *large = slot, *small = app_slot_create(SLICE("43"), 2);
    struct peer *quiet;

    (void)state;
    hub->settings.deltas.key_path = SLICE("key");
    hub->settings.deltas.max_bytes = 16 * KB;
    slot = small;
    quiet = join(0, "quiet", TAKES_DEFAULT);
    publish(0, "quiet", tick("k", 0)); /* the oldest text of all */
    slot = large;
    for (unsigned i = 0; i < 5; i++)
        join(1, channels[i], TAKES_DEFAULT);
    for (unsigned i = 0; i < 200; i++) {
        char key[20];
        snprintf(key, sizeof key, "key %u", i);
        publish(0, channels[i % 5], tick(key, i));
    }
    assert_true(delta_texts_bytes(&hub->texts) <= 16 * KB);
    assert_true(COUNTED(delta_evictions) > 100);
    slot = small;
    assert_int_equal(COUNTED(delta_evictions), 0);
    publish(0, "quiet", tick("k", 1));
    harness_settle_all(&workers);
    assert_int_equal(read_next(quiet).form, READ_NUMBERED);
    assert_int_equal(read_next(quiet).form, READ_DELTA);
    leave(quiet);
    harness_settle_all(&workers);
    app_slot_destroy(small, channel_table_destroy);
    slot = large;
}

static void a_text_without_room_is_not_kept(void **state) {
    struct peer *taker = join(0, "chat", TAKES_DEFAULT);

    (void)state;
    assert_form_of_next(taker, "chat", 1, READ_NUMBERED);
    assert_form_of_next(taker, "chat", 2, READ_DELTA);
    hub->settings.deltas.max_bytes = 100;
    assert_form_of_next(taker, "chat", 3, READ_DELTA);
    assert_int_equal(delta_texts_bytes(&hub->texts), 0);
    assert_form_of_next(taker, "chat", 4, READ_NUMBERED);
    hub->settings.deltas.max_bytes = KB * KB;
    assert_form_of_next(taker, "chat", 5, READ_NUMBERED);
    assert_form_of_next(taker, "chat", 6, READ_DELTA);
    budget_set_limit(1); /* no room in the account of memory, either */
    assert_form_of_next(taker, "chat", 7, READ_DELTA);
    assert_int_equal(delta_texts_bytes(&hub->texts), 0);
    budget_set_limit(0);
    assert_form_of_next(taker, "chat", 8, READ_NUMBERED);
}

/* What an event takes on its way, about: it counts for the app as well. */
#define EVENT_BYTES 1000

static void a_text_that_goes_for_another_is_no_refusal(void **state) {
    struct peer *taker = join(0, "prices", TAKES_DEFAULT);
    uint64_t refusals = budget_refusals(BUDGET_DELTAS), held;

    (void)state;
    hub->settings.deltas.key_path = SLICE("key");
    hub->settings.deltas.max_keys = 0;
    for (unsigned i = 10; i < 50; i++) {
        char key[20];
        snprintf(key, sizeof key, "key %u", i);
        if (i == 30) { /* the app has all of its share now: two thirds of what it and nobody has */
            held = budget_app_held(slot->budget);
            held += EVENT_BYTES;
            budget_set_limit((4 * (budget_used(BUDGET_DELTAS) + (held + 1) / 2) + 99) / 100 * 100);
        }
        publish(0, "prices", tick(key, i));
        harness_settle_all(&workers);
        assert_int_equal(read_next(taker).form, READ_NUMBERED);
        budget_settle();
    }
    budget_set_limit(0);
    assert_true(COUNTED(delta_evictions) >= 20);
    assert_int_equal(budget_refusals(BUDGET_DELTAS), refusals);
}

static void a_channel_gets_room_from_the_other_channels_of_its_app(void **state) {
    struct peer *first = join(0, "first", TAKES_DEFAULT), *second = join(0, "second", TAKES_DEFAULT);
    uint64_t refusals = budget_refusals(BUDGET_DELTAS), held;

    (void)state;
    assert_form_of_next(first, "first", 1, READ_NUMBERED);
    budget_settle();
    held = budget_app_held(slot->budget) + EVENT_BYTES / 2;
    budget_set_limit((4 * (budget_used(BUDGET_DELTAS) + held) + 99) / 100 * 100); /* the app is short */
    assert_form_of_next(second, "second", 1, READ_NUMBERED);
    assert_form_of_next(second, "second", 2, READ_DELTA);
    assert_form_of_next(first, "first", 2, READ_NUMBERED); /* its text has gone */
    budget_set_limit(0);
    assert_int_equal(budget_refusals(BUDGET_DELTAS), refusals);
    assert_true(COUNTED(delta_evictions) > 0);
}

/* Takes bytes of another kind, so that of a limit of 64 MB only so many are left. */
static size_t leave_free(size_t bytes) {
    const size_t limit = 64 * KB * KB;
    size_t taken;

    budget_settle();
    taken = limit - bytes - budget_total();
    budget_add(BUDGET_OUTPUT, NULL, taken);
    budget_set_limit(limit);
    return taken;
}

static void texts_give_way_to_what_others_take(void **state) {
    struct peer *first = join(0, "first", TAKES_DEFAULT), *second = join(0, "second", TAKES_DEFAULT);
    size_t taken;

    (void)state;
    assert_form_of_next(first, "first", 1, READ_NUMBERED);
    assert_form_of_next(second, "second", 1, READ_NUMBERED);
    taken = leave_free(4 * KB * KB);
    channel_hub_expire(hub, workers.list[0]->now_ms);
    assert_form_of_next(first, "first", 2, READ_DELTA); /* there is room enough */
    budget_give(BUDGET_OUTPUT, NULL, taken);
    taken = leave_free(KB * KB);
    assert_form_of_next(first, "first", 3, READ_DELTA);
    assert_int_equal(delta_texts_bytes(&hub->texts), 0);
    budget_set_limit(0);
    budget_give(BUDGET_OUTPUT, NULL, taken);
    assert_form_of_next(second, "second", 2, READ_NUMBERED);
    taken = leave_free(KB * KB);
    channel_hub_expire(hub, workers.list[0]->now_ms); /* once a second, also without events */
    assert_int_equal(delta_texts_bytes(&hub->texts), 0);
    budget_set_limit(0);
    budget_give(BUDGET_OUTPUT, NULL, taken);
}

static void without_memory_for_a_text_none_is_kept(void **state) {
    struct peer *taker = join(0, "chat", TAKES_DEFAULT);

    (void)state;
    for (unsigned i = 0; i < 2; i++) { /* the first text, and one in place of a shorter one */
        harness_fail_malloc(strlen(text_of("e", "chat", tick("", 1000))));
        assert_form_of_next(taker, "chat", 1000, i == 0 ? READ_NUMBERED : READ_DELTA);
        harness_fail_malloc(0);
        assert_int_equal(delta_texts_bytes(&hub->texts), 0);
        assert_form_of_next(taker, "chat", 1, READ_NUMBERED);
        assert_form_of_next(taker, "chat", 2, READ_DELTA);
    }
}

static void a_text_that_is_too_large_leaves_the_others_alone(void **state) {
    struct peer *taker = join(0, "prices", TAKES_DEFAULT);
    const struct slice head = SLICE("\"{\\\"key\\\":\\\"large\\\",\\\"a\\\":\\\"");
    static char data[3 * KB];

    (void)state;
    hub->settings.deltas.key_path = SLICE("key");
    hub->settings.deltas.max_bytes = 8 * KB; /* a quarter is less than the large text */
    publish(0, "prices", tick("small", 1));
    memset(data, 'l', sizeof data - 1);
    memcpy(data, head.data, head.length);
    memcpy(data + sizeof data - 5, "\\\"}\"", 5);
    publish(0, "prices", data);
    publish(0, "prices", tick("small", 2));
    harness_settle_all(&workers);
    assert_int_equal(read_next(taker).form, READ_NUMBERED);
    assert_int_equal(read_next(taker).form, READ_NUMBERED);
    assert_int_equal(read_next(taker).form, READ_DELTA);
    assert_int_equal(COUNTED(delta_evictions), 0);
}

static void buckets_go_with_the_keys(void **state) {
    struct peer *taker = join(0, "prices", TAKES_DEFAULT);
    const struct delta_state *deltas = atomic_load(&taker->own.channel->deltas);

    (void)state;
    hub->settings.deltas.key_path = SLICE("key");
    hub->settings.deltas.max_keys = 0;
    for (unsigned i = 0; i < 300; i++) {
        char key[20];
        if (i == 299)
            hub->settings.deltas.max_keys = 3; /* most of the others go */
        snprintf(key, sizeof key, "key %u", i);
        publish(0, "prices", tick(key, i));
        harness_settle_all(&workers);
        assert_int_equal(read_next(taker).form, READ_NUMBERED);
        assert_true(deltas->bucket_count >= deltas->key_count);
        assert_true(deltas->bucket_count <= 4 * deltas->key_count);
    }
    assert_int_equal(deltas->key_count, 3);
    publish(0, "prices", tick("key 298", 0)); /* it is still found */
    harness_settle_all(&workers);
    assert_int_equal(read_next(taker).form, READ_DELTA);
}

static void a_text_that_is_too_old_is_no_base(void **state) {
    struct peer *taker = join(0, "chat", TAKES_DEFAULT);

    (void)state;
    assert_form_of_next(taker, "chat", 1, READ_NUMBERED);
    for (unsigned i = 0; i < 2; i++)
        harness_advance(workers.list[i], 300000);
    channel_hub_expire(hub, workers.list[0]->now_ms);
    assert_form_of_next(taker, "chat", 2, READ_DELTA);
    for (unsigned i = 0; i < 2; i++)
        harness_advance(workers.list[i], 301000);
    assert_form_of_next(taker, "chat", 3, READ_NUMBERED);
    for (unsigned i = 0; i < 2; i++)
        harness_advance(workers.list[i], 301000);
    channel_hub_expire(hub, workers.list[0]->now_ms);
    assert_int_equal(delta_texts_bytes(&hub->texts), 0);
    assert_form_of_next(taker, "chat", 4, READ_NUMBERED);
}

static void without_room_for_a_state_a_subscription_stays_whole(void **state) {
    struct peer *peer = join(0, "chat", TAKES_WHOLE);

    (void)state;
    budget_set_limit(1);
    assert_false(channel_set_deltas(hub, &peer->own, TAKES_DEFAULT, true));
    budget_set_limit(0);
    assert_int_equal(channel_deltas(&peer->own, NULL), TAKES_WHOLE);
    assert_form_of_next(peer, "chat", 1, READ_PLAIN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(whole_then_three_deltas_then_whole_again),
        TEST(the_frames_are_those_of_the_protocol),
        TEST(a_filtered_subscriber_gets_a_delta_only_if_the_base_was_for_it),
        TEST(each_client_gets_the_algorithm_that_it_takes),
        TEST(an_interval_of_zero_sends_all_whole),
        TEST(a_delta_that_is_no_shorter_is_not_sent),
        TEST(a_delta_is_shorter_than_the_whole_event),
        TEST(names_of_events_share_the_base),
        TEST(some_events_go_whole_and_leave_the_base_alone),
        TEST(who_comes_later_or_has_lost_its_texts_gets_the_next_event_whole),
        TEST(what_waits_when_a_client_asks_for_deltas_is_its_base),
        TEST(who_was_left_out_of_the_base_gets_the_next_event_whole),
        TEST(who_lost_an_event_because_it_was_slow_gets_the_next_one_whole),
        TEST(events_that_wait_together_go_in_one_piece_in_the_form_of_each),
        TEST(each_key_has_its_own_base),
        TEST(two_lives_of_a_channel_begin_with_different_numbers),
        TEST(the_key_that_was_sent_longest_ago_goes_for_a_new_one),
        TEST(at_the_largest_number_all_keys_begin_anew),
        TEST(a_channel_may_get_keys_and_lose_them),
        TEST(a_channel_that_is_turned_off_sends_deltas_only_to_those_that_asked),
        TEST(an_algorithm_is_left_unnamed_until_a_client_is_told_another_one),
        TEST(texts_go_with_the_last_taker_and_the_numbers_go_on),
        TEST(without_a_taker_an_event_is_not_searched_for_its_key),
        TEST(a_publisher_of_distinct_keys_stays_within_the_bounds),
        TEST(many_channels_share_the_bound_and_the_oldest_text_goes),
        TEST(a_text_whose_state_is_locked_is_passed_over),
        TEST(over_a_bound_of_work_the_other_channels_of_an_event_get_it_whole),
        TEST(an_app_with_many_texts_loses_its_own),
        TEST(a_text_without_room_is_not_kept),
        TEST(a_text_that_goes_for_another_is_no_refusal),
        TEST(a_channel_gets_room_from_the_other_channels_of_its_app),
        TEST(texts_give_way_to_what_others_take),
        TEST(without_memory_for_a_text_none_is_kept),
        TEST(a_text_that_is_too_large_leaves_the_others_alone),
        TEST(buckets_go_with_the_keys),
        TEST(a_text_that_is_too_old_is_no_base),
        TEST(without_room_for_a_state_a_subscription_stays_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
