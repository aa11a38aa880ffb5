/*
 * The command that rewrites the secrets of all apps in a store: encrypted with the first key, or plain with --decrypt.
 * Those that are so already are left alone, so a command that was interrupted is completed by running it again.
 */
#include <stdio.h>

#include "app/app_secret.h"
#include "cli/apps_commands.h"
#include "cli/interrupt.h"
#include "cli/print.h"
#include "cli/progress.h"

struct rewriting {
    const struct cli_options *options;
    struct cli_store store;
    struct progress progress;
    size_t rewritten, unchanged, failed;
    bool stopped; /* before the last app */
};

static void report_rewriting(struct rewriting *rewriting, const struct error *error) {
    progress_clear(&rewriting->progress);
    print_failure(rewriting->options->json, error->text);
}

static bool needs_rewriting(const struct rewriting *rewriting, const struct app *app) {
    if (rewriting->options->decrypt)
        return app->sealed != 0;
    return app->sealed_by_old_key || app_has_plain_secret(app);
}

/* Reads the app again just before it is written, so that a change which came meanwhile is not lost. */
static void rewrite_app(struct rewriting *rewriting, struct slice id) {
    struct error error = {0};
    struct app *app = NULL;
    enum store_answer answer = cli_store_find_by_id(&rewriting->store, id, &app, &error);

    if (answer == STORE_OK && needs_rewriting(rewriting, app)) {
        answer = cli_store_update(&rewriting->store, app, &error);
        rewriting->rewritten += answer == STORE_OK;
    } else if (answer == STORE_OK) {
        rewriting->unchanged++;
    }
    app_unref(app);
    if (answer == STORE_OK || answer == STORE_NOT_FOUND) /* deleted meanwhile */
        return;
    error_prefix(&error, "app \"%.*s\"", SLICE_ARGS(id));
    report_rewriting(rewriting, &error);
    rewriting->failed++;
    rewriting->stopped = answer == STORE_UNAVAILABLE; /* the following apps would fail, too */
}

static bool visit_app(void *context, struct slice id, struct app *app, const struct error *broken) {
    struct rewriting *rewriting = context;

    if (interrupt_seen()) {
        rewriting->stopped = true;
        return false;
    }
    if (app == NULL) {
        report_rewriting(rewriting, broken);
        rewriting->failed++;
    } else if (needs_rewriting(rewriting, app)) {
        rewrite_app(rewriting, id);
    } else {
        rewriting->unchanged++;
    }
    progress_show(&rewriting->progress, rewriting->rewritten + rewriting->unchanged + rewriting->failed);
    return !rewriting->stopped;
}

static void print_rewritten(struct rewriting *rewriting) {
    const struct cli_options *options = rewriting->options;

    progress_clear(&rewriting->progress);
    if (options->json)
        print_json(stdout, json_pack("{s:I,s:I,s:I,s:b}", "rewritten", (json_int_t)rewriting->rewritten, "unchanged",
                                     (json_int_t)rewriting->unchanged, "failed", (json_int_t)rewriting->failed,
                                     "finished", !rewriting->stopped));
    else
        printf("%zu %s, %zu left as they are, %zu failed\n", rewriting->rewritten,
               options->decrypt ? "decrypted" : "encrypted", rewriting->unchanged, rewriting->failed);
    if (rewriting->stopped)
        print_failure(options->json, "stopped before the end; running it again goes on from there");
}

enum cli_exit apps_encrypt_secrets(const struct cli_options *options) {
    struct rewriting rewriting = {.options = options, .progress = progress_begin(options->json)};
    struct error error = {0};
    enum cli_exit code = cli_store_open(&rewriting.store, options->config_file, CLI_WRITES, &error);

    if (code == CLI_DONE && !store_has_keys(rewriting.store.store)) {
        error_set(&error, "there is no key: set app_manager.secrets.key_file or CURLEW_SECRETS_KEY");
        cli_store_close(&rewriting.store);
        code = CLI_MISUSED;
    }
    if (code != CLI_DONE) {
        print_failure(options->json, error.text);
        return code;
    }
    if (options->decrypt)
        store_write_plain_secrets(rewriting.store.store);
    interrupt_catch();
    progress_count(&rewriting.progress, &rewriting.store);
    if (!cli_store_walk(&rewriting.store, visit_app, &rewriting, &error)) {
        report_rewriting(&rewriting, &error);
        rewriting.stopped = true;
    }
    print_rewritten(&rewriting);
    cli_store_close(&rewriting.store);
    return rewriting.stopped || rewriting.failed != 0 ? CLI_NOT_DONE : CLI_DONE;
}
