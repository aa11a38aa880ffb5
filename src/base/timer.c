#include "base/timer.h"

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ms) {
    for (unsigned i = 0; i < TIMER_BUCKETS; i++)
        list_init(&wheel->buckets[i]);
    list_init(&wheel->due);
    wheel->now_s = (uint32_t)(now_ms / 1000);
}

void timer_set(struct timer_wheel *wheel, struct timer *timer, uint64_t now_ms, uint64_t delay_ms) {
    uint32_t due_s = (uint32_t)((now_ms + delay_ms + 999) / 1000);

    if (due_s <= wheel->now_s)
        due_s = wheel->now_s + 1;
    list_remove(&timer->link);
    timer->due_s = due_s;
    list_append(&wheel->buckets[due_s % TIMER_BUCKETS], &timer->link);
}

void timer_cancel(struct timer *timer) {
    list_remove(&timer->link);
}

static void collect_due(struct timer_wheel *wheel, struct list *bucket) {
    for (struct list *link = bucket->next, *next; link != bucket; link = next) {
        struct timer *timer = container_of(link, struct timer, link);

        next = link->next;
        if (timer->due_s <= wheel->now_s) {
            list_remove(link);
            list_append(&wheel->due, link);
        }
    }
}

bool timer_fire_next(struct timer_wheel *wheel) {
    struct timer *timer;

    if (list_empty(&wheel->due))
        return false;
    timer = container_of(wheel->due.next, struct timer, link);
    list_remove(&timer->link);
    timer->fire(timer);
    return true;
}

void timer_advance(struct timer_wheel *wheel, uint64_t now_ms) {
    uint32_t target_s = (uint32_t)(now_ms / 1000);
    uint32_t behind = target_s - wheel->now_s;

    if (behind >= TIMER_BUCKETS) { /* the process was stopped for minutes: check each bucket once */
        uint32_t first = wheel->now_s + 1;
        wheel->now_s = target_s;
        for (uint32_t i = 0; i < TIMER_BUCKETS; i++)
            collect_due(wheel, &wheel->buckets[(first + i) % TIMER_BUCKETS]);
        return;
    }
    while (wheel->now_s != target_s) {
        wheel->now_s++;
        collect_due(wheel, &wheel->buckets[wheel->now_s % TIMER_BUCKETS]);
    }
}

void timer_fire_all(struct timer_wheel *wheel) {
    wheel->now_s = UINT32_MAX;
    do { /* a timer that fires may set others */
        while (timer_fire_next(wheel))
            ;
        for (uint32_t i = 0; i < TIMER_BUCKETS; i++)
            collect_due(wheel, &wheel->buckets[i]);
    } while (!list_empty(&wheel->due));
}
