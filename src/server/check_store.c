#include "server/check_store.h"

#include <stdlib.h>
#include <string.h>

#include "app/app_secret.h"
#include "base/alloc.h"
#include "config/config_known_secret.h"

#define PAGE 500
/* Findings that are named; the others are counted. */
#define NAMED_MAX 100

struct store_check {
    const struct config *config;
    bool production; /* examples and tests may have any secret */
    struct config_report *report;
    size_t apps, broken, dangerous, plain;
    size_t page; /* apps in the page */
    char *last;  /* the id of the last one */
};

static void check_stored_app(void *context, struct slice id, struct slice key, struct app *app,
                             const struct error *error) {
    struct store_check *check = context;
    const char *danger = app != NULL && check->production ? config_secret_danger(app->secret) : NULL;

    if (danger == NULL && app != NULL && check->production)
        danger = config_previous_secret_danger(app->previous_secret, app->previous_secret_until);

    (void)key;
    check->apps++;
    check->page++;
    free(check->last);
    check->last = alloc_copy(id.data, id.length);
    if (app == NULL && check->broken++ < NAMED_MAX)
        config_report_error(check->report, "%s", error->text);
    if (danger != NULL && check->dangerous++ < NAMED_MAX)
        config_report_warning(check->report, "app \"%s\": %s", app->id.data, danger);
    check->plain += app != NULL && app_has_plain_secret(app);
    app_unref(app);
}

static bool read_pages(struct store_check *check, struct store_connection *connection, struct error *error) {
    char *after = alloc_copy("", 0);
    enum store_answer answer = STORE_OK;

    do {
        const struct deadline deadline = deadline_after(check->config->app_manager.lookup_timeout_ms, -1);
        check->page = 0;
        store_begin(connection, &deadline);
        answer = store_list(connection, slice_of(after), PAGE, check_stored_app, check, error);
        free(after);
        after = alloc_copy(check->last != NULL ? check->last : "", check->last != NULL ? strlen(check->last) : 0);
    } while (answer == STORE_OK && check->page == PAGE && after[0] != '\0');
    free(after);
    return answer == STORE_OK;
}

static bool read_whole_store(struct store_check *check, struct app_store *store, struct error *error) {
    const struct deadline deadline = deadline_after(check->config->app_manager.lookup_timeout_ms, -1);
    struct store_connection *connection = store_connect(store, &deadline, error);
    enum store_answer answer;
    bool good;

    if (connection == NULL)
        return false;
    answer = store_inspect(connection, error);
    good = answer == STORE_NOT_FOUND || (answer == STORE_OK && read_pages(check, connection, error));
    store_disconnect(connection);
    return good;
}

static void report_more(struct config_report *report, size_t count, const char *what) {
    if (count > NAMED_MAX)
        config_report_warning(report, "%zu more apps of the store %s", count - NAMED_MAX, what);
}

size_t check_stored_apps(const struct config *config, struct app_store *store, struct config_report *report) {
    struct store_check check = {.config = config, .production = config_is_production(config), .report = report};
    struct error error;

    if (!read_whole_store(&check, store, &error))
        config_report_warning(report, "the apps in the store were not checked: %s", error.text);
    report_more(report, check.broken, "are broken");
    report_more(report, check.dangerous, "have a secret that is known or short");
    if (store_has_keys(store) && check.plain != 0)
        config_report_warning(report,
                              "%zu of %zu apps have a secret that is plain text in the store; `curlew apps "
                              "encrypt-secrets` encrypts them",
                              check.plain, check.apps);
    free(check.last);
    return check.apps;
}
