/* Channels: names, delivery and its order, cached events, presence, counts, users, and the release of all memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel/channel_internal.h"
#include "harness.h"
#include "text_frames.h"

/* A connection that may join channels; its socket id is {number, 1}. */
struct peer {
    struct stream *stream;
    int client;
    uint64_t number;
    struct buffer in; /* received bytes that the test has not checked */
    struct subscription own;
};

static struct workers workers;
static struct channel_hub *hub;
static struct app_slot *slot;
static struct buffer received; /* the last message that was read */
static uint64_t peers_made;
static unsigned terminated, reconnects;
static struct app counting_app = {.references = 1, .webhook_kinds = WEBHOOK_SUBSCRIPTION_COUNT};

/* --- peers --- */

static void terminate(struct stream *stream, bool reconnect, uint64_t before_ms) {
    struct peer *peer = stream->context;

    (void)before_ms;
    reconnects += reconnect;
    terminated++;
    channel_leave(hub, &peer->own, NULL); /* as a closing session does */
}

static bool has_socket_id(const struct stream *stream, const struct socket_id *id) {
    return ((const struct peer *)stream->context)->number == id->first && id->second == 1;
}

static void open_peer(struct peer *peer, unsigned worker) {
    *peer = (struct peer){.number = ++peers_made};
    peer->stream = harness_open(workers.list[worker], peer, &peer->client);
}

static void close_peer(struct peer *peer) {
    harness_close(peer->stream, peer->client);
    buffer_dispose(&peer->in);
}

/* Reads the next message into `received`; false if there is none. */
static bool next_message(struct peer *peer) {
    return text_frame_receive(peer->client, &peer->in, &received);
}

static void assert_told(struct peer *peer, const char *expected) {
    if (!next_message(peer))
        fail_msg("nothing came in place of %s", expected);
    assert_string_equal(buffer_string(&received), expected);
}

static void assert_told_nothing(struct peer *peer) {
    if (next_message(peer))
        fail_msg("%s came", buffer_string(&received));
}

static void set_up_with(unsigned worker_count, uint32_t group_max_messages) {
    const struct channel_hub_settings settings = {.cache_ttl_s = 60,
                                                  .cache_max_channels = 3,
                                                  .group_max_messages = group_max_messages,
                                                  .group_max_bytes = 65536,
                                                  .terminate = terminate,
                                                  .has_socket_id = has_socket_id};

    harness_create(&workers, worker_count);
    hub = channel_hub_create(&workers, &settings);
    slot = app_slot_create(SLICE("42"), worker_count);
    terminated = reconnects = 0;
}

static int set_up(void **state) {
    (void)state;
    set_up_with(2, 64);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    harness_settle_all(&workers);
    channel_hub_destroy(hub);
    app_slot_destroy(slot, channel_table_destroy);
    harness_destroy(&workers);
    buffer_dispose(&received);
    return 0;
}

/* --- actions of peers --- */

static enum channel_joined join_as(struct peer *peer, const char *channel, const char *user, uint32_t max_members,
                                   struct channel_join *join) {
    *join = (struct channel_join){.user_id = slice_of(user), .user_info = SLICE("{}"), .max_members = max_members};
    return channel_subscribe(hub, slot, peer->stream, slice_of(channel), &peer->own, join);
}

static void join(struct peer *peer, const char *channel) {
    struct channel_join answers;

    assert_int_equal(join_as(peer, channel, NULL, 0, &answers), CHANNEL_JOINED);
    assert_null(answers.members);
    if (answers.cached != NULL)
        frame_unref(answers.cached);
}

static void leave(struct peer *peer) {
    channel_leave(hub, &peer->own, NULL);
    assert_null(peer->own.channel);
}

static struct channel_counts publish_with(unsigned worker, const char *channel, const struct channel_event *event) {
    struct channel_counts counts;

    channel_publish(hub, slot, workers.list[worker], slice_of(channel), event, &counts);
    return counts;
}

static void publish(unsigned worker, const char *channel, const char *data) {
    publish_with(worker, channel, &(struct channel_event){.event = SLICE("\"e\""), .data = slice_of(data)});
}

static void keep(unsigned worker, const char *channel, const char *data) {
    publish_with(worker, channel,
                 &(struct channel_event){.event = SLICE("\"e\""), .data = slice_of(data), .keep = true});
}

static bool exists(const char *channel) {
    struct channel *found = channel_find(slot, slice_of(channel));

    if (found != NULL)
        channel_unref(found);
    return found != NULL;
}

/* --- names --- */

static void a_name_says_what_kind_of_channel_it_is(void **state) {
    static const struct {
        const char *name;
        enum channel_kind kind;
        bool caches;
        enum channel_label label;
    } names[] = {
        {"chat", CHANNEL_PUBLIC, false, LABEL_PUBLIC},
        {"cache", CHANNEL_PUBLIC, false, LABEL_PUBLIC},
        {"cache-chat", CHANNEL_PUBLIC, true, LABEL_CACHE},
        {"my-cache-chat", CHANNEL_PUBLIC, false, LABEL_PUBLIC},
        {"Private-chat", CHANNEL_PUBLIC, false, LABEL_PUBLIC},
        {"private", CHANNEL_PUBLIC, false, LABEL_PUBLIC},
        {"private-", CHANNEL_PRIVATE, false, LABEL_PRIVATE},
        {"private-chat", CHANNEL_PRIVATE, false, LABEL_PRIVATE},
        {"private-my-cache-x", CHANNEL_PRIVATE, false, LABEL_PRIVATE},
        {"private-cache-x", CHANNEL_PRIVATE, true, LABEL_CACHE},
        {"private-encrypted-x", CHANNEL_ENCRYPTED, false, LABEL_PRIVATE},
        {"private-encrypted-cache-x", CHANNEL_ENCRYPTED, true, LABEL_CACHE},
        {"private-cache-encrypted-x", CHANNEL_PRIVATE, true, LABEL_CACHE},
        {"private-encrypted", CHANNEL_PRIVATE, false, LABEL_PRIVATE},
        {"presence-x", CHANNEL_PRESENCE, false, LABEL_PRESENCE},
        {"presence-cache-x", CHANNEL_PRESENCE, true, LABEL_CACHE},
        {"presence", CHANNEL_PUBLIC, false, LABEL_PUBLIC},
        {"#server-to-user-1", CHANNEL_USER, false, LABEL_PRIVATE},
        {"", CHANNEL_PUBLIC, false, LABEL_PUBLIC},
    };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct channel_type type = channel_type_of(slice_of(names[i].name));
        if (type.kind != names[i].kind || type.caches != names[i].caches || channel_label_of(type) != names[i].label)
            fail_msg("%s is taken for kind %d, caches %d", names[i].name, type.kind, type.caches);
    }
}

static void names_have_only_the_characters_that_the_protocol_allows(void **state) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-=@,.;:#";
    char user[300];

    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[3] = {'a', (char)byte, 'b'};
        bool valid = byte != 0 && strchr(allowed, (int)byte) != NULL;
        assert_int_equal(channel_name_valid((struct slice){name, 3}), valid);
    }
    assert_false(channel_name_valid(SLICE("")));
    assert_true(channel_name_valid(slice_of(allowed)));
    /* A user id may have any characters; only its length is limited. */
    assert_false(channel_name_valid(SLICE("#server-to-user-")));
    assert_true(channel_name_valid(SLICE("#server-to-user-a \"b\" \xC3\xA9")));
    memset(user, 'u', sizeof user);
    memcpy(user, USER_CHANNEL_PREFIX, sizeof USER_CHANNEL_PREFIX - 1);
    assert_true(channel_name_valid((struct slice){user, 16 + 255}));
    assert_false(channel_name_valid((struct slice){user, 16 + 256}));
    assert_false(channel_name_valid(SLICE("#server-to-use \"")));
}

static void socket_ids_are_two_numbers_and_a_dot(void **state) {
    static const char *const wrong[] = {
        "",    ".", "1", "1.", ".1", "1.2.3", "a.b", "-1.2", "1,2", "1. 2", " 1.2", "1.2 ", "1.18446744073709551616",
        "+1.2"};
    struct socket_id id;

    (void)state;
    assert_true(socket_id_parse(SLICE("123.456"), &id));
    assert_true(id.first == 123 && id.second == 456);
    assert_true(socket_id_parse(SLICE("0.18446744073709551615"), &id));
    assert_true(id.first == 0 && id.second == UINT64_MAX);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (socket_id_parse(slice_of(wrong[i]), &id))
            fail_msg("\"%s\" is taken for a socket id", wrong[i]);
    assert_false(socket_id_parse((struct slice){0}, &id));
}

/* --- publishing --- */

static void an_event_reaches_the_subscribers_on_every_worker_and_nobody_else(void **state) {
    struct peer here, there, elsewhere;
    struct channel_counts counts;

    (void)state;
    open_peer(&here, 0);
    open_peer(&there, 1);
    open_peer(&elsewhere, 1);
    join(&here, "chat");
    join(&there, "chat");
    join(&elsewhere, "chat2");
    counts = publish_with(0, "chat",
                          &(struct channel_event){.event = SLICE("\"n\\u0061me\""), .data = SLICE("{ \"a\" : 1.50 }")});
    assert_int_equal(counts.subscriptions, 2);
    assert_int_equal(counts.users, 0);
    harness_settle_all(&workers);
    assert_told(&here, "{\"event\":\"n\\u0061me\",\"channel\":\"chat\",\"data\":{ \"a\" : 1.50 }}");
    assert_told(&there, "{\"event\":\"n\\u0061me\",\"channel\":\"chat\",\"data\":{ \"a\" : 1.50 }}");
    publish_with(1, "chat",
                 &(struct channel_event){.event = SLICE("\"e\""), .data = SLICE("\"d\""), .user_id = SLICE("\"u\"")});
    harness_settle_all(&workers);
    assert_told(&here, "{\"event\":\"e\",\"channel\":\"chat\",\"data\":\"d\",\"user_id\":\"u\"}");
    assert_told_nothing(&elsewhere);
    leave(&here);
    leave(&there);
    leave(&elsewhere);
    close_peer(&here);
    close_peer(&there);
    close_peer(&elsewhere);
}

static void publishing_to_nobody_leaves_nothing_behind(void **state) {
    struct channel_counts counts;

    (void)state;
    counts = publish_with(0, "chat", &(struct channel_event){.event = SLICE("\"e\""), .data = SLICE("1")});
    assert_int_equal(counts.subscriptions, 0);
    assert_false(exists("chat"));
    keep(0, "chat", "1"); /* not cached: this is not a cache channel */
    assert_false(exists("chat"));
}

static void the_sender_and_a_named_socket_are_left_out(void **state) {
    struct socket_id second = {0, 1};
    struct peer peers[3];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        open_peer(&peers[i], i % 2);
        join(&peers[i], "private-x");
    }
    second.first = peers[1].number;
    publish_with(
        0, "private-x",
        &(struct channel_event){.event = SLICE("\"a\""), .data = SLICE("1"), .except_stream = peers[0].stream});
    publish_with(0, "private-x",
                 &(struct channel_event){.event = SLICE("\"b\""), .data = SLICE("2"), .except_socket = &second});
    publish(0, "private-x", "3");
    harness_settle_all(&workers);
    assert_told(&peers[0], "{\"event\":\"b\",\"channel\":\"private-x\",\"data\":2}");
    assert_told(&peers[0], "{\"event\":\"e\",\"channel\":\"private-x\",\"data\":3}");
    assert_told(&peers[1], "{\"event\":\"a\",\"channel\":\"private-x\",\"data\":1}");
    assert_told(&peers[1], "{\"event\":\"e\",\"channel\":\"private-x\",\"data\":3}");
    assert_told(&peers[2], "{\"event\":\"a\",\"channel\":\"private-x\",\"data\":1}");
    assert_told(&peers[2], "{\"event\":\"b\",\"channel\":\"private-x\",\"data\":2}");
    assert_told(&peers[2], "{\"event\":\"e\",\"channel\":\"private-x\",\"data\":3}");
    for (unsigned i = 0; i < 3; i++) {
        leave(&peers[i]);
        close_peer(&peers[i]);
    }
}

static void assert_takes(const struct peer *peer, enum delta_takes takes, bool asked) {
    bool was_asked;

    assert_int_equal(channel_deltas(&peer->own, &was_asked), takes);
    assert_int_equal(was_asked, asked);
}

/* A filter for a subscription of the worker. */
static struct filter *make_filter(const struct peer *peer, const char *source) {
    struct filter *filter;
    struct json_value json;
    struct error error;

    assert_true(json_scan(slice_of(source), &json, &error));
    assert_int_equal(filter_intern(channel_hub_filters(hub, peer->stream->worker), slot->budget, SLICE("chat"), json,
                                   &filter, &error),
                     FILTER_READY);
    return filter;
}

static void how_a_subscription_takes_events_is_its_own(void **state) {
    struct peer peers[3];
    const struct subscriber_list *list;

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        open_peer(&peers[i], 0);
        join(&peers[i], "chat");
        assert_takes(&peers[i], TAKES_WHOLE, false);
    }
    list = &peers[0].own.channel->subscribers.lists[0];
    assert_true(channel_set_deltas(hub, &peers[0].own, TAKES_WHOLE, true));
    assert_true(channel_set_deltas(hub, &peers[1].own, TAKES_DEFAULT, false));
    assert_true(channel_set_deltas(hub, &peers[2].own, TAKES_FOSSIL, true));
    assert_true(channel_set_deltas(hub, &peers[2].own, TAKES_XDELTA3, true));
    channel_set_filter(hub, &peers[2].own, make_filter(&peers[2], "{\"key\":\"a\",\"cmp\":\"nex\"}"));
    hub->settings.deltas.min_size = 1000; /* no event is that long */
    assert_int_equal(list->deltas, 2);
    assert_true(list->filter_work > 0);
    publish(1, "chat", "1");
    harness_settle_all(&workers);
    channel_forget_base(&peers[1].own);
    publish(1, "chat", "2");
    harness_settle_all(&workers);
    for (unsigned i = 0; i < 3; i++) {
        assert_told(&peers[i], "{\"event\":\"e\",\"channel\":\"chat\",\"data\":1}");
        assert_told(&peers[i], "{\"event\":\"e\",\"channel\":\"chat\",\"data\":2}");
    }
    leave(&peers[0]); /* the last entry takes its place */
    assert_takes(&peers[1], TAKES_DEFAULT, false);
    assert_takes(&peers[2], TAKES_XDELTA3, true);
    leave(&peers[2]);
    assert_int_equal(list->deltas, 1);
    assert_int_equal(list->filter_work, 0);
    leave(&peers[1]);
    for (unsigned i = 0; i < 3; i++)
        close_peer(&peers[i]);
}

static void filters_are_shared_and_end_with_their_subscriptions(void **state) {
    static const char first[] = "{\"key\":\"a\",\"cmp\":\"ex\"}", second[] = "{\"key\":\"b\",\"cmp\":\"ex\"}";
    const struct filter_set *set = channel_hub_filters(hub, workers.list[0]);
    const struct subscriber_list *list;
    struct peer peers[2];
    uint32_t work;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        open_peer(&peers[i], 0);
        join(&peers[i], "chat");
        channel_set_filter(hub, &peers[i].own, make_filter(&peers[i], first));
    }
    list = &peers[0].own.channel->subscribers.lists[0];
    work = list->filter_work; /* of one filter */
    assert_true(work > 0);
    assert_ptr_equal(peers[0].own.filter, peers[1].own.filter);
    assert_int_equal(set->count, 1);
    channel_set_filter(hub, &peers[0].own, make_filter(&peers[0], first));
    channel_set_filter(hub, &peers[1].own, make_filter(&peers[1], second));
    assert_int_equal(set->count, 2);
    assert_int_equal(list->filter_work, 2 * work);
    channel_set_filter(hub, &peers[0].own, NULL);
    assert_int_equal(set->count, 1);
    assert_int_equal(list->filter_work, work);
    leave(&peers[1]);
    assert_int_equal(set->count, 0);
    leave(&peers[0]);
    for (unsigned i = 0; i < 2; i++)
        close_peer(&peers[i]);
}

/* Makes one of the filters whose evaluation takes longest. */
static struct filter *make_slow_filter(const struct peer *peer, unsigned number) {
    struct buffer source = {0};
    struct filter *filter;

    buffer_append(&source, SLICE("{\"op\":\"or\",\"nodes\":["));
    for (unsigned i = 0; i < FILTER_NODES_MAX - 1; i++)
        buffer_appendf(&source, "%s{\"key\":\"a\",\"cmp\":\"ct\",\"val\":\"%u\"}", i != 0 ? "," : "", number);
    buffer_append(&source, SLICE("]}"));
    filter = make_filter(peer, buffer_string(&source));
    buffer_dispose(&source);
    return filter;
}

/* Subscribes with the filter, and releases it if that is refused. */
static enum channel_joined join_filtered(struct peer *peer, struct filter *filter) {
    struct channel_join request = {.filter = filter};
    enum channel_joined joined = channel_subscribe(hub, slot, peer->stream, SLICE("chat"), &peer->own, &request);

    if (joined == CHANNEL_JOINED)
        channel_set_filter(hub, &peer->own, filter);
    else
        filter_release(channel_hub_filters(hub, peer->stream->worker), filter);
    return joined;
}

#define SLOW_FILTERS_LEAST 20
#define SLOW_FILTERS_MOST 100

/* Subscribes peers with different filters until one is refused, and returns their number. */
static unsigned fill_with_filters(struct peer *peers) {
    for (unsigned i = 0; i < SLOW_FILTERS_MOST; i++) {
        enum channel_joined joined;
        open_peer(&peers[i], 0);
        joined = join_filtered(&peers[i], make_slow_filter(&peers[i], i));
        if (joined == CHANNEL_FILTERS_FULL)
            return i;
        assert_int_equal(joined, CHANNEL_JOINED);
    }
    fail();
    return 0;
}

static void the_work_of_a_channels_filters_has_a_limit(void **state) {
    static struct peer peers[SLOW_FILTERS_MOST];
    struct filter_set *set = channel_hub_filters(hub, workers.list[0]);
    unsigned count = fill_with_filters(peers);
    struct peer *last = &peers[count];
    struct filter *other;

    (void)state;
    assert_true(count >= SLOW_FILTERS_LEAST);
    assert_int_equal(join_filtered(last, make_slow_filter(last, 0)), CHANNEL_JOINED); /* it is evaluated already */
    other = make_slow_filter(last, SLOW_FILTERS_MOST);
    assert_false(channel_takes_filter(&last->own, other));
    assert_false(channel_takes_filter(&peers[0].own, other)); /* another has its filter */
    assert_true(channel_takes_filter(&peers[1].own, other));  /* in place of its own */
    assert_true(channel_takes_filter(&last->own, NULL));
    leave(&peers[1]);
    assert_true(channel_takes_filter(&last->own, other));
    filter_release(set, other);
    for (unsigned i = 0; i <= count; i++) {
        if (i != 1)
            leave(&peers[i]);
        close_peer(&peers[i]);
    }
    assert_int_equal(set->count, 0);
}

#define TAGGED(value) "{\"event\":\"e\",\"channel\":\"chat\",\"data\":1,\"tags\":{\"a\":\"" value "\"}}"

/* Publishes an event with tags (NULL: none) to a channel. */
static void publish_tagged(const char *channel, const char *name, const char *source) {
    struct tags *tags = source != NULL ? tags_parse(slice_of(source), NULL) : NULL;

    publish_with(0, channel, &(struct channel_event){.event = slice_of(name), .data = SLICE("1"), .tags = tags});
    tags_unref(tags);
}

static void a_filter_decides_by_the_tags_of_an_event(void **state) {
    struct peer peers[4];
    uint64_t filtered = 0;

    (void)state;
    hub->settings.filters = hub->settings.show_tags = true;
    for (unsigned i = 0; i < 4; i++) {
        open_peer(&peers[i], i % 2);
        join(&peers[i], "chat");
    }
    channel_set_filter(hub, &peers[1].own, make_filter(&peers[1], "{\"key\":\"a\",\"cmp\":\"eq\",\"val\":\"x\"}"));
    channel_set_filter(hub, &peers[2].own, make_filter(&peers[2], "{\"key\":\"a\",\"cmp\":\"neq\",\"val\":\"x\"}"));
    publish_tagged("chat", "\"e\"", "{\"a\":\"x\"}");
    publish_tagged("chat", "\"e\"", "{\"a\":\"y\"}");
    publish_tagged("chat", "\"e\"", NULL);
    harness_settle_all(&workers);
    for (unsigned i = 0; i < 4; i++) {
        if (i != 2)
            assert_told(&peers[i], TAGGED("x"));
        if (i != 1)
            assert_told(&peers[i], TAGGED("y"));
        if (i != 1)
            assert_told(&peers[i], "{\"event\":\"e\",\"channel\":\"chat\",\"data\":1}");
        assert_told_nothing(&peers[i]);
        leave(&peers[i]);
        close_peer(&peers[i]);
    }
    for (unsigned i = 0; i < 2; i++)
        filtered += counter_read(&slot_part(slot, workers.list[i])->counters.filtered_messages);
    assert_int_equal(filtered, 3);
}

static void an_event_is_evaluated_once_for_each_filter(void **state) {
    static const char *const sources[] = {"{\"key\":\"a\",\"cmp\":\"eq\",\"val\":\"x\"}",
                                          "{\"key\":\"a\",\"cmp\":\"eq\",\"val\":\"y\"}"};
    const struct filter_set *set = channel_hub_filters(hub, workers.list[0]);
    struct peer peers[20];
    size_t once = 0;

    (void)state;
    hub->settings.filters = hub->settings.show_tags = true;
    for (unsigned i = 0; i < 20; i++) {
        open_peer(&peers[i], 0);
        join(&peers[i], "chat");
        if (i >= 2)
            channel_set_filter(hub, &peers[i].own, make_filter(&peers[i], sources[i % 2]));
        if (i == 2) {
            publish_tagged("chat", "\"e\"", NULL);
            harness_settle_all(&workers);
            once = set->work;
            assert_true(once > 0);
        }
    }
    publish_tagged("chat", "\"e\"", "{\"a\":\"x\"}");
    harness_settle_all(&workers);
    assert_int_equal(set->work, 2 * once);
    assert_int_equal(set->count, 2);
    for (unsigned i = 0; i < 20; i++) {
        if (i < 2)
            assert_told(&peers[i], "{\"event\":\"e\",\"channel\":\"chat\",\"data\":1}");
        if (i < 2 || i % 2 == 0)
            assert_told(&peers[i], TAGGED("x"));
        assert_told_nothing(&peers[i]);
        leave(&peers[i]);
        close_peer(&peers[i]);
    }
    assert_int_equal(set->count, 0);
}

static void a_newcomer_is_not_told_what_was_published_before_it_joined(void **state) {
    struct peer old, newcomer;

    (void)state;
    open_peer(&old, 0);
    open_peer(&newcomer, 0);
    join(&old, "chat");
    publish(1, "chat", "1"); /* waits in the mailbox of worker 0 */
    publish(1, "chat", "2");
    join(&newcomer, "chat");
    publish(1, "chat", "3");
    harness_settle_all(&workers);
    for (char data[] = "1"; data[0] <= '3'; data[0]++) {
        char expected[64];
        snprintf(expected, sizeof expected, "{\"event\":\"e\",\"channel\":\"chat\",\"data\":%s}", data);
        assert_told(&old, expected);
    }
    assert_told(&newcomer, "{\"event\":\"e\",\"channel\":\"chat\",\"data\":3}");
    assert_told_nothing(&newcomer);
    publish(1, "chat", "4"); /* not delivered: the peer has left */
    leave(&newcomer);
    publish(1, "chat", "5");
    harness_settle_all(&workers);
    assert_told_nothing(&newcomer);
    assert_told(&old, "{\"event\":\"e\",\"channel\":\"chat\",\"data\":4}");
    leave(&old);
    close_peer(&old);
    close_peer(&newcomer);
}

static void events_that_wait_together_are_joined_only_within_the_bounds(void **state) {
    struct peer chat, other;

    (void)state;
    tear_down(NULL);
    set_up_with(2, 4);
    open_peer(&chat, 0);
    open_peer(&other, 0);
    join(&chat, "chat");
    join(&other, "other");
    for (unsigned i = 0; i < 10; i++)
        publish(1, "chat", "\"joined\"");
    publish(1, "other", "0");
    publish(1, "chat", "\"after\"");
    /* Without the end of the turn: the output queue shows how the events were grouped. */
    for (struct message *rest = mailbox_take(&workers.list[0]->mailbox); rest != NULL;) {
        struct message *message = rest;
        rest = message->next;
        message->handle(workers.list[0], message, &rest);
    }
    assert_int_equal(chat.stream->out_messages, 11);
    assert_int_equal(chat.stream->out_count, 4); /* groups of 4, 4 and 2, and the event after the other channel's */
    harness_settle_all(&workers);
    for (unsigned i = 0; i < 10; i++)
        assert_told(&chat, "{\"event\":\"e\",\"channel\":\"chat\",\"data\":\"joined\"}");
    assert_told(&chat, "{\"event\":\"e\",\"channel\":\"chat\",\"data\":\"after\"}");
    assert_told(&other, "{\"event\":\"e\",\"channel\":\"other\",\"data\":0}");
    assert_int_equal(counter_read(&slot_part(slot, workers.list[0])->counters.messages_sent), 12);
    leave(&chat);
    leave(&other);
    close_peer(&chat);
    close_peer(&other);
}

static void a_small_channel_does_not_wait_for_a_large_one(void **state) {
    enum { LARGE = 200 };
    struct peer *large = calloc(LARGE, sizeof *large), small;
    unsigned told = 0;

    (void)state;
    for (unsigned i = 0; i < LARGE; i++) {
        open_peer(&large[i], 0);
        join(&large[i], "large");
    }
    open_peer(&small, 0);
    join(&small, "small");
    harness_settle_all(&workers);
    publish(1, "large", "1");
    publish(1, "small", "2");
    harness_turn(workers.list[0]);
    for (unsigned i = 0; i < LARGE; i++)
        told += next_message(&large[i]);
    assert_in_range(told, 1, LARGE / 2);
    assert_told(&small, "{\"event\":\"e\",\"channel\":\"small\",\"data\":2}");
    harness_settle_all(&workers);
    for (unsigned i = 0; i < LARGE; i++)
        told += next_message(&large[i]);
    assert_int_equal(told, LARGE);
    for (unsigned i = 0; i < LARGE; i++) {
        leave(&large[i]);
        close_peer(&large[i]);
    }
    leave(&small);
    close_peer(&small);
    free(large);
}

static void a_channel_goes_with_its_last_subscriber_even_while_events_wait(void **state) {
    struct peer peers[4];

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        open_peer(&peers[i], i % 2);
        join(&peers[i], "chat");
    }
    publish(0, "chat", "1");
    for (unsigned i = 0; i < 4; i++)
        leave(&peers[i]);
    assert_false(exists("chat"));
    join(&peers[0], "chat"); /* another app's channel with the same name */
    publish(0, "chat", "2");
    harness_settle_all(&workers);
    assert_told(&peers[0], "{\"event\":\"e\",\"channel\":\"chat\",\"data\":2}");
    leave(&peers[0]);
    for (unsigned i = 0; i < 4; i++) {
        assert_told_nothing(&peers[i]);
        close_peer(&peers[i]);
    }
}

/* --- presence --- */

static unsigned join_presence(struct peer *peer, const char *user, uint32_t max_members) {
    struct channel_join answers;
    unsigned count = 0;

    if (join_as(peer, "presence-x", user, max_members, &answers) == CHANNEL_JOINED)
        count = answers.members->count;
    member_list_unref(answers.members);
    return count;
}

static void events_of_the_protocol_pass_every_filter(void **state) {
    static const char never[] = "{\"key\":\"a\",\"cmp\":\"ex\"}";
    static const char *const names[] = {"\"pusher:x\"", "\"pusher_internal:x\"", "\"\\u0070usher:x\""};
    struct peer ada, eve, user;

    (void)state;
    hub->settings.filters = true;
    open_peer(&ada, 0);
    open_peer(&eve, 0);
    open_peer(&user, 0);
    join_presence(&ada, "ada", 0);
    channel_set_filter(hub, &ada.own, make_filter(&ada, never));
    join_presence(&eve, "eve", 0);
    join(&user, "#server-to-user-7");
    channel_set_filter(hub, &user.own, make_filter(&user, never));
    for (unsigned i = 0; i < 3; i++)
        publish_tagged("presence-x", names[i], NULL);
    publish_tagged("presence-x", "\"pushed\"", NULL);
    publish_tagged("#server-to-user-7", "\"e\"", NULL);
    leave(&eve);
    harness_settle_all(&workers);
    assert_told(&ada,
                "{\"event\":\"pusher_internal:member_added\",\"channel\":\"presence-x\",\"data\":\"{"
                "\\\"user_id\\\":\\\"eve\\\",\\\"user_info\\\":{}}\"}");
    for (unsigned i = 0; i < 3; i++) {
        char text[100];
        snprintf(text, sizeof text, "{\"event\":%s,\"channel\":\"presence-x\",\"data\":1}", names[i]);
        assert_told(&ada, text);
    }
    assert_told(&ada,
                "{\"event\":\"pusher_internal:member_removed\",\"channel\":\"presence-x\",\"data\":\"{"
                "\\\"user_id\\\":\\\"eve\\\"}\"}");
    assert_told_nothing(&ada);
    assert_told(&user, "{\"event\":\"e\",\"channel\":\"#server-to-user-7\",\"data\":1}");
    leave(&ada);
    leave(&user);
    close_peer(&ada);
    close_peer(&eve);
    close_peer(&user);
}

static void a_user_comes_and_goes_once_however_many_connections_it_has(void **state) {
    struct peer watcher, first, second;

    (void)state;
    open_peer(&watcher, 0);
    open_peer(&first, 0);
    open_peer(&second, 1);
    assert_int_equal(join_presence(&watcher, "w", 0), 1); /* the list includes the new member */
    assert_int_equal(join_presence(&first, "u\"1", 0), 2);
    assert_int_equal(join_presence(&second, "u\"1", 0), 2);
    leave(&first);
    harness_settle_all(&workers);
    assert_told(&watcher,
                "{\"event\":\"pusher_internal:member_added\",\"channel\":\"presence-x\",\"data\":"
                "\"{\\\"user_id\\\":\\\"u\\\\\\\"1\\\",\\\"user_info\\\":{}}\"}");
    assert_told_nothing(&watcher);
    leave(&second);
    harness_settle_all(&workers);
    assert_told(&watcher,
                "{\"event\":\"pusher_internal:member_removed\",\"channel\":\"presence-x\",\"data\":"
                "\"{\\\"user_id\\\":\\\"u\\\\\\\"1\\\"}\"}");
    assert_told_nothing(&first);
    assert_told_nothing(&second);
    leave(&watcher);
    assert_false(exists("presence-x"));
    close_peer(&watcher);
    close_peer(&first);
    close_peer(&second);
}

/* Subscribes once more, and returns the number of members in the new list. */
static unsigned list_again(struct peer *peer) {
    struct channel_join answers = {0};
    unsigned count;

    channel_snapshot(&peer->own, &answers);
    count = answers.members->count;
    member_list_unref(answers.members);
    return count;
}

static void a_client_that_subscribes_again_is_not_told_of_members_in_its_new_list(void **state) {
    static const char *const event = "{\"event\":\"e\",\"channel\":\"presence-x\",\"data\":1}";
    static const char *const added =
        "{\"event\":\"pusher_internal:member_added\",\"channel\":\"presence-x\",\"data\":"
        "\"{\\\"user_id\\\":\\\"b\\\",\\\"user_info\\\":{}}\"}";
    static const char *const removed =
        "{\"event\":\"pusher_internal:member_removed\",\"channel\":\"presence-x\","
        "\"data\":\"{\\\"user_id\\\":\\\"b\\\"}\"}";
    struct peer again, other, member;

    (void)state;
    open_peer(&again, 0);
    open_peer(&other, 0);
    open_peer(&member, 1);
    join_presence(&again, "a", 0);
    join_presence(&other, "a", 0);
    join_presence(&member, "b", 0); /* member_added waits in the mailbox of worker 0 */
    publish(1, "presence-x", "1");
    assert_int_equal(list_again(&again), 2);
    harness_settle_all(&workers);
    assert_told(&again, event);
    assert_told_nothing(&again);
    assert_told(&other, added);
    assert_told(&other, event);
    leave(&member);
    assert_int_equal(list_again(&again), 1);
    join_presence(&member, "b", 0);
    harness_settle_all(&workers);
    assert_told(&again, added);
    assert_told_nothing(&again);
    assert_told(&other, removed);
    assert_told(&other, added);
    leave(&again);
    leave(&other);
    leave(&member);
    close_peer(&again);
    close_peer(&other);
    close_peer(&member);
}

static void a_full_channel_takes_no_further_user_but_those_who_are_there(void **state) {
    struct peer peers[4], again;
    struct buffer users = {0};

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        open_peer(&peers[i], i % 2);
    open_peer(&again, 1);
    assert_int_equal(join_presence(&peers[0], "a", 2), 1);
    assert_int_equal(join_presence(&peers[1], "b", 2), 2);
    assert_int_equal(join_presence(&peers[2], "c", 2), 0);
    assert_int_equal(join_presence(&again, "a", 2), 2);
    leave(&peers[0]);
    assert_int_equal(join_presence(&peers[2], "c", 2), 0); /* member a is still in the channel */
    leave(&again);
    assert_int_equal(join_presence(&peers[2], "c", 2), 2);
    channel_append_users(slot, SLICE("presence-x"), &users);
    assert_true(slice_equal(buffer_slice(&users), SLICE("{\"id\":\"b\"},{\"id\":\"c\"}")));
    leave(&peers[1]);
    leave(&peers[2]);
    assert_int_equal(join_presence(&peers[3], "d", 0), 1);
    leave(&peers[3]);
    assert_false(exists("presence-x"));
    buffer_dispose(&users);
    for (unsigned i = 0; i < 4; i++)
        close_peer(&peers[i]);
    close_peer(&again);
}

/* --- cache channels --- */

/* Checks the cached event that a new subscriber gets; an empty text means none. */
static void assert_kept(struct peer *peer, const char *channel, const char *data) {
    struct channel_join answers;
    char expected[200];

    join_as(peer, channel, NULL, 0, &answers);
    snprintf(expected, sizeof expected, "{\"event\":\"e\",\"channel\":\"%s\",\"data\":%s}", channel, data);
    if (data[0] == '\0') {
        assert_null(answers.cached);
    } else {
        assert_non_null(answers.cached);
        assert_int_equal(answers.cached->length, strlen(expected) + 2);
        assert_memory_equal(answers.cached->bytes + 2, expected, strlen(expected));
        frame_unref(answers.cached);
    }
    leave(peer);
}

static void the_last_event_of_a_cache_channel_is_kept_for_who_comes_later(void **state) {
    struct channel_join again = {0};
    struct channel_info info;
    struct peer peer;

    (void)state;
    open_peer(&peer, 0);
    assert_kept(&peer, "cache-x", "");
    assert_false(exists("cache-x"));
    keep(1, "cache-x", "1");
    keep(1, "cache-x", "{\"second\":2}");
    publish(1, "cache-x", "\"a client's\"");
    assert_true(exists("cache-x"));
    assert_kept(&peer, "cache-x", "{\"second\":2}");
    join(&peer, "cache-x");
    channel_snapshot(&peer.own, &again);
    assert_non_null(again.cached);
    frame_unref(again.cached);
    leave(&peer);
    channel_inspect(slot, SLICE("cache-x"), true, &info);
    assert_false(info.occupied);
    assert_true(slice_equal(buffer_slice(&info.cached_data), SLICE("{\"second\":2}")));
    assert_in_range(info.cached_ttl_s, 1, 60);
    buffer_dispose(&info.cached_data);
    close_peer(&peer);
}

static void pass(uint64_t ms) {
    for (unsigned i = 0; i < workers.count; i++)
        harness_advance(workers.list[i], ms);
    channel_hub_expire(hub, workers.list[0]->now_ms);
}

static void a_kept_event_is_forgotten_when_its_time_is_over(void **state) {
    struct peer peer, other;

    (void)state;
    open_peer(&peer, 0);
    open_peer(&other, 1);
    keep(0, "cache-x", "1");
    pass(59000);
    assert_kept(&peer, "cache-x", "1"); /* reading does not extend the time */
    pass(1000);
    assert_false(exists("cache-x"));

    join(&peer, "cache-x"); /* with a subscriber, an expired event is dropped when it is read */
    keep(0, "cache-x", "2");
    pass(61000);
    assert_kept(&other, "cache-x", "");
    leave(&peer);
    assert_false(exists("cache-x"));

    keep(0, "cache-x", "3");
    pass(30000);
    keep(0, "cache-x", "4"); /* a new event has the full time */
    pass(59000);
    assert_kept(&peer, "cache-x", "4");
    pass(1000);
    assert_false(exists("cache-x"));
    close_peer(&peer);
    close_peer(&other);
}

static void beyond_the_capacity_the_channel_that_was_left_first_is_forgotten(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer, 0);
    keep(0, "cache-occupied", "0");
    join(&peer, "cache-occupied"); /* a channel with subscribers does not count */
    keep(0, "cache-1", "1");
    keep(0, "cache-2", "2");
    keep(0, "cache-3", "3");
    assert_true(exists("cache-1") && exists("cache-2") && exists("cache-3"));
    keep(0, "cache-1", "1"); /* a new event makes it the newest */
    keep(0, "cache-4", "4");
    assert_false(exists("cache-2"));
    assert_true(exists("cache-1") && exists("cache-3") && exists("cache-4"));
    leave(&peer);
    assert_false(exists("cache-3"));
    assert_true(exists("cache-1") && exists("cache-4") && exists("cache-occupied"));
    assert_int_equal(hub->kept.idle_count, 3);
    close_peer(&peer);
}

/* --- subscription_count --- */

static void join_counted(struct peer *peer, const char *channel) {
    struct channel_join answers = {.app = &counting_app};

    assert_int_equal(channel_subscribe(hub, slot, peer->stream, slice_of(channel), &peer->own, &answers),
                     CHANNEL_JOINED);
}

static void assert_count_told(struct peer *peer, unsigned count) {
    char expected[160];

    snprintf(expected, sizeof expected,
             "{\"event\":\"pusher_internal:subscription_count\",\"channel\":\"chat\",\"data\":"
             "\"{\\\"subscription_count\\\":%u}\"}",
             count);
    assert_told(peer, expected);
}

static void small_channels_tell_every_change_of_their_count(void **state) {
    struct peer peers[3];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        open_peer(&peers[i], i % 2);
        join_counted(&peers[i], "chat");
    }
    harness_settle_all(&workers);
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned count = i + 1; count <= 3; count++)
            assert_count_told(&peers[i], count);
        assert_told_nothing(&peers[i]);
    }
    channel_leave(hub, &peers[0].own, &counting_app);
    channel_leave(hub, &peers[1].own, NULL); /* the leaving connection decides whether counts are sent */
    harness_settle_all(&workers);
    assert_count_told(&peers[2], 2);
    assert_told_nothing(&peers[2]);
    channel_leave(hub, &peers[2].own, &counting_app);
    for (unsigned i = 0; i < 3; i++)
        close_peer(&peers[i]);
}

static void large_channels_tell_their_count_at_most_every_5_s(void **state) {
    enum { MANY = 150 };
    static struct peer peers[MANY];

    (void)state;
    atomic_store(&slot->current, app_ref(&counting_app));
    for (unsigned i = 0; i < MANY; i++) {
        open_peer(&peers[i], i % 2);
        join_counted(&peers[i], "chat");
        harness_settle_all(&workers);
    }
    for (unsigned count = 1; count <= 100; count++)
        assert_count_told(&peers[0], count);
    assert_told_nothing(&peers[0]);
    channel_leave(hub, &peers[MANY - 1].own, &counting_app);
    pass(4000);
    assert_told_nothing(&peers[0]);
    pass(2000);
    assert_count_told(&peers[0], MANY - 1); /* the count at that time, not when the timer was set */
    pass(20000);
    assert_told_nothing(&peers[0]);
    channel_leave(hub, &peers[MANY - 2].own, &counting_app); /* the last count is long ago: sent at once */
    harness_settle_all(&workers);
    assert_count_told(&peers[0], MANY - 2);
    channel_leave(hub, &peers[MANY - 3].own, &counting_app); /* the timer then finds no subscriber and sends nothing */
    for (unsigned i = 0; i < MANY - 3; i++)
        channel_leave(hub, &peers[i].own, &counting_app);
    assert_false(exists("chat"));
    pass(10000);
    for (unsigned i = 0; i < MANY; i++)
        close_peer(&peers[i]);
}

/* The app may be deleted and its slot freed while the timer of an empty channel is still set. */
static void a_count_that_is_due_outlives_its_app(void **state) {
    enum { MANY = 110 };
    static struct peer peers[MANY];

    (void)state;
    for (unsigned i = 0; i < MANY; i++) {
        open_peer(&peers[i], i % 2);
        join_counted(&peers[i], "chat");
    }
    for (unsigned i = 0; i < MANY; i++)
        channel_leave(hub, &peers[i].own, &counting_app);
    harness_settle_all(&workers);
    app_slot_destroy(slot, channel_table_destroy);
    slot = app_slot_create(SLICE("42"), workers.count);
    pass(10000);
    for (unsigned i = 0; i < MANY; i++)
        close_peer(&peers[i]);
}

static void presence_and_user_channels_have_no_count(void **state) {
    struct channel_join answers = {.user_id = SLICE("u"), .user_info = SLICE("{}"), .app = &counting_app};
    struct peer peer, other;

    (void)state;
    open_peer(&peer, 0);
    open_peer(&other, 0);
    channel_subscribe(hub, slot, peer.stream, SLICE("presence-x"), &peer.own, &answers);
    member_list_unref(answers.members);
    join_counted(&other, "#server-to-user-1");
    harness_settle_all(&workers);
    assert_told_nothing(&peer);
    assert_told_nothing(&other);
    channel_leave(hub, &peer.own, &counting_app);
    channel_leave(hub, &other.own, &counting_app);
    close_peer(&peer);
    close_peer(&other);
}

/* --- users --- */

static const char online_event[] =
    "{\"event\":\"pusher_internal:watchlist_events\",\"data\":"
    "\"{\\\"events\\\":[{\\\"name\\\":\\\"online\\\",\\\"user_ids\\\":[\\\"u\\\"]}]}\"}";
static const char offline_event[] =
    "{\"event\":\"pusher_internal:watchlist_events\",\"data\":"
    "\"{\\\"events\\\":[{\\\"name\\\":\\\"offline\\\",\\\"user_ids\\\":[\\\"u\\\"]}]}\"}";

static bool watch(struct peer *peer, const char *user) {
    bool online = false;

    channel_watch_user(hub, slot, peer->stream, slice_of(user), &peer->own, &online);
    assert_true(peer->own.watcher);
    return online;
}

static void watchers_learn_that_a_user_comes_and_goes(void **state) {
    struct peer early, late, first, second;

    (void)state;
    open_peer(&early, 0);
    open_peer(&late, 1);
    open_peer(&first, 1);
    open_peer(&second, 0);
    assert_false(watch(&early, "u"));
    join(&first, "#server-to-user-u");
    assert_true(watch(&late, "u")); /* the answer says it; no event follows */
    join(&second, "#server-to-user-u");
    leave(&first);
    harness_settle_all(&workers);
    assert_told(&early, online_event);
    assert_told_nothing(&early);
    assert_told_nothing(&late);
    leave(&second);
    harness_settle_all(&workers);
    assert_told(&early, offline_event);
    assert_told(&late, offline_event);
    assert_true(exists("#server-to-user-u")); /* kept for its watchers */
    leave(&early);
    assert_true(exists("#server-to-user-u"));
    leave(&late);
    assert_false(exists("#server-to-user-u"));
    assert_told_nothing(&first);
    assert_told_nothing(&second);
    close_peer(&early);
    close_peer(&late);
    close_peer(&first);
    close_peer(&second);
}

static void what_is_sent_to_a_user_does_not_reach_its_watchers(void **state) {
    struct peer watcher, user;

    (void)state;
    open_peer(&watcher, 0);
    open_peer(&user, 0);
    watch(&watcher, "a \"b\"");
    join(&user, "#server-to-user-a \"b\"");
    harness_settle_all(&workers);
    assert_true(next_message(&watcher));
    publish(1, "#server-to-user-a \"b\"", "1");
    harness_settle_all(&workers);
    assert_told(&user, "{\"event\":\"e\",\"channel\":\"#server-to-user-a \\\"b\\\"\",\"data\":1}");
    assert_told_nothing(&watcher);
    leave(&watcher);
    leave(&user);
    close_peer(&watcher);
    close_peer(&user);
}

static void terminating_a_user_closes_the_connections_that_it_has_now(void **state) {
    struct peer watcher, peers[6], late;

    (void)state;
    open_peer(&watcher, 0);
    open_peer(&late, 0);
    watch(&watcher, "u");
    for (unsigned i = 0; i < 6; i++) {
        open_peer(&peers[i], i % 2);
        join(&peers[i], "#server-to-user-u");
    }
    channel_terminate_user(hub, slot, workers.list[1], SLICE("nobody"), true);
    channel_terminate_user(hub, slot, workers.list[1], SLICE("u"), false);
    join(&late, "#server-to-user-u"); /* signed in after the termination */
    harness_settle_all(&workers);
    assert_int_equal(terminated, 6);
    assert_int_equal(reconnects, 0);
    assert_told(&watcher, online_event);
    assert_told_nothing(&watcher); /* the late connection is still signed in */
    channel_terminate_user(hub, slot, workers.list[0], SLICE("u"), true);
    harness_settle_all(&workers);
    assert_int_equal(terminated, 7);
    assert_int_equal(reconnects, 1);
    assert_told(&watcher, offline_event);
    leave(&watcher);
    assert_false(exists("#server-to-user-u"));
    for (unsigned i = 0; i < 6; i++)
        close_peer(&peers[i]);
    close_peer(&watcher);
    close_peer(&late);
}

/* --- reading --- */

struct seen_channels {
    unsigned count, subscriptions;
};

static void note_channel(void *context, struct slice name, struct channel_type type, struct channel_counts counts) {
    struct seen_channels *channels = context;

    assert_int_equal(channel_type_of(name).kind, type.kind);
    channels->count++;
    channels->subscriptions += counts.subscriptions;
}

static void assert_active(uint32_t public, uint32_t private, uint32_t presence, uint32_t cache) {
    uint32_t counts[CHANNEL_LABEL_COUNT];

    channel_count_active(slot, counts);
    assert_int_equal(counts[LABEL_PUBLIC], public);
    assert_int_equal(counts[LABEL_PRIVATE], private);
    assert_int_equal(counts[LABEL_PRESENCE], presence);
    assert_int_equal(counts[LABEL_CACHE], cache);
}

static void a_channel_is_active_while_any_worker_has_a_subscriber(void **state) {
    struct peer here, there, cached, user, watcher;
    struct channel_join refused;
    bool online;

    (void)state;
    assert_active(0, 0, 0, 0);
    open_peer(&here, 0);
    open_peer(&there, 1);
    open_peer(&cached, 0);
    open_peer(&user, 1);
    open_peer(&watcher, 0);
    join(&here, "chat");
    join(&there, "chat");
    assert_active(1, 0, 0, 0);
    leave(&here);
    assert_active(1, 0, 0, 0);
    leave(&there);
    assert_active(0, 0, 0, 0);

    assert_int_equal(join_presence(&here, "1", 1), 1);
    assert_active(0, 0, 1, 0);
    assert_int_equal(join_as(&there, "presence-x", "2", 1, &refused), CHANNEL_FULL);
    assert_active(0, 0, 1, 0);
    leave(&here);
    assert_active(0, 0, 0, 0);

    publish_with(0, "cache-kept", &(struct channel_event){.event = SLICE("\"e\""), .data = SLICE("1"), .keep = true});
    assert_active(0, 0, 0, 0); /* a cached event, but no subscriber */
    join(&cached, "cache-kept");
    assert_active(0, 0, 0, 1);
    leave(&cached);
    assert_active(0, 0, 0, 0);

    channel_watch_user(hub, slot, watcher.stream, SLICE("7"), &watcher.own, &online);
    join(&user, USER_CHANNEL_PREFIX "7");
    assert_active(0, 0, 0, 0); /* users' channels are not counted */
    leave(&user);
    leave(&watcher);
    assert_active(0, 0, 0, 0);
    close_peer(&here);
    close_peer(&there);
    close_peer(&cached);
    close_peer(&user);
    close_peer(&watcher);
}

/* --- a channel that another thread has marked dead, and has not taken out of the table yet --- */

/* Returns a reference. */
static struct channel *dying_channel(const char *name) {
    struct channel *channel = channel_find_or_create(hub, slot, slice_of(name));

    assert_true(channel_is_unused(channel));
    channel->dead = true;
    return channel;
}

/* That thread goes on. */
static void end_dying(struct channel *channel) {
    channel_unlink(channel);
    channel_unref(channel);
}

static void a_client_does_not_join_a_dying_channel(void **state) {
    static const char *const names[] = {"chat", "private-x", "cache-x", "#server-to-user-u"};
    struct peer peer;

    (void)state;
    open_peer(&peer, 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct channel *dying = dying_channel(names[i]);
        char expected[80];

        join(&peer, names[i]);
        assert_ptr_not_equal(peer.own.channel, dying);
        end_dying(dying);
        publish(1, names[i], "1");
        harness_settle_all(&workers);
        snprintf(expected, sizeof expected, "{\"event\":\"e\",\"channel\":\"%s\",\"data\":1}", names[i]);
        assert_told(&peer, expected);
        leave(&peer);
        assert_false(exists(names[i]));
    }
    close_peer(&peer);
}

static void a_member_does_not_join_a_dying_channel(void **state) {
    struct channel *dying = dying_channel("presence-x");
    struct peer first, second;

    (void)state;
    open_peer(&first, 0);
    open_peer(&second, 1);
    assert_int_equal(join_presence(&first, "a", 0), 1);
    assert_int_equal(join_presence(&second, "b", 0), 2);
    assert_ptr_not_equal(first.own.channel, dying);
    end_dying(dying);
    assert_ptr_equal(first.own.channel, second.own.channel);
    leave(&first);
    leave(&second);
    assert_false(exists("presence-x"));
    close_peer(&first);
    close_peer(&second);
}

static void a_dying_channel_gets_no_event_to_keep(void **state) {
    const struct channel_event event = {.event = SLICE("\"e\""), .data = SLICE("2")};
    struct channel *dying = dying_channel("cache-x"), *other = dying_channel("cache-y");
    struct peer peer;

    (void)state;
    open_peer(&peer, 0);
    keep(1, "cache-x", "1");
    channel_keep(hub, slot, workers.list[1], SLICE("cache-y"), &event, 0); /* of another process */
    end_dying(dying);
    end_dying(other);
    assert_kept(&peer, "cache-x", "1");
    assert_kept(&peer, "cache-y", "2");
    close_peer(&peer);
}

static void publishing_to_a_dying_channel_ends(void **state) {
    struct channel *dying = dying_channel("chat");

    (void)state;
    publish(0, "chat", "1");
    assert_false(exists("chat"));
    end_dying(dying);
}

static void a_watcher_does_not_watch_a_dying_channel(void **state) {
    struct channel *dying = dying_channel("#server-to-user-u");
    struct peer watcher, user;

    (void)state;
    open_peer(&watcher, 0);
    open_peer(&user, 1);
    assert_false(watch(&watcher, "u"));
    end_dying(dying);
    join(&user, "#server-to-user-u");
    harness_settle_all(&workers);
    assert_told(&watcher, online_event);
    leave(&user);
    leave(&watcher);
    close_peer(&watcher);
    close_peer(&user);
}

static void thousands_of_channels_are_found_listed_and_counted(void **state) {
    enum { MANY = 30000 }; /* walked in several pieces */
    struct subscription *subscriptions = calloc(MANY + 3, sizeof *subscriptions);
    static const char *const prefixes[] = {"chat-", "private-", "presence-"};
    struct seen_channels channels = {0};
    uint32_t by_label[CHANNEL_LABEL_COUNT];
    struct channel_info info;
    struct peer peer;

    (void)state;
    assert_non_null(subscriptions);
    open_peer(&peer, 0);
    for (unsigned i = 0; i < MANY + 3; i++) {
        struct channel_join answers = {.user_id = SLICE("u"), .user_info = SLICE("1")};
        char name[64];
        if (i < MANY)
            snprintf(name, sizeof name, "%s%u", prefixes[i % 3], i);
        else
            snprintf(name, sizeof name, i == MANY ? "#server-to-user-1" : "%s", "chat-0");
        channel_subscribe(hub, slot, peer.stream, slice_of(name), &subscriptions[i], &answers);
        member_list_unref(answers.members);
    }
    keep(0, "cache-unoccupied", "1");
    channel_each(slot, SLICE(""), note_channel, &channels);
    assert_int_equal(channels.count, MANY);
    assert_int_equal(channels.subscriptions, MANY + 2);
    channels = (struct seen_channels){0};
    channel_each(slot, SLICE("presence-1"), note_channel, &channels);
    assert_int_equal(channels.count, 3702); /* the numbers 2, 5, ..., 29999 that begin with 1 */
    channel_count_active(slot, by_label);
    assert_int_equal(by_label[LABEL_PUBLIC], MANY / 3);
    assert_int_equal(by_label[LABEL_PRIVATE], MANY / 3);
    assert_int_equal(by_label[LABEL_PRESENCE], MANY / 3);
    assert_int_equal(by_label[LABEL_CACHE], 0);
    channel_inspect(slot, SLICE("chat-0"), true, &info);
    assert_true(info.occupied);
    assert_int_equal(info.counts.subscriptions, 3);
    assert_int_equal(info.cached_data.length, 0);
    channel_inspect(slot, SLICE("presence-2"), false, &info);
    assert_int_equal(info.counts.users, 1);
    channel_inspect(slot, SLICE("unknown"), true, &info);
    assert_false(info.occupied);
    for (unsigned i = 0; i < MANY + 3; i++)
        channel_leave(hub, &subscriptions[i], NULL);
    channels = (struct seen_channels){0};
    channel_each(slot, SLICE(""), note_channel, &channels);
    assert_int_equal(channels.count, 0);
    free(subscriptions);
    close_peer(&peer);
}

/* Fills the socket of a peer that does not read, so that later output waits. */
static void fill_socket(struct peer *peer) {
    static char bytes[1 << 20];

    stream_send_copy(peer->stream, bytes, sizeof bytes);
    streams_flush(peer->stream->worker);
    assert_true(stream_unsent_bytes(peer->stream) > 0);
}

static void a_crowd_that_comes_and_leaves_makes_nobody_a_slow_reader(void **state) {
    static const struct stream_limits limits = {.max_messages = 10, .max_bytes = 2 << 20};
    struct channel_join answers;
    struct peer reader, others[60];

    (void)state;
    open_peer(&reader, 0);
    join_as(&reader, "presence-x", "reader", 0, &answers);
    member_list_unref(answers.members);
    stream_set_limits(reader.stream, &limits);
    fill_socket(&reader);
    for (unsigned i = 0; i < 60; i++) {
        char user[16];
        snprintf(user, sizeof user, "%u", i);
        open_peer(&others[i], i % 2);
        join_as(&others[i], "presence-x", user, 0, &answers);
        member_list_unref(answers.members);
    }
    harness_settle_all(&workers);
    for (unsigned i = 0; i < 60; i++)
        leave(&others[i]);
    harness_settle_all(&workers);
    assert_false(reader.stream->slow);
    assert_true(reader.stream->out_messages <= 1);
    for (unsigned i = 0; i < 20 && !reader.stream->slow; i++)
        publish(0, "presence-x", "1");
    harness_settle_all(&workers);
    assert_int_equal(counter_read(&workers.list[0]->counters.slow_readers), 1); /* events do count */
    leave(&reader);
    for (unsigned i = 0; i < 60; i++)
        close_peer(&others[i]);
    close_peer(&reader);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_name_says_what_kind_of_channel_it_is),
        TEST(names_have_only_the_characters_that_the_protocol_allows),
        TEST(socket_ids_are_two_numbers_and_a_dot),
        TEST(an_event_reaches_the_subscribers_on_every_worker_and_nobody_else),
        TEST(publishing_to_nobody_leaves_nothing_behind),
        TEST(the_sender_and_a_named_socket_are_left_out),
        TEST(how_a_subscription_takes_events_is_its_own),
        TEST(filters_are_shared_and_end_with_their_subscriptions),
        TEST(the_work_of_a_channels_filters_has_a_limit),
        TEST(a_filter_decides_by_the_tags_of_an_event),
        TEST(events_of_the_protocol_pass_every_filter),
        TEST(an_event_is_evaluated_once_for_each_filter),
        TEST(a_newcomer_is_not_told_what_was_published_before_it_joined),
        TEST(events_that_wait_together_are_joined_only_within_the_bounds),
        TEST(a_small_channel_does_not_wait_for_a_large_one),
        TEST(a_channel_goes_with_its_last_subscriber_even_while_events_wait),
        TEST(a_user_comes_and_goes_once_however_many_connections_it_has),
        TEST(a_client_that_subscribes_again_is_not_told_of_members_in_its_new_list),
        TEST(a_full_channel_takes_no_further_user_but_those_who_are_there),
        TEST(the_last_event_of_a_cache_channel_is_kept_for_who_comes_later),
        TEST(a_kept_event_is_forgotten_when_its_time_is_over),
        TEST(beyond_the_capacity_the_channel_that_was_left_first_is_forgotten),
        TEST(small_channels_tell_every_change_of_their_count),
        TEST(large_channels_tell_their_count_at_most_every_5_s),
        TEST(a_count_that_is_due_outlives_its_app),
        TEST(presence_and_user_channels_have_no_count),
        TEST(watchers_learn_that_a_user_comes_and_goes),
        TEST(what_is_sent_to_a_user_does_not_reach_its_watchers),
        TEST(terminating_a_user_closes_the_connections_that_it_has_now),
        TEST(a_channel_is_active_while_any_worker_has_a_subscriber),
        TEST(a_client_does_not_join_a_dying_channel),
        TEST(a_member_does_not_join_a_dying_channel),
        TEST(a_dying_channel_gets_no_event_to_keep),
        TEST(publishing_to_a_dying_channel_ends),
        TEST(a_watcher_does_not_watch_a_dying_channel),
        TEST(thousands_of_channels_are_found_listed_and_counted),
        TEST(a_crowd_that_comes_and_leaves_makes_nobody_a_slow_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
