/*
 * The commands that change one app: create, update, delete, enable, disable, rotate-secret.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app_secret.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "cli/apps_commands.h"
#include "cli/notify_server.h"
#include "cli/print.h"
#include "cli/secret_input.h"

/* Decimal digits of an id: some SDKs of the protocol take nothing else. */
#define ID_DIGITS 10
/* Bytes from the random generator; each is two hexadecimal digits. */
#define KEY_BYTES 16
#define SECRET_BYTES 32

#define OVERLAP_MAX_S (366 * 86400u)

/* A write of one app, from its start to its end. */
struct writing {
    const struct cli_options *options;
    struct cli_store store;
    struct notifier *notifier;
    bool unavailable; /* the store: further apps would fail, too */
    struct error error;
};

static enum cli_exit begin_write(struct writing *writing, const struct cli_options *options) {
    enum cli_exit code;

    *writing = (struct writing){.options = options};
    code = cli_store_open(&writing->store, options->config_file, CLI_WRITES, &writing->error);
    if (code == CLI_DONE)
        writing->notifier = notifier_create(&writing->store.config);
    else
        print_failure(options->json, writing->error.text);
    return code;
}

/* Prints the error, if there is one. */
static enum cli_exit end_write(struct writing *writing, bool good) {
    if (!good)
        print_failure(writing->options->json, writing->error.text);
    notifier_destroy(writing->notifier);
    cli_store_close(&writing->store);
    return good ? CLI_DONE : CLI_NOT_DONE;
}

static void random_hex(char *text, size_t bytes) {
    unsigned char random[SECRET_BYTES];

    random_bytes(random, bytes);
    for (size_t i = 0; i < bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", random[i]);
    explicit_bzero(random, sizeof random);
}

static void make_id_if_missing(json_t *record) {
    uint64_t drawn;
    char text[ID_DIGITS + 1];

    if (json_object_get(record, app_fields[APP_ID].name) != NULL)
        return;
    random_bytes(&drawn, sizeof drawn);
    /* The first digit is not 0, so that programs that read it as a number do not lose it. */
    snprintf(text, sizeof text, "%010" PRIu64, 1000000000 + drawn % 9000000000);
    json_object_set_new(record, app_fields[APP_ID].name, json_string(text));
}

static void make_if_missing(json_t *record, enum app_field field, size_t bytes) {
    char text[2 * SECRET_BYTES + 1];

    if (json_object_get(record, app_fields[field].name) != NULL)
        return;
    random_hex(text, bytes);
    json_object_set_new(record, app_fields[field].name, json_string(text));
    explicit_bzero(text, sizeof text);
}

static bool read_secret(struct changes *changes, struct error *error) {
    char *secret = secret_input_read(error);
    bool good;

    if (secret == NULL)
        return false;
    good = changes_set_field(changes, "secret", secret, error);
    explicit_bzero(secret, strlen(secret));
    free(secret);
    return good;
}

/* The record that the options describe, without generated fields. */
static bool describe_change(const struct cli_options *options, json_t *record, struct error *error) {
    struct changes named = {0};
    bool good = (options->id == NULL || changes_set_field(&named, "id", options->id, error)) &&
                (options->key == NULL || changes_set_field(&named, "key", options->key, error));

    if (good && options->secret != NULL)
        good = strcmp(options->secret, "-") == 0 ? read_secret(&named, error)
                                                 : changes_set_field(&named, "secret", options->secret, error);
    good = good && changes_apply(&named, record, error) && changes_apply(&options->changes, record, error);
    changes_dispose(&named);
    return good;
}

static void warn_of_field(void *context, const char *text) {
    const struct writing *writing = context;

    print_warning(writing->options->json, text);
}

static struct app *parse_app(struct writing *writing, const json_t *record) {
    return app_parse(record, &writing->store.defaults, APP_FROM_COMMAND, warn_of_field, writing, &writing->error);
}

static bool create_from_options(struct writing *writing, const struct app *app) {
    if (cli_store_create(&writing->store, app, &writing->error) != STORE_OK)
        return error_prefix(&writing->error, "app \"%s\" was not created", app->id.data);
    notifier_notify(writing->notifier, app->id);
    return true;
}

static void print_created(const struct cli_options *options, const struct app *app, bool made_key, bool made_secret) {
    bool shown = made_secret || options->show_secrets;

    if (options->json) {
        print_json(stdout, print_record(app, shown));
        return;
    }
    printf("created app %s\n", app->id.data);
    if (made_key || shown)
        printf("key     %s\n", app->key.data);
    if (shown)
        printf("secret  %s\n", app->secret.data);
}

enum cli_exit apps_create(const struct cli_options *options) {
    json_t *record = json_object();
    bool made_key, made_secret, good;
    struct app *app = NULL;
    struct writing writing;
    enum cli_exit code = begin_write(&writing, options);

    if (code != CLI_DONE) {
        json_decref(record);
        return code;
    }
    good = describe_change(options, record, &writing.error);
    made_key = json_object_get(record, "key") == NULL;
    made_secret = json_object_get(record, "secret") == NULL;
    if (good) {
        make_id_if_missing(record);
        make_if_missing(record, APP_KEY, KEY_BYTES);
        make_if_missing(record, APP_SECRET, SECRET_BYTES);
        app = parse_app(&writing, record);
    }
    good = app != NULL && create_from_options(&writing, app);
    if (good)
        print_created(options, app, made_key, made_secret);
    app_unref(app);
    json_decref(record);
    return end_write(&writing, good);
}

/* The app in the store as a JSON object to change. */
static json_t *read_record(struct writing *writing, struct slice id) {
    struct app *app = NULL;
    json_t *record = NULL;

    switch (cli_store_find_by_id(&writing->store, id, &app, &writing->error)) {
    case STORE_OK:
        record = app_to_json(app);
        break;
    case STORE_NOT_FOUND:
        error_set(&writing->error, "there is no app with the id %.*s", SLICE_ARGS(id));
        break;
    case STORE_INVALID:
        error_prefix(&writing->error, "the record in the store is broken (`curlew apps import --update` replaces it)");
        break;
    default:
        writing->unavailable = true;
        break;
    }
    app_unref(app);
    return record;
}

/* Writes the changed record of an app into the store, and takes over the reference to it (may be NULL: an error is set
 * already). Returns the app; NULL with an error. */
static struct app *write_record(struct writing *writing, struct slice id, json_t *record) {
    struct app *app = record != NULL ? parse_app(writing, record) : NULL;
    enum store_answer answer;

    json_decref(record);
    if (app == NULL)
        return NULL;
    if (!slice_equal(app->id, id)) {
        error_set(&writing->error, "id cannot be changed: create another app and delete this one");
        app_unref(app);
        return NULL;
    }
    answer = cli_store_update(&writing->store, app, &writing->error);
    if (answer != STORE_OK) {
        writing->unavailable = answer == STORE_UNAVAILABLE;
        error_prefix(&writing->error, "app \"%s\" was not changed", app->id.data);
        app_unref(app);
        return NULL;
    }
    notifier_notify(writing->notifier, app->id);
    return app;
}

/* Changes an app. Returns its new record; NULL after an error. */
static struct app *change_app(struct writing *writing, struct slice id, const struct changes *changes) {
    json_t *record = read_record(writing, id);

    if (record != NULL && !changes_apply(changes, record, &writing->error)) {
        json_decref(record);
        record = NULL;
    }
    return write_record(writing, id, record);
}

/* Changes one of the apps that the options name, and prints the result. False with the writing's error. */
typedef bool change_function(struct writing *writing, const char *id, const void *context);

/* Calls `change` for each app that the options name. Those that fail are reported, and the others are still changed. */
static enum cli_exit change_each(const struct cli_options *options, change_function *change, const void *context) {
    struct writing writing;
    enum cli_exit code = begin_write(&writing, options);

    if (code != CLI_DONE)
        return code;
    for (size_t i = 0; i < options->argument_count && !writing.unavailable; i++) {
        if (change(&writing, options->arguments[i], context))
            continue;
        print_failure(options->json, writing.error.text);
        code = CLI_NOT_DONE;
    }
    end_write(&writing, true);
    return code;
}

struct named_changes {
    const struct changes *changes;
    const char *done; /* the word for people */
};

/* Prints a sentence, or the app in JSON. */
static bool change_and_say(struct writing *writing, const char *id, const void *context) {
    const struct named_changes *named = context;
    struct app *app = change_app(writing, slice_of(id), named->changes);

    if (app == NULL)
        return false;
    if (writing->options->json)
        print_json(stdout, print_record(app, writing->options->show_secrets));
    else
        printf("%s app %s\n", named->done, app->id.data);
    app_unref(app);
    return true;
}

enum cli_exit apps_update(const struct cli_options *options) {
    if (options->changes.list == NULL) {
        print_failure(options->json, "nothing to change: give --set FIELD=VALUE or --unset FIELD");
        return CLI_MISUSED;
    }
    return change_each(options, change_and_say, &(struct named_changes){&options->changes, "updated"});
}

static enum cli_exit set_enabled(const struct cli_options *options, const char *value, const char *done) {
    struct changes changes = {0};
    enum cli_exit code;

    changes_set_field(&changes, "enabled", value, NULL);
    code = change_each(options, change_and_say, &(struct named_changes){&changes, done});
    changes_dispose(&changes);
    return code;
}

enum cli_exit apps_enable(const struct cli_options *options) {
    return set_enabled(options, "true", "enabled");
}

enum cli_exit apps_disable(const struct cli_options *options) {
    return set_enabled(options, "false", "disabled");
}

/* --- rotate-secret --- */

/* Reads a duration, such as 90m, into seconds. */
static bool parse_overlap(const char *text, uint64_t *seconds, struct error *error) {
    static const struct {
        char letter;
        unsigned seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    struct slice digits = slice_of(text);
    unsigned long long count;
    unsigned unit = 0;

    for (size_t i = 0; i < sizeof units / sizeof units[0] && digits.length > 1; i++)
        if (text[strlen(text) - 1] == units[i].letter)
            unit = units[i].seconds;
    digits.length -= unit != 0;
    if (!slice_to_number(digits, OVERLAP_MAX_S, &count) || (unit == 0 && count != 0) || count * unit > OVERLAP_MAX_S)
        return error_set(error, "--overlap must be a duration of up to a year, such as 90m, 24h or 7d, not %s", text);
    *seconds = count * unit;
    return true;
}

/* Gives the record a new secret. The old one becomes the previous secret, if it is to be valid for some time. */
static void rotate_record(json_t *record, uint64_t overlap_s) {
    json_t *old = json_incref(json_object_get(record, app_fields[APP_SECRET].name));
    char secret[2 * SECRET_BYTES + 1];

    app_record_forget_previous(record);
    random_hex(secret, SECRET_BYTES);
    json_object_set_new(record, app_fields[APP_SECRET].name, json_string(secret));
    explicit_bzero(secret, sizeof secret);
    if (overlap_s != 0) {
        uint64_t until_s = clock_wall_ms() / 1000 + overlap_s;
        json_object_set(record, app_fields[APP_PREVIOUS_SECRET].name, old);
        json_object_set_new(record, app_fields[APP_PREVIOUS_SECRET_UNTIL].name, json_integer((json_int_t)until_s));
    }
    json_decref(old);
}

static void print_rotated(const struct app *app) {
    char time[PRINT_TIME_BYTES];

    printf("the new secret of app %s:\n%s\n", app->id.data, app->secret.data);
    if (app->previous_secret.length != 0)
        printf("the old one is valid until %s\n", print_time(app->previous_secret_until, time));
}

/* Only two secrets are valid at a time: warns of one that a rotation ends before its time. */
static void warn_of_third(const struct writing *writing, const json_t *record) {
    json_int_t until = json_integer_value(json_object_get(record, app_fields[APP_PREVIOUS_SECRET_UNTIL].name));
    char time[PRINT_TIME_BYTES];
    struct error text;

    if (json_object_get(record, app_fields[APP_PREVIOUS_SECRET].name) == NULL ||
        until <= (json_int_t)(clock_wall_ms() / 1000))
        return;
    error_set(&text, "the secret of the rotation before, valid until %s, ends now: only two are valid at a time",
              print_time((uint64_t)until, time));
    print_warning(writing->options->json, text.text);
}

/* Ends the validity of the previous secret, or begins that of a new secret. */
static struct app *rotate_app(struct writing *writing, struct slice id, uint64_t overlap_s) {
    json_t *record = read_record(writing, id);

    if (record != NULL && !writing->options->revoke_previous)
        warn_of_third(writing, record);
    if (record != NULL && writing->options->revoke_previous)
        app_record_forget_previous(record);
    else if (record != NULL)
        rotate_record(record, overlap_s);
    return write_record(writing, id, record);
}

enum cli_exit apps_rotate_secret(const struct cli_options *options) {
    bool revokes = options->revoke_previous;
    uint64_t overlap_s = 0;
    struct writing writing;
    struct error error;
    struct app *app;
    enum cli_exit code;

    if (options->overlap != NULL && revokes)
        error_set(&error, "--revoke-previous ends an overlap: it cannot be combined with --overlap");
    else if (options->overlap == NULL || parse_overlap(options->overlap, &overlap_s, &error))
        error.text[0] = '\0';
    if (error.text[0] != '\0') {
        print_failure(options->json, error.text);
        return CLI_MISUSED;
    }
    code = begin_write(&writing, options);
    if (code != CLI_DONE)
        return code;
    app = rotate_app(&writing, slice_of(options->arguments[0]), overlap_s);
    if (app != NULL && options->json)
        print_json(stdout, print_record(app, !revokes));
    else if (app != NULL && revokes)
        printf("app %s has no previous secret any more\n", app->id.data);
    else if (app != NULL)
        print_rotated(app);
    code = end_write(&writing, app != NULL);
    app_unref(app);
    return code;
}

static bool delete_and_say(struct writing *writing, const char *id, const void *context) {
    enum store_answer answer = STORE_NOT_FOUND;

    (void)context;
    if (app_name_valid(slice_of(id)))
        answer = cli_store_remove(&writing->store, slice_of(id), &writing->error);
    writing->unavailable = answer == STORE_UNAVAILABLE;
    if (answer == STORE_NOT_FOUND)
        error_set(&writing->error, "there is no app with the id %s", id);
    if (answer != STORE_OK)
        return false;
    notifier_notify(writing->notifier, slice_of(id));
    if (writing->options->json)
        print_json(stdout, json_pack("{s:s}", "deleted", id));
    else
        printf("deleted app %s\n", id);
    return true;
}

enum cli_exit apps_delete(const struct cli_options *options) {
    return change_each(options, delete_and_say, NULL);
}
