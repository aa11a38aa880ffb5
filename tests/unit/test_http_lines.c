/* What llhttp lets pass in the head of a request, found in pieces of any size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "net/http_lines.h"

#define HEAD(line) line "\r\nHost: x\r\nContent-Length: 3\r\n"
#define GOOD HEAD("POST /up HTTP/1.1")

/* True if it is refused, given in pieces of `size` after a first one of `first` bytes. */
static bool is_refused(const char *text, size_t first, size_t size) {
    struct http_lines lines = {0};
    size_t length = strlen(text);
    const char *fault = NULL;

    for (size_t at = 0, next = first; at < length && fault == NULL; at += next, next = size) {
        next = next == 0 ? size : next;
        next = next > length - at ? length - at : next;
        fault = http_lines_check(&lines, text + at, next);
    }
    return fault != NULL;
}

static void assert_refused(const char *text, bool refused) {
    for (size_t first = 0; first < strlen(text); first++) {
        assert_int_equal(is_refused(text, first, 1), refused);
        assert_int_equal(is_refused(text, first, 1000), refused);
    }
}

static void heads_as_the_standard_wants_them_pass(void **state) {
    static const char *const good[] = {
        GOOD "\r\n",
        "\r\n\r\n" GOOD "\r\n",
        GOOD "A:  b c\td \r\nB:\r\n\r\n",
        HEAD("GET /up?a=b%20c HTTP/1.0") "\r\n",
        HEAD("GET http://x/up HTTP/1.1") "\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_refused(good[i], false);
}

static void what_is_behind_the_head_is_not_looked_at(void **state) {
    (void)state;
    assert_refused(GOOD "\r\n abc\r\n def", false);
    assert_refused(GOOD "\r\n\n \n  GET  /  RTSP", false);
}

static void headers_on_two_lines_are_refused(void **state) {
    static const char *const folded[] = {
        GOOD "A: b\r\n c\r\n\r\n", GOOD "A: b\r\n\tc\r\n\r\n", GOOD "A:\r\n b\r\n\r\n",
        GOOD "A: b\r\n \r\n\r\n",  GOOD "A: b\n c\r\n\r\n",    "POST /up HTTP/1.1\r\n Host: x\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof folded / sizeof folded[0]; i++)
        assert_refused(folded[i], true);
}

static void other_request_lines_are_refused(void **state) {
    static const char *const lines[] = {
        HEAD("GET  /up HTTP/1.1"),  HEAD("GET /up  HTTP/1.1"),  HEAD("OPTIONS /up RTSP/1.1"),
        HEAD("SOURCE /up ICE/1.1"), HEAD("GET /up x HTTP/1.1"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        assert_refused(lines[i], true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_as_the_standard_wants_them_pass),
        cmocka_unit_test(what_is_behind_the_head_is_not_looked_at),
        cmocka_unit_test(headers_on_two_lines_are_refused),
        cmocka_unit_test(other_request_lines_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
