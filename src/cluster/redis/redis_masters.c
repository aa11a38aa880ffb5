#include "cluster/redis/redis_masters.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "cluster/redis/redis_attempts.h"

/* The topology is read so often if nothing seems to have changed, and at most so often if something has. */
#define REFRESH_MS 60000
#define REFRESH_AGAIN_MS 50
/* And while slots have no master. */
#define REFRESH_UNOWNED_MS 500

/* A master without slots still answers what was sent to it. */
#define RETIRE_MS 1000

static struct loop *loop_of(const struct redis_masters *masters) {
    return masters->settings.loop;
}

/* --- those of the newest topology, and former ones --- */

static void dispose_former_masters(struct redis_masters *masters) {
    while (masters->former_count > 0)
        redis_shard_destroy(masters->former[--masters->former_count]);
}

/* What was lost on its way to a former master does not hold up the rest. */
static void on_masters_sweep(struct loop_timer *timer) {
    struct redis_masters *masters = container_of(timer, struct redis_masters, sweep);

    if (!redis_slots_are_walked(masters->slots)) { /* a slot may still be with one of them */
        loop_timer_set(loop_of(masters), timer, RETIRE_MS);
        return;
    }
    dispose_former_masters(masters);
    if (masters->slots->up)
        redis_slots_walk(masters->slots);
}

/* The shard of the place, which is made if there is none. */
static struct redis_shard *take_master(struct redis_masters *masters, const struct redis_place *place) {
    for (size_t i = 0; i < masters->shard_count; i++)
        if (masters->shards[i] != NULL && redis_place_equal(&masters->shards[i]->place, place)) {
            struct redis_shard *shard = masters->shards[i];
            masters->shards[i] = NULL;
            return shard;
        }
    return redis_shard_create(&masters->settings, place, !masters->slots->up);
}

/* A shard that is not in the topology any more may be in the middle of an event, so it is freed later. */
static void retire_masters(struct redis_masters *masters) {
    masters->former =
        alloc_array(masters->former, masters->former_count + masters->shard_count + 1, sizeof *masters->former);
    for (size_t i = 0; i < masters->shard_count; i++)
        if (masters->shards[i] != NULL) {
            masters->shards[i]->current = false;
            masters->former[masters->former_count++] = masters->shards[i];
        }
    if (masters->former_count > 0)
        loop_timer_set(loop_of(masters), &masters->sweep, RETIRE_MS);
}

void redis_masters_apply(struct redis_masters *masters, uint64_t timeout_ms) {
    const struct redis_topology *topology = masters->topology;
    struct redis_shard **shards = alloc_array(NULL, topology->master_count, sizeof *shards);

    for (size_t i = 0; i < topology->master_count; i++) {
        shards[i] = take_master(masters, &topology->masters[i]);
        shards[i]->current = true;
    }
    for (size_t slot = 0; slot < REDIS_SLOTS; slot++) {
        bool unowned = topology->owners[slot] == REDIS_NO_MASTER;
        redis_slots_assign(masters->slots, slot, shards[unowned ? 0 : topology->owners[slot]], unowned);
    }
    retire_masters(masters);
    free(masters->shards);
    masters->shards = shards;
    masters->shard_count = topology->master_count;
    redis_slots_locate(masters->slots);
    redis_slots_walk(masters->slots);
    for (size_t i = 0; i < masters->shard_count; i++)
        redis_shard_open(masters->shards[i], timeout_ms);
}

/* --- the question for the topology --- */

void redis_masters_ask(struct redis_masters *masters, struct redis_shard *teller) {
    uint64_t since_ms = loop_now_ms(loop_of(masters)) - masters->refreshed_ms;

    masters->next = teller;
    masters->ask_again = masters->asked != NULL;
    if (masters->asked == NULL && masters->slots->up)
        loop_timer_set(loop_of(masters), &masters->refresh,
                       since_ms < REFRESH_AGAIN_MS ? REFRESH_AGAIN_MS - since_ms : 0);
}

/* When the topology is read again after an answer to the question. */
static uint64_t masters_refresh_ms(const struct redis_masters *masters, bool good) {
    if (masters->ask_again || !good)
        return REFRESH_AGAIN_MS;
    return masters->topology->unowned > 0 ? REFRESH_UNOWNED_MS : REFRESH_MS;
}

static void on_topology_told(struct redis_request *request, const struct redis_value *value) {
    struct redis_masters *masters = container_of(request, struct redis_masters, question);
    const struct redis_shard *asked = masters->asked;
    struct error error;
    bool good;

    masters->asked = NULL;
    if (value == NULL || !masters->slots->up) /* the connection is lost, or closed */
        return;
    good = redis_topology_read_partly(masters->topology, value, &asked->place, &error);
    if (good)
        redis_masters_apply(masters, REDIS_ATTEMPT_MS);
    masters->refreshed_ms = loop_now_ms(loop_of(masters));
    loop_timer_set(loop_of(masters), &masters->refresh, masters_refresh_ms(masters, good));
    masters->ask_again = false;
}

static void on_masters_refresh(struct loop_timer *timer) {
    static const struct slice words[] = {SLICE_INIT("CLUSTER"), SLICE_INIT("SLOTS")};
    struct redis_masters *masters = container_of(timer, struct redis_masters, refresh);

    masters->asked = masters->shards[0];
    for (size_t i = 0; i < masters->shard_count; i++)
        if (masters->shards[i] == masters->next)
            masters->asked = masters->next;
    masters->next = NULL;
    if (!redis_pipeline_is_up(&masters->asked->publisher)) {
        masters->asked = NULL;
        loop_timer_set(loop_of(masters), timer, REFRESH_AGAIN_MS);
        return;
    }
    masters->question.answered = on_topology_told;
    redis_pipeline_request(&masters->asked->publisher, &masters->question, words, 2);
    redis_pipeline_flush(&masters->asked->publisher);
}

/* --- the owner's functions --- */

void redis_masters_init(struct redis_masters *masters, const struct redis_shard_settings *settings,
                        struct redis_slots *slots, struct redis_topology *topology) {
    *masters = (struct redis_masters){.settings = *settings, .slots = slots, .topology = topology};
    masters->refresh.fire = on_masters_refresh;
    masters->sweep.fire = on_masters_sweep;
}

void redis_masters_close(struct redis_masters *masters) {
    loop_timer_end(loop_of(masters), &masters->refresh);
    for (size_t i = 0; i < masters->shard_count; i++)
        redis_shard_close(masters->shards[i]);
    for (size_t i = 0; i < masters->former_count; i++)
        redis_shard_close(masters->former[i]);
    masters->asked = masters->next = NULL;
    masters->ask_again = false;
}

void redis_masters_dispose(struct redis_masters *masters) {
    redis_masters_close(masters);
    loop_timer_end(loop_of(masters), &masters->sweep);
    dispose_former_masters(masters);
    for (size_t i = 0; i < masters->shard_count; i++)
        redis_shard_destroy(masters->shards[i]);
    free(masters->shards);
    free(masters->former);
}

void redis_masters_begin(struct redis_masters *masters) {
    masters->refreshed_ms = loop_now_ms(loop_of(masters));
    loop_timer_set(loop_of(masters), &masters->refresh, REFRESH_MS);
    for (size_t i = 0; i < masters->shard_count; i++)
        masters->shards[i]->subscriber.held = false;
}

bool redis_masters_are_ready(const struct redis_masters *masters) {
    for (size_t i = 0; i < masters->shard_count; i++)
        if (!redis_shard_is_ready(masters->shards[i]))
            return false;
    return true;
}

bool redis_masters_are_idle(const struct redis_masters *masters) {
    for (size_t i = 0; i < masters->shard_count; i++)
        if (!redis_pipeline_is_idle(&masters->shards[i]->publisher))
            return false;
    return true;
}

size_t redis_masters_waiting(const struct redis_masters *masters) {
    size_t bytes = 0;

    for (size_t i = 0; i < masters->shard_count; i++)
        bytes += redis_pipeline_waiting(&masters->shards[i]->publisher);
    return bytes;
}

void redis_masters_flush(struct redis_masters *masters) {
    for (size_t i = 0; i < masters->shard_count; i++) {
        redis_pipeline_flush(&masters->shards[i]->publisher);
        redis_subscriber_flush(&masters->shards[i]->subscriber);
    }
}
