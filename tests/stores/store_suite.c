/*
 * usage: store_suite CONFIG
 *
 * What every driver has to do, asked of the store that the configuration file names. The store has to be there; the
 * suite removes the apps that it made and leaves others alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "config/config.h"
#include "store/drivers.h"
#include "store/store.h"

#define TIMEOUT_MS 60000
#define MANY_APPS 2500
#define THREADS 8
#define ROUNDS 25

static struct config config;
static struct app_defaults defaults;
static const struct app_store_driver *driver;
static struct app_store *store;
static struct store_connection *connection;
static struct error error;

/* --- helpers --- */

static struct store_connection *connect_or_fail(void) {
    const struct deadline enough = deadline_after(TIMEOUT_MS, -1);
    struct store_connection *made = store_connect(store, &enough, &error);

    if (made == NULL)
        fail_msg("%s", error.text);
    return made;
}

static void assert_answer(enum store_answer answer, enum store_answer expected) {
    if (answer != expected)
        fail_msg("answer %d instead of %d: %s", answer, expected, error.text);
}

static struct app *parse(json_t *json) {
    struct app *app = app_parse(json, &defaults, APP_FROM_CONFIGURATION, NULL, NULL, &error);

    json_decref(json);
    if (app == NULL)
        fail_msg("%s", error.text);
    return app;
}

static struct app *make(const char *id, const char *key, unsigned max_connections) {
    return parse(json_pack("{s:s, s:s, s:s, s:i}", "id", id, "key", key, "secret", "secret", "max_connections",
                           (int)max_connections));
}

static enum store_answer create(const char *id, const char *key) {
    struct app *app = make(id, key, 1);
    enum store_answer answer = store_create(connection, app, &error);

    app_unref(app);
    return answer;
}

static enum store_answer update(const char *id, const char *key, unsigned max_connections) {
    struct app *app = make(id, key, max_connections);
    enum store_answer answer = store_update(connection, app, &error);

    app_unref(app);
    return answer;
}

static enum store_answer drop(const char *id) {
    return store_remove(connection, slice_of(id), &error);
}

static struct app *get(const char *id) {
    struct app *app = NULL;

    assert_answer(store_find_by_id(connection, slice_of(id), &app, &error), STORE_OK);
    assert_string_equal(app->id.data, id);
    return app;
}

static void assert_key_leads_to(const char *key, const char *id) {
    struct app *app = NULL;
    enum store_answer answer = store_find_by_key(connection, slice_of(key), &app, &error);

    if (id == NULL) {
        assert_answer(answer, STORE_NOT_FOUND);
        return;
    }
    assert_answer(answer, STORE_OK);
    assert_string_equal(app->id.data, id);
    app_unref(app);
}

static void begin(struct store_connection *on, uint32_t timeout_ms) {
    const struct deadline deadline = deadline_after(timeout_ms, -1);

    store_begin(on, &deadline);
}

static int new_deadline(void **state) {
    (void)state;
    if (connection != NULL)
        begin(connection, TIMEOUT_MS);
    error.text[0] = '\0';
    return 0;
}

/* --- finding and writing --- */

static void an_app_is_found_by_id_and_by_key_until_it_is_removed(void **state) {
    struct app *app;

    (void)state;
    assert_answer(create("suite-a", "suite-ka"), STORE_OK);
    app = get("suite-a");
    assert_int_equal(app->max_connections, 1);
    assert_string_equal(app->secret.data, "secret");
    app_unref(app);
    assert_key_leads_to("suite-ka", "suite-a");
    assert_key_leads_to("suite-a", NULL);
    assert_answer(update("suite-a", "suite-ka", 7), STORE_OK);
    assert_answer(update("suite-a", "suite-ka", 7), STORE_OK); /* one that changes nothing */
    app = get("suite-a");
    assert_int_equal(app->max_connections, 7);
    app_unref(app);
    assert_answer(drop("suite-a"), STORE_OK);
    assert_answer(store_find_by_id(connection, SLICE("suite-a"), &app, &error), STORE_NOT_FOUND);
    assert_key_leads_to("suite-ka", NULL);
}

static void a_changed_key_leads_to_the_app_and_the_old_one_nowhere(void **state) {
    (void)state;
    assert_answer(create("suite-a", "suite-old"), STORE_OK);
    assert_answer(update("suite-a", "suite-new", 1), STORE_OK);
    assert_key_leads_to("suite-old", NULL);
    assert_key_leads_to("suite-new", "suite-a");
    assert_answer(create("suite-b", "suite-old"), STORE_OK); /* free again */
    assert_key_leads_to("suite-old", "suite-b");
    assert_answer(drop("suite-a"), STORE_OK);
    assert_answer(drop("suite-b"), STORE_OK);
}

static void ids_and_keys_are_unique(void **state) {
    struct app *app;

    (void)state;
    assert_answer(create("suite-a", "suite-ka"), STORE_OK);
    assert_answer(create("suite-b", "suite-kb"), STORE_OK);
    assert_answer(create("suite-a", "suite-other"), STORE_ID_TAKEN);
    assert_non_null(strstr(error.text, "suite-a"));
    assert_answer(create("suite-c", "suite-ka"), STORE_KEY_TAKEN);
    assert_non_null(strstr(error.text, "suite-a"));
    assert_answer(update("suite-b", "suite-ka", 9), STORE_KEY_TAKEN);
    assert_non_null(strstr(error.text, "suite-a"));
    app = get("suite-b"); /* nothing of a refused write stays */
    assert_int_equal(app->max_connections, 1);
    app_unref(app);
    assert_key_leads_to("suite-ka", "suite-a");
    assert_key_leads_to("suite-kb", "suite-b");
    assert_answer(drop("suite-a"), STORE_OK);
    assert_answer(drop("suite-b"), STORE_OK);
}

static void a_missing_app_can_be_neither_updated_nor_removed(void **state) {
    (void)state;
    assert_answer(update("suite-none", "suite-kn", 1), STORE_NOT_FOUND);
    assert_non_null(strstr(error.text, "suite-none"));
    assert_key_leads_to("suite-kn", NULL);
    assert_answer(drop("suite-none"), STORE_NOT_FOUND);
    assert_non_null(strstr(error.text, "suite-none"));
}

static void ids_and_keys_are_compared_byte_by_byte(void **state) {
    struct app *app = NULL;

    (void)state;
    assert_answer(create("suite-Case", "suite-KeyCase"), STORE_OK);
    assert_key_leads_to("suite-KEYCASE", NULL);
    assert_key_leads_to("suite-keycase", NULL);
    assert_key_leads_to("suite-KeyCase ", NULL);
    assert_key_leads_to("suite-KeyCas", NULL);
    assert_answer(store_find_by_id(connection, SLICE("suite-case"), &app, &error), STORE_NOT_FOUND);
    assert_answer(store_find_by_id(connection, SLICE("suite-Case "), &app, &error), STORE_NOT_FOUND);
    assert_key_leads_to("suite-KeyCase", "suite-Case");
    assert_answer(drop("suite-Case"), STORE_OK);
}

static void a_store_that_answers_is_healthy(void **state) {
    (void)state;
    assert_answer(store_check_health(connection, &error), STORE_OK);
}

/* --- what is in a record --- */

static void assert_stored(json_t *json) {
    struct app *app = parse(json_incref(json)), *found;
    json_t *expected = app_to_json(app), *actual;
    char *expected_text, *actual_text;

    assert_answer(store_create(connection, app, &error), STORE_OK);
    found = get(app->id.data);
    actual = app_to_json(found);
    /* A store may have no way to say that a number which it must have was not given. */
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        if (!app_fields[i].optional && json_object_get(expected, app_fields[i].name) == NULL)
            json_object_del(actual, app_fields[i].name);
    expected_text = json_dumps(expected, JSON_SORT_KEYS);
    actual_text = json_dumps(actual, JSON_SORT_KEYS);
    assert_string_equal(actual_text, expected_text);
    assert_answer(store_remove(connection, app->id, &error), STORE_OK);
    free(expected_text);
    free(actual_text);
    json_decref(expected);
    json_decref(actual);
    json_decref(json);
    app_unref(app);
    app_unref(found);
}

static json_t *full_record(void) {
    json_t *record = json_loads(
        "{\"id\":\"suite-full\",\"key\":\"suite-kf\",\"secret\":\"!\\\"#$%&'()*+,-./:;<=>?@[\\\\]^_`{|}~\","
        "\"previous_secret\":\"~!old\",\"previous_secret_until\":4294967295,"
        "\"enabled\":false,\"enable_client_messages\":true,\"enable_user_authentication\":true,"
        "\"enable_watchlist_events\":false,"
        "\"allowed_origins\":[\"https://*.example.com\",\"m\\u00fcnchen.example\",\"\\ud83d\\ude80.example\"],"
        "\"webhooks\":[{\"url\":\"https://example.com/hook?a=1&b='\\\"\",\"event_types\":[\"channel_occupied\"],"
        "\"headers\":{\"X-A\":\"quote \\\" back \\\\ slash \\u00e9 \\ud83d\\ude80\"}}],"
        "\"channel_delta_compression\":{\"a-*\":\"fossil\",\"b\\ud83d\\ude80\":{\"enabled\":true,"
        "\"conflation_key\":\"a.b\"}}}",
        0, NULL);

    assert_non_null(record);
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        if (app_fields[i].type == APP_TYPE_NUMBER)
            json_object_set_new(record, app_fields[i].name, json_integer(1000 + i));
    return record;
}

static void all_fields_come_back_as_they_were_given(void **state) {
    (void)state;
    assert_stored(full_record());
}

/* The first app with a policy is the one for which a table gets a column for it; other connections notice that. */
static void a_policy_comes_back_and_can_be_unset_again(void **state) {
    static const char text[] =
        "{\"id\":\"suite-policy\",\"key\":\"suite-kp\",\"secret\":\"s\",\"enabled\":true,\"policy\":{\"limits\":{"
        "\"max_connections\":100000,\"max_client_events_per_second\":\"5\",\"decay_seconds\":2},\"features\":{"
        "\"enable_client_messages\":true},\"channels\":{\"allowed_origins\":[\"https://\\ud83d\\ude80.example\"],"
        "\"channel_namespaces\":[{\"name\":\"a\"}]},\"history\":{\"days\":1}}}";
    struct store_connection *first = connection, *other = connect_or_fail();
    struct app *app = NULL, *with_policy = parse(json_loads(text, 0, NULL));

    (void)state;
    begin(other, TIMEOUT_MS);
    assert_answer(store_find_by_id(other, SLICE("suite-policy"), &app, &error), STORE_NOT_FOUND);
    assert_stored(json_loads(text, 0, NULL));
    assert_answer(store_create(connection, with_policy, &error), STORE_OK);
    connection = other;
    app = get("suite-policy");
    assert_int_equal(app->max_connections, 100000);
    assert_true(app->enable_client_messages);
    assert_true(json_equal(app->policy_json, with_policy->policy_json));
    app_unref(app);
    app_unref(with_policy);
    assert_answer(update("suite-policy", "suite-kp", 3), STORE_OK);
    connection = first;
    app = get("suite-policy");
    assert_false(app_field_is_set(app, APP_POLICY));
    assert_int_equal(app->max_connections, 3);
    app_unref(app);
    assert_answer(drop("suite-policy"), STORE_OK);
    store_disconnect(other);
}

/* A second store on the same place, with a key: what it writes nobody else can read, and what others wrote it reads. */
static void secrets_are_encrypted_where_there_is_a_key(void **state) {
    static char key[] = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    struct store_connection *plain = connection, *sealing;
    struct app_store *first = store, *second;
    struct config with_key = config;
    struct app *app = NULL, *found;
    char secret[256], previous[256];

    (void)state;
    memset(secret, 's', 255);
    memset(previous, 'p', 255);
    secret[255] = previous[255] = '\0';
    with_key.app_manager.secrets.key = key;
    second = store_open(driver, &with_key, &defaults, &error);
    assert_non_null(second);
    store = second;
    sealing = connect_or_fail();
    begin(sealing, TIMEOUT_MS);
    assert_answer(store_prepare(sealing, &error), STORE_OK); /* makes room */

    app = parse(json_pack("{s:s, s:s, s:s, s:s, s:i, s:b, s:b, s:i, s:i}", "id", "suite-sealed", "key", "suite-ks",
                          "secret", secret, "previous_secret", previous, "previous_secret_until", 7, "enabled", 1,
                          "enable_client_messages", 1, "max_connections", 2, "max_client_events_per_second", 3));
    assert_answer(store_create(sealing, app, &error), STORE_OK);
    connection = sealing;
    found = get("suite-sealed");
    assert_true(app_equal(app, found));
    assert_int_equal(found->sealed, 1u << APP_SECRET | 1u << APP_PREVIOUS_SECRET);
    app_unref(found);
    assert_key_leads_to("suite-ks", "suite-sealed");
    assert_stored(full_record());

    begin(plain, TIMEOUT_MS);
    assert_answer(store_find_by_key(plain, SLICE("suite-ks"), &found, &error), STORE_INVALID);
    assert_non_null(strstr(error.text, "app \"suite-sealed\": secret is encrypted, and there is no key"));
    connection = plain; /* an update without a key makes them plain */
    assert_answer(store_update(plain, app, &error), STORE_OK);
    found = get("suite-sealed");
    assert_true(app_equal(app, found));
    app_unref(found);
    connection = sealing;
    found = get("suite-sealed"); /* as they are */
    assert_true(app_equal(app, found));
    assert_int_equal(found->sealed, 0);
    app_unref(found);
    assert_answer(drop("suite-sealed"), STORE_OK);
    app_unref(app);
    store_disconnect(sealing);
    store_close(second);
    connection = plain;
    store = first;
}

static void fields_that_are_not_set_stay_not_set(void **state) {
    (void)state;
    assert_stored(json_pack("{s:s, s:s, s:s}", "id", "suite-bare", "key", "suite-kb", "secret", "s"));
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        json_t *record;
        if (!app_fields[i].optional || app_fields[i].type == APP_TYPE_JSON)
            continue;
        record = json_pack("{s:s, s:s, s:s}", "id", "suite-one", "key", "suite-k1", "secret", "s");
        json_object_set_new(record, app_fields[i].name,
                            app_fields[i].type == APP_TYPE_FLAG ? json_false() : json_integer(0));
        assert_stored(record); /* 0 and false are values */
    }
}

static void numbers_up_to_the_largest_come_back(void **state) {
    static const json_int_t numbers[] = {0, 1, 2147483647, 2147483648, 4294967295};

    (void)state;
    for (size_t n = 0; n < sizeof numbers / sizeof numbers[0]; n++) {
        json_t *record = json_pack("{s:s, s:s, s:s}", "id", "suite-number", "key", "suite-kn", "secret", "s");
        for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
            if (app_fields[i].type == APP_TYPE_NUMBER)
                json_object_set_new(record, app_fields[i].name, json_integer(numbers[n]));
        assert_stored(record);
    }
}

static void names_may_be_255_characters_long(void **state) {
    char id[256], key[256], secret[256];

    (void)state;
    memset(id, 'i', 255);
    memset(key, 'k', 255);
    memset(secret, 's', 255);
    id[255] = key[255] = secret[255] = '\0';
    assert_stored(json_pack("{s:s, s:s, s:s}", "id", id, "key", key, "secret", secret));
}

static void an_update_clears_what_is_not_set_any_more(void **state) {
    struct app *app = parse(full_record()), *found;

    (void)state;
    assert_answer(store_create(connection, app, &error), STORE_OK);
    app_unref(app);
    assert_answer(update("suite-full", "suite-kf", 3), STORE_OK);
    found = get("suite-full");
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        if (app_fields[i].optional && app_field_is_set(found, (enum app_field)i))
            fail_msg("%s is still set", app_fields[i].name);
    assert_int_equal(found->max_connections, 3);
    app_unref(found);
    assert_answer(drop("suite-full"), STORE_OK);
}

static void nothing_in_a_value_is_taken_for_a_command(void **state) {
    static const char *const texts[] = {
        "' OR 1=1 --",
        "'; DROP TABLE applications; --",
        "\"; DROP TABLE applications; --",
        "`",
        "\\",
        "\\'",
        "%",
        "_",
        "$1",
        "?",
        ":id",
        "{{id}}",
        "*",
        "\x01",
        "\xff\xfe",
        "a b",
        "x' UNION ALL",
        "' OR ''='",
    };

    (void)state;
    assert_answer(create("suite-x", "suite-kx"), STORE_OK);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct app *app = NULL;
        enum store_answer answer = store_find_by_id(connection, slice_of(texts[i]), &app, &error);
        if (answer != STORE_NOT_FOUND)
            fail_msg("id %s: answer %d: %s", texts[i], answer, error.text);
        answer = store_find_by_key(connection, slice_of(texts[i]), &app, &error);
        if (answer != STORE_NOT_FOUND)
            fail_msg("key %s: answer %d: %s", texts[i], answer, error.text);
        assert_answer(store_remove(connection, slice_of(texts[i]), &error), STORE_NOT_FOUND);
    }
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        json_t *record = json_pack("{s:s, s:s, s:s}", "id", "suite-y", "key", "suite-ky", "secret", "s");
        struct app *app;
        if (strchr("\x01\xff", texts[i][0]) != NULL) {
            json_decref(record);
            continue;
        }
        json_object_set_new(record, "secret", json_string(texts[i]));
        json_object_set_new(record, "allowed_origins", json_pack("[s]", "https://x'\"`;--.example"));
        app = app_parse(record, &defaults, APP_FROM_CONFIGURATION, NULL, NULL, &error);
        if (app != NULL)
            assert_stored(json_incref(record));
        app_unref(app);
        json_decref(record);
    }
    assert_key_leads_to("suite-kx", "suite-x");
    assert_answer(drop("suite-x"), STORE_OK);
}

/* --- lists --- */

struct seen {
    unsigned char count[MANY_APPS];
    size_t calls;
    char last[256];
};

static void see(void *context, struct slice id, struct slice key, struct app *app, const struct error *why) {
    struct seen *seen = context;
    char text[256];
    unsigned number;

    (void)why;
    snprintf(text, sizeof text, "%.*s", SLICE_ARGS(id));
    snprintf(seen->last, sizeof seen->last, "%s", text);
    seen->calls++;
    if (sscanf(text, "suite-many-%u", &number) == 1 && number < MANY_APPS) {
        assert_non_null(app);
        assert_true(slice_equal(app->id, id) && slice_equal(app->key, key));
        seen->count[number]++;
    }
    app_unref(app);
}

static void walk(size_t page, struct seen *seen) {
    size_t before;

    *seen = (struct seen){0};
    do {
        char after[256];
        before = seen->calls;
        begin(connection, TIMEOUT_MS);
        snprintf(after, sizeof after, "%s", seen->last);
        assert_answer(store_list(connection, slice_of(after), page, see, seen, &error), STORE_OK);
        assert_true(seen->calls - before <= page);
    } while (seen->calls - before == page);
}

static void for_all_many(enum store_answer (*act)(unsigned number)) {
    for (unsigned i = 0; i < MANY_APPS; i++) {
        begin(connection, TIMEOUT_MS);
        assert_answer(act(i), STORE_OK);
    }
}

static enum store_answer create_many(unsigned number) {
    char id[64], key[64];

    snprintf(id, sizeof id, "suite-many-%u", number);
    snprintf(key, sizeof key, "suite-many-key-%u", number);
    return create(id, key);
}

static enum store_answer drop_many(unsigned number) {
    char id[64];

    snprintf(id, sizeof id, "suite-many-%u", number);
    return drop(id);
}

static void a_list_of_2500_apps_holds_each_once_whatever_the_pages(void **state) {
    static const size_t pages[] = {1000, 5000, 83};
    struct seen *seen = alloc(sizeof *seen);

    (void)state;
    for_all_many(create_many);
    for (size_t p = 0; p < sizeof pages / sizeof pages[0]; p++) {
        walk(pages[p], seen);
        for (unsigned i = 0; i < MANY_APPS; i++)
            if (seen->count[i] != 1)
                fail_msg("pages of %zu: app %u was listed %u times", pages[p], i, seen->count[i]);
    }
    /* Behind an app that has gone in the meantime, the list goes on. */
    *seen = (struct seen){0};
    assert_answer(store_list(connection, SLICE(""), 1000, see, seen, &error), STORE_OK);
    assert_int_equal(seen->calls, 1000);
    if (strncmp(seen->last, "suite-many-", 11) == 0) {
        char last[256], key[300];
        snprintf(last, sizeof last, "%s", seen->last);
        assert_answer(drop(last), STORE_OK);
        do {
            snprintf(key, sizeof key, "%s", seen->last);
            assert_answer(store_list(connection, slice_of(key), 1000, see, seen, &error), STORE_OK);
        } while (seen->calls % 1000 == 0 && seen->calls != 0);
        for (unsigned i = 0; i < MANY_APPS; i++)
            if (seen->count[i] != 1)
                fail_msg("app %u was listed %u times", i, seen->count[i]);
        snprintf(key, sizeof key, "suite-many-key-%s", last + 11);
        assert_answer(create(last, key), STORE_OK);
    }
    for_all_many(drop_many);
    free(seen);
}

/* A store that cut or dropped such an id would list from the first app again, and a client would never see the end. */
static void a_list_after_what_no_id_can_be_is_refused(void **state) {
    static const struct slice ids[] = {SLICE_INIT("\xff"), SLICE_INIT("suite-\xc3"), SLICE_INIT("a\0b"),
                                       SLICE_INIT("\0")};
    struct seen *seen = alloc_zero(sizeof *seen);

    (void)state;
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        error.text[0] = '\0';
        assert_answer(store_list(connection, ids[i], 1000, see, seen, &error), STORE_REFUSED);
        assert_true(error.text[0] != '\0');
        assert_int_equal(seen->calls, 0);
    }
    free(seen);
}

/* --- preparing --- */

static void *prepare_once(void *answer) {
    struct store_connection *own;
    const struct deadline long_enough = deadline_after(TIMEOUT_MS * 3, -1);
    struct error own_error;

    own = store_connect(store, &long_enough, &own_error);
    if (own == NULL) {
        fprintf(stderr, "%s\n", own_error.text);
        return NULL;
    }
    *(enum store_answer *)answer = store_prepare(own, &own_error);
    if (*(enum store_answer *)answer != STORE_OK)
        fprintf(stderr, "%s\n", own_error.text);
    store_disconnect(own);
    return NULL;
}

static void a_store_is_prepared_by_several_at_once_and_again(void **state) {
    enum store_answer answers[4] = {STORE_UNAVAILABLE, STORE_UNAVAILABLE, STORE_UNAVAILABLE, STORE_UNAVAILABLE};
    pthread_t threads[4];

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, prepare_once, &answers[i]), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(answers[i], STORE_OK);
    connection = connect_or_fail();
    begin(connection, TIMEOUT_MS * 3);
    assert_answer(store_prepare(connection, &error), STORE_OK);
}

/* --- threads --- */

struct racer {
    unsigned number;
    unsigned won; /* creates of the contended apps that succeeded */
    char failure[256];
};

static void race_round(struct racer *racer, struct store_connection *own, unsigned round) {
    char id[64], key[64], shared[64];
    struct app *mine, *contended, *found = NULL;
    struct error why = {0};

    begin(own, TIMEOUT_MS);
    snprintf(id, sizeof id, "suite-race-%u-%u", racer->number, round);
    snprintf(key, sizeof key, "suite-race-key-%u-%u", racer->number, round);
    snprintf(shared, sizeof shared, "suite-race-shared-%u", round);
    mine = make(id, key, 1);
    contended = make(shared, shared, racer->number + 1);
    racer->won += store_create(own, contended, &why) == STORE_OK;
    if (store_create(own, mine, &why) != STORE_OK || store_find_by_key(own, slice_of(key), &found, &why) != STORE_OK ||
        store_update(own, mine, &why) != STORE_OK || store_remove(own, mine->id, &why) != STORE_OK)
        snprintf(racer->failure, sizeof racer->failure, "round %u: %.200s", round, why.text);
    app_unref(found);
    app_unref(mine);
    app_unref(contended);
}

static void *race(void *context) {
    struct racer *racer = context;
    const struct deadline enough = deadline_after(TIMEOUT_MS, -1);
    struct error why;
    struct store_connection *own = store_connect(store, &enough, &why);

    if (own == NULL) {
        snprintf(racer->failure, sizeof racer->failure, "%.200s", why.text);
        return NULL;
    }
    for (unsigned round = 0; round < ROUNDS && racer->failure[0] == '\0'; round++)
        race_round(racer, own, round);
    store_disconnect(own);
    return NULL;
}

static void of_eight_who_create_one_app_at_once_one_wins(void **state) {
    struct racer racers[THREADS] = {0};
    pthread_t threads[THREADS];
    unsigned won = 0;

    (void)state;
    for (unsigned i = 0; i < THREADS; i++) {
        racers[i].number = i;
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        if (racers[i].failure[0] != '\0')
            fail_msg("%s", racers[i].failure);
        won += racers[i].won;
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        char shared[64];
        snprintf(shared, sizeof shared, "suite-race-shared-%u", round);
        assert_answer(drop(shared), STORE_OK);
    }
    assert_int_equal(won, ROUNDS);
}

/* --- deadline --- */

static void an_operation_whose_time_is_up_ends_at_once(void **state) {
    const struct deadline none = {.ends_ns = clock_monotonic_ns(), .cancel_fd = -1};
    struct store_connection *own = connect_or_fail();
    struct app *app = NULL;
    uint64_t start_ms = clock_monotonic_ms();

    (void)state;
    store_begin(own, &none);
    assert_answer(store_find_by_id(own, SLICE("suite-a"), &app, &error), STORE_UNAVAILABLE);
    assert_true(error.text[0] != '\0');
    store_disconnect(own);
    assert_true(clock_monotonic_ms() - start_ms < TIMEOUT_MS);
}

static void an_operation_ends_when_its_owner_wants_it(void **state) {
    int cancel_fd = eventfd(1, EFD_CLOEXEC);
    const struct deadline stopped = deadline_after(TIMEOUT_MS * 10, cancel_fd);
    struct store_connection *own = connect_or_fail();
    struct app *app = NULL;

    (void)state;
    store_begin(own, &stopped);
    /* The answer may be there already; if not, nobody waits for it. */
    if (store_find_by_id(own, SLICE("suite-a"), &app, &error) != STORE_NOT_FOUND)
        assert_true(error.text[0] != '\0');
    store_disconnect(own);
    close(cancel_fd);
}

int main(int count, char **arguments) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_store_is_prepared_by_several_at_once_and_again, new_deadline),
        cmocka_unit_test_setup(an_app_is_found_by_id_and_by_key_until_it_is_removed, new_deadline),
        cmocka_unit_test_setup(a_changed_key_leads_to_the_app_and_the_old_one_nowhere, new_deadline),
        cmocka_unit_test_setup(ids_and_keys_are_unique, new_deadline),
        cmocka_unit_test_setup(a_missing_app_can_be_neither_updated_nor_removed, new_deadline),
        cmocka_unit_test_setup(ids_and_keys_are_compared_byte_by_byte, new_deadline),
        cmocka_unit_test_setup(a_store_that_answers_is_healthy, new_deadline),
        cmocka_unit_test_setup(all_fields_come_back_as_they_were_given, new_deadline),
        cmocka_unit_test_setup(a_policy_comes_back_and_can_be_unset_again, new_deadline),
        cmocka_unit_test_setup(secrets_are_encrypted_where_there_is_a_key, new_deadline),
        cmocka_unit_test_setup(fields_that_are_not_set_stay_not_set, new_deadline),
        cmocka_unit_test_setup(numbers_up_to_the_largest_come_back, new_deadline),
        cmocka_unit_test_setup(names_may_be_255_characters_long, new_deadline),
        cmocka_unit_test_setup(an_update_clears_what_is_not_set_any_more, new_deadline),
        cmocka_unit_test_setup(nothing_in_a_value_is_taken_for_a_command, new_deadline),
        cmocka_unit_test_setup(a_list_of_2500_apps_holds_each_once_whatever_the_pages, new_deadline),
        cmocka_unit_test_setup(a_list_after_what_no_id_can_be_is_refused, new_deadline),
        cmocka_unit_test_setup(of_eight_who_create_one_app_at_once_one_wins, new_deadline),
        cmocka_unit_test_setup(an_operation_whose_time_is_up_ends_at_once, new_deadline),
        cmocka_unit_test_setup(an_operation_ends_when_its_owner_wants_it, new_deadline),
    };
    const struct log_settings quiet = {.level = LOG_WARNING};
    struct config_report report = {0};
    int failed;

    if (count != 2 || !config_load(&config, arguments[1], &report, &error)) {
        fprintf(stderr, "usage: %s CONFIG\n%s\n", arguments[0], count == 2 ? error.text : "");
        return 2;
    }
    config_report_dispose(&report);
    log_configure(&quiet);
    hash_seed();
    app_defaults_from_config(&defaults, &config);
    driver = app_store_driver_of(config.app_manager.driver);
    store = store_open(driver, &config, &defaults, &error);
    if (store == NULL) {
        fprintf(stderr, "%s\n", error.text);
        return 2;
    }
    failed = cmocka_run_group_tests_name(driver->name, tests, NULL, NULL);
    if (connection != NULL)
        store_disconnect(connection);
    store_close(store);
    config_dispose(&config);
    return failed;
}
