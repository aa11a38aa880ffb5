#include "app_manager/app_manager.h"

#include <stdlib.h>

#include "app_manager/cache/cache.h"
#include "app_manager/cache/cache_invalidate.h"
#include "app_manager/cache/cache_outage.h"
#include "app_manager/cache/cache_removal.h"
#include "base/alloc.h"
#include "store/drivers.h"

struct app_manager {
    struct app_defaults defaults;
    const struct app_manager_hooks *hooks;
    struct memory_apps *memory; /* the memory driver's; else NULL */
    struct app_cache *cache;    /* every other driver's; else NULL */
};

struct app_manager *app_manager_create(const struct config *config, struct workers *workers,
                                       const struct app_manager_hooks *hooks, struct error *error) {
    const struct app_store_driver *driver = app_store_driver_of(config->app_manager.driver);
    struct app_manager *manager = alloc_zero(sizeof *manager);

    manager->hooks = hooks;
    app_defaults_from_config(&manager->defaults, config);
    if (driver == &memory_store_driver)
        manager->memory = memory_apps_create(config, &manager->defaults, workers, hooks, error);
    else
        manager->cache = app_cache_create(config, driver, workers, hooks, error);
    if (manager->memory != NULL || manager->cache != NULL)
        return manager;
    free(manager);
    return NULL;
}

bool app_manager_start(struct app_manager *manager, struct error *error) {
    return manager->cache == NULL || app_cache_start(manager->cache, error);
}

bool app_manager_stop(struct app_manager *manager) {
    return manager->cache == NULL || app_cache_stop(manager->cache);
}

void app_manager_leave_snapshot(struct app_manager *manager) {
    if (manager->cache != NULL)
        app_cache_leave_snapshot(manager->cache);
}

void app_manager_destroy(struct app_manager *manager) {
    if (manager->cache != NULL)
        app_cache_destroy(manager->cache);
    memory_apps_destroy(manager->memory);
    free(manager);
}

bool app_manager_reload(struct app_manager *manager, const struct config *config, struct app_changes *changes,
                        struct error *error) {
    app_defaults_from_config(&manager->defaults, config);
    return memory_apps_reload(manager->memory, config, changes, error);
}

uint64_t app_manager_removal_due_ms(const struct app_manager *manager) {
    return manager->memory != NULL ? memory_apps_removal_due_ms(manager->memory) : UINT64_MAX;
}

void app_manager_remove_held(struct app_manager *manager, uint64_t now_ms) {
    if (manager->memory != NULL)
        memory_apps_remove_held(manager->memory, now_ms);
}

size_t app_manager_confirm_removal(struct app_manager *manager) {
    return app_cache_confirm_removal(manager->cache);
}

/* --- lookups --- */

static enum app_answer find_by_name(struct app_manager *manager, struct worker *worker, enum name_kind kind,
                                    struct slice name, struct app_lookup *lookup) {
    if (manager->cache != NULL)
        return app_cache_find(manager->cache, worker, kind, name, lookup);
    return memory_apps_find(manager->memory, kind, name, lookup);
}

enum app_answer app_manager_find_by_key(struct app_manager *manager, struct worker *worker, struct slice key,
                                        struct app_lookup *lookup) {
    return find_by_name(manager, worker, NAME_KEY, key, lookup);
}

enum app_answer app_manager_find_by_id(struct app_manager *manager, struct worker *worker, struct slice id,
                                       struct app_lookup *lookup) {
    return find_by_name(manager, worker, NAME_ID, id, lookup);
}

void app_manager_cancel(struct app_manager *manager, struct app_lookup *lookup) {
    if (manager->cache != NULL) /* nothing else lets a lookup wait */
        app_cache_cancel(lookup);
}

bool app_manager_has_apps(struct app_manager *manager) {
    return manager->cache != NULL || memory_apps_any(manager->memory);
}

void app_manager_each_slot(struct app_manager *manager, void (*each)(struct app_slot *slot, void *context),
                           void *context) {
    if (manager->cache != NULL)
        app_cache_each_slot(manager->cache, each, context);
    else
        memory_apps_each_slot(manager->memory, each, context);
}

/* --- jobs --- */

static enum store_answer run_job(struct store_operation *operation, struct store_connection *connection,
                                 struct error *error) {
    struct app_job *job = container_of(operation, struct app_job, operation);
    enum store_answer answer;

    job->error.text[0] = '\0';
    answer = job->run(job, connection);
    *error = job->error;
    return answer;
}

static void deliver_job(struct worker *worker, struct message *message, struct message **rest) {
    struct app_job *job = container_of(message, struct app_job, message);

    (void)worker;
    (void)rest;
    if (job->done != NULL)
        job->done(job);
    job->destroy(job);
}

static void finish_job(struct store_operation *operation, enum store_answer answer, const struct error *error) {
    struct app_job *job = container_of(operation, struct app_job, operation);

    job->answer = answer;
    job->error = *error;
    app_cache_note_answer(job->manager->cache, operation, answer, error);
    job->message = (struct message){.handle = deliver_job};
    worker_post(job->worker, &job->message);
}

void app_manager_submit(struct app_manager *manager, struct worker *worker, struct app_job *job, uint32_t timeout_ms) {
    job->manager = manager;
    job->worker = worker;
    job->operation.run = run_job;
    job->operation.finished = finish_job;
    app_cache_submit(manager->cache, &job->operation, timeout_ms);
}

uint64_t app_manager_write_version(struct app_manager *manager) {
    return app_cache_write_version(manager->cache);
}

uint64_t app_manager_written(struct app_manager *manager, uint64_t write_version, struct slice id,
                             const struct app *before, const struct app *after) {
    uint64_t connections = app_cache_written(manager->cache, write_version, id, before, after);

    if (manager->hooks->written != NULL)
        manager->hooks->written(id, before != NULL ? before->key : SLICE(""), after != NULL ? after->key : SLICE(""),
                                true, manager->hooks->context);
    return connections;
}

void app_manager_invalidate(struct app_manager *manager, struct slice id, struct slice key) {
    if (manager->cache == NULL)
        return;
    app_cache_invalidate(manager->cache, id, SLICE(""), key, true);
    if (manager->hooks->written != NULL)
        manager->hooks->written(id, SLICE(""), key, true, manager->hooks->context);
}

void app_manager_refresh(struct app_manager *manager, struct slice id, struct slice old_key, struct slice new_key,
                         bool meant) {
    if (manager->cache != NULL)
        app_cache_invalidate(manager->cache, id, old_key, new_key, meant);
}

void app_manager_refresh_all(struct app_manager *manager) {
    if (manager->cache != NULL)
        app_cache_invalidate_all(manager->cache);
}

bool app_manager_has_store(const struct app_manager *manager) {
    return manager->cache != NULL;
}

const struct app_defaults *app_manager_defaults(const struct app_manager *manager) {
    return &manager->defaults;
}

/* --- for the health and metrics pages --- */

enum app_health app_manager_health(struct app_manager *manager) {
    if (manager->cache != NULL)
        return app_cache_health(manager->cache);
    return memory_apps_any(manager->memory) ? APP_HEALTH_OK : APP_HEALTH_ERROR;
}

bool app_manager_health_known(struct app_manager *manager) {
    return manager->cache == NULL || app_cache_health_known(manager->cache);
}

bool app_manager_read_stats(struct app_manager *manager, struct app_lookup_stats *lookups,
                            struct store_pool_stats *pool) {
    if (manager->cache == NULL)
        return false;
    app_cache_read_stats(manager->cache, lookups, pool);
    return true;
}

void app_manager_read_removals(struct app_manager *manager, uint64_t *total, uint64_t *held) {
    if (manager->cache != NULL)
        app_cache_read_removals(manager->cache, total, held);
    else
        memory_apps_read_removals(manager->memory, total, held);
}
