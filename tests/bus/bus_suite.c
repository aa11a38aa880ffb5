/*
 * usage: bus_suite CONFIG
 *        bus_suite CONFIG refused WORD...
 *
 * What every driver of the bus has to do, asked of the message system that the configuration file names. With `refused`
 * the system cannot be used with this configuration: the bus has to say why, with all of these words, and to end.
 *
 * What has to happen to the system is asked for on standard output, one line each: "@ stop" (all of it, at once,
 * without a farewell), "@ start", "@ freeze", "@ thaw", "@ cut" (the connections of its clients), "@ move SUBJECT" (to
 * another server). The line "ok" on standard input says that it has happened, "no" that this system has no such thing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "bus_peer.h"
#include "passing_time.h"

/* Subjects at a time in the test of many. */
#define MANY 20000

/* Subjects on which a message follows at once when they are in force; in rounds, to be many. */
#define PROMPT 1000
#define PROMPT_ROUNDS 10

#define NUMBERED 20000

static struct config config;

/* Two nodes on one bus. */
static struct peer peers[2];
#define ours (&peers[0])
#define theirs (&peers[1])

/* --- helpers --- */

/* False if the system has no such thing. */
static bool ask(const char *what) {
    char answer[16] = "";

    printf("@ %s\n", what);
    fflush(stdout);
    if (fgets(answer, sizeof answer, stdin) == NULL)
        fail_msg("nobody answered to: %s", what);
    return strcmp(answer, "ok\n") == 0;
}

/* Waits until both are up. */
static int open_peers(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++)
        peer_open(&peers[i], &config);
    for (size_t i = 0; i < 2; i++)
        PEER_WAIT(&peers[i], peers[i].ups > 0);
    return 0;
}

static int close_peers(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++)
        peer_close(&peers[i]);
    return 0;
}

/* Begins with `count` new subjects, to which we are subscribed in force. */
static void subscribe_all(size_t count) {
    peers_renew(peers, 2, count);
    peer_subscribe(ours, 0, count);
    PEER_WAIT(ours, peer_has_in_force(ours, 0, count, 1));
}

static void publish_all(size_t subject, uint64_t number, size_t count, size_t length) {
    assert_int_equal(peer_publish(theirs, subject, number, count, length), count);
}

/* Publishes messages with numbers from `*number` on until one arrives: the publisher may be down, or not know it yet.
 */
static void publish_until_received(size_t subject, unsigned *number) {
    uint64_t deadline_ms = clock_monotonic_ms() + PEER_TIMEOUT_MS;
    unsigned first = *number;

    while (ours->subjects[subject].last < first) {
        *number += (unsigned)peer_publish(theirs, subject, *number, 1, PEER_MESSAGE_MIN);
        peer_listen(theirs, 0);
        peer_listen(ours, clock_monotonic_ms() + 20);
        assert_true(clock_monotonic_ms() < deadline_ms);
    }
}

/* Fails unless all of `count` messages from 1 on have arrived, once and in order. */
static void assert_complete(size_t subject, unsigned count) {
    const struct peer_subject *found = &ours->subjects[subject];

    PEER_WAIT(ours, ours->subjects[subject].last >= count);
    assert_int_equal(found->damaged, 0);
    assert_int_equal(found->unordered, 0);
    assert_int_equal(found->gaps, 0);
    assert_int_equal(found->first, 1);
    assert_int_equal(found->messages, count);
}

/* Fails if a message has come twice, in the wrong order, or damaged. */
static void assert_ordered(size_t subject) {
    assert_int_equal(ours->subjects[subject].damaged, 0);
    assert_int_equal(ours->subjects[subject].unordered, 0);
}

/* Waits until both have been down so many times, and are up again. */
static void wait_for_return(unsigned downs) {
    for (size_t i = 0; i < 2; i++)
        PEER_WAIT(&peers[i], peers[i].downs >= downs && peers[i].ups == peers[i].downs + 1);
}

/* --- tests --- */

static void it_comes_up_and_says_so_once(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct bus_state found = {0};

        peer_state(&peers[i], &found);
        assert_true(found.up);
        assert_int_equal(found.waiting_bytes, 0);
        assert_int_equal(peers[i].ups, 1);
        assert_int_equal(peers[i].downs, 0);
    }
}

static void what_is_published_once_a_subscription_is_in_force_arrives(void **state) {
    (void)state;
    for (unsigned round = 0; round < PROMPT_ROUNDS; round++) {
        peers_renew(peers, 2, PROMPT);
        peer_publish_when_in_force(theirs, ours, round + 1);
        peer_subscribe(ours, 0, PROMPT);
        for (size_t i = 0; i < PROMPT; i++) {
            PEER_WAIT(ours, ours->subjects[i].messages > 0);
            assert_int_equal(ours->subjects[i].last, round + 1);
        }
        peer_publish_when_in_force(theirs, ours, 0);
        for (size_t i = 0; i < PROMPT; i++) {
            assert_int_equal(ours->subjects[i].messages, 1);
            assert_int_equal(ours->subjects[i].in_force, 1);
            assert_int_equal(ours->subjects[i].damaged, 0);
        }
        peer_unsubscribe(ours, 0, PROMPT);
    }
    assert_int_equal(ours->downs, 0);
}

static void messages_of_a_subject_arrive_once_and_in_order(void **state) {
    (void)state;
    subscribe_all(3);
    for (unsigned number = 1; number <= NUMBERED; number += 100)
        for (size_t subject = 0; subject < 3; subject++)
            publish_all(subject, number, 100, 50 + subject);
    for (size_t subject = 0; subject < 3; subject++)
        assert_complete(subject, NUMBERED);
    peer_unsubscribe(ours, 0, 3);
    assert_int_equal(ours->downs + theirs->downs, 0);
}

static void messages_of_any_size_arrive_as_they_are(void **state) {
    static const size_t lengths[] = {8, 9, 100, 1023, 1024, 4095, 4096, 16383, 16384, 16385, 65536, 70001, 1000000};
    struct bus_state found = {0};
    unsigned number = 0;

    (void)state;
    peer_state(theirs, &found);
    subscribe_all(1);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        assert_true(found.max_message_bytes == 0 || lengths[i] <= found.max_message_bytes);
        publish_all(0, ++number, 1, lengths[i]);
        publish_all(0, ++number, 1, 8);
    }
    assert_complete(0, number);
    peer_unsubscribe(ours, 0, 1);
}

static void many_subscriptions_hold_at_a_time(void **state) {
    (void)state;
    subscribe_all(MANY);
    for (size_t subject = 0; subject < MANY; subject++)
        publish_all(subject, 1, 1, PEER_MESSAGE_MIN);
    for (size_t subject = 0; subject < MANY; subject++)
        assert_complete(subject, 1);
    assert_true(peer_has_in_force(ours, 0, MANY, 1));
    peer_unsubscribe(ours, 0, MANY);
    assert_int_equal(ours->downs + theirs->downs, 0);
}

static void nothing_comes_of_a_subject_that_is_given_up(void **state) {
    (void)state;
    subscribe_all(3);
    publish_all(0, 1, 1, PEER_MESSAGE_MIN);
    publish_all(1, 1, 1, PEER_MESSAGE_MIN);
    assert_complete(0, 1);
    assert_complete(1, 1);
    peer_unsubscribe(ours, 0, 1);
    /* What is subscribed to afterwards is in force after the end of the other one. */
    peer_unsubscribe(ours, 2, 1);
    peer_subscribe(ours, 2, 1);
    PEER_WAIT(ours, ours->subjects[2].in_force >= 2);
    publish_all(0, 2, 1, PEER_MESSAGE_MIN);
    publish_all(1, 2, 1, PEER_MESSAGE_MIN);
    publish_all(2, 1, 1, PEER_MESSAGE_MIN);
    assert_complete(1, 2);
    assert_complete(2, 1);
    assert_int_equal(ours->subjects[0].messages, 1);
    peer_unsubscribe(ours, 1, 2);
}

static void a_subject_that_is_taken_up_again_is_in_force_again(void **state) {
    (void)state;
    peers_renew(peers, 2, 1);
    for (unsigned i = 0; i < 50; i++) {
        peer_subscribe(ours, 0, 1);
        peer_unsubscribe(ours, 0, 1);
    }
    subscribe_all(1);
    for (unsigned number = 1; number <= 50; number++) {
        unsigned before = ours->subjects[0].in_force;

        publish_all(0, number, 1, PEER_MESSAGE_MIN);
        PEER_WAIT(ours, ours->subjects[0].last == number);
        peer_unsubscribe(ours, 0, 1);
        peer_subscribe(ours, 0, 1);
        PEER_WAIT(ours, ours->subjects[0].in_force > before);
    }
    assert_complete(0, 50);
    peer_unsubscribe(ours, 0, 1);
}

static void two_publishers_do_not_disturb_each_other(void **state) {
    (void)state;
    subscribe_all(2);
    peer_subscribe(theirs, 0, 2);
    PEER_WAIT(theirs, peer_has_in_force(theirs, 0, 2, 1));
    for (unsigned number = 1; number <= 2000; number += 10) {
        assert_int_equal(peer_publish(ours, 0, number, 10, 200), 10);
        publish_all(1, number, 10, 200);
    }
    assert_complete(1, 2000);
    PEER_WAIT(theirs, theirs->subjects[0].last >= 2000);
    assert_int_equal(theirs->subjects[0].messages, 2000);
    assert_int_equal(theirs->subjects[0].unordered + theirs->subjects[0].damaged, 0);
    peer_unsubscribe(ours, 0, 2);
    peer_unsubscribe(theirs, 0, 2);
}

static void it_comes_back_after_a_restart_with_what_is_wanted_then(void **state) {
    unsigned downs = ours->downs + 1, in_force[102];

    (void)state;
    subscribe_all(102);
    publish_all(0, 1, 100, 100);
    ask("stop");
    for (size_t i = 0; i < 2; i++)
        PEER_WAIT(&peers[i], peers[i].downs >= downs && peers[i].ups == peers[i].downs);
    assert_true(ours->why[0] != '\0');
    for (size_t subject = 0; subject < 102; subject++)
        in_force[subject] = ours->subjects[subject].in_force;
    assert_int_equal(peer_publish(theirs, 0, 1000, 1, PEER_MESSAGE_MIN), 0);
    peer_unsubscribe(ours, 100, 1);
    peer_unsubscribe(ours, 101, 1);
    peer_subscribe(ours, 101, 1);
    ask("start");
    wait_for_return(downs);
    for (size_t subject = 0; subject < 102; subject++)
        PEER_WAIT(ours, subject == 100 || ours->subjects[subject].in_force > in_force[subject]);
    for (size_t subject = 0; subject < 102; subject++)
        publish_all(subject, 2000, 1, PEER_MESSAGE_MIN);
    for (size_t subject = 0; subject < 102; subject++) {
        if (subject != 100)
            PEER_WAIT(ours, ours->subjects[subject].last == 2000);
        assert_ordered(subject);
    }
    assert_int_equal(ours->subjects[100].in_force, in_force[100]);
    assert_int_equal(ours->subjects[100].messages, 0);
    peer_unsubscribe(ours, 0, 100);
    peer_unsubscribe(ours, 101, 1);
}

static void listen_to_both(uint64_t deadline_ms) {
    for (size_t i = 0; i < 2; i++)
        peer_listen(&peers[i], clock_monotonic_ms() + 10);
    assert_true(clock_monotonic_ms() < deadline_ms);
}

static void another_server_takes_over(void **state) {
    uint64_t deadline_ms = clock_monotonic_ms() + PEER_TIMEOUT_MS;
    unsigned downs = ours->downs + theirs->downs;
    unsigned number = 101;

    (void)state;
    subscribe_all(200);
    publish_all(0, 1, 100, 100);
    if (!ask("lose"))
        number = 0;
    while (number > 0 && ours->downs + theirs->downs == downs)
        listen_to_both(deadline_ms);
    for (size_t i = 0; i < 2; i++)
        PEER_WAIT(&peers[i], peers[i].ups == peers[i].downs + 1);
    if (number > 0)
        publish_until_received(0, &number);
    assert_ordered(0);
    ask("start");
    for (size_t i = 0; i < 2; i++)
        PEER_WAIT(&peers[i], peers[i].ups == peers[i].downs + 1);
    peer_unsubscribe(ours, 0, 200);
}

static void nothing_is_doubled_by_connections_that_end(void **state) {
    unsigned number = 1;

    (void)state;
    subscribe_all(1);
    for (unsigned round = 0; round < 3; round++) {
        unsigned downs = ours->downs, in_force = ours->subjects[0].in_force;

        number += (unsigned)peer_publish(theirs, 0, number, 500, 2000);
        if (!ask("cut"))
            break;
        number += 500;
        peer_publish(theirs, 0, number, 500, 2000);
        number += 500;
        PEER_WAIT(ours, ours->downs > downs && ours->ups == ours->downs + 1);
        PEER_WAIT(theirs, theirs->ups == theirs->downs + 1);
        PEER_WAIT(ours, ours->subjects[0].in_force > in_force);
        publish_until_received(0, &number);
        assert_ordered(0);
    }
    peer_unsubscribe(ours, 0, 1);
}

static void what_cannot_be_handed_over_waits_in_order(void **state) {
    struct bus_state found = {0};
    unsigned number = 1, downs = ours->downs + theirs->downs;

    (void)state;
    subscribe_all(1);
    publish_until_received(0, &number);
    ask("freeze");
    /* The kernel takes some of it. */
    while (number < 100 || (found.waiting_bytes == 0 && number < 2000)) {
        publish_all(0, number, 1, 60000);
        number++;
        peer_state(theirs, &found);
    }
    assert_true(found.waiting_bytes > 0);
    assert_true(found.waiting_bytes <= number * 61000);
    ask("thaw");
    /* A machine that was too slow takes it for an outage. */
    PEER_WAIT(ours, ours->subjects[0].last == number - 1 || ours->downs + theirs->downs > downs);
    assert_ordered(0);
    if (ours->downs + theirs->downs == downs) {
        assert_complete(0, number - 1);
        peer_state(theirs, &found);
        assert_int_equal(found.waiting_bytes, 0);
    }
    for (size_t i = 0; i < 2; i++)
        PEER_WAIT(&peers[i], peers[i].ups == peers[i].downs + 1);
    peer_unsubscribe(ours, 0, 1);
}

/* A probe every 5 s, and 5 s for its answer. */
static void a_system_that_says_nothing_counts_as_down(void **state) {
    unsigned downs = ours->downs + 1, number = 1;
    uint64_t began_ms;

    (void)state;
    subscribe_all(1);
    began_ms = clock_monotonic_ms();
    ask("freeze");
    PEER_WAIT(ours, ours->downs >= downs);
    assert_true(clock_monotonic_ms() - began_ms < 20000);
    ask("thaw");
    PEER_WAIT(ours, ours->ups == ours->downs + 1 && ours->subjects[0].in_force >= 2);
    publish_until_received(0, &number);
    peer_unsubscribe(ours, 0, 1);
}

/* Publishes on and on until what was asked for has happened. False if the system has no such thing. */
static bool ask_while_publishing(const char *what, unsigned *number) {
    struct pollfd answer = {.fd = STDIN_FILENO, .events = POLLIN};
    char line[16] = "";

    printf("@ %s\n", what);
    fflush(stdout);
    while (poll(&answer, 1, 1) == 0) {
        publish_all(0, *number, 5, 100);
        *number += 5;
    }
    if (fgets(line, sizeof line, stdin) == NULL)
        fail_msg("nobody answered to: %s", what);
    return strcmp(line, "ok\n") == 0;
}

/* What is published until the subscription is in force again may be lost. What is published then is not, though the
 * publisher does not know of the move. */
static void a_subject_that_moves_is_interrupted_for_a_moment(void **state) {
    unsigned number = 1, downs = ours->downs + theirs->downs;
    char name[64], request[80];

    (void)state;
    subscribe_all(2);
    peer_subject_name(0, name);
    snprintf(request, sizeof request, "move %s", name);
    for (unsigned round = 1; round <= 6; round++) {
        unsigned messages;

        if (!(round % 2 == 1 ? ask(request) : ask_while_publishing(request, &number)))
            break;
        PEER_WAIT(ours, ours->subjects[0].interrupted >= round && ours->subjects[0].in_force > round);
        if (round % 2 == 0) {
            publish_all(0, number++, 1, PEER_MESSAGE_MIN);
            PEER_WAIT(ours, ours->subjects[0].last == number - 1);
        }
        messages = ours->subjects[0].messages;
        publish_all(0, number, 100, 100);
        number += 100;
        PEER_WAIT(ours, ours->subjects[0].last == number - 1);
        assert_int_equal(ours->subjects[0].messages, messages + 100);
        assert_ordered(0);
    }
    publish_all(1, 1, 1, PEER_MESSAGE_MIN);
    assert_complete(1, 1);
    assert_int_equal(ours->downs + theirs->downs, downs);
    peer_unsubscribe(ours, 0, 2);
}

static void what_was_published_before_the_end_is_written(void **state) {
    unsigned number = 1, gaps;

    (void)state;
    subscribe_all(1);
    publish_until_received(0, &number);
    PEER_WAIT(ours, ours->subjects[0].last == number - 1);
    gaps = ours->subjects[0].gaps;
    publish_all(0, number, 2000, 1000);
    peer_begin_close(theirs, 5000);
    PEER_WAIT(theirs, theirs->closed);
    PEER_WAIT(ours, ours->subjects[0].last == number + 1999);
    assert_int_equal(ours->subjects[0].gaps, gaps);
    assert_ordered(0);
    peer_begin_close(ours, 5000);
    PEER_WAIT(ours, ours->closed);
}

/* --- a system that cannot be used --- */

static int expect_refusal(char **words, int count) {
    peer_open(ours, &config);
    PEER_WAIT(ours, ours->downs > 0);
    printf("why: %s\n", ours->why);
    for (int i = 0; i < count; i++)
        if (strstr(ours->why, words[i]) == NULL)
            fail_msg("\"%s\" is not in: %s", words[i], ours->why);
    assert_int_equal(ours->ups, 0);
    assert_int_equal(ours->downs, 1);
    peers_renew(ours, 1, 1);
    peer_subscribe(ours, 0, 1);
    assert_int_equal(peer_publish(ours, 0, 1, 1, PEER_MESSAGE_MIN), 0);
    peer_close(ours);
    return 0;
}

/* Nothing tells of a server that has come. */
static void the_servers_are_asked_for_again_every_minute(void **state) {
    (void)state;
    if (!ask("note-topology"))
        return;
    passing_time_add(60000);
    ask("await-topology");
    subscribe_all(1);
    publish_all(0, 1, 1, PEER_MESSAGE_MIN);
    assert_complete(0, 1);
    peer_unsubscribe(ours, 0, 1);
    assert_int_equal(ours->downs + theirs->downs, 0); /* there was no other reason to ask */
}

static char **refusal_words;
static int refusal_word_count;

static void it_is_down_and_says_why(void **state) {
    (void)state;
    expect_refusal(refusal_words, refusal_word_count);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_comes_up_and_says_so_once),
        cmocka_unit_test(what_is_published_once_a_subscription_is_in_force_arrives),
        cmocka_unit_test(messages_of_a_subject_arrive_once_and_in_order),
        cmocka_unit_test(messages_of_any_size_arrive_as_they_are),
        cmocka_unit_test(many_subscriptions_hold_at_a_time),
        cmocka_unit_test(nothing_comes_of_a_subject_that_is_given_up),
        cmocka_unit_test(a_subject_that_is_taken_up_again_is_in_force_again),
        cmocka_unit_test(two_publishers_do_not_disturb_each_other),
        cmocka_unit_test(a_subject_that_moves_is_interrupted_for_a_moment),
        cmocka_unit_test(it_comes_back_after_a_restart_with_what_is_wanted_then),
        cmocka_unit_test(another_server_takes_over),
        cmocka_unit_test(nothing_is_doubled_by_connections_that_end),
        cmocka_unit_test(what_cannot_be_handed_over_waits_in_order),
        cmocka_unit_test(a_system_that_says_nothing_counts_as_down),
        cmocka_unit_test(what_was_published_before_the_end_is_written),
    };
    /* Time passes in it: what waits until a time waits for longer afterwards. */
    const struct CMUnitTest minute[] = {cmocka_unit_test(the_servers_are_asked_for_again_every_minute)};
    const struct CMUnitTest refusal[] = {cmocka_unit_test(it_is_down_and_says_why)};
    struct error error;
    int failed;

    if (argc < 2 || (argc > 2 && strcmp(argv[2], "refused") != 0)) {
        fprintf(stderr, "usage: bus_suite CONFIG [refused WORD...]\n");
        return 2;
    }
    if (!config_load(&config, argv[1], NULL, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 2;
    }
    refusal_words = argc > 2 ? argv + 3 : NULL;
    refusal_word_count = argc - 3;
    if (argc > 2)
        failed = cmocka_run_group_tests(refusal, NULL, NULL);
    else
        failed = cmocka_run_group_tests(tests, open_peers, close_peers) +
                 cmocka_run_group_tests(minute, open_peers, close_peers);
    config_dispose(&config);
    return failed != 0;
}
