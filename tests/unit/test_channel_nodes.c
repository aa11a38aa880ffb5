/* Channels with other nodes: interest and waiting, the union of the sets, counts, kept events, and what is forgotten.
 * The test is the cluster: it hears what channels say through hooks, and tells what other nodes have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "channel/channel_internal.h"
#include "harness.h"
#include "text_frames.h"

#define CHANNEL_X "presence-x"

struct peer {
    struct stream *stream;
    int client;
    struct buffer in; /* received bytes that the test has not checked */
    struct subscription own;
    struct channel_waiter waiter;
    unsigned called; /* how often the waiter was */
};

/* A change of the own set, as the cluster gets it. */
struct change {
    struct channel_own_change news;
    bool posted;
};

static struct workers workers;
static struct channel_hub *hub;
static struct app_slot *slot;
static struct buffer message; /* the last one that was read */
static struct app counting_app = {.references = 1, .webhook_kinds = WEBHOOK_SUBSCRIPTION_COUNT};
static struct channel *noticed; /* the channel of the last notice, with a reference; NULL: none */
static unsigned notices, wakes, changes;
static struct channel_own_change last_change; /* without references */
static char last_member[64];
static struct {
    unsigned told;
    uint64_t version;
    uint32_t count;
} own_count;
static size_t channels_before, presence_before;

/* --- hooks --- */

static void on_interest(void *context, struct channel *channel) {
    (void)context;
    assert_null(noticed);
    noticed = channel;
    notices++;
}

static unsigned changes_refused; /* of the next ones: there is no other node yet */

static struct channel_own_change *create_change(void *context, bool webhooks) {
    (void)webhooks;
    (void)context;
    if (changes_refused != 0 && changes_refused-- != 0)
        return NULL;
    return &((struct change *)calloc(1, sizeof(struct change)))->news;
}

static void free_change(void *context, struct channel_own_change *news) {
    (void)context;
    free(container_of(news, struct change, news));
}

static void post_change(void *context, struct channel_own_change *news) {
    changes++;
    last_change = *news;
    last_member[0] = '\0';
    if (news->member != NULL)
        snprintf(last_member, sizeof last_member, "%.*s", SLICE_ARGS(presence_member_key(news->member)));
    presence_member_unref(news->member);
    channel_unref(news->channel);
    free_change(context, news);
}

static void tell_count(void *context, struct channel *channel, uint64_t version, uint32_t count) {
    (void)context;
    (void)channel;
    assert_true(version > own_count.version);
    own_count.told++;
    own_count.version = version;
    own_count.count = count;
}

static void wake(void *context) {
    (void)context;
    wakes++;
}

static const struct channel_hooks hooks = {.memory_bytes = 40,
                                           .interest = on_interest,
                                           .change_create = create_change,
                                           .change_post = post_change,
                                           .change_free = free_change,
                                           .own_count = tell_count,
                                           .wake = wake};

/* Answers the notice. */
static struct channel_interest take_interest(void) {
    struct channel_interest interest;
    struct channel *channel = noticed;

    assert_non_null(channel);
    noticed = NULL;
    interest = channel_take_interest(channel);
    channel_unref(channel);
    return interest;
}

/* --- peers --- */

static bool has_socket_id(const struct stream *stream, const struct socket_id *id) {
    (void)stream;
    (void)id;
    return false;
}

static void waiter_called(struct channel_waiter *waiter) {
    container_of(waiter, struct peer, waiter)->called++;
}

static void open_peer(struct peer *peer, unsigned worker) {
    *peer = (struct peer){.waiter.ready = waiter_called};
    peer->stream = harness_open(workers.list[worker], peer, &peer->client);
}

static void close_peer(struct peer *peer) {
    harness_close(peer->stream, peer->client);
    buffer_dispose(&peer->in);
}

/* Reads the next received message into `message`; false if there is none. */
static bool next_message(struct peer *peer) {
    return text_frame_receive(peer->client, &peer->in, &message);
}

static void assert_told(struct peer *peer, const char *expected) {
    harness_settle_all(&workers);
    if (!next_message(peer))
        fail_msg("nothing came in place of %s", expected);
    assert_string_equal(buffer_string(&message), expected);
}

static void assert_told_nothing(struct peer *peer) {
    harness_settle_all(&workers);
    if (next_message(peer))
        fail_msg("%s came", buffer_string(&message));
}

static void assert_added(struct peer *peer, const char *user) {
    char text[400];

    snprintf(text, sizeof text,
             "{\"event\":\"pusher_internal:member_added\",\"channel\":\"" CHANNEL_X
             "\",\"data\":\"{\\\"user_id\\\":\\\"%s\\\",\\\"user_info\\\":{\\\"of\\\":\\\"%s\\\"}}\"}",
             user, user);
    assert_told(peer, text);
}

static void assert_removed(struct peer *peer, const char *user) {
    char text[400];

    snprintf(text, sizeof text,
             "{\"event\":\"pusher_internal:member_removed\",\"channel\":\"" CHANNEL_X
             "\",\"data\":\"{\\\"user_id\\\":\\\"%s\\\"}\"}",
             user);
    assert_told(peer, text);
}

static void assert_count_told(struct peer *peer, const char *channel, unsigned count) {
    char text[400];

    snprintf(text, sizeof text,
             "{\"event\":\"pusher_internal:subscription_count\",\"channel\":\"%s\",\"data\":\"{\\\"subscription_count"
             "\\\":%u}\"}",
             channel, count);
    assert_told(peer, text);
}

/* --- set-up --- */

static int set_up(void **state) {
    const struct channel_hub_settings settings = {.cache_ttl_s = 60,
                                                  .cache_max_channels = 3,
                                                  .group_max_messages = 1,
                                                  .group_max_bytes = 65536,
                                                  .has_socket_id = has_socket_id};

    (void)state;
    harness_create(&workers, 2);
    hub = channel_hub_create(&workers, &settings);
    channel_hub_set_hooks(hub, &hooks);
    for (uint64_t node = 0; node < CHANNEL_NODES; node++)
        channel_hub_name_node(hub, (unsigned)node, (uint64_t[2]){7, 100 - node});
    slot = app_slot_create(SLICE("42"), 2);
    atomic_store(&slot->current, &counting_app);
    notices = wakes = changes = 0;
    own_count.told = 0;
    own_count.version = 0;
    budget_settle();
    channels_before = budget_used(BUDGET_CHANNELS);
    presence_before = budget_used(BUDGET_PRESENCE);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    harness_settle_all(&workers);
    if (noticed != NULL)
        channel_unref(noticed);
    noticed = NULL;
    channel_hub_destroy(hub);
    atomic_store(&slot->current, NULL);
    app_slot_destroy(slot, channel_table_destroy);
    budget_settle();
    assert_int_equal(budget_used(BUDGET_CHANNELS), channels_before);
    assert_int_equal(budget_used(BUDGET_PRESENCE), presence_before);
    harness_destroy(&workers);
    buffer_dispose(&message);
    return 0;
}

/* The worker on which all is applied that other nodes say of the channel. */
static struct worker *worker_of(const char *name) {
    return workers.list[hash_bytes(slice_of(name)) % workers.count];
}

static struct channel *find(const char *name) {
    struct channel *channel = channel_find(slot, slice_of(name));

    if (channel != NULL)
        channel_unref(channel); /* the table has one */
    return channel;
}

static enum channel_joined try_join(struct peer *peer, const char *channel, const char *user, uint32_t max_members,
                                    struct channel_join *join) {
    static char info[64];

    *join = (struct channel_join){
        .user_id = slice_of(user), .max_members = max_members, .waiter = &peer->waiter, .app = &counting_app};
    join->user_info = (struct slice){info, (size_t)snprintf(info, sizeof info, "{\"of\":\"%s\"}", user)};
    return channel_subscribe(hub, slot, peer->stream, slice_of(channel), &peer->own, join);
}

/* Joins a channel that is ready, or makes it ready first. */
static void join(struct peer *peer, const char *channel, const char *user) {
    struct channel_join join;

    if (try_join(peer, channel, user, 0, &join) == CHANNEL_WAITS) {
        channel_ready(hub, peer->waiter.channel, take_interest().generation);
        harness_settle_all(&workers);
        assert_int_equal(try_join(peer, channel, user, 0, &join), CHANNEL_JOINED);
    }
    member_list_unref(join.members);
    if (join.cached != NULL)
        frame_unref(join.cached);
    if (noticed != NULL)
        assert_true(take_interest().wanted);
}

static void leave(struct peer *peer) {
    channel_leave(hub, &peer->own, &counting_app);
}

/* Makes the channel ready without a subscriber: others are heard. */
static void hear(const char *name) {
    struct peer peer = {.waiter.ready = waiter_called};

    assert_int_equal(channel_await(hub, slot, workers.list[0], slice_of(name), &peer.waiter), CHANNEL_WAITS);
    channel_ready(hub, peer.waiter.channel, take_interest().generation);
    harness_settle_all(&workers);
    assert_int_equal(peer.called, 1);
    assert_false(take_interest().wanted);
}

/* Lets the channel go, which nobody wants. */
static void let_go(const char *name) {
    struct channel *channel = channel_find(slot, slice_of(name));

    if (noticed != NULL)
        take_interest();
    channel_let_go(worker_of(name), channel, channel->cluster->generation);
    harness_settle_all(&workers);
    assert_false(take_interest().held);
    channel_unref(channel);
}

static void assert_no_memory_is_held(void) {
    budget_settle();
    assert_int_equal(budget_used(BUDGET_CHANNELS), channels_before);
    assert_int_equal(budget_used(BUDGET_PRESENCE), presence_before);
}

static void assert_members(const char *channel, const char *expected) {
    struct buffer users = {0};

    channel_append_users(slot, slice_of(channel), &users);
    buffer_append_byte(&users, '\0');
    assert_string_equal(users.data, expected);
    buffer_dispose(&users);
}

/* --- what other nodes say --- */

static enum remote_result change_at(unsigned node, uint64_t before, uint64_t version, bool added, const char *user,
                                    uint64_t since_ms) {
    char info[64];
    int length = snprintf(info, sizeof info, "{\"of\":\"%s\"}", user);
    const struct remote_change change = {.node = node,
                                         .version = version,
                                         .before = before,
                                         .added = added,
                                         .member = {slice_of(user), {info, (size_t)length}, since_ms}};

    return channel_remote_change(hub, slot, worker_of(CHANNEL_X), SLICE(CHANNEL_X), &change);
}

static void assert_changes(unsigned node, uint64_t before, uint64_t version, bool added, const char *user) {
    assert_int_equal(change_at(node, before, version, added, user, 5), REMOTE_DONE);
}

static enum remote_result occupy(const char *channel, unsigned node, uint64_t before, uint64_t version, bool occupied) {
    return channel_remote_change(
        hub, slot, worker_of(channel), slice_of(channel),
        &(struct remote_change){.node = node, .version = version, .before = before, .added = occupied});
}

static enum remote_result set_result;
static unsigned sets_done, forgotten;

static void set_done(void *context, enum remote_result result) {
    (void)context;
    set_result = result;
    sets_done++;
}

static void node_forgotten(void *context) {
    (void)context;
    forgotten++;
}

static struct remote_set *begin_set(unsigned node, uint64_t version) {
    return channel_remote_set_begin(hub, slot, worker_of(CHANNEL_X), SLICE(CHANNEL_X), node, version, true,
                                    &set_result);
}

static void add_to_set(struct remote_set *set, const char *user) {
    char info[64];
    int length = snprintf(info, sizeof info, "{\"of\":\"%s\"}", user);

    channel_remote_set_add(set, &(struct remote_member){slice_of(user), {info, (size_t)length}, 5}, 1);
}

static void end_set(struct remote_set *set) {
    sets_done = 0;
    channel_remote_set_end(set, true, set_done, NULL);
    harness_settle_all(&workers);
    assert_int_equal(sets_done, 1);
}

static void forget(unsigned node) {
    forgotten = 0;
    for (unsigned i = 0; i < workers.count; i++)
        channel_remote_forget(hub, workers.list[i], node, node_forgotten, NULL);
    harness_settle_all(&workers);
    assert_int_equal(forgotten, workers.count);
}

/* --- interest --- */

static void the_first_subscriber_waits_until_other_nodes_were_heard(void **state) {
    struct channel_interest interest;
    struct channel_join answers;
    struct peer a, b;

    (void)state;
    open_peer(&a, 0);
    open_peer(&b, 1);
    assert_int_equal(try_join(&a, CHANNEL_X, "1", 0, &answers), CHANNEL_WAITS);
    assert_int_equal(try_join(&b, CHANNEL_X, "2", 0, &answers), CHANNEL_WAITS);
    assert_int_equal(notices, 1);
    assert_true(wakes != 0);
    assert_int_equal(channel_hub_waiting(hub), 2);
    interest = take_interest();
    assert_true(interest.wanted && interest.held && interest.stateful && interest.waits);
    assert_members(CHANNEL_X, "");
    channel_ready(hub, find(CHANNEL_X), interest.generation + 1); /* of another time */
    harness_settle_all(&workers);
    assert_int_equal(a.called + b.called, 0);
    channel_ready(hub, find(CHANNEL_X), interest.generation);
    harness_settle_all(&workers);
    assert_int_equal(a.called, 1);
    assert_int_equal(b.called, 1);
    assert_int_equal(channel_hub_waiting(hub), 0);
    join(&a, CHANNEL_X, "1"); /* later ones do not wait */
    join(&b, CHANNEL_X, "2");
    assert_members(CHANNEL_X, "{\"id\":\"1\"},{\"id\":\"2\"}");
    leave(&a);
    leave(&b);
    close_peer(&a);
    close_peer(&b);
    assert_false(take_interest().wanted);
    let_go(CHANNEL_X);
    assert_null(find(CHANNEL_X));
    assert_no_memory_is_held();
}

static void a_wait_can_be_ended(void **state) {
    struct channel_join answers;
    struct peer a;

    (void)state;
    open_peer(&a, 0);
    assert_int_equal(try_join(&a, CHANNEL_X, "1", 0, &answers), CHANNEL_WAITS);
    assert_true(take_interest().wanted);
    channel_await_end(&a.waiter);
    channel_await_end(&a.waiter); /* it does not wait any more */
    assert_false(take_interest().wanted);
    channel_ready(hub, find(CHANNEL_X), 1);
    harness_settle_all(&workers);
    assert_int_equal(a.called, 0);
    let_go(CHANNEL_X);
    close_peer(&a);
    assert_no_memory_is_held();
}

static void a_channel_that_is_wanted_again_is_not_let_go(void **state) {
    struct channel *channel;
    struct peer a;

    (void)state;
    open_peer(&a, 0);
    join(&a, CHANNEL_X, "1");
    channel = find(CHANNEL_X);
    leave(&a);
    assert_false(take_interest().wanted);
    join(&a, CHANNEL_X, "1"); /* at once: the interest was not given up */
    channel_let_go(worker_of(CHANNEL_X), channel, 1);
    assert_null(noticed);
    leave(&a);
    take_interest();
    channel_let_go(worker_of(CHANNEL_X), channel, 2); /* of another time */
    assert_null(noticed);
    let_go(CHANNEL_X);
    close_peer(&a);
    assert_no_memory_is_held();
}

static void new_subscriptions_wait_again_while_the_subject_is_not_in_force(void **state) {
    struct channel_join answers;
    struct peer a, b;

    (void)state;
    open_peer(&a, 0);
    open_peer(&b, 1);
    join(&a, "chat", NULL);
    channel_unready(find("chat"), 1);
    assert_int_equal(try_join(&b, "chat", NULL, 0, &answers), CHANNEL_WAITS);
    channel_ready(hub, find("chat"), 1);
    channel_unready(find("chat"), 1);
    harness_settle_all(&workers);
    assert_int_equal(b.called, 0); /* it came to late for this time */
    channel_ready(hub, find("chat"), 1);
    harness_settle_all(&workers);
    assert_int_equal(b.called, 1);
    leave(&a);
    let_go("chat");
    close_peer(&a);
    close_peer(&b);
    assert_no_memory_is_held();
}

static void a_walk_has_each_channel_that_is_held(void **state) {
    struct channel_held_walk walk, other;
    unsigned held = 0;

    (void)state;
    hear("a");
    hear("b");
    hear("c");
    hear("d");
    channel_publish(hub, slot, workers.list[0], SLICE("cache-kept"),
                    &(struct channel_event){.event = SLICE("\"e\""), .data = SLICE("1"), .keep = true}, NULL);
    for (unsigned i = 0; i < workers.count; i++) {
        struct channel *channel;
        channel_held_begin(hub, workers.list[i], &other);
        channel_held_begin(hub, workers.list[i], &walk);
        while ((channel = channel_held_next(hub, &walk)) != NULL) {
            assert_ptr_equal(workers.list[i], worker_of((char[2]){channel_name(channel).data[0], '\0'}));
            assert_true(slice_equal(channel_app_id(channel), SLICE("42")));
            channel_unref(channel);
            held++;
        }
        channel_held_end(hub, &walk);
        channel_held_end(hub, &other);
    }
    assert_int_equal(held, 4);
    let_go("a");
    let_go("b");
    let_go("c");
    let_go("d");
}

/* --- presence --- */

static void a_user_on_two_nodes_is_one_member(void **state) {
    struct peer a, b;

    (void)state;
    open_peer(&a, 0);
    open_peer(&b, 1);
    join(&a, CHANNEL_X, "1");
    assert_changes(3, 0, 10, true, "2");
    assert_added(&a, "2");
    assert_changes(4, 0, 77, true, "2");
    assert_changes(4, 77, 78, true, "1");
    assert_changes(3, 10, 12, false, "2");
    assert_told_nothing(&a);
    assert_members(CHANNEL_X, "{\"id\":\"1\"},{\"id\":\"2\"}");
    join(&b, CHANNEL_X, "2");
    assert_changes(4, 78, 79, false, "2");
    assert_told_nothing(&a);
    leave(&b);
    assert_removed(&a, "2");
    leave(&a); /* node 4 has the user still */
    assert_members(CHANNEL_X, "{\"id\":\"1\"}");
    assert_changes(4, 79, 90, false, "1");
    assert_members(CHANNEL_X, "");
    let_go(CHANNEL_X);
    close_peer(&a);
    close_peer(&b);
    assert_no_memory_is_held();
}

static void a_list_has_the_members_of_all_nodes(void **state) {
    struct channel_join answers;
    struct peer a;

    (void)state;
    open_peer(&a, 0);
    hear(CHANNEL_X);
    assert_changes(1, 0, 1, true, "1");
    assert_changes(2, 0, 1, true, "2");
    assert_int_equal(try_join(&a, CHANNEL_X, "3", 2, &answers), CHANNEL_FULL); /* the limit is of the whole */
    assert_int_equal(try_join(&a, CHANNEL_X, "1", 2, &answers), CHANNEL_JOINED);
    assert_int_equal(answers.members->count, 2);
    member_list_unref(answers.members);
    assert_told_nothing(&a);
    leave(&a);
    let_go(CHANNEL_X); /* with what other nodes have */
    close_peer(&a);
    assert_no_memory_is_held();
}

static void changes_are_taken_in_order_and_once(void **state) {
    (void)state;
    assert_int_equal(change_at(1, 0, 1, true, "1", 5), REMOTE_UNKNOWN);
    hear(CHANNEL_X);
    assert_int_equal(change_at(1, 4, 5, true, "1", 5), REMOTE_GAP);
    assert_int_equal(change_at(1, 0, 5, true, "1", 5), REMOTE_DONE);
    assert_int_equal(change_at(1, 0, 5, true, "1", 5), REMOTE_OLD);
    assert_int_equal(change_at(1, 0, 4, false, "1", 5), REMOTE_OLD);
    assert_int_equal(change_at(1, 6, 7, true, "2", 5), REMOTE_GAP);
    assert_int_equal(change_at(1, 0, 7, true, "2", 5), REMOTE_GAP); /* its set was not empty here */
    assert_int_equal(change_at(1, 5, 7, true, "2", 5), REMOTE_DONE);
    assert_int_equal(change_at(1, 7, 8, false, "2", 5), REMOTE_DONE);
    assert_int_equal(change_at(1, 8, 9, false, "1", 5), REMOTE_DONE);
    assert_int_equal(channel_set_version(find(CHANNEL_X), 1), 9);
    assert_int_equal(change_at(1, 0, 12, true, "3", 5), REMOTE_DONE); /* as whoever hears it for the first time */
    assert_int_equal(occupy(CHANNEL_X, 1, 12, 13, true), REMOTE_OLD); /* without a member it makes no sense */
    assert_members(CHANNEL_X, "{\"id\":\"3\"}");
    let_go(CHANNEL_X);
    assert_no_memory_is_held();
}

static void a_whole_set_tells_only_what_differs(void **state) {
    struct remote_set *set;
    struct peer a;

    (void)state;
    open_peer(&a, 0);
    join(&a, CHANNEL_X, "me");
    assert_changes(1, 0, 1, true, "1");
    assert_changes(1, 1, 2, true, "2");
    assert_changes(1, 2, 3, true, "3");
    assert_changes(2, 0, 1, true, "3");
    assert_added(&a, "1");
    assert_added(&a, "2");
    assert_added(&a, "3");

    assert_null(begin_set(1, 2));
    assert_int_equal(set_result, REMOTE_OLD);
    set = begin_set(1, 9);
    assert_null(begin_set(1, 10));
    assert_int_equal(set_result, REMOTE_GAP);
    add_to_set(set, "2");
    assert_int_equal(change_at(1, 3, 4, true, "5", 5), REMOTE_GAP); /* to be kept until the set is there */
    add_to_set(set, "4");
    assert_added(&a, "4");
    assert_told_nothing(&a);
    end_set(set);
    assert_int_equal(set_result, REMOTE_DONE);
    assert_removed(&a, "1");
    assert_told_nothing(&a); /* node 2 has user 3 still */
    assert_changes(1, 9, 11, true, "5");
    assert_added(&a, "5");
    assert_changes(2, 1, 2, false, "3");
    assert_removed(&a, "3");

    set = begin_set(1, 20); /* given up: nothing is removed, and the next one begins anew */
    add_to_set(set, "2");
    channel_remote_set_end(set, false, NULL, NULL);
    assert_int_equal(channel_set_version(find(CHANNEL_X), 1), 11);
    set = begin_set(1, 20);
    add_to_set(set, "4");
    add_to_set(set, "5");
    end_set(set);
    assert_removed(&a, "2");
    assert_told_nothing(&a);
    leave(&a);
    let_go(CHANNEL_X);
    close_peer(&a);
    assert_no_memory_is_held();
}

static void a_set_ends_with_the_interest(void **state) {
    struct remote_set *set;
    struct channel *channel;

    (void)state;
    hear(CHANNEL_X);
    set = begin_set(1, 9);
    add_to_set(set, "1");
    channel = channel_find(slot, SLICE(CHANNEL_X));
    let_go(CHANNEL_X);
    add_to_set(set, "2");
    end_set(set);
    assert_int_equal(set_result, REMOTE_UNKNOWN);
    assert_int_equal(presence_count(&channel->members), 0);
    channel_unref(channel);
    assert_no_memory_is_held();
}

static void the_earliest_user_info_is_told(void **state) {
    struct remote_member late = {SLICE("1"), SLICE("\"late\""), 9}, early = {SLICE("1"), SLICE("\"early\""), 8};
    struct remote_member same = {SLICE("1"), SLICE("\"same\""), 8};
    struct remote_change change = {.version = 1, .added = true};
    struct worker *worker;
    struct channel_join answers;
    struct buffer list = {0};
    struct peer a;

    (void)state;
    open_peer(&a, 0);
    hear(CHANNEL_X);
    worker = worker_of(CHANNEL_X);
    change.node = 1, change.member = late;
    assert_int_equal(channel_remote_change(hub, slot, worker, SLICE(CHANNEL_X), &change), REMOTE_DONE);
    change.node = 2, change.member = early;
    assert_int_equal(channel_remote_change(hub, slot, worker, SLICE(CHANNEL_X), &change), REMOTE_DONE);
    change.node = 1, change.version = 2, change.before = 1, change.member = late; /* comes too late */
    assert_int_equal(channel_remote_change(hub, slot, worker, SLICE(CHANNEL_X), &change), REMOTE_DONE);
    change.node = 3, change.version = 1, change.before = 0, change.member = same; /* the id of node 3 is smaller */
    assert_int_equal(channel_remote_change(hub, slot, worker, SLICE(CHANNEL_X), &change), REMOTE_DONE);
    assert_int_equal(try_join(&a, CHANNEL_X, "1", 0, &answers), CHANNEL_JOINED);
    member_list_append_escaped(answers.members, &list);
    buffer_append_byte(&list, '\0');
    assert_non_null(strstr(list.data, "{\\\"1\\\":\\\"same\\\"}"));
    assert_int_equal(last_change.since_ms, 8); /* this node says what it tells */
    change.node = 4, change.member = (struct remote_member){SLICE("1"), SLICE("\"first\""), 1};
    assert_int_equal(channel_remote_change(hub, slot, worker, SLICE(CHANNEL_X), &change), REMOTE_DONE);
    list.length = 0;
    member_list_unref(answers.members);
    channel_snapshot(&a.own, &answers);
    member_list_append_escaped(answers.members, &list);
    buffer_append_byte(&list, '\0');
    assert_non_null(strstr(list.data, "{\\\"1\\\":\\\"same\\\"}")); /* what was told stays */
    member_list_unref(answers.members);
    buffer_dispose(&list);
    leave(&a);
    let_go(CHANNEL_X);
    close_peer(&a);
    assert_no_memory_is_held();
}

static void a_node_that_is_gone_takes_all_along(void **state) {
    struct peer a, b;

    (void)state;
    open_peer(&a, 0);
    open_peer(&b, 1);
    join(&a, CHANNEL_X, "1");
    join(&b, "chat", NULL);
    assert_count_told(&b, "chat", 1);
    for (unsigned node = 1; node <= 2; node++) {
        char user[16];
        snprintf(user, sizeof user, "of-%u", node);
        assert_changes(node, 0, 1, true, user);
        assert_changes(node, 1, 2, true, "both");
        assert_int_equal(channel_remote_count(hub, slot, worker_of("chat"), SLICE("chat"), node, 3, 5 * node),
                         REMOTE_DONE);
        assert_count_told(&b, "chat", node == 1 ? 6 : 16);
    }
    assert_added(&a, "of-1");
    assert_added(&a, "both");
    assert_added(&a, "of-2");
    channel_remote_forget_in(hub, slot, worker_of(CHANNEL_X), SLICE(CHANNEL_X), 1, NULL, NULL);
    assert_removed(&a, "of-1");
    assert_told_nothing(&a);
    forget(2);
    assert_removed(&a, "both");
    assert_removed(&a, "of-2");
    assert_count_told(&b, "chat", 6);
    assert_changes(2, 0, 1, true, "2"); /* another node has the number now */
    assert_added(&a, "2");
    forget(1);
    forget(2);
    assert_removed(&a, "2");
    assert_count_told(&b, "chat", 1);
    leave(&a);
    let_go(CHANNEL_X);
    leave(&b);
    let_go("chat");
    close_peer(&a);
    close_peer(&b);
    assert_no_memory_is_held();
}

#define MANY 3000

/* Walks do not hold a worker for long: with a clock that is always over, each step is a turn. */
static void many_members_come_and_go_over_several_turns(void **state) {
    size_t before;
    struct remote_set *set;
    struct peer a;

    (void)state;
    open_peer(&a, 0);
    hear(CHANNEL_X);
    set = begin_set(1, 9);
    add_to_set(set, "0");
    budget_settle();
    before = budget_used(BUDGET_PRESENCE);
    for (unsigned i = 1; i < MANY; i++) {
        char user[16], info[64];
        size_t length = (size_t)snprintf(user, sizeof user, "user-%u", i);
        size_t info_length = (size_t)snprintf(info, sizeof info, "{\"name\":\"Somebody %u\"}", i);
        channel_remote_set_add(set, &(struct remote_member){{user, length}, {info, info_length}, 5}, 1);
    }
    budget_settle();
    assert_in_range(budget_used(BUDGET_PRESENCE) - before, MANY, (MANY - 1) * 200);
    end_set(set);
    assert_int_equal(presence_count(&find(CHANNEL_X)->members), MANY);

    set = begin_set(1, 10);
    add_to_set(set, "0");
    sets_done = 0;
    worker_of(CHANNEL_X)->turn_over = true;
    channel_remote_set_end(set, true, set_done, NULL);
    assert_int_equal(sets_done, 0);
    harness_settle_all(&workers);
    assert_int_equal(sets_done, 1);
    assert_int_equal(presence_count(&find(CHANNEL_X)->members), 1);
    worker_of(CHANNEL_X)->turn_over = true;
    let_go(CHANNEL_X);
    close_peer(&a);
    assert_no_memory_is_held();
}

/* A server ends while other nodes have members: the account is empty all the same (tear_down). */
static void the_end_gives_back_what_other_nodes_have(void **state) {
    (void)state;
    hear(CHANNEL_X);
    assert_changes(1, 0, 1, true, "1");
    assert_changes(2, 0, 1, true, "2");
    hear("chat");
    assert_int_equal(channel_remote_count(hub, slot, worker_of("chat"), SLICE("chat"), 1, 3, 5), REMOTE_DONE);
}

/* --- the own set --- */

static void assert_changed(unsigned count, const char *member, bool added, uint64_t before, bool empty) {
    assert_int_equal(changes, count);
    assert_string_equal(last_member, member);
    assert_int_equal(last_change.added, added);
    assert_int_equal(last_change.before, before);
    assert_int_equal(last_change.becomes_empty, empty);
    assert_true(last_change.version > before);
}

static void own_changes_form_a_chain(void **state) {
    struct peer a, b, c;
    uint64_t first, second;

    (void)state;
    open_peer(&a, 0);
    open_peer(&b, 1);
    open_peer(&c, 1);
    join(&a, CHANNEL_X, "1");
    assert_changed(1, "1", true, 0, false);
    assert_true(last_change.since_ms > 1600000000000);
    first = last_change.version;
    join(&b, CHANNEL_X, "1"); /* another connection of the same user */
    assert_int_equal(changes, 1);
    join(&c, CHANNEL_X, "2");
    assert_changed(2, "2", true, first, false);
    second = last_change.version;
    leave(&a);
    assert_int_equal(changes, 2);
    leave(&b);
    assert_changed(3, "1", false, second, false);
    first = last_change.version;
    leave(&c);
    assert_changed(4, "2", false, first, true);
    join(&a, CHANNEL_X, "1");
    assert_changed(5, "1", true, 0, false);
    leave(&a);
    let_go(CHANNEL_X);
    close_peer(&a);
    close_peer(&b);
    close_peer(&c);
}

/* The first other node comes between the making of the change and the join, when it may have been answered already. */
static void a_change_is_told_to_a_node_that_came_during_it(void **state) {
    struct peer a, b;
    uint64_t first;

    (void)state;
    open_peer(&a, 0);
    open_peer(&b, 1);
    hear(CHANNEL_X);
    wakes = 0;
    changes_refused = 1;
    join(&a, CHANNEL_X, "1");
    assert_changed(1, "1", true, 0, false);
    assert_true(wakes != 0 && last_change.since_ms > 1600000000000);
    first = last_change.version;
    changes_refused = 2; /* it has not come */
    join(&b, CHANNEL_X, "2");
    assert_int_equal(changes, 1);
    changes_refused = 1;
    leave(&b);
    assert_changed(2, "2", false, first + 1, false);
    leave(&a);
    let_go(CHANNEL_X);
    close_peer(&a);
    close_peer(&b);
}

static void a_channel_without_state_has_no_changes(void **state) {
    struct channel_join answers = {0};
    struct peer a;

    (void)state;
    open_peer(&a, 0);
    hear("chat");
    assert_int_equal(channel_subscribe(hub, slot, a.stream, SLICE("chat"), &a.own, &answers), CHANNEL_JOINED);
    assert_false(take_interest().stateful);
    assert_int_equal(changes, 0);
    channel_leave(hub, &a.own, NULL);
    take_interest();
    join(&a, "chat", NULL); /* an app with a webhook for counts: its channels have */
    assert_changed(1, "", true, 0, false);
    leave(&a);
    assert_true(take_interest().stateful);
    assert_int_equal(changes, 2);
    let_go("chat");
    close_peer(&a);
}

static void the_own_set_is_read_in_parts(void **state) {
    struct channel_own_walk walk;
    struct peer peers[3];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        char user[2] = {(char)('a' + i), '\0'};
        open_peer(&peers[i], i % 2);
        join(&peers[i], CHANNEL_X, user);
    }
    assert_changes(1, 0, 1, true, "remote");
    assert_changes(1, 1, 2, true, "a");
    assert_false(channel_own_begin(slot, SLICE("presence-none"), 0, &walk));
    assert_true(channel_own_begin(slot, SLICE(CHANNEL_X), workers.list[0]->now_ms, &walk));
    assert_true(walk.presence && walk.occupied && !walk.has_kept);
    assert_int_equal(walk.version, last_change.version);
    assert_int_equal(walk.subscriptions, 3);
    leave(&peers[1]); /* after the cut: it may be seen, and the change has a higher version */
    assert_true(last_change.version > walk.version);
    assert_true(channel_own_next(&walk));
    assert_int_equal(walk.taken, 2);
    assert_true(slice_equal(presence_member_key(walk.members[0]), SLICE("a")));
    assert_true(slice_equal(presence_member_key(walk.members[1]), SLICE("c")));
    assert_false(channel_own_next(&walk));
    channel_own_end(&walk);
    leave(&peers[0]);
    leave(&peers[2]);
    let_go(CHANNEL_X);
    for (unsigned i = 0; i < 3; i++)
        close_peer(&peers[i]);
    assert_no_memory_is_held();
}

/* --- users, counts, kept events --- */

static void a_user_is_online_on_any_node(void **state) {
    static const char online[] =
        "{\"event\":\"pusher_internal:watchlist_events\",\"data\":\"{\\\"events\\\":[{"
        "\\\"name\\\":\\\"online\\\",\\\"user_ids\\\":[\\\"u\\\"]}]}\"}";
    static const char offline[] =
        "{\"event\":\"pusher_internal:watchlist_events\",\"data\":\"{\\\"events\\\":[{"
        "\\\"name\\\":\\\"offline\\\",\\\"user_ids\\\":[\\\"u\\\"]}]}\"}";
    struct subscription second;
    struct peer a, b;
    bool is_online = true;

    (void)state;
    open_peer(&a, 0);
    open_peer(&b, 1);
    hear("#server-to-user-u");
    assert_true(channel_watch_user(hub, slot, a.stream, SLICE("u"), &a.own, &is_online));
    assert_true(take_interest().wanted);
    assert_false(is_online);
    assert_int_equal(occupy("#server-to-user-u", 1, 0, 1, true), REMOTE_DONE);
    assert_told(&a, online);
    join(&b, "#server-to-user-u", NULL);
    assert_int_equal(occupy("#server-to-user-u", 1, 1, 2, false), REMOTE_DONE);
    assert_int_equal(occupy("#server-to-user-u", 2, 0, 2, true), REMOTE_DONE);
    assert_told_nothing(&a);
    assert_true(channel_watch_user(hub, slot, b.stream, SLICE("u"), &second, &is_online));
    assert_true(is_online);
    channel_leave(hub, &second, NULL);
    leave(&b);
    assert_told_nothing(&a);
    assert_true(channel_watch_user(hub, slot, b.stream, SLICE("u"), &second, &is_online));
    assert_true(is_online);
    channel_leave(hub, &second, NULL);
    forget(2);
    assert_told(&a, offline);
    channel_leave(hub, &a.own, NULL);
    let_go("#server-to-user-u");
    close_peer(&a);
    close_peer(&b);
    assert_no_memory_is_held();
}

static void counts_are_the_sum_of_what_the_nodes_told(void **state) {
    struct channel_info info;
    struct peer a, b;

    (void)state;
    open_peer(&a, 0);
    open_peer(&b, 0);
    join(&a, "chat", NULL);
    assert_count_told(&a, "chat", 1);
    assert_int_equal(own_count.told, 1);
    assert_int_equal(own_count.count, 1);
    assert_int_equal(channel_remote_count(hub, slot, worker_of("chat"), SLICE("chat"), 1, 4, 10), REMOTE_DONE);
    assert_count_told(&a, "chat", 11);
    assert_int_equal(channel_remote_count(hub, slot, worker_of("chat"), SLICE("chat"), 1, 4, 12), REMOTE_OLD);
    assert_int_equal(channel_remote_count(hub, slot, worker_of("chat"), SLICE("chat"), 1, 5, 10), REMOTE_DONE);
    assert_told_nothing(&a);
    join(&b, "chat", NULL);
    assert_count_told(&a, "chat", 12);
    channel_inspect(slot, SLICE("chat"), false, &info);
    assert_int_equal(info.counts.subscriptions, 12);
    assert_int_equal(info.own_subscriptions, 2);
    leave(&b);
    assert_count_told(&a, "chat", 11);
    leave(&a);
    assert_int_equal(own_count.told, 1); /* once in a second */
    harness_advance(workers.list[0], 2000);
    assert_int_equal(own_count.told, 2);
    assert_int_equal(own_count.count, 0); /* and the last one */
    harness_advance(workers.list[0], 5000);
    assert_int_equal(own_count.told, 2);
    let_go("chat");
    close_peer(&a);
    close_peer(&b);
    assert_no_memory_is_held();
}

static void occupancy_is_of_all_nodes(void **state) {
    struct channel_info info;
    struct peer a;

    (void)state;
    open_peer(&a, 0);
    join(&a, "chat", NULL);
    assert_int_equal(occupy("chat", 9, 0, 1, true), REMOTE_DONE);
    leave(&a);
    channel_inspect(slot, SLICE("chat"), false, &info);
    assert_true(info.occupied && info.whole);
    assert_int_equal(occupy("chat", 9, 1, 2, false), REMOTE_DONE);
    channel_inspect(slot, SLICE("chat"), false, &info);
    assert_false(info.occupied);
    harness_advance(workers.list[0], 2000);
    let_go("chat");
    close_peer(&a);
}

static void assert_kept(const char *expected) {
    struct channel_info info;

    channel_inspect(slot, SLICE("cache-x"), true, &info);
    buffer_append_byte(&info.cached_data, '\0');
    assert_string_equal(info.cached_data.data, expected);
    buffer_dispose(&info.cached_data);
}

static struct channel_stamp stamp_of(unsigned node, uint64_t ms) {
    return (struct channel_stamp){ms, {7, 100 - (uint64_t)node}};
}

static void publish_from(unsigned node, uint64_t ms, const char *data) {
    channel_publish(hub, slot, worker_of("cache-x"), SLICE("cache-x"),
                    &(struct channel_event){.event = SLICE("\"e\""),
                                            .data = slice_of(data),
                                            .keep = true,
                                            .relayed = true,
                                            .stamp = stamp_of(node, ms),
                                            .left_ms = 5000},
                    NULL);
}

static enum remote_result answer_kept(unsigned node, uint64_t ms, const char *data) {
    return channel_remote_cached(
        hub, slot, worker_of("cache-x"), SLICE("cache-x"),
        &(struct channel_event){.event = SLICE("\"e\""), .data = slice_of(data), .stamp = stamp_of(node, ms)}, 5000);
}

static void the_newest_event_is_kept_whatever_order_they_come_in(void **state) {
    uint64_t now_ms = clock_wall_ms() + 60000; /* the clocks of the others are ahead */
    struct channel_own_walk walk;
    struct peer a;

    (void)state;
    open_peer(&a, 0);
    assert_int_equal(answer_kept(1, now_ms, "1"), REMOTE_UNKNOWN);
    hear("cache-x");
    publish_from(1, now_ms, "1");
    assert_kept("1");
    publish_from(2, now_ms - 1, "2");
    assert_kept("1");
    publish_from(2, now_ms, "2"); /* its id is smaller */
    assert_kept("1");
    publish_from(0, now_ms, "0"); /* a greater one */
    assert_kept("0");
    channel_publish(hub, slot, workers.list[0], SLICE("cache-x"),
                    &(struct channel_event){.event = SLICE("\"e\""), .data = SLICE("\"own\""), .keep = true}, NULL);
    assert_kept("\"own\"");           /* though this node's clock is behind */
    publish_from(1, now_ms + 1, "1"); /* the time that the own event was given, from a node with a smaller id */
    assert_kept("\"own\"");
    assert_int_equal(answer_kept(3, now_ms, "3"), REMOTE_DONE);
    assert_kept("\"own\"");
    assert_int_equal(answer_kept(3, now_ms + 2, "3"), REMOTE_DONE);
    assert_kept("3");
    publish_from(1, UINT64_MAX, "\"never\"");
    publish_from(1, UINT64_C(1) << 48, "\"never\"");
    publish_from(1, now_ms + 25 * 60 * 60 * UINT64_C(1000), "\"never\"");
    assert_kept("3");
    assert_true(channel_own_begin(slot, SLICE("cache-x"), workers.list[0]->now_ms, &walk));
    assert_true(walk.has_kept);
    assert_int_equal(walk.kept.stamp.ms, now_ms + 2);
    assert_int_equal(walk.kept.stamp.node[1], 97);
    assert_in_range(walk.kept.left_ms, 1, 5000);
    assert_true(slice_equal(walk.kept.data, SLICE("3")));
    channel_own_end(&walk);
    let_go("cache-x");
    close_peer(&a);
}

/* What the relay gets has the time already, so that all nodes decide alike. */
static struct channel_stamp relayed_stamp;

static void note_relayed(void *context, struct app_slot *app, struct slice channel, const struct channel_event *event) {
    (void)context;
    (void)app;
    (void)channel;
    relayed_stamp = event->stamp;
}

static void an_event_is_stamped_before_it_goes_to_other_nodes(void **state) {
    static const struct channel_relay relay = {.published = note_relayed};
    const struct channel_event event = {.event = SLICE("\"e\""), .data = SLICE("1"), .keep = true};
    uint64_t now_ms = clock_wall_ms();

    (void)state;
    hear("cache-x");
    channel_hub_set_relay(hub, &relay);
    channel_publish(hub, slot, workers.list[0], SLICE("cache-x"), &event, NULL);
    assert_in_range(relayed_stamp.ms, now_ms, now_ms + 60000);
    now_ms = relayed_stamp.ms;
    channel_publish(hub, slot, workers.list[0], SLICE("cache-x"), &event, NULL);
    assert_true(relayed_stamp.ms > now_ms);
    channel_publish(hub, slot, workers.list[0], SLICE("chat"), &event, NULL);
    assert_int_equal(relayed_stamp.ms, 0);
    let_go("cache-x");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_first_subscriber_waits_until_other_nodes_were_heard),
        TEST(a_wait_can_be_ended),
        TEST(a_channel_that_is_wanted_again_is_not_let_go),
        TEST(new_subscriptions_wait_again_while_the_subject_is_not_in_force),
        TEST(a_walk_has_each_channel_that_is_held),
        TEST(a_user_on_two_nodes_is_one_member),
        TEST(a_list_has_the_members_of_all_nodes),
        TEST(changes_are_taken_in_order_and_once),
        TEST(a_whole_set_tells_only_what_differs),
        TEST(a_set_ends_with_the_interest),
        TEST(the_earliest_user_info_is_told),
        TEST(a_node_that_is_gone_takes_all_along),
        TEST(many_members_come_and_go_over_several_turns),
        TEST(the_end_gives_back_what_other_nodes_have),
        TEST(own_changes_form_a_chain),
        TEST(a_change_is_told_to_a_node_that_came_during_it),
        TEST(a_channel_without_state_has_no_changes),
        TEST(the_own_set_is_read_in_parts),
        TEST(a_user_is_online_on_any_node),
        TEST(counts_are_the_sum_of_what_the_nodes_told),
        TEST(occupancy_is_of_all_nodes),
        TEST(the_newest_event_is_kept_whatever_order_they_come_in),
        TEST(an_event_is_stamped_before_it_goes_to_other_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
