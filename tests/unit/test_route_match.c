#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/route_match.h"

#define USER_ROUTE "/apps/{}/users/{...}/terminate_connections"

static void assert_match(const char *pattern, const char *path, const char *first, const char *second) {
    struct slice parameters[ROUTE_PARAMETERS] = {0};

    if (!route_matches(pattern, slice_of(path), parameters))
        fail_msg("%s does not match %s", path, pattern);
    assert_true(slice_equal(parameters[0], slice_of(first)));
    assert_true(slice_equal(parameters[1], slice_of(second)));
}

static void assert_no_match(const char *pattern, const char *path) {
    struct slice parameters[ROUTE_PARAMETERS];

    if (route_matches(pattern, slice_of(path), parameters))
        fail_msg("%s matches %s", path, pattern);
}

static void braces_take_one_piece_of_the_path(void **state) {
    (void)state;
    assert_match("/up", "/up", "", "");
    assert_match("/up/{}", "/up/a", "a", "");
    assert_match("/apps/{}/events", "/apps/3/events", "3", "");
    assert_match("/apps/{}/channels/{}", "/apps/3/channels/a%2Fb", "3", "a%2Fb");
    assert_match("/apps/{}/channels/{}/users", "/apps/3/channels/users/users", "3", "users");
    assert_no_match("/up", "/up/");
    assert_no_match("/up", "/upx");
    assert_no_match("/up", "/u");
    assert_no_match("/up", "");
    assert_no_match("/up/{}", "/up/");
    assert_no_match("/up/{}", "/up/a/b");
    assert_no_match("/apps/{}/events", "/apps//events");
    assert_no_match("/apps/{}/events", "/apps/3/event");
    assert_no_match("/apps/{}/events", "/apps/3/events/x");
    assert_no_match("/apps/{}/channels/{}", "/apps/3/channels/a/b");
}

static void dots_take_all_up_to_the_rest(void **state) {
    (void)state;
    assert_match(USER_ROUTE, "/apps/3/users/u/terminate_connections", "3", "u");
    assert_match(USER_ROUTE, "/apps/3/users/a/b//c/terminate_connections", "3", "a/b//c");
    assert_match(USER_ROUTE, "/apps/3/users/x/terminate_connections/terminate_connections", "3",
                 "x/terminate_connections");
    assert_no_match(USER_ROUTE, "/apps/3/users//terminate_connections");
    assert_no_match(USER_ROUTE, "/apps/3/users/terminate_connections");
    assert_no_match(USER_ROUTE, "/apps/3/users/u/terminate_connection");
}

static void assert_path(const char *target, const char *path) {
    assert_true(slice_equal(route_path(slice_of(target)), slice_of(path)));
}

static void scheme_and_host_are_no_part_of_the_path(void **state) {
    (void)state;
    assert_path("/up", "/up");
    assert_path("http://host:6001/up", "/up");
    assert_path("HTTPS://host/a/b", "/a/b");
    assert_path("http://host", "/");
    assert_path("http://", "http://");
    assert_path("ftp://host/up", "ftp://host/up");
    assert_path("*", "*");
    assert_path("", "");
}

static void a_prefix_ends_at_a_slash(void **state) {
    struct slice path = SLICE("/a/b/up");

    (void)state;
    assert_true(route_strip_prefix(SLICE(""), &path));
    assert_true(slice_equal(path, SLICE("/a/b/up")));
    assert_false(route_strip_prefix(SLICE("/a/x"), &path));
    assert_false(route_strip_prefix(SLICE("/a/b/u"), &path));
    assert_true(route_strip_prefix(SLICE("/a/b"), &path));
    assert_true(slice_equal(path, SLICE("/up")));
    assert_true(route_strip_prefix(SLICE("/up"), &path));
    assert_int_equal(path.length, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(braces_take_one_piece_of_the_path),
        cmocka_unit_test(dots_take_all_up_to_the_rest),
        cmocka_unit_test(scheme_and_host_are_no_part_of_the_path),
        cmocka_unit_test(a_prefix_ends_at_a_slash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
