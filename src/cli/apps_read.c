/*
 * The commands that only read: list, show, export.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/app_secret.h"
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "cli/apps_commands.h"
#include "cli/list_view.h"
#include "cli/notify_server.h"
#include "cli/print.h"
#include "cli/progress.h"

struct collection {
    struct app **apps;
    size_t count, broken, plain;
    bool json;                 /* the form of errors */
    struct progress *progress; /* NULL: not shown */
};

static bool collect_row(void *context, struct slice id, struct app *app, const struct error *broken) {
    struct collection *collection = context;

    (void)id;
    if (app == NULL) {
        if (collection->progress != NULL)
            progress_clear(collection->progress);
        print_failure(collection->json, broken->text);
        collection->broken++;
        return true;
    }
    if ((collection->count & (collection->count - 1)) == 0) /* full at each power of two */
        collection->apps = alloc_array(collection->apps, collection->count == 0 ? 1 : collection->count * 2,
                                       sizeof collection->apps[0]);
    collection->apps[collection->count++] = app_ref(app);
    collection->plain += app_has_plain_secret(app);
    if (collection->progress != NULL)
        progress_show(collection->progress, collection->count);
    return true;
}

static int compare_ids(const void *left, const void *right) {
    const struct app *const *a = left, *const *b = right;

    return strcmp((*a)->id.data, (*b)->id.data);
}

static void collection_dispose(struct collection *collection) {
    for (size_t i = 0; i < collection->count; i++)
        app_unref(collection->apps[i]);
    free(collection->apps);
}

/* All apps of the configured store in order of id. `progress` may be NULL. */
static enum cli_exit read_all(const struct cli_options *options, struct progress *progress,
                              struct collection *collection) {
    struct cli_store store;
    struct error error = {0};
    enum cli_exit code = cli_store_open(&store, options->config_file, CLI_READS, &error);

    *collection = (struct collection){.json = options->json, .progress = progress};
    if (code != CLI_DONE) {
        print_failure(options->json, error.text);
        return code;
    }
    if (progress != NULL)
        progress_count(progress, &store);
    if (!cli_store_walk(&store, collect_row, collection, &error)) {
        print_failure(options->json, error.text);
        collection_dispose(collection);
        code = CLI_NOT_DONE;
    } else if (collection->count > 1) {
        qsort(collection->apps, collection->count, sizeof collection->apps[0], compare_ids);
    }
    if (progress != NULL)
        progress_clear(progress);
    if (code == CLI_DONE && store_has_keys(store.store) && collection->plain != 0) {
        error_set(&error,
                  "%zu of %zu apps have a secret that is plain text in the store; `curlew apps encrypt-secrets` "
                  "encrypts them",
                  collection->plain, collection->count);
        print_warning(options->json, error.text);
    }
    cli_store_close(&store);
    return code;
}

static json_t *apps_object(const struct collection *collection) {
    json_t *list = json_array();

    for (size_t i = 0; i < collection->count; i++)
        json_array_append_new(list, print_record(collection->apps[i], true));
    return json_pack("{s:o}", "apps", list);
}

enum cli_exit apps_list(const struct cli_options *options) {
    struct collection collection;
    struct list_view view;
    struct error error;
    enum cli_exit code;

    if (!list_view_parse(&view, options, &error)) {
        print_failure(options->json, error.text);
        return CLI_MISUSED;
    }
    code = read_all(options, NULL, &collection);
    if (code != CLI_DONE)
        return code;
    collection.count = list_view_select(&view, collection.apps, collection.count);
    if (options->json)
        print_json(stdout, list_view_json(&view, collection.apps, collection.count));
    else
        list_view_print(&view, stdout, collection.apps, collection.count);
    code = collection.broken == 0 ? CLI_DONE : CLI_NOT_DONE;
    collection_dispose(&collection);
    return code;
}

/* The app as JSON, with the time at which its previous secret was last seen, if a server says so. */
static json_t *shown_record(const struct app *app, bool secrets, bool asked, uint64_t seen_s) {
    json_t *record = print_record(app, secrets);

    if (asked)
        json_object_set_new(record, "previous_secret_last_seen",
                            seen_s != 0 ? json_integer((json_int_t)seen_s) : json_null());
    return record;
}

static void print_last_seen(const struct cli_store *store, uint64_t seen_s) {
    char time[PRINT_TIME_BYTES];

    printf("%-34s %s\n", "previous_secret last seen",
           seen_s != 0 ? print_time(seen_s, time) : "never since the server started");
    printf("%-34s %s\n", "  by the server at", store->config.admin.url);
}

static void show_app(struct cli_store *store, const struct cli_options *options, const struct app *app) {
    bool rotates = app_previous_secret_valid(app, clock_wall_ms() / 1000);
    struct notifier *notifier = rotates ? notifier_create(&store->config) : NULL;
    uint64_t seen_s;
    bool asked = notifier_previous_secret_seen(notifier, app->id, &seen_s);

    notifier_destroy(notifier);
    if (options->json) {
        print_json(stdout, shown_record(app, options->show_secrets, asked, seen_s));
        return;
    }
    print_app(stdout, app, options->show_secrets);
    if (asked)
        print_last_seen(store, seen_s);
}

/* Finds an app by id, or by key if `id` is NULL, and prints it after an empty line, unless it is the first; false after
 * an error was printed. */
static bool show_one(struct cli_store *store, const struct cli_options *options, const char *id, bool first) {
    struct slice name = slice_of(id != NULL ? id : options->key);
    struct error error = {0};
    struct app *app = NULL;
    enum store_answer answer =
        id != NULL ? cli_store_find_by_id(store, name, &app, &error) : cli_store_find_by_key(store, name, &app, &error);

    if (answer == STORE_NOT_FOUND)
        error_set(&error, "there is no app with the %s %s", id != NULL ? "id" : "key", name.data);
    if (answer == STORE_OK && !first && !options->json)
        putchar('\n');
    if (answer != STORE_OK)
        print_failure(options->json, error.text);
    else
        show_app(store, options, app);
    app_unref(app);
    return answer == STORE_OK;
}

enum cli_exit apps_show(const struct cli_options *options) {
    struct cli_store store;
    struct error error = {0};
    enum cli_exit code;
    bool first = true;

    if ((options->argument_count == 0) == (options->key == NULL)) {
        print_failure(options->json, "either ids or --key KEY must name the app to show");
        return CLI_MISUSED;
    }
    code = cli_store_open(&store, options->config_file, CLI_READS, &error);
    if (code != CLI_DONE) {
        print_failure(options->json, error.text);
        return code;
    }
    for (size_t i = 0; i == 0 || i < options->argument_count; i++) {
        if (show_one(&store, options, options->arguments[i], first))
            first = false;
        else
            code = CLI_NOT_DONE;
    }
    cli_store_close(&store);
    return code;
}

/* Takes over the reference to `apps`, and the descriptor. */
static bool write_to(int descriptor, bool lasts, json_t *apps) {
    FILE *out = descriptor >= 0 ? fdopen(descriptor, "w") : NULL;
    bool good;

    if (out == NULL) {
        json_decref(apps);
        return false;
    }
    print_json(out, apps);
    good = fflush(out) == 0 && !ferror(out) && (!lasts || fsync(descriptor) == 0);
    return fclose(out) == 0 && good;
}

/* Writes a temporary file and renames it, so that the file is never incomplete. */
static bool write_file(const char *file, json_t *apps) {
    struct buffer unfinished = {0};
    bool good;

    buffer_appendf(&unfinished, "%s.%ld", file, (long)getpid());
    buffer_append_byte(&unfinished, '\0');
    good = write_to(open(unfinished.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR), true, apps) &&
           rename(unfinished.data, file) == 0;
    if (!good) {
        int because = errno;
        unlink(unfinished.data);
        errno = because;
    }
    buffer_dispose(&unfinished);
    return good;
}

/* Writes into a device or pipe and replaces a file; a link is followed. Takes over the reference to `apps`. */
static bool write_place(const char *place, json_t *apps, struct error *error) {
    char *file = realpath(place, NULL); /* NULL: it does not exist */
    struct stat status;
    bool good;

    if (stat(place, &status) == 0 && !S_ISREG(status.st_mode))
        good = write_to(open(place, O_WRONLY | O_CLOEXEC), false, apps);
    else
        good = write_file(file != NULL ? file : place, apps);
    if (!good)
        error_set(error, "cannot write %s: %s", place, strerror(errno));
    free(file);
    return good;
}

enum cli_exit apps_export(const struct cli_options *options) {
    struct progress progress = progress_begin(options->json);
    struct collection collection;
    struct error error;
    enum cli_exit code = read_all(options, progress.terminal ? &progress : NULL, &collection);

    if (code != CLI_DONE)
        return code;
    if (collection.broken != 0)
        code = CLI_NOT_DONE;
    if (options->output == NULL) {
        print_json(stdout, apps_object(&collection));
    } else if (!write_place(options->output, apps_object(&collection), &error)) {
        print_failure(options->json, error.text);
        code = CLI_NOT_DONE;
    }
    collection_dispose(&collection);
    return code;
}
