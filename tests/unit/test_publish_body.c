#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/publish_body.h"

static const struct app limited = {
    .max_event_name_length = 5, .max_channel_name_length = 8, .max_event_payload_in_kb = 1};
static const struct app unlimited = {0};

/* Reads an event as a publish does; the status of the refusal, or 200. */
static unsigned read_event(const struct app *app, const char *text, struct event *event, struct slice *channel,
                           struct event_refusal *refusal) {
    static struct buffer storage;
    struct buffer scratch = {0};
    unsigned status = 200;

    buffer_dispose(&storage);
    if (!event_scan(slice_of(text), event, refusal) || !event_fits(app, 0, event, refusal) ||
        !event_check(app, event, &scratch, refusal) ||
        !event_check_channel(app, event->members[EVENT_CHANNEL], "channel", &storage, channel, refusal))
        status = refusal->status;
    if (status != 200)
        event_dispose(event);
    buffer_dispose(&scratch);
    return status;
}

static void assert_refused(const char *text, unsigned status, enum refusal reason, const char *what) {
    struct event_refusal refusal;
    struct slice channel;
    struct event event;

    assert_int_equal(read_event(&limited, text, &event, &channel, &refusal), status);
    assert_int_equal(refusal.reason, reason);
    if (strstr(refusal.error.text, what) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", refusal.error.text, what);
}

static void what_is_wrong_with_an_event_is_named(void **state) {
    (void)state;
    assert_refused("[]", 400, REFUSED_REQUEST, "object");
    assert_refused("{}", 400, REFUSED_REQUEST, "`name`");
    assert_refused("{\"name\":1}", 400, REFUSED_REQUEST, "`name`");
    assert_refused("{\"name\":\"\",\"data\":\"\",\"channel\":\"c\"}", 400, REFUSED_REQUEST, "`name`");
    assert_refused("{\"name\":\"eeeeee\",\"data\":\"\",\"channel\":\"c\"}", 400, REFUSED_EVENT_NAME,
                   "max_event_name_length = 5");
    assert_refused("{\"name\":\"e\",\"channel\":\"c\"}", 400, REFUSED_REQUEST, "`data`");
    assert_refused("{\"name\":\"e\",\"data\":null,\"channel\":\"c\"}", 400, REFUSED_REQUEST, "`data`");
    assert_refused("{\"name\":\"e\",\"data\":1,\"channel\":\"c\"}", 400, REFUSED_REQUEST, "`data`");
    assert_refused("{\"name\":\"e\",\"data\":\"\"}", 400, REFUSED_REQUEST, "`channel`");
    assert_refused("{\"name\":\"e\",\"data\":\"\",\"channel\":\"\"}", 400, REFUSED_REQUEST, "`channel`");
    assert_refused("{\"name\":\"e\",\"data\":\"\",\"channel\":\"a b\"}", 400, REFUSED_REQUEST, "`channel`");
    assert_refused("{\"name\":\"e\",\"data\":\"\",\"channel\":\"ccccccccc\"}", 400, REFUSED_CHANNEL_NAME,
                   "9 bytes, which is over max_channel_name_length = 8");
    assert_refused("{\"name\":\"e\",\"data\":\"\",\"channel\":\"c\",\"socket_id\":\"1\"}", 400, REFUSED_REQUEST,
                   "`socket_id`");
    assert_refused("{\"name\":\"e\",\"data\":\"\",\"channel\":\"c\",\"socket_id\":1.1}", 400, REFUSED_REQUEST,
                   "`socket_id`");
    assert_refused("{\"name\":\"e\",\"data\":\"\",\"channel\":\"c\",\"info\":[]}", 400, REFUSED_REQUEST, "`info`");
}

static void assert_member_refused(const char *member, const char *what) {
    struct buffer text = {0};

    buffer_appendf(&text, "{\"name\":\"e\",\"data\":\"\",\"channel\":\"c\",%s}", member);
    assert_refused(buffer_string(&text), 400, REFUSED_REQUEST, what);
    buffer_dispose(&text);
}

static void tags_and_delta_have_their_types(void **state) {
    (void)state;
    assert_member_refused("\"tags\":[]", "`tags`: tags must be an object of strings");
    assert_member_refused("\"tags\":\"a\"", "`tags`: tags must be an object of strings");
    assert_member_refused("\"tags\":{\"a\":1}", "`tags`: the value of tag 1 must be a string");
    assert_member_refused("\"tags\":{\"a\":\"1\",\"b\":null}", "`tags`: the value of tag 2 must be a string");
    assert_member_refused("\"delta\":\"false\"", "`delta` must be true or false");
    assert_member_refused("\"delta\":0", "`delta` must be true or false");
    assert_member_refused("\"delta\":{}", "`delta` must be true or false");
}

/* Reads an event with these members, and says what tags it has and whether it is to go whole. */
static bool read_members(const char *members, struct buffer *tags) {
    struct event_refusal refusal;
    struct buffer text = {0};
    struct slice channel;
    struct event event;

    tags->length = 0;
    buffer_appendf(&text, "{\"name\":\"e\",\"data\":\"\",\"channel\":\"c\"%s}", members);
    assert_int_equal(read_event(&limited, buffer_string(&text), &event, &channel, &refusal), 200);
    if (event.tags != NULL)
        tags_append_json(tags, event.tags);
    event_dispose(&event);
    buffer_dispose(&text);
    return event.whole;
}

static void tags_and_delta_are_optional(void **state) {
    struct buffer tags = {0};

    (void)state;
    assert_false(read_members("", &tags));
    assert_int_equal(tags.length, 0);
    assert_false(read_members(",\"tags\":null,\"delta\":null", &tags));
    assert_int_equal(tags.length, 0);
    assert_false(read_members(",\"tags\":{},\"delta\":true", &tags));
    assert_string_equal(buffer_string(&tags), "{}");
    assert_true(read_members(",\"delta\":false,\"tags\":{\"b\":\"2\",\"a\":\"1\"}", &tags));
    assert_string_equal(buffer_string(&tags), "{\"a\":\"1\",\"b\":\"2\"}");
    buffer_dispose(&tags);
}

static void an_event_is_read_without_copying_its_text(void **state) {
    const char *text =
        "{\"unknown\":1,\"name\":\"\\u0065\",\"data\":\"\\u00e9\\/\",\"channel\":\"\\u0063\","
        "\"socket_id\":\"12.34\",\"info\":\"user_count,other\"}";
    struct buffer storage = {0};
    struct event_refusal refusal;
    struct slice channel, data;
    struct event event;

    (void)state;
    assert_int_equal(read_event(&limited, text, &event, &channel, &refusal), 200);
    assert_true(slice_equal(event.members[EVENT_NAME].token, SLICE("\"\\u0065\"")));
    data = event_data(&event, &storage);
    assert_ptr_equal(data.data, strstr(text, "\"\\u00e9"));
    assert_true(slice_equal(data, SLICE("\"\\u00e9\\/\"")));
    assert_true(slice_equal(channel, SLICE("c")));
    assert_true(event.has_socket_id);
    assert_true(event.socket_id.first == 12 && event.socket_id.second == 34);
    assert_int_equal(event.info, INFO_USER_COUNT);
    buffer_dispose(&storage);
}

static void objects_and_arrays_become_strings_of_their_source(void **state) {
    struct buffer storage = {0};
    struct event_refusal refusal;
    struct slice channel;
    struct event event;

    (void)state;
    assert_int_equal(read_event(&limited, "{\"name\":\"e\",\"channel\":\"c\",\"data\": { \"a\\n\" :1.50} }", &event,
                                &channel, &refusal),
                     200);
    assert_true(slice_equal(event_data(&event, &storage), SLICE("\"{ \\\"a\\\\n\\\" :1.50}\"")));
    assert_int_equal(
        read_event(&limited, "{\"name\":\"e\",\"channel\":\"c\",\"data\":[ ]}", &event, &channel, &refusal), 200);
    assert_true(slice_equal(event_data(&event, &storage), SLICE("\"[ ]\"")));
    buffer_dispose(&storage);
}

/* The status of an event whose data is `repeat` times `piece` between `open` and `close`. */
static unsigned status_of_data(const struct app *app, const char *open, const char *piece, size_t repeat,
                               const char *close) {
    struct buffer text = {0};
    struct event_refusal refusal;
    struct slice channel;
    struct event event;
    unsigned status;

    buffer_append_string(&text, "{\"name\":\"e\",\"channel\":\"c\",\"data\":");
    buffer_append_string(&text, open);
    for (size_t i = 0; i < repeat; i++)
        buffer_append_string(&text, piece);
    buffer_append_string(&text, close);
    buffer_append(&text, (struct slice){"}", 2}); /* with its zero byte */
    status = read_event(app, text.data, &event, &channel, &refusal);
    if (status == 413)
        assert_non_null(strstr(refusal.error.text,
                               "The data content of this event exceeds the allowed maximum (1024 "
                               "bytes)"));
    buffer_dispose(&text);
    return status;
}

static void the_payload_is_measured_decoded_or_as_source(void **state) {
    (void)state;
    assert_int_equal(status_of_data(&limited, "\"", "x", 1024, "\""), 200);
    assert_int_equal(status_of_data(&limited, "\"", "x", 1025, "\""), 413);
    assert_int_equal(status_of_data(&limited, "\"", "\\u0041", 1024, "\""), 200);
    assert_int_equal(status_of_data(&limited, "\"", "\\u0041", 1025, "\""), 413);
    assert_int_equal(status_of_data(&limited, "{", " ", 1022, "}"), 200);
    assert_int_equal(status_of_data(&limited, "{", " ", 1023, "}"), 413);
    assert_int_equal(status_of_data(&unlimited, "\"", "x", 100000, "\""), 200);
    /* A number is refused for what it is, however long. */
    assert_int_equal(status_of_data(&limited, "1", "0", 2000, ""), 400);
}

static void null_is_as_good_as_absent_where_a_member_is_optional(void **state) {
    struct event_refusal refusal;
    struct slice channel;
    struct event event;

    (void)state;
    assert_int_equal(read_event(&limited,
                                "{\"name\":\"e\",\"channel\":\"c\",\"data\":\"\",\"socket_id\":null,\"info\":null}",
                                &event, &channel, &refusal),
                     200);
    assert_false(event.has_socket_id);
    assert_int_equal(event.info, 0);
}

static void a_users_channel_is_outside_the_limit_on_names(void **state) {
    struct event_refusal refusal;
    struct slice channel;
    struct event event;

    (void)state;
    assert_int_equal(read_event(&limited,
                                "{\"name\":\"e\",\"data\":\"\",\"channel\":\"#server-to-user-a b\\u0020\\\"\"}", &event,
                                &channel, &refusal),
                     200);
    assert_true(slice_equal(channel, SLICE("#server-to-user-a b \"")));
}

static void info_is_a_list_of_known_and_unknown_names(void **state) {
    (void)state;
    assert_int_equal(info_parse(SLICE("")), 0);
    assert_int_equal(info_parse(SLICE("user_count")), INFO_USER_COUNT);
    assert_int_equal(info_parse(SLICE("subscription_count, cache,user_count")),
                     INFO_SUBSCRIPTION_COUNT | INFO_CACHE | INFO_USER_COUNT);
    assert_int_equal(info_parse(SLICE(",,colour,user_counts,User_Count,")), 0);
}

static void counts_are_told_where_they_have_a_meaning(void **state) {
    const struct channel_counts counts = {.subscriptions = 3, .users = 2};
    const struct channel_type presence = {CHANNEL_PRESENCE, false}, private = {CHANNEL_PRIVATE, false};
    static const struct {
        unsigned info;
        const char *presence, *other;
    } cases[] = {
        {0, "", ""},
        {INFO_USER_COUNT, "\"user_count\":2", ""},
        {INFO_SUBSCRIPTION_COUNT, "\"subscription_count\":3", "\"subscription_count\":3"},
        {INFO_USER_COUNT | INFO_SUBSCRIPTION_COUNT, "\"subscription_count\":3,\"user_count\":2",
         "\"subscription_count\":3"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer out = {0};
        info_append_counts(&out, cases[i].info, presence, counts);
        assert_true(slice_equal(buffer_slice(&out), slice_of(cases[i].presence)));
        out.length = 0;
        info_append_counts(&out, cases[i].info, private, counts);
        assert_true(slice_equal(buffer_slice(&out), slice_of(cases[i].other)));
        buffer_dispose(&out);
    }
}

/* Its name in quotes takes 3 bytes, its data 5 as a text and 7 with an escape, and the rest CHANNEL_RELAY_BYTES. */
static void an_event_may_be_too_large_for_the_other_nodes(void **state) {
    static const char text[] = "{\"name\":\"e\",\"data\":\"1\\n345\",\"channel\":\"c\"}";
    struct event_refusal refusal;
    struct event event;

    (void)state;
    assert_true(event_scan(slice_of(text), &event, &refusal));
    assert_true(event_fits(&limited, 0, &event, &refusal));
    assert_true(event_fits(&limited, CHANNEL_RELAY_BYTES + 3 + 5, &event, &refusal));
    assert_false(event_fits(&limited, CHANNEL_RELAY_BYTES + 3 + 4, &event, &refusal));
    assert_int_equal(refusal.status, 413);
    assert_int_equal(refusal.reason, REFUSED_EVENT_PAYLOAD);
    assert_non_null(strstr(refusal.error.text, "other nodes"));
    event_dispose(&event);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wrong_with_an_event_is_named),
        cmocka_unit_test(tags_and_delta_have_their_types),
        cmocka_unit_test(tags_and_delta_are_optional),
        cmocka_unit_test(an_event_is_read_without_copying_its_text),
        cmocka_unit_test(objects_and_arrays_become_strings_of_their_source),
        cmocka_unit_test(the_payload_is_measured_decoded_or_as_source),
        cmocka_unit_test(null_is_as_good_as_absent_where_a_member_is_optional),
        cmocka_unit_test(a_users_channel_is_outside_the_limit_on_names),
        cmocka_unit_test(info_is_a_list_of_known_and_unknown_names),
        cmocka_unit_test(counts_are_told_where_they_have_a_meaning),
        cmocka_unit_test(an_event_may_be_too_large_for_the_other_nodes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
