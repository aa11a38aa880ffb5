#include "cluster/redis/redis_cluster_store.h"
#include "cluster/redis/redis_attempts.h"

#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/list.h"
#include "cluster/redis/redis_finder.h"
#include "cluster/redis/redis_settings.h"

/* The topology is read so often if nothing seems to have changed, and this long after something has. */
#define REFRESH_MS 60000
#define REFRESH_AGAIN_MS 50

/* A command is sent elsewhere so many times, at most. */
#define REDIRECTIONS_MAX 16

#define WORDS_MAX 6

enum store_phase { STORE_IDLE, STORE_PAUSING, STORE_LOCATING, STORE_CONNECTING, STORE_UP };

struct store_master {
    struct redis_cluster_store *store;
    struct redis_place place;
    struct redis_pipeline pipeline;
    size_t commands; /* that are on their way to it, or are to be sent to it by ASK */
    bool current;    /* it has a slot */
};

struct store_command {
    struct redis_request request, asking; /* `asking`: of ASKING, which goes before it */
    struct redis_request *asker;          /* gets the answer */
    struct store_master *master;          /* that has it, or is to get it by ASK; NULL: the owner of its slot gets it */
    struct list link;                     /* of those that wait */
    uint64_t number;                      /* their order */
    unsigned redirections;
    uint16_t slot;
    size_t word_count;
    struct slice words[WORDS_MAX];
    char bytes[];
};

/* Zeroed: nothing is asked of the slot. */
struct store_slot {
    struct list waiting; /* commands, by number; not initialised until it is held for the first time */
    struct list link;    /* of the slots that are held */
    size_t in_flight;
    bool held;    /* commands wait until the others of the slot are answered and their master is connected */
    bool unknown; /* and until the topology is read again */
};

struct redis_cluster_store {
    struct key_store store;
    struct loop *loop;
    struct config_redis_server server; /* name, password and TLS of all nodes */
    struct redis_access access;
    SSL_CTX *tls;
    struct redis_finder finder;
    struct store_master **masters;
    size_t master_count;
    struct store_master **owners; /* by slot */
    struct store_slot *slots;
    struct list held;
    uint64_t last_number;

    enum store_phase phase;
    struct loop_timer timer, refresh; /* of the attempt and the pause; of the topology */
    struct redis_attempts attempts;
    bool refreshing; /* the topology is about to be read */
};

static struct redis_cluster_store *cluster_store_of(struct key_store *store) {
    return container_of(store, struct redis_cluster_store, store);
}

/* --- commands --- */

/* Gives the answer to the one who asked. NULL: none comes. */
static void end_store_command(struct store_command *command, const struct redis_value *value) {
    if (command->master != NULL)
        command->master->commands--;
    command->asker->answered(command->asker, value);
    free(command);
}

static struct store_command *create_store_command(struct redis_cluster_store *store, struct redis_request *asker,
                                                  struct slice key, const struct slice *words, size_t count) {
    struct store_command *command;
    size_t length = 0;

    for (size_t i = 0; i < count; i++)
        length += words[i].length;
    command = alloc_zero(sizeof *command + length);
    command->asker = asker;
    command->number = ++store->last_number;
    command->slot = redis_slot_of(key);
    command->word_count = count;
    length = 0;
    for (size_t i = 0; i < count; i++) {
        command->words[i] = (struct slice){command->bytes + length, words[i].length};
        if (words[i].length > 0)
            memcpy(command->bytes + length, words[i].data, words[i].length);
        length += words[i].length;
    }
    return command;
}

static void on_store_asking(struct redis_request *request, const struct redis_value *value) {
    (void)request;
    (void)value;
}

static void on_store_answered(struct redis_request *request, const struct redis_value *value);

/* Sends it to its master, after ASKING, or to the owner of its slot. */
static void send_store_command(struct redis_cluster_store *store, struct store_command *command) {
    static const struct slice asking = SLICE_INIT("ASKING");

    if (command->master != NULL) {
        command->asking.answered = on_store_asking;
        redis_pipeline_request(&command->master->pipeline, &command->asking, &asking, 1);
    } else {
        command->master = store->owners[command->slot];
        command->master->commands++;
    }
    store->slots[command->slot].in_flight++;
    command->request.answered = on_store_answered;
    redis_pipeline_request(&command->master->pipeline, &command->request, command->words, command->word_count);
}

/* --- slots that are held --- */

static void hold_store_slot(struct redis_cluster_store *store, struct store_slot *slot) {
    if (slot->held)
        return;
    slot->held = true;
    list_init(&slot->waiting);
    list_append(&store->held, &slot->link);
}

/* Adds a command to those that wait, where its number belongs. */
static void add_waiting_command(struct redis_cluster_store *store, struct store_command *command) {
    struct store_slot *slot = &store->slots[command->slot];
    struct list *behind;

    hold_store_slot(store, slot);
    behind = slot->waiting.previous;
    while (behind != &slot->waiting && container_of(behind, struct store_command, link)->number > command->number)
        behind = behind->previous;
    list_append(behind->next, &command->link);
}

/* Sends what waits, as soon as it can. What no connection is for any more is answered with NULL. */
static void settle_store_slot(struct redis_cluster_store *store, struct store_slot *slot) {
    bool up = store->phase == STORE_UP;

    if (!slot->held || (up && (slot->in_flight > 0 || slot->unknown)))
        return;
    while (!list_empty(&slot->waiting)) {
        struct store_command *command = container_of(slot->waiting.next, struct store_command, link);
        const struct store_master *master = command->master != NULL ? command->master : store->owners[command->slot];

        if (up && master->pipeline.connection != NULL && !redis_pipeline_is_up(&master->pipeline))
            return;
        list_remove(&command->link);
        if (up && master->pipeline.connection != NULL)
            send_store_command(store, command);
        else
            end_store_command(command, NULL);
    }
    slot->held = slot->unknown = false;
    list_remove(&slot->link);
}

static void settle_store_slots(struct redis_cluster_store *store) {
    struct list *next;

    for (struct list *link = store->held.next; link != &store->held; link = next) {
        next = link->next;
        settle_store_slot(store, container_of(link, struct store_slot, link));
    }
}

/* --- down --- */

static void fail_cluster_store(struct redis_cluster_store *store, const char *why) {
    struct error error;

    if (store->phase == STORE_PAUSING)
        return;
    error_set(&error, "%s", why);
    store->phase = STORE_PAUSING;
    store->refreshing = false;
    redis_finder_close(&store->finder);
    redis_finder_skip(&store->finder);
    loop_timer_end(store->loop, &store->refresh);
    loop_timer_set(store->loop, &store->timer,
                   redis_attempts_fail(&store->attempts, loop_now_ms(store->loop), !store->attempts.told_down));
    settle_store_slots(store);
    if (redis_attempts_tell_down(&store->attempts))
        store->store.events.down(store->store.events.context, error.text);
}

static void on_store_master_lost(void *context, const char *why) {
    const struct store_master *master = context;

    if (master->current || master->commands > 0)
        fail_cluster_store(master->store, why);
}

/* --- masters --- */

static void check_cluster_store(struct redis_cluster_store *store) {
    for (size_t i = 0; i < store->master_count; i++)
        if (store->masters[i]->current && !redis_pipeline_is_up(&store->masters[i]->pipeline))
            return;
    if (store->phase != STORE_CONNECTING)
        return;
    store->phase = STORE_UP;
    redis_attempts_succeed(&store->attempts, loop_now_ms(store->loop));
    loop_timer_end(store->loop, &store->timer);
    loop_timer_set(store->loop, &store->refresh, REFRESH_MS);
    store->store.events.up(store->store.events.context);
}

static void on_store_master_up(void *context) {
    const struct store_master *master = context;

    check_cluster_store(master->store);
    settle_store_slots(master->store);
}

/* The master of the place, which is made if there is none, and connected if it is not. */
static struct store_master *find_store_master(struct redis_cluster_store *store, const struct redis_place *place) {
    struct store_master *master = NULL;
    struct redis_pipeline_events events = {.up = on_store_master_up, .lost = on_store_master_lost};

    for (size_t i = 0; i < store->master_count && master == NULL; i++)
        if (redis_place_equal(&store->masters[i]->place, place))
            master = store->masters[i];
    if (master == NULL) {
        master = alloc_zero(sizeof *master);
        master->store = store;
        master->place = *place;
        events.context = master;
        redis_pipeline_init(&master->pipeline, store->loop, &events);
        store->masters = alloc_array(store->masters, store->master_count + 1, sizeof *store->masters);
        store->masters[store->master_count++] = master;
    }
    if (master->pipeline.connection == NULL)
        redis_pipeline_open(&master->pipeline, &master->place, &store->access, REDIS_ATTEMPT_MS);
    return master;
}

static void free_store_master(struct store_master *master) {
    redis_pipeline_close(&master->pipeline);
    free(master);
}

/* Frees the masters that have no slot and no command. */
static void free_former_masters(struct redis_cluster_store *store) {
    size_t count = 0;

    for (size_t i = 0; i < store->master_count; i++) {
        struct store_master *master = store->masters[i];
        if (master->current || master->commands > 0)
            store->masters[count++] = master;
        else
            free_store_master(master);
    }
    store->master_count = count;
}

/* --- the topology --- */

static void apply_store_topology(struct redis_cluster_store *store) {
    const struct redis_topology *topology = &store->finder.topology;
    struct store_master **found = alloc_array(NULL, topology->master_count, sizeof *found);

    for (size_t i = 0; i < store->master_count; i++)
        store->masters[i]->current = false;
    for (size_t i = 0; i < topology->master_count; i++) {
        found[i] = find_store_master(store, &topology->masters[i]);
        found[i]->current = true;
    }
    for (size_t slot = 0; slot < REDIS_SLOTS; slot++) {
        struct store_master *owner = found[topology->owners[slot]];

        if (store->owners[slot] != owner && store->slots[slot].in_flight > 0)
            hold_store_slot(store, &store->slots[slot]);
        store->owners[slot] = owner;
    }
    free(found);
    for (struct list *link = store->held.next; link != &store->held; link = link->next)
        container_of(link, struct store_slot, link)->unknown = false;
    free_former_masters(store);
}

static void on_store_topology(void *context, const struct redis_place *asked) {
    struct redis_cluster_store *store = context;

    (void)asked;
    if (store->phase == STORE_LOCATING)
        store->phase = STORE_CONNECTING;
    else if (!store->refreshing)
        loop_timer_set(store->loop, &store->refresh, REFRESH_MS);
    apply_store_topology(store);
    check_cluster_store(store);
    settle_store_slots(store);
}

/* While all connections are up, only what waits for the topology is in need of it. */
static void on_store_topology_failed(void *context, const char *why) {
    struct redis_cluster_store *store = context;

    if (store->phase != STORE_UP || !list_empty(&store->held))
        fail_cluster_store(store, why);
    else if (!store->refreshing)
        loop_timer_set(store->loop, &store->refresh, REFRESH_MS);
}

static void on_store_refresh(struct loop_timer *timer) {
    struct redis_cluster_store *store = container_of(timer, struct redis_cluster_store, refresh);

    store->refreshing = false;
    redis_finder_ask(&store->finder, REDIS_ATTEMPT_MS);
    /* For a node that does not answer. */
    loop_timer_set(store->loop, &store->refresh, 2 * REDIS_ATTEMPT_MS);
}

static void refresh_store_topology(struct redis_cluster_store *store) {
    if (store->phase != STORE_UP || store->refreshing)
        return;
    store->refreshing = true;
    loop_timer_set(store->loop, &store->refresh, REFRESH_AGAIN_MS);
}

/* --- answers --- */

/* Reads "MOVED 3999 127.0.0.1:6381", or the same with ASK. Without a host it is that of the one who says so. */
static bool read_redirection(const struct redis_value *value, const struct redis_place *teller,
                             struct redis_place *place) {
    const char *host = strrchr(value->text.data, ' '), *port = strrchr(value->text.data, ':');
    char *end;
    long number;

    if (host == NULL || port == NULL || port < ++host)
        return false;
    number = strtol(port + 1, &end, 10);
    return *end == '\0' && number > 0 && number <= UINT16_MAX &&
           redis_place_set(place, port > host ? (struct slice){host, (size_t)(port - host)} : slice_of(teller->host),
                           (uint16_t)number);
}

static bool is_not_now(const struct redis_value *value) {
    return redis_value_begins_with(value, "CLUSTERDOWN") || redis_value_begins_with(value, "TRYAGAIN") ||
           redis_value_begins_with(value, "LOADING") || redis_value_begins_with(value, "MASTERDOWN") ||
           redis_value_begins_with(value, "READONLY");
}

/* True if the answer says that the command is to be sent again, which it then waits for. */
static bool redirect_store_command(struct redis_cluster_store *store, struct store_command *command,
                                   const struct redis_value *value) {
    struct store_master *before = command->master, *next = NULL;
    bool moved = redis_value_begins_with(value, "MOVED"), ask = redis_value_begins_with(value, "ASK");
    struct redis_place place;

    if (value->type != REDIS_ERROR || store->phase != STORE_UP || command->redirections == REDIRECTIONS_MAX ||
        !(moved || ask || is_not_now(value)) || ((moved || ask) && !read_redirection(value, &before->place, &place)))
        return false;
    command->redirections++;
    if (moved || ask)
        next = find_store_master(store, &place);
    if (moved) {
        store->owners[command->slot] = next;
        next->current = true;
    }
    before->commands--;
    command->master = ask ? next : NULL;
    if (ask)
        next->commands++;
    add_waiting_command(store, command);
    if (!moved && !ask)
        store->slots[command->slot].unknown = true;
    if (!ask)
        refresh_store_topology(store);
    return true;
}

static void on_store_answered(struct redis_request *request, const struct redis_value *value) {
    struct store_command *command = container_of(request, struct store_command, request);
    struct redis_cluster_store *store = command->master->store;
    struct store_slot *slot = &store->slots[command->slot];

    slot->in_flight--;
    if (store->phase != STORE_UP && value != NULL && value->type == REDIS_ERROR)
        value = NULL; /* of a cluster that is changing */
    if (value == NULL || !redirect_store_command(store, command, value))
        end_store_command(command, value);
    settle_store_slot(store, slot);
}

/* --- the functions of a driver --- */

static void begin_store_attempt(struct redis_cluster_store *store) {
    store->phase = STORE_LOCATING;
    loop_timer_set(store->loop, &store->timer, 2 * REDIS_ATTEMPT_MS + 50);
    redis_finder_ask(&store->finder, REDIS_ATTEMPT_MS);
}

static void on_cluster_store_timer(struct loop_timer *timer) {
    struct redis_cluster_store *store = container_of(timer, struct redis_cluster_store, timer);

    if (store->phase == STORE_PAUSING)
        begin_store_attempt(store);
    else
        fail_cluster_store(store, "the masters of the Redis Cluster did not answer in time");
}

static void start_cluster_store(struct key_store *given) {
    begin_store_attempt(cluster_store_of(given));
}

static bool request_of_cluster_store(struct key_store *given, struct slice key, struct redis_request *request,
                                     const struct slice *words, size_t count) {
    struct redis_cluster_store *store = cluster_store_of(given);
    struct store_command *command;
    const struct redis_pipeline *pipeline;

    if (store->phase != STORE_UP || count > WORDS_MAX)
        return false;
    pipeline = &store->owners[redis_slot_of(key)]->pipeline;
    if (pipeline->connection == NULL) /* it is being lost */
        return false;
    command = create_store_command(store, request, key, words, count);
    if (store->slots[command->slot].held || !redis_pipeline_is_up(pipeline))
        add_waiting_command(store, command);
    else
        send_store_command(store, command);
    return true;
}

static void flush_cluster_store(struct key_store *given) {
    struct redis_cluster_store *store = cluster_store_of(given);

    for (size_t i = 0; i < store->master_count; i++)
        redis_pipeline_flush(&store->masters[i]->pipeline);
}

static void destroy_cluster_store(struct key_store *given) {
    struct redis_cluster_store *store = cluster_store_of(given);

    store->phase = STORE_IDLE;
    settle_store_slots(store);
    for (size_t i = 0; i < store->master_count; i++)
        free_store_master(store->masters[i]);
    free(store->masters);
    loop_timer_end(store->loop, &store->timer);
    loop_timer_end(store->loop, &store->refresh);
    redis_finder_dispose(&store->finder);
    config_redis_server_dispose(&store->server);
    SSL_CTX_free(store->tls);
    free(store->owners);
    free(store->slots);
    free(store);
}

static struct key_store *create_cluster_store(struct loop *loop, const struct config *config, struct bus *bus,
                                              const struct key_store_events *events, struct error *error) {
    struct redis_cluster_store *store = alloc_zero(sizeof *store);
    const struct redis_finder_events finder_events = {on_store_topology, on_store_topology_failed, store};
    const char *key;

    (void)bus;
    store->store = (struct key_store){&redis_cluster_store_driver, *events};
    store->loop = loop;
    config_redis_seed(config, 0, &store->server, &key);
    store->access = redis_settings_access(&store->server, key, "curlew-cache");
    redis_finder_init(&store->finder, loop, config, &store->access, &finder_events);
    store->timer.fire = on_cluster_store_timer;
    store->refresh.fire = on_store_refresh;
    list_init(&store->held);
    store->owners = alloc_zero(REDIS_SLOTS * sizeof(struct store_master *));
    store->slots = alloc_zero(REDIS_SLOTS * sizeof *store->slots);
    if (!store->server.tls)
        return &store->store;
    store->tls = store->access.tls = redis_settings_tls(config, error);
    if (store->tls != NULL)
        return &store->store;
    destroy_cluster_store(&store->store);
    return NULL;
}

const struct key_store_driver redis_cluster_store_driver = {
    .create = create_cluster_store,
    .start = start_cluster_store,
    .request = request_of_cluster_store,
    .flush = flush_cluster_store,
    .destroy = destroy_cluster_store,
    .publishes_wait = true,
};
