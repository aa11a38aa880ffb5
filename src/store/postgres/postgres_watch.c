#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "store/postgres/postgres_internal.h"

#define QUIET_MS 5000 /* after so long without a word the other end is asked whether it is there */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_LAST_MS 10000
#define ECHO_MS 1000 /* a notice takes a few */

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

/* --- poolers --- */

/* Whether statements are run by another process than the one that the connection was said to be. */
static bool is_pooled(struct postgres_connection *connection, bool *pooled, struct error *error) {
    PGresult *result = postgres_run(connection, "SELECT pg_backend_pid()", 0, NULL, error);

    if (result == NULL)
        return false;
    *pooled = PQntuples(result) != 1 || PQnfields(result) != 1 ||
              atoi(PQgetvalue(result, 0, 0)) != PQbackendPID(connection->link);
    PQclear(result);
    return true;
}

static bool send_echo(struct postgres_connection *connection, const char *words, struct error *error) {
    struct postgres_connection *other = postgres_open_connection(connection->store, &connection->base.deadline, error);
    PGresult *result = NULL;

    if (other == NULL)
        return false;
    result = postgres_run(other, "SELECT pg_notify('curlew_echo', $1)", 1, &words, error);
    PQclear(result);
    postgres_close_connection(other);
    return result != NULL;
}

static bool take_echo(PGconn *link, const char *words) {
    bool found = false;
    PGnotify *notice;

    while ((notice = PQnotifies(link)) != NULL) {
        found = found || strcmp(notice->extra, words) == 0;
        PQfreemem(notice);
    }
    return found;
}

/*
 * A pooler that hands out its connections by transaction runs LISTEN like any statement, and then gives the connection
 * that listens to others. So a notice is sent on another connection, and has to come while this one asks for nothing.
 * False with an error if that could not be tried.
 */
static bool try_echo(struct postgres_connection *connection, bool *heard, struct error *error) {
    struct deadline echo = deadline_after(ECHO_MS, connection->base.deadline.cancel_fd);
    char words[32];
    PGresult *result = postgres_run(connection, "LISTEN curlew_echo", 0, NULL, error);

    if (result == NULL)
        return false;
    PQclear(result);
    snprintf(words, sizeof words, "%d", PQbackendPID(connection->link));
    if (!send_echo(connection, words, error))
        return false;
    do
        *heard = take_echo(connection->link, words);
    while (!*heard && deadline_wait(&echo, PQsocket(connection->link), POLLIN) == WAIT_READY &&
           PQconsumeInput(connection->link) == 1);
    result = postgres_run(connection, "UNLISTEN curlew_echo", 0, NULL, error);
    PQclear(result);
    *heard = *heard || take_echo(connection->link, words); /* the server was slow */
    return result != NULL;
}

/* --- listening --- */

static bool listen_to(struct postgres_connection *connection, struct error *error) {
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

static bool still_there(struct postgres_connection *connection, uint32_t timeout_ms, int cancel_fd) {
    const struct deadline deadline = deadline_after(timeout_ms, cancel_fd);
    struct error ignored;
    PGresult *result;

    store_begin(&connection->base, &deadline);
    result = postgres_run(connection, "SELECT 1", 0, NULL, &ignored);
    PQclear(result);
    return result != NULL;
}

/* Until the connection is lost; false when it is time to stop. */
static bool hear(struct postgres_connection *connection, uint32_t timeout_ms, int cancel_fd,
                 const struct store_watcher *watcher) {
    for (;;) {
        const struct deadline quiet = deadline_after(QUIET_MS, cancel_fd);

        tell_all(connection->link, watcher);
        switch (deadline_wait(&quiet, PQsocket(connection->link), POLLIN)) {
        case WAIT_CANCELLED:
            return false;
        case WAIT_READY:
            if (PQconsumeInput(connection->link) == 0)
                return true;
            break;
        case WAIT_TIMED_OUT:
            if (!still_there(connection, timeout_ms, cancel_fd))
                return !deadline_passed(&(struct deadline){UINT64_MAX, cancel_fd});
            break;
        }
    }
}

enum life {
    LIFE_STOPPED,
    LIFE_LOST,   /* after it had listened */
    LIFE_FAILED, /* before that */
    LIFE_DEAF,   /* there is nothing to be heard */
};

/* One connection's life. */
static enum life live(struct postgres_connection *connection, uint32_t timeout_ms, const struct store_watcher *watcher,
                      struct error *error) {
    bool pooled, heard = true;

    if (!is_pooled(connection, &pooled, error) || (pooled && !try_echo(connection, &heard, error)))
        return LIFE_FAILED;
    if (!heard) {
        error_set(error,
                  "a pooler is in between that does not hand on notices (PgBouncer does with pool_mode session)");
        return LIFE_DEAF;
    }
    if (!listen_to(connection, error))
        return postgres_failure(connection) == STORE_REFUSED ? LIFE_DEAF : LIFE_FAILED;
    watcher->anything_changed(watcher->context);
    return hear(connection, timeout_ms, connection->base.deadline.cancel_fd, watcher) ? LIFE_LOST : LIFE_STOPPED;
}

static enum life listen_once(struct postgres_store *store, uint32_t timeout_ms, int cancel_fd,
                             const struct store_watcher *watcher, struct error *error) {
    const struct deadline deadline = deadline_after(timeout_ms, cancel_fd);
    struct postgres_connection *connection = postgres_open_connection(store, &deadline, error);
    enum life life = LIFE_FAILED;

    if (connection != NULL) {
        life = live(connection, timeout_ms, watcher, error);
        postgres_close_connection(connection);
    }
    return life;
}

static void explain(const struct config_sql *config, enum life life, bool was_deaf, const struct error *error) {
    if (life == LIFE_DEAF && !was_deaf)
        log_warning("app",
                    "PostgreSQL at %s:%u cannot be listened to, so changes made elsewhere arrive at the refresh: %s",
                    config->host, config->port, error->text);
    else if (life == LIFE_FAILED)
        log_debug("app", "not listening for changes: %s", error->text);
}

void postgres_watch(struct app_store *base, uint32_t timeout_ms, int cancel_fd, const struct store_watcher *watcher) {
    struct postgres_store *store = postgres_store_of(base);
    uint32_t backoff_ms = BACKOFF_FIRST_MS;
    bool was_deaf = false;
    struct error error;
    enum life life;

    while ((life = listen_once(store, timeout_ms, cancel_fd, watcher, &error)) != LIFE_STOPPED) {
        const struct deadline pause = deadline_after(BACKOFF_LAST_MS * 2, cancel_fd);
        if (life == LIFE_LOST)
            backoff_ms = BACKOFF_FIRST_MS;
        explain(store->config, life, was_deaf, &error);
        was_deaf = life == LIFE_DEAF || (was_deaf && life == LIFE_FAILED);
        if (!deadline_sleep(&pause, backoff_ms))
            return;
        backoff_ms = backoff_ms * 2 < BACKOFF_LAST_MS ? backoff_ms * 2 : BACKOFF_LAST_MS;
    }
}
