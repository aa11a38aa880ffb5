/* What the places of AWS credentials say: shared files, the XML of STS, the JSON of agents and instances. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "aws/credentials.h"
#include "aws/profile.h"

static struct aws_profile profile;

static int set_up(void **state) {
    (void)state;
    memset(&profile, 0, sizeof profile);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    aws_profile_dispose(&profile);
    return 0;
}

static void read_config(const char *name, const char *text) {
    aws_profile_read(&profile, name, AWS_CONFIG_FILE, slice_of(text));
}

static void read_credentials(const char *name, const char *text) {
    aws_profile_read(&profile, name, AWS_CREDENTIALS_FILE, slice_of(text));
}

static void assert_value(enum aws_profile_value value, const char *expected) {
    if (expected == NULL)
        assert_null(profile.values[value]);
    else
        assert_string_equal(profile.values[value], expected);
}

/* --- shared files --- */

static void a_profile_is_the_section_of_its_name(void **state) {
    (void)state;
    read_credentials("work",
                     "[default]\naws_access_key_id = D\n[work]\naws_access_key_id = W\n"
                     "aws_secret_access_key = S\naws_session_token = T\n[workshop]\naws_access_key_id = X\n");
    assert_true(profile.found);
    assert_value(AWS_PROFILE_ACCESS_KEY_ID, "W");
    assert_value(AWS_PROFILE_SECRET_ACCESS_KEY, "S");
    assert_value(AWS_PROFILE_SESSION_TOKEN, "T");
}

static void the_config_file_says_profile_before_the_name(void **state) {
    (void)state;
    read_config("work",
                "[work]\naws_access_key_id = no\n[profilework]\naws_access_key_id = no\n"
                "[profile\t work ]\naws_access_key_id = yes\n");
    assert_value(AWS_PROFILE_ACCESS_KEY_ID, "yes");
}

static void the_default_profile_goes_without(void **state) {
    (void)state;
    read_config("default", "[default]\naws_access_key_id = one\n");
    assert_value(AWS_PROFILE_ACCESS_KEY_ID, "one");
    read_config("default", "[profile default]\naws_access_key_id = two\n");
    assert_value(AWS_PROFILE_ACCESS_KEY_ID, "two");
}

static void a_profile_that_is_not_there_is_not_found(void **state) {
    (void)state;
    read_config("work", "aws_access_key_id = outside\n[profile other]\naws_access_key_id = A\n[work");
    assert_false(profile.found);
    assert_value(AWS_PROFILE_ACCESS_KEY_ID, NULL);
}

static void the_credentials_file_counts_more_than_the_config_file(void **state) {
    (void)state;
    read_config("work", "[profile work]\naws_access_key_id = A\nrole_arn = R\n");
    read_credentials("work", "[work]\naws_access_key_id = B\n");
    assert_value(AWS_PROFILE_ACCESS_KEY_ID, "B");
    assert_value(AWS_PROFILE_ROLE_ARN, "R");
}

static void blanks_comments_and_line_ends_are_no_part_of_a_value(void **state) {
    (void)state;
    read_credentials("work",
                     "\xef\xbb\xbf# a comment\r\n; another\r\n  [work]  \r\n"
                     "AWS_Access_Key_Id=  A#;B  # the key\r\naws_secret_access_key = a=b+/c ; and more\r\n"
                     "aws_session_token =\r\nrole_arn\r\n");
    assert_value(AWS_PROFILE_ACCESS_KEY_ID, "A#;B");
    assert_value(AWS_PROFILE_SECRET_ACCESS_KEY, "a=b+/c");
    assert_value(AWS_PROFILE_SESSION_TOKEN, NULL);
    assert_value(AWS_PROFILE_ROLE_ARN, NULL);
}

static void an_indented_line_belongs_to_the_setting_above(void **state) {
    (void)state;
    read_config("work", "[profile work]\ns3 =\n  aws_access_key_id = nested\naws_access_key_id = own\n");
    assert_value(AWS_PROFILE_ACCESS_KEY_ID, "own");
}

static void a_value_with_a_zero_byte_is_none(void **state) {
    (void)state;
    aws_profile_read(&profile, "work", AWS_CREDENTIALS_FILE, SLICE("[work]\naws_access_key_id = A\0B\n"));
    assert_value(AWS_PROFILE_ACCESS_KEY_ID, NULL);
}

/* --- answers --- */

#define STS_ANSWER(inside)                                                                                             \
    "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"                          \
    "<AssumeRoleWithWebIdentityResult><Credentials>" inside                                                            \
    "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"

static void sts_answers_with_credentials_and_their_end(void **state) {
    struct aws_credentials credentials;
    struct error error;

    (void)state;
    assert_true(aws_credentials_from_sts(
        SLICE(STS_ANSWER("<SessionToken>T/+=</SessionToken><SecretAccessKey>S+/</SecretAccessKey>"
                         "<Expiration>2030-01-01T00:00:10Z</Expiration><AccessKeyId>A</AccessKeyId>")),
        &credentials, &error));
    assert_string_equal(credentials.access_key_id, "A");
    assert_string_equal(credentials.secret_access_key, "S+/");
    assert_string_equal(credentials.session_token, "T/+=");
    assert_true(credentials.expires_ms == UINT64_C(1893456010000));
    aws_credentials_dispose(&credentials);
}

static void assert_no_sts(struct slice xml) {
    struct aws_credentials credentials;
    struct error error = {0};

    assert_false(aws_credentials_from_sts(xml, &credentials, &error));
    assert_null(strstr(error.text, "SECRET"));
    assert_null(credentials.secret_access_key);
    assert_true(error.text[0] != '\0');
}

static void what_is_no_answer_of_sts_gives_no_credentials(void **state) {
    (void)state;
    assert_no_sts(SLICE(""));
    assert_no_sts(SLICE("<AccessKeyId>"));
    assert_no_sts(SLICE(STS_ANSWER("<AccessKeyId>A</AccessKeyId>")));
    assert_no_sts(SLICE(STS_ANSWER("<AccessKeyId>A</AccessKeyId><SecretAccessKey>SECRET")));
    assert_no_sts(SLICE(STS_ANSWER("<AccessKeyId></AccessKeyId><SecretAccessKey>SECRET</SecretAccessKey>")));
    assert_no_sts(SLICE(STS_ANSWER("<AccessKeyId>A\r\nX: y</AccessKeyId><SecretAccessKey>SECRET</SecretAccessKey>")));
    assert_no_sts(
        SLICE(STS_ANSWER("<AccessKeyId>A</AccessKeyId><SecretAccessKey>SECRET</SecretAccessKey>"
                         "<Expiration>soon</Expiration>")));
}

static bool from_json(const char *text, struct aws_credentials *credentials, struct error *error) {
    return aws_credentials_from_json(slice_of(text), credentials, error);
}

static void agents_and_instances_answer_with_json(void **state) {
    struct aws_credentials credentials;
    struct error error;

    (void)state;
    assert_true(
        from_json("{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\",\"Token\":\"T\","
                  "\"Expiration\":\"2030-01-01T00:00:00.5Z\"}",
                  &credentials, &error));
    assert_string_equal(credentials.session_token, "T");
    assert_true(credentials.expires_ms == UINT64_C(1893456000000));
    aws_credentials_dispose(&credentials);
    assert_false(from_json("{\"Code\":\"AssumeRoleUnauthorizedAccess\"}", &credentials, &error));
    assert_non_null(strstr(error.text, "AssumeRoleUnauthorizedAccess"));
    assert_false(from_json("{\"AccessKeyId\":\"A\",\"SecretAccessKey\":7}", &credentials, &error));
    assert_false(from_json("not JSON", &credentials, &error));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_profile_is_the_section_of_its_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_config_file_says_profile_before_the_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_default_profile_goes_without, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_profile_that_is_not_there_is_not_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_credentials_file_counts_more_than_the_config_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(blanks_comments_and_line_ends_are_no_part_of_a_value, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_indented_line_belongs_to_the_setting_above, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_value_with_a_zero_byte_is_none, set_up, tear_down),
        cmocka_unit_test(sts_answers_with_credentials_and_their_end),
        cmocka_unit_test(what_is_no_answer_of_sts_gives_no_credentials),
        cmocka_unit_test(agents_and_instances_answer_with_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
