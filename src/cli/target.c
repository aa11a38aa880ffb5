#include "cli/target.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/secret_input.h"

static char *copy_text(const char *text) {
    return text != NULL ? alloc_copy(text, strlen(text)) : NULL;
}

void target_dispose(struct target *target) {
    server_address_dispose(&target->server);
    free(target->id);
    free(target->key);
    if (target->secret != NULL)
        explicit_bzero(target->secret, strlen(target->secret));
    free(target->secret);
    *target = (struct target){0};
}

static void take_app(struct target *target, const struct app *app) {
    free(target->id);
    free(target->key);
    target->id = copy_text(app->id.data);
    target->key = copy_text(app->key.data);
    target->secret = copy_text(app->secret.data);
}

struct only_app {
    struct target *target;
    size_t count;
};

static bool take_only_app(void *context, struct slice id, struct app *app, const struct error *broken) {
    struct only_app *only = context;

    (void)id;
    (void)broken;
    if (app != NULL && only->count++ == 0)
        take_app(only->target, app);
    return only->count < 2;
}

/* Takes the only app of the store. */
static bool find_only_app(struct target *target, struct cli_store *store, struct error *error) {
    struct only_app only = {.target = target};

    if (!cli_store_walk(store, take_only_app, &only, error))
        return false;
    if (only.count == 0)
        return error_set(
            error,
            "no app is configured: name a configuration file with --config (without it, config/config.toml "
            "or config/config.json of this folder is read), or an app with --id, --key and --secret");
    return only.count == 1 || error_set(error, "there are several apps: name one with --app ID_OR_KEY");
}

static bool find_named_app(struct target *target, struct cli_store *store, struct error *error) {
    const char *name = target->id != NULL ? target->id : target->key;
    const char *field = target->id != NULL ? "id" : "key";
    struct app *app = NULL;
    enum store_answer answer = target->id != NULL ? cli_store_find_by_id(store, slice_of(name), &app, error)
                                                  : cli_store_find_by_key(store, slice_of(name), &app, error);

    if (answer == STORE_NOT_FOUND)
        return error_set(error, "the configured store has no app with the %s %s", field, name);
    if (answer != STORE_OK)
        return false;
    if (target->key != NULL && !slice_equal(app->key, slice_of(target->key)))
        error_set(error, "the app with the id %s has another key than %s", name, target->key);
    else
        take_app(target, app);
    app_unref(app);
    return target->secret != NULL;
}

/* Takes the app whose id or, if there is none, whose key is `name`. */
static bool find_app_by_any_name(struct target *target, const char *name, struct cli_store *store,
                                 struct error *error) {
    struct app *app = NULL;
    enum store_answer answer = cli_store_find_by_id(store, slice_of(name), &app, error);

    if (answer == STORE_NOT_FOUND)
        answer = cli_store_find_by_key(store, slice_of(name), &app, error);
    if (answer == STORE_NOT_FOUND)
        return error_set(error, "the configured store has no app with the id or the key %s", name);
    if (answer != STORE_OK)
        return false;
    take_app(target, app);
    app_unref(app);
    return true;
}

static bool find_target_app(struct target *target, const char *name, struct cli_store *store, struct error *error) {
    if (name != NULL)
        return find_app_by_any_name(target, name, store, error);
    if (target->id != NULL || target->key != NULL)
        return find_named_app(target, store, error);
    return find_only_app(target, store, error);
}

/* Fills what the options left open from the configuration. */
static enum cli_exit complete_from_config(struct target *target, const struct cli_options *options, bool needs_app,
                                          struct error *error) {
    struct cli_store store;
    enum cli_exit code = cli_store_open(&store, options->config_file, CLI_READS, error);

    if (code != CLI_DONE)
        return code;
    if ((target->server.url == NULL && !server_address_from_config(&target->server, &store.config, error)) ||
        (needs_app && !find_target_app(target, options->app, &store, error)))
        code = CLI_MISUSED;
    cli_store_close(&store);
    return code;
}

static bool take_options(struct target *target, const struct cli_options *options, struct error *error) {
    target->id = copy_text(options->id);
    target->key = copy_text(options->key);
    if (options->secret != NULL && strcmp(options->secret, "-") == 0) {
        target->secret = secret_input_read(error);
        return target->secret != NULL;
    }
    target->secret = copy_text(options->secret);
    return true;
}

enum cli_exit target_find(struct target *target, const struct cli_options *options, bool needs_secret,
                          struct error *error) {
    bool complete = options->key != NULL && options->secret != NULL && (options->id != NULL || !needs_secret);
    enum cli_exit code = CLI_MISUSED;

    *target = (struct target){0};
    if (options->app != NULL && (options->id != NULL || options->key != NULL || options->secret != NULL))
        error_set(error,
                  "--app takes an app of the configuration: it cannot be combined with --id, --key and --secret");
    else if (options->secret != NULL && !complete)
        error_set(error, needs_secret ? "--secret needs --id and --key beside it" : "--secret needs --key beside it");
    else if (options->url == NULL || server_address_parse(&target->server, options->url, options->insecure, error))
        code = take_options(target, options, error) ? CLI_DONE : CLI_MISUSED;
    if (code == CLI_DONE && (!complete || target->server.url == NULL))
        code = complete_from_config(target, options, !complete, error);
    /* A key alone is enough for public channels, and the server may have apps that this configuration lacks. */
    if (code != CLI_DONE && !needs_secret && options->id == NULL && target->key != NULL && target->server.url != NULL)
        code = CLI_DONE;
    if (code != CLI_DONE)
        target_dispose(target);
    return code;
}
