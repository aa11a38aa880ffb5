/* The state of channels across nodes: three nodes in one process, on a bus in memory that may lose messages. What each
 * node has becomes what all have together, and what each subscriber is told alternates and fits its list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "base/clock.h"
#include "channel/channel_internal.h"
#include "channel/presence.h"
#include "cluster/nodes/node_messages.h"
#include "cluster/requests.h"
#include "cluster/state/interest.h"
#include "cluster/state/state_internal.h"
#include "harness.h"
#include "net/reclaim.h"
#include "passing_time.h"
#include "text_frames.h"

#define NODES 3
#define CHANNELS 12
#define USERS 24
#define PEERS 160

/* What must be right is waited for so long at most. */
#define PATIENCE_MS 60000

/* --- a bus in memory --- */

struct test_bus {
    struct bus bus; /* the first member */
    struct loop *loop;
    bool up;
    char **subjects; /* that are subscribed to */
    size_t subject_count;
};

struct test_delivery {
    struct loop_message message;
    struct bus_message bus_message;
    struct test_bus *to;
    enum { DELIVER_MESSAGE, DELIVER_IN_FORCE, DELIVER_UP, DELIVER_DOWN, DELIVER_CUT } what;
    size_t subject_length;
    char bytes[];
};

static pthread_mutex_t bus_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct test_bus *buses[NODES];
static atomic_bool needs_answers; /* as on a bus of several servers */
static unsigned loss;             /* in a hundred, of changes and answers */
static uint64_t loss_seed = 7;
static unsigned lose_credits; /* of the next ones */
static atomic_bool lose_questions;
static atomic_uint lost_questions;

static void release_delivery(struct bus_message *bus_message) {
    free(container_of(bus_message, struct test_delivery, bus_message));
}

static atomic_bool cut_at_request;     /* when a node asks for the first time */
static atomic_uint_fast64_t cut_at_ms; /* 0: not yet */

/* The bus goes and comes at once, and what is subscribed to for channels does not come in force again. */
static void cut_bus(struct test_bus *bus) {
    const struct bus_events *events = &bus->bus.events;

    events->down(events->context, "the test said so");
    atomic_store(&cut_at_ms, clock_monotonic_ms());
    events->up(events->context);
    for (size_t i = 0; i < bus->subject_count; i++)
        if (strstr(bus->subjects[i], ":c:") == NULL)
            events->in_force(events->context, slice_of(bus->subjects[i]));
}

static void handle_delivery(struct loop *loop, struct loop_message *message) {
    struct test_delivery *delivery = container_of(message, struct test_delivery, message);
    const struct bus_events *events = &delivery->to->bus.events;

    (void)loop;
    if (delivery->what == DELIVER_MESSAGE) {
        events->message(events->context, &delivery->bus_message);
        return;
    }
    if (delivery->what == DELIVER_IN_FORCE)
        events->in_force(events->context, delivery->bus_message.subject);
    else if (delivery->what == DELIVER_UP)
        events->up(events->context);
    else if (delivery->what == DELIVER_CUT)
        cut_bus(delivery->to);
    else
        events->down(events->context, "the test said so");
    free(delivery);
}

/* The caller holds the mutex. */
static void deliver(struct test_bus *to, int what, struct slice subject, struct slice payload) {
    struct test_delivery *delivery = alloc_zero(sizeof *delivery + subject.length + payload.length);

    delivery->message.handle = handle_delivery;
    delivery->to = to;
    delivery->what = what;
    memcpy(delivery->bytes, subject.data, subject.length);
    if (payload.length != 0)
        memcpy(delivery->bytes + subject.length, payload.data, payload.length);
    delivery->bus_message = (struct bus_message){.subject = {delivery->bytes, subject.length},
                                                 .payload = {delivery->bytes + subject.length, payload.length},
                                                 .release = release_delivery};
    loop_post(to->loop, &delivery->message);
    loop_wake(to->loop);
}

static char **find_subject(const struct test_bus *bus, struct slice subject) {
    for (size_t i = 0; i < bus->subject_count; i++)
        if (slice_equal(slice_of(bus->subjects[i]), subject))
            return &bus->subjects[i];
    return NULL;
}

static bool is_lost(const struct bus_bytes *bytes) {
    switch ((unsigned char)bytes->data[1]) {
    case MESSAGE_CHANGE:
    case MESSAGE_STATE_REQUEST:
    case MESSAGE_STATE_PART:
    case MESSAGE_GAP_REQUEST:
    case MESSAGE_TOLD:
        return harness_random(&loss_seed, 100) < loss;
    case MESSAGE_API_REQUEST:
        lost_questions += lose_questions;
        return lose_questions;
    case MESSAGE_STATE_CREDIT:
        return lose_credits != 0 && lose_credits-- != 0;
    default:
        return false;
    }
}

/* Requests and digests take the time of a part of a turn, and those of node 0 are counted by turn. */
static atomic_bool slow_requests;
static atomic_uint requests_in_turn, most_requests_in_turn, slow_request_count;

static void be_slow_with_request(const struct bus *bus, const struct bus_bytes *bytes) {
    uint64_t begin_ns = clock_monotonic_ns();
    unsigned kind = (unsigned char)bytes->data[1];

    if (!slow_requests || bus != (struct bus *)buses[0] ||
        (kind != MESSAGE_STATE_REQUEST && kind != MESSAGE_GAP_REQUEST && kind != MESSAGE_DIGEST))
        return;
    slow_request_count++;
    requests_in_turn++;
    while (clock_monotonic_ns() - begin_ns < LOOP_PART_NS)
        ;
}

static bool test_bus_publish(struct bus *bus, struct slice subject, struct bus_bytes *bytes) {
    bool up;

    be_slow_with_request(bus, bytes);
    pthread_mutex_lock(&bus_mutex);
    up = ((struct test_bus *)bus)->up;
    if ((unsigned char)bytes->data[1] == MESSAGE_STATE_REQUEST && atomic_exchange(&cut_at_request, false))
        deliver((struct test_bus *)bus, DELIVER_CUT, SLICE(""), (struct slice){0});
    for (unsigned i = 0; up && i < NODES; i++)
        if (buses[i] != NULL && buses[i]->up && find_subject(buses[i], subject) != NULL && !is_lost(bytes))
            deliver(buses[i], DELIVER_MESSAGE, subject, (struct slice){bytes->data, bytes->length});
    pthread_mutex_unlock(&bus_mutex);
    return up;
}

static void test_bus_subscribe(struct bus *bus, struct slice subject) {
    struct test_bus *own = (struct test_bus *)bus;

    pthread_mutex_lock(&bus_mutex);
    assert_null(find_subject(own, subject));
    own->subjects = alloc_array(own->subjects, own->subject_count + 1, sizeof own->subjects[0]);
    own->subjects[own->subject_count++] = alloc_copy(subject.data, subject.length);
    if (own->up)
        deliver(own, DELIVER_IN_FORCE, subject, (struct slice){0});
    pthread_mutex_unlock(&bus_mutex);
}

static void test_bus_unsubscribe(struct bus *bus, struct slice subject) {
    struct test_bus *own = (struct test_bus *)bus;
    char **found;

    pthread_mutex_lock(&bus_mutex);
    found = find_subject(own, subject);
    assert_non_null(found);
    free(*found);
    *found = own->subjects[--own->subject_count];
    pthread_mutex_unlock(&bus_mutex);
}

static void test_bus_flush(struct bus *bus) {
    (void)bus;
}

static void test_bus_state(const struct bus *bus, struct bus_state *state) {
    *state = (struct bus_state){.up = ((const struct test_bus *)bus)->up, .needs_answers = needs_answers};
}

static const struct bus_driver test_driver = {
    .name = "test",
    .publish = test_bus_publish,
    .flush = test_bus_flush,
    .subscribe = test_bus_subscribe,
    .unsubscribe = test_bus_unsubscribe,
    .state = test_bus_state,
};

/* All subscriptions are made anew when the bus comes up. */
static void set_bus_up(unsigned node, bool up) {
    struct test_bus *bus = buses[node];

    pthread_mutex_lock(&bus_mutex);
    bus->up = up;
    deliver(bus, up ? DELIVER_UP : DELIVER_DOWN, SLICE(""), (struct slice){0});
    for (size_t i = 0; up && i < bus->subject_count; i++)
        deliver(bus, DELIVER_IN_FORCE, slice_of(bus->subjects[i]), (struct slice){0});
    pthread_mutex_unlock(&bus_mutex);
}

/* --- nodes --- */

struct test_node {
    struct workers workers;
    struct reclaimer reclaimer;
    struct channel_hub *hub;
    struct app_slot *slot;
    struct cluster_core core;
    struct state *state;
    struct requests *requests;
};

static struct config config;
static struct test_node nodes[NODES];

static bool has_socket_id(const struct stream *stream, const struct socket_id *id) {
    (void)stream;
    (void)id;
    return false;
}

static void end_test_turn(void *context) {
    cluster_core_tell_turn_end(context);
    if (context != &nodes[0].core)
        return;
    if (requests_in_turn > most_requests_in_turn)
        most_requests_in_turn = requests_in_turn;
    requests_in_turn = 0;
}

static void create_node(unsigned number) {
    const struct channel_hub_settings settings = {
        .group_max_messages = 1, .group_max_bytes = 65536, .has_socket_id = has_socket_id};
    struct test_node *node = &nodes[number];
    struct cluster_core *core = &node->core;
    struct error error;

    memset(node, 0, sizeof *node);
    harness_create(&node->workers, 2);
    reclaimer_init(&node->reclaimer, &node->workers);
    node->hub = channel_hub_create(&node->workers, &settings);
    core->config = &config;
    core->workers = &node->workers;
    core->channels = node->hub;
    core->reclaimer = &node->reclaimer;
    core->loop = loop_create(&error);
    assert_non_null(core->loop);
    buses[number] = alloc_zero(sizeof *buses[number]);
    buses[number]->bus = (struct bus){&test_driver, cluster_core_events(core)};
    buses[number]->loop = core->loop;
    core->bus = &buses[number]->bus;
    subjects_init(&core->subjects, SUBJECT_PLAIN, SLICE("test:"));
    node_messages_create(core, SLICE("127.0.0.1"));
    node->state = state_create(core, NULL);
    node->requests = requests_create(core, state_interests(node->state));
    node->slot = app_slot_create(SLICE("42"), 2);
    loop_set_end_of_turn(core->loop, end_test_turn, core);
    assert_true(loop_start(core->loop, &error));
}

static void destroy_node(unsigned number) {
    struct test_node *node = &nodes[number];
    struct test_bus *bus = buses[number];

    /* The other nodes go on: what they say from now on would find a loop that has ended. */
    pthread_mutex_lock(&bus_mutex);
    buses[number] = NULL;
    pthread_mutex_unlock(&bus_mutex);
    loop_stop(node->core.loop);
    for (unsigned i = 0; i < 2; i++)
        harness_settle(node->workers.list[i]);
    node->core.ended = true;
    loop_settle(node->core.loop);
    cluster_core_dispose_parts(&node->core);
    loop_destroy(node->core.loop);
    subjects_dispose(&node->core.subjects);
    for (size_t i = 0; i < bus->subject_count; i++)
        free(bus->subjects[i]);
    free(bus->subjects);
    free(bus);
    channel_hub_destroy(node->hub);
    app_slot_destroy(node->slot, channel_table_destroy);
    harness_destroy(&node->workers);
    reclaimer_dispose(&node->reclaimer);
}

/* --- peers: connections that join and leave, and check what they are told --- */

enum peer_state { PEER_OUT, PEER_WAITS, PEER_MAY_JOIN, PEER_IN };

struct peer {
    enum peer_state state;
    unsigned node, channel, user;
    struct stream *stream;
    int client;
    struct buffer in;
    struct subscription own;
    struct channel_waiter waiter;
    bool has[USERS]; /* the members that it was told */
};

static struct peer peers[PEERS];
static struct buffer received; /* the last message that was read */
static uint64_t seed;

static struct slice name_of_channel(unsigned channel, char name[32]) {
    return (struct slice){name, (size_t)snprintf(name, 32, "presence-%u", channel)};
}

static void peer_may_join(struct channel_waiter *waiter) {
    container_of(waiter, struct peer, waiter)->state = PEER_MAY_JOIN;
}

static void try_to_join(struct peer *peer) {
    struct channel_join join = {.waiter = &peer->waiter, .user_info = SLICE("{\"a\":1}")};
    const struct presence_member *member;
    char name[32], user[32];

    join.user_id = (struct slice){user, (size_t)snprintf(user, sizeof user, "u%u", peer->user)};
    switch (channel_subscribe(nodes[peer->node].hub, nodes[peer->node].slot, peer->stream,
                              name_of_channel(peer->channel, name), &peer->own, &join)) {
    case CHANNEL_WAITS:
        peer->state = PEER_WAITS;
        break;
    case CHANNEL_JOINED:
        peer->state = PEER_IN;
        member_list_each(join.members, member) {
            unsigned long long number = 0;

            slice_to_number(slice_skip(presence_member_key(member), 1), USERS, &number);
            assert_false(peer->has[number]);
            peer->has[number] = true;
        }
        assert_true(peer->has[peer->user]);
        member_list_unref(join.members);
        break;
    default:
        fail_msg("a peer could not join");
    }
}

static void begin_peer(struct peer *peer) {
    memset(peer, 0, sizeof *peer);
    peer->node = harness_random(&seed, NODES);
    peer->channel = harness_random(&seed, CHANNELS);
    peer->user = harness_random(&seed, USERS);
    peer->waiter.ready = peer_may_join;
    peer->stream = harness_open(nodes[peer->node].workers.list[harness_random(&seed, 2)], peer, &peer->client);
    try_to_join(peer);
}

static void end_peer(struct peer *peer) {
    if (peer->state == PEER_OUT)
        return;
    if (peer->state == PEER_IN)
        channel_leave(nodes[peer->node].hub, &peer->own, NULL);
    channel_await_end(&peer->waiter);
    harness_close(peer->stream, peer->client);
    buffer_dispose(&peer->in);
    peer->state = PEER_OUT;
}

/* Takes one message of a peer: what was added was not there, what was removed was. */
static void check_message(struct peer *peer, const char *text) {
    const char *id = strstr(text, "user_id\\\":\\\"u");
    bool added = strstr(text, "member_added") != NULL;
    unsigned user;

    if (id == NULL)
        return;
    user = (unsigned)atoi(id + 13);
    if (peer->has[user] == added)
        fail_msg("node %u, presence-%u: u%u was %s twice", peer->node, peer->channel, user,
                 added ? "added" : "removed");
    peer->has[user] = added;
}

static void read_peer(struct peer *peer) {
    if (peer->state != PEER_IN)
        return;
    while (text_frame_receive(peer->client, &peer->in, &received))
        check_message(peer, buffer_string(&received));
}

/* --- what must be --- */

static void turn_all(void) {
    for (unsigned i = 0; i < NODES; i++)
        for (unsigned worker = 0; worker < 2; worker++)
            harness_turn(nodes[i].workers.list[worker]);
    for (unsigned i = 0; i < PEERS; i++) {
        if (peers[i].state == PEER_MAY_JOIN)
            try_to_join(&peers[i]);
        read_peer(&peers[i]);
    }
}

static void model_of(unsigned channel, bool users[USERS]) {
    memset(users, 0, USERS * sizeof users[0]);
    for (unsigned i = 0; i < PEERS; i++)
        if (peers[i].state == PEER_IN && peers[i].channel == channel)
            users[peers[i].user] = true;
}

static bool node_agrees(const struct test_node *node, unsigned channel, const bool expected[USERS]) {
    struct buffer text = {0};
    char name[32], user[32];
    unsigned count = 0;
    bool agrees = true;

    channel_append_users(node->slot, name_of_channel(channel, name), &text);
    buffer_string(&text);
    for (unsigned i = 0; i < USERS; i++) {
        snprintf(user, sizeof user, "\"u%u\"", i);
        agrees &= (strstr(text.data, user) != NULL) == expected[i];
        count += expected[i];
    }
    buffer_dispose(&text);
    (void)count;
    return agrees;
}

/* True if every node with subscribers has what the model has, and every peer was told it. */
static bool all_agree(void) {
    bool users[USERS];

    for (unsigned i = 0; i < PEERS; i++) {
        if (peers[i].state == PEER_OUT)
            continue;
        if (peers[i].state != PEER_IN)
            return false;
        model_of(peers[i].channel, users);
        if (memcmp(users, peers[i].has, sizeof users) != 0 ||
            !node_agrees(&nodes[peers[i].node], peers[i].channel, users))
            return false;
    }
    return true;
}

static uint64_t wait_for_agreement(void) {
    uint64_t begin_ms = clock_monotonic_ms();

    while (!all_agree()) {
        if (clock_monotonic_ms() - begin_ms > PATIENCE_MS)
            fail_msg("the nodes do not agree");
        turn_all();
        usleep(200);
    }
    return clock_monotonic_ms() - begin_ms;
}

static void change_peers(unsigned steps) {
    for (unsigned step = 0; step < steps; step++) {
        struct peer *peer = &peers[harness_random(&seed, PEERS)];

        if (peer->state == PEER_OUT)
            begin_peer(peer);
        else
            end_peer(peer);
        if (step % 4 == 0)
            turn_all();
    }
}

static void wait_until_nodes_are_known(void) {
    uint64_t begin_ms = clock_monotonic_ms();
    bool known = false;

    while (!known) {
        assert_true(clock_monotonic_ms() - begin_ms < PATIENCE_MS);
        known = true;
        for (unsigned i = 0; i < NODES; i++)
            known &= __builtin_popcountll(atomic_load(&nodes[i].core.alive)) == NODES - 1;
        turn_all();
        usleep(200);
    }
}

/* --- a crowd: subscriptions of node 0 whose set takes more parts than a worker makes at once --- */

#define CROWD 400
#define CROWD_CHANNEL SLICE("presence-big")

struct crowd_member {
    struct subscription own;
    struct stream *stream;
    int client;
    struct channel_waiter waiter;
    bool may_join, joined;
};

static struct crowd_member crowd[CROWD];

static void crowd_member_may_join(struct channel_waiter *waiter) {
    container_of(waiter, struct crowd_member, waiter)->may_join = true;
}

static void begin_crowd_member(struct crowd_member *member, unsigned node) {
    memset(member, 0, sizeof *member);
    member->stream = harness_open(nodes[node].workers.list[0], member, &member->client);
    member->waiter.ready = crowd_member_may_join;
    member->may_join = true;
}

static bool try_to_join_as(struct crowd_member *member, unsigned node, struct slice channel,
                           struct channel_join *join) {
    if (!member->may_join)
        return member->joined;
    member->may_join = false;
    if (channel_subscribe(nodes[node].hub, nodes[node].slot, member->stream, channel, &member->own, join) ==
        CHANNEL_JOINED) {
        member_list_unref(join->members);
        member->joined = true;
    }
    return member->joined;
}

static bool try_to_join_crowd(struct crowd_member *member, unsigned node, struct slice user, struct slice info) {
    struct channel_join join = {.waiter = &member->waiter, .user_id = user, .user_info = info};

    return try_to_join_as(member, node, CROWD_CHANNEL, &join);
}

static void end_crowd_member(struct crowd_member *member, unsigned node) {
    if (member->stream == NULL)
        return;
    if (member->joined)
        channel_leave(nodes[node].hub, &member->own, NULL);
    channel_await_end(&member->waiter);
    harness_close(member->stream, member->client);
    member->stream = NULL;
}

/* Waits for what shall be: begin with 0. */
static void turn_until_late(uint64_t *begin_ms) {
    if (*begin_ms == 0)
        *begin_ms = clock_monotonic_ms();
    assert_true(clock_monotonic_ms() - *begin_ms < PATIENCE_MS);
    turn_all();
    usleep(200);
}

static void begin_crowd_of(size_t info_bytes) {
    char info[4096], user[32];
    uint64_t begin_ms = 0;
    unsigned joined = 0;

    assert_true(info_bytes <= sizeof info);
    memset(info, 'a', info_bytes);
    info[0] = info[info_bytes - 1] = '"';
    for (unsigned i = 0; i < CROWD; i++)
        begin_crowd_member(&crowd[i], 0);
    while (joined < CROWD) {
        joined = 0;
        for (unsigned i = 0; i < CROWD; i++) {
            struct slice id = {user, (size_t)snprintf(user, sizeof user, "u%u", i)};
            joined += try_to_join_crowd(&crowd[i], 0, id, (struct slice){info, info_bytes});
        }
        turn_until_late(&begin_ms);
    }
}

static void begin_crowd(void) {
    begin_crowd_of(1024);
}

static void end_crowd(void) {
    for (unsigned i = 0; i < CROWD; i++)
        end_crowd_member(&crowd[i], 0);
}

/* --- what a node is told without another one having said it --- */

static void say_as(unsigned sender, unsigned to, struct slice subject, struct cluster_message *message) {
    struct node_id id = nodes_own_id(nodes[sender].core.nodes);
    struct bus_bytes *bytes;

    message->version = 1;
    message->sender = id;
    bytes = message_encode(message);
    assert_non_null(bytes);
    message_seal(bytes, id, 1);
    pthread_mutex_lock(&bus_mutex);
    deliver(buses[to], DELIVER_MESSAGE, subject, (struct slice){bytes->data, bytes->length});
    pthread_mutex_unlock(&bus_mutex);
    bus_bytes_unref(bytes);
}

static void say_to_inbox_as(unsigned sender, unsigned to, struct cluster_message *message) {
    struct buffer inbox = {0};

    subject_append_inbox(&inbox, &nodes[to].core.subjects, nodes_own_id(nodes[to].core.nodes));
    say_as(sender, to, buffer_slice(&inbox), message);
    buffer_dispose(&inbox);
}

/* Node 2 asks node 0 for the crowd. */
static void ask_for_crowd(uint64_t request, uint64_t credit) {
    struct cluster_message message = {.kind = MESSAGE_STATE_REQUEST};
    struct message_place place = {SLICE("42"), CROWD_CHANNEL};
    struct buffer places = {0};

    message_add_place(&places, &place);
    message.state_request =
        (struct message_state_request){.request = request, .credit = credit, .places = buffer_slice(&places)};
    say_to_inbox_as(2, 0, &message);
    buffer_dispose(&places);
}

static uint64_t parts_sent_by(unsigned node) {
    return counter_read(&nodes[node].core.kinds[MESSAGE_STATE_PART].sent);
}

/* --- the tests --- */

/* A way through a node's thread. */
struct pause {
    struct loop_message message;
    sem_t done;
};

static void end_pause(struct loop *loop, struct loop_message *message) {
    (void)loop;
    sem_post(&container_of(message, struct pause, message)->done);
}

static int set_up(void **state) {
    (void)state;
    config = (struct config){0};
    config.adapter.cluster_health.heartbeat_interval_ms = 500;
    config.adapter.cluster_health.node_timeout_ms = 60000;
    config.adapter.outage_presence_s = 600;
    config.adapter.outage_buffer_mb = 64;
    config.adapter.driver = (char *)"nats"; /* of the time that a question has */
    config.adapter.nats.request_timeout_ms = PATIENCE_MS;
    config.instance.process_id = (char *)"test";
    budget_set_limit(0);
    seed = 3;
    loss = 0;
    for (unsigned i = 0; i < NODES; i++)
        create_node(i);
    for (unsigned i = 0; i < NODES; i++)
        set_bus_up(i, true);
    wait_until_nodes_are_known();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    for (unsigned i = 0; i < PEERS; i++)
        end_peer(&peers[i]);
    turn_all();
    for (unsigned i = 0; i < NODES; i++)
        destroy_node(i);
    buffer_dispose(&received);
    return 0;
}

static void all_nodes_have_the_members_of_all(void **state) {
    (void)state;
    for (unsigned round = 0; round < 5; round++) {
        change_peers(600);
        wait_for_agreement();
    }
}

static void what_was_lost_is_repaired(void **state) {
    (void)state;
    pthread_mutex_lock(&bus_mutex);
    loss = 10;
    pthread_mutex_unlock(&bus_mutex);
    change_peers(1500);
    pthread_mutex_lock(&bus_mutex);
    loss = 0;
    pthread_mutex_unlock(&bus_mutex);
    wait_for_agreement();
}

static void a_node_that_was_away_learns_what_differs_and_so_do_the_others(void **state) {
    (void)state;
    change_peers(400);
    wait_for_agreement();
    for (unsigned round = 0; round < 3; round++) {
        set_bus_up(round, false);
        change_peers(400);
        for (unsigned i = 0; i < 50; i++) {
            turn_all();
            usleep(200);
        }
        set_bus_up(round, true);
        assert_true(wait_for_agreement() < 20000);
    }
}

static void subscriptions_wait_for_a_round_of_answers_on_a_bus_of_several_servers(void **state) {
    (void)state;
    needs_answers = true;
    change_peers(600);
    wait_for_agreement();
    needs_answers = false;
    for (unsigned i = 0; i < NODES; i++)
        assert_true(counter_read(&nodes[i].core.kinds[MESSAGE_PROBE_ANSWER].received) > 0);
}

/* As the cache of apps does with a slot that nobody uses. */
static void replace_slot_of_node(unsigned node) {
    struct channel *channel = channel_find(nodes[node].slot, CROWD_CHANNEL);

    channel_let_go(nodes[node].workers.list[0], channel, channel->cluster->generation);
    channel_unref(channel);
    assert_true(channel_table_empty(atomic_load(&nodes[node].slot->channels)));
    app_slot_destroy(nodes[node].slot, channel_table_destroy);
    nodes[node].slot = app_slot_create(SLICE("42"), 2);
}

static void an_answer_that_waits_for_credit_outlives_the_slot(void **state) {
    struct cluster_message credit = {.kind = MESSAGE_STATE_CREDIT, .state_credit = {4711, 1000000}};
    uint64_t begin_ms = 0, parts, answers;

    (void)state;
    begin_crowd();
    parts = parts_sent_by(0);
    answers = counter_read(&state_counters_of(nodes[0].state)->answers);
    ask_for_crowd(4711, 1);
    while (parts_sent_by(0) == parts)
        turn_until_late(&begin_ms);
    end_crowd();
    replace_slot_of_node(0);
    say_to_inbox_as(2, 0, &credit);
    while (counter_read(&state_counters_of(nodes[0].state)->answers) == answers)
        turn_until_late(&begin_ms);
}

/* All that node 0 can do without news of others is done: its thread and its workers have handed on to each other more
 * often than an answer has pieces. */
static void settle_node_0(void) {
    struct pause pause = {.message.handle = end_pause};

    sem_init(&pause.done, 0, 0);
    for (unsigned i = 0; i < 100; i++) {
        turn_all();
        loop_post(nodes[0].core.loop, &pause.message);
        loop_wake(nodes[0].core.loop);
        sem_wait(&pause.done);
    }
    sem_destroy(&pause.done);
}

static void an_asker_that_takes_everything_gets_a_megabyte_without_more_credit(void **state) {
    const struct state_counters *counters = state_counters_of(nodes[0].state);
    struct cluster_message credit = {.kind = MESSAGE_STATE_CREDIT, .state_credit = {4711, UINT64_MAX}};
    uint64_t begin_ms = 0, sent = counter_read(&counters->answer_bytes), answers = counter_read(&counters->answers);

    (void)state;
    begin_crowd_of(4096); /* 1.6 MB */
    ask_for_crowd(4711, UINT64_MAX);
    while (counter_read(&counters->answer_bytes) - sent < CREDIT_OF_NODE)
        turn_until_late(&begin_ms);
    settle_node_0();
    assert_in_range(counter_read(&counters->answer_bytes) - sent, CREDIT_OF_NODE, CREDIT_OF_NODE + 64 * 1024);
    assert_int_equal(counter_read(&counters->answers), answers);
    say_to_inbox_as(2, 0, &credit);
    while (counter_read(&counters->answers) == answers)
        turn_until_late(&begin_ms);
    assert_true(counter_read(&counters->answer_bytes) - sent > CROWD * 4096);
    end_crowd();
}

static unsigned crowd_members_on(unsigned node) {
    struct buffer text = {0};
    unsigned count = 0;

    channel_append_users(nodes[node].slot, CROWD_CHANNEL, &text);
    buffer_string(&text);
    for (const char *at = text.data; (at = strstr(at, "\"u")) != NULL; at++)
        count++;
    buffer_dispose(&text);
    return count;
}

/* Node 1 learns the whole crowd though its first credits are lost. */
static void check_lost_credits(unsigned count) {
    struct crowd_member watcher;
    uint64_t begin_ms = 0;

    begin_crowd();
    pthread_mutex_lock(&bus_mutex);
    lose_credits = count;
    pthread_mutex_unlock(&bus_mutex);
    begin_crowd_member(&watcher, 1);
    while (!try_to_join_crowd(&watcher, 1, SLICE("watcher"), SLICE("{}")) || crowd_members_on(1) != CROWD)
        turn_until_late(&begin_ms);
    pthread_mutex_lock(&bus_mutex);
    assert_true(lose_credits < count);
    lose_credits = 0;
    pthread_mutex_unlock(&bus_mutex);
    end_crowd_member(&watcher, 1);
    end_crowd();
}

static void a_set_is_complete_though_credits_are_lost(void **state) {
    (void)state;
    check_lost_credits(2);
}

static void a_set_that_was_given_up_is_asked_for_again(void **state) {
    (void)state;
    check_lost_credits(10);
}

/* --- each minute --- */

/* Work that a test does on the thread of a node. */
struct errand {
    struct loop_message message;
    struct state *state;
    void (*run)(struct state *state);
    sem_t done;
};

static void run_errand(struct loop *loop, struct loop_message *message) {
    struct errand *errand = container_of(message, struct errand, message);

    (void)loop;
    errand->run(errand->state);
    sem_post(&errand->done);
}

static void run_on_thread(unsigned node, void (*run)(struct state *state)) {
    struct errand errand = {.message.handle = run_errand, .state = nodes[node].state, .run = run};

    sem_init(&errand.done, 0, 0);
    loop_post(nodes[node].core.loop, &errand.message);
    loop_wake(nodes[node].core.loop);
    sem_wait(&errand.done);
    sem_destroy(&errand.done);
}

static bool channels_are_looked_at;

/* Begins unless the last time is not over. */
static void look_at_channels(struct state *state) {
    channels_are_looked_at = state->look_left == 0;
    if (channels_are_looked_at)
        state->slow_timer.fire(&state->slow_timer);
}

/* What a node does each minute. */
static void let_a_minute_pass(unsigned node) {
    do
        run_on_thread(node, look_at_channels);
    while (!channels_are_looked_at);
}

/* --- a set that has become empty --- */

#define REMEMBERED_S 120

/* The set that node 1 has of the crowd's channel, as node 0 knows it. */
static struct {
    uint64_t version; /* 0: there is none, or no more */
    uint32_t emptied_s, now_s;
} set_of_node_1;

static void read_set_of_node_1(struct state *state) {
    unsigned node = nodes_find(state->core->nodes, nodes_own_id(nodes[1].core.nodes));
    struct channel *channel = channel_find(nodes[0].slot, CROWD_CHANNEL);
    const struct interest *interest = channel_hook_memory(channel);

    set_of_node_1.now_s = state_now_s(state);
    set_of_node_1.version = set_versions_applied(&interest->versions, node);
    for (unsigned i = 0; i < interest->versions.count; i++)
        if (interest->versions.list[i].node == node)
            set_of_node_1.emptied_s = interest->versions.list[i].emptied_s;
    channel_unref(channel); /* the subscription has one, too */
}

static void turn_until_node_0_has(unsigned members) {
    uint64_t begin_ms = 0;

    while (crowd_members_on(0) != members)
        turn_until_late(&begin_ms);
}

/* A member is on node 1 for a moment. Returns the version of its coming. */
static uint64_t come_and_go_on_node_1(void) {
    uint64_t begin_ms = 0, version;

    begin_crowd_member(&crowd[1], 1);
    while (!try_to_join_crowd(&crowd[1], 1, SLICE("u1"), SLICE("{}")))
        turn_until_late(&begin_ms);
    turn_until_node_0_has(1);
    run_on_thread(0, read_set_of_node_1);
    version = set_of_node_1.version;
    end_crowd_member(&crowd[1], 1);
    turn_until_node_0_has(0);
    return version;
}

/* The change by which the member came arrives once more. */
static void tell_coming_on_node_1(uint64_t version) {
    struct cluster_message message = {.kind = MESSAGE_CHANGE,
                                      .change = {.app = SLICE("42"),
                                                 .channel = CROWD_CHANNEL,
                                                 .version = version,
                                                 .added = true,
                                                 .id = SLICE("u1"),
                                                 .info = SLICE("{}")}};
    struct buffer subject = {0};

    subject_append_channel(&subject, &nodes[0].core.subjects, SLICE("42"), CROWD_CHANNEL);
    say_as(1, 0, buffer_slice(&subject), &message);
    buffer_dispose(&subject);
}

/* At one time: what is read is as the look has left it. */
static void look_at_set_of_node_1(struct state *state) {
    look_at_channels(state);
    read_set_of_node_1(state);
}

/* No node is silent for longer than that. */
static void let_a_second_pass(void) {
    passing_time_add(1000);
    for (unsigned i = 0; i < NODES; i++)
        run_on_thread(i, look_at_channels);
    run_on_thread(0, look_at_set_of_node_1);
}

static void a_set_that_became_empty_is_remembered_for_two_minutes(void **state) {
    struct crowd_member watcher;
    uint64_t begin_ms = 0, version;
    uint32_t age_s;

    (void)state;
    begin_crowd_member(&watcher, 0);
    while (!try_to_join_crowd(&watcher, 0, SLICE("watcher"), SLICE("{}")))
        turn_until_late(&begin_ms);
    version = come_and_go_on_node_1();
    do {
        tell_coming_on_node_1(version); /* it must stay a thing of the past */
        let_a_second_pass();
        age_s = set_of_node_1.now_s - set_of_node_1.emptied_s;
        assert_true(set_of_node_1.version > version || age_s > REMEMBERED_S);
    } while (set_of_node_1.version != 0 && age_s <= REMEMBERED_S + 1);
    assert_int_equal(set_of_node_1.version, 0);
    settle_node_0();
    assert_int_equal(crowd_members_on(0), 0);
    come_and_go_on_node_1();
    end_crowd_member(&watcher, 0);
}

/* --- no room for a set --- */

#define ROOM (100 * 1024)

static uint64_t gap_requests_of(unsigned node) {
    return counter_read(&state_counters_of(nodes[node].state)->gap_requests);
}

/* Leaves the app on node 1 so much room for members. Returns what was taken away. */
static uint64_t leave_room_on_node_1(uint64_t bytes) {
    struct budget_app *app = nodes[1].slot->budget;
    uint64_t most, taken;

    budget_set_limit(UINT64_C(1) << 32);
    budget_settle();
    most = 2 * (budget_kind_limit(BUDGET_PRESENCE) - budget_used(BUDGET_PRESENCE)); /* see budget.h */
    taken = most - bytes - budget_app_held(app);
    budget_app_add(app, taken);
    return taken;
}

/* A member of the crowd leaves and comes again. */
static void change_crowd(void) {
    char info[1024];
    uint64_t begin_ms = 0;

    memset(info, 'a', sizeof info);
    info[0] = info[sizeof info - 1] = '"';
    end_crowd_member(&crowd[0], 0);
    begin_crowd_member(&crowd[0], 0);
    while (!try_to_join_crowd(&crowd[0], 0, SLICE("u0"), (struct slice){info, sizeof info}))
        turn_until_late(&begin_ms);
    for (unsigned i = 0; i < 25; i++)
        turn_until_late(&begin_ms);
}

static void a_set_without_room_is_not_asked_for_with_every_change(void **state) {
    struct crowd_member watcher;
    uint64_t begin_ms = 0, taken, held, asked;

    (void)state;
    begin_crowd();
    taken = leave_room_on_node_1(ROOM);
    begin_crowd_member(&watcher, 1);
    while (!try_to_join_crowd(&watcher, 1, SLICE("watcher"), SLICE("{}")))
        turn_until_late(&begin_ms);
    asked = gap_requests_of(1);
    for (unsigned i = 0; i < 50; i++) {
        change_crowd();
        held = budget_app_held(nodes[1].slot->budget) - taken;
        assert_true(held <= ROOM && crowd_members_on(1) < CROWD);
    }
    assert_in_range(gap_requests_of(1) - asked, 0, 8); /* eight take four minutes */
    budget_app_give(nodes[1].slot->budget, (int64_t)taken);
    while (crowd_members_on(1) != CROWD)
        change_crowd();
    budget_set_limit(0);
    end_crowd_member(&watcher, 1);
    end_crowd();
}

/* Its last members leave while it is not known: the node that had them says only that it has nothing. */
static void a_set_without_room_is_emptied_when_its_node_has_nothing(void **state) {
    struct crowd_member watcher;
    uint64_t begin_ms = 0, taken;

    (void)state;
    begin_crowd();
    taken = leave_room_on_node_1(ROOM);
    begin_crowd_member(&watcher, 1);
    while (!try_to_join_crowd(&watcher, 1, SLICE("watcher"), SLICE("{}")))
        turn_until_late(&begin_ms);
    assert_in_range(crowd_members_on(1), 1, CROWD - 1);
    end_crowd();
    replace_slot_of_node(0);
    while (crowd_members_on(1) != 0) {
        let_a_minute_pass(1);
        turn_until_late(&begin_ms);
    }
    budget_app_give(nodes[1].slot->budget, (int64_t)taken);
    budget_set_limit(0);
    end_crowd_member(&watcher, 1);
}

/* --- counts --- */

static void tell_count_as_node_2(uint64_t version, uint32_t count) {
    struct cluster_message message = {.kind = MESSAGE_COUNT, .count = {SLICE("42"), SLICE("room"), version, count}};
    struct buffer subject = {0};

    subject_append_channel(&subject, &nodes[0].core.subjects, SLICE("42"), SLICE("room"));
    say_as(2, 0, buffer_slice(&subject), &message);
    buffer_dispose(&subject);
}

static void turn_until_node_0_counts(struct slice name, uint32_t count) {
    uint64_t begin_ms = 0;
    uint32_t counted;

    do {
        struct channel *channel = channel_find(nodes[0].slot, name);

        turn_until_late(&begin_ms);
        pthread_mutex_lock(&channel->mutex);
        counted = channel->cluster->told_subscriptions;
        pthread_mutex_unlock(&channel->mutex);
        channel_unref(channel);
    } while (counted != count);
}

static void a_count_that_is_not_told_again_is_dropped(void **state) {
    struct crowd_member member;
    uint64_t begin_ms = 0;

    (void)state;
    begin_crowd_member(&member, 0);
    while (!try_to_join_as(&member, 0, SLICE("room"), &(struct channel_join){.waiter = &member.waiter}))
        turn_until_late(&begin_ms);
    tell_count_as_node_2(7, 5);
    turn_until_node_0_counts(SLICE("room"), 5);
    let_a_minute_pass(0);
    tell_count_as_node_2(7, 5);
    tell_count_as_node_2(8, 6);
    turn_until_node_0_counts(SLICE("room"), 6);
    let_a_minute_pass(0);
    let_a_minute_pass(0);
    let_a_minute_pass(0);
    turn_until_node_0_counts(SLICE("room"), 0);
    tell_count_as_node_2(8, 6);
    turn_until_node_0_counts(SLICE("room"), 6);
    end_crowd_member(&member, 0);
}

static struct interest *interest_of_room(void) {
    struct channel *channel = channel_find(nodes[0].slot, SLICE("room"));
    struct interest *interest = channel_hook_memory(channel);

    channel_unref(channel); /* the subscription has one, too */
    return interest;
}

static void ignore_timer(struct loop_timer *timer) {
    (void)timer;
}

/* The next question about counts has to wait until others are answered, and subscriptions wait for answers only. */
static void hold_questions(struct state *state) {
    interest_of_room()->has_count = true;
    state->open_asks += ASKS_MAX;
    state->interests.ask_timer.fire = ignore_timer;
}

static void release_questions(struct state *state) {
    assert_int_equal(interest_of_room()->phase, INTEREST_ASKING);
    state->open_asks -= ASKS_MAX;
    state_go_on(state);
}

static bool room_is_ready;

static void read_whether_room_is_ready(struct state *state) {
    room_is_ready = interest_of_room()->phase == INTEREST_READY && state->interests.up;
}

static void a_question_about_counts_holds_no_subscription_up(void **state) {
    const struct counter *answers = &nodes[0].core.kinds[MESSAGE_PROBE_ANSWER].received;
    struct crowd_member member;
    uint64_t begin_ms = 0;

    (void)state;
    begin_crowd_member(&member, 0);
    while (!try_to_join_as(&member, 0, SLICE("room"), &(struct channel_join){.waiter = &member.waiter}))
        turn_until_late(&begin_ms);
    run_on_thread(0, hold_questions);
    needs_answers = true;
    set_bus_up(0, false);
    set_bus_up(0, true);
    while (counter_read(answers) < NODES - 1)
        turn_until_late(&begin_ms);
    run_on_thread(0, release_questions);
    do {
        turn_until_late(&begin_ms);
        run_on_thread(0, read_whether_room_is_ready);
    } while (!room_is_ready);
    needs_answers = false;
    end_crowd_member(&member, 0);
}

static bool told_at_once;

static void end_probes_of_room(struct state *state) {
    struct interest *interest = interest_of_room();

    assert_true(state_probe(state, interest));
    state_probes_end_all(state);
    told_at_once = list_empty(&interest->probed);
}

static bool room_is_probed;

static void read_whether_room_is_probed(struct state *state) {
    (void)state;
    room_is_probed = !list_empty(&interest_of_room()->probed);
}

static void channels_that_wait_for_a_round_are_told_later_that_it_is_over(void **state) {
    struct crowd_member member;
    uint64_t begin_ms = 0;

    (void)state;
    begin_crowd_member(&member, 0);
    while (!try_to_join_as(&member, 0, SLICE("room"), &(struct channel_join){.waiter = &member.waiter}))
        turn_until_late(&begin_ms);
    needs_answers = true;
    run_on_thread(0, end_probes_of_room);
    needs_answers = false;
    assert_false(told_at_once);
    do {
        turn_until_late(&begin_ms);
        run_on_thread(0, read_whether_room_is_probed);
    } while (room_is_probed);
    end_crowd_member(&member, 0);
}

/* --- versions that are told again --- */

static bool tells_crowd_version;

static void read_whether_crowd_version_is_told(struct state *state) {
    struct channel *channel = channel_find(nodes[0].slot, CROWD_CHANNEL);
    const struct interest *interest = channel_hook_memory(channel);

    (void)state;
    tells_crowd_version = interest->has_version;
    channel_unref(channel);
}

static void turn_until_crowd_version_is_told(bool told) {
    uint64_t begin_ms = 0;

    do {
        turn_until_late(&begin_ms);
        run_on_thread(0, read_whether_crowd_version_is_told);
    } while (tells_crowd_version != told);
}

/* Other nodes would take it for news of a set that has changed since. */
static void a_version_of_before_an_outage_is_not_told_again_after_a_change_in_it(void **state) {
    uint64_t begin_ms = 0;

    (void)state;
    begin_crowd_member(&crowd[0], 0);
    while (!try_to_join_crowd(&crowd[0], 0, SLICE("u0"), SLICE("{}")))
        turn_until_late(&begin_ms);
    turn_until_crowd_version_is_told(true);
    set_bus_up(0, false);
    begin_crowd_member(&crowd[1], 0);
    while (!try_to_join_crowd(&crowd[1], 0, SLICE("u1"), SLICE("{}")))
        turn_until_late(&begin_ms);
    turn_until_crowd_version_is_told(false);
    end_crowd_member(&crowd[0], 0);
    end_crowd_member(&crowd[1], 0);
}

/* --- a storm of joins --- */

#define STORM 100 /* channels that come while the requests before are under way */
#define STORM_REQUESTS 4

/* What node 0 asks all others. */
static struct {
    unsigned open, wanted, named, newest; /* requests under way; channels that wait, in all requests, in the newest */
    uint32_t oldest;                      /* the number of a request */
} storm;

/* Requests wait for answers for ever. */
static void hold_asks(struct state *state) {
    state->ask_timer.fire = ignore_timer;
}

static void count_asks(struct state *state) {
    memset(&storm, 0, sizeof storm);
    storm.open = state->open_asks;
    for (struct list *link = state->wanted.next; link != &state->wanted; link = link->next)
        storm.wanted++;
    for (struct list *link = state->asks.next; link != &state->asks; link = link->next) {
        const struct ask *ask = container_of(link, struct ask, link);

        if (ask->kind != ASK_ALL)
            continue;
        storm.named += ask->count;
        storm.newest = ask->count;
        if (storm.oldest == 0)
            storm.oldest = ask->number;
    }
}

/* Node 0 gets subscribers of channels of their own, and asks for all of these channels, or is about to. */
static void join_storm(unsigned from, unsigned to) {
    uint64_t begin_ms = 0;
    char name[32];

    for (unsigned i = from; i < to; i++) {
        struct channel_join join = {.waiter = &crowd[i].waiter, .user_id = SLICE("u"), .user_info = SLICE("{}")};

        begin_crowd_member(&crowd[i], 0);
        assert_false(try_to_join_as(&crowd[i], 0, name_of_channel(i, name), &join));
    }
    do {
        turn_until_late(&begin_ms);
        run_on_thread(0, count_asks);
    } while (storm.named + storm.wanted < to || (to <= STORM_REQUESTS && storm.wanted != 0));
}

static void what_is_wanted_while_four_requests_are_under_way_goes_into_the_next_one(void **state) {
    const struct counter *requests = &state_counters_of(nodes[0].state)->requests;
    uint64_t begin_ms = 0, before = counter_read(requests);

    (void)state;
    run_on_thread(0, hold_asks);
    pthread_mutex_lock(&bus_mutex);
    loss = 100;
    pthread_mutex_unlock(&bus_mutex);
    for (unsigned i = 0; i < STORM_REQUESTS; i++) {
        join_storm(i, i + 1);
        assert_int_equal(storm.open, i + 1);
    }
    join_storm(STORM_REQUESTS, STORM_REQUESTS + STORM);
    assert_int_equal(storm.open, STORM_REQUESTS);
    assert_int_equal(storm.wanted, STORM);
    assert_int_equal(counter_read(requests) - before, STORM_REQUESTS);
    for (unsigned node = 1; node < NODES; node++)
        say_to_inbox_as(node, 0,
                        &(struct cluster_message){.kind = MESSAGE_STATE_PART,
                                                  .state_part = {.request = storm.oldest, .last = true}});
    while (counter_read(requests) - before == STORM_REQUESTS)
        turn_until_late(&begin_ms);
    run_on_thread(0, count_asks);
    assert_int_equal(counter_read(requests) - before, STORM_REQUESTS + 1);
    assert_int_equal(storm.newest, STORM);
    assert_int_equal(storm.wanted, 0);
    for (unsigned i = 0; i < STORM_REQUESTS + STORM; i++)
        end_crowd_member(&crowd[i], 0);
}

/* --- the turn --- */

static void a_turn_that_has_no_time_sends_one_request(void **state) {
    struct crowd_member member;
    uint64_t begin_ms = 0;

    (void)state;
    begin_crowd_member(&member, 0);
    while (!try_to_join_crowd(&member, 0, SLICE("u"), SLICE("{}")))
        turn_until_late(&begin_ms);
    most_requests_in_turn = slow_request_count = 0;
    slow_requests = true;
    set_bus_up(0, false);
    set_bus_up(0, true);
    while (slow_request_count < 2) /* a digest to each other node, as soon as both are known to be there */
        turn_until_late(&begin_ms);
    slow_requests = false;
    while (requests_in_turn != 0)
        turn_until_late(&begin_ms);
    assert_int_equal(most_requests_in_turn, 1);
    end_crowd_member(&member, 0);
}

struct giving_up {
    struct loop_message message;
    struct state *state;
    unsigned asked, given_up;
    sem_t done;
};

static void give_up_all(struct loop *loop, struct loop_message *message) {
    struct giving_up *giving_up = container_of(message, struct giving_up, message);
    struct state *state = giving_up->state;

    (void)loop;
    for (struct list *link = state->asks.next; link != &state->asks; link = link->next)
        giving_up->asked += (unsigned)__builtin_popcountll(container_of(link, struct ask, link)->awaited);
    state_requests_end_all(state);
    giving_up->given_up = state->given_up;
    sem_post(&giving_up->done);
}

/* What is given up at once is concluded at the ends of turns. */
static void answers_that_are_given_up_are_concluded_later(void **state) {
    struct giving_up giving_up = {.message.handle = give_up_all, .state = nodes[0].state};
    struct crowd_member member;
    uint64_t begin_ms = 0, unanswered;

    (void)state;
    pthread_mutex_lock(&bus_mutex);
    loss = 100;
    pthread_mutex_unlock(&bus_mutex);
    unanswered = counter_read(&state_counters_of(nodes[0].state)->unanswered);
    begin_crowd_member(&member, 0);
    while (counter_read(&state_counters_of(nodes[0].state)->requests) == 0 &&
           !try_to_join_crowd(&member, 0, SLICE("u"), SLICE("{}")))
        turn_until_late(&begin_ms);
    sem_init(&giving_up.done, 0, 0);
    loop_post(nodes[0].core.loop, &giving_up.message);
    loop_wake(nodes[0].core.loop);
    sem_wait(&giving_up.done);
    sem_destroy(&giving_up.done);
    assert_true(giving_up.asked >= NODES - 1);
    assert_int_equal(giving_up.given_up, giving_up.asked);
    while (counter_read(&state_counters_of(nodes[0].state)->unanswered) < unanswered + NODES - 1)
        turn_until_late(&begin_ms);
    end_crowd_member(&member, 0);
}

/* --- kept changes --- */

#define KEPT_INFO 60000

/* A change of node 2 that follows one which nobody has. */
static void tell_change_as_node_2(uint64_t version) {
    char info[KEPT_INFO];
    struct cluster_message message = {.kind = MESSAGE_CHANGE,
                                      .change = {.app = SLICE("42"),
                                                 .channel = CROWD_CHANNEL,
                                                 .version = version,
                                                 .before = version - 1,
                                                 .added = true,
                                                 .id = SLICE("kept"),
                                                 .info = {info, sizeof info}}};
    struct buffer subject = {0};

    memset(info, 'a', sizeof info);
    info[0] = info[sizeof info - 1] = '"';
    subject_append_channel(&subject, &nodes[0].core.subjects, SLICE("42"), CROWD_CHANNEL);
    say_as(2, 0, buffer_slice(&subject), &message);
    buffer_dispose(&subject);
}

/* Node 0 watches the channel, and no question about it reaches another node. */
static void watch_without_answers(struct crowd_member *watcher) {
    uint64_t begin_ms = 0;

    pthread_mutex_lock(&bus_mutex);
    loss = 100;
    pthread_mutex_unlock(&bus_mutex);
    begin_crowd_member(watcher, 0);
    while (!try_to_join_crowd(watcher, 0, SLICE("watcher"), SLICE("{}")))
        turn_until_late(&begin_ms);
}

/* Node 0 hears that node 2 has left. */
static void let_node_0_forget_node_2(void) {
    struct cluster_message bye = {.kind = MESSAGE_BYE};
    uint64_t begin_ms = 0;

    say_to_inbox_as(2, 0, &bye);
    while (budget_used(BUDGET_CLUSTER) != 0)
        turn_until_late(&begin_ms);
}

static void changes_that_wait_for_an_answer_are_counted_as_memory(void **state) {
    struct crowd_member watcher;
    uint64_t begin_ms = 0;

    (void)state;
    assert_int_equal(budget_used(BUDGET_CLUSTER), 0);
    watch_without_answers(&watcher);
    for (uint64_t version = 10; version < 15; version++)
        tell_change_as_node_2(version);
    while (budget_used(BUDGET_CLUSTER) < 5 * KEPT_INFO)
        turn_until_late(&begin_ms);
    assert_true(budget_used(BUDGET_CLUSTER) < 5 * (KEPT_INFO + 1024));
    let_node_0_forget_node_2();
    end_crowd_member(&watcher, 0);
}

static void changes_without_room_are_dropped(void **state) {
    const struct counter *dropped = &state_counters_of(nodes[0].state)->kept_dropped;
    uint64_t begin_ms = 0, refusals = budget_refusals(BUDGET_CLUSTER);
    struct crowd_member watcher;

    (void)state;
    watch_without_answers(&watcher);
    budget_set_limit(4 * KEPT_INFO);
    tell_change_as_node_2(10);
    while (counter_read(dropped) == 0)
        turn_until_late(&begin_ms);
    budget_set_limit(0);
    assert_int_equal(budget_used(BUDGET_CLUSTER), 0);
    assert_int_equal(budget_refusals(BUDGET_CLUSTER), refusals + 1);
    end_crowd_member(&watcher, 0);
}

/* Node 1 says it in its answer only: its app has no use for counts. */
static void a_count_of_an_answer_that_is_not_told_again_is_dropped(void **state) {
    uint64_t begin_ms = 0;

    (void)state;
    begin_crowd_member(&crowd[1], 1);
    while (!try_to_join_crowd(&crowd[1], 1, SLICE("u1"), SLICE("{}")))
        turn_until_late(&begin_ms);
    begin_crowd_member(&crowd[0], 0);
    while (!try_to_join_crowd(&crowd[0], 0, SLICE("u0"), SLICE("{}")))
        turn_until_late(&begin_ms);
    turn_until_node_0_counts(CROWD_CHANNEL, 1);
    for (unsigned minute = 0; minute < 3; minute++)
        let_a_minute_pass(0);
    turn_until_node_0_counts(CROWD_CHANNEL, 0);
    end_crowd_member(&crowd[0], 0);
    end_crowd_member(&crowd[1], 1);
}

static void the_count_of_an_answer_is_dropped_when_the_set_becomes_empty(void **state) {
    uint64_t begin_ms = 0;

    (void)state;
    begin_crowd_member(&crowd[1], 1);
    while (!try_to_join_crowd(&crowd[1], 1, SLICE("u1"), SLICE("{}")))
        turn_until_late(&begin_ms);
    begin_crowd_member(&crowd[0], 0);
    while (!try_to_join_crowd(&crowd[0], 0, SLICE("u0"), SLICE("{}")))
        turn_until_late(&begin_ms);
    turn_until_node_0_counts(CROWD_CHANNEL, 1);
    end_crowd_member(&crowd[1], 1);
    turn_until_node_0_counts(CROWD_CHANNEL, 0);
    end_crowd_member(&crowd[0], 0);
}

/* --- questions --- */

static void note_answered(struct question *question) {
    question->worker = NULL;
}

/* Node 0 asks, and node 2 answers with these parts. */
static bool answer_is_complete(const uint32_t *parts, unsigned count) {
    struct question question = {
        .app = SLICE("42"), .name = SLICE(""), .worker = nodes[0].workers.list[0], .answered = note_answered};
    static uint64_t number;
    uint64_t begin_ms = 0, lost = lost_questions;

    assert_true(requests_ask(nodes[0].requests, &question));
    while (lost_questions != lost + NODES) /* it was said, to this node, too */
        turn_until_late(&begin_ms);
    number++;
    for (unsigned i = 0; i < count; i++) {
        struct cluster_message part = {.kind = MESSAGE_API_ANSWER,
                                       .api_answer = {number, parts[i], .last = i == count - 1}};
        say_to_inbox_as(2, 0, &part);
    }
    say_to_inbox_as(1, 0, &(struct cluster_message){.kind = MESSAGE_API_ANSWER, .api_answer = {number, 0, true}});
    while (question.worker != NULL)
        turn_until_late(&begin_ms);
    buffer_dispose(&question.answers);
    return question.complete;
}

static void an_answer_of_which_a_part_was_lost_is_not_complete(void **state) {
    (void)state;
    lose_questions = true;
    assert_true(answer_is_complete((const uint32_t[]){0, 1, 2}, 3));
    assert_false(answer_is_complete((const uint32_t[]){0, 2}, 2));
    assert_false(answer_is_complete((const uint32_t[]){1}, 1));
    lose_questions = false;
}

/* What was asked before a cut says nothing of a subject that is not in force since. */
static void subscriptions_wait_for_their_subject_but_not_for_ever(void **state) {
    uint64_t begin_ms = 0;

    (void)state;
    wait_until_nodes_are_known();
    atomic_store(&cut_at_ms, 0);
    atomic_store(&cut_at_request, true);
    begin_crowd_member(&crowd[0], 0);
    while (!try_to_join_crowd(&crowd[0], 0, SLICE("u"), SLICE("{}")))
        turn_until_late(&begin_ms);
    assert_int_not_equal(atomic_load(&cut_at_ms), 0);
    assert_true(clock_monotonic_ms() - atomic_load(&cut_at_ms) >= INTEREST_FORCE_MS);
    end_crowd_member(&crowd[0], 0);
}

/* Holds the thread of node 0 when the bus has gone and come, or has gone once more after that. */
struct held_cut {
    struct loop_message message;
    sem_t held, go_on;
    bool twice;
};

static void cut_and_hold(struct loop *loop, struct loop_message *message) {
    struct held_cut *cut = container_of(message, struct held_cut, message);
    const struct bus_events *events = &buses[0]->bus.events;

    (void)loop;
    cut_bus(buses[0]);
    if (cut->twice)
        events->down(events->context, "the test said so again");
    sem_post(&cut->held);
    sem_wait(&cut->go_on);
}

/* Node 0 has a subscription to a channel, and the bus is cut. */
static void begin_held_cut(struct held_cut *cut, bool twice) {
    uint64_t begin_ms = 0;

    begin_crowd_member(&crowd[0], 0);
    while (!try_to_join_crowd(&crowd[0], 0, SLICE("u0"), SLICE("{}")))
        turn_until_late(&begin_ms);
    *cut = (struct held_cut){.message.handle = cut_and_hold, .twice = twice};
    sem_init(&cut->held, 0, 0);
    sem_init(&cut->go_on, 0, 0);
    loop_post(nodes[0].core.loop, &cut->message);
    loop_wake(nodes[0].core.loop);
    sem_wait(&cut->held);
}

static void end_held_cut(struct held_cut *cut) {
    sem_destroy(&cut->held);
    sem_destroy(&cut->go_on);
    end_crowd_member(&crowd[0], 0);
    end_crowd_member(&crowd[1], 0);
}

static void a_subject_of_before_an_outage_counts_no_more_when_the_bus_is_up(void **state) {
    struct held_cut cut;
    uint64_t begin_ms = 0;
    char subject[64];
    bool joined;

    (void)state;
    begin_held_cut(&cut, false);
    begin_crowd_member(&crowd[1], 0);
    joined = try_to_join_crowd(&crowd[1], 0, SLICE("u1"), SLICE("{}"));
    sem_post(&cut.go_on);
    assert_false(joined);
    snprintf(subject, sizeof subject, "test:curlew1:c:42:%.*s", SLICE_ARGS(CROWD_CHANNEL));
    pthread_mutex_lock(&bus_mutex);
    assert_non_null(find_subject(buses[0], slice_of(subject)));
    deliver(buses[0], DELIVER_IN_FORCE, slice_of(subject), (struct slice){0});
    pthread_mutex_unlock(&bus_mutex);
    while (!try_to_join_crowd(&crowd[1], 0, SLICE("u1"), SLICE("{}")))
        turn_until_late(&begin_ms);
    assert_true(crowd[1].joined);
    end_held_cut(&cut);
}

static void nobody_waits_if_the_bus_goes_again_at_once(void **state) {
    struct held_cut cut;
    uint64_t begin_ms = 0;

    (void)state;
    begin_held_cut(&cut, true);
    sem_post(&cut.go_on);
    begin_crowd_member(&crowd[1], 0);
    while (!try_to_join_crowd(&crowd[1], 0, SLICE("u1"), SLICE("{}")))
        turn_until_late(&begin_ms);
    end_held_cut(&cut);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_nodes_have_the_members_of_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_lost_is_repaired, set_up, tear_down),
        cmocka_unit_test_setup_teardown(subscriptions_wait_for_their_subject_but_not_for_ever, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_subject_of_before_an_outage_counts_no_more_when_the_bus_is_up, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(nobody_waits_if_the_bus_goes_again_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(subscriptions_wait_for_a_round_of_answers_on_a_bus_of_several_servers, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_node_that_was_away_learns_what_differs_and_so_do_the_others, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_answer_that_waits_for_credit_outlives_the_slot, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_asker_that_takes_everything_gets_a_megabyte_without_more_credit, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_set_is_complete_though_credits_are_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_set_that_was_given_up_is_asked_for_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_set_that_became_empty_is_remembered_for_two_minutes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_set_without_room_is_not_asked_for_with_every_change, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_set_without_room_is_emptied_when_its_node_has_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_count_that_is_not_told_again_is_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_version_of_before_an_outage_is_not_told_again_after_a_change_in_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_question_about_counts_holds_no_subscription_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(channels_that_wait_for_a_round_are_told_later_that_it_is_over, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_wanted_while_four_requests_are_under_way_goes_into_the_next_one, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_turn_that_has_no_time_sends_one_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answers_that_are_given_up_are_concluded_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown(changes_that_wait_for_an_answer_are_counted_as_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(changes_without_room_are_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_count_of_an_answer_that_is_not_told_again_is_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_count_of_an_answer_is_dropped_when_the_set_becomes_empty, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_answer_of_which_a_part_was_lost_is_not_complete, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
