/* AWS Signature Version 4, with cases of the "AWS Signature Version 4 Test Suite" that AWS has published: get-vanilla,
 * post-vanilla and get-utf8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <string.h>

#include "aws/signature.h"

static void assert_signature(const char *method, const char *path, const char *signature) {
    char id[] = "AKIDEXAMPLE", secret[] = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const struct aws_credentials credentials = {.access_key_id = id, .secret_access_key = secret};
    char date[AWS_DATE_TEXT], expected[512];
    const struct aws_signed_header headers[] = {{"host", SLICE("example.amazonaws.com")},
                                                {"x-amz-date", SLICE("20150830T123600Z")}};
    const struct aws_signed_request request = {
        .method = method,
        .path = slice_of(path),
        .headers = headers,
        .header_count = 2,
        .region = "us-east-1",
        .service = "service",
    };
    struct buffer authorization = {0};

    aws_date_write(1440938160, date);
    assert_string_equal(date, "20150830T123600Z");
    aws_sign_request(&request, &credentials, date, &authorization);
    snprintf(expected, sizeof expected,
             "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
             "SignedHeaders=host;x-amz-date, Signature=%s",
             signature);
    assert_string_equal(buffer_string(&authorization), expected);
    buffer_dispose(&authorization);
}

static void signatures_are_those_of_the_published_suite(void **state) {
    (void)state;
    assert_signature("GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    assert_signature("POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
    assert_signature("GET", "/\u1234", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85");
}

static void everything_but_unreserved_characters_is_escaped(void **state) {
    struct buffer text = {0};

    (void)state;
    aws_escape(SLICE("a-Z_0.~/:$\u00e9"), false, &text);
    assert_string_equal(buffer_string(&text), "a-Z_0.~%2F%3A%24%C3%A9");
    buffer_dispose(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signatures_are_those_of_the_published_suite),
        cmocka_unit_test(everything_but_unreserved_characters_is_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
