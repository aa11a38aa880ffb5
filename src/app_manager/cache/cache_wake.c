#include "app_manager/cache/cache_wake.h"

#include "base/thread.h"

void cache_wake_init(struct cache_wake *wake) {
    *wake = (struct cache_wake){0};
    condition_init(&wake->condition);
}

void cache_wake_dispose(struct cache_wake *wake) {
    pthread_cond_destroy(&wake->condition);
}

void cache_wake_for_sweep(struct cache_wake *wake) {
    wake->sweep_wanted = true;
    pthread_cond_signal(&wake->condition);
}

void cache_wake_for_sweep_at(struct cache_wake *wake, uint64_t at_ms) {
    if (wake->sweep_at_ms != 0 && wake->sweep_at_ms <= at_ms)
        return;
    wake->sweep_at_ms = at_ms;
    pthread_cond_signal(&wake->condition);
}

void cache_wake_for_work(struct cache_wake *wake) {
    wake->work_waits = true;
    if (wake->sleeps_long)
        pthread_cond_signal(&wake->condition);
}
