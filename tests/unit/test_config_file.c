/* The configuration file: which one is read, in which language, and what is said of one that cannot be read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

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

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, config_fixture_enter, config_fixture_leave)
    const struct CMUnitTest tests[] = {
        TEST(a_file_whose_name_ends_in_toml_is_toml),
        TEST(faults_of_toml_are_told_like_those_of_json),
        TEST(the_default_file_is_config_toml_else_config_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
