/*
 * The apps of the memory driver: all of them are read at the start, and again with the configuration. Lookups are
 * answered at once from an immutable index, which a reload replaces as a whole.
 */
#pragma once

#include <stdbool.h>

#include "app_manager/app_manager_types.h"
#include "config/config.h"
#include "store/store.h"

struct memory_apps;

/* What changed when the configuration was read again. */
struct app_changes {
    unsigned added, changed, removed;
    unsigned held; /* removals that are held, see mass_removal.h */
};

/* Reads the apps of `config`. `defaults` outlives them. NULL with an error if the configuration can never work. */
struct memory_apps *memory_apps_create(const struct config *config, const struct app_defaults *defaults,
                                       struct workers *workers, const struct app_manager_hooks *hooks,
                                       struct error *error);
/* NULL: none. The workers have ended. */
void memory_apps_destroy(struct memory_apps *apps);

/* Takes over the apps of `config`, then runs the hook `changed` on every worker. A record that is broken now leaves the
 * last valid one in force. If too many apps are gone, they stay for a while; a second reload without them removes them.
 * On the main thread; false with an error if nothing was changed. */
bool memory_apps_reload(struct memory_apps *apps, const struct config *config, struct app_changes *changes,
                        struct error *error);

/* When the apps whose removal is held are to be removed; UINT64_MAX: none is held. On the main thread. */
uint64_t memory_apps_removal_due_ms(const struct memory_apps *apps);
/* Removes them if it is time. On the main thread. */
void memory_apps_remove_held(struct memory_apps *apps, uint64_t now_ms);
/* For the metrics page; see app_manager_read_removals. Any thread. */
void memory_apps_read_removals(const struct memory_apps *apps, uint64_t *total, uint64_t *held);

/* Never APP_PENDING. On a worker. */
enum app_answer memory_apps_find(struct memory_apps *apps, enum name_kind kind, struct slice name,
                                 struct app_lookup *lookup);

/* True if there is any app, valid or broken. Any thread. */
bool memory_apps_any(struct memory_apps *apps);

/* Calls `each` for every slot, without a lock; records are valid until this returns. Any thread. */
void memory_apps_each_slot(struct memory_apps *apps, void (*each)(struct app_slot *slot, void *context), void *context);
