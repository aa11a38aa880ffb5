/*
 * The log of recent writes to the store. A query that began before a write may have read the old record: its answer
 * never fills the cache, it is asked again.
 *
 *   version at the start of the query --- a write of the same app? --- answer
 *
 * Every write has a number, its version. Not thread-safe: the cache's mutex guards it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/slice.h"

#define WRITE_LOG_MAX 10000

struct write_log {
    struct list writes; /* the oldest first */
    size_t count;
    uint64_t last; /* version of the last write */
    /* Version of the last write that is not in the list any more, or concerned every app. */
    uint64_t forgotten;
    uint64_t keep_ms;
};

/* Writes are kept for `keep_ms`, longer than a query takes. */
void write_log_init(struct write_log *log, uint64_t keep_ms);
void write_log_dispose(struct write_log *log);

/* The version of the last write. */
uint64_t write_log_version(const struct write_log *log);

/* Adds the write of an app: its id, and its keys before and after. Each may be empty. */
void write_log_add(struct write_log *log, struct slice id, struct slice old_key, struct slice new_key, uint64_t now_ms);
/* Any app may have been written. */
void write_log_add_any(struct write_log *log);

/* True if a write after that of version `since` concerns the app or the key. Each may be empty. */
bool write_log_concerns(const struct write_log *log, uint64_t since, struct slice id, struct slice key);

/* Forgets writes that are too old for any query. */
void write_log_trim(struct write_log *log, uint64_t now_ms);
