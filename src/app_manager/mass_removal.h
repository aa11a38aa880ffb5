/*
 * Mass removals: apps that vanish from the configuration or the store in such a number that it is probably a mistake,
 * as while a file is replaced or a table is restored. Such a removal is held for a grace period, in which the apps stay
 * in force.
 *
 *   vanished ---> looked up again ---> few: removed
 *                          \---------> at least 3, and more than half of all: held ---> removed
 *                                      \--- back, at any time ---> nothing happened
 *
 * This decides, and does nothing else. The clock is its user's, who guards it as well: the main thread for the driver
 * `memory`, the cache's mutex for other drivers.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MASS_REMOVAL_WINDOW_S 10
#define MASS_REMOVAL_SETTLE_MS 300     /* until a vanished app is looked up again: others may have vanished, too */
#define MASS_REMOVAL_HELD_READ_MS 5000 /* between the lookups of an app whose removal is held */

/* True if so many apps are not to be removed at once. */
bool mass_removal_is(size_t vanished, size_t known);

/* The same for a reload of all apps: the last app never goes at once. */
bool mass_removal_of_reload(size_t vanished, size_t known, bool leaves_none);

/* What is known of an app that was not found. {0}: it was found. */
struct vanishing {
    uint64_t since_ms;      /* when it was not found first */
    uint64_t held_until_ms; /* 0: its removal is not held */
    uint64_t next_ms;       /* when it is to be looked up again */
};

struct mass_removal {
    uint64_t grace_ms; /* 0: no removal is held */
    /* Of the last seconds, by second. */
    struct {
        uint32_t vanished, removed;
    } counts[MASS_REMOVAL_WINDOW_S];
    uint64_t second; /* the latest one that is counted */
    uint64_t last_vanished_ms;
    uint64_t last_held_ms;
    uint64_t total;           /* mass removals that were held */
    size_t held;              /* apps whose removal is held now */
    size_t removed, returned; /* apps whose removal was held, since `held` was 0 */
    /* Set when a mass removal begins to be held, and when no app is held any more; its user clears them. */
    bool began, ended;
};

enum removal_step {
    REMOVAL_WAIT, /* look it up again at next_ms */
    REMOVAL_HELD, /* it stays in force; look it up again at next_ms */
    REMOVAL_GO,   /* remove it; it is forgotten here */
};

/* An app was not found, for the first time or again. `confirm_ms`: it stays at least for so long. `known`: all apps in
 * force, this one included. */
enum removal_step mass_removal_step(struct mass_removal *removals, struct vanishing *app, uint32_t confirm_ms,
                                    size_t known, uint64_t now_ms);

/* The app was found again. */
void mass_removal_returned(struct mass_removal *removals, struct vanishing *app);
/* The app is removed on purpose: its removal does not count. */
void mass_removal_meant(struct mass_removal *removals, struct vanishing *app);

/* Apps that have vanished within the last seconds. */
size_t mass_removal_vanished(struct mass_removal *removals, uint64_t now_ms);
