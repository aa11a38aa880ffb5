/*
 * The snapshot of the cache in a file (app_manager.cache.snapshot_path): a start while the store cannot be reached
 * serves the apps of the last run.
 *
 *   start: file --> entries that have expired; a lookup asks the store first, and gets the old record only if that
 *          cannot be reached, within stale_if_error since the store gave the record
 *   run:   entries --> file, when they have changed; on a thread of its own, since disks may hang
 *
 * The first answer of the store about such an app counts: one that it does not have is gone at once.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

struct app_cache;

struct cache_snapshot {
    const char *path; /* NULL: there is none */
    struct buffer place;
    pthread_cond_t wake; /* the cache stops; with the cache's mutex */
    pthread_t thread;
    bool runs;
    /* Of the thread. */
    uint64_t written_changes, written_loads, written_ms;
    bool left;   /* another process writes it; with the cache's mutex */
    bool failed; /* the last attempt to write; logged once */
};

void cache_snapshot_init(struct app_cache *cache);
void cache_snapshot_dispose(struct app_cache *cache);

/* Reads the file, and starts the thread. Before the workers run. False with an error if the thread cannot be started;
 * whatever the file is, it is no error. */
bool cache_snapshot_start(struct app_cache *cache, struct error *error);
/* Writes no more, since another process does. On the main thread. */
void cache_snapshot_leave(struct app_cache *cache);
/* Waits for the last write, which begins when the cache is stopping. False if the disk hangs. */
bool cache_snapshot_stop(struct app_cache *cache);
