/*
 * Seeds a store with the apps of the configuration: each is created if its id is missing. An app that is there and
 * differs stays as it is in the store.
 */
#pragma once

#include "store/store.h"

/* On a prepared connection, on a thread of the pool. Logs what was created and what differs. False with an error if the
 * store could not be reached before the end: the caller repeats it. */
bool seed_apps_create(const struct config *config, const struct app_defaults *defaults,
                      struct store_connection *connection, int cancel_fd, struct error *error);
