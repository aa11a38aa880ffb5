#include "cli/cli_store.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/log.h"
#include "store/drivers.h"

#define PREPARE_TIMEOUT_MS 60000
#define PAGE 100

struct page_entry {
    char *id;
    struct app *app;
    struct error error;
};

struct page {
    struct page_entry entries[PAGE];
    size_t count;
};

/* One operation, so that repeating it is in one place. */
struct request {
    enum { FIND_BY_ID, FIND_BY_KEY, LIST, CREATE, UPDATE, REMOVE } kind;
    struct slice text; /* the id, the key, or the id to list after */
    const struct app *app;
    struct app **found;
    struct page *page;
};

static enum cli_exit load_settings(struct cli_store *store, const char *config_file, struct error *error) {
    struct config_report report = {0};
    struct log_settings log_settings;

    if (!config_load(&store->config, config_file, &report, error)) {
        config_report_dispose(&report);
        return CLI_MISUSED;
    }
    app_defaults_from_config(&store->defaults, &store->config);
    log_settings = config_log_settings(&store->config);
    if (log_settings.level > LOG_WARNING)
        log_settings.level = LOG_WARNING; /* the command prints what it does */
    log_configure(&log_settings);
    config_report_log(&report); /* an ignored key may be the one that names the store */
    config_report_dispose(&report);
    return CLI_DONE;
}

static const char *file_of(const struct cli_store *store) {
    return store->config.file != NULL ? store->config.file : "the configuration file";
}

static bool choose_driver(struct cli_store *store, enum cli_use use, struct error *error) {
    enum config_driver driver = store->config.app_manager.driver;

    if (use != CLI_READS && driver == CONFIG_DRIVER_MEMORY)
        return error_set(error,
                         "app_manager.driver is \"memory\", which stores nothing: write apps into "
                         "app_manager.array.apps of %s, or choose a driver that stores them",
                         file_of(store));
    store->driver = app_store_driver_of(driver);
    return true;
}

static struct deadline operation_deadline(const struct cli_store *store) {
    return deadline_after(store->config.app_manager.lookup_timeout_ms, -1);
}

/* Connects if need be, and begins an operation. */
static bool connect_store(struct cli_store *store, struct error *error) {
    struct deadline deadline = operation_deadline(store);

    if (store->connection == NULL)
        store->connection = store_connect(store->store, &deadline, error);
    else
        store_begin(store->connection, &deadline);
    return store->connection != NULL;
}

static void disconnect_store(struct cli_store *store) {
    if (store->connection != NULL)
        store_disconnect(store->connection);
    store->connection = NULL;
}

static bool prepare_opened_store(struct cli_store *store, struct error *error) {
    struct deadline deadline = deadline_after(PREPARE_TIMEOUT_MS, -1);

    if (!connect_store(store, error))
        return false;
    store_begin(store->connection, &deadline);
    return store_prepare(store->connection, error) == STORE_OK;
}

static bool inspect_store(struct cli_store *store, enum cli_use use, struct error *error) {
    enum store_answer answer = STORE_UNAVAILABLE;

    if (connect_store(store, error))
        answer = store_inspect(store->connection, error);
    store->absent = answer == STORE_NOT_FOUND;
    if (store->absent && use == CLI_READS)
        return error_prefix(error, "no apps are kept there yet");
    return answer == STORE_OK || store->absent;
}

enum cli_exit cli_store_open(struct cli_store *store, const char *config_file, enum cli_use use, struct error *error) {
    *store = (struct cli_store){0};
    if (load_settings(store, config_file, error) != CLI_DONE)
        return CLI_MISUSED;
    hash_seed();
    if (choose_driver(store, use, error))
        store->store = store_open(store->driver, &store->config, &store->defaults, error);
    if (store->store == NULL) {
        config_dispose(&store->config);
        return CLI_MISUSED;
    }
    if (use == CLI_WRITES ? prepare_opened_store(store, error) : inspect_store(store, use, error))
        return CLI_DONE;
    cli_store_close(store);
    return CLI_NOT_DONE;
}

void cli_store_close(struct cli_store *store) {
    disconnect_store(store);
    store_close(store->store);
    config_dispose(&store->config);
}

static void add_to_page(void *context, struct slice id, struct slice key, struct app *app, const struct error *error) {
    struct page *page = context;
    struct page_entry *entry;

    (void)key;
    if (page->count == PAGE) { /* a driver gave more than the limit */
        app_unref(app);
        return;
    }
    entry = &page->entries[page->count++];
    *entry = (struct page_entry){.id = alloc_copy(id.data, id.length), .app = app};
    if (app == NULL)
        entry->error = *error;
}

static void clear_page(struct page *page) {
    for (size_t i = 0; i < page->count; i++) {
        free(page->entries[i].id);
        app_unref(page->entries[i].app);
    }
    page->count = 0;
}

static enum store_answer ask_once(struct cli_store *store, const struct request *request, struct error *error) {
    if (!connect_store(store, error))
        return STORE_UNAVAILABLE;
    switch (request->kind) {
    case FIND_BY_ID:
        return store_find_by_id(store->connection, request->text, request->found, error);
    case FIND_BY_KEY:
        return store_find_by_key(store->connection, request->text, request->found, error);
    case LIST:
        clear_page(request->page);
        return store_list(store->connection, request->text, PAGE, add_to_page, request->page, error);
    case CREATE:
        return store_create(store->connection, request->app, error);
    case UPDATE:
        return store_update(store->connection, request->app, error);
    case REMOVE:
        break;
    }
    return store_remove(store->connection, request->text, error);
}

static enum store_answer ask_opened_store(struct cli_store *store, const struct request *request, struct error *error) {
    bool reads = request->kind == FIND_BY_ID || request->kind == FIND_BY_KEY || request->kind == LIST;
    enum store_answer answer = ask_once(store, request, error);

    if (answer == STORE_UNAVAILABLE)
        disconnect_store(store);
    if (answer == STORE_UNAVAILABLE && reads) {
        answer = ask_once(store, request, error);
        if (answer == STORE_UNAVAILABLE)
            disconnect_store(store);
    }
    return answer;
}

/* True without a query: no store can have the name, or the store is missing. */
static enum store_answer find_app_by(struct cli_store *store, const struct request *request, struct error *error) {
    *request->found = NULL;
    return app_name_valid(request->text) && !store->absent ? ask_opened_store(store, request, error) : STORE_NOT_FOUND;
}

enum store_answer cli_store_find_by_id(struct cli_store *store, struct slice id, struct app **app,
                                       struct error *error) {
    return find_app_by(store, &(struct request){FIND_BY_ID, id, .found = app}, error);
}

enum store_answer cli_store_find_by_key(struct cli_store *store, struct slice key, struct app **app,
                                        struct error *error) {
    return find_app_by(store, &(struct request){FIND_BY_KEY, key, .found = app}, error);
}

enum store_answer cli_store_create(struct cli_store *store, const struct app *app, struct error *error) {
    return ask_opened_store(store, &(struct request){CREATE, .app = app}, error);
}

enum store_answer cli_store_update(struct cli_store *store, const struct app *app, struct error *error) {
    return ask_opened_store(store, &(struct request){UPDATE, .app = app}, error);
}

enum store_answer cli_store_remove(struct cli_store *store, struct slice id, struct error *error) {
    return ask_opened_store(store, &(struct request){REMOVE, id}, error);
}

static bool visit_page(const struct page *page, cli_store_visit *each, void *context) {
    for (size_t i = 0; i < page->count; i++) {
        const struct page_entry *entry = &page->entries[i];
        if (!each(context, slice_of(entry->id), entry->app, entry->app == NULL ? &entry->error : NULL))
            return false;
    }
    return true;
}

bool cli_store_walk(struct cli_store *store, cli_store_visit *each, void *context, struct error *error) {
    struct page *page = alloc_zero(sizeof *page);
    char *after = alloc_copy("", 0);
    bool more = true, good = true;

    while (more) {
        struct request request = {LIST, slice_of(after), .page = page};
        good = ask_opened_store(store, &request, error) == STORE_OK;
        more = good && visit_page(page, each, context) && page->count == PAGE;
        if (more) {
            free(after);
            after = alloc_copy(page->entries[PAGE - 1].id, strlen(page->entries[PAGE - 1].id));
        }
        if (more && after[0] == '\0') { /* the list could only begin again */
            good =
                error_set(error, "a record in the store has no id that can be read; those behind it are out of reach");
            more = false;
        }
    }
    clear_page(page);
    free(page);
    free(after);
    return good;
}
