/*
 * `curlew check --strict` of the apps in a database: reads them all, and reports those that are broken, or whose secret
 * is dangerous.
 */
#pragma once

#include "config/config.h"
#include "config/report.h"
#include "store/store.h"

/*
 * Reads the store in pages and changes nothing. A broken app is an error, since the server would not serve it. Warnings
 * are: in production mode a dangerous secret; plain secrets beside a key; a store that cannot be read. A table that is
 * not there yet has no apps. Returns how many apps there are.
 */
size_t check_stored_apps(const struct config *config, struct app_store *store, struct config_report *report);
