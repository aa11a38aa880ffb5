#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "handover/handover_relay_event.h"

static const struct relay_event example = {
    .app_id = SLICE_INIT("app-1"),
    .channel = SLICE_INIT("prices"),
    .name = SLICE_INIT("\"tick\""),
    .data = SLICE_INIT("{\"n\":1}"),
    .user_id = SLICE_INIT("\"anna\""),
    .tags = SLICE_INIT("{\"region\":\"eu\"}"),
    .keep = true,
    .whole = true,
    .has_except = true,
    .except = {7, 1ull << 40},
    .published_ms = 1772618400123,
};

static void assert_same(const struct relay_event *a, const struct relay_event *b) {
    assert_true(slice_equal(a->app_id, b->app_id));
    assert_true(slice_equal(a->channel, b->channel));
    assert_true(slice_equal(a->name, b->name));
    assert_true(slice_equal(a->data, b->data));
    assert_true(slice_equal(a->user_id, b->user_id));
    assert_true(slice_equal(a->tags, b->tags));
    assert_int_equal(a->keep, b->keep);
    assert_int_equal(a->whole, b->whole);
    assert_int_equal(a->reconnect, b->reconnect);
    assert_int_equal(a->has_except, b->has_except);
    assert_int_equal(a->except[0], b->except[0]);
    assert_int_equal(a->except[1], b->except[1]);
    assert_int_equal(a->published_ms, b->published_ms);
}

static void assert_passes(const struct relay_event *event) {
    struct buffer bytes = {0};
    struct relay_event read;
    struct error error = {0};

    relay_event_append(&bytes, event);
    assert_true(relay_event_parse(buffer_slice(&bytes), &read, &error));
    assert_same(event, &read);
    buffer_dispose(&bytes);
}

static void every_member_of_an_event_arrives(void **state) {
    struct relay_event event = example;

    (void)state;
    assert_passes(&event);
    event.whole = false;
    assert_passes(&event);
    event.tags = SLICE("{}");
    assert_passes(&event);
    event.tags = SLICE("");
    assert_passes(&event);
    event = (struct relay_event){.app_id = SLICE("a"), .reconnect = true, .user_id = SLICE("u")};
    assert_passes(&event);
}

static void bytes_that_are_cut_off_or_follow_are_refused(void **state) {
    struct buffer bytes = {0};
    struct relay_event read;
    struct error error = {0};

    (void)state;
    relay_event_append(&bytes, &example);
    for (size_t length = 0; length < bytes.length; length++)
        assert_false(relay_event_parse((struct slice){bytes.data, length}, &read, &error));
    buffer_append_byte(&bytes, 0);
    assert_false(relay_event_parse(buffer_slice(&bytes), &read, &error));
    assert_non_null(strstr(error.text, "broken"));
    bytes.length--;
    bytes.data[0] |= 16; /* a flag that nobody knows */
    assert_false(relay_event_parse(buffer_slice(&bytes), &read, &error));
    buffer_dispose(&bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_member_of_an_event_arrives),
        cmocka_unit_test(bytes_that_are_cut_off_or_follow_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
