/* The table of nodes: who is alive, what is said when, and ids that do not come back. Time is the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "cluster/nodes/nodes.h"

#define HEARTBEAT_MS 1000
#define TIMEOUT_MS 3000
#define OUTAGE_MS 60000
#define HOUR_MS (60 * 60 * UINT64_C(1000))

/* A table, and what its hooks were called for, as words: "hello", "hello>2" (to node 2), "answer>2", "heartbeat",
 * "dead 2", "dead 2>2", "came 1", "left 1", "replaced 1 2", "renamed", "gathered". */
struct world {
    struct nodes *nodes;
    uint64_t now_ms;
    unsigned held; /* hold this number when it leaves */
    char said[8192];
};

/* Ids of other nodes are small numbers. */
static struct node_id id_of(unsigned number) {
    return (struct node_id){7, number};
}

__attribute__((format(printf, 2, 3))) static void note_words(struct world *world, const char *format, ...) {
    size_t length = strlen(world->said);
    va_list arguments;

    if (length > 0)
        length += (size_t)snprintf(world->said + length, sizeof world->said - length, ", ");
    va_start(arguments, format);
    vsnprintf(world->said + length, sizeof world->said - length, format, arguments);
    va_end(arguments);
}

static void note_hello(void *context, const struct node_id *to, bool answer) {
    if (to == NULL)
        note_words(context, "hello");
    else
        note_words(context, answer ? "answer>%u" : "hello>%u", (unsigned)to->low);
}

static void note_heartbeat(void *context) {
    note_words(context, "heartbeat");
}

static void note_dead(void *context, struct node_id dead, const struct node_id *to) {
    if (to == NULL)
        note_words(context, "dead %u", (unsigned)dead.low);
    else
        note_words(context, "dead %u>%u", (unsigned)dead.low, (unsigned)to->low);
}

static void note_renamed(void *context, struct node_id before) {
    struct world *world = context;

    assert_true(node_id_equal(before, nodes_replaced_id(world->nodes)));
    note_words(context, "renamed");
}

static void note_came(void *context, unsigned number) {
    note_words(context, "came %u", number);
}

static void note_left(void *context, unsigned number) {
    struct world *world = context;

    note_words(context, "left %u", number);
    if (world->held == number)
        nodes_hold(world->nodes, number);
}

static void note_replaced(void *context, unsigned before, unsigned now) {
    note_words(context, "replaced %u %u", before, now);
}

static void note_gathered(void *context) {
    note_words(context, "gathered");
}

static void begin_world(struct world *world) {
    const struct nodes_settings settings = {
        .heartbeat_ms = HEARTBEAT_MS, .timeout_ms = TIMEOUT_MS, .outage_ms = OUTAGE_MS, .versions = {2, 4}};
    const struct nodes_hooks hooks = {note_hello, note_heartbeat, note_dead,     note_renamed, note_came,
                                      note_left,  note_replaced,  note_gathered, world};

    *world = (struct world){.now_ms = 5000};
    world->nodes = nodes_create(&settings, &hooks, world->now_ms);
}

static void end_world(struct world *world) {
    nodes_destroy(world->nodes);
}

/* Compares what was said since the last call. */
#define assert_said(world, words)                                                                                      \
    do {                                                                                                               \
        assert_string_equal((world)->said, words);                                                                     \
        (world)->said[0] = '\0';                                                                                       \
    } while (0)

/* Lets time pass as a thread does that sleeps until the next call is due. */
static void pass_time(struct world *world, uint64_t ms) {
    uint64_t end_ms = world->now_ms + ms, due_ms;

    while ((due_ms = nodes_run(world->nodes, world->now_ms)) <= end_ms) {
        assert_true(due_ms >= world->now_ms);
        world->now_ms = due_ms > world->now_ms ? due_ms : due_ms + 1;
    }
    world->now_ms = end_ms;
    nodes_run(world->nodes, end_ms);
}

static enum nodes_sender hear(struct world *world, unsigned from, unsigned *number) {
    return nodes_heard(world->nodes, id_of(from), false, number, world->now_ms);
}

static unsigned hear_hello_of(struct world *world, unsigned from, struct node_id replaces,
                              struct message_versions versions, bool answer) {
    const struct node_hello hello = {
        .replaces = replaces, .versions = versions, .name = SLICE("name"), .address = SLICE("address")};
    unsigned number;

    switch (nodes_heard(world->nodes, id_of(from), true, &number, world->now_ms)) {
    case NODES_SELF:
    case NODES_LEFT:
    case NODES_DROP:
        return 0;
    default:
        return nodes_hello(world->nodes, id_of(from), &hello, answer, world->now_ms);
    }
}

static unsigned hear_hello(struct world *world, unsigned from) {
    return hear_hello_of(world, from, (struct node_id){0}, (struct message_versions){2, 4}, true);
}

/* A world that is up, has said all of its hellos and knows node 1. */
static void begin_pair(struct world *world) {
    begin_world(world);
    nodes_up(world->nodes, world->now_ms);
    pass_time(world, 600);
    assert_int_equal(hear_hello(world, 1), 1);
    world->said[0] = '\0';
}

/* --- the start --- */

static void hello_is_said_three_times_and_answered_each_time(void **state) {
    struct world world;

    (void)state;
    begin_world(&world);
    pass_time(&world, 2000);
    assert_said(&world, ""); /* nothing is in force yet */
    nodes_up(world.nodes, world.now_ms);
    pass_time(&world, 249);
    assert_said(&world, "hello, gathered");
    pass_time(&world, 1);
    assert_said(&world, "hello");
    pass_time(&world, 250);
    assert_said(&world, "hello");
    assert_int_equal(hear_hello(&world, 1), 1);
    assert_said(&world, "came 1, answer>1");
    assert_int_equal(hear_hello(&world, 1), 1);
    assert_said(&world, "answer>1");
    assert_int_equal(hear_hello_of(&world, 2, (struct node_id){0}, (struct message_versions){2, 4}, false), 2);
    assert_said(&world, "came 2");
    assert_int_equal(nodes_alive(world.nodes), 6);
    end_world(&world);
}

static void it_is_quiet_when_nobody_new_was_heard_of_for_a_while(void **state) {
    struct world world;

    (void)state;
    begin_world(&world);
    assert_false(nodes_settled(world.nodes, 300, world.now_ms + 1000));
    nodes_up(world.nodes, world.now_ms);
    pass_time(&world, 200);
    hear_hello(&world, 1);
    pass_time(&world, 299);
    assert_false(nodes_settled(world.nodes, 300, world.now_ms));
    hear_hello(&world, 1); /* once more is nothing new */
    pass_time(&world, 1);
    assert_true(nodes_settled(world.nodes, 300, world.now_ms));
    end_world(&world);
}

static void those_who_got_the_hello_are_waited_for_if_their_number_is_known(void **state) {
    struct world world;

    (void)state;
    begin_world(&world);
    nodes_up(world.nodes, world.now_ms);
    nodes_expect(world.nodes, 0);
    assert_true(nodes_settled(world.nodes, 300, world.now_ms)); /* it is alone */
    nodes_expect(world.nodes, 2);
    pass_time(&world, 1000);
    hear_hello(&world, 1);
    pass_time(&world, 1000);
    assert_false(nodes_settled(world.nodes, 300, world.now_ms));
    hear_hello(&world, 2);
    assert_true(nodes_settled(world.nodes, 300, world.now_ms));
    nodes_expect(world.nodes, 3);
    nodes_down(world.nodes, world.now_ms);
    assert_false(nodes_settled(world.nodes, 300, world.now_ms));
    nodes_up(world.nodes, world.now_ms); /* nothing is known of this hello */
    pass_time(&world, 300);
    assert_true(nodes_settled(world.nodes, 300, world.now_ms));
    end_world(&world);
}

static void a_stranger_is_asked_for_its_hello_within_a_bound(void **state) {
    struct world world;
    unsigned number;

    (void)state;
    begin_pair(&world);
    assert_int_equal(hear(&world, 1, &number), NODES_KNOWN);
    assert_int_equal(number, 1);
    assert_int_equal(hear(&world, 2, &number), NODES_UNKNOWN);
    assert_int_equal(number, 0);
    assert_said(&world, "hello>2");
    for (unsigned i = 0; i < 1000; i++)
        hear(&world, 100 + i, &number);
    assert_int_equal(strlen(world.said) - strlen(strstr(world.said, "hello>198")), 99 * strlen("hello>100, ") - 11);
    assert_null(strstr(world.said, "hello>199"));
    assert_int_equal(nodes_alive_count(world.nodes), 1);
    end_world(&world);
}

static void own_messages_are_known_by_their_ids(void **state) {
    struct world world;
    unsigned number;

    (void)state;
    begin_pair(&world);
    assert_int_equal(nodes_heard(world.nodes, nodes_own_id(world.nodes), true, &number, world.now_ms), NODES_SELF);
    nodes_dead(world.nodes, nodes_own_id(world.nodes), world.now_ms);
    assert_int_equal(nodes_heard(world.nodes, nodes_own_id(world.nodes), true, &number, world.now_ms), NODES_SELF);
    assert_int_equal(nodes_heard(world.nodes, nodes_replaced_id(world.nodes), true, &number, world.now_ms), NODES_SELF);
    assert_int_equal(nodes_heard(world.nodes, (struct node_id){0}, true, &number, world.now_ms), NODES_DROP);
    end_world(&world);
}

/* --- silence --- */

static void heartbeats_are_said_in_every_interval(void **state) {
    struct world world;

    (void)state;
    begin_world(&world);
    nodes_up(world.nodes, world.now_ms);
    pass_time(&world, 500);
    world.said[0] = '\0';
    pass_time(&world, 999);
    assert_said(&world, "");
    pass_time(&world, 1);
    assert_said(&world, "heartbeat");
    pass_time(&world, 3000);
    assert_said(&world, "heartbeat, heartbeat, heartbeat");
    end_world(&world);
}

static void a_silent_node_is_dead_once_and_told_so_when_it_speaks(void **state) {
    struct world world;
    unsigned number;

    (void)state;
    begin_pair(&world);
    pass_time(&world, 2000);
    hear(&world, 1, &number);
    world.said[0] = '\0';
    pass_time(&world, 2999);
    assert_null(strstr(world.said, "left"));
    pass_time(&world, 1);
    assert_non_null(strstr(world.said, "dead 1, dead 1>1, left 1"));
    assert_int_equal(nodes_alive(world.nodes), 0);
    world.said[0] = '\0';
    assert_int_equal(hear(&world, 1, &number), NODES_DROP);
    assert_said(&world, "dead 1>1");
    assert_int_equal(hear(&world, 1, &number), NODES_DROP);
    assert_said(&world, ""); /* not for each message of a burst */
    pass_time(&world, 100);
    world.said[0] = '\0';
    assert_int_equal(hear_hello(&world, 1), 0);
    assert_said(&world, "dead 1>1");
    nodes_down(world.nodes, world.now_ms); /* so that an hour is soon over */
    world.now_ms += HOUR_MS - 101;
    assert_int_equal(hear(&world, 1, &number), NODES_DROP);
    world.now_ms += 1;
    assert_int_equal(hear_hello(&world, 1), 1);
    end_world(&world);
}

static void silence_does_not_count_while_the_bus_is_down(void **state) {
    struct world world;

    (void)state;
    begin_pair(&world);
    pass_time(&world, 2500);
    nodes_down(world.nodes, world.now_ms);
    world.said[0] = '\0';
    pass_time(&world, 20000);
    assert_said(&world, "");
    nodes_up(world.nodes, world.now_ms);
    pass_time(&world, 2999);
    assert_null(strstr(world.said, "left"));
    pass_time(&world, 1);
    assert_non_null(strstr(world.said, "left 1"));
    end_world(&world);
}

static void silence_does_not_count_while_this_node_did_not_run(void **state) {
    struct world world;

    (void)state;
    begin_pair(&world);
    pass_time(&world, 900);
    world.now_ms += 2500; /* a turn of the loop that long; its heartbeat is overdue, but it is not taken for dead */
    world.said[0] = '\0';
    pass_time(&world, 2999);
    assert_said(&world, "heartbeat, heartbeat, heartbeat");
    pass_time(&world, 1);
    assert_non_null(strstr(world.said, "left 1"));
    end_world(&world);
}

static void after_a_long_outage_all_are_forgotten_and_may_come_back(void **state) {
    struct world world;

    (void)state;
    begin_pair(&world);
    nodes_down(world.nodes, world.now_ms);
    pass_time(&world, OUTAGE_MS - 1);
    assert_said(&world, "");
    pass_time(&world, 1 + HEARTBEAT_MS);
    assert_said(&world, "left 1");
    nodes_up(world.nodes, world.now_ms);
    pass_time(&world, 1);
    assert_said(&world, "hello, gathered");
    assert_int_equal(hear_hello(&world, 1), 1);
    assert_said(&world, "came 1, answer>1");
    end_world(&world);
}

/* --- new ids --- */

static void a_node_that_was_silent_for_too_long_takes_a_new_id(void **state) {
    struct world world;
    struct node_id before;

    (void)state;
    begin_pair(&world);
    before = nodes_own_id(world.nodes);
    world.now_ms += TIMEOUT_MS + 1000;
    nodes_run(world.nodes, world.now_ms);
    assert_said(&world, "renamed");
    assert_false(node_id_equal(before, nodes_own_id(world.nodes)));
    assert_true(node_id_equal(before, nodes_replaced_id(world.nodes)));
    pass_time(&world, 100); /* silent, until its new inbox is in force */
    assert_said(&world, "");
    nodes_up(world.nodes, world.now_ms);
    pass_time(&world, 1);
    assert_said(&world, "hello");
    assert_int_equal(nodes_alive(world.nodes), 2);
    end_world(&world);
}

static void a_node_that_hears_of_its_death_takes_a_new_id(void **state) {
    struct world world;

    (void)state;
    begin_pair(&world);
    nodes_dead(world.nodes, nodes_own_id(world.nodes), world.now_ms);
    assert_said(&world, "renamed");
    nodes_dead(world.nodes, nodes_replaced_id(world.nodes), world.now_ms); /* once more */
    assert_said(&world, "");
    end_world(&world);
}

static void a_death_is_believed_when_that_node_is_silent_here_too(void **state) {
    struct world world;

    (void)state;
    begin_pair(&world);
    pass_time(&world, 1499);
    world.said[0] = '\0';
    nodes_dead(world.nodes, id_of(1), world.now_ms);
    nodes_dead(world.nodes, id_of(2), world.now_ms); /* it is not known */
    assert_said(&world, "");
    world.now_ms += 1;
    nodes_dead(world.nodes, id_of(1), world.now_ms);
    assert_said(&world, "dead 1, dead 1>1, left 1");
    nodes_dead(world.nodes, id_of(1), world.now_ms);
    assert_said(&world, "");
    end_world(&world);
}

static void a_new_id_replaces_the_old_one(void **state) {
    struct world world;
    unsigned number;

    (void)state;
    begin_pair(&world);
    assert_int_equal(hear_hello_of(&world, 5, id_of(1), (struct message_versions){2, 4}, true), 2);
    assert_said(&world, "replaced 1 2, answer>5");
    assert_int_equal(nodes_alive(world.nodes), 4);
    assert_int_equal(hear(&world, 1, &number), NODES_LEFT);
    assert_said(&world, ""); /* it is not dead */
    assert_int_equal(hear_hello_of(&world, 6, id_of(99), (struct message_versions){2, 4}, true), 1);
    assert_said(&world, "came 1, answer>6");
    end_world(&world);
}

static void hellos_are_answered_so_often_in_a_second(void **state) {
    struct world world;
    unsigned answers = 0;

    (void)state;
    begin_pair(&world);
    for (unsigned i = 0; i < 1000; i++) {
        hear_hello_of(&world, 1, (struct node_id){0}, (struct message_versions){2, 4}, true);
        answers += world.said[0] != '\0';
        world.said[0] = '\0';
    }
    assert_in_range(answers, 3 * 63, 999);
    world.now_ms += 1000;
    hear_hello_of(&world, 1, (struct node_id){0}, (struct message_versions){2, 4}, true);
    assert_said(&world, "answer>1");
    end_world(&world);
}

/* --- leaving --- */

static void bye_is_the_end_of_an_id(void **state) {
    struct world world;
    unsigned number;

    (void)state;
    begin_pair(&world);
    nodes_bye(world.nodes, id_of(1), world.now_ms);
    assert_said(&world, "left 1");
    assert_int_equal(hear(&world, 1, &number), NODES_LEFT); /* what it said before may come on another way */
    assert_int_equal(number, 0);
    assert_int_equal(hear_hello(&world, 1), 0);
    nodes_bye(world.nodes, id_of(1), world.now_ms);
    nodes_down(world.nodes, world.now_ms);
    world.now_ms += 5000;
    assert_int_equal(hear(&world, 1, &number), NODES_DROP);
    world.now_ms -= 5000;
    assert_said(&world, "");
    nodes_down(world.nodes, world.now_ms); /* so that an hour is soon over */
    world.now_ms += HOUR_MS - 1;
    assert_int_equal(hear_hello(&world, 1), 0);
    world.now_ms += 1;
    assert_int_equal(hear_hello(&world, 1), 1);
    end_world(&world);
}

static void ids_that_left_are_bounded(void **state) {
    struct world world;
    unsigned number;

    (void)state;
    begin_pair(&world);
    for (unsigned i = 0; i < NODES_GONE_MAX; i++) {
        world.said[0] = '\0';
        assert_int_equal(hear_hello(&world, 1000 + i), 2);
        nodes_bye(world.nodes, id_of(1000 + i), world.now_ms);
    }
    assert_int_equal(hear(&world, 1000, &number), NODES_LEFT);
    assert_int_equal(hear_hello(&world, 3000), 2);
    nodes_bye(world.nodes, id_of(3000), world.now_ms);
    assert_int_equal(hear(&world, 1000, &number), NODES_UNKNOWN);
    assert_int_equal(hear(&world, 1001, &number), NODES_LEFT);
    end_world(&world);
}

static void a_number_that_is_held_is_not_given_again(void **state) {
    struct world world;

    (void)state;
    begin_pair(&world);
    world.held = 1;
    nodes_bye(world.nodes, id_of(1), world.now_ms);
    assert_int_equal(nodes_at(world.nodes, 1)->state, NODE_GONE);
    assert_int_equal(hear_hello(&world, 2), 2);
    nodes_release(world.nodes, 1);
    assert_int_equal(nodes_at(world.nodes, 1)->state, NODE_FREE);
    assert_int_equal(hear_hello(&world, 3), 1);
    end_world(&world);
}

static void one_node_too_many_is_refused(void **state) {
    struct world world;

    (void)state;
    begin_world(&world);
    nodes_up(world.nodes, world.now_ms);
    for (unsigned i = 1; i < NODES_MAX; i++)
        assert_int_equal(hear_hello(&world, i), i);
    assert_int_equal(nodes_alive(world.nodes), UINT64_MAX - 1);
    assert_false(nodes_in_trouble(world.nodes, world.now_ms));
    world.said[0] = '\0';
    assert_int_equal(hear_hello(&world, 64), 0);
    assert_said(&world, "");
    assert_true(nodes_in_trouble(world.nodes, world.now_ms));
    assert_true(nodes_in_trouble(world.nodes, world.now_ms + TIMEOUT_MS - 1));
    assert_false(nodes_in_trouble(world.nodes, world.now_ms + TIMEOUT_MS));
    nodes_bye(world.nodes, id_of(7), world.now_ms);
    assert_int_equal(hear_hello(&world, 64), 7);
    end_world(&world);
}

/* --- after an outage, versions --- */

static void those_that_were_there_are_waited_for_after_an_outage(void **state) {
    struct world world;

    (void)state;
    begin_pair(&world);
    hear_hello(&world, 2);
    nodes_down(world.nodes, world.now_ms);
    nodes_up(world.nodes, world.now_ms);
    world.said[0] = '\0';
    pass_time(&world, 1);
    hear_hello(&world, 2);
    assert_said(&world, "hello, answer>2");
    hear_hello(&world, 1);
    assert_said(&world, "answer>1, gathered");
    nodes_down(world.nodes, world.now_ms);
    nodes_up(world.nodes, world.now_ms);
    pass_time(&world, 999);
    assert_said(&world, "hello, hello, hello");
    pass_time(&world, 1);
    assert_said(&world, "gathered");
    end_world(&world);
}

static void the_version_is_the_highest_that_all_speak(void **state) {
    struct world world;

    (void)state;
    begin_pair(&world);
    assert_int_equal(nodes_version(world.nodes), 4);
    hear_hello_of(&world, 2, (struct node_id){0}, (struct message_versions){1, 3}, true);
    assert_int_equal(nodes_version(world.nodes), 3);
    assert_false(nodes_in_trouble(world.nodes, world.now_ms));
    hear_hello_of(&world, 3, (struct node_id){0}, (struct message_versions){5, 6}, true);
    assert_int_equal(nodes_version(world.nodes), 3);
    assert_true(nodes_in_trouble(world.nodes, world.now_ms));
    nodes_bye(world.nodes, id_of(3), world.now_ms);
    assert_false(nodes_in_trouble(world.nodes, world.now_ms));
    nodes_bye(world.nodes, id_of(2), world.now_ms);
    assert_int_equal(nodes_version(world.nodes), 4);
    end_world(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_is_said_three_times_and_answered_each_time),
        cmocka_unit_test(it_is_quiet_when_nobody_new_was_heard_of_for_a_while),
        cmocka_unit_test(those_who_got_the_hello_are_waited_for_if_their_number_is_known),
        cmocka_unit_test(a_stranger_is_asked_for_its_hello_within_a_bound),
        cmocka_unit_test(own_messages_are_known_by_their_ids),
        cmocka_unit_test(heartbeats_are_said_in_every_interval),
        cmocka_unit_test(a_silent_node_is_dead_once_and_told_so_when_it_speaks),
        cmocka_unit_test(silence_does_not_count_while_the_bus_is_down),
        cmocka_unit_test(silence_does_not_count_while_this_node_did_not_run),
        cmocka_unit_test(after_a_long_outage_all_are_forgotten_and_may_come_back),
        cmocka_unit_test(a_node_that_was_silent_for_too_long_takes_a_new_id),
        cmocka_unit_test(a_node_that_hears_of_its_death_takes_a_new_id),
        cmocka_unit_test(a_death_is_believed_when_that_node_is_silent_here_too),
        cmocka_unit_test(a_new_id_replaces_the_old_one),
        cmocka_unit_test(hellos_are_answered_so_often_in_a_second),
        cmocka_unit_test(bye_is_the_end_of_an_id),
        cmocka_unit_test(ids_that_left_are_bounded),
        cmocka_unit_test(a_number_that_is_held_is_not_given_again),
        cmocka_unit_test(one_node_too_many_is_refused),
        cmocka_unit_test(those_that_were_there_are_waited_for_after_an_outage),
        cmocka_unit_test(the_version_is_the_highest_that_all_speak),
    };

    return cmocka_run_group_tests_name("nodes", tests, NULL, NULL);
}
