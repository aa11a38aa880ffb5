/* `curlew check`: all that a start would say, and what a start cannot know in time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "config_fixture.h"

#define APP(secret) "\"app_manager\":{\"array\":{\"apps\":[{\"id\":\"shop\",\"key\":\"k\",\"secret\":\"" secret "\"}]}}"
#define GOOD APP("4cf1a7a2c54f2c1b0a99")
#define SAFE "\"host\":\"127.0.0.1\",\"metrics\":{\"host\":\"127.0.0.1\"}," GOOD

/* The output of a check of the text as c.json, which must end with `code`. */
static const char *check_text(const char *text, bool strict, int code) {
    const char *output;
    int found;

    config_fixture_write("c.json", text);
    output = config_fixture_check("c.json", strict, &found);
    if (found != code)
        fail_msg("exit code %d: %s", found, output);
    return output;
}

static void a_good_configuration_has_one_line(void **state) {
    (void)state;
    assert_string_equal(check_text("{" SAFE "}", false, 0), "ok: c.json, 1 app\n");
    assert_string_equal(check_text("{" SAFE "}", true, 0), "ok: c.json, 1 app\n");
}

static void no_app_is_told_as_a_start_tells_it(void **state) {
    const char *output = check_text("{}", false, 0);

    (void)state;
    assert_text_holds(output,
                      "warning: there is no app yet, so no client can connect: add one to "
                      "app_manager.array.apps and send SIGHUP");
    assert_text_holds(output, "ok: c.json, 0 apps\n");
}

static void strict_makes_a_failure_of_a_warning(void **state) {
    const char *output = check_text("{\"prot\":1," GOOD "}", false, 0);

    (void)state;
    assert_text_holds(output, "warning: c.json: prot");
    output = check_text("{\"prot\":1," GOOD "}", true, 1);
    assert_text_holds(output, "warning: c.json: prot");
    assert_text_holds(output, "failed: c.json has warnings, and --strict is given\n");
    check_text("{\"port\":-1," GOOD "}", true, 2);
}

static void a_secret_that_everyone_knows_is_told_in_production(void **state) {
    static const char *const known[] = {
        "{" APP("app-secret") "}", "{" APP("demo-secret") "}", "{" APP("secret") "}", "{" APP("my-app-secret") "}",
        "{" APP("app_secret") "}", "{" APP("SOME_APP_SECRET") "}",
        /* Sockudo's config/ai-transport.example.toml, sql/init-sql.sql, test/automated/.env */
        "{" APP("replace-with-app-secret") "}", "{" APP("your-production-app-secret") "}", "{" APP("secret1") "}"};

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const char *output = check_text(known[i], false, 0);

        assert_text_holds(output, "warning: app \"shop\": its secret is publicly known from examples");
        check_text(known[i], true, 1);
    }
    assert_string_equal(check_text("{\"mode\":\"development\"," APP("app-secret") "}", true, 0), "ok: c.json, 1 app\n");
    assert_text_holds(
        check_text("{\"app_manager\":{\"array\":{\"apps\":[{\"id\":40000,\"key\":\"k\",\"secret\":\"secret\"}]}}}",
                   false, 0),
        "warning: app \"40000\": its secret is publicly known");
    setenv("SOCKUDO_DEFAULT_APP_ID", "env", 1);
    setenv("SOCKUDO_DEFAULT_APP_KEY", "env-key", 1);
    setenv("SOCKUDO_DEFAULT_APP_SECRET", "demo-secret", 1);
    assert_text_holds(check_text("{" GOOD "}", true, 1), "warning: app \"env\": its secret is publicly known");
}

static void a_known_previous_secret_is_told_while_it_is_accepted(void **state) {
    static const char good[] = "4cf1a7a2c54f2c1b0a99\",\"previous_secret\":";

    (void)state;
    for (int text = 0; text < 2; text++) {
        char config[400];
        const char *mark = text == 1 ? "\"" : "";

        snprintf(config, sizeof config,
                 "{" APP("%s\"app_secret\",\"previous_secret_until\":%s4102444800%s,\"x\":\"") "}", good, mark, mark);
        assert_text_holds(check_text(config, false, 0),
                          "warning: app \"shop\": its previous secret is publicly known from examples and still");
        snprintf(config, sizeof config,
                 "{" APP("%s\"app_secret\",\"previous_secret_until\":%s1600000000%s,\"x\":\"") "}", good, mark, mark);
        assert_null(strstr(check_text(config, false, 0), "publicly known"));
    }
    assert_null(
        strstr(check_text("{" APP("4cf1a7a2c54f2c1b0a99\",\"previous_secret\":\"secret") "}", false, 0), "publicly"));
}

static void two_listeners_with_one_port_are_an_error(void **state) {
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"{\"metrics\":{\"port\":6001}}", "port and metrics.port have the same port, 6001"},
        {"{\"host\":\"127.0.0.1\",\"port\":9601}", "port and metrics.port have the same port, 9601"},
        {"{\"host\":\"localhost\",\"metrics\":{\"host\":\"127.0.0.1\",\"port\":6001}}", "have the same port, 6001"},
        {"{\"host\":\"::\",\"port\":9601}", "have the same port, 9601"},
        {"{\"host\":\"127.0.0.1\",\"port\":1,\"metrics\":{\"host\":\"127.0.0.1\",\"port\":1}}", "the same port, 1"},
        {"{\"ssl\":{\"enabled\":true,\"redirect_http\":true,\"http_port\":6001,\"cert_path\":\"c\",\"key_path\":\"k\"}"
         "}",
         "port and ssl.http_port have the same port, 6001"},
        {"{\"metrics\":{\"port\":9602},\"app_manager\":{\"driver\":\"sqlite\"}}",
         "metrics.port and CURLEW_ADMIN_LISTEN have the same port, 9602"},
    };
    static const char *const good[] = {
        "{\"port\":0,\"metrics\":{\"port\":0}," GOOD "}",
        "{\"port\":9601,\"metrics\":{\"enabled\":false}," GOOD "}",
        "{\"port\":9601,\"unix_socket\":{\"enabled\":true}," GOOD "}",
        "{\"host\":\"127.0.0.1\",\"port\":1,\"metrics\":{\"host\":\"127.0.0.2\",\"port\":1}," GOOD "}",
        "{\"host\":\"::1\",\"port\":1,\"metrics\":{\"host\":\"0.0.0.0\",\"port\":1}," GOOD "}",
        "{\"port\":80,\"ssl\":{\"redirect_http\":true}," GOOD "}",
    };

    (void)state;
    setenv("CURLEW_ADMIN_TOKEN", "0123456789abcdef0123456789abcdef", 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_text_holds(check_text(cases[i].text, false, 2), cases[i].part);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        check_text(good[i], false, 0);
}

static void an_admin_token_without_a_store_is_told(void **state) {
    (void)state;
    setenv("CURLEW_ADMIN_TOKEN", "0123456789abcdef0123456789abcdef", 1);
    assert_text_holds(check_text("{" GOOD "}", false, 0),
                      "warning: CURLEW_ADMIN_TOKEN is set, but the memory driver has nothing to administer");
}

static void a_missing_folder_of_the_sqlite_file_is_told(void **state) {
    (void)state;
    assert_text_holds(check_text("{\"app_manager\":{\"driver\":\"sqlite\"},\"database\":{\"sqlite\":{\"path\":"
                                 "\"no/such/apps.db\"}}}",
                                 false, 2),
                      "error: database.sqlite.path no/such/apps.db: the folder no/such does not exist; create it for");
    check_text("{\"app_manager\":{\"driver\":\"sqlite\"},\"database\":{\"sqlite\":{\"path\":\"./apps.db\"}}}", false,
               0);
}

static void tls_without_a_certificate_names_the_variables_too(void **state) {
    (void)state;
    setenv("SSL_ENABLED", "true", 1);
    assert_text_holds(check_text("{" GOOD "}", false, 2),
                      "error: ssl.enabled needs ssl.cert_path and ssl.key_path, PEM files (the environment variables "
                      "are SSL_CERT_PATH and SSL_KEY_PATH)");
}

static void a_broken_app_is_told_with_the_file(void **state) {
    (void)state;
    assert_text_holds(check_text("{\"app_manager\":{\"array\":{\"apps\":[{\"id\":\"a\",\"key\":\"k\"}]}}}", false, 1),
                      "error: c.json: app_manager.array.apps[0]: app \"a\": ");
    assert_null(strstr(check_text("{\"app_manager\":{\"array\":{\"apps\":[{\"id\":\"a\",\"key\":\"k\"}]}}}", false, 1),
                       "there is no app yet"));
}

static void an_algorithm_that_is_none_is_told(void **state) {
    (void)state;
    assert_text_holds(check_text("{\"delta_compression\":{\"algorithm\":\"xdelta\"}," GOOD "}", false, 0),
                      "warning: c.json: delta_compression.algorithm is not one of fossil, xdelta3, so it is fossil; "
                      "did you mean xdelta3?\n");
    assert_string_equal(check_text("{\"delta_compression\":{\"algorithm\":\"XDelta3\"}," SAFE "}", true, 0),
                        "ok: c.json, 1 app\n");
}

/* Each is one line, which --strict makes a failure, and which the other mode does not have. */
static void what_is_dangerous_in_production_is_told_with_what_to_do(void **state) {
#define LOCAL "\"host\":\"127.0.0.1\","
#define CLOSED "\"metrics\":{\"host\":\"::1\"},"
    static const struct {
        const char *text, *line;
    } cases[] = {
        {CLOSED GOOD, "dangerous: host is 0.0.0.0: other machines reach this port, and it has no TLS"},
        {"\"host\":\"ws.example\"," CLOSED GOOD, "dangerous: host is ws.example: "},
        {LOCAL GOOD, "dangerous: metrics.host is 0.0.0.0: "},
        {LOCAL CLOSED "\"cors\":{\"credentials\":true}," GOOD, "dangerous: cors.origin is *: cors.credentials is true"},
        {LOCAL CLOSED APP("fifteen-bytes-x"), "dangerous: app_manager.array.apps[0].secret has 15 bytes: "},
    };
    static const char *const fine[] = {
        SAFE,
        "\"host\":\"::1\"," CLOSED GOOD,
        "\"unix_socket\":{\"enabled\":true}," CLOSED GOOD,
        LOCAL "\"metrics\":{\"enabled\":false}," GOOD,
        LOCAL CLOSED "\"cors\":{\"credentials\":true,\"origin\":[\"https://shop.example\"]}," GOOD,
        LOCAL CLOSED "\"cors\":{\"credentials\":false}," GOOD,
        LOCAL CLOSED APP("sixteen-bytes-xy"),
    };
    char text[1000];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *output;

        snprintf(text, sizeof text, "{%s}", cases[i].text);
        output = check_text(text, false, 0);
        assert_text_holds(output, cases[i].line);
        assert_text_holds(strchr(output, '\n'), "\nok: c.json, 1 app\n");
        check_text(text, true, 1);
        snprintf(text, sizeof text, "{\"mode\":\"development\",%s}", cases[i].text);
        check_text(text, true, 0);
    }
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++) {
        snprintf(text, sizeof text, "{%s}", fine[i]);
        assert_string_equal(check_text(text, true, 0), "ok: c.json, 1 app\n");
    }
}

static void a_short_secret_stands_for_all_of_them(void **state) {
    (void)state;
    assert_text_holds(check_text("{\"app_manager\":{\"array\":{\"apps\":["
                                 "{\"id\":\"a\",\"key\":\"a\",\"secret\":\"0123456789abcdef\"},"
                                 "{\"id\":\"b\",\"key\":\"b\",\"secret\":\"demo-secret\"},"
                                 "{\"id\":\"c\",\"key\":\"c\",\"secret\":123},"
                                 "{\"id\":\"d\",\"key\":\"d\",\"secret\":\"1234\"}]}}}",
                                 true, 1),
                      "dangerous: app_manager.array.apps[2].secret has 3 bytes, and secrets of other apps are as "
                      "short: ");
}

/* True if `curlew check` of these members names a password in clear text; whether the build has the adapter does not
 * matter. */
static bool tells_of_clear_password(const char *members, const char *part) {
    char text[1000];
    int code;

    snprintf(text, sizeof text, "{%s,%s}", members, SAFE);
    config_fixture_write("c.json", text);
    return strstr(config_fixture_check("c.json", true, &code), part) != NULL;
}

static void a_password_that_leaves_in_clear_text_is_dangerous(void **state) {
#define REDIS(rest) "\"adapter\":{\"driver\":\"redis\"},\"database\":{\"redis\":{" rest "}}"
#define CLUSTER(nodes, rest)                                                                                           \
    "\"adapter\":{\"driver\":\"redis-cluster\",\"cluster\":{\"nodes\":[" nodes "]}},\"database\":{\"redis\":{" rest "}}"
#define NATS(servers, rest) "\"adapter\":{\"driver\":\"nats\",\"nats\":{\"servers\":[" servers "]" rest "}}"
    static const struct {
        const char *members, *setting;
        bool is_clear;
    } cases[] = {
        {REDIS("\"host\":\"r\",\"password\":\"p\""), "dangerous: adapter.driver is redis: the password", true},
        {REDIS("\"host\":\"r\""), "dangerous", false},
        {REDIS("\"host\":\"127.0.0.1\",\"password\":\"p\""), "dangerous", false},
        {REDIS("\"host\":\"rediss://r\",\"password\":\"p\""), "dangerous", false},
        {REDIS("\"host\":\"r\",\"password\":\"p\",\"tls\":{\"enabled\":true}"), "dangerous", false},
        {REDIS("\"password\":\"p\",\"sentinels\":[\"s\"]"), "dangerous: adapter.driver", true},
        {REDIS("\"sentinel_password\":\"p\",\"sentinels\":[\"s\"]"), "dangerous: adapter.driver", true},
        {REDIS("\"password\":\"p\",\"sentinels\":[\"127.0.0.1:26379\"]"), "dangerous", false},
        {CLUSTER("\"redis://:p@r\"", ""), "dangerous: adapter.driver is redis-cluster: ", true},
        {CLUSTER("\"127.0.0.1\",\"r\"", "\"cluster\":{\"password\":\"p\"}"), "dangerous: adapter.driver", true},
        {CLUSTER("\"r\"", "\"cluster\":{\"password\":\"p\",\"use_tls\":true}"), "dangerous", false},
        {"\"cache\":{\"driver\":\"redis\",\"redis\":{\"url_override\":\"redis://:p@r\"}}",
         "dangerous: cache.driver is redis: the password", true},
        {"\"cache\":{\"driver\":\"memory\",\"redis\":{\"url_override\":\"redis://:p@r\"}}", "dangerous", false},
        {NATS("\"nats://u:p@n\"", ""), "dangerous: adapter.driver is nats: ", true},
        {NATS("\"n:4222\"", ",\"token\":\"t\""), "dangerous: adapter.driver is nats: ", true},
        {NATS("\"tls://n\"", ",\"token\":\"t\""), "dangerous", false},
        {NATS("\"n\"", ",\"token\":\"t\",\"tls\":{\"ca_path\":\"/ca.pem\"}"), "dangerous", false},
        {NATS("\"n\"", ",\"nkey_seed_path\":\"/seed\""), "dangerous", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (tells_of_clear_password(cases[i].members, cases[i].setting) != cases[i].is_clear)
            fail_msg("%s: %s", cases[i].members, cases[i].setting);
}

static void files_of_the_adapter_are_read(void **state) {
    static const struct {
        const char *members, *says;
    } cases[] = {
        {REDIS("\"host\":\"rediss://r\",\"tls\":{\"ca_path\":\"/no/ca.pem\"}"),
         "error: database.redis.tls.ca_path /no/ca.pem: No such file or directory"},
        {CLUSTER("\"rediss://r\"", "\"tls\":{\"ca_path\":\"/no/ca.pem\"}"),
         "error: database.redis.tls.ca_path /no/ca.pem: No such file or directory"},
        {REDIS("\"tls\":{\"ca_path\":\"/no/ca.pem\"}") ",\"cache\":{\"driver\":\"redis\",\"redis\":{\"url_override\":"
                                                       "\"rediss://r\"}}",
         "error: database.redis.tls.ca_path /no/ca.pem: No such file or directory"},
        {NATS("\"n\"", ",\"nkey_seed_path\":\"/no/seed\""), "error: adapter.nats.nkey_seed_path /no/seed"},
    };
    char text[1000];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(text, sizeof text, "{%s,%s}", cases[i].members, SAFE);
        assert_text_holds(check_text(text, false, 2), cases[i].says);
    }
    snprintf(text, sizeof text, "{%s,%s}", REDIS("\"tls\":{\"ca_path\":\"/no/ca.pem\"}"), SAFE);
    check_text(text, false, 0); /* no connection has TLS */
    check_text("{\"adapter\":{\"driver\":\"redis-cluster\",\"cluster\":{\"use_sharded_pubsub\":true}}," SAFE "}", false,
               0);
    check_text("{\"adapter\":{\"driver\":\"nats\"}," SAFE "}", false, 0);
}

static void an_admin_api_that_others_reach_is_dangerous(void **state) {
    static const char text[] = "{" LOCAL CLOSED
                               "\"app_manager\":{\"driver\":\"sqlite\"},"
                               "\"database\":{\"sqlite\":{\"path\":\"apps.db\"}}}";

    (void)state;
    setenv("CURLEW_ADMIN_TOKEN", "a token of at least thirty-two characters", 1);
    check_text(text, true, 0);
    setenv("CURLEW_ADMIN_LISTEN", "[::]:9602", 1);
    assert_text_holds(check_text(text, true, 1), "dangerous: CURLEW_ADMIN_LISTEN is [::]:9602: ");
    setenv("CURLEW_ADMIN_LISTEN", "[::1]:9602", 1);
    check_text(text, true, 0);
}

static void files_with_secrets_that_others_can_read_are_dangerous(void **state) {
    static const char *const secrets[] = {
        GOOD,
        "\"ssl\":{\"passphrase\":\"open sesame\"}",
        "\"database\":{\"mysql\":{\"password\":\"open sesame\"}}",
    };
    char text[400];
    int code;

    (void)state;
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++) {
        snprintf(text, sizeof text, "{" LOCAL CLOSED "%s}", secrets[i]);
        config_fixture_write("c.json", text);
        assert_int_equal(chmod("c.json", 0644), 0);
        assert_text_holds(config_fixture_check("c.json", true, &code),
                          "dangerous: the configuration file, c.json, has the mode 0644: it holds secrets");
        assert_int_equal(chmod("c.json", 0640), 0);
        assert_null(strstr(config_fixture_check("c.json", true, &code), "dangerous"));
    }
    /* Without a secret in it, anyone may read the file. */
    setenv("DATABASE_MYSQL_PASSWORD", "open sesame", 1);
    config_fixture_write("c.json", "{" LOCAL CLOSED "\"port\":6001}");
    assert_int_equal(chmod("c.json", 0644), 0);
    assert_null(strstr(config_fixture_check("c.json", true, &code), "dangerous"));
}

static void an_sqlite_file_that_others_can_read_is_dangerous(void **state) {
    static const char text[] = "{" LOCAL CLOSED
                               "\"app_manager\":{\"driver\":\"sqlite\"},"
                               "\"database\":{\"sqlite\":{\"path\":\"apps.db\"}}}";
    static const char line[] = "dangerous: database.sqlite.path, apps.db, has the mode 0644: ";

    (void)state;
    config_fixture_write("apps.db", "");
    assert_int_equal(chmod("apps.db", 0644), 0);
    assert_non_null(strstr(check_text(text, false, 0), line));
    assert_int_equal(chmod("apps.db", 0640), 0);
    assert_null(strstr(check_text(text, false, 0), line));
}

#define DELTAS(settings) "{" SAFE ",\"delta_compression\":{" settings "}}"

static void settings_without_which_deltas_are_never_sent_are_told(void **state) {
    static const char app[] =
        "{\"host\":\"127.0.0.1\",\"metrics\":{\"host\":\"127.0.0.1\"},\"delta_compression\":{\"enabled\":false},"
        "\"app_manager\":{\"array\":{\"apps\":[{\"id\":\"shop\",\"key\":\"k\",\"secret\":\"4cf1a7a2c54f2c1b0a99\","
        "\"channel_delta_compression\":{\"a\":\"fossil\"}}]}}}";

    (void)state;
    assert_text_holds(check_text(DELTAS("\"full_message_interval\":0"), false, 0),
                      "warning: delta_compression.full_message_interval is 0, so every message is sent whole");
    assert_text_holds(check_text(DELTAS("\"conflation_key_path\":\"data..x\""), false, 0),
                      "warning: delta_compression.conflation_key_path finds nothing, so every message is sent whole");
    assert_text_holds(check_text("{" SAFE ",\"tag_filtering\":{\"enable_tags\":false},"
                                 "\"delta_compression\":{\"conflation_key_path\":\"tags.x\"}}",
                                 false, 0),
                      "warning: delta_compression.conflation_key_path finds nothing in most channels");
    assert_text_holds(check_text(app, false, 0),
                      "warning: c.json: app_manager.array.apps[0]: channel_delta_compression has no effect");
    assert_string_equal(check_text(DELTAS("\"enabled\":false,\"full_message_interval\":0"), true, 0),
                        "ok: c.json, 1 app\n");
    assert_string_equal(check_text(DELTAS("\"conflation_key_path\":\"tags.x\""), true, 0), "ok: c.json, 1 app\n");
    assert_string_equal(check_text(DELTAS("\"conflation_key_path\":\"\""), true, 0), "ok: c.json, 1 app\n");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, config_fixture_enter, config_fixture_leave)
    const struct CMUnitTest tests[] = {
        TEST(a_good_configuration_has_one_line),
        TEST(no_app_is_told_as_a_start_tells_it),
        TEST(strict_makes_a_failure_of_a_warning),
        TEST(a_secret_that_everyone_knows_is_told_in_production),
        TEST(a_known_previous_secret_is_told_while_it_is_accepted),
        TEST(two_listeners_with_one_port_are_an_error),
        TEST(an_admin_token_without_a_store_is_told),
        TEST(a_missing_folder_of_the_sqlite_file_is_told),
        TEST(tls_without_a_certificate_names_the_variables_too),
        TEST(a_broken_app_is_told_with_the_file),
        TEST(an_algorithm_that_is_none_is_told),
        TEST(what_is_dangerous_in_production_is_told_with_what_to_do),
        TEST(a_short_secret_stands_for_all_of_them),
        TEST(a_password_that_leaves_in_clear_text_is_dangerous),
        TEST(files_of_the_adapter_are_read),
        TEST(an_admin_api_that_others_reach_is_dangerous),
        TEST(files_with_secrets_that_others_can_read_are_dangerous),
        TEST(an_sqlite_file_that_others_can_read_is_dangerous),
        TEST(settings_without_which_deltas_are_never_sent_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
