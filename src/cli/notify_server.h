/*
 * Tells a running server that an app was changed: POST {CURLEW_ADMIN_URL}/admin/apps/{id}/refresh. Other servers learn
 * of it by their store's own way; a failure is a warning, since the change itself is in the store.
 */
#pragma once

#include "base/slice.h"
#include "config/config.h"

struct notifier;

/* NULL if the configuration names no server, or says too little to ask one, which is a warning. `config` outlives it.
 */
struct notifier *notifier_create(const struct config *config);

/* Says how many changes the server was not told of, if there were several. */
void notifier_destroy(struct notifier *notifier);

/* Once the server cannot be reached or refuses the token, it is not asked again. `notifier` may be NULL. */
void notifier_notify(struct notifier *notifier, struct slice id);
