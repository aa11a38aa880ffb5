/*
 * A whole server in one thread, for fuzz_world.c: workers, apps of the driver `memory`, sessions, channels and the HTTP
 * API, built as src/server builds them. The target says which worker runs its next turn, and what time it is.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"

#define WORLD_WORKERS 3
#define WORLD_APPS 2
#define WORLD_SECRET "secret"
#define WORLD_CACHE_TTL_S 60
#define WORLD_MAX_MESSAGES 16 /* unsent messages of a connection, before it is closed as a slow reader */

/* What changes in an app's record. App 0 has the id "1" and the key "key1", app 1 the id "2" and the key "key2". */
struct world_app {
    bool present, enabled, client_events, subscription_count;
    unsigned max_members; /* of a presence channel; 0: no limit */
};

/* Builds the server. All apps are present, enabled and without limits. */
void world_start(void);

/* Reads the apps again, as a SIGHUP does. */
void world_reload(const struct world_app apps[WORLD_APPS]);

struct worker *world_worker(unsigned index);
/* Connects a client. */
struct memory_socket *world_connect(unsigned worker);
/* Begins an input: with other nodes (world_nodes.h), or without. */
void world_begin(bool other_nodes);
/* The slot of an app; NULL: there is none. */
struct app_slot *world_slot(unsigned app);
/* Runs a worker's turn; false if it had nothing to do. */
bool world_turn(unsigned worker);

/* Moves the clock to the next second, and does what the server does once a second. Timers fire in the next turns. */
void world_tick(void);
uint64_t world_now_ms(void);

/* Checks that no connection, channel and user is left, that what is counted in and out is equal, and that the account
 * of memory (base/budget.h) is empty. */
void world_check_empty(void);
