#include "app_manager/cache/cache_watch.h"

#include "app_manager/cache/cache_internal.h"
#include "app_manager/cache/cache_invalidate.h"

static void note_change(void *context, struct slice id, struct slice old_key, struct slice new_key) {
    struct app_cache *cache = context;
    const struct app_manager_hooks *hooks = cache->surroundings.hooks;

    app_cache_invalidate(cache, id, old_key, new_key, false);
    if (hooks->written != NULL)
        hooks->written(id, old_key, new_key, false, hooks->context);
}

static void note_any_change(void *context) {
    app_cache_invalidate_all(context);
}

void *cache_watch_run(void *context) {
    struct app_cache *cache = context;
    const struct store_watcher watcher = {
        .changed = note_change, .anything_changed = note_any_change, .context = cache};

    store_watch(cache->store, cache->config->app_manager.lookup_timeout_ms, store_pool_stop_fd(cache->pool), &watcher);
    return NULL;
}
