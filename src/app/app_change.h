/*
 * What a change of an app means: whether its open connections are concerned; and the line of the log about it: which
 * app, who changed it, and the names of the fields that differ. The values are never logged: the secret is one of them.
 */
#pragma once

#include <stdbool.h>

#include "app/app.h"
#include "base/buffer.h"

/* True if open connections have to be looked at after this change of a record: some may not stay. All other changes are
 * seen when a connection next needs the changed field. */
bool app_change_concerns_sessions(const struct app *before, const struct app *after);

/* Appends the names of the fields in which the two records differ, separated by commas: the known ones in the order of
 * the documentation, then the unknown ones. Numbers and flags differ if the values in force do. NULL is a record
 * without fields. */
void app_change_append_fields(const struct app *before, const struct app *after, struct buffer *names);

/*
 * Logs at level INFO that the app was created (`before` is NULL) or changed. `who` ends the sentence: "through the
 * admin API by 127.0.0.1". Any thread.
 */
void app_change_log(struct slice id, const struct app *before, const struct app *after, const char *who);

/* Logs a warning that the app was deleted, with the number of its connections on this server. Any thread. */
void app_change_log_removal(struct slice id, uint64_t connections, const char *who);

/*
 * The same as app_change_log for changes that come by themselves, and may be many at once: at most 100 in a second are
 * logged, then one line says that there are more. If no field differs there is no line. Any thread.
 */
void app_change_log_bounded(struct slice id, const struct app *before, const struct app *after, const char *who);
