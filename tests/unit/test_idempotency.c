/* Idempotency keys: what a repeated request gets, how much is remembered, and many threads at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/idempotency.h"
#include "base/budget.h"
#include "base/thread.h"

#define LIFETIME_MS 120000
#define BODY "0123456789abcdef0123456789abcdef"
#define OTHER_BODY "0123456789abcdef0123456789abcdeF"

static struct idempotency *keys;

static void create(uint64_t app_keys, uint64_t app_bytes, uint64_t all_keys, uint64_t all_bytes) {
    keys = idempotency_create(&(struct idempotency_limits){app_keys, app_bytes, all_keys, all_bytes, LIFETIME_MS});
}

static int tear_down(void **state) {
    (void)state;
    idempotency_destroy(keys);
    keys = NULL;
    return 0;
}

/* --- requests --- */

struct test_waiter {
    struct idempotency_waiter base;
    unsigned woken;
    struct frame *answer;
};

static void wake(struct idempotency_waiter *waiter, struct frame *answer) {
    struct test_waiter *own = container_of(waiter, struct test_waiter, base);

    own->woken++;
    own->answer = answer;
}

static enum idempotency_state begin_as(const char *app, char kind, const char *key, const char *body, uint64_t now_ms,
                                       struct test_waiter *waiter, struct idempotency_entry **entry,
                                       struct frame **answer) {
    const struct idempotency_request request = {slice_of(app), kind, slice_of(key), slice_of(body)};

    *waiter = (struct test_waiter){.base.wake = wake};
    *answer = NULL;
    return idempotency_begin(keys, &request, now_ms, &waiter->base, entry, answer);
}

/* One whole request, which is accepted with `text`: true if it was new. */
static bool publish_at(const char *app, const char *key, const char *text, uint64_t now_ms) {
    struct idempotency_entry *entry;
    struct test_waiter waiter;
    struct frame *answer;
    enum idempotency_state state = begin_as(app, 'e', key, BODY, now_ms, &waiter, &entry, &answer);

    if (state == IDEMPOTENCY_NEW) {
        idempotency_finish(keys, entry, slice_of(text), now_ms);
        return true;
    }
    assert_int_equal(state, IDEMPOTENCY_REPLAY);
    assert_true(slice_equal((struct slice){answer->bytes, answer->length}, slice_of(text)));
    frame_unref(answer);
    return false;
}

static bool publish(const char *app, const char *key) {
    return publish_at(app, key, "{}", 0);
}

static void assert_size(uint64_t count) {
    uint64_t held, bytes;

    idempotency_read_size(keys, &held, &bytes);
    assert_int_equal(held, count);
    if (count == 0)
        assert_int_equal(bytes, 0);
}

static uint64_t read_bytes(void) {
    uint64_t held, bytes;

    idempotency_read_size(keys, &held, &bytes);
    return bytes;
}

/* --- what a request gets --- */

static void a_key_belongs_to_its_app_its_kind_and_its_body(void **state) {
    struct idempotency_entry *entry;
    struct test_waiter waiter;
    struct frame *answer;

    (void)state;
    create(10, 100000, 100, 1000000);
    assert_true(publish("a", "k"));
    assert_false(publish("a", "k"));
    assert_true(publish("b", "k"));
    assert_true(publish("a", "K"));
    assert_int_equal(begin_as("a", 'b', "k", BODY, 0, &waiter, &entry, &answer), IDEMPOTENCY_NEW);
    idempotency_finish(keys, entry, SLICE("{}"), 0);
    assert_int_equal(begin_as("a", 'e', "k", OTHER_BODY, 0, &waiter, &entry, &answer), IDEMPOTENCY_CONFLICT);
    assert_int_equal(waiter.woken, 0);
    assert_size(4);
}

static void a_key_is_new_again_after_its_lifetime(void **state) {
    (void)state;
    create(10, 100000, 100, 1000000);
    assert_true(publish_at("a", "k", "1", 1000));
    assert_false(publish_at("a", "k", "1", 1000 + LIFETIME_MS - 1));
    assert_true(publish_at("a", "k", "2", 1000 + LIFETIME_MS));
    assert_size(1);
    idempotency_expire(keys, 1000 + 2 * LIFETIME_MS - 1);
    assert_size(1);
    idempotency_expire(keys, 1000 + 2 * LIFETIME_MS);
    assert_size(0);
}

static void a_repeat_waits_for_the_first_and_gets_its_answer(void **state) {
    struct test_waiter first, repeats[2], other;
    struct idempotency_entry *entry, *none;
    struct frame *answer;

    (void)state;
    create(10, 100000, 100, 1000000);
    assert_int_equal(begin_as("a", 'e', "k", BODY, 0, &first, &entry, &answer), IDEMPOTENCY_NEW);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(begin_as("a", 'e', "k", BODY, 0, &repeats[i], &none, &answer), IDEMPOTENCY_WAIT);
    assert_int_equal(begin_as("a", 'e', "k", OTHER_BODY, 0, &other, &none, &answer), IDEMPOTENCY_CONFLICT);
    idempotency_finish(keys, entry, SLICE("{\"n\":1}"), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(repeats[i].woken, 1);
        assert_memory_equal(repeats[i].answer->bytes, "{\"n\":1}", 7);
        frame_unref(repeats[i].answer);
    }
    assert_int_equal(other.woken, 0);
}

static void a_request_that_failed_is_not_remembered(void **state) {
    struct test_waiter first, repeat;
    struct idempotency_entry *entry, *none;
    struct frame *answer;

    (void)state;
    create(10, 100000, 100, 1000000);
    assert_int_equal(begin_as("a", 'e', "k", BODY, 0, &first, &entry, &answer), IDEMPOTENCY_NEW);
    assert_int_equal(begin_as("a", 'e', "k", BODY, 0, &repeat, &none, &answer), IDEMPOTENCY_WAIT);
    idempotency_abandon(keys, entry);
    assert_int_equal(repeat.woken, 1);
    assert_null(repeat.answer);
    assert_size(0);
    assert_true(publish("a", "k"));
}

/* --- how much is remembered --- */

static void publish_numbered(const char *app, unsigned from, unsigned count) {
    for (unsigned i = from; i < from + count; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", i);
        assert_true(publish(app, key));
    }
}

static void an_app_with_too_many_keys_loses_its_oldest(void **state) {
    (void)state;
    create(3, 100000, 100, 1000000);
    publish_numbered("a", 0, 3);
    publish_numbered("b", 0, 3);
    publish_numbered("a", 3, 1);
    assert_size(6);
    assert_false(publish("a", "1"));
    assert_false(publish("b", "0"));
    assert_true(publish("a", "0")); /* as new, and "1" goes */
    assert_true(publish("a", "1"));
}

static void an_app_with_too_many_bytes_loses_its_oldest(void **state) {
    char large[1001];

    (void)state;
    memset(large, 'x', 1000);
    large[1000] = '\0';
    create(100, 3000, 100, 1000000);
    assert_true(publish_at("a", "small", "{}", 0));
    assert_true(publish_at("a", "large-1", large, 0));
    assert_true(publish_at("a", "large-2", large, 0));
    assert_false(publish_at("a", "small", "{}", 0));
    assert_true(publish_at("a", "large-3", large, 0)); /* without "small" and "large-1" */
    assert_in_range(read_bytes(), 2000, 3000);
    assert_size(2);
    assert_true(publish_at("a", "small", "{}", 0));
}

static void with_little_memory_fewer_bytes_are_remembered(void **state) {
    char large[1001];

    (void)state;
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    create(100, 1000000, 1000, 1000000);
    budget_set_limit(512000); /* 4,000 bytes for an app, 32,000 for all */
    for (unsigned app = 0; app < 20; app++) {
        char name[20], key[20];

        snprintf(name, sizeof name, "app-%u", app);
        for (unsigned i = 0; i < 5; i++) {
            snprintf(key, sizeof key, "%u", i);
            assert_true(publish_at(name, key, large, 0));
        }
        assert_in_range(read_bytes(), 1, app == 0 ? 4000 : 32000);
    }
    assert_in_range(read_bytes(), 28000, 32000);
    budget_set_limit(0);
}

static void above_the_number_of_all_keys_the_app_with_the_most_loses_its_oldest(void **state) {
    (void)state;
    create(10, 100000, 12, 1000000);
    publish_numbered("small", 0, 2);
    publish_numbered("large", 0, 6);
    publish_numbered("middle", 0, 4);
    publish_numbered("small", 2, 1);
    assert_size(12);
    assert_false(publish("small", "0"));
    assert_false(publish("middle", "0"));
    assert_false(publish("large", "1"));
    assert_true(publish("large", "0"));
}

static void above_the_bytes_of_all_the_app_with_the_most_loses_its_oldest(void **state) {
    char large[2001];

    (void)state;
    memset(large, 'x', 2000);
    large[2000] = '\0';
    create(100, 100000, 1000, 10000);
    publish_numbered("many", 0, 10);
    assert_true(publish_at("large", "1", large, 0));
    assert_true(publish_at("large", "2", large, 0));
    for (unsigned i = 10; read_bytes() + 400 < 10000; i++)
        publish_numbered("many", i, 1);
    assert_false(publish_at("large", "1", large, 0));
    assert_true(publish_at("large", "3", large, 0));
    assert_true(read_bytes() <= 10000);
    assert_false(publish_at("large", "3", large, 0));
    assert_false(publish_at("large", "2", large, 0));
    assert_true(publish_at("large", "1", large, 0));
}

static void an_answer_above_the_bounds_reaches_those_who_wait_and_is_forgotten(void **state) {
    static char huge[5001];
    struct test_waiter first, repeat;
    struct idempotency_entry *entry, *none;
    struct frame *answer;

    (void)state;
    memset(huge, 'x', sizeof huge - 1);
    create(10, 4000, 100, 1000000);
    assert_int_equal(begin_as("a", 'e', "k", BODY, 0, &first, &entry, &answer), IDEMPOTENCY_NEW);
    assert_int_equal(begin_as("a", 'e', "k", BODY, 0, &repeat, &none, &answer), IDEMPOTENCY_WAIT);
    idempotency_finish(keys, entry, slice_of(huge), 0);
    assert_int_equal(repeat.answer->length, 5000);
    frame_unref(repeat.answer);
    assert_size(0);
}

/* A model that looks at every app finds the same keys remembered. */
#define APPS 6
#define MODEL_KEYS 60
static uint64_t model_age[APPS][MODEL_KEYS]; /* 0: not remembered */

static unsigned model_count(unsigned app) {
    unsigned count = 0;

    for (unsigned key = 0; key < MODEL_KEYS; key++)
        count += model_age[app][key] != 0;
    return count;
}

static unsigned model_oldest(unsigned app) {
    unsigned oldest = MODEL_KEYS;

    for (unsigned key = 0; key < MODEL_KEYS; key++)
        if (model_age[app][key] != 0 && (oldest == MODEL_KEYS || model_age[app][key] < model_age[app][oldest]))
            oldest = key;
    return oldest;
}

/* True if one app alone holds the most. */
static bool model_largest(unsigned *largest) {
    bool alone = true;

    *largest = 0;
    for (unsigned app = 1; app < APPS; app++) {
        alone = model_count(app) > model_count(*largest) || (alone && model_count(app) != model_count(*largest));
        if (model_count(app) > model_count(*largest))
            *largest = app;
    }
    return alone;
}

static void the_largest_app_is_always_the_one_that_loses(void **state) {
    uint64_t seed = 7;

    (void)state;
    create(30, 1000000, 60, 1000000);
    for (uint64_t step = 1; step < 20000; step++) {
        char app[8], key[8];
        unsigned a, k, total = 0, largest;
        bool known;
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        a = (unsigned)(seed >> 33) % APPS;
        a = a < 3 ? 0 : a; /* one app publishes more than the others */
        k = (unsigned)(seed >> 40) % MODEL_KEYS;
        snprintf(app, sizeof app, "app%u", a);
        snprintf(key, sizeof key, "k%u", k);
        known = model_age[a][k] != 0;
        if (!known) {
            for (unsigned i = 0; i < APPS; i++)
                total += model_count(i);
            model_age[a][k] = step;
            if (model_count(a) > 30)
                model_age[a][model_oldest(a)] = 0;
            else if (total == 60 && !model_largest(&largest)) {
                model_age[a][k] = 0; /* which one loses is open */
                continue;
            } else if (total == 60)
                model_age[largest][model_oldest(largest)] = 0;
        }
        assert_int_equal(publish(app, key), !known);
    }
    idempotency_expire(keys, LIFETIME_MS);
    assert_size(0);
}

/* --- threads --- */

#define THREADS 4
#define ROUNDS 20000
#define SHARED_KEYS 64

static atomic_uint published[SHARED_KEYS], refused[SHARED_KEYS], replayed, waited;

struct thread_waiter {
    struct idempotency_waiter base;
    atomic_bool woken;
    struct frame *answer;
};

static void wake_thread(struct idempotency_waiter *waiter, struct frame *answer) {
    struct thread_waiter *own = container_of(waiter, struct thread_waiter, base);

    own->answer = answer;
    atomic_store(&own->woken, true);
}

static void check_answer(struct frame *answer, unsigned number) {
    assert_true(answer->length == 2 && answer->bytes[1] == (char)('0' + number % 10));
    frame_unref(answer);
}

/* One request, to its end. */
static void request_as_thread(unsigned number, bool fails) {
    char key[16], text[] = {'n', (char)('0' + number % 10)};
    struct idempotency_request request = {SLICE("a"), 'e', SLICE(""), SLICE(BODY)};
    struct thread_waiter waiter = {.base.wake = wake_thread};
    struct idempotency_entry *entry;
    struct frame *answer;

    request.key = (struct slice){key, (size_t)snprintf(key, sizeof key, "%u", number)};
    switch (idempotency_begin(keys, &request, 0, &waiter.base, &entry, &answer)) {
    case IDEMPOTENCY_NEW:
        atomic_fetch_add(fails ? &refused[number] : &published[number], 1);
        if (fails)
            idempotency_abandon(keys, entry);
        else
            idempotency_finish(keys, entry, (struct slice){text, 2}, 0);
        break;
    case IDEMPOTENCY_REPLAY:
        atomic_fetch_add(&replayed, 1);
        check_answer(answer, number);
        break;
    case IDEMPOTENCY_WAIT:
        atomic_fetch_add(&waited, 1);
        while (!atomic_load(&waiter.woken))
            sched_yield();
        if (waiter.answer != NULL)
            check_answer(waiter.answer, number);
        break;
    case IDEMPOTENCY_CONFLICT:
        fail();
    }
}

static void *run_requests(void *context) {
    uint64_t seed = (uint64_t)(uintptr_t)context + 1;

    for (unsigned i = 0; i < ROUNDS; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        request_as_thread((unsigned)(seed >> 33) % SHARED_KEYS, (seed >> 60) < 4);
        if (i % 512 == 0)
            idempotency_expire(keys, 1);
    }
    return NULL;
}

static void run_threads(void) {
    pthread_t threads[THREADS];
    struct error error;

    for (unsigned i = 0; i < SHARED_KEYS; i++) {
        atomic_store(&published[i], 0);
        atomic_store(&refused[i], 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        assert_true(thread_start(&threads[i], "requests", run_requests, (void *)(uintptr_t)i, &error));
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void threads_publish_each_key_once(void **state) {
    (void)state;
    create(SHARED_KEYS, 1000000, SHARED_KEYS, 1000000);
    run_threads();
    for (unsigned i = 0; i < SHARED_KEYS; i++)
        assert_int_equal(atomic_load(&published[i]), 1);
    assert_size(SHARED_KEYS);
}

static void threads_above_the_bounds_stay_within_them(void **state) {
    (void)state;
    create(SHARED_KEYS / 4, 1000000, SHARED_KEYS / 8, 1000000);
    run_threads();
    for (unsigned i = 0; i < SHARED_KEYS; i++)
        assert_true(atomic_load(&published[i]) >= 1);
    assert_size(SHARED_KEYS / 8);
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_key_belongs_to_its_app_its_kind_and_its_body),
        TEST(a_key_is_new_again_after_its_lifetime),
        TEST(a_repeat_waits_for_the_first_and_gets_its_answer),
        TEST(a_request_that_failed_is_not_remembered),
        TEST(an_app_with_too_many_keys_loses_its_oldest),
        TEST(an_app_with_too_many_bytes_loses_its_oldest),
        TEST(with_little_memory_fewer_bytes_are_remembered),
        TEST(above_the_number_of_all_keys_the_app_with_the_most_loses_its_oldest),
        TEST(above_the_bytes_of_all_the_app_with_the_most_loses_its_oldest),
        TEST(an_answer_above_the_bounds_reaches_those_who_wait_and_is_forgotten),
        TEST(the_largest_app_is_always_the_one_that_loses),
        TEST(threads_publish_each_key_once),
        TEST(threads_above_the_bounds_stay_within_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
