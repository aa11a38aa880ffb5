#include "cluster/redis/redis_shards.h"

#include <openssl/ssl.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/buffer.h"
#include "base/crypto.h"
#include "cluster/redis/redis_finder.h"
#include "cluster/redis/redis_pipeline.h"
#include "cluster/redis/redis_slot_queue.h"
#include "cluster/redis/redis_subscriber.h"
#include "cluster/redis/redis_tls.h"
#include "config/config_redis.h"

/* As for one Redis (redis_bus.c). */
#define FIRST_ATTEMPT_MS 5000
#define ATTEMPT_MS 1000
#define PAUSE_FIRST_MS 100
#define PAUSE_LAST_MS 1000
#define STEADY_MS 5000
#define MESSAGE_BYTES_MAX (16 * 1024 * 1024)

/* The topology is read so often if nothing seems to have changed, and at most so often if something has. */
#define REFRESH_MS 60000
#define REFRESH_AGAIN_MS 50
/* And while slots have no master. */
#define REFRESH_UNOWNED_MS 500

/* A master without slots still answers what was sent to it. */
#define RETIRE_MS 1000

enum shards_phase { SHARDS_IDLE, SHARDS_PAUSING, SHARDS_LOCATING, SHARDS_CONNECTING, SHARDS_UP, SHARDS_CLOSED };

/* A master. */
struct redis_shard {
    struct redis_shards *bus;
    struct redis_place place;
    struct redis_pipeline publisher;
    struct redis_subscriber subscriber;
    struct redis_request check;
    bool checked; /* it knows sharded pub/sub */
    bool current; /* in the newest topology */
};

struct shard_slot {
    struct redis_shard *owner;  /* that has its subjects; NULL: no topology has come yet */
    struct redis_shard *target; /* the owner in the newest topology: the slot moves to it (walk_slots) */
    struct list subjects;       /* that are wanted; `pending`: not given to the owner's subscriber */
    struct redis_slot_queue queue;
    struct list link; /* of those that are not settled: something waits until the owner is known and ready */
    bool unsettled;
    bool unowned; /* no master has it: it stays unsettled, and what is published on it goes nowhere */
    bool located; /* the topology was read since it became so */
};

struct redis_shards {
    struct bus bus;
    struct loop *loop;
    SSL_CTX *tls;
    struct config_redis_server server; /* name, password and TLS of all nodes */
    struct redis_access access;
    struct redis_finder finder;
    struct redis_shard **shards, **retired; /* `retired` are freed after a while */
    size_t shard_count, retired_count;
    struct shard_slot *slots;
    struct redis_subjects wanted;
    struct list unsettled;
    size_t held_bytes; /* in the queues of slots */

    enum shards_phase phase;
    bool told_down; /* since it was last up */
    bool tried;     /* the first attempt is over */
    struct loop_timer timer, refresh, sweep;
    struct loop_timer walk; /* goes on with the walk over all slots */
    size_t walk_at;         /* the next slot; REDIS_SLOTS: there is no walk */
    uint64_t attempt_ends_ms, up_since_ms, refreshed_ms;
    uint32_t pause_ms;

    struct redis_request topology;
    struct redis_shard *asked;  /* for the topology; NULL: none is */
    struct redis_shard *teller; /* the one to ask next: it told of a change */
    bool ask_again;
    struct buffer check_subject;
    struct bus_bytes *check_bytes;

    void (*closed)(void *context);
    void *closed_context;
};

static struct redis_shards *shards_of(const struct bus *bus) {
    return container_of(bus, struct redis_shards, bus);
}

static bool shard_is_ready(const struct redis_shard *shard) {
    return shard->checked && redis_pipeline_is_up(&shard->publisher) && redis_subscriber_is_up(&shard->subscriber);
}

/* --- down --- */

static void drop_shard_connections(struct redis_shards *bus) {
    redis_finder_close(&bus->finder);
    loop_timer_end(bus->loop, &bus->refresh);
    for (size_t i = 0; i < bus->shard_count; i++) {
        redis_pipeline_close(&bus->shards[i]->publisher);
        redis_subscriber_close(&bus->shards[i]->subscriber);
        bus->shards[i]->subscriber.held = true;
        bus->shards[i]->checked = false;
    }
    for (size_t i = 0; i < bus->retired_count; i++)
        redis_pipeline_close(&bus->retired[i]->publisher);
    bus->asked = bus->teller = NULL;
    bus->ask_again = false;
    for (struct list *link = bus->unsettled.next; link != &bus->unsettled; link = link->next)
        redis_slot_queue_clear(&container_of(link, struct shard_slot, link)->queue);
    bus->held_bytes = 0;
}

/* Half of the pause is random, so that nodes do not come all at once. */
static void pause_shards(struct redis_shards *bus) {
    uint32_t random, half;

    bus->pause_ms = backoff_next_ms(bus->pause_ms, PAUSE_FIRST_MS, PAUSE_LAST_MS);
    half = bus->pause_ms / 2;
    random_bytes(&random, sizeof random);
    bus->phase = SHARDS_PAUSING;
    loop_timer_set(bus->loop, &bus->timer, half + random % (half + 1));
}

static void finish_shards_close(struct redis_shards *bus) {
    drop_shard_connections(bus);
    bus->phase = SHARDS_CLOSED;
    loop_timer_set(bus->loop, &bus->timer, 0);
}

static void fail_shards(struct redis_shards *bus, const char *why) {
    struct error error;

    error_set(&error, "%s", why);
    if (bus->closed != NULL) {
        finish_shards_close(bus);
        return;
    }
    if (bus->phase == SHARDS_UP && loop_now_ms(bus->loop) - bus->up_since_ms >= STEADY_MS)
        bus->pause_ms = 0;
    drop_shard_connections(bus);
    redis_finder_skip(&bus->finder);
    bus->tried = true;
    pause_shards(bus);
    if (bus->told_down)
        return;
    bus->told_down = true;
    bus->bus.events.down(bus->bus.events.context, error.text);
}

/* --- what a slot has waiting --- */

static void unsettle_slot(struct redis_shards *bus, struct shard_slot *slot) {
    slot->located = false;
    if (slot->unsettled)
        return;
    slot->unsettled = true;
    list_append(&bus->unsettled, &slot->link);
}

/* Gives the subjects that the owner's subscriber does not have to it. */
static void place_slot_subjects(struct shard_slot *slot) {
    if (slot->unowned)
        return;
    for (struct list *link = slot->subjects.next; link != &slot->subjects; link = link->next) {
        struct redis_subject *subject = container_of(link, struct redis_subject, link);

        if (!subject->pending)
            continue;
        subject->pending = false;
        redis_subscriber_add(&slot->owner->subscriber, redis_subject_text(subject));
    }
}

static void send_publication(struct shard_slot *slot, struct redis_publication *publication) {
    slot->queue.in_flight++;
    publication->context = slot->owner;
    redis_pipeline_publish_request(&slot->owner->publisher, &publication->request, SLICE("SPUBLISH"),
                                   redis_publication_subject(publication), publication->bytes);
}

static void interrupt_subject(struct redis_shards *bus, struct redis_subject *subject) {
    bool told = bus->phase == SHARDS_UP && subject->in_force;

    subject->in_force = false;
    if (told)
        bus->bus.events.interrupted(bus->bus.events.context, redis_subject_text(subject));
}

static void move_shard_slot(struct redis_shards *bus, struct shard_slot *slot) {
    struct redis_shard *before = slot->owner;
    struct list *next;

    slot->owner = slot->target;
    for (struct list *link = slot->subjects.next; link != &slot->subjects; link = next) {
        struct redis_subject *subject = container_of(link, struct redis_subject, link);

        next = link->next;
        if (before != NULL && !subject->pending)
            redis_subscriber_drop(&before->subscriber, redis_subject_text(subject));
        subject->pending = true;
        interrupt_subject(bus, subject);
    }
    place_slot_subjects(slot);
    /* The former owner may refuse what is on its way to it: that goes before what comes now. */
    if (slot->queue.in_flight > 0 && !slot->unsettled) {
        unsettle_slot(bus, slot);
        slot->located = true;
    }
}

/* Moves the slot to its owner in the newest topology. Called before the slot is used: the walk may not be there yet. */
static void update_slot_owner(struct redis_shards *bus, struct shard_slot *slot) {
    if (slot->owner != slot->target)
        move_shard_slot(bus, slot);
}

/* Sends what waits, if the owner is known and ready, and nothing is on its way any more that it could overtake. */
static void settle_slot(struct redis_shards *bus, struct shard_slot *slot) {
    struct redis_publication *publication;

    if (!slot->located)
        return;
    update_slot_owner(bus, slot);
    place_slot_subjects(slot);
    if (slot->queue.in_flight > 0 || !shard_is_ready(slot->owner))
        return;
    slot->unsettled = slot->located = false;
    list_remove(&slot->link);
    while ((publication = redis_slot_queue_take(&slot->queue)) != NULL) {
        bus->held_bytes -= publication->bytes->length;
        send_publication(slot, publication);
    }
    redis_pipeline_flush(&slot->owner->publisher);
}

/* --- the walk over all slots --- */

static void walk_slots(struct redis_shards *bus) {
    bus->walk_at = 0;
    loop_timer_set(bus->loop, &bus->walk, 0);
}

static void check_shards(struct redis_shards *bus);

/* Moves and settles slots until the turn has no time left. Each has few subjects: all together may have very many. */
static void on_shards_walk(struct loop_timer *timer) {
    struct redis_shards *bus = container_of(timer, struct redis_shards, walk);

    while (bus->walk_at < REDIS_SLOTS) {
        struct shard_slot *slot = &bus->slots[bus->walk_at++];

        update_slot_owner(bus, slot);
        if (slot->unsettled && bus->phase == SHARDS_UP)
            settle_slot(bus, slot);
        if (!loop_has_time(bus->loop) && bus->walk_at < REDIS_SLOTS) {
            loop_timer_set(bus->loop, timer, 0);
            return;
        }
    }
    if (bus->phase == SHARDS_CONNECTING)
        check_shards(bus);
}

/* --- the topology --- */

static void ask_for_topology(struct redis_shards *bus, struct redis_shard *teller) {
    uint64_t since_ms = loop_now_ms(bus->loop) - bus->refreshed_ms;

    bus->teller = teller;
    bus->ask_again = bus->asked != NULL;
    if (bus->asked == NULL && bus->phase == SHARDS_UP)
        loop_timer_set(bus->loop, &bus->refresh, since_ms < REFRESH_AGAIN_MS ? REFRESH_AGAIN_MS - since_ms : 0);
}

static bool on_shard_refused(void *context, struct slice text, const struct redis_value *value);
static bool on_shard_other(void *context, const struct redis_value *value);
static void on_shard_up(void *context);
static void on_shard_subscriber_up(void *context);
static void on_shard_idle(void *context);

static void on_shard_lost(void *context, const char *why) {
    const struct redis_shard *shard = context;

    if (shard->current) /* else it is about to be freed */
        fail_shards(shard->bus, why);
}

static void on_shard_in_force(void *context, struct slice text) {
    const struct redis_shard *shard = context;
    struct redis_subject *subject = redis_subjects_find(&shard->bus->wanted, text);

    if (subject == NULL)
        return;
    subject->in_force = true;
    shard->bus->bus.events.in_force(shard->bus->bus.events.context, text);
}

static void on_shard_message(void *context, struct bus_message *message) {
    const struct redis_shard *shard = context;

    shard->bus->bus.events.message(shard->bus->bus.events.context, message);
}

static struct redis_shard *create_shard(struct redis_shards *bus, const struct redis_place *place) {
    struct redis_shard *shard = alloc_zero(sizeof *shard);
    const struct redis_pipeline_events publisher_events = {
        .up = on_shard_up, .lost = on_shard_lost, .idle = on_shard_idle, .context = shard};
    const struct redis_subscriber_events subscriber_events = {.up = on_shard_subscriber_up,
                                                              .lost = on_shard_lost,
                                                              .in_force = on_shard_in_force,
                                                              .message = on_shard_message,
                                                              .other = on_shard_other,
                                                              .refused = on_shard_refused,
                                                              .context = shard};

    shard->bus = bus;
    shard->place = *place;
    redis_pipeline_init(&shard->publisher, bus->loop, &publisher_events);
    redis_subscriber_init(&shard->subscriber, bus->loop, REDIS_SHARDED, &subscriber_events);
    shard->subscriber.held = bus->phase != SHARDS_UP;
    return shard;
}

static void free_shard(struct redis_shard *shard) {
    redis_pipeline_close(&shard->publisher);
    redis_subscriber_dispose(&shard->subscriber);
    free(shard);
}

static void free_retired_shards(struct redis_shards *bus) {
    while (bus->retired_count > 0)
        free_shard(bus->retired[--bus->retired_count]);
}

/* What was lost on their way does not hold up the rest. */
static void on_shards_sweep(struct loop_timer *timer) {
    struct redis_shards *bus = container_of(timer, struct redis_shards, sweep);

    if (bus->walk_at < REDIS_SLOTS) { /* a slot may still be with one of them */
        loop_timer_set(bus->loop, timer, RETIRE_MS);
        return;
    }
    free_retired_shards(bus);
    if (bus->phase == SHARDS_UP)
        walk_slots(bus);
}

/* The shard of the place, which is made if there is none. */
static struct redis_shard *take_shard(struct redis_shards *bus, const struct redis_place *place) {
    for (size_t i = 0; i < bus->shard_count; i++)
        if (bus->shards[i] != NULL && redis_place_equal(&bus->shards[i]->place, place)) {
            struct redis_shard *shard = bus->shards[i];
            bus->shards[i] = NULL;
            return shard;
        }
    return create_shard(bus, place);
}

/* Makes the masters of the topology the shards, and begins to move what is with others. A shard that is left over may
 * be in the middle of an event, so it is freed later. */
/* Notes the master of a slot; `target` stands for one that is missing, and gets nothing of the slot. */
static void note_slot_owner(struct redis_shards *bus, struct shard_slot *slot, struct redis_shard *target,
                            bool unowned) {
    slot->target = target;
    slot->unowned = unowned;
    if (!unowned)
        return;
    unsettle_slot(bus, slot);
    bus->held_bytes -= redis_slot_queue_clear(&slot->queue);
}

static void apply_topology(struct redis_shards *bus) {
    const struct redis_topology *topology = &bus->finder.topology;
    struct redis_shard **shards = alloc_array(NULL, topology->master_count, sizeof *shards);

    for (size_t i = 0; i < topology->master_count; i++) {
        shards[i] = take_shard(bus, &topology->masters[i]);
        shards[i]->current = true;
    }
    for (size_t slot = 0; slot < REDIS_SLOTS; slot++) {
        bool unowned = topology->owners[slot] == REDIS_NO_MASTER;
        note_slot_owner(bus, &bus->slots[slot], shards[unowned ? 0 : topology->owners[slot]], unowned);
    }
    bus->retired = alloc_array(bus->retired, bus->retired_count + bus->shard_count + 1, sizeof *bus->retired);
    for (size_t i = 0; i < bus->shard_count; i++)
        if (bus->shards[i] != NULL) {
            bus->shards[i]->current = false;
            bus->retired[bus->retired_count++] = bus->shards[i];
        }
    free(bus->shards);
    bus->shards = shards;
    bus->shard_count = topology->master_count;
    if (bus->retired_count > 0)
        loop_timer_set(bus->loop, &bus->sweep, RETIRE_MS);
    for (struct list *link = bus->unsettled.next; link != &bus->unsettled; link = link->next)
        container_of(link, struct shard_slot, link)->located = !container_of(link, struct shard_slot, link)->unowned;
    walk_slots(bus);
}

static void connect_shards(struct redis_shards *bus, uint64_t timeout_ms) {
    for (size_t i = 0; i < bus->shard_count; i++) {
        struct redis_shard *shard = bus->shards[i];

        if (shard->subscriber.connection == NULL)
            redis_subscriber_open(&shard->subscriber, &shard->place, &bus->access, timeout_ms);
        if (shard->publisher.connection == NULL)
            redis_pipeline_open(&shard->publisher, &shard->place, &bus->access, timeout_ms);
    }
}

/* When the topology is read again after an answer to it. */
static uint64_t shards_refresh_ms(const struct redis_shards *bus, bool good) {
    if (bus->ask_again || !good)
        return REFRESH_AGAIN_MS;
    return bus->finder.topology.unowned > 0 ? REFRESH_UNOWNED_MS : REFRESH_MS;
}

static void on_topology_told(struct redis_request *request, const struct redis_value *value) {
    struct redis_shards *bus = container_of(request, struct redis_shards, topology);
    const struct redis_shard *asked = bus->asked;
    struct error error;
    bool good;

    bus->asked = NULL;
    if (value == NULL || bus->phase != SHARDS_UP) /* the connection is lost, or this one is retired */
        return;
    good = redis_topology_read_partly(&bus->finder.topology, value, &asked->place, &error);
    if (good) {
        apply_topology(bus);
        connect_shards(bus, ATTEMPT_MS);
    }
    bus->refreshed_ms = loop_now_ms(bus->loop);
    loop_timer_set(bus->loop, &bus->refresh, shards_refresh_ms(bus, good));
    bus->ask_again = false;
}

static void on_shards_refresh(struct loop_timer *timer) {
    static const struct slice words[] = {SLICE_INIT("CLUSTER"), SLICE_INIT("SLOTS")};
    struct redis_shards *bus = container_of(timer, struct redis_shards, refresh);

    bus->asked = bus->shards[0];
    for (size_t i = 0; i < bus->shard_count; i++)
        if (bus->shards[i] == bus->teller)
            bus->asked = bus->teller;
    bus->teller = NULL;
    if (!redis_pipeline_is_up(&bus->asked->publisher)) {
        bus->asked = NULL;
        loop_timer_set(bus->loop, &bus->refresh, REFRESH_AGAIN_MS);
        return;
    }
    bus->topology.answered = on_topology_told;
    redis_pipeline_request(&bus->asked->publisher, &bus->topology, words, 2);
    redis_pipeline_flush(&bus->asked->publisher);
}

/* --- what a master tells --- */

/* True if the master says that another one has the slot, or that none can be reached at the moment. */
static bool tells_of_another_master(const struct redis_value *value) {
    static const char *const words[] = {"MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "READONLY", "MASTERDOWN", "LOADING"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (value->type == REDIS_ERROR && redis_value_begins_with(value, words[i]))
            return true;
    return false;
}

/* The master does not have the subject any more. */
static void lose_subject(struct redis_shard *shard, struct slice text) {
    struct redis_shards *bus = shard->bus;
    struct redis_subject *subject = redis_subjects_find(&bus->wanted, text);
    struct shard_slot *slot = &bus->slots[redis_slot_of(text)];

    redis_subscriber_drop(&shard->subscriber, text);
    update_slot_owner(bus, slot);
    if (subject == NULL || slot->owner != shard)
        return;
    subject->pending = true;
    unsettle_slot(bus, slot);
    ask_for_topology(bus, shard);
    interrupt_subject(bus, subject);
}

static bool on_shard_other(void *context, const struct redis_value *value) {
    if (!slice_equal(redis_value_item_text(value, 0), SLICE("sunsubscribe")))
        return false;
    lose_subject(context, redis_value_item_text(value, 1));
    return true;
}

static bool on_shard_refused(void *context, struct slice text, const struct redis_value *value) {
    if (!tells_of_another_master(value))
        return false;
    lose_subject(context, text);
    return true;
}

static void on_published(struct redis_request *request, const struct redis_value *value) {
    struct redis_publication *publication = container_of(request, struct redis_publication, request);
    struct redis_shard *shard = publication->context;
    struct redis_shards *bus = shard->bus;
    struct shard_slot *slot = &bus->slots[publication->slot];

    slot->queue.in_flight--;
    if (value != NULL && tells_of_another_master(value) && !slot->unowned) {
        list_append(&slot->queue.refused, &publication->link);
        bus->held_bytes += publication->bytes->length;
        unsettle_slot(bus, slot);
        ask_for_topology(bus, shard);
        return;
    }
    if (value != NULL && value->type == REDIS_INTEGER)
        bus->held_bytes -= redis_slot_queue_clear_refused(&slot->queue);
    else if (value != NULL && !tells_of_another_master(value))
        redis_connection_fail(shard->publisher.connection, "it refuses to publish: %.200s",
                              value->type == REDIS_ERROR ? value->text.data : "its answer is not a number");
    redis_publication_free(publication);
    if (value != NULL && slot->unsettled)
        settle_slot(bus, slot);
}

/* --- up --- */

static void check_shards(struct redis_shards *bus) {
    for (size_t i = 0; i < bus->shard_count; i++)
        if (!shard_is_ready(bus->shards[i]))
            return;
    if (bus->phase == SHARDS_UP) {
        walk_slots(bus);
        return;
    }
    if (bus->phase != SHARDS_CONNECTING || bus->walk_at < REDIS_SLOTS)
        return;
    bus->phase = SHARDS_UP;
    bus->tried = true;
    bus->told_down = false;
    bus->up_since_ms = bus->refreshed_ms = loop_now_ms(bus->loop);
    loop_timer_end(bus->loop, &bus->timer);
    loop_timer_set(bus->loop, &bus->refresh, REFRESH_MS);
    for (size_t i = 0; i < bus->shard_count; i++)
        bus->shards[i]->subscriber.held = false;
    bus->bus.events.up(bus->bus.events.context);
    walk_slots(bus);
    for (size_t i = 0; i < bus->shard_count; i++)
        redis_subscriber_flush(&bus->shards[i]->subscriber);
}

/* The slot of the subject may be another master's, which is as good an answer. */
static void on_shard_checked(struct redis_request *request, const struct redis_value *value) {
    struct redis_shard *shard = container_of(request, struct redis_shard, check);

    if (value == NULL)
        return;
    if (value->type == REDIS_INTEGER || tells_of_another_master(value)) {
        shard->checked = true;
        check_shards(shard->bus);
    } else if (redis_value_begins_with(value, "ERR unknown command")) {
        redis_connection_fail(shard->publisher.connection,
                              "it is older than Redis 7, which adapter.cluster.use_sharded_pubsub needs");
    } else {
        redis_connection_fail(shard->publisher.connection, "it refuses to publish: %.200s",
                              value->type == REDIS_ERROR ? value->text.data : "its answer is not a number");
    }
}

static void on_shard_up(void *context) {
    struct redis_shard *shard = context;

    shard->check.answered = on_shard_checked;
    redis_pipeline_publish_request(&shard->publisher, &shard->check, SLICE("SPUBLISH"),
                                   buffer_slice(&shard->bus->check_subject), shard->bus->check_bytes);
    redis_pipeline_flush(&shard->publisher);
}

static void on_shard_subscriber_up(void *context) {
    const struct redis_shard *shard = context;

    check_shards(shard->bus);
}

/* --- an attempt --- */

static void on_shards_found(void *context, const struct redis_place *asked) {
    struct redis_shards *bus = context;
    uint64_t now_ms = loop_now_ms(bus->loop);

    (void)asked;
    bus->phase = SHARDS_CONNECTING;
    apply_topology(bus);
    connect_shards(bus, bus->attempt_ends_ms > now_ms ? bus->attempt_ends_ms - now_ms : 0);
}

static void on_shards_not_found(void *context, const char *why) {
    fail_shards(context, why);
}

static void begin_shards_attempt(struct redis_shards *bus) {
    uint64_t timeout_ms = bus->tried ? ATTEMPT_MS : FIRST_ATTEMPT_MS;

    bus->phase = SHARDS_LOCATING;
    bus->attempt_ends_ms = loop_now_ms(bus->loop) + timeout_ms;
    /* The connections end earlier, and know more. */
    loop_timer_set(bus->loop, &bus->timer, timeout_ms + 50);
    redis_finder_ask(&bus->finder, timeout_ms);
}

static void on_shards_timer(struct loop_timer *timer) {
    struct redis_shards *bus = container_of(timer, struct redis_shards, timer);

    if (bus->phase == SHARDS_CLOSED)
        bus->closed(bus->closed_context);
    else if (bus->closed != NULL)
        finish_shards_close(bus);
    else if (bus->phase == SHARDS_PAUSING)
        begin_shards_attempt(bus);
    else
        fail_shards(bus, "the masters of the Redis Cluster (adapter.cluster.nodes) did not answer in time");
}

/* --- the functions of a driver --- */

static void start_shards(struct bus *given) {
    begin_shards_attempt(shards_of(given));
}

static bool publish_on_shards(struct bus *given, struct slice subject, struct bus_bytes *bytes) {
    struct redis_shards *bus = shards_of(given);
    struct redis_publication *publication;
    struct shard_slot *slot;

    if (bus->phase != SHARDS_UP || bus->closed != NULL)
        return false;
    if (bus->slots[redis_slot_of(subject)].unowned)
        return true; /* nobody can be subscribed there */
    publication = redis_publication_create(subject, bytes, redis_slot_of(subject));
    publication->request.answered = on_published;
    slot = &bus->slots[publication->slot];
    update_slot_owner(bus, slot);
    if (!slot->unsettled && shard_is_ready(slot->owner)) {
        send_publication(slot, publication);
        return true;
    }
    if (!slot->unsettled) {
        unsettle_slot(bus, slot);
        slot->located = true; /* only the connection to the owner is missing */
    }
    list_append(&slot->queue.waiting, &publication->link);
    bus->held_bytes += bytes->length;
    return true;
}

static void flush_shards(struct bus *given) {
    struct redis_shards *bus = shards_of(given);

    for (size_t i = 0; i < bus->shard_count; i++) {
        redis_pipeline_flush(&bus->shards[i]->publisher);
        redis_subscriber_flush(&bus->shards[i]->subscriber);
    }
}

static void subscribe_on_shards(struct bus *given, struct slice text) {
    struct redis_shards *bus = shards_of(given);
    struct shard_slot *slot = &bus->slots[redis_slot_of(text)];
    struct redis_subject *subject;

    if (text.length > UINT16_MAX || redis_subjects_find(&bus->wanted, text) != NULL)
        return;
    subject = redis_subjects_add(&bus->wanted, text);
    subject->pending = true;
    list_append(&slot->subjects, &subject->link);
    update_slot_owner(bus, slot);
    if (slot->owner == NULL || slot->unsettled) /* it is placed with the slot */
        return;
    subject->pending = false;
    redis_subscriber_add(&slot->owner->subscriber, text);
}

static void unsubscribe_on_shards(struct bus *given, struct slice text) {
    struct redis_shards *bus = shards_of(given);
    const struct shard_slot *slot = &bus->slots[redis_slot_of(text)];
    struct redis_subject *subject = redis_subjects_find(&bus->wanted, text);

    if (subject == NULL)
        return;
    if (!subject->pending)
        redis_subscriber_end(&slot->owner->subscriber, text);
    redis_subjects_remove(&bus->wanted, subject);
}

static void tell_shards_state(const struct bus *given, struct bus_state *state) {
    const struct redis_shards *bus = shards_of(given);

    *state = (struct bus_state){
        .up = bus->phase == SHARDS_UP, .waiting_bytes = bus->held_bytes, .max_message_bytes = MESSAGE_BYTES_MAX};
    for (size_t i = 0; i < bus->shard_count; i++)
        state->waiting_bytes += redis_pipeline_waiting(&bus->shards[i]->publisher);
}

/* True if all that was published is answered. */
static bool shards_are_idle(const struct redis_shards *bus) {
    for (size_t i = 0; i < bus->shard_count; i++)
        if (!redis_pipeline_is_idle(&bus->shards[i]->publisher))
            return false;
    return list_empty(&bus->unsettled);
}

static void close_shards(struct bus *given, uint64_t within_ms, void (*closed)(void *context), void *context) {
    struct redis_shards *bus = shards_of(given);

    bus->closed = closed;
    bus->closed_context = context;
    flush_shards(given);
    loop_timer_set(bus->loop, &bus->timer, bus->phase != SHARDS_UP || shards_are_idle(bus) ? 0 : within_ms);
}

static void on_shard_idle(void *context) {
    const struct redis_shard *shard = context;
    struct redis_shards *bus = shard->bus;

    if (bus->closed != NULL && bus->phase == SHARDS_UP && shards_are_idle(bus))
        loop_timer_set(bus->loop, &bus->timer, 0);
}

static void destroy_shards(struct bus *given) {
    struct redis_shards *bus = shards_of(given);

    if (bus->slots != NULL)
        drop_shard_connections(bus);
    loop_timer_end(bus->loop, &bus->timer);
    loop_timer_end(bus->loop, &bus->sweep);
    loop_timer_end(bus->loop, &bus->walk);
    free_retired_shards(bus);
    for (size_t i = 0; i < bus->shard_count; i++)
        free_shard(bus->shards[i]);
    free(bus->shards);
    free(bus->retired);
    redis_finder_dispose(&bus->finder);
    redis_subjects_dispose(&bus->wanted);
    config_redis_server_dispose(&bus->server);
    buffer_dispose(&bus->check_subject);
    bus_bytes_unref(bus->check_bytes);
    SSL_CTX_free(bus->tls);
    free(bus->slots);
    free(bus);
}

/* --- creating it --- */

static const struct bus_driver redis_shards_driver = {
    .name = "redis-cluster",
    .create = redis_shards_create,
    .start = start_shards,
    .publish = publish_on_shards,
    .flush = flush_shards,
    .subscribe = subscribe_on_shards,
    .unsubscribe = unsubscribe_on_shards,
    .state = tell_shards_state,
    .close = close_shards,
    .destroy = destroy_shards,
};

static void set_up_shards(struct redis_shards *bus, const struct config *config) {
    const struct redis_finder_events events = {on_shards_found, on_shards_not_found, bus};
    const char *key;

    config_redis_seed(config, 0, &bus->server, &key);
    bus->access = (struct redis_access){
        .key = key, .username = bus->server.username, .password = bus->server.password, .label = "curlew"};
    redis_finder_init(&bus->finder, bus->loop, config, &bus->access, &events);
    buffer_appendf(&bus->check_subject, "%scurlew1:check", config->adapter.cluster.prefix);
    bus->check_bytes = bus_bytes_create(0);
    bus->timer.fire = on_shards_timer;
    bus->refresh.fire = on_shards_refresh;
    bus->sweep.fire = on_shards_sweep;
    bus->walk.fire = on_shards_walk;
    bus->walk_at = REDIS_SLOTS;
    list_init(&bus->unsettled);
    bus->slots = alloc_zero(REDIS_SLOTS * sizeof *bus->slots);
    for (size_t slot = 0; slot < REDIS_SLOTS; slot++) {
        list_init(&bus->slots[slot].subjects);
        redis_slot_queue_init(&bus->slots[slot].queue);
    }
}

struct bus *redis_shards_create(struct loop *loop, const struct config *config, const struct bus_events *events,
                                struct error *error) {
    const struct redis_tls_files files = {config->database.redis.tls.ca_path, config->database.redis.tls.cert_path,
                                          config->database.redis.tls.key_path};
    struct redis_shards *bus = alloc_zero(sizeof *bus);

    bus->bus = (struct bus){&redis_shards_driver, *events};
    bus->loop = loop;
    set_up_shards(bus, config);
    if (!bus->server.tls)
        return &bus->bus;
    bus->tls = bus->access.tls = redis_tls_context(&files, error);
    if (bus->tls != NULL)
        return &bus->bus;
    destroy_shards(&bus->bus);
    return NULL;
}
