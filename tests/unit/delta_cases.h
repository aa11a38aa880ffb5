/* Tests that both encoders of deltas have to pass. Include it after cmocka.h. */
#pragma once

#include "base/buffer.h"
#include "channel/delta/delta_match.h"
#include "harness.h"

typedef bool delta_encoder(struct slice base, struct slice target, size_t limit, struct buffer *out,
                           struct delta_match_work *work);
/* Encodes and decodes, asserts that the target comes back, and returns the bytes of the delta. */
typedef size_t delta_round_trip(struct slice base, struct slice target);

static inline void assert_limit_holds(delta_encoder *encode, delta_round_trip *round_trip) {
    struct slice base = SLICE("{\"price\":101.25,\"volume\":1200}"),
                 target = SLICE("{\"price\":101.50,\"volume\":1200}");
    size_t size = round_trip(base, target);
    struct buffer out = {0};

    buffer_append_string(&out, "before");
    assert_false(encode(base, target, 0, &out, NULL));
    assert_false(encode(base, target, size, &out, NULL));
    assert_int_equal(out.length, 6);
    assert_true(encode(base, target, size + 1, &out, NULL));
    assert_int_equal(out.length, 6 + size);
    assert_memory_equal(out.data, "before", 6);
    buffer_dispose(&out);
}

/* The delta of a tick has `least` to `most` bytes, and needs no allocation. */
static inline void assert_tick_is_cheap(delta_encoder *encode, delta_round_trip *round_trip, size_t least,
                                        size_t most) {
    static const char form[] =
        "{\"event\":\"tick\",\"channel\":\"prices\",\"data\":\"{\\\"symbol\\\":\\\"ACME\\\",\\\"bid\\\":%s,"
        "\\\"ask\\\":%s,\\\"venue\\\":\\\"XNAS\\\",\\\"currency\\\":\\\"USD\\\",\\\"volume\\\":%s,"
        "\\\"time\\\":\\\"2026-03-04T10:11:%s.000Z\\\"}\"}";
    struct buffer base = {0}, target = {0}, out = {0};
    uint64_t before;

    buffer_appendf(&base, form, "187.21", "187.24", "1502200", "02");
    buffer_appendf(&target, form, "187.35", "187.38", "1502900", "03");
    assert_in_range(round_trip(buffer_slice(&base), buffer_slice(&target)), least, most);
    buffer_reserve(&out, 4096);
    before = harness_allocations();
    assert_true(encode(buffer_slice(&base), buffer_slice(&target), 4096, &out, NULL));
    assert_int_equal(harness_allocations(), before);
    buffer_dispose(&base);
    buffer_dispose(&target);
    buffer_dispose(&out);
}
