#include "app_manager/cache/cache_effects.h"

#include <stdlib.h>
#include <string.h>

#include "app/app_change.h"
#include "base/alloc.h"
#include "base/log.h"

void cache_surroundings_init(struct cache_surroundings *surroundings, struct workers *workers,
                             const struct app_manager_hooks *hooks, const struct app_defaults *defaults,
                             const struct config *config, const struct app_store *store) {
    surroundings->workers = workers;
    surroundings->hooks = hooks;
    surroundings->defaults = defaults;
    cache_secrets_init(&surroundings->secrets, config, store);
    reclaimer_init(&surroundings->reclaimer, workers);
    atomic_init(&surroundings->close_pending, false);
}

void cache_surroundings_dispose(struct cache_surroundings *surroundings) {
    reclaimer_dispose(&surroundings->reclaimer);
}

void cache_effects_replace(struct cache_effects *effects, struct app *before, struct app *after) {
    app_unref(effects->replaced);
    app_unref(effects->changed);
    effects->replaced = before != NULL ? app_ref(before) : NULL;
    effects->changed = after != NULL ? app_ref(after) : NULL;
}

void cache_effects_log_broken(struct cache_effects *effects, const char *reason, bool keeps_last_valid) {
    free(effects->broken);
    effects->broken = alloc_copy(reason, strlen(reason));
    effects->keeps_last_valid = keeps_last_valid;
}

static void close_sessions(struct worker *worker, void *context) {
    struct cache_surroundings *surroundings = context;

    /* First: a change from now on may be missed by this look, and needs another one. */
    atomic_store(&surroundings->close_pending, false);
    surroundings->hooks->changed(worker, surroundings->hooks->context);
}

/* Logs fields that this version does not know and a newer server may have written: once for a record, not each time it
 * is read. */
static void warn_of_unknown_fields(const struct cache_surroundings *surroundings, const struct app *app) {
    json_t *record;
    struct error ignored;

    if (app->webhooks_json == NULL && app->delta_json == NULL)
        return;
    record = app_to_json(app);
    app_unref(app_parse(record, surroundings->defaults, APP_FROM_STORE, app_warn_to_log, NULL, &ignored));
    json_decref(record);
}

static void log_change(const struct cache_effects *effects) {
    if (effects->changed != NULL)
        app_change_log_bounded(effects->replaced->id, effects->replaced, effects->changed, "in the store");
    else
        app_change_log_removal(effects->replaced->id, effects->connections, "in the store");
}

void cache_effects_run(struct cache_effects *effects, struct cache_surroundings *surroundings) {
    /* All workers look, whether the app has connections or not: in this very turn one may accept a connection by the
     * record that it found a moment ago. One look serves all changes before it. */
    if (effects->closes_sessions && !atomic_exchange(&surroundings->close_pending, true))
        workers_run_on_all(surroundings->workers,
                           &(struct worker_task){.run = close_sessions, .context = surroundings});
    if ((effects->replaced != NULL || effects->changed != NULL) && surroundings->hooks->replaced != NULL)
        surroundings->hooks->replaced(effects->replaced, effects->changed, surroundings->hooks->context);
    if (effects->replaced != NULL && !effects->is_logged)
        log_change(effects);
    if (effects->changed != NULL) {
        warn_of_unknown_fields(surroundings, effects->changed);
        cache_secrets_warn(&surroundings->secrets, effects->changed, effects->is_logged);
    }
    if (effects->broken != NULL)
        log_error("app", "%s%s", effects->broken,
                  effects->keeps_last_valid ? "; its last valid record stays in force" : "");
    if (effects->removal_began != NULL)
        log_error("app", "%s", effects->removal_began);
    if (effects->removal_ended != NULL)
        log_info("app", "%s", effects->removal_ended);
    reclaim_batch_defer(&surroundings->reclaimer, &effects->unlinked);
    app_unref(effects->changed);
    app_unref(effects->replaced);
    free(effects->broken);
    free(effects->removal_began);
    free(effects->removal_ended);
    *effects = (struct cache_effects){0};
}
