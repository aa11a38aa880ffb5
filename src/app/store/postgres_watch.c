#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "app/store/postgres.h"
#include "base/log.h"

#define QUIET_MS 5000 /* after so long without a word the other end is asked whether it is there */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_LAST_MS 10000

static struct slice member(const json_t *notice, const char *name) {
    const json_t *text = json_object_get(notice, name);

    return json_is_string(text) ? (struct slice){json_string_value(text), json_string_length(text)} : SLICE("");
}

static void tell(const struct store_watcher *watcher, const char *payload) {
    json_t *notice = json_loads(payload, 0, NULL);
    struct slice id = member(notice, "id");

    if (id.length != 0)
        watcher->changed(watcher->context, id, member(notice, "old_key"), member(notice, "new_key"));
    else
        watcher->anything_changed(watcher->context);
    json_decref(notice);
}

static void tell_all(PGconn *link, const struct store_watcher *watcher) {
    PGnotify *notice;

    while ((notice = PQnotifies(link)) != NULL) {
        tell(watcher, notice->extra);
        PQfreemem(notice);
    }
}

static bool listen_to(struct store_connection *connection, const struct patience *patience, struct error *error) {
    struct buffer channel = {0};
    char sql[128];
    PGresult *result = NULL;

    if (postgres_channel(connection, patience, &channel, error)) {
        snprintf(sql, sizeof sql, "LISTEN \"%s\"", channel.data);
        result = postgres_run(connection, sql, 0, NULL, patience, error);
    }
    PQclear(result);
    buffer_dispose(&channel);
    return result != NULL;
}

static bool still_there(struct store_connection *connection, uint32_t timeout_ms, int stop_fd) {
    const struct patience patience = patience_for(timeout_ms, stop_fd);
    struct error ignored;
    PGresult *result = postgres_run(connection, "SELECT 1", 0, NULL, &patience, &ignored);

    PQclear(result);
    return result != NULL;
}

/* Until the connection is lost; false when it is time to stop. */
static bool hear(struct store_connection *connection, uint32_t timeout_ms, int stop_fd,
                 const struct store_watcher *watcher) {
    for (;;) {
        const struct patience quiet = patience_for(QUIET_MS, stop_fd);

        tell_all(connection->link, watcher);
        switch (patience_wait(&quiet, PQsocket(connection->link), POLLIN)) {
        case PATIENCE_STOPPED:
            return false;
        case PATIENCE_READY:
            if (PQconsumeInput(connection->link) == 0)
                return true;
            break;
        case PATIENCE_TIMED_OUT:
            if (!still_there(connection, timeout_ms, stop_fd))
                return !patience_ended(&(struct patience){UINT64_MAX, stop_fd});
            break;
        }
    }
}

/* One connection's life; false when it is time to stop. */
static bool listen_once(struct app_store *store, uint32_t timeout_ms, int stop_fd, const struct store_watcher *watcher,
                        bool *heard) {
    const struct patience patience = patience_for(timeout_ms, stop_fd);
    struct error error;
    struct store_connection *connection = postgres_connect(store, &patience, &error);
    bool go_on = true;

    *heard = connection != NULL && listen_to(connection, &patience, &error);
    if (*heard) {
        watcher->anything_changed(watcher->context);
        go_on = hear(connection, timeout_ms, stop_fd, watcher);
    } else {
        log_debug("app", "not listening for changes: %s", error.text);
    }
    if (connection != NULL)
        postgres_disconnect(connection);
    return go_on;
}

void postgres_watch(struct app_store *store, uint32_t timeout_ms, int stop_fd, const struct store_watcher *watcher) {
    uint32_t backoff_ms = BACKOFF_FIRST_MS;
    bool heard;

    while (listen_once(store, timeout_ms, stop_fd, watcher, &heard)) {
        const struct patience pause = patience_for(BACKOFF_LAST_MS * 2, stop_fd);
        if (heard)
            backoff_ms = BACKOFF_FIRST_MS;
        if (!patience_pause(&pause, backoff_ms))
            return;
        backoff_ms = backoff_ms * 2 < BACKOFF_LAST_MS ? backoff_ms * 2 : BACKOFF_LAST_MS;
    }
}
