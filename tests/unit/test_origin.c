/* Patterns of allowed_origins: what each of them matches, and what it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/origin.h"

#define MOST 12

/* Each pattern with origins that it matches and origins that it does not, NULL at the ends. */
static const struct {
    const char *pattern;
    const char *matched[MOST], *other[MOST];
} cases[] = {
    {"https://app.example.com",
     {"https://app.example.com", "https://app.example.com:443", "HTTPS://App.Example.COM"},
     {"http://app.example.com", "https://app.example.com:8443", "https://app.example.com:80", "https://example.com",
      "https://x.app.example.com", "https://app.example.com.evil.com", "https://evilapp.example.com", "null", ""}},
    {"HTTPS://App.Example.com", {"https://app.example.com"}, {"http://app.example.com"}},
    {"https://app.example.com/", {"https://app.example.com"}, {"http://app.example.com"}},
    {"https://app.example.com:8443",
     {"https://app.example.com:8443"},
     {"https://app.example.com", "https://app.example.com:443", "https://app.example.com:84433"}},
    {"https://app.example.com:443",
     {"https://app.example.com", "https://app.example.com:443"},
     {"http://app.example.com"}},
    {"app.example.com",
     {"https://app.example.com", "http://app.example.com", "http://app.example.com:80", "ionic://app.example.com"},
     {"https://app.example.com:80", "http://app.example.com:443", "http://app.example.com:3000", "app.example.com",
      "https://x.app.example.com", "://app.example.com"}},
    {"*.example.com",
     {"https://example.com", "http://example.com", "https://a.example.com", "https://a.b.example.com",
      "https://A.EXAMPLE.com"},
     {"https://evilexample.com", "https://example.com.evil.com", "https://a.example.com:8443", "https://example.org",
      "https://com"}},
    {"https://*.example.com",
     {"https://example.com", "https://a.example.com"},
     {"http://a.example.com", "http://example.com", "https://a.example.com:1", "https://evil.com/.example.com",
      "https://evil.com?.example.com", "https://evil.com#.example.com", "https://evil.com\\.example.com",
      "https://u@a.example.com", "https://a\t.example.com", "https://evil.com, https://a.example.com",
      "https://a\x7f.example.com"}},
    {"localhost:3000",
     {"http://localhost:3000", "https://localhost:3000"},
     {"http://localhost", "http://localhost:30000", "http://localhost:300", "http://x.localhost:3000"}},
    {"http://localhost:*",
     {"http://localhost", "http://localhost:1", "http://localhost:65535"},
     {"https://localhost:1", "http://localhost.evil.com:1", "http://xlocalhost:1", "http://localhost:1@evil.com",
      "http://localhost:1/"}},
    {"shop.example:*", {"https://shop.example", "http://shop.example:8080"}, {"https://a.shop.example:8080"}},
    {"localhost:30*", {"http://localhost:3000", "http://localhost:30"}, {"http://localhost:80", "http://localhost"}},
    {"*:3000", {"http://a:3000", "https://b.c:3000"}, {"http://a", "http://a:3001"}},
    {"https://app-*.example.com",
     {"https://app-1.example.com", "https://app-.example.com", "https://app-a.b.example.com"},
     {"https://app.example.com", "https://app-1.example.org", "https://app-1.example.com:8443",
      "https://app-evil.com"}},
    {"https://*", {"https://a", "https://b.c"}, {"http://a", "https://a:8443"}},
    {"*://app.example.com",
     {"https://app.example.com", "capacitor://app.example.com"},
     {"https://example.com", "https:/evil.com/://app.example.com"}},
    {"http*://app.example.com", {"https://app.example.com", "http://app.example.com"}, {"ws://app.example.com"}},
    {"*example.com", {"https://example.com", "https://evilexample.com"}, {"https://example.com.evil"}},
    {"example.*", {"https://example.com", "https://example.co.uk"}, {"https://a.example.com"}},
    {"a*a", {"https://aa", "https://aba"}, {"https://a"}},
    {"[::1]:3000", {"http://[::1]:3000"}, {"http://[::1]", "http://[::1]:300"}},
    {"[::1]", {"http://[::1]", "https://[::1]:443"}, {"http://[::1]:3000"}},
    {"http://[::1]:*", {"http://[::1]", "http://[::1]:5"}, {"http://[::2]:5"}},
    {"capacitor://localhost", {"capacitor://localhost"}, {"http://localhost", "capacitor://localhost:1"}},
    {"null", {NULL}, {"null", "https://nul"}},
    {"*", {"https://a", "http://b:1", "null", "anything", "", "https://u@a/?#"}, {NULL}},
    {"https://", {NULL}, {"https://a", "https://"}},
    {":80", {NULL}, {"http://a", "http://:80", "http://a:80"}},
};

static void each_pattern_matches_what_the_documentation_says(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slice pattern = slice_of(cases[i].pattern);
        for (size_t j = 0; j < MOST && cases[i].matched[j] != NULL; j++)
            if (!origin_matches(pattern, slice_of(cases[i].matched[j])))
                fail_msg("%s does not match %s", cases[i].pattern, cases[i].matched[j]);
        for (size_t j = 0; j < MOST && cases[i].other[j] != NULL; j++)
            if (origin_matches(pattern, slice_of(cases[i].other[j])))
                fail_msg("%s matches %s", cases[i].pattern, cases[i].other[j]);
    }
}

static void a_list_allows_what_one_of_its_patterns_matches(void **state) {
    struct slice list[] = {SLICE("https://a.example"), SLICE("b.example")};
    struct app app = {.allowed_origins = list, .allowed_origin_count = 2};

    (void)state;
    assert_true(app_allows_origin(&app, SLICE("https://a.example")));
    assert_true(app_allows_origin(&app, SLICE("http://b.example")));
    assert_false(app_allows_origin(&app, SLICE("http://a.example")));
    assert_false(app_allows_origin(&app, SLICE("null")));
    assert_false(app_allows_origin(&app, (struct slice){0}));
}

static void without_a_header_only_an_app_without_a_list_is_open(void **state) {
    struct slice list[] = {SLICE("*")};
    struct app app = {.allowed_origins = list, .allowed_origin_count = 1};

    (void)state;
    assert_false(app_allows_origin(&app, (struct slice){0}));
    assert_true(app_allows_origin(&app, SLICE("null")));
    app.allowed_origin_count = 0;
    assert_true(app_allows_origin(&app, (struct slice){0}));
    assert_true(app_allows_origin(&app, SLICE("null")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_pattern_matches_what_the_documentation_says),
        cmocka_unit_test(a_list_allows_what_one_of_its_patterns_matches),
        cmocka_unit_test(without_a_header_only_an_app_without_a_list_is_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
