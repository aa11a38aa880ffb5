/*
 * `curlew apps`: the apps of a configured store, from the command line. It writes to the store directly. Running
 * servers see a change when they read the app again or watch the store, and at once if CURLEW_ADMIN_URL names one.
 */
#pragma once

#include "cli/cli_store.h"
#include "cli/command_text.h"
#include "cli/options.h"

/* Runs `curlew apps ARGUMENTS...` on the main thread and returns the exit code, an enum cli_exit. */
int apps_run(char **arguments);

/* The command of `curlew apps` that was probably meant by a word that is none; empty if none is near. */
struct slice apps_command_meant(const char *word);

/* What `curlew apps` says about itself, without the list of its commands. */
extern const char apps_usage[];

/* The texts of its command with this number; false if there are fewer. */
bool apps_command_text(size_t index, struct command_text *text);

/* The commands. Their options are checked; each prints its own errors. */
enum cli_exit apps_list(const struct cli_options *options);
enum cli_exit apps_show(const struct cli_options *options);
enum cli_exit apps_export(const struct cli_options *options);

enum cli_exit apps_create(const struct cli_options *options);
enum cli_exit apps_update(const struct cli_options *options);
enum cli_exit apps_delete(const struct cli_options *options);
enum cli_exit apps_enable(const struct cli_options *options);
enum cli_exit apps_disable(const struct cli_options *options);
enum cli_exit apps_rotate_secret(const struct cli_options *options);
enum cli_exit apps_encrypt_secrets(const struct cli_options *options);

enum cli_exit apps_test_webhook(const struct cli_options *options);

enum cli_exit apps_confirm_removal(const struct cli_options *options);

enum cli_exit apps_import(const struct cli_options *options);
enum cli_exit apps_copy(const struct cli_options *options);
