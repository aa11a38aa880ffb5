/* The configuration file: which one is read, in which language, and what is said of one that cannot be read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config_fixture.h"

#define CONFIG config_fixture.config
#define REPORT config_fixture.report
#define ERROR_TEXT config_fixture.error.text

static void a_file_whose_name_ends_in_toml_is_toml(void **state) {
    (void)state;
    assert_true(config_fixture_load("c.toml",
                                    "port = 7000\n[metrics.prometheus]\nprefix = \"x_\"\n"
                                    "[[app_manager.array.apps]]\nid = \"a\"\n"));
    assert_string_equal(CONFIG.file, "c.toml");
    assert_int_equal(CONFIG.port, 7000);
    assert_string_equal(CONFIG.metrics.prometheus.prefix, "x_");
    assert_int_equal(json_array_size(CONFIG.app_manager.array_apps), 1);
    assert_int_equal(REPORT.warnings.count, 0);
    assert_true(config_fixture_load("c.toml", "\xef\xbb\xbfport = 7001\n"));
    assert_int_equal(CONFIG.port, 7001);
    assert_true(config_fixture_load("c.toml", ""));
}

static void faults_of_toml_are_told_like_those_of_json(void **state) {
    (void)state;
    assert_false(config_fixture_load("c.toml", "port = 1\n[ssl]\npassphrase = \"hunter2\" x\n"));
    assert_text_holds(ERROR_TEXT, "c.toml:3:24: this is not TOML 1.0: expected the end of the line");
    assert_null(strstr(ERROR_TEXT, "hunter2"));
    assert_false(config_fixture_load("c.toml", "port = \"6001\"\n"));
    assert_text_holds(ERROR_TEXT, "c.toml: port must be a whole number from 0 to 65535");
    assert_false(config_fixture_load("c.toml", "port = 2026-01-01\n"));
    assert_string_equal(ERROR_TEXT, "c.toml: port must be a whole number from 0 to 65535, not a text");
    assert_false(config_fixture_load("c.toml", "port = \"${NOT_SET:-x}\"\n"));
    assert_string_equal(ERROR_TEXT, "c.toml: port must be a whole number from 0 to 65535, not a text");
    assert_true(config_fixture_load("c.toml", "prot = 1\n"));
    assert_reported(REPORT.warnings, "c.toml: prot is not a setting of this server and is ignored; did you mean port?");
}

static void the_default_file_is_config_toml_else_config_json(void **state) {
    (void)state;
    config_fixture_write("config/config.json", "{\"port\":7100}");
    assert_true(config_fixture_load(NULL, NULL));
    assert_int_equal(CONFIG.port, 7100);
    assert_int_equal(REPORT.warnings.count, 0);
    config_fixture_write("config/config.toml", "port = 7200\n");
    assert_true(config_fixture_load(NULL, NULL));
    assert_int_equal(CONFIG.port, 7200);
    assert_string_equal(CONFIG.file, "config/config.toml");
    assert_int_equal(REPORT.warnings.count, 1);
    assert_reported(REPORT.warnings, "config/config.json is not read, because config/config.toml exists");
    assert_true(config_fixture_load("config/config.json", NULL));
    assert_int_equal(CONFIG.port, 7100);
    assert_int_equal(REPORT.warnings.count, 0);
    config_fixture_write("config/config.toml", "port =\n");
    assert_false(config_fixture_load(NULL, NULL)); /* and not the other file instead */
    assert_text_holds(ERROR_TEXT, "config/config.toml:1:7: ");
}

static void a_default_file_that_is_a_broken_link_is_an_error(void **state) {
    static const char *const names[] = {"config/config.json", "config/config.toml"};

    (void)state;
    config_fixture_write("config/config.json", "{}");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char text[120];

        snprintf(text, sizeof text, "configuration file %s: it is a link to a file that does not exist", names[i]);
        unlink(names[i]);
        assert_int_equal(symlink("nowhere", names[i]), 0);
        assert_false(config_fixture_load(NULL, NULL));
        assert_text_holds(ERROR_TEXT, text);
        assert_false(config_fixture_load(names[i], NULL));
        assert_text_holds(ERROR_TEXT, text);
    }
}

static void variables_in_strings_are_replaced(void **state) {
    (void)state;
    setenv("HOST_NAME", "db.example", 1);
    setenv("PASSWORD_1", "pa${HOST_NAME}ss", 1); /* not looked at again */
    setenv("EMPTY", "", 1);
    assert_true(config_fixture_load(
        "c.json",
        "{\"host\":\"${HOST_NAME}\",\"database\":{\"mysql\":{\"host\":\"a-${HOST_NAME}.${HOST_NAME}\","
        "\"password\":\"${PASSWORD_1}\",\"username\":\"${EMPTY:-someone}\"},"
        "\"postgres\":{\"password\":\"${NOT_SET:-}\",\"username\":\"$${HOST_NAME} $HOST_NAME ${NONE:-a:-b $}\"}},"
        "\"${HOST_NAME}\":1}"));
    assert_string_equal(CONFIG.host, "db.example");
    assert_string_equal(CONFIG.database.mysql.host, "a-db.example.db.example");
    assert_string_equal(CONFIG.database.mysql.password, "pa${HOST_NAME}ss");
    assert_string_equal(CONFIG.database.mysql.username, "someone");
    assert_string_equal(CONFIG.database.postgres.password, "");
    assert_string_equal(CONFIG.database.postgres.username, "${HOST_NAME} $HOST_NAME a:-b $");
    assert_int_equal(REPORT.warnings.count, 1);
    assert_reported(REPORT.warnings, "c.json: ${HOST_NAME} is not a setting"); /* names of members stay */
    assert_true(config_fixture_load("c.toml", "host = '${HOST_NAME}'\nport = '${NONE:-7000}'\n"));
    assert_string_equal(CONFIG.host, "db.example");
    assert_int_equal(CONFIG.port, 7000);
}

static void a_string_with_a_variable_is_read_as_the_environment_is(void **state) {
    (void)state;
    setenv("MY_PORT", "7000", 1);
    setenv("NO", "off", 1);
    setenv("EMPTY", "", 1);
    assert_true(config_fixture_load(
        "c.json",
        "{\"port\":\"${MY_PORT}\",\"metrics\":{\"enabled\":\"${NO}\",\"port\":\"${EMPTY:-}\"},"
        "\"debug\":\"${EMPTY:-yes}\",\"cors\":{\"origin\":\"${NONE:-https://a.example, https://b.example}\"},"
        "\"http_api\":{\"accept_traffic\":{\"memory_threshold\":\"${NONE:-0.5}\"}},"
        "\"database\":{\"mysql\":{\"pool_min\":\"${NONE:-3}\"},\"dynamodb\":{\"endpoint_url\":\"${EMPTY:-}\"}},"
        "\"websocket\":{\"max_messages\":\"${NONE:-none}\",\"compression\":\"${NONE:-SHARED}\"},"
        "\"app_manager\":{\"array\":{\"apps\":[{\"id\":\"${MY_PORT}\",\"key\":\"k-${MY_PORT}\",\"enabled\":\"${NO}\","
        "\"max_connections\":\"${MY_PORT}\",\"allowed_origins\":\"${NONE:-a.example,b.example}\","
        "\"max_event_batch_size\":\"${EMPTY:-}\",\"webhooks\":[{\"headers\":{\"X-Port\":\"${MY_PORT}\"}}],"
        "\"policy\":{\"limits\":{\"decay_seconds\":\"${NONE:-2}\",\"terminate_on_limit\":\"${NONE:-true}\"}}}]}}}"));
    assert_int_equal(REPORT.warnings.count, 0);
    assert_int_equal(CONFIG.port, 7000);
    assert_false(CONFIG.metrics.enabled);
    assert_int_equal(CONFIG.metrics.port, 9601);
    assert_true(CONFIG.debug);
    assert_int_equal(CONFIG.cors.origin.count, 2);
    assert_string_equal(CONFIG.cors.origin.items[1], "https://b.example");
    assert_true(CONFIG.http_api.accept_traffic.memory_threshold == 0.5);
    assert_int_equal(CONFIG.database.mysql.pool_min.value, 3);
    assert_null(CONFIG.database.dynamodb.endpoint_url);
    assert_int_equal(CONFIG.websocket.max_messages, 0);
    assert_int_equal(CONFIG.websocket.compression, CONFIG_COMPRESSION_SHARED);
    config_fixture_assert_apps(
        "[{\"id\":\"7000\",\"key\":\"k-7000\",\"enabled\":false,\"max_connections\":7000,"
        "\"allowed_origins\":[\"a.example\",\"b.example\"],"
        "\"webhooks\":[{\"headers\":{\"X-Port\":\"7000\"}}],"
        "\"policy\":{\"limits\":{\"decay_seconds\":2,\"terminate_on_limit\":true}}}]");
    setenv("MY_PORT", "hunter2", 1);
    assert_false(config_fixture_load("c.json", "{\"port\":\"${MY_PORT}\"}"));
    assert_text_holds(ERROR_TEXT, "c.json: port must be a whole number from 0 to 65535");
    assert_null(strstr(ERROR_TEXT, "hunter2"));
}

static void all_variables_without_a_value_are_one_error(void **state) {
    (void)state;
    setenv("EMPTY", "", 1);
    setenv("SET", "hunter2", 1);
    assert_false(config_fixture_load(
        "c.json",
        "{\"host\":\"${EMPTY}${SET}\",\"unknown\":[\"${ONE}\"],\"app_manager\":{\"array\":{\"apps\":["
        "{\"id\":\"${TWO}\",\"secret\":\"${ONE}\"}]}}}"));
    assert_int_equal(REPORT.errors.count, 1);
    assert_string_equal(ERROR_TEXT,
                        "c.json: these environment variables are unset or empty, and the file has no "
                        "default for them: EMPTY (host), ONE (unknown[0]), TWO "
                        "(app_manager.array.apps[0].id); set them, or write ${NAME:-default}");
}

static void what_is_no_variable_is_an_error_with_its_path(void **state) {
    static const char *const wrong[] = {"${", "${}", "${A", "${A-B}", "${1}", "${A:b}", "${ A}", "x${A:-b"};
    char text[100];

    (void)state;
    setenv("A", "1", 1);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        snprintf(text, sizeof text, "{\"ssl\":{\"passphrase\":\"%s\"}}", wrong[i]);
        if (config_fixture_load("c.json", text))
            fail_msg("accepted: %s", wrong[i]);
        assert_text_holds(ERROR_TEXT, "c.json: ssl.passphrase: ${ must be followed by the name");
    }
    setenv("A", "\xff", 1);
    assert_false(config_fixture_load("c.json", "{\"host\":\"${A}\"}"));
    assert_text_holds(ERROR_TEXT, "c.json: host: the environment variable in it is not UTF-8");
}

static void a_file_of_soketi_is_an_error_that_names_the_command(void **state) {
    static const char *const files[] = {
        "{\"appManager\":{}}",    "{\"httpApi\":{}}",         "{\"eventLimits\":{}}",
        "{\"channelLimits\":{}}", "{\"databasePooling\":{}}", "{\"appManager.array.apps\":[]}",
        "{\"mode\":\"full\"}",    "{\"mode\":\"server\"}",    "{\"mode\":\"worker\"}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        int code;

        if (config_fixture_load("s.json", files[i]))
            fail_msg("accepted: %s", files[i]);
        assert_text_holds(ERROR_TEXT, "s.json: this is a configuration of soketi");
        assert_text_holds(ERROR_TEXT, "`curlew convert soketi s.json`");
        assert_int_equal(REPORT.warnings.count, 0);
        config_fixture_check("s.json", false, &code);
        assert_int_equal(code, 2);
    }
    assert_true(config_fixture_load("s.json", "{\"mode\":\"FULL\"}")); /* any other word is a mode */
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, config_fixture_enter, config_fixture_leave)
    const struct CMUnitTest tests[] = {
        TEST(a_file_whose_name_ends_in_toml_is_toml),
        TEST(faults_of_toml_are_told_like_those_of_json),
        TEST(the_default_file_is_config_toml_else_config_json),
        TEST(a_default_file_that_is_a_broken_link_is_an_error),
        TEST(variables_in_strings_are_replaced),
        TEST(a_file_of_soketi_is_an_error_that_names_the_command),
        TEST(a_string_with_a_variable_is_read_as_the_environment_is),
        TEST(all_variables_without_a_value_are_one_error),
        TEST(what_is_no_variable_is_an_error_with_its_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
