/*
 * The line of the log about a change of an app: which app, who changed it, and the names of the fields that differ. The
 * values are never logged: the secret is one of them.
 */
#pragma once

#include <stdbool.h>

#include "app/app.h"
#include "base/buffer.h"

/* Appends the names of the fields in which the two records differ, separated by commas: the known ones in the order of
 * the documentation, then the unknown ones. NULL is a record without fields. */
void app_change_append_fields(const struct app *before, const struct app *after, struct buffer *names);

/*
 * Logs at level INFO that the app was created (`before` is NULL), changed, or deleted (`after` is NULL). `who` ends the
 * sentence: "through the admin API by 127.0.0.1". Any thread.
 */
void app_change_log(struct slice id, const struct app *before, const struct app *after, const char *who);

/*
 * The same for changes that come by themselves, and may be many at once: at most 100 in a second are logged, then one
 * line says that there are more. Any thread.
 */
void app_change_log_bounded(struct slice id, const struct app *before, const struct app *after, const char *who);
