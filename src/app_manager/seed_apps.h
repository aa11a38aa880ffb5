/*
 * The apps of the configuration when they are kept in a store: each is created there if its id is missing; if it is
 * there and differs, the store wins.
 */
#pragma once

#include "store/store.h"

/* On a connection that is prepared. Says in the log what was done, and what differs. False with an error if the store
 * could not be asked in the middle of it: then it is to be called again. */
bool seed_apps_create(const struct config *config, const struct app_defaults *defaults,
                      const struct app_store_driver *driver, struct store_connection *connection, int cancel_fd,
                      struct error *error);
