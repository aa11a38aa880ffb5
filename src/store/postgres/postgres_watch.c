#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "app/record_json.h"
#include "base/backoff.h"
#include "base/log.h"
#include "store/postgres/postgres_internal.h"

#define QUIET_MS 5000 /* after so long without a notification the server is asked whether it is still there */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_LAST_MS 10000
#define ECHO_MS 1000 /* far more than a notification takes */

static void report_notification(const struct store_watcher *watcher, const char *payload) {
    json_t *notice = json_loads(payload, 0, NULL);
    struct slice id = record_member(notice, "id");

    if (id.length != 0)
        watcher->changed(watcher->context, id, record_member(notice, "old_key"), record_member(notice, "new_key"));
    else
        watcher->anything_changed(watcher->context);
    json_decref(notice);
}

static void report_notifications(PGconn *link, const struct store_watcher *watcher) {
    PGnotify *notice;

    while ((notice = PQnotifies(link)) != NULL) {
        report_notification(watcher, notice->extra);
        PQfreemem(notice);
    }
}

/* --- poolers --- */

/* Sets `pooled` if another process runs statements than the one that the connection was made to. */
static bool is_pooled(struct postgres_connection *connection, bool *pooled, struct error *error) {
    PGresult *result = postgres_run(connection, "SELECT pg_backend_pid()", 0, NULL, error);

    if (result == NULL)
        return false;
    *pooled = PQntuples(result) != 1 || PQnfields(result) != 1 ||
              atoi(PQgetvalue(result, 0, 0)) != PQbackendPID(connection->link);
    PQclear(result);
    return true;
}

static bool send_echo(struct postgres_connection *connection, const char *payload, struct error *error) {
    struct postgres_connection *other = postgres_open_connection(connection->store, &connection->base.deadline, error);
    PGresult *result = NULL;

    if (other == NULL)
        return false;
    result = postgres_run(other, "SELECT pg_notify('curlew_echo', $1)", 1, &payload, error);
    PQclear(result);
    postgres_close_connection(other);
    return result != NULL;
}

static bool drain_echo(PGconn *link, const char *payload) {
    bool found = false;
    PGnotify *notice;

    while ((notice = PQnotifies(link)) != NULL) {
        found = found || strcmp(notice->extra, payload) == 0;
        PQfreemem(notice);
    }
    return found;
}

/*
 * Tests whether notifications arrive: a pooler that assigns its connections for each transaction runs LISTEN like any
 * statement, and then gives the connection that listens to another client. So another connection sends a notification,
 * which has to arrive while this connection runs no statement. False with an error if that could not be tested.
 */
static bool try_echo(struct postgres_connection *connection, bool *received, struct error *error) {
    struct deadline echo = deadline_after(ECHO_MS, connection->base.deadline.cancel_fd);
    char payload[32];
    PGresult *result = postgres_run(connection, "LISTEN curlew_echo", 0, NULL, error);

    if (result == NULL)
        return false;
    PQclear(result);
    snprintf(payload, sizeof payload, "%d", PQbackendPID(connection->link));
    if (!send_echo(connection, payload, error))
        return false;
    do
        *received = drain_echo(connection->link, payload);
    while (!*received && deadline_wait(&echo, PQsocket(connection->link), POLLIN) == WAIT_READY &&
           PQconsumeInput(connection->link) == 1);
    result = postgres_run(connection, "UNLISTEN curlew_echo", 0, NULL, error);
    PQclear(result);
    *received = *received || drain_echo(connection->link, payload); /* it arrived late */
    return result != NULL;
}

/* --- listening --- */

static bool start_listening(struct postgres_connection *connection, struct error *error) {
    struct buffer channel = {0};
    char sql[128];
    PGresult *result = NULL;

    if (postgres_channel(connection, &channel, error)) {
        snprintf(sql, sizeof sql, "LISTEN \"%s\"", channel.data);
        result = postgres_run(connection, sql, 0, NULL, error);
    }
    PQclear(result);
    buffer_dispose(&channel);
    return result != NULL;
}

static bool server_responds(struct postgres_connection *connection, uint32_t timeout_ms, int cancel_fd) {
    const struct deadline deadline = deadline_after(timeout_ms, cancel_fd);
    struct error ignored;
    PGresult *result;

    store_begin(&connection->base, &deadline);
    result = postgres_run(connection, "SELECT 1", 0, NULL, &ignored);
    PQclear(result);
    return result != NULL;
}

/* Reports notifications until the connection is lost; false when cancelled. */
static bool listen_until_lost(struct postgres_connection *connection, uint32_t timeout_ms, int cancel_fd,
                              const struct store_watcher *watcher) {
    for (;;) {
        const struct deadline quiet = deadline_after(QUIET_MS, cancel_fd);

        report_notifications(connection->link, watcher);
        switch (deadline_wait(&quiet, PQsocket(connection->link), POLLIN)) {
        case WAIT_CANCELLED:
            return false;
        case WAIT_READY:
            if (PQconsumeInput(connection->link) == 0)
                return true;
            break;
        case WAIT_TIMED_OUT:
            if (!server_responds(connection, timeout_ms, cancel_fd))
                return !deadline_passed(&(struct deadline){UINT64_MAX, cancel_fd});
            break;
        }
    }
}

enum listen_result {
    LISTEN_CANCELLED,
    LISTEN_LOST,        /* the connection was lost while it listened */
    LISTEN_FAILED,      /* it could not be opened, or could not listen yet */
    LISTEN_UNSUPPORTED, /* no notification can arrive: a pooler, or no table */
};

static enum listen_result run_connection(struct postgres_connection *connection, uint32_t timeout_ms,
                                         const struct store_watcher *watcher, struct error *error) {
    int cancel_fd = connection->base.deadline.cancel_fd;
    bool pooled, received = true;

    if (!is_pooled(connection, &pooled, error) || (pooled && !try_echo(connection, &received, error)))
        return LISTEN_FAILED;
    if (!received) {
        error_set(error,
                  "a pooler is in between that does not pass on notifications (PgBouncer does with pool_mode session)");
        return LISTEN_UNSUPPORTED;
    }
    if (!start_listening(connection, error))
        return postgres_failure(connection) == STORE_REFUSED ? LISTEN_UNSUPPORTED : LISTEN_FAILED;
    watcher->anything_changed(watcher->context);
    return listen_until_lost(connection, timeout_ms, cancel_fd, watcher) ? LISTEN_LOST : LISTEN_CANCELLED;
}

static enum listen_result listen_once(struct postgres_store *store, uint32_t timeout_ms, int cancel_fd,
                                      const struct store_watcher *watcher, struct error *error) {
    const struct deadline deadline = deadline_after(timeout_ms, cancel_fd);
    struct postgres_connection *connection = postgres_open_connection(store, &deadline, error);
    enum listen_result result = LISTEN_FAILED;

    if (connection != NULL) {
        result = run_connection(connection, timeout_ms, watcher, error);
        postgres_close_connection(connection);
    }
    return result;
}

static void log_listen_result(const struct config_sql *config, enum listen_result result, bool was_unsupported,
                              const struct error *error) {
    if (result == LISTEN_UNSUPPORTED && !was_unsupported)
        log_warning("app",
                    "PostgreSQL at %s:%u cannot be listened to, so changes made elsewhere arrive at the refresh: %s",
                    config->host, config->port, error->text);
    else if (result == LISTEN_FAILED)
        log_debug("app", "not listening for changes: %s", error->text);
}

void postgres_watch(struct app_store *base, uint32_t timeout_ms, int cancel_fd, const struct store_watcher *watcher) {
    struct postgres_store *store = postgres_store_of(base);
    bool unsupported = false;
    enum listen_result result;
    uint32_t pause_ms = 0;
    struct error error;

    while ((result = listen_once(store, timeout_ms, cancel_fd, watcher, &error)) != LISTEN_CANCELLED) {
        const struct deadline enough = deadline_after(BACKOFF_LAST_MS * 2, cancel_fd);

        pause_ms = backoff_next_ms(result == LISTEN_LOST ? 0 : pause_ms, BACKOFF_FIRST_MS, BACKOFF_LAST_MS);
        log_listen_result(store->config, result, unsupported, &error);
        unsupported = result == LISTEN_UNSUPPORTED || (unsupported && result == LISTEN_FAILED);
        if (!deadline_sleep(&enough, pause_ms))
            return;
    }
}
