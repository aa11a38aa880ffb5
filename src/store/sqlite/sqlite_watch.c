#include "base/backoff.h"
#include "store/sqlite/sqlite_internal.h"

#define CHECK_INTERVAL_MS 1000
#define REOPEN_FIRST_MS 100
#define REOPEN_LAST_MS 10000

/* PRAGMA data_version: changes when another connection has changed the file. -1 if it cannot be read. */
static int64_t read_data_version(struct sqlite_connection *connection) {
    sqlite3_stmt *statement;
    struct error ignored;
    int64_t version = -1;

    if (sqlite_begin_operation(connection, &ignored) != STORE_OK ||
        sqlite3_prepare_v2(connection->database, "PRAGMA data_version", -1, &statement, NULL) != SQLITE_OK)
        return -1;
    if (sqlite3_step(statement) == SQLITE_ROW)
        version = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return version;
}

/* Checks the file each second until it cannot be read any more; false when cancelled. */
static bool watch_until_lost(struct sqlite_connection *connection, uint32_t timeout_ms, int cancel_fd,
                             const struct store_watcher *watcher) {
    int64_t known = -1;

    for (;;) {
        const struct deadline deadline = deadline_after(timeout_ms, cancel_fd);
        const struct deadline pause = deadline_after(CHECK_INTERVAL_MS * 2, cancel_fd);
        int64_t version;

        store_begin(&connection->base, &deadline);
        version = read_data_version(connection);
        if (version < 0)
            return !deadline_passed(&pause);
        if (version != known)
            watcher->anything_changed(watcher->context);
        known = version;
        if (!deadline_sleep(&pause, CHECK_INTERVAL_MS))
            return false;
    }
}

void sqlite_watch(struct app_store *base, uint32_t timeout_ms, int cancel_fd, const struct store_watcher *watcher) {
    uint32_t pause_ms = 0;

    for (;;) {
        const struct deadline deadline = deadline_after(timeout_ms, cancel_fd);
        const struct deadline enough = deadline_after(REOPEN_LAST_MS * 2, cancel_fd);
        struct error ignored;
        struct sqlite_connection *connection = sqlite_open_connection(sqlite_store_of(base), &deadline, &ignored);

        if (connection != NULL) {
            bool lost = watch_until_lost(connection, timeout_ms, cancel_fd, watcher);
            sqlite_close_connection(connection);
            if (!lost)
                return;
            pause_ms = 0;
        }
        pause_ms = backoff_next_ms(pause_ms, REOPEN_FIRST_MS, REOPEN_LAST_MS);
        if (!deadline_sleep(&enough, pause_ms))
            return;
    }
}
