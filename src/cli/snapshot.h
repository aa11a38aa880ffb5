/*
 * All apps of a store, read in pages: for a dry run, which would otherwise ask for each app alone.
 */
#pragma once

#include "cli/cli_store.h"

struct snapshot;

/* Reads the store, whose table may be missing. NULL with an error. */
struct snapshot *snapshot_read(struct cli_store *store, struct error *error);
void snapshot_free(struct snapshot *snapshot);

/* As the operations of cli_store.h; the app is the caller's reference. */
enum store_answer snapshot_find_by_id(const struct snapshot *snapshot, struct slice id, struct app **app,
                                      struct error *error);
enum store_answer snapshot_find_by_key(const struct snapshot *snapshot, struct slice key, struct app **app,
                                       struct error *error);
