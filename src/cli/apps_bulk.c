/*
 * The commands that write many apps: import and copy. Both compare each app with the store before they write it, so a
 * command that was interrupted at any point is completed by running it again.
 *
 *   missing -> create      equal -> skip    different -> conflict, or update with --update
 *   then read back and compare
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app_policy.h"
#include "cli/apps_commands.h"
#include "cli/apps_file.h"
#include "cli/compare.h"
#include "cli/interrupt.h"
#include "cli/notify_server.h"
#include "cli/print.h"
#include "cli/progress.h"
#include "cli/snapshot.h"

struct bulk {
    const struct cli_options *options;
    struct cli_store *to;
    struct notifier *notifier;
    struct snapshot *snapshot; /* of `to` in a dry run, else NULL */
    struct progress progress;
    size_t created, updated, equal, conflicts, failed;
    bool stopped; /* before the last app */
};

static size_t count_app(const struct bulk *bulk) {
    return bulk->created + bulk->updated + bulk->equal + bulk->conflicts + bulk->failed;
}

static void report_app(struct bulk *bulk, const struct error *error) {
    progress_clear(&bulk->progress);
    print_failure(bulk->options->json, error->text);
}

static void fail_transfer(struct bulk *bulk, const struct app *app, struct error *error) {
    error_prefix(error, "app \"%s\"", app->id.data);
    report_app(bulk, error);
    bulk->failed++;
}

/* The store is unavailable: the following apps would fail, too. */
static void stop_transfer(struct bulk *bulk, const struct app *app, struct error *error) {
    fail_transfer(bulk, app, error);
    bulk->stopped = true;
}

static void warn_of_unkept(struct bulk *bulk, const struct app *app, const struct app *there) {
    struct buffer fields = {0};
    struct error text;

    if (compare_unknown(app, there, &fields)) {
        error_set(&text, "warning: app \"%s\": the store that is written has no place for %.*s", app->id.data,
                  SLICE_ARGS(buffer_slice(&fields)));
        report_app(bulk, &text);
    }
    buffer_dispose(&fields);
}

/* Reads the app back; true if it is in the store as it was written. */
static bool verify_app(struct bulk *bulk, const struct app *app) {
    struct buffer fields = {0};
    struct error error = {0};
    struct app *there = NULL;
    enum store_answer answer = cli_store_find_by_id(bulk->to, app->id, &there, &error);
    bool good = answer == STORE_OK && !compare_apps(app, there, &fields);

    if (good)
        warn_of_unkept(bulk, app, there);
    else if (answer == STORE_OK)
        error_set(&error, "reading it back gave something else in %.*s", SLICE_ARGS(buffer_slice(&fields)));
    else if (answer == STORE_NOT_FOUND)
        error_set(&error, "it was written, and is not there when it is read back");
    else
        error_prefix(&error, "reading it back");
    if (answer == STORE_UNAVAILABLE)
        stop_transfer(bulk, app, &error);
    else if (!good)
        fail_transfer(bulk, app, &error);
    buffer_dispose(&fields);
    app_unref(there);
    return good;
}

static void count_write(struct bulk *bulk, const struct app *app, enum store_answer answer, struct error *error,
                        size_t *counter) {
    if (answer == STORE_UNAVAILABLE) {
        stop_transfer(bulk, app, error);
    } else if (answer != STORE_OK) {
        fail_transfer(bulk, app, error);
    } else {
        if (verify_app(bulk, app))
            ++*counter;
        notifier_notify(bulk->notifier, app->id);
    }
}

/* For a dry run with a missing app: checks whether its key is free. */
static void preview_create(struct bulk *bulk, const struct app *app) {
    struct error error = {0};
    struct app *owner = NULL;
    enum store_answer answer = snapshot_find_by_key(bulk->snapshot, app->key, &owner, &error);

    if (answer == STORE_NOT_FOUND) {
        bulk->created++;
    } else if (answer == STORE_UNAVAILABLE) {
        stop_transfer(bulk, app, &error);
    } else {
        if (answer == STORE_OK)
            error_set(&error, "the key is already that of app %s", owner->id.data);
        fail_transfer(bulk, app, &error);
    }
    app_unref(owner);
}

static void put_new(struct bulk *bulk, const struct app *app) {
    struct error error = {0};

    if (bulk->options->dry_run)
        preview_create(bulk, app);
    else
        count_write(bulk, app, cli_store_create(bulk->to, app, &error), &error, &bulk->created);
}

/* Updates the store. If the app there (NULL: broken) has a policy, and this one has none, the policy is kept in step.
 */
static enum store_answer update_over(struct bulk *bulk, const struct app *app, const struct app *there,
                                     struct error *error) {
    struct app *with_policy = NULL;
    enum store_answer answer;

    if (there != NULL && app_field_is_set(there, APP_POLICY) && !app_field_is_set(app, APP_POLICY))
        with_policy = app_with_policy(app, there->policy_json, &bulk->to->defaults);
    answer = cli_store_update(bulk->to, with_policy != NULL ? with_policy : app, error);
    app_unref(with_policy);
    return answer;
}

/* `why` describes the app in the store, `there` (NULL: broken). */
static void put_over(struct bulk *bulk, const struct app *app, const struct app *there, struct error *why) {
    if (!bulk->options->update) {
        error_prefix(why, "app \"%s\"", app->id.data);
        report_app(bulk, why);
        bulk->conflicts++;
    } else if (bulk->options->dry_run) {
        bulk->updated++;
    } else {
        count_write(bulk, app, update_over(bulk, app, there, why), why, &bulk->updated);
    }
}

static void put_over_known(struct bulk *bulk, const struct app *app, const struct app *there) {
    struct buffer fields = {0};
    struct error why;

    if (compare_apps(app, there, &fields)) {
        error_set(&why, "the store that is written has another one, which differs in %.*s; --update overwrites it",
                  SLICE_ARGS(buffer_slice(&fields)));
        put_over(bulk, app, there, &why);
    } else {
        warn_of_unkept(bulk, app, there);
        bulk->equal++;
    }
    buffer_dispose(&fields);
}

/* The app with the same id in the store that is written. */
static enum store_answer find_counterpart(const struct bulk *bulk, struct slice id, struct app **there,
                                          struct error *error) {
    if (bulk->snapshot != NULL)
        return snapshot_find_by_id(bulk->snapshot, id, there, error);
    return cli_store_find_by_id(bulk->to, id, there, error);
}

/* Transfers one app to the store; false to end the command. */
static bool transfer_app(struct bulk *bulk, const struct app *app) {
    struct error error = {0};
    struct app *there = NULL;

    if (interrupt_seen()) {
        bulk->stopped = true;
        return false;
    }
    switch (find_counterpart(bulk, app->id, &there, &error)) {
    case STORE_OK:
        put_over_known(bulk, app, there);
        break;
    case STORE_NOT_FOUND:
        put_new(bulk, app);
        break;
    case STORE_INVALID:
        error_prefix(&error, "the store that is written has a broken one, which --update overwrites");
        put_over(bulk, app, NULL, &error);
        break;
    default:
        stop_transfer(bulk, app, &error);
        break;
    }
    app_unref(there);
    return !bulk->stopped;
}

static void print_summary(struct bulk *bulk) {
    const struct cli_options *options = bulk->options;

    progress_clear(&bulk->progress);
    if (options->json)
        print_json(stdout, json_pack("{s:I,s:I,s:I,s:I,s:I,s:b,s:b}", "created", (json_int_t)bulk->created, "updated",
                                     (json_int_t)bulk->updated, "equal", (json_int_t)bulk->equal, "conflicts",
                                     (json_int_t)bulk->conflicts, "failed", (json_int_t)bulk->failed, "dry_run",
                                     options->dry_run, "finished", !bulk->stopped));
    else
        printf("%s%zu created, %zu updated, %zu equal, %zu in conflict, %zu failed\n",
               options->dry_run ? "dry run, nothing was written: " : "", bulk->created, bulk->updated, bulk->equal,
               bulk->conflicts, bulk->failed);
    if (bulk->stopped)
        print_failure(options->json, "stopped before the end; running it again goes on from there");
}

static enum cli_exit finish_transfer(struct bulk *bulk) {
    print_summary(bulk);
    snapshot_free(bulk->snapshot);
    notifier_destroy(bulk->notifier);
    return bulk->stopped || bulk->conflicts != 0 || bulk->failed != 0 ? CLI_NOT_DONE : CLI_DONE;
}

/* Prepares a transfer; one that is stopped already has nothing to do but to print its summary. */
static struct bulk begin_transfer(const struct cli_options *options, struct cli_store *to) {
    struct bulk bulk = {.options = options, .to = to, .progress = progress_begin(options->json)};
    struct error error;

    interrupt_catch();
    if (!options->dry_run) {
        bulk.notifier = notifier_create(&to->config);
        return bulk;
    }
    bulk.snapshot = snapshot_read(to, &error);
    if (bulk.snapshot == NULL) {
        report_app(&bulk, &error);
        bulk.stopped = true;
    }
    return bulk;
}

static enum cli_use target_use(const struct cli_options *options) {
    return options->dry_run ? CLI_DRY_RUN : CLI_WRITES;
}

static void warn_of_app(void *context, const char *text) {
    struct bulk *bulk = context;

    progress_clear(&bulk->progress);
    print_warning(bulk->options->json, text);
}

static void import_list(struct bulk *bulk, const json_t *list) {
    const json_t *record;
    size_t i;

    bulk->progress.total = json_array_size(list);
    json_array_foreach(list, i, record) {
        struct error error = {0};
        struct app *app = app_parse(record, &bulk->to->defaults, APP_FROM_COMMAND, warn_of_app, bulk, &error);
        bool more = true;

        if (app == NULL) {
            error_prefix(&error, "apps[%zu]", i);
            report_app(bulk, &error);
            bulk->failed++;
        } else {
            more = transfer_app(bulk, app);
        }
        app_unref(app);
        progress_show(&bulk->progress, count_app(bulk));
        if (!more)
            break;
    }
}

enum cli_exit apps_import(const struct cli_options *options) {
    struct cli_store to;
    struct bulk bulk;
    struct error error = {0};
    json_t *list = apps_file_read(options->arguments[0], &error);
    enum cli_exit code =
        list != NULL ? cli_store_open(&to, options->config_file, target_use(options), &error) : CLI_NOT_DONE;

    if (code != CLI_DONE) {
        print_failure(options->json, error.text);
        json_decref(list);
        return code;
    }
    bulk = begin_transfer(options, &to);
    if (!bulk.stopped)
        import_list(&bulk, list);
    code = finish_transfer(&bulk);
    cli_store_close(&to);
    json_decref(list);
    return code;
}

static bool copy_one(void *context, struct slice id, struct app *app, const struct error *broken) {
    struct bulk *bulk = context;
    struct error error;

    bool more = true;

    if (app != NULL) {
        more = transfer_app(bulk, app);
    } else {
        error = *broken;
        error_prefix(&error, "the store that is read has a broken record, \"%.*s\"", SLICE_ARGS(id));
        report_app(bulk, &error);
        bulk->failed++;
    }
    progress_show(&bulk->progress, count_app(bulk));
    return more;
}

static enum cli_exit copy_apps(const struct cli_options *options, struct cli_store *from, struct cli_store *to) {
    struct bulk bulk = begin_transfer(options, to);
    struct error error = {0};

    if (!bulk.stopped)
        progress_count(&bulk.progress, from);
    if (!bulk.stopped && !cli_store_walk(from, copy_one, &bulk, &error)) {
        error_prefix(&error, "--from %s", options->from);
        report_app(&bulk, &error);
        bulk.stopped = true;
    }
    return finish_transfer(&bulk);
}

enum cli_exit apps_copy(const struct cli_options *options) {
    struct cli_store from, to;
    struct error error = {0};
    enum cli_exit code = CLI_MISUSED;

    if (options->from == NULL || options->to == NULL) {
        print_failure(options->json, "--from FILE and --to FILE must name two configurations");
        return CLI_MISUSED;
    }
    code = cli_store_open(&from, options->from, CLI_READS, &error);
    if (code != CLI_DONE) {
        error_prefix(&error, "--from %s", options->from);
        print_failure(options->json, error.text);
        return code;
    }
    code = cli_store_open(&to, options->to, target_use(options), &error);
    if (code == CLI_DONE) {
        code = copy_apps(options, &from, &to);
        cli_store_close(&to);
    } else {
        error_prefix(&error, "--to %s", options->to);
        print_failure(options->json, error.text);
    }
    cli_store_close(&from);
    return code;
}
