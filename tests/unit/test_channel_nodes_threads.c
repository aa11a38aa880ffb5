/*
 * A presence channel on several running workers, and on other nodes: whatever joins, leaves, is lost, asked again or
 * forgotten, added and removed events alternate for each user on every connection and fit its first list, and in the
 * end all lists are what the model says.
 *
 *   actors, one on each worker:  their peers join (and wait, if they have to) and leave at random
 *   the cluster, on one worker:  has the model of the other nodes, tells changes, of which some are lost, whole sets,
 *                                and that nodes are gone; answers notices, and lets the channel go
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
#include "base/hash.h"
#include "channel/channel_internal.h"
#include "harness.h"
#include "net/websocket.h"
#include "net/worker_loop.h"
#include "text_frames.h"

#define WORKERS 4
#define PEERS_PER_WORKER 4
#define PEERS (WORKERS * PEERS_PER_WORKER)
#define USERS 9
#define NODES 4 /* the others: 1 to 4 */
#define ROUNDS 1000
#define STEPS 3 /* of each actor in a round: rounds keep them together, whatever the system runs first */
#define NAME SLICE("presence-x")

struct peer {
    struct stream *stream;
    int client;
    unsigned user;
    bool joined, waits;
    struct subscription own;
    struct channel_waiter waiter;
    struct buffer in; /* what the client has received */
};

struct actor {
    struct message message;
    struct worker *worker;
    unsigned index, round;
    uint64_t seed;
};

/* What is true of another node, what of that the channel was told, and whether the whole has to be told. */
struct node {
    bool users[USERS], told[USERS];
    unsigned count;
    uint64_t version;
    bool asked, busy;
};

static struct workers workers;
static struct channel_hub *hub;
static struct app_slot *slot;
static struct peer peers[PEERS];
static struct actor actors[WORKERS], cluster;
static struct node nodes[NODES + 1]; /* of the cluster's worker, like those below */
static struct channel *current;      /* a reference to the channel that is held */
static uint32_t generation;
static uint64_t versions;
static unsigned let_go_count, waits_count, compared_count;
static sem_t done;

/* --- peers --- */

static bool has_socket_id(const struct stream *stream, const struct socket_id *id) {
    (void)stream;
    (void)id;
    return false;
}

static void note_list(struct peer *peer, const struct member_list *list) {
    const struct presence_member *member;
    char text[400];
    int length = snprintf(text, sizeof text, "{\"list\":[");

    member_list_each(list, member) {
        length += snprintf(text + length, sizeof text - (size_t)length, "%s\"%.*s\"", at_ + block_ == 0 ? "" : ",",
                           SLICE_ARGS(presence_member_key(member)));
    }
    snprintf(text + length, sizeof text - (size_t)length, "]}");
    text_frame_send(peer->stream, text);
}

static void join(struct peer *peer);

static void go_on(struct channel_waiter *waiter) {
    struct peer *peer = container_of(waiter, struct peer, waiter);

    peer->waits = false;
    join(peer);
}

static void join(struct peer *peer) {
    char id[8];
    struct channel_join answers = {.user_id = {id, 0}, .user_info = SLICE("{}"), .waiter = &peer->waiter};

    answers.user_id.length = (size_t)snprintf(id, sizeof id, "%u", peer->user);
    peer->waiter.ready = go_on;
    if (channel_subscribe(hub, slot, peer->stream, NAME, &peer->own, &answers) == CHANNEL_WAITS) {
        peer->waits = true;
        return;
    }
    peer->joined = true;
    note_list(peer, answers.members);
    member_list_unref(answers.members);
}

static void leave(struct peer *peer) {
    if (peer->waits)
        channel_await_end(&peer->waiter);
    if (peer->joined) {
        channel_leave(hub, &peer->own, NULL);
        text_frame_send(peer->stream, "{\"left\":true}");
    }
    peer->waits = peer->joined = false;
}

/* Now and then all leave, so that the channel can be let go. */
static bool all_leave(unsigned round) {
    return round % 25 >= 22;
}

static void run_actor(struct worker *worker, struct message *message, struct message **rest) {
    struct actor *actor = container_of(message, struct actor, message);

    (void)worker;
    (void)rest;
    for (unsigned i = 0; i < PEERS_PER_WORKER && all_leave(actor->round); i++)
        leave(&peers[actor->index * PEERS_PER_WORKER + i]);
    for (unsigned i = 0; i < STEPS && !all_leave(actor->round); i++) {
        struct peer *peer = &peers[actor->index * PEERS_PER_WORKER + harness_random(&actor->seed, PEERS_PER_WORKER)];
        if (peer->joined || peer->waits)
            leave(peer);
        else
            join(peer);
    }
    actor->round++;
    sem_post(&done);
}

/* --- the cluster --- */

/* The memory of the cluster in a channel. */
struct notice {
    struct message message;
    struct channel *channel;
};

static void node_told(void *context, enum remote_result result) {
    struct node *node = context;

    assert_true(result == REMOTE_DONE || result == REMOTE_UNKNOWN);
    node->busy = false;
}

static void node_gone(void *context) {
    struct node *node = context;

    node->busy = false;
}

static struct remote_member member_of(unsigned user, char id[8]) {
    return (struct remote_member){{id, (size_t)snprintf(id, 8, "%u", user)}, SLICE("{}"), 1};
}

/* Tells the whole set of a node. */
static void tell_set(unsigned index) {
    struct node *node = &nodes[index];
    enum remote_result result;
    struct remote_set *set;

    if (node->busy)
        return;
    set = channel_remote_set_begin(hub, slot, cluster.worker, NAME, index, node->version, true, &result);
    if (set == NULL) {
        assert_int_equal(result, REMOTE_UNKNOWN);
        return;
    }
    node->busy = true;
    node->asked = false;
    memcpy(node->told, node->users, sizeof node->told);
    for (unsigned user = 0; user < USERS; user++) {
        char id[8];
        struct remote_member member = member_of(user, id);
        if (node->users[user])
            channel_remote_set_add(set, &member, 1);
    }
    channel_remote_set_end(set, true, node_told, node);
}

static void tell_all_sets(void) {
    for (unsigned index = 1; index <= NODES; index++)
        tell_set(index);
}

static void answer_notice(struct worker *worker, struct message *message, struct message **rest) {
    struct channel *channel = container_of(message, struct notice, message)->channel;
    struct channel_interest interest = channel_take_interest(channel);

    (void)worker;
    (void)rest;
    if (interest.held && (channel != current || interest.generation != generation)) {
        if (current != NULL)
            channel_unref(current);
        for (unsigned index = 1; index <= NODES; index++)
            memset(nodes[index].told, 0, sizeof nodes[index].told);
        current = channel_ref(channel);
        generation = interest.generation;
        tell_all_sets();
        channel_ready(hub, channel, generation);
        waits_count += interest.waits;
    } else if (!interest.held && channel == current) {
        channel_unref(current);
        current = NULL;
        let_go_count++;
        for (unsigned index = 1; index <= NODES; index++)
            memset(nodes[index].told, 0, sizeof nodes[index].told);
    }
    channel_unref(channel);
}

static void on_interest(void *context, struct channel *channel) {
    struct notice *notice = channel_hook_memory(channel);

    (void)context;
    notice->message.handle = answer_notice;
    notice->channel = channel;
    mailbox_post(&cluster.worker->mailbox, &notice->message);
}

static void wake_cluster(void *context) {
    (void)context;
    mailbox_wake(&cluster.worker->mailbox);
}

static struct channel_own_change *create_change(void *context, bool webhooks) {
    (void)webhooks;
    (void)context;
    return alloc_zero(sizeof(struct channel_own_change));
}

static void free_change(void *context, struct channel_own_change *change) {
    (void)context;
    free(change);
}

/* Changes come in the order of their versions, and each names the one before. */
static uint64_t last_change_version;
static bool chain_is_empty = true;

static void post_change(void *context, struct channel_own_change *change) {
    assert_true(change->version > last_change_version);
    assert_int_equal(change->before, chain_is_empty ? 0 : last_change_version);
    last_change_version = change->version;
    chain_is_empty = change->becomes_empty;
    presence_member_unref(change->member);
    channel_unref(change->channel);
    free_change(context, change);
}

static const struct channel_hooks hooks = {.memory_bytes = sizeof(struct notice),
                                           .interest = on_interest,
                                           .change_create = create_change,
                                           .change_post = post_change,
                                           .change_free = free_change,
                                           .wake = wake_cluster};

/* A user comes to a node or leaves it; sometimes the message is lost. */
static void change_node(unsigned index) {
    struct node *node = &nodes[index];
    unsigned user = harness_random(&cluster.seed, USERS);
    struct remote_change change = {
        .node = index, .version = ++versions, .before = node->count != 0 ? node->version : 0};
    enum remote_result result;
    char id[8];

    change.added = node->users[user] = !node->users[user];
    change.member = member_of(user, id);
    node->count += change.added ? 1u : -1u;
    node->version = change.version;
    if (harness_random(&cluster.seed, 8) == 0) {
        node->asked |= node->count == 0; /* nothing follows that names a version: it is told once more */
        return;
    }
    result = channel_remote_change(hub, slot, cluster.worker, NAME, &change);
    if (result == REMOTE_DONE)
        node->told[user] = change.added;
    else if (result == REMOTE_GAP)
        node->asked = true;
}

static void forget_node(unsigned index) {
    struct node *node = &nodes[index];

    if (node->busy)
        return;
    *node = (struct node){.busy = true};
    channel_remote_forget(hub, cluster.worker, index, node_gone, node);
}

static bool all_are_told(void) {
    for (unsigned index = 1; index <= NODES; index++)
        if (nodes[index].busy)
            return false;
    return true;
}

static void run_cluster(struct worker *worker, struct message *message, struct message **rest) {
    (void)message;
    (void)rest;
    if (current != NULL && cluster.round % 3 == 0)
        channel_let_go(worker, current, generation);
    for (unsigned i = 0; i < STEPS; i++) {
        unsigned index = 1 + harness_random(&cluster.seed, NODES);
        switch (harness_random(&cluster.seed, 24)) {
        case 0:
            forget_node(index);
            break;
        case 1:
            tell_set(index);
            break;
        default:
            if (nodes[index].asked)
                tell_set(index);
            else
                change_node(index);
        }
    }
    cluster.round++;
    sem_post(&done);
}

/* Tells all sets when those under way are in. */
static void tell_the_rest(struct worker *worker, struct message *message, struct message **rest) {
    (void)rest;
    if (!all_are_told()) {
        worker_post(worker, message);
        return;
    }
    tell_all_sets();
    sem_post(&done);
}

/* Waits until these are in as well, and nobody waits for anything. */
static void wait_until_settled(struct worker *worker, struct message *message, struct message **rest) {
    (void)rest;
    if (!all_are_told() || channel_hub_waiting(hub) != 0)
        worker_post(worker, message);
    else
        sem_post(&done);
}

/* Compares the members of the channel with the model, between two rounds. */
static void compare_members(struct worker *worker, struct message *message, struct message **rest) {
    bool expected[USERS] = {0}, members[USERS] = {0};
    struct presence_member *member;
    struct member_list *list;

    (void)worker;
    (void)message;
    (void)rest;
    if (current != NULL && all_are_told() && channel_hub_waiting(hub) == 0) {
        for (unsigned index = 1; index <= NODES; index++)
            for (unsigned user = 0; user < USERS; user++)
                expected[user] |= nodes[index].told[user];
        for (unsigned i = 0; i < PEERS; i++)
            expected[peers[i].user] |= peers[i].joined;
        pthread_mutex_lock(&current->mutex);
        list = presence_snapshot(&current->members);
        pthread_mutex_unlock(&current->mutex);
        member_list_each(list, member) members[presence_member_key(member).data[0] - '0'] = true;
        member_list_unref(list);
        assert_memory_equal(members, expected, sizeof members);
        compared_count++;
    }
    sem_post(&done);
}

/* --- running --- */

static void read_all(void) {
    struct pollfd poll_fds[PEERS];

    for (unsigned at = 0; at < PEERS; at++)
        poll_fds[at] = (struct pollfd){.fd = peers[at].client, .events = POLLIN};
    poll(poll_fds, PEERS, 1);
    for (unsigned i = 0; i < PEERS; i++)
        harness_receive(peers[i].client, &peers[i].in);
}

/* The clients read all the time, so that none becomes slow. */
static void wait_for(unsigned count) {
    for (unsigned i = 0; i < count; i++)
        while (sem_trywait(&done) != 0)
            read_all();
}

static void one_is_done(void *context) {
    (void)context;
    sem_post(&done);
}

static void run_on_all(void (*run)(struct worker *worker, void *context)) {
    workers_run_on_all(&workers, &(struct worker_task){.run = run, .finished = one_is_done});
    wait_for(1);
}

static void do_nothing(struct worker *worker, void *context) {
    (void)worker;
    (void)context;
}

/* Lets the first peer of each worker join, and marks the end of what all have got. */
static void join_first(struct worker *worker, void *context) {
    struct peer *peer = &peers[worker->index * PEERS_PER_WORKER];

    (void)context;
    if (!peer->joined && !peer->waits)
        join(peer);
}

static void mark_end(struct worker *worker, void *context) {
    (void)context;
    for (unsigned i = 0; i < PEERS_PER_WORKER; i++)
        text_frame_send(peers[worker->index * PEERS_PER_WORKER + i].stream, "{\"end\":true}");
}

static void leave_all(struct worker *worker, void *context) {
    (void)context;
    for (unsigned i = 0; i < PEERS_PER_WORKER; i++)
        leave(&peers[worker->index * PEERS_PER_WORKER + i]);
}

static void let_the_rest_go(struct worker *worker, void *context) {
    (void)context;
    if (worker == cluster.worker && current != NULL)
        channel_let_go(worker, current, generation);
}

static void close_worker(struct worker *worker, void *context) {
    (void)context;
    for (unsigned i = 0; i < PEERS_PER_WORKER; i++)
        stream_finish(peers[worker->index * PEERS_PER_WORKER + i].stream);
    worker_stop(worker);
}

static int set_up(void **state) {
    const struct channel_hub_settings settings = {
        .group_max_messages = 64, .group_max_bytes = 65536, .has_socket_id = has_socket_id};
    struct error error;

    (void)state;
    if (!workers_create(&workers, WORKERS, &error))
        fail_msg("%s", error.text);
    hub = channel_hub_create(&workers, &settings);
    channel_hub_set_hooks(hub, &hooks);
    slot = app_slot_create(SLICE("42"), WORKERS);
    cluster.worker = workers.list[hash_bytes(NAME) % WORKERS];
    for (unsigned i = 0; i < PEERS; i++) {
        peers[i] = (struct peer){.user = i % USERS};
        peers[i].stream = harness_open(workers.list[i / PEERS_PER_WORKER], &peers[i], &peers[i].client);
    }
    assert_int_equal(sem_init(&done, 0, 0), 0);
    if (!workers_start(&workers, &error))
        fail_msg("%s", error.text);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    run_on_all(leave_all);
    run_on_all(do_nothing); /* notices that follow are answered */
    run_on_all(let_the_rest_go);
    run_on_all(do_nothing);
    workers_run_on_all(&workers, &(struct worker_task){.run = close_worker});
    for (unsigned i = 0; i < PEERS; i++) {
        while (harness_receive(peers[i].client, &peers[i].in))
            poll(&(struct pollfd){.fd = peers[i].client, .events = POLLIN}, 1, -1);
        close(peers[i].client);
        buffer_dispose(&peers[i].in);
    }
    workers_join(&workers);
    assert_null(channel_find(slot, NAME)); /* nothing is left of it */
    assert_null(current);
    budget_settle();
    assert_int_equal(budget_used(BUDGET_PRESENCE), 0);
    channel_hub_destroy(hub);
    app_slot_destroy(slot, channel_table_destroy);
    workers_destroy(&workers);
    sem_destroy(&done);
    return 0;
}

/* --- what the clients were told --- */

static void set_member(bool members[USERS], const char *id, bool present) {
    unsigned user = (unsigned)atoi(id);

    assert_true(user < USERS);
    if (members[user] == present)
        fail_msg("user %u is %s though it %s there", user, present ? "added" : "removed", present ? "is" : "is not");
    members[user] = present;
}

/* Applies a message; false at the end. */
static bool apply_message(struct slice text, bool members[USERS], bool *joined) {
    json_t *json = json_loadb(text.data, text.length, 0, NULL), *id;
    const char *event = json_string_value(json_object_get(json, "event"));
    json_t *list = json_object_get(json, "list");
    bool ended = json_object_get(json, "end") != NULL;
    size_t i;

    assert_non_null(json);
    if (list != NULL) {
        memset(members, 0, USERS * sizeof members[0]);
        *joined = true;
        json_array_foreach(list, i, id) {
            set_member(members, json_string_value(id), true);
        }
    } else if (json_object_get(json, "left") != NULL) {
        *joined = false;
    } else if (event != NULL) {
        json_t *data = json_loads(json_string_value(json_object_get(json, "data")), 0, NULL);
        assert_true(*joined);
        set_member(members, json_string_value(json_object_get(data, "user_id")),
                   strcmp(event, "pusher_internal:member_added") == 0);
        json_decref(data);
    }
    json_decref(json);
    return !ended;
}

/* Follows what a peer was told, and compares its members at the end with the model. */
static unsigned check_peer(const struct peer *peer, const bool expected[USERS]) {
    bool members[USERS] = {0}, joined = false, more = true;
    unsigned messages = 0;
    struct slice rest = buffer_slice(&peer->in), text;

    while (more) {
        assert_true(text_frame_next(&rest, &text));
        more = apply_message(text, members, &joined);
        messages++;
    }
    assert_int_equal(joined, peer->joined);
    for (unsigned user = 0; joined && user < USERS; user++)
        if (members[user] != expected[user])
            fail_msg("user %u is %s there", user, members[user] ? "still" : "not");
    return messages;
}

static bool all_have_the_end(void) {
    static const char end[] = "{\"end\":true}";

    for (unsigned i = 0; i < PEERS; i++)
        if (memmem(peers[i].in.data, peers[i].in.length, end, sizeof end - 1) == NULL)
            return false;
    return true;
}

static void lists_and_changes_agree_on_every_connection(void **state) {
    struct message rest = {.handle = tell_the_rest}, settled = {.handle = wait_until_settled};
    struct message compare = {.handle = compare_members};
    bool expected[USERS] = {0};
    unsigned messages = 0, joined = 0;

    (void)state;
    cluster.message.handle = run_cluster;
    cluster.seed = 7;
    for (unsigned i = 0; i < WORKERS; i++)
        actors[i] = (struct actor){.message.handle = run_actor, .worker = workers.list[i], .index = i, .seed = 11 + i};
    for (unsigned round = 0; round < ROUNDS; round++) {
        worker_post(cluster.worker, &cluster.message);
        for (unsigned i = 0; i < WORKERS; i++)
            worker_post(workers.list[i], &actors[i].message);
        wait_for(WORKERS + 1);
        if (round % 4 == 0) {
            run_on_all(do_nothing); /* notices are answered, and waiters called */
            run_on_all(do_nothing);
            worker_post(cluster.worker, &compare);
            wait_for(1);
        }
    }
    run_on_all(join_first);
    worker_post(cluster.worker, &rest);
    wait_for(1);
    run_on_all(do_nothing);
    worker_post(cluster.worker, &settled);
    wait_for(1);
    run_on_all(do_nothing); /* the last events are delivered */
    run_on_all(mark_end);
    while (!all_have_the_end())
        read_all();

    for (unsigned index = 1; index <= NODES; index++)
        for (unsigned user = 0; user < USERS; user++)
            expected[user] |= nodes[index].users[user];
    for (unsigned i = 0; i < PEERS; i++) {
        assert_false(peers[i].waits);
        joined += peers[i].joined;
        if (peers[i].joined)
            expected[peers[i].user] = true;
    }
    for (unsigned i = 0; i < PEERS; i++)
        messages += check_peer(&peers[i], expected);
    assert_true(joined >= WORKERS && messages > ROUNDS);
    assert_true(let_go_count != 0 && waits_count > 1 && compared_count > ROUNDS / 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lists_and_changes_agree_on_every_connection, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
