/*
 * The running server that CURLEW_ADMIN_URL names. It is notified of a changed app: POST
 * {CURLEW_ADMIN_URL}/admin/apps/{id}/refresh. Other servers see the change by watching or reading their store. A
 * failure is a warning: the change is in the store.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"
#include "config/config.h"

struct notifier;

/* NULL if the configuration names no server, or with a warning if it is incomplete. `config` outlives it. */
struct notifier *notifier_create(const struct config *config);

/* Frees it, and prints how many changes the server was not notified of, if there were several. */
void notifier_destroy(struct notifier *notifier);

/* Notifies the server; after a failure to reach it, or a refused token, later calls do nothing. `notifier` may be NULL.
 */
void notifier_notify(struct notifier *notifier, struct slice id);

/*
 * Asks the server when the previous secret of an app last made a signature: seconds since 1970, or 0 if it has not
 * since the server started. False if the server cannot be asked, with a warning unless none is named. `notifier` may be
 * NULL.
 */
bool notifier_previous_secret_seen(struct notifier *notifier, struct slice id, uint64_t *seen_s);

/* Confirms the removal of apps that the server holds; `*count` is their number. False with an error. */
bool notifier_confirm_removal(struct notifier *notifier, uint64_t *count, struct error *error);

/* The answer of /admin/nodes, a new reference; NULL with an error. */
json_t *notifier_read_nodes(struct notifier *notifier, struct error *error);
