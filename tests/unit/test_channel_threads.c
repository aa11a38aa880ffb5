/*
 * Channels on several running workers: under concurrent operations all subscribers see the same order of events, and
 * the member list of a join matches its position in that order exactly.
 *
 *   actors, one on each worker:   join, leave and publish at random, a few steps in each turn
 *   the chronicler:               is subscribed from the first to the last step, so its events are the full history
 *   other peers:                  the member list of a join and the events after it must be a part of that history
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <poll.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "base/clock.h"
#include "channel/channel_internal.h"
#include "harness.h"
#include "net/websocket.h"
#include "net/worker_loop.h"
#include "text_frames.h"

#define WORKERS 4
#define PEERS_PER_WORKER 5
#define PEERS (WORKERS * PEERS_PER_WORKER)
#define USERS 9 /* fewer users than peers: some users have several connections */
#define STEPS_PER_TURN 3

/* A connection and all bytes that it has received. The test's thread reads the client's end. */
struct peer {
    struct stream *stream;
    int client;
    unsigned user;
    bool joined;
    struct subscription own;
    struct buffer in;
};

struct actor {
    struct message message;
    struct worker *worker;
    void (*step)(struct actor *actor);
    unsigned index, steps_left;
    uint64_t seed;
    unsigned published;
};

static struct workers workers;
static struct channel_hub *hub;
static struct app_slot *slot;
static struct peer peers[PEERS], chronicler;
static struct actor actors[WORKERS];
static sem_t done;
static atomic_uint joined_count, most_joined; /* for the test of max_members */

/* --- peers --- */

static bool has_socket_id(const struct stream *stream, const struct socket_id *id) {
    (void)stream;
    (void)id;
    return false;
}

static void open_peer(struct peer *peer, unsigned worker, unsigned user) {
    *peer = (struct peer){.user = user};
    peer->stream = harness_open(workers.list[worker], peer, &peer->client);
}

/* Joins, and records the number and the member list of the join. */
static bool join(struct peer *peer, struct slice name, uint32_t max_members) {
    char id[8], text[400];
    struct channel_join answers = {.user_id = {id, 0}, .user_info = SLICE("{}"), .max_members = max_members};
    const struct presence_member *member;
    const struct subscriber_list *list;
    int length;

    answers.user_id.length = (size_t)snprintf(id, sizeof id, "%u", peer->user);
    if (channel_subscribe(hub, slot, peer->stream, name, &peer->own, &answers) == CHANNEL_FULL)
        return false;
    peer->joined = true;
    list = &peer->own.channel->subscribers.lists[peer->stream->worker->index];
    length = snprintf(text, sizeof text, "{\"joined\":%llu,\"list\":[",
                      (unsigned long long)list->entries[peer->own.index].joined);
    member_list_each(answers.members, member) {
        length += snprintf(text + length, sizeof text - (size_t)length, "%s\"%.*s\"", at_ + block_ == 0 ? "" : ",",
                           SLICE_ARGS(presence_member_key(member)));
    }
    snprintf(text + length, sizeof text - (size_t)length, "]}");
    text_frame_send(peer->stream, text);
    member_list_unref(answers.members);
    if (answers.cached != NULL)
        frame_unref(answers.cached);
    return true;
}

static void leave(struct peer *peer) {
    channel_leave(hub, &peer->own, NULL);
    peer->joined = false;
    text_frame_send(peer->stream, "{\"left\":true}");
}

static void publish(struct actor *actor, struct slice name, bool keep) {
    char data[40];
    int length = snprintf(data, sizeof data, "\"%u of %u\"", actor->published++, actor->index);

    channel_publish(hub, slot, actor->worker, name,
                    &(struct channel_event){.event = SLICE("\"e\""), .data = {data, (size_t)length}, .keep = keep},
                    NULL);
}

/* --- actors --- */

static struct peer *some_peer(struct actor *actor) {
    return &peers[actor->index * PEERS_PER_WORKER + harness_random(&actor->seed, PEERS_PER_WORKER)];
}

static void run_actor(struct worker *worker, struct message *message, struct message **rest) {
    struct actor *actor = container_of(message, struct actor, message);

    (void)rest;
    for (unsigned i = 0; i < STEPS_PER_TURN && actor->steps_left != 0; i++, actor->steps_left--)
        actor->step(actor);
    if (actor->steps_left != 0)
        worker_post(worker, &actor->message);
    else
        sem_post(&done);
}

static void join_leave_or_publish(struct actor *actor) {
    struct peer *peer = some_peer(actor);

    if (harness_random(&actor->seed, 3) == 0)
        publish(actor, SLICE("presence-x"), false);
    else if (peer->joined)
        leave(peer);
    else
        join(peer, SLICE("presence-x"), 0);
}

static void read_peer(struct peer *peer) {
    harness_receive(peer->client, &peer->in);
}

static void read_all(void) {
    for (unsigned i = 0; i < PEERS; i++)
        read_peer(&peers[i]);
    if (chronicler.stream != NULL)
        read_peer(&chronicler);
}

/* Runs the actors to their last step; the clients read all the time, so that none becomes slow. */
static void run_actors(void (*step)(struct actor *actor), unsigned steps, uint64_t seed) {
    assert_int_equal(sem_init(&done, 0, 0), 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        actors[i] = (struct actor){.message.handle = run_actor,
                                   .worker = workers.list[i],
                                   .step = step,
                                   .index = i,
                                   .steps_left = steps,
                                   .seed = seed + i};
        worker_post(workers.list[i], &actors[i].message);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        while (sem_trywait(&done) != 0) {
            struct pollfd poll_fds[PEERS];
            for (unsigned at = 0; at < PEERS; at++)
                poll_fds[at] = (struct pollfd){.fd = peers[at].client, .events = POLLIN};
            poll(poll_fds, PEERS, 10);
            read_all();
        }
    }
    sem_destroy(&done);
}

static void leave_all(struct worker *worker, void *context) {
    (void)context;
    for (struct list *link = worker->streams.next; link != &worker->streams; link = link->next) {
        struct peer *peer = container_of(link, struct stream, link)->context;
        if (peer->joined && peer != &chronicler)
            leave(peer);
    }
}

static void all_have_left(void *context) {
    (void)context;
    sem_post(&done);
}

static void close_worker(struct worker *worker, void *context) {
    (void)context;
    for (struct list *link = worker->streams.next; link != &worker->streams; link = link->next) {
        struct stream *stream = container_of(link, struct stream, link);
        struct peer *peer = stream->context;
        if (peer->joined)
            leave(peer);
        stream_finish(stream);
    }
    worker_stop(worker);
}

static void terminate(struct stream *stream, bool reconnect, uint64_t before_ms) {
    (void)before_ms;
    (void)reconnect;
    stream_close(stream);
}

static int set_up(void **state) {
    const struct channel_hub_settings settings = {.cache_ttl_s = 1,
                                                  .cache_max_channels = 1,
                                                  .group_max_messages = 64,
                                                  .group_max_bytes = 65536,
                                                  .terminate = terminate,
                                                  .has_socket_id = has_socket_id};
    struct error error;

    (void)state;
    if (!workers_create(&workers, WORKERS, &error))
        fail_msg("%s", error.text);
    hub = channel_hub_create(&workers, &settings);
    slot = app_slot_create(SLICE("42"), WORKERS);
    for (unsigned i = 0; i < PEERS; i++)
        open_peer(&peers[i], i / PEERS_PER_WORKER, i % USERS);
    chronicler = (struct peer){.client = -1};
    return 0;
}

static void start(void) {
    struct error error;

    if (!workers_start(&workers, &error))
        fail_msg("%s", error.text);
}

/* Makes all peers leave, the chronicler last, and reads all pending output. */
static void stop(void) {
    assert_int_equal(sem_init(&done, 0, 0), 0);
    workers_run_on_all(&workers, &(struct worker_task){.run = leave_all, .finished = all_have_left});
    while (sem_wait(&done) != 0)
        continue;
    sem_destroy(&done);
    workers_run_on_all(&workers, &(struct worker_task){.run = close_worker});
    for (unsigned i = 0; i < PEERS; i++)
        harness_read_to_end(peers[i].client, &peers[i].in);
    if (chronicler.stream != NULL)
        harness_read_to_end(chronicler.client, &chronicler.in);
    workers_join(&workers);
}

static int tear_down(void **state) {
    (void)state;
    channel_hub_destroy(hub);
    app_slot_destroy(slot, channel_table_destroy);
    workers_destroy(&workers);
    for (unsigned i = 0; i < PEERS; i++)
        buffer_dispose(&peers[i].in);
    buffer_dispose(&chronicler.in);
    return 0;
}

/* --- the history --- */

static json_t *parse(struct slice text) {
    json_t *json = json_loadb(text.data, text.length, 0, NULL);

    if (json == NULL)
        fail_msg("%.*s is no JSON", SLICE_ARGS(text));
    return json;
}

static void set_member(bool members[USERS + 1], const char *id, bool present) {
    unsigned user = (unsigned)atoi(id);

    assert_true(user <= USERS);
    assert_int_equal(members[user], !present); /* no member is added twice or removed without being there */
    members[user] = present;
}

/* Reads the record of a join: its number, and its member list as a set. */
static bool read_join(struct slice message, uint64_t *number, bool members[USERS + 1]) {
    json_t *json = parse(message), *id;
    size_t i;
    bool is_join = json_object_get(json, "joined") != NULL;

    if (is_join) {
        *number = (uint64_t)json_integer_value(json_object_get(json, "joined"));
        memset(members, 0, (USERS + 1) * sizeof members[0]);
        json_array_foreach(json_object_get(json, "list"), i, id) {
            set_member(members, json_string_value(id), true);
        }
    }
    json_decref(json);
    return is_join;
}

/* Applies an event to the set of members. */
static void apply(struct slice message, bool members[USERS + 1]) {
    json_t *json = parse(message);
    const char *event = json_string_value(json_object_get(json, "event"));

    if (event != NULL && strncmp(event, "pusher_internal:member_", 23) == 0) {
        json_t *data = json_loads(json_string_value(json_object_get(json, "data")), 0, NULL);
        set_member(members, json_string_value(json_object_get(data, "user_id")), strcmp(event + 23, "added") == 0);
        json_decref(data);
    }
    json_decref(json);
}

/* Computes the members at each event of the chronicler; states[n] is the set before event n. */
static bool (*history_of(const struct text_frames *told, uint64_t *first))[USERS + 1] {
    bool(*states)[USERS + 1] = alloc_zero((told->count + 1) * sizeof *states);

    assert_true(read_join(told->list[0], first, states[0]));
    for (size_t i = 1; i < told->count; i++) {
        memcpy(states[i], states[i - 1], sizeof states[i]);
        apply(told->list[i], states[i]);
    }
    return states;
}

/* Checks each stay of a peer in the channel against the history. */
static unsigned check_stays(const struct text_frames *told, const struct text_frames *history,
                            bool (*states)[USERS + 1], uint64_t first) {
    unsigned stays = 0;
    size_t at = 0;

    while (at < told->count) {
        bool list[USERS + 1];
        uint64_t number;
        size_t place;

        if (!read_join(told->list[at++], &number, list)) {
            assert_true(slice_equal(told->list[at - 1], SLICE("{\"left\":true}")));
            continue;
        }
        stays++;
        place = (size_t)(number - first); /* number of events in the history before the join */
        assert_memory_equal(list, states[place], sizeof list);
        for (; at < told->count && !slice_equal(told->list[at], SLICE("{\"left\":true}")); at++) {
            place++;
            assert_true(place < history->count);
            if (!slice_equal(told->list[at], history->list[place]))
                fail_msg("told %.*s where the history has %.*s", SLICE_ARGS(told->list[at]),
                         SLICE_ARGS(history->list[place]));
        }
    }
    return stays;
}

static void each_list_and_the_events_after_it_are_a_piece_of_one_history(void **state) {
    struct text_frames history;
    bool(*states)[USERS + 1];
    unsigned stays = 0, events = 0;
    uint64_t first;

    (void)state;
    open_peer(&chronicler, 0, USERS);
    join(&chronicler, SLICE("presence-x"), 0);
    start();
    run_actors(join_leave_or_publish, 2000, 100);
    stop();
    history = text_frames_of(buffer_slice(&chronicler.in));
    history.count--; /* its own leave, which is not in the history */
    states = history_of(&history, &first);
    for (unsigned i = 0; i < PEERS; i++) {
        struct text_frames told = text_frames_of(buffer_slice(&peers[i].in));
        stays += check_stays(&told, &history, states, first);
        free(told.list);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        events += actors[i].published;
    assert_true(stays > 1000);
    assert_true(history.count > events); /* each published event, and the member events */
    free(states);
    free(history.list);
}

/* --- max_members --- */

static void join_or_leave_a_small_channel(struct actor *actor) {
    struct peer *peer = some_peer(actor);
    unsigned count, most;

    if (peer->joined) {
        atomic_fetch_sub(&joined_count, 1); /* decreased before the leave, so that the count is never too high */
        leave(peer);
    } else if (join(peer, SLICE("presence-small"), 3)) {
        count = atomic_fetch_add(&joined_count, 1) + 1;
        most = atomic_load(&most_joined);
        while (count > most && !atomic_compare_exchange_weak(&most_joined, &most, count))
            continue;
    }
}

static void max_members_is_never_passed_and_always_reached(void **state) {
    (void)state;
    atomic_store(&joined_count, 0);
    atomic_store(&most_joined, 0);
    for (unsigned i = 0; i < PEERS; i++)
        peers[i].user = i; /* a different user for each peer */
    start();
    run_actors(join_or_leave_a_small_channel, 2000, 200);
    stop();
    assert_int_equal(atomic_load(&most_joined), 3);
    assert_null(channel_find(slot, SLICE("presence-small")));
}

/* --- channels that come and go --- */

static const struct slice busy_names[] = {{"chat", 4}, {"cache-a", 7}, {"cache-b", 7}, {"presence-cache-c", 16}};

static void join_leave_publish_and_expire(struct actor *actor) {
    struct slice name = busy_names[harness_random(&actor->seed, 4)];
    struct peer *peer = some_peer(actor);
    struct channel_info info;
    struct buffer users = {0};

    switch (harness_random(&actor->seed, 6)) {
    case 0:
    case 1:
    case 2:
        if (peer->joined)
            leave(peer);
        else
            join(peer, name, 4);
        break;
    case 3:
    case 4:
        publish(actor, name, harness_random(&actor->seed, 2) == 0);
        break;
    default:
        channel_inspect(slot, name, true, &info);
        buffer_dispose(&info.cached_data);
        channel_append_users(slot, name, &users);
        buffer_dispose(&users);
        if (actor->index == 0) /* far in the future: all events without subscribers have expired */
            channel_hub_expire(hub, actor->worker->now_ms + 5000);
    }
}

static void channels_that_come_and_go_under_publishers_leave_nothing_behind(void **state) {
    (void)state;
    start();
    run_actors(join_leave_publish_and_expire, 4000, 300);
    stop();
    channel_hub_expire(hub, UINT64_MAX);
    assert_int_equal(hub->kept.idle_count, 0);
    for (size_t i = 0; i < 4; i++)
        assert_null(channel_find(slot, busy_names[i]));
}

static uint64_t begun_ms;
static atomic_uint lost;

static void publish_at(struct actor *actor, struct slice name, uint64_t now_ms) {
    uint64_t before_ms = actor->worker->now_ms;

    actor->worker->now_ms = now_ms;
    publish(actor, name, true);
    actor->worker->now_ms = before_ms;
}

/* One worker drops expired events; the others publish an expired event, and then a new one. */
static void renew_what_expires(struct actor *actor) {
    static const struct slice names[WORKERS] = {{"", 0}, {"cache-1", 7}, {"cache-2", 7}, {"cache-3", 7}};
    struct slice name = names[actor->index];
    struct channel_info info;

    if (actor->index == 0) {
        for (unsigned i = 0; i < 100; i++)
            channel_hub_expire(hub, begun_ms);
        return;
    }
    publish_at(actor, name, begun_ms - 5000);
    publish_at(actor, name, begun_ms + 100000);
    channel_inspect(slot, name, true, &info);
    lost += info.cached_data.length == 0;
    buffer_dispose(&info.cached_data);
}

static void an_event_that_takes_the_place_of_an_expired_one_is_kept(void **state) {
    (void)state;
    hub->settings.cache_max_channels = 0;
    begun_ms = clock_monotonic_ms();
    lost = 0;
    start();
    run_actors(renew_what_expires, 20000, 500);
    stop();
    assert_int_equal(lost, 0);
    assert_true(hub->kept.idle_count >= 3); /* some channels may have been dropped before */
    channel_hub_expire(hub, UINT64_MAX);
    assert_int_equal(hub->kept.idle_count, 0);
}

/* --- more kept events than there is room for --- */

#define LARGE_BYTES (16 * 1024)

static struct app_slot *other_app;

static void publish_kept(struct actor *actor, struct app_slot *app, unsigned number, size_t bytes) {
    static char data[LARGE_BYTES];
    struct cached_event *shared = NULL;
    const struct channel_event event = {
        .event = SLICE("\"e\""), .data = {data, bytes}, .keep = true, .shared = &shared};
    char name[20];

    for (unsigned i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "cache-%u", number + i);
        channel_publish(hub, app, actor->worker, slice_of(name), &event, NULL);
    }
    channel_event_end(shared);
}

/* One worker keeps small events of an app; the others flood another app, whose channels have subscribers, too. */
static void keep_too_much(struct actor *actor) {
    unsigned number = harness_random(&actor->seed, 300);
    struct peer *peer = some_peer(actor);
    struct channel_info info;

    if (actor->index != 0) {
        publish_kept(actor, slot, number, LARGE_BYTES);
        if (peer->joined)
            leave(peer);
        else
            join(peer, SLICE("cache-7"), 0);
        return;
    }
    publish_kept(actor, other_app, number % 4, 100);
    channel_inspect(other_app, SLICE("cache-3"), true, &info);
    lost += number % 4 != 0 && info.cached_data.length == 0;
    buffer_dispose(&info.cached_data);
}

static void a_flood_of_kept_events_stays_in_its_share_and_costs_another_app_none(void **state) {
    (void)state;
    hub->settings.cache_max_channels = 0;
    hub->settings.cache_ttl_s = 0;
    other_app = app_slot_create(SLICE("43"), WORKERS);
    lost = 0;
    budget_set_limit(8 * 1024 * 1024);
    start();
    run_actors(keep_too_much, 2000, 700);
    stop();
    assert_int_equal(lost, 0);
    assert_in_range(budget_used(BUDGET_KEPT_EVENTS), LARGE_BYTES, budget_kind_limit(BUDGET_KEPT_EVENTS));
    channel_hub_expire(hub, UINT64_MAX);
    assert_int_equal(hub->kept.idle_count, 0);
    assert_int_equal(budget_app_held(slot->budget), 0);
    assert_int_equal(budget_app_held(other_app->budget), 0);
    app_slot_destroy(other_app, channel_table_destroy);
    budget_set_limit(0);
}

/* --- users --- */

static void sign_in_out_and_watch(struct actor *actor) {
    struct peer *peer = some_peer(actor);
    bool online;

    if (peer->joined) {
        leave(peer);
    } else if (harness_random(&actor->seed, 5) != 0) {
        channel_watch_user(hub, slot, peer->stream, SLICE("u"), &peer->own, &online);
        peer->joined = true;
        text_frame_send(peer->stream, online ? "{\"online\":true}" : "{\"online\":false}");
    } else {
        struct channel_join answers = {0};
        channel_subscribe(hub, slot, peer->stream, SLICE("#server-to-user-u"), &peer->own, &answers);
        peer->joined = true;
        text_frame_send(peer->stream, "{\"user\":true}");
    }
}

static unsigned changes_read(void) {
    const struct slice event = SLICE("pusher_internal:watchlist_events");
    unsigned count = 0;

    for (unsigned i = 0; i < PEERS; i++) {
        struct slice rest = buffer_slice(&peers[i].in);
        for (const char *at;
             rest.length != 0 && (at = memmem(rest.data, rest.length, event.data, event.length)) != NULL; count++)
            rest = slice_skip(rest, (size_t)(at - rest.data) + event.length);
    }
    return count;
}

/* After the answer, a watcher gets online and offline alternately. */
static void watchers_are_told_online_and_offline_in_turns(void **state) {
    unsigned changes = 0;

    (void)state;
    start();
    /* Repeat until the workers overlap: on a busy machine one may finish before the next begins. */
    for (unsigned round = 0; round < 50 && changes_read() <= 20; round++)
        run_actors(sign_in_out_and_watch, 20000, 400 + round * WORKERS);
    stop();
    for (unsigned i = 0; i < PEERS; i++) {
        struct text_frames told = text_frames_of(buffer_slice(&peers[i].in));
        bool watching = false, online = false;
        for (size_t at = 0; at < told.count; at++) {
            struct slice message = told.list[at];
            if (slice_starts_with(message, SLICE("{\"online\":"))) {
                watching = true;
                online = slice_equal(message, SLICE("{\"online\":true}"));
            } else if (slice_starts_with(message, SLICE("{\"event\":\"pusher_internal:watchlist_events\""))) {
                bool comes = memmem(message.data, message.length, "online", 6) != NULL;
                assert_true(watching);
                assert_int_equal(comes, !online);
                online = comes;
                changes++;
            } else {
                watching = false;
            }
        }
        free(told.list);
    }
    assert_true(changes > 20);
    assert_null(channel_find(slot, SLICE("#server-to-user-u")));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(each_list_and_the_events_after_it_are_a_piece_of_one_history),
        TEST(max_members_is_never_passed_and_always_reached),
        TEST(channels_that_come_and_go_under_publishers_leave_nothing_behind),
        TEST(an_event_that_takes_the_place_of_an_expired_one_is_kept),
        TEST(a_flood_of_kept_events_stays_in_its_share_and_costs_another_app_none),
        TEST(watchers_are_told_online_and_offline_in_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
