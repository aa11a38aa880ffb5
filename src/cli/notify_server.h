/*
 * Notifies a running server of a changed app: POST {CURLEW_ADMIN_URL}/admin/apps/{id}/refresh. Other servers see the
 * change by watching or reading their store. A failure is a warning: the change is in the store.
 */
#pragma once

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
