#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/metrics.h"
#include "app/broadcast_latency.h"
#include "base/alloc.h"

#include <stdlib.h>

static void assert_page(struct metrics_page *page, const char *wanted) {
    if (!slice_equal(buffer_slice(&page->text), slice_of(wanted)))
        fail_msg("%.*s", SLICE_ARGS(buffer_slice(&page->text)));
    buffer_dispose(&page->text);
}

static void a_family_has_help_and_type_before_its_samples(void **state) {
    struct metrics_page page = {.prefix = SLICE("p_")};

    (void)state;
    metrics_family(&page, "things_total", "counter", "Things.");
    metrics_sample(&page, SLICE(""), 18446744073709551615u);
    metrics_sample(&page, SLICE("a=\"1\""), 2);
    metrics_sample_of(&page, SLICE("a=\"1\""), "kind", "new", 3);
    metrics_fraction(&page, SLICE("a=\"1\""), 0.25);
    assert_page(&page,
                "# HELP p_things_total Things.\n"
                "# TYPE p_things_total counter\n"
                "p_things_total 18446744073709551615\n"
                "p_things_total{a=\"1\"} 2\n"
                "p_things_total{a=\"1\",kind=\"new\"} 3\n"
                "p_things_total{a=\"1\"} 0.25\n");
}

static void label_values_are_escaped(void **state) {
    struct buffer labels = {0};

    (void)state;
    metrics_append_label(&labels, "app_id", SLICE("a\"b\\c\nd{}=,"));
    metrics_append_label(&labels, "port", SLICE("1"));
    assert_true(slice_equal(buffer_slice(&labels), SLICE("app_id=\"a\\\"b\\\\c\\nd{}=,\",port=\"1\"")));
    buffer_dispose(&labels);
}

static void the_buckets_of_a_histogram_add_up(void **state) {
    const uint64_t bounds[] = {500, 1000}, counts[] = {1, 0, 4};
    struct metrics_page page = {.prefix = SLICE("")};

    (void)state;
    page.name = "lag";
    metrics_histogram(&page, SLICE("w=\"0\""), bounds, counts, 3, 7500, 1000);
    assert_page(&page,
                "lag_bucket{w=\"0\",le=\"0.5\"} 1\n"
                "lag_bucket{w=\"0\",le=\"1\"} 1\n"
                "lag_bucket{w=\"0\",le=\"+Inf\"} 5\n"
                "lag_sum{w=\"0\"} 7.5\n"
                "lag_count{w=\"0\"} 5\n");
}

static void latency_is_kept_by_recipients_and_time(void **state) {
    _Atomic(struct broadcast_latency *) place = NULL;
    struct broadcast_latency *latency;
    static const uint32_t recipients[] = {1, 10, 11, 100, 101, 1000, 1001, 10000, 10001, UINT32_MAX};

    (void)state;
    broadcast_latency_record(&place, 0, 0, 50);
    assert_null(atomic_load(&place));
    for (size_t i = 0; i < sizeof recipients / sizeof recipients[0]; i++)
        broadcast_latency_record(&place, 2, recipients[i], i % 2 == 0 ? 100 : 1000001);
    latency = atomic_load(&place);
    for (size_t size = 0; size < BROADCAST_SIZE_COUNT; size++) {
        const struct broadcast_series *series = &latency->series[2][size];
        assert_int_equal(counter_read(&series->buckets[0]), 1);
        assert_int_equal(counter_read(&series->buckets[BROADCAST_LATENCY_BUCKETS - 1]), 1);
        assert_int_equal(counter_read(&series->sum_us), 1000101);
        assert_int_equal(counter_read(&latency->series[0][size].sum_us), 0);
    }
    free(latency);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_family_has_help_and_type_before_its_samples),
        cmocka_unit_test(label_values_are_escaped),
        cmocka_unit_test(the_buckets_of_a_histogram_add_up),
        cmocka_unit_test(latency_is_kept_by_recipients_and_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
