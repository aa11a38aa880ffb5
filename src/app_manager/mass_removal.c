#include "app_manager/mass_removal.h"

#define LEAST_APPS 3

bool mass_removal_is(size_t vanished, size_t known) {
    return vanished >= LEAST_APPS && vanished > known / 2;
}

bool mass_removal_of_reload(size_t vanished, size_t known, bool leaves_none) {
    return vanished != 0 && (leaves_none || mass_removal_is(vanished, known));
}

/* --- the last seconds --- */

static void move_window(struct mass_removal *removals, uint64_t now_ms) {
    uint64_t second = now_ms / 1000;

    for (unsigned i = 0; i < MASS_REMOVAL_WINDOW_S && removals->second < second; i++) {
        removals->second++;
        removals->counts[removals->second % MASS_REMOVAL_WINDOW_S].vanished = 0;
        removals->counts[removals->second % MASS_REMOVAL_WINDOW_S].removed = 0;
    }
    if (removals->second < second) /* all of them are empty */
        removals->second = second;
}

size_t mass_removal_vanished(struct mass_removal *removals, uint64_t now_ms) {
    size_t sum = 0;

    move_window(removals, now_ms);
    for (unsigned i = 0; i < MASS_REMOVAL_WINDOW_S; i++)
        sum += removals->counts[i].vanished;
    return sum;
}

static size_t removed_in_window(const struct mass_removal *removals) {
    size_t sum = 0;

    for (unsigned i = 0; i < MASS_REMOVAL_WINDOW_S; i++)
        sum += removals->counts[i].removed;
    return sum;
}

static void note_vanished(struct mass_removal *removals, struct vanishing *app, uint64_t now_ms) {
    move_window(removals, now_ms);
    removals->counts[removals->second % MASS_REMOVAL_WINDOW_S].vanished++;
    removals->last_vanished_ms = now_ms;
    app->since_ms = now_ms;
}

/* --- one app --- */

static uint64_t later_of(uint64_t left_ms, uint64_t right_ms) {
    return left_ms > right_ms ? left_ms : right_ms;
}

/* When it is to be decided: while more and more apps vanish, not yet. */
static uint64_t decision_ms(const struct mass_removal *removals, const struct vanishing *app, uint32_t confirm_ms,
                            size_t vanished, size_t all) {
    uint64_t due_ms = app->since_ms + confirm_ms, last_ms = app->since_ms + MASS_REMOVAL_WINDOW_S * UINT64_C(1000);

    if (removals->grace_ms == 0 || all < LEAST_APPS)
        return due_ms;
    due_ms = later_of(due_ms, app->since_ms + MASS_REMOVAL_SETTLE_MS);
    if (vanished >= LEAST_APPS)
        due_ms = later_of(due_ms, removals->last_vanished_ms + MASS_REMOVAL_SETTLE_MS);
    return due_ms < last_ms ? due_ms : last_ms;
}

static void hold_app(struct mass_removal *removals, struct vanishing *app, uint64_t now_ms) {
    bool begins = removals->held == 0 || now_ms > removals->last_held_ms + MASS_REMOVAL_WINDOW_S * UINT64_C(1000);

    removals->began |= begins;
    removals->total += begins;
    removals->last_held_ms = now_ms;
    if (removals->held == 0)
        removals->removed = removals->returned = 0;
    removals->held++;
    app->held_until_ms = now_ms + removals->grace_ms;
}

/* Forgets the app; counts it if its removal was held. */
static void end_vanishing(struct mass_removal *removals, struct vanishing *app, size_t *count) {
    if (app->held_until_ms != 0) {
        removals->held--;
        ++*count;
        removals->ended |= removals->held == 0;
    }
    *app = (struct vanishing){0};
}

enum removal_step mass_removal_step(struct mass_removal *removals, struct vanishing *app, uint32_t confirm_ms,
                                    size_t known, uint64_t now_ms) {
    size_t vanished, all;

    if (app->since_ms == 0)
        note_vanished(removals, app, now_ms);
    vanished = mass_removal_vanished(removals, now_ms);
    all = known + removed_in_window(removals);
    if (app->held_until_ms == 0) {
        app->next_ms = decision_ms(removals, app, confirm_ms, vanished, all);
        if (now_ms < app->next_ms)
            return REMOVAL_WAIT;
        if (removals->grace_ms != 0 && mass_removal_is(vanished, all))
            hold_app(removals, app, now_ms);
    }
    if (now_ms >= app->held_until_ms) {
        removals->counts[removals->second % MASS_REMOVAL_WINDOW_S].removed++;
        end_vanishing(removals, app, &removals->removed);
        return REMOVAL_GO;
    }
    app->next_ms = now_ms + MASS_REMOVAL_HELD_READ_MS;
    if (app->next_ms > app->held_until_ms)
        app->next_ms = app->held_until_ms;
    return REMOVAL_HELD;
}

static void forget_vanished(struct mass_removal *removals, const struct vanishing *app) {
    uint64_t second = app->since_ms / 1000;

    if (app->since_ms != 0 && second + MASS_REMOVAL_WINDOW_S > removals->second)
        removals->counts[second % MASS_REMOVAL_WINDOW_S].vanished--;
}

void mass_removal_returned(struct mass_removal *removals, struct vanishing *app) {
    forget_vanished(removals, app);
    end_vanishing(removals, app, &removals->returned);
}

void mass_removal_meant(struct mass_removal *removals, struct vanishing *app) {
    forget_vanished(removals, app);
    end_vanishing(removals, app, &removals->removed);
}
