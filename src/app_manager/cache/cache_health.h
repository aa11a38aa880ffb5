/*
 * The health of the store, by the answers of its operations. Not thread-safe: the cache's mutex guards it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "app_manager/app_manager_types.h"

struct store_health {
    uint64_t timeout_ms;  /* of an operation */
    bool outage;          /* the store cannot be reached */
    uint64_t outages;     /* how often that began */
    uint64_t answered_ms; /* when the store last answered; 0: never */
    bool ever_loaded;     /* a record was found at least once */
    bool probing;         /* a probe is in flight */
    uint64_t probed_ms;
};

void store_health_init(struct store_health *health, uint64_t timeout_ms);

/*
 * Notes how an operation ended: `failed` if the store could not be reached; `asked` false if the operation never came
 * to a connection. True if an outage has begun or ended.
 */
bool store_health_note(struct store_health *health, bool asked, bool failed, uint64_t now_ms);

enum app_health store_health_state(const struct store_health *health);
/* True if the store has answered within the last second, or has an outage: there is no need to ask it. */
bool store_health_known(const struct store_health *health, uint64_t now_ms);

/* True once a second in an outage: the caller sends a probe, so that the end of the outage is noticed. */
bool store_health_begin_probe(struct store_health *health, uint64_t now_ms);
void store_health_end_probe(struct store_health *health);
