#include "app_manager/cache/cache_health.h"

#define PROBE_INTERVAL_MS 1000
#define FRESH_MS 1000 /* an answer of the store stands for its health for so long */

void store_health_init(struct store_health *health, uint64_t timeout_ms) {
    *health = (struct store_health){.timeout_ms = timeout_ms};
}

/* An operation that got no connection in time tells something about the store only if no other one was answered for as
 * long: else the store answers, and there is more to do than it can. */
static bool tells_nothing(const struct store_health *health, bool asked, uint64_t now_ms) {
    return !asked && health->answered_ms != 0 && now_ms < health->answered_ms + health->timeout_ms;
}

bool store_health_note(struct store_health *health, bool asked, bool failed, uint64_t now_ms) {
    if (failed && tells_nothing(health, asked, now_ms))
        return false;
    if (!failed)
        health->answered_ms = now_ms;
    if (failed == health->outage)
        return false;
    health->outage = failed;
    health->outages += failed;
    return true;
}

enum app_health store_health_state(const struct store_health *health) {
    if (health->answered_ms != 0 && !health->outage)
        return APP_HEALTH_OK;
    return health->ever_loaded ? APP_HEALTH_DEGRADED : APP_HEALTH_ERROR;
}

bool store_health_known(const struct store_health *health, uint64_t now_ms) {
    return health->outage || now_ms < health->answered_ms + FRESH_MS;
}

bool store_health_begin_probe(struct store_health *health, uint64_t now_ms) {
    if (!health->outage || health->probing || now_ms < health->probed_ms + PROBE_INTERVAL_MS)
        return false;
    health->probing = true;
    health->probed_ms = now_ms;
    return true;
}

void store_health_end_probe(struct store_health *health) {
    health->probing = false;
}
