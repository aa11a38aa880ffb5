/*
 * The apps of the configuration when they are kept in a store: each is created there if its id is missing; if it is
 * there and differs, the store wins.
 */
#pragma once

#include "app/app_store.h"

/* On a connection that is prepared. Says in the log what was done, and what differs. */
void inline_apps_create(const struct config *config, const struct app_defaults *defaults,
                        const struct app_store_driver *driver, struct store_connection *connection, int stop_fd);
