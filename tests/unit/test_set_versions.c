/* Versions of other nodes' sets: whatever is lost, doubled or overtaken, what a channel has is in the end what the
 * nodes have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "cluster/state/set_versions.h"

#include "harness.h"

#define NODES 3
#define USERS 6
#define NOW_S 1000

/* --- one step at a time --- */

static enum set_step change(struct set_versions *versions, uint64_t before, uint64_t version, bool empties) {
    return set_versions_change(versions, 1, &(struct set_change){before, version, empties}, NOW_S);
}

/* Node 1 is known as empty. */
static void begin_known(struct set_versions *versions) {
    *versions = (struct set_versions){0};
    assert_true(set_versions_ask(versions, 1));
    assert_int_equal(set_versions_nothing(versions, 1, NOW_S), SET_IGNORE);
}

static void changes_in_a_row_are_applied_and_old_ones_are_not(void **state) {
    struct set_versions versions;

    (void)state;
    begin_known(&versions);
    assert_int_equal(change(&versions, 0, 5, false), SET_APPLY);
    assert_int_equal(change(&versions, 5, 9, false), SET_APPLY);
    assert_int_equal(change(&versions, 5, 9, false), SET_IGNORE);
    assert_int_equal(change(&versions, 9, 12, true), SET_APPLY);
    assert_int_equal(set_versions_of(&versions, 1), 0);
    assert_int_equal(change(&versions, 0, 5, false), SET_IGNORE); /* the emptied set is remembered */
    assert_int_equal(change(&versions, 0, 20, false), SET_APPLY);
    assert_int_equal(set_versions_of(&versions, 1), 20);
    set_versions_dispose(&versions);
}

static void an_emptied_set_is_forgotten_when_it_is_told_so(void **state) {
    struct set_versions versions;

    (void)state;
    begin_known(&versions);
    change(&versions, 0, 5, false);
    change(&versions, 5, 6, true);
    set_versions_expire(&versions, NOW_S);
    assert_int_equal(set_versions_applied(&versions, 1), 6);
    set_versions_expire(&versions, NOW_S + 1);
    assert_int_equal(set_versions_applied(&versions, 1), 0);
    assert_int_equal(versions.count, 0);
}

static void a_gap_asks_once_and_keeps_what_follows(void **state) {
    struct set_kept second = {.node = 1, .change = {7, 8, false}}, third = {.node = 1, .change = {8, 9, false}};
    struct set_versions versions;
    enum set_step step;

    (void)state;
    begin_known(&versions);
    assert_int_equal(change(&versions, 0, 5, false), SET_APPLY);
    assert_int_equal(change(&versions, 7, 8, false), SET_ASK);
    assert_true(set_versions_keep(&versions, &second));
    assert_int_equal(change(&versions, 8, 9, false), SET_KEEP);
    assert_true(set_versions_keep(&versions, &third));
    set_versions_asked_by(&versions, 1, 77);
    assert_int_equal(set_versions_begin(&versions, 1, 4, 76), SET_IGNORE);
    assert_true(set_versions_awaits(&versions, 1, 77));
    assert_int_equal(set_versions_begin(&versions, 1, 8, 77), SET_APPLY);
    assert_false(set_versions_awaits(&versions, 1, 77));
    assert_null(set_versions_next(&versions, 1, &step, NOW_S));
    set_versions_taken(&versions, 1, 8, false, true, NOW_S);
    assert_ptr_equal(set_versions_next(&versions, 1, &step, NOW_S), &second);
    assert_int_equal(step, SET_IGNORE);
    assert_ptr_equal(set_versions_next(&versions, 1, &step, NOW_S), &third);
    assert_int_equal(step, SET_APPLY);
    assert_null(set_versions_next(&versions, 1, &step, NOW_S));
    assert_int_equal(step, SET_IGNORE);
    assert_int_equal(set_versions_of(&versions, 1), 9);
    set_versions_dispose(&versions);
}

static void over_a_thousand_kept_changes_are_dropped_and_asked_for_again(void **state) {
    static struct set_kept kept[SET_KEPT_MAX + 1];
    struct set_versions versions = {0};
    enum set_step step;
    unsigned count = 0;

    (void)state;
    for (unsigned i = 0; i <= SET_KEPT_MAX; i++) {
        kept[i] = (struct set_kept){.node = 1, .change = {i, i + 1, false}};
        assert_int_equal(change(&versions, i, i + 1, false), i == 0 ? SET_ASK : SET_KEEP);
        assert_int_equal(set_versions_keep(&versions, &kept[i]), i < SET_KEPT_MAX);
    }
    for (struct set_kept *each = set_versions_take_all(&versions); each != NULL; each = each->next)
        count++;
    assert_int_equal(count, SET_KEPT_MAX);
    assert_int_equal(set_versions_begin(&versions, 1, 500, 1), SET_APPLY);
    set_versions_taken(&versions, 1, 500, false, true, NOW_S);
    assert_null(set_versions_next(&versions, 1, &step, NOW_S));
    assert_int_equal(step, SET_ASK);
    set_versions_dispose(&versions);
}

static void a_version_that_is_told_shows_a_loss(void **state) {
    struct set_versions versions;

    (void)state;
    begin_known(&versions);
    assert_int_equal(set_versions_told(&versions, 1, 0, NOW_S), SET_IGNORE);
    change(&versions, 0, 5, false);
    assert_int_equal(set_versions_told(&versions, 1, 5, NOW_S), SET_IGNORE);
    assert_int_equal(set_versions_told(&versions, 1, 6, NOW_S), SET_ASK);
    set_versions_unanswered(&versions, 1);
    assert_int_equal(set_versions_told(&versions, 1, 0, NOW_S), SET_ASK);
    assert_int_equal(set_versions_nothing(&versions, 1, NOW_S), SET_APPLY);
    set_versions_taken(&versions, 1, set_versions_applied(&versions, 1), true, true, NOW_S);
    assert_int_equal(set_versions_of(&versions, 1), 0);
    set_versions_dispose(&versions);
}

/* Returns what a change means so many seconds after now. */
static enum set_step change_after(struct set_versions *versions, uint64_t version, uint32_t seconds) {
    return set_versions_change(versions, 1, &(struct set_change){version - 1, version, false}, NOW_S + seconds);
}

/* Fails unless the node is asked from so many seconds after now, and not before. */
static void check_asked_from(struct set_versions *versions, uint64_t version, uint32_t seconds) {
    assert_false(set_versions_known(versions, 1));
    assert_int_equal(change_after(versions, version, seconds - 1), SET_IGNORE);
    assert_int_equal(set_versions_told(versions, 1, version, NOW_S + seconds - 1), SET_IGNORE);
    assert_int_equal(set_versions_told(versions, 1, version, NOW_S + seconds), SET_ASK);
    assert_int_equal(change_after(versions, version + 1, seconds), SET_KEEP);
}

static void a_node_whose_set_finds_no_room_is_asked_less_and_less_often(void **state) {
    struct set_versions versions;
    uint32_t wait_s = 1;

    (void)state;
    begin_known(&versions);
    change(&versions, 0, 5, false);
    for (unsigned i = 0; i < 300; i++) { /* more often than it can be counted */
        set_versions_refused(&versions, 1, NOW_S);
        set_versions_expire(&versions, NOW_S);
        check_asked_from(&versions, 10, wait_s + 1);
        wait_s = wait_s * 2 < 60 ? wait_s * 2 : 60;
    }
    assert_int_equal(set_versions_begin(&versions, 1, 12, 1), SET_APPLY);
    set_versions_taken(&versions, 1, 12, false, true, NOW_S);
    assert_int_equal(set_versions_of(&versions, 1), 12);
    set_versions_refused(&versions, 1, NOW_S);
    check_asked_from(&versions, 20, 2);
    set_versions_dispose(&versions);
}

/* What a digest asks for is taken in, with the changes after it. */
static void a_node_that_is_asked_all_the_same_is_listened_to(void **state) {
    struct set_versions versions;

    (void)state;
    begin_known(&versions);
    set_versions_refused(&versions, 1, NOW_S);
    assert_int_equal(change(&versions, 0, 5, false), SET_IGNORE);
    assert_true(set_versions_ask(&versions, 1));
    assert_int_equal(change(&versions, 5, 6, false), SET_KEEP);
    assert_int_equal(set_versions_begin(&versions, 1, 5, 1), SET_APPLY);
    assert_int_equal(change(&versions, 6, 7, false), SET_KEEP);
    set_versions_dispose(&versions);
}

/* Fails unless the channel is to forget what it has of node 1, which has nothing. */
static void check_forgotten_when_empty(struct set_versions *versions) {
    set_versions_expire(versions, NOW_S + 1000);
    assert_false(set_versions_known(versions, 1));
    assert_int_equal(set_versions_of(versions, 1), 0);
    set_versions_ask(versions, 1);
    assert_int_equal(set_versions_nothing(versions, 1, NOW_S), SET_APPLY);
    assert_int_equal(set_versions_applied(versions, 1), 0);
    set_versions_taken(versions, 1, 0, true, true, NOW_S);
    set_versions_ask(versions, 1);
    assert_int_equal(set_versions_nothing(versions, 1, NOW_S), SET_IGNORE);
    assert_int_equal(change(versions, 0, 30, false), SET_APPLY);
    set_versions_dispose(versions);
}

/* Members of a set that was refused, of a part of a set, and of a version that is in doubt. */
static void what_a_channel_may_have_of_an_unknown_set_is_forgotten_when_it_is_empty(void **state) {
    struct set_versions versions;

    (void)state;
    begin_known(&versions);
    change(&versions, 0, 5, false);
    set_versions_refused(&versions, 1, NOW_S);
    assert_int_equal(change(&versions, 5, 6, true), SET_IGNORE);
    check_forgotten_when_empty(&versions);

    set_versions_ask(&versions, 1);
    assert_int_equal(set_versions_begin(&versions, 1, 7, 100), SET_APPLY);
    set_versions_taken(&versions, 1, 0, true, false, NOW_S);
    check_forgotten_when_empty(&versions);

    begin_known(&versions);
    assert_int_equal(set_versions_told(&versions, 1, 8, NOW_S), SET_ASK);
    assert_int_equal(set_versions_begin(&versions, 1, 8, 101), SET_APPLY);
    set_versions_taken(&versions, 1, 0, true, false, NOW_S);
    check_forgotten_when_empty(&versions);

    begin_known(&versions);
    change(&versions, 0, 5, false);
    set_versions_doubt(&versions, 1);
    check_forgotten_when_empty(&versions);
}

/* A complete answer, after which node 1 is asked once more or not. */
static enum set_step answer(struct set_versions *versions, uint64_t version, uint32_t request) {
    enum set_step step;

    assert_int_equal(set_versions_begin(versions, 1, version, request), SET_APPLY);
    set_versions_taken(versions, 1, version, false, true, NOW_S);
    while (set_versions_next(versions, 1, &step, NOW_S) != NULL)
        assert_int_equal(step, SET_IGNORE);
    return step;
}

static void a_version_that_the_node_does_not_have_is_asked_for_once(void **state) {
    struct set_kept kept = {.node = 1, .change = {UINT64_MAX - 1, UINT64_MAX, false}};
    struct set_versions versions;

    (void)state;
    begin_known(&versions);
    assert_int_equal(change(&versions, 0, 5, false), SET_APPLY);
    assert_int_equal(set_versions_told(&versions, 1, UINT64_MAX, NOW_S), SET_ASK);
    set_versions_asked_by(&versions, 1, 77);
    assert_int_equal(answer(&versions, 5, 77), SET_IGNORE);
    assert_int_equal(change(&versions, UINT64_MAX - 1, UINT64_MAX, false), SET_ASK);
    assert_true(set_versions_keep(&versions, &kept));
    set_versions_asked_by(&versions, 1, 78);
    assert_int_equal(answer(&versions, 5, 78), SET_IGNORE);
    assert_int_equal(versions.kept_count, 0);
    assert_int_equal(change(&versions, 5, 6, false), SET_APPLY);
    set_versions_dispose(&versions);
}

static void a_version_that_was_heard_after_the_request_is_asked_for_again(void **state) {
    struct set_versions versions;

    (void)state;
    begin_known(&versions);
    assert_int_equal(change(&versions, 0, 5, false), SET_APPLY);
    assert_int_equal(set_versions_told(&versions, 1, 6, NOW_S), SET_ASK);
    set_versions_asked_by(&versions, 1, 77);
    assert_int_equal(set_versions_told(&versions, 1, 9, NOW_S), SET_IGNORE);
    assert_int_equal(answer(&versions, 7, 77), SET_ASK);
    set_versions_dispose(&versions);
}

/* --- any order, with losses --- */

/* A message on its way: a change, or a node's whole set. */
struct sent {
    struct set_kept kept; /* of a change that the channel has yet to take */
    struct sent *next;
    unsigned users; /* bits: the set after the change, or as a whole */
    unsigned user;
    bool added;
    uint32_t request; /* of an answer, for which `kept.change.version` 0 means nothing */
};

struct queue {
    struct sent *first, *last;
};

struct node {
    unsigned users;
    uint64_t version; /* 0: empty */
    struct queue changes, answers;
    uint32_t asked; /* the request that is on its way to it; 0: none */
};

struct world {
    uint64_t seed, counter;
    uint32_t requests;
    unsigned loss; /* per mille */
    struct node nodes[NODES + 1];
    struct set_versions versions;
    unsigned channel[NODES + 1]; /* what the channel has of each node */
    struct sent *taking[NODES + 1];
    bool wants[NODES + 1]; /* a request is due */
};

static struct sent *make_sent(unsigned node) {
    struct sent *sent = alloc_zero(sizeof *sent);

    sent->kept.node = (uint8_t)node;
    return sent;
}

static void put(struct queue *queue, struct sent *sent) {
    if (queue->first == NULL)
        queue->first = sent;
    else
        queue->last->next = sent;
    queue->last = sent;
}

static struct sent *take(struct queue *queue) {
    struct sent *sent = queue->first;

    queue->first = sent->next;
    sent->next = NULL;
    return sent;
}

static bool lost(struct world *world) {
    return harness_random(&world->seed, 1000) < world->loss;
}

static void change_node(struct world *world, unsigned number) {
    struct node *node = &world->nodes[number];
    struct sent *sent = make_sent(number);

    sent->user = 1u << harness_random(&world->seed, USERS);
    sent->added = (node->users & sent->user) == 0;
    sent->kept.change.before = node->users == 0 ? 0 : node->version;
    node->users ^= sent->user;
    node->version = sent->kept.change.version = ++world->counter;
    sent->kept.change.empties = node->users == 0;
    sent->users = node->users;
    if (lost(world)) {
        free(sent);
        return;
    }
    put(&node->changes, sent);
    if (harness_random(&world->seed, 20) == 0) { /* once more */
        struct sent *again = make_sent(number);
        *again = *sent;
        again->next = NULL;
        put(&node->changes, again);
    }
}

/* What a change must find: the channel has exactly what the node had before it. */
static void apply_change(struct world *world, const struct sent *sent) {
    unsigned *users = &world->channel[sent->kept.node];

    assert_int_equal((*users & sent->user) == 0, sent->added);
    *users ^= sent->user;
    assert_int_equal(*users, sent->users);
}

static void keep_or_ask(struct world *world, struct sent *sent, enum set_step step) {
    if (step == SET_ASK)
        world->wants[sent->kept.node] = true;
    if (set_versions_keep(&world->versions, &sent->kept))
        return;
    for (struct set_kept *kept = set_versions_take_all(&world->versions); kept != NULL;) {
        struct set_kept *next = kept->next;
        free((struct sent *)kept);
        kept = next;
    }
    free(sent);
}

static void receive_change(struct world *world, struct sent *sent) {
    enum set_step step = set_versions_change(&world->versions, sent->kept.node, &sent->kept.change, NOW_S);

    if (step == SET_KEEP || step == SET_ASK) {
        keep_or_ask(world, sent, step);
        return;
    }
    if (step == SET_APPLY)
        apply_change(world, sent);
    free(sent);
}

static void pass_kept(struct world *world, unsigned node) {
    struct set_kept *kept;
    enum set_step step;

    while ((kept = set_versions_next(&world->versions, node, &step, NOW_S)) != NULL) {
        if (step == SET_APPLY)
            apply_change(world, (struct sent *)kept);
        free((struct sent *)kept);
    }
    if (step == SET_ASK)
        world->wants[node] = true;
}

static void receive_answer(struct world *world, struct sent *sent) {
    unsigned node = sent->kept.node;
    struct set_versions *versions = &world->versions;

    if (sent->kept.change.version != 0 &&
        set_versions_begin(versions, node, sent->kept.change.version, sent->request) == SET_APPLY) {
        world->taking[node] = sent;
        return;
    }
    if (sent->kept.change.version == 0 && set_versions_awaits(versions, node, sent->request)) {
        if (set_versions_nothing(versions, node, NOW_S) == SET_APPLY) {
            sent->kept.change.version = set_versions_applied(versions, node);
            world->taking[node] = sent;
            return;
        }
        pass_kept(world, node);
    }
    free(sent);
}

static void finish_taking(struct world *world, unsigned node) {
    struct sent *sent = world->taking[node];

    world->taking[node] = NULL;
    world->channel[node] = sent->users;
    set_versions_taken(&world->versions, node, sent->kept.change.version, sent->users == 0, true, NOW_S);
    free(sent);
    pass_kept(world, node);
}

static void send_request(struct world *world, unsigned node) {
    world->wants[node] = false;
    set_versions_asked_by(&world->versions, node, ++world->requests);
    if (!lost(world))
        world->nodes[node].asked = world->requests;
}

static void answer_request(struct world *world, unsigned number) {
    struct node *node = &world->nodes[number];
    struct sent *sent = make_sent(number);

    sent->request = node->asked;
    node->asked = 0;
    sent->users = node->users;
    sent->kept.change.version = node->users == 0 ? 0 : node->version;
    if (lost(world))
        free(sent);
    else
        put(&node->answers, sent);
}

/* The time for the answer is over. */
static void give_up(struct world *world, unsigned node) {
    if (set_versions_asked(&world->versions, node) && !world->wants[node] && world->nodes[node].asked == 0 &&
        world->nodes[node].answers.first == NULL)
        set_versions_unanswered(&world->versions, node);
}

static void run_step(struct world *world, bool may_change) {
    unsigned number = 1 + harness_random(&world->seed, NODES);
    struct node *node = &world->nodes[number];

    switch (harness_random(&world->seed, 8)) {
    case 0:
    case 1:
        if (may_change)
            change_node(world, number);
        break;
    case 2:
    case 3:
        if (node->changes.first != NULL)
            receive_change(world, take(&node->changes));
        break;
    case 4:
        if (node->answers.first != NULL)
            receive_answer(world, take(&node->answers));
        break;
    case 5:
        if (world->taking[number] != NULL)
            finish_taking(world, number);
        break;
    case 6:
        if (world->wants[number])
            send_request(world, number);
        else if (node->asked != 0)
            answer_request(world, number);
        break;
    default:
        give_up(world, number);
    }
}

static void tell_versions(struct world *world) {
    for (unsigned number = 1; number <= NODES; number++) {
        uint64_t version = world->nodes[number].users == 0 ? 0 : world->nodes[number].version;
        if (!set_versions_known(&world->versions, number)) {
            if (set_versions_ask(&world->versions, number)) /* as a digest does */
                world->wants[number] = true;
        } else if (set_versions_told(&world->versions, number, version, NOW_S) == SET_ASK) {
            world->wants[number] = true;
        }
    }
}

static void run_world(uint64_t seed, unsigned loss) {
    struct world world = {.seed = seed, .loss = loss};
    struct set_kept *kept;

    for (unsigned i = 0; i < 3000; i++)
        run_step(&world, true);
    world.loss = 0;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 4000; i++)
            run_step(&world, false);
        tell_versions(&world);
    }
    for (unsigned i = 0; i < 4000; i++)
        run_step(&world, false);
    for (unsigned number = 1; number <= NODES; number++) {
        assert_int_equal(world.channel[number], world.nodes[number].users);
        assert_null(world.nodes[number].changes.first);
        assert_null(world.taking[number]);
    }
    for (kept = set_versions_take_all(&world.versions); kept != NULL;) {
        struct set_kept *next = kept->next;
        free((struct sent *)kept);
        kept = next;
    }
    set_versions_dispose(&world.versions);
}

/* Two requests ask for the same set: a digest when a node has come, and one when it has been away. */
static void an_answer_that_comes_during_another_one_is_not_awaited_for_ever(void **state) {
    struct set_versions versions = {0};
    const struct set_change after = {.version = 9, .before = 7};

    (void)state;
    assert_true(set_versions_ask(&versions, 1));
    assert_int_equal(set_versions_begin(&versions, 1, 7, 100), SET_APPLY);
    assert_false(set_versions_ask(&versions, 1)); /* the second digest finds the set unknown, still */
    set_versions_taken(&versions, 1, 7, false, true, 1);
    assert_int_equal(set_versions_begin(&versions, 1, 7, 101), SET_IGNORE);
    assert_false(set_versions_asked(&versions, 1));
    assert_int_equal(set_versions_change(&versions, 1, &after, 1), SET_APPLY);

    assert_true(set_versions_ask(&versions, 1));
    set_versions_asked_by(&versions, 1, 102);
    assert_int_equal(set_versions_begin(&versions, 1, 11, 103), SET_APPLY);
    assert_int_equal(set_versions_begin(&versions, 1, 11, 102), SET_IGNORE);
    set_versions_overtaken(&versions, 1, 103);
    assert_true(set_versions_asked(&versions, 1));
    set_versions_overtaken(&versions, 1, 102);
    assert_false(set_versions_asked(&versions, 1));
    set_versions_taken(&versions, 1, 11, false, true, 1);
    assert_int_equal(set_versions_of(&versions, 1), 11);
    set_versions_dispose(&versions);
}

static void what_a_channel_has_becomes_what_the_nodes_have(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        run_world(seed, 0);
        run_world(seed, 10);
        run_world(seed, 200);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_in_a_row_are_applied_and_old_ones_are_not),
        cmocka_unit_test(an_emptied_set_is_forgotten_when_it_is_told_so),
        cmocka_unit_test(a_gap_asks_once_and_keeps_what_follows),
        cmocka_unit_test(over_a_thousand_kept_changes_are_dropped_and_asked_for_again),
        cmocka_unit_test(a_version_that_is_told_shows_a_loss),
        cmocka_unit_test(a_node_whose_set_finds_no_room_is_asked_less_and_less_often),
        cmocka_unit_test(a_node_that_is_asked_all_the_same_is_listened_to),
        cmocka_unit_test(what_a_channel_may_have_of_an_unknown_set_is_forgotten_when_it_is_empty),
        cmocka_unit_test(an_answer_that_comes_during_another_one_is_not_awaited_for_ever),
        cmocka_unit_test(a_version_that_the_node_does_not_have_is_asked_for_once),
        cmocka_unit_test(a_version_that_was_heard_after_the_request_is_asked_for_again),
        cmocka_unit_test(what_a_channel_has_becomes_what_the_nodes_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
