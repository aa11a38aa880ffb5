/*
 * The watch thread: hears from the store of changes that others make, for drivers that can tell.
 */
#pragma once

/* Runs until the pool's stop descriptor is readable; `cache` is a struct app_cache. */
void *cache_watch_run(void *cache);
