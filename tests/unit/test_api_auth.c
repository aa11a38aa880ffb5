/* The published example of the signature, and how each part of a request changes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/auth.h"

/* The worked example of Pusher's "Authenticating requests" page. */
#define EXAMPLE_SIGNATURE "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
#define EXAMPLE_QUERY                                                                                                  \
    "body_md5=ec365a775a4cd0599faeb73354201b6f&auth_version=1.0&auth_key=278d425bdf160c739803&"                        \
    "auth_timestamp=1353088179"
#define EXAMPLE_BODY "{\"name\":\"foo\",\"channels\":[\"project-3\"],\"data\":\"{\\\"some\\\":\\\"data\\\"}\"}"
#define EXAMPLE_TIME 1353088179

static struct app example_app(void) {
    struct app app = {.key = SLICE("278d425bdf160c739803")};

    hmac_key_init(&app.hmac, SLICE("7ad3773142a6692b25b8"));
    return app;
}

static bool verify(const char *method, const char *path, const char *prefix, const char *query_text, const char *body,
                   uint64_t now_s, struct error *error) {
    struct app app = example_app();
    struct query query;
    bool verified;

    query_parse(&query, slice_of(query_text));
    verified = auth_verify(&app,
                           &(struct auth_request){.method = slice_of(method),
                                                  .path = slice_of(path),
                                                  .path_prefix = slice_of(prefix),
                                                  .query = &query,
                                                  .body = slice_of(body)},
                           now_s, error);
    query_dispose(&query);
    return verified;
}

static void assert_example_refused(const char *query, const char *body, uint64_t now_s, const char *what) {
    struct error error = {0};

    assert_false(verify("POST", "/apps/3/events", "", query, body, now_s, &error));
    if (strstr(error.text, what) == NULL)
        fail_msg("\"%s\" does not hold \"%s\"", error.text, what);
    assert_null(strstr(error.text, EXAMPLE_SIGNATURE));
    assert_null(strstr(error.text, "ec365a775a4cd0599faeb73354201b6f"));
}

static void the_published_example_is_accepted(void **state) {
    struct error error = {0};

    (void)state;
    if (!verify("POST", "/apps/3/events", "", EXAMPLE_QUERY "&auth_signature=" EXAMPLE_SIGNATURE, EXAMPLE_BODY,
                EXAMPLE_TIME, &error))
        fail_msg("%s", error.text);
}

static void each_part_that_is_missing_or_wrong_is_named(void **state) {
#define KEY "auth_key=278d425bdf160c739803&"
#define TIME "auth_timestamp=1353088179&"
#define VERSION "auth_version=1.0&"
#define DIGEST "body_md5=ec365a775a4cd0599faeb73354201b6f&"
#define SIGNED "auth_signature=" EXAMPLE_SIGNATURE
    static const struct {
        const char *query, *what;
    } cases[] = {
        {"", "auth_key"},
        {TIME VERSION DIGEST SIGNED, "auth_key is missing"},
        {"auth_key=278d425bdf160c739804&" TIME VERSION DIGEST SIGNED, "auth_key is not"},
        {KEY TIME DIGEST SIGNED, "auth_version is missing"},
        {KEY TIME DIGEST SIGNED "&auth_version=1", "auth_version must be 1.0"},
        {KEY VERSION DIGEST SIGNED, "auth_timestamp is missing"},
        {KEY VERSION DIGEST SIGNED "&auth_timestamp=1e9", "auth_timestamp must be"},
        {KEY VERSION DIGEST SIGNED "&auth_timestamp=-1353088179", "auth_timestamp must be"},
        {KEY VERSION DIGEST SIGNED "&auth_timestamp=18446744073709551616", "auth_timestamp must be"},
        {KEY TIME VERSION SIGNED, "body_md5 is missing"},
        {KEY TIME VERSION DIGEST, "auth_signature is missing"},
        {KEY TIME VERSION DIGEST "auth_signature=", "auth_signature is wrong"},
        {KEY TIME VERSION DIGEST "auth_signature=da454824", "auth_signature is wrong"},
        {KEY TIME VERSION DIGEST "more=1&" SIGNED, "auth_signature is wrong"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_example_refused(cases[i].query, EXAMPLE_BODY, EXAMPLE_TIME, cases[i].what);
    assert_example_refused(KEY TIME VERSION DIGEST SIGNED, EXAMPLE_BODY " ", EXAMPLE_TIME, "body_md5 is not");
    assert_example_refused(KEY TIME VERSION DIGEST SIGNED, "", EXAMPLE_TIME, "body_md5 is not");
}

static void a_timestamp_is_good_for_600_seconds_both_ways(void **state) {
    struct error error;
    const char *query = EXAMPLE_QUERY "&auth_signature=" EXAMPLE_SIGNATURE;

    (void)state;
    assert_true(verify("POST", "/apps/3/events", "", query, EXAMPLE_BODY, EXAMPLE_TIME + 600, &error));
    assert_true(verify("POST", "/apps/3/events", "", query, EXAMPLE_BODY, EXAMPLE_TIME - 600, &error));
    assert_example_refused(query, EXAMPLE_BODY, EXAMPLE_TIME + 601, "601 s behind");
    assert_example_refused(query, EXAMPLE_BODY, EXAMPLE_TIME - 601, "601 s ahead");
}

static void assert_signed_query(const char *received, const char *signed_text) {
    struct buffer text = {0};
    struct query query;

    query_parse(&query, slice_of(received));
    auth_append_query(&query, &text);
    if (!slice_equal(buffer_slice(&text), slice_of(signed_text)))
        fail_msg("%s is signed as \"%.*s\", not \"%s\"", received, SLICE_ARGS(buffer_slice(&text)), signed_text);
    buffer_dispose(&text);
    query_dispose(&query);
}

static void the_signed_query_is_sorted_lower_case_and_decoded_once(void **state) {
    (void)state;
    assert_signed_query("", "");
    assert_signed_query("auth_signature=x", "");
    assert_signed_query("b=2&AUTH_SIGNATURE=x&a=1", "a=1&b=2");
    assert_signed_query("B=Two&a=ONE", "a=ONE&b=Two");
    assert_signed_query("a-b=2&a=1", "a=1&a-b=2");
    assert_signed_query("aa=2&a=1&a_=3", "a=1&a_=3&aa=2");
    assert_signed_query("a=%26%3D%2520+%zz&%61b", "a=&=%20+%zz&ab=");
    assert_signed_query("a=2&A=1&a=10", "a=1&a=10&a=2");
    assert_signed_query("&&a&&b=&", "a=&b=");
}

static void many_parameters_are_sorted(void **state) {
    static const unsigned counts[] = {QUERY_INLINE - 1, QUERY_INLINE, QUERY_INLINE + 1, 1500};

    (void)state;
    for (size_t at = 0; at < sizeof counts / sizeof counts[0]; at++) {
        struct buffer received = {0}, wanted = {0};
        for (unsigned i = counts[at]; i-- != 0;)
            buffer_appendf(&received, "%s%04u=%u&", i % 2 == 0 ? "p" : "P", i, i);
        buffer_append(&received, SLICE("auth_signature=x"));
        for (unsigned i = 0; i < counts[at]; i++)
            buffer_appendf(&wanted, "%sp%04u=%u", i == 0 ? "" : "&", i, i);
        assert_signed_query(buffer_string(&received), buffer_string(&wanted));
        buffer_dispose(&received);
        buffer_dispose(&wanted);
    }
}

/* Signs like a client: `path` as it means it. */
static bool verify_path(const char *received, const char *prefix, const char *path) {
    const char *query = "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0";
    struct app app = example_app();
    const struct slice parts[] = {SLICE("GET\n"), slice_of(path), SLICE("\n"), slice_of(query)};
    char hex[HMAC_SHA256_HEX], with_signature[256];
    struct error error;

    hmac_sha256_hex(&app.hmac, parts, sizeof parts / sizeof parts[0], hex);
    snprintf(with_signature, sizeof with_signature, "%s&auth_signature=%.*s", query, HMAC_SHA256_HEX, hex);
    return verify("GET", received, prefix, with_signature, "", EXAMPLE_TIME, &error);
}

static void the_path_is_signed_as_received_or_decoded_once(void **state) {
    (void)state;
    assert_true(verify_path("/apps/3/users/a%20b/x", "", "/apps/3/users/a%20b/x"));
    assert_true(verify_path("/apps/3/users/a%20b/x", "", "/apps/3/users/a b/x"));
    assert_true(verify_path("/apps/3/users/a%2520b/x", "", "/apps/3/users/a%20b/x"));
    assert_false(verify_path("/apps/3/users/a%2520b/x", "", "/apps/3/users/a b/x"));
    assert_false(verify_path("/apps/3/users/a/x", "", "/apps/3/users/b/x"));
}

static void the_path_prefix_may_be_left_out_of_what_is_signed(void **state) {
    (void)state;
    assert_true(verify_path("/p/apps/3/channels", "/p", "/p/apps/3/channels"));
    assert_true(verify_path("/p/apps/3/channels", "/p", "/apps/3/channels"));
    assert_true(verify_path("/p/apps/3/users/%41", "/p", "/apps/3/users/A"));
    assert_false(verify_path("/p/apps/3/channels", "", "/apps/3/channels"));
    assert_false(verify_path("/p/apps/3/channels", "/p", "apps/3/channels"));
}

static void the_digest_of_an_unread_body_is_not_checked(void **state) {
    struct app app = example_app();
    struct error error;
    struct query query;

    (void)state;
    query_parse(&query, SLICE(EXAMPLE_QUERY "&auth_signature=" EXAMPLE_SIGNATURE));
    assert_true(auth_verify(
        &app,
        &(struct auth_request){
            .method = SLICE("POST"), .path = SLICE("/apps/3/events"), .query = &query, .body_unknown = true},
        EXAMPLE_TIME, &error));
    query_dispose(&query);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_example_is_accepted),
        cmocka_unit_test(each_part_that_is_missing_or_wrong_is_named),
        cmocka_unit_test(a_timestamp_is_good_for_600_seconds_both_ways),
        cmocka_unit_test(the_signed_query_is_sorted_lower_case_and_decoded_once),
        cmocka_unit_test(many_parameters_are_sorted),
        cmocka_unit_test(the_path_is_signed_as_received_or_decoded_once),
        cmocka_unit_test(the_path_prefix_may_be_left_out_of_what_is_signed),
        cmocka_unit_test(the_digest_of_an_unread_body_is_not_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
