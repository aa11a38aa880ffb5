/*
 * `curlew apps`: the apps of a configured store, from the command line. It writes to the store itself; running servers
 * learn of it by the store's own ways, and at once if CURLEW_ADMIN_URL names one.
 */
#pragma once

#include "cli/cli_store.h"
#include "cli/options.h"

/* Runs `curlew apps ARGUMENTS...` on the main thread and returns the exit code, an enum cli_exit. */
int apps_run(char **arguments);

/* The commands. Each takes options that were checked to be the command's own, and says itself what went wrong. */
enum cli_exit apps_list(const struct apps_options *options);
enum cli_exit apps_show(const struct apps_options *options);
enum cli_exit apps_export(const struct apps_options *options);

enum cli_exit apps_create(const struct apps_options *options);
enum cli_exit apps_update(const struct apps_options *options);
enum cli_exit apps_delete(const struct apps_options *options);
enum cli_exit apps_enable(const struct apps_options *options);
enum cli_exit apps_disable(const struct apps_options *options);
enum cli_exit apps_rotate_secret(const struct apps_options *options);

enum cli_exit apps_import(const struct apps_options *options);
enum cli_exit apps_copy(const struct apps_options *options);
