#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "cluster/message/message.h"

static const struct node_id sender = {0x0123456789abcdef, 0xfedcba9876543210};

static struct buffer quotas, places, members, sets, digests, changes, roster_items;

static int make_lists(void **state) {
    (void)state;
    message_add_quota(&quotas, &(struct message_quota){SLICE("app-1"), 100000});
    message_add_quota(&quotas, &(struct message_quota){SLICE("app-2"), 0});
    message_add_place(&places, &(struct message_place){SLICE("app-1"), SLICE("presence-room")});
    message_add_place(&places, &(struct message_place){SLICE("app-1"), SLICE("#server-to-user-ann\xc3\xa9")});
    message_add_member(&members, &(struct message_member){SLICE("anna"), SLICE("{\"a\":1}"), 1772618400123});
    message_add_member(&members, &(struct message_member){SLICE("bob"), {0}, 5});
    message_add_set(&sets, &(struct message_set){
                               .app = SLICE("app-1"),
                               .channel = SLICE("presence-cache-room"),
                               .version = 77,
                               .occupied = true,
                               .begins = true,
                               .members = buffer_slice(&members),
                               .count_version = 12,
                               .count = 3,
                               .name = SLICE("\"tick\""),
                               .data = SLICE("\"{}\""),
                               .publisher = {8, 9},
                               .published_ms = 1772618400999,
                               .left_ms = 1000,
                           });
    message_add_set(&sets, &(struct message_set){.app = SLICE("app-2"), .channel = SLICE("x"), .ends = true});
    message_add_roster_item(&roster_items, &(struct roster_item){.type = ROSTER_ALL});
    message_add_roster_item(&roster_items, &(struct roster_item){.type = ROSTER_TOLD_PART,
                                                                 .app = SLICE("app-1"),
                                                                 .channel = SLICE("presence-room"),
                                                                 .user = SLICE("anna"),
                                                                 .number = 2999});
    message_add_digest(&digests, &(struct message_digest_entry){UINT64_MAX, 3});
    message_add_app_change(&changes, &(struct message_app_change){SLICE("app-1"), SLICE("old"), SLICE("new"), true});
    message_add_app_change(&changes, &(struct message_app_change){.app = SLICE("app-2"), .new_key = SLICE("k")});
    return 0;
}

static int free_lists(void **state) {
    (void)state;
    buffer_dispose(&quotas);
    buffer_dispose(&places);
    buffer_dispose(&members);
    buffer_dispose(&sets);
    buffer_dispose(&digests);
    buffer_dispose(&changes);
    buffer_dispose(&roster_items);
    return 0;
}

/* A message of each kind with all its members set. */
static struct cluster_message example_of(enum message_kind kind) {
    struct cluster_message message = {.kind = kind, .version = 1, .sender = sender, .number = 1ull << 40};

    switch (kind) {
    case MESSAGE_HELLO:
    case MESSAGE_HELLO_ANSWER:
        message.hello = (struct message_hello){
            .versions = {1, 3},
            .replaces = {1, 2},
            .name = SLICE("node-1"),
            .address = SLICE("10.0.0.1:6001"),
            .since_ms = 1772618400123,
            .connections = 100000,
            .channels = 7,
            .load_permille = 250,
            .quotas = {.whole = 4, .part = 0, .last = true, .apps = buffer_slice(&quotas)},
        };
        break;
    case MESSAGE_HEARTBEAT:
        message.heartbeat = (struct message_heartbeat){1, 2, 3};
        break;
    case MESSAGE_DEAD:
        message.dead.id = (struct node_id){5, 6};
        break;
    case MESSAGE_EVENT:
        message.event = (struct message_event){
            .app = SLICE("app-1"),
            .channel = SLICE("prices"),
            .name = SLICE("\"tick\""),
            .data = SLICE("{\"n\":1.50}"),
            .user_id = SLICE("\"anna\""),
            .tags = SLICE("{\"region\":\"eu\"}"),
            .keep = true,
            .whole = true,
            .has_except = true,
            .except = {7, 1ull << 52},
            .published_ms = 1772618400123,
            .left_ms = 60000,
        };
        break;
    case MESSAGE_TERMINATE:
        message.terminate = (struct message_terminate){SLICE("app-1"), SLICE("anna"), true, 1772618400123};
        break;
    case MESSAGE_CHANGE:
        message.change = (struct message_change){
            .app = SLICE("app-1"),
            .channel = SLICE("presence-room"),
            .version = 78,
            .before = 77,
            .added = true,
            .empties = true,
            .known_already = true,
            .id = SLICE("anna"),
            .info = SLICE("{}"),
            .since_ms = 9,
        };
        break;
    case MESSAGE_COUNT:
        message.count = (struct message_count){SLICE("app-1"), SLICE("x"), 5, 6};
        break;
    case MESSAGE_TOLD:
        message.told = (struct message_told){SLICE("app-1"), SLICE("x"), 5};
        break;
    case MESSAGE_STATE_REQUEST:
    case MESSAGE_GAP_REQUEST:
        message.state_request = (struct message_state_request){1, 1 << 20, buffer_slice(&places)};
        break;
    case MESSAGE_STATE_PART:
        message.state_part = (struct message_state_part){1, 2, true, buffer_slice(&sets), buffer_slice(&digests)};
        break;
    case MESSAGE_STATE_CREDIT:
        message.state_credit = (struct message_state_credit){1, 1 << 21};
        break;
    case MESSAGE_DIGEST:
        message.digest = (struct message_digest){1, 65536, true, buffer_slice(&digests)};
        break;
    case MESSAGE_PROBE:
    case MESSAGE_PROBE_ANSWER:
        message.probe.request = 11;
        break;
    case MESSAGE_QUOTAS:
        message.quotas = (struct message_quotas){5, 1, true, buffer_slice(&quotas)};
        break;
    case MESSAGE_APP_CHANGES:
        message.app_changes.apps = buffer_slice(&changes);
        break;
    case MESSAGE_ROSTER:
        message.roster = (struct message_roster){9, true, buffer_slice(&roster_items)};
        break;
    case MESSAGE_API_REQUEST:
        message.api_request = (struct message_api_request){1, 2, SLICE("app-1"), SLICE("\xff\0")};
        break;
    case MESSAGE_API_ANSWER:
        message.api_answer = (struct message_api_answer){1, 2, true, 3, SLICE("\xff\0")};
        break;
    case MESSAGE_BYE:
    case MESSAGE_ROSTER_ASK:
    case MESSAGE_KINDS:
        break;
    }
    return message;
}

/* Decodes a copy that ends where its memory ends. */
static enum message_result decode_copy(struct slice bytes, struct cluster_message *message, char **copy,
                                       struct error *error) {
    *copy = alloc_copy(bytes.data, bytes.length);
    return message_decode((struct slice){*copy, bytes.length}, message, error);
}

static enum message_result result_of(struct slice bytes) {
    struct cluster_message message;
    struct error error = {0};
    enum message_result result;
    char *copy;

    result = decode_copy(bytes, &message, &copy, &error);
    free(copy);
    assert_int_equal(error.text[0] != '\0', result == MESSAGE_BROKEN);
    return result;
}

static struct slice slice_of_bytes(const struct bus_bytes *bytes) {
    return (struct slice){bytes->data, bytes->length};
}

static enum message_result result_of_message(const struct cluster_message *message) {
    struct bus_bytes *bytes = message_encode(message);
    enum message_result result = result_of(slice_of_bytes(bytes));

    bus_bytes_unref(bytes);
    return result;
}

static void assert_text(struct slice text, const char *expected) {
    assert_true(slice_equal(text, slice_of(expected)));
}

/* --- the tests --- */

static void the_header_has_the_documented_form(void **state) {
    static const char expected[] =
        "\x01\x05\0\0\0\x10\x01\x23\x45\x67\x89\xab\xcd\xef\xfe\xdc\xba\x98\x76\x54\x32\x10"
        "\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06";
    struct cluster_message message = example_of(MESSAGE_DEAD);
    struct bus_bytes *bytes = message_encode(&message);

    (void)state;
    assert_int_equal(bytes->length, sizeof expected - 1);
    assert_memory_equal(bytes->data, expected, sizeof expected - 1);
    message_seal(bytes, (struct node_id){0, 1}, 2);
    assert_true(message_decode_header(slice_of_bytes(bytes), &message));
    assert_true(node_id_equal(message.sender, (struct node_id){0, 1}));
    assert_int_equal(message.number, 2);
    bus_bytes_unref(bytes);
}

static void every_kind_arrives_as_it_was_sent(void **state) {
    unsigned count = 0;

    (void)state;
    for (unsigned kind = 0; kind < MESSAGE_KINDS; kind++) {
        struct cluster_message sent = example_of((enum message_kind)kind), read;
        struct bus_bytes *bytes, *again;
        struct error error = {0};
        char *copy;

        if (strcmp(message_kind_name(kind), "unknown") == 0)
            continue;
        count++;
        bytes = message_encode(&sent);
        assert_int_equal(decode_copy(slice_of_bytes(bytes), &read, &copy, &error), MESSAGE_GOOD);
        assert_int_equal(read.kind, kind);
        again = message_encode(&read);
        assert_true(slice_equal(slice_of_bytes(bytes), slice_of_bytes(again)));
        free(copy);
        bus_bytes_unref(bytes);
        bus_bytes_unref(again);
    }
    assert_int_equal(count, 23);
}

static void members_of_structures_are_not_mixed_up(void **state) {
    struct cluster_message sent = example_of(MESSAGE_EVENT), read;
    struct bus_bytes *bytes = message_encode(&sent);

    (void)state;
    assert_int_equal(message_decode(slice_of_bytes(bytes), &read, NULL), MESSAGE_GOOD);
    assert_text(read.event.app, "app-1");
    assert_text(read.event.channel, "prices");
    assert_text(read.event.name, "\"tick\"");
    assert_text(read.event.data, "{\"n\":1.50}");
    assert_text(read.event.user_id, "\"anna\"");
    assert_text(read.event.tags, "{\"region\":\"eu\"}");
    assert_true(read.event.keep && read.event.whole && read.event.has_except);
    assert_int_equal(read.event.except[1], 1ull << 52);
    assert_int_equal(read.event.published_ms, 1772618400123);
    assert_int_equal(read.event.left_ms, 60000);
    bus_bytes_unref(bytes);
}

static void lists_are_read_to_their_end(void **state) {
    struct slice rest = buffer_slice(&sets), list;
    struct message_set set;
    struct message_member member;
    struct message_place place;
    struct message_app_change change;
    struct roster_item item;
    struct message_quota quota;
    struct message_digest_entry entry;

    (void)state;
    assert_true(message_next_set(&rest, &set));
    assert_int_equal(set.version, 77);
    assert_true(set.occupied && set.begins && !set.ends);
    assert_int_equal(set.count, 3);
    assert_text(set.data, "\"{}\"");
    assert_int_equal(set.publisher.low, 9);
    list = set.members;
    assert_true(message_next_member(&list, &member));
    assert_text(member.info, "{\"a\":1}");
    assert_int_equal(member.since_ms, 1772618400123);
    assert_true(message_next_member(&list, &member));
    assert_text(member.id, "bob");
    assert_false(message_next_member(&list, &member));
    assert_true(message_next_set(&rest, &set));
    assert_text(set.app, "app-2");
    assert_false(message_next_set(&rest, &set));

    list = buffer_slice(&places);
    assert_true(message_next_place(&list, &place) && message_next_place(&list, &place));
    assert_text(place.channel, "#server-to-user-ann\xc3\xa9");
    assert_false(message_next_place(&list, &place));
    list = buffer_slice(&changes);
    assert_true(message_next_app_change(&list, &change));
    assert_text(change.old_key, "old");
    list = buffer_slice(&quotas);
    assert_true(message_next_quota(&list, &quota));
    assert_int_equal(quota.connections, 100000);
    list = buffer_slice(&roster_items);
    assert_true(message_next_roster_item(&list, &item) && message_next_roster_item(&list, &item));
    assert_int_equal(item.type, ROSTER_TOLD_PART);
    assert_text(item.user, "anna");
    assert_false(message_next_roster_item(&list, &item));
    list = buffer_slice(&digests);
    assert_true(message_next_digest(&list, &entry));
    assert_int_equal(entry.channel_hash, UINT64_MAX);
    assert_false(message_next_digest(&list, &entry));
}

/* Sets the length in the header to what there is. */
static void mend_length(struct buffer *bytes) {
    size_t length = bytes->length - MESSAGE_HEADER_BYTES;

    for (unsigned i = 0; i < 4; i++)
        bytes->data[2 + i] = (char)(length >> (24 - 8 * i));
}

static void what_a_later_program_adds_is_skipped(void **state) {
    struct buffer longer = {0};
    struct bus_bytes *bytes;
    struct cluster_message message;

    (void)state;
    for (unsigned kind = 0; kind < MESSAGE_KINDS; kind++) {
        if (strcmp(message_kind_name(kind), "unknown") == 0)
            continue;
        message = example_of((enum message_kind)kind);
        bytes = message_encode(&message);
        longer.length = 0;
        buffer_append(&longer, slice_of_bytes(bytes));
        buffer_append(&longer, SLICE("a new field"));
        mend_length(&longer);
        assert_int_equal(result_of(buffer_slice(&longer)), MESSAGE_GOOD);
        bus_bytes_unref(bytes);
    }
    buffer_dispose(&longer);
}

static void what_a_later_program_adds_to_an_element_is_skipped(void **state) {
    static const char list[] =
        "\0\0\0\x12\0\0\0\x01"
        "a\0\0\0\0\0\0\0\x05more!"
        "\0\0\0\x0d\0\0\0\x01"
        "b\0\0\0\0\0\0\0\x06";
    struct cluster_message message = {
        .kind = MESSAGE_QUOTAS, .version = 1, .sender = sender, .quotas.apps = {list, sizeof list - 1}};
    struct slice rest = message.quotas.apps;
    struct message_quota quota;

    (void)state;
    assert_int_equal(result_of_message(&message), MESSAGE_GOOD);
    assert_true(message_next_quota(&rest, &quota));
    assert_int_equal(quota.connections, 5);
    assert_true(message_next_quota(&rest, &quota));
    assert_text(quota.app, "b");
    assert_false(message_next_quota(&rest, &quota));
}

static void a_message_that_was_cut_is_broken(void **state) {
    (void)state;
    for (unsigned kind = 0; kind < MESSAGE_KINDS; kind++) {
        struct cluster_message message = example_of((enum message_kind)kind);
        struct buffer cut = {0};
        struct bus_bytes *bytes;

        if (strcmp(message_kind_name(kind), "unknown") == 0)
            continue;
        bytes = message_encode(&message);
        for (size_t length = 0; length < bytes->length; length++) {
            cut.length = 0;
            buffer_append_bytes(&cut, bytes->data, length);
            assert_int_equal(result_of(buffer_slice(&cut)), MESSAGE_BROKEN);
            if (length < MESSAGE_HEADER_BYTES)
                continue;
            mend_length(&cut);
            assert_int_equal(result_of(buffer_slice(&cut)), MESSAGE_BROKEN);
        }
        buffer_dispose(&cut);
        bus_bytes_unref(bytes);
    }
}

static void texts_are_checked(void **state) {
    struct cluster_message message;
    static const struct {
        size_t offset;
        struct slice text;
    } wrong[] = {
        {offsetof(struct message_event, app), SLICE_INIT("")},
        {offsetof(struct message_event, app), SLICE_INIT("a/b")},
        {offsetof(struct message_event, channel), SLICE_INIT("")},
        {offsetof(struct message_event, channel), SLICE_INIT("a b")},
        {offsetof(struct message_event, channel), SLICE_INIT("#server-to-user-\xff")},
        {offsetof(struct message_event, name), SLICE_INIT("tick")},
        {offsetof(struct message_event, name), SLICE_INIT("{}")},
        {offsetof(struct message_event, name), SLICE_INIT(" \"tick\"")},
        {offsetof(struct message_event, data), SLICE_INIT("")},
        {offsetof(struct message_event, data), SLICE_INIT("{\"a\":}")},
        {offsetof(struct message_event, data), SLICE_INIT("\"\xc3\"")},
        {offsetof(struct message_event, user_id), SLICE_INIT("7")},
        {offsetof(struct message_event, tags), SLICE_INIT("\xed\xa0\x80")},
    };

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        message = example_of(MESSAGE_EVENT);
        *(struct slice *)((char *)&message.event + wrong[i].offset) = wrong[i].text;
        assert_int_equal(result_of_message(&message), MESSAGE_BROKEN);
    }
    message = example_of(MESSAGE_TERMINATE);
    message.terminate.user_id = SLICE("");
    assert_int_equal(result_of_message(&message), MESSAGE_BROKEN);
    message = example_of(MESSAGE_CHANGE);
    message.change.id = SLICE("\xff");
    assert_int_equal(result_of_message(&message), MESSAGE_BROKEN);
}

static void a_flag_is_0_or_1(void **state) {
    struct cluster_message message = example_of(MESSAGE_TERMINATE);
    struct bus_bytes *bytes = message_encode(&message);

    (void)state;
    bytes->data[bytes->length - 9] = 2;
    assert_int_equal(result_of(slice_of_bytes(bytes)), MESSAGE_BROKEN);
    bus_bytes_unref(bytes);
}

static enum message_result result_of_set(const struct message_set *set) {
    struct cluster_message message = example_of(MESSAGE_STATE_PART);
    struct buffer list = {0};
    enum message_result result;

    message_add_set(&list, set);
    message.state_part.sets = buffer_slice(&list);
    result = result_of_message(&message);
    buffer_dispose(&list);
    return result;
}

static void assert_results_with_version(uint64_t version, enum message_result expected) {
    struct cluster_message change = example_of(MESSAGE_CHANGE), count = example_of(MESSAGE_COUNT),
                           told = example_of(MESSAGE_TOLD), digest = example_of(MESSAGE_DIGEST);
    struct buffer list = {0};

    change.change.version = version;
    assert_int_equal(result_of_message(&change), expected);
    change = example_of(MESSAGE_CHANGE);
    change.change.before = version;
    assert_int_equal(result_of_message(&change), expected);
    count.count.version = version;
    assert_int_equal(result_of_message(&count), expected);
    told.told.version = version;
    assert_int_equal(result_of_message(&told), expected);
    message_add_digest(&list, &(struct message_digest_entry){1, version});
    digest.digest.entries = buffer_slice(&list);
    assert_int_equal(result_of_message(&digest), expected);
    buffer_dispose(&list);
    assert_int_equal(
        result_of_set(&(struct message_set){.app = SLICE("app-2"), .channel = SLICE("x"), .version = version}),
        expected);
    assert_int_equal(
        result_of_set(&(struct message_set){.app = SLICE("app-2"), .channel = SLICE("x"), .count_version = version}),
        expected);
}

static void a_version_of_a_set_that_no_node_reaches_is_broken(void **state) {
    (void)state;
    assert_results_with_version(UINT64_C(1) << 62, MESSAGE_GOOD);
    assert_results_with_version((UINT64_C(1) << 62) + 1, MESSAGE_BROKEN);
    assert_results_with_version(UINT64_MAX, MESSAGE_BROKEN);
}

static void elements_of_elements_are_checked(void **state) {
    struct buffer list = {0}, inner = {0};
    struct cluster_message message = example_of(MESSAGE_STATE_PART);

    (void)state;
    message_add_member(&inner, &(struct message_member){SLICE("anna"), SLICE("{"), 0});
    message_add_set(&list, &(struct message_set){
                               .app = SLICE("a"), .channel = SLICE("presence-x"), .members = buffer_slice(&inner)});
    message.state_part.sets = buffer_slice(&list);
    assert_int_equal(result_of_message(&message), MESSAGE_BROKEN);
    list.length = 0;
    message_add_set(
        &list, &(struct message_set){.app = SLICE("a"), .channel = SLICE("presence-x"), .members = SLICE("\0\0\1\0")});
    message.state_part.sets = buffer_slice(&list);
    assert_int_equal(result_of_message(&message), MESSAGE_BROKEN);
    buffer_dispose(&list);
    buffer_dispose(&inner);
}

static void a_message_says_how_long_it_has_waited(void **state) {
    struct cluster_message message = example_of(MESSAGE_TERMINATE), read;
    struct bus_bytes *bytes = message_encode(&message);

    (void)state;
    message_note_wait(bytes, 1234);
    assert_int_equal(message_decode(slice_of_bytes(bytes), &read, NULL), MESSAGE_GOOD);
    assert_text(read.terminate.user_id, "anna");
    assert_int_equal(read.terminate.waited_ms, 1234);
    bus_bytes_unref(bytes);

    message = example_of(MESSAGE_EVENT);
    bytes = message_encode(&message);
    message_note_wait(bytes, 1000);
    assert_int_equal(message_decode(slice_of_bytes(bytes), &read, NULL), MESSAGE_GOOD);
    assert_int_equal(read.event.left_ms, 59000);
    message_note_wait(bytes, 59000);
    assert_int_equal(message_decode(slice_of_bytes(bytes), &read, NULL), MESSAGE_GOOD);
    assert_int_equal(read.event.left_ms, 1); /* 0 would be without end */
    assert_int_equal(read.event.published_ms, 1772618400123);
    bus_bytes_unref(bytes);

    message.event.left_ms = 0;
    bytes = message_encode(&message);
    message_note_wait(bytes, 1000);
    assert_int_equal(message_decode(slice_of_bytes(bytes), &read, NULL), MESSAGE_GOOD);
    assert_int_equal(read.event.left_ms, 0);
    bus_bytes_unref(bytes);
}

static void unknown_kinds_and_versions_have_a_valid_header(void **state) {
    struct cluster_message message = example_of(MESSAGE_BYE), header;
    struct bus_bytes *bytes = message_encode(&message);

    (void)state;
    bytes->data[1] = (char)200;
    assert_int_equal(result_of(slice_of_bytes(bytes)), MESSAGE_UNKNOWN);
    bytes->data[1] = 9;
    assert_int_equal(result_of(slice_of_bytes(bytes)), MESSAGE_UNKNOWN);
    bytes->data[0] = 99;
    assert_int_equal(result_of(slice_of_bytes(bytes)), MESSAGE_OTHER_VERSION);
    assert_true(message_decode_header(slice_of_bytes(bytes), &header));
    assert_true(node_id_equal(header.sender, sender));
    assert_int_equal(header.number, 1ull << 40);
    bytes->data[0] = 0;
    assert_int_equal(result_of(slice_of_bytes(bytes)), MESSAGE_BROKEN);
    bytes->data[0] = 1;
    message_seal(bytes, (struct node_id){0, 0}, 1);
    assert_int_equal(result_of(slice_of_bytes(bytes)), MESSAGE_BROKEN);
    bus_bytes_unref(bytes);
}

static void hello_is_read_in_every_version(void **state) {
    struct cluster_message message = example_of(MESSAGE_HELLO);

    (void)state;
    message.version = 200;
    message.hello.versions = (struct message_versions){190, 200};
    assert_int_equal(result_of_message(&message), MESSAGE_GOOD);
    message.hello.versions = (struct message_versions){2, 1};
    assert_int_equal(result_of_message(&message), MESSAGE_BROKEN);
    message.hello.versions = (struct message_versions){0, 1};
    assert_int_equal(result_of_message(&message), MESSAGE_BROKEN);
}

static void only_what_has_one_large_element_is_over_64_kb(void **state) {
    struct cluster_message message = example_of(MESSAGE_EVENT);
    struct buffer large = {0};

    (void)state;
    buffer_append_byte(&large, '"');
    while (large.length < MESSAGE_BYTES_MAX)
        buffer_append(&large, SLICE("0123456789abcdef"));
    buffer_append_byte(&large, '"');
    message.event.data = buffer_slice(&large);
    assert_int_equal(result_of_message(&message), MESSAGE_GOOD);
    message = example_of(MESSAGE_API_ANSWER);
    message.api_answer.payload = buffer_slice(&large);
    assert_int_equal(result_of_message(&message), MESSAGE_BROKEN);
    message.api_answer.payload.length = MESSAGE_LIST_BYTES;
    assert_int_equal(result_of_message(&message), MESSAGE_GOOD);
    buffer_dispose(&large);
}

static void the_version_is_the_highest_that_all_speak(void **state) {
    struct message_versions common = {1, 4};

    (void)state;
    assert_true(message_versions_narrow(&common, (struct message_versions){2, 9}));
    assert_true(message_versions_narrow(&common, (struct message_versions){1, 3}));
    assert_int_equal(common.lowest, 2);
    assert_int_equal(common.highest, 3);
    assert_false(message_versions_narrow(&common, (struct message_versions){4, 5}));
    assert_int_equal(common.highest, 3);
}

static void ids_are_drawn_written_and_ordered(void **state) {
    char hex[NODE_ID_HEX + 1];
    struct node_id a = node_id_draw(), b = node_id_draw();

    (void)state;
    assert_false(node_id_equal(a, b));
    node_id_format(sender, hex);
    assert_string_equal(hex, "0123456789abcdeffedcba9876543210");
    assert_true(node_id_compare((struct node_id){1, 2}, (struct node_id){1, 3}) < 0);
    assert_true(node_id_compare((struct node_id){2, 0}, (struct node_id){1, 9}) > 0);
    assert_int_equal(node_id_compare(a, a), 0);
}

/* printf 'app\0room' | sha256sum */
static void the_hash_of_a_channel_is_the_same_on_all_nodes(void **state) {
    (void)state;
    assert_int_equal(message_channel_hash(SLICE("app"), SLICE("room")), 0xc5b701777a700f43);
    assert_int_not_equal(message_channel_hash(SLICE("a"), SLICE("b")), message_channel_hash(SLICE("ab"), SLICE("")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_header_has_the_documented_form),
        cmocka_unit_test(every_kind_arrives_as_it_was_sent),
        cmocka_unit_test(members_of_structures_are_not_mixed_up),
        cmocka_unit_test(lists_are_read_to_their_end),
        cmocka_unit_test(what_a_later_program_adds_is_skipped),
        cmocka_unit_test(what_a_later_program_adds_to_an_element_is_skipped),
        cmocka_unit_test(a_message_that_was_cut_is_broken),
        cmocka_unit_test(texts_are_checked),
        cmocka_unit_test(a_flag_is_0_or_1),
        cmocka_unit_test(a_version_of_a_set_that_no_node_reaches_is_broken),
        cmocka_unit_test(elements_of_elements_are_checked),
        cmocka_unit_test(a_message_says_how_long_it_has_waited),
        cmocka_unit_test(unknown_kinds_and_versions_have_a_valid_header),
        cmocka_unit_test(hello_is_read_in_every_version),
        cmocka_unit_test(only_what_has_one_large_element_is_over_64_kb),
        cmocka_unit_test(the_version_is_the_highest_that_all_speak),
        cmocka_unit_test(ids_are_drawn_written_and_ordered),
        cmocka_unit_test(the_hash_of_a_channel_is_the_same_on_all_nodes),
    };

    return cmocka_run_group_tests(tests, make_lists, free_lists);
}
