#include "server/housekeeping.h"

#include "base/log.h"
#include "base/memory_usage.h"

#define INTERVAL_MS 1000

static void check_memory(struct session_server *sessions) {
    double threshold = sessions->config->http_api.accept_traffic.memory_threshold;
    struct memory_usage usage;
    bool full;

    if (!memory_usage(&usage))
        return;
    full = memory_usage_share(&usage) > threshold;
    if (full == atomic_load_explicit(&sessions->memory_full, memory_order_relaxed))
        return;
    atomic_store(&sessions->memory_full, full);
    if (full)
        log_warning("server",
                    "%.1f %% of the memory is used: new connections are refused with 4100 until it is below "
                    "http_api.accept_traffic.memory_threshold (%.2f) again",
                    100 * memory_usage_share(&usage), threshold);
    else
        log_info("server", "memory is below the threshold again: new connections are accepted");
}

static void log_memory_refusals(struct memory_refusals *refusals, uint64_t now_ms) {
    char text[MEMORY_REFUSALS_TEXT];

    if (memory_refusals_due(refusals, now_ms, text))
        log_warning("server", "%s", text);
}

static void on_interval(struct timer *timer) {
    struct housekeeping *housekeeping = container_of(timer, struct housekeeping, timer);
    struct worker *worker = housekeeping->worker;

    log_write_repeats();
    check_memory(housekeeping->sessions);
    log_memory_refusals(&housekeeping->refusals, worker->now_ms);
    descriptors_read_limit(&worker->all->descriptors);
    channel_hub_expire(housekeeping->sessions->channels, worker->now_ms);
    idempotency_expire(housekeeping->idempotency, worker->now_ms);
    tls_tickets_rotate(housekeeping->tickets, worker->now_ms);
    if (!worker->stopping)
        timer_set(&worker->timers, timer, worker->now_ms, INTERVAL_MS);
}

void housekeeping_start(struct housekeeping *housekeeping, struct worker *worker, struct session_server *sessions,
                        struct idempotency *idempotency, struct tls_tickets *tickets) {
    housekeeping->timer = (struct timer){.fire = on_interval};
    housekeeping->worker = worker;
    housekeeping->sessions = sessions;
    housekeeping->idempotency = idempotency;
    housekeeping->tickets = tickets;
    check_memory(sessions); /* the first connection may arrive within the first second */
    timer_set(&worker->timers, &housekeeping->timer, worker->now_ms, INTERVAL_MS);
}

void housekeeping_stop(struct housekeeping *housekeeping) {
    timer_cancel(&housekeeping->timer);
}
