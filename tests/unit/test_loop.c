/* The cluster's thread: timers fire in order, no turn does more than it has time for, a removed descriptor is not
 * called any more, and every message is handled once, in its sender's order, also those that were posted before the
 * end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "cluster/loop.h"

#define SENDERS 4
#define MESSAGES 5000

static struct loop *create_loop(void) {
    struct error error;
    struct loop *loop = loop_create(&error);

    assert_non_null(loop);
    return loop;
}

static void start_loop(struct loop *loop) {
    struct error error;

    assert_true(loop_start(loop, &error));
}

/* --- timers --- */

struct alarm_clock {
    struct loop *loop;
    struct loop_timer timer;
    unsigned number;
    unsigned *rung, *rung_count;
    unsigned again; /* times that it sets itself */
    sem_t *last;
};

static void ring_alarm(struct loop_timer *timer) {
    struct alarm_clock *alarm = container_of(timer, struct alarm_clock, timer);

    assert_false(loop_timer_is_set(timer));
    alarm->rung[(*alarm->rung_count)++] = alarm->number;
    if (alarm->again-- > 0)
        loop_timer_set(alarm->loop, timer, 1);
    else if (alarm->last != NULL)
        sem_post(alarm->last);
}

static void timers_fire_in_the_order_of_their_times(void **state) {
    struct loop *loop = create_loop();
    unsigned rung[8], count = 0;
    struct alarm_clock alarms[4];
    sem_t last;

    (void)state;
    sem_init(&last, 0, 0);
    for (unsigned i = 0; i < 4; i++)
        alarms[i] = (struct alarm_clock){
            .loop = loop, .timer.fire = ring_alarm, .number = i, .rung = rung, .rung_count = &count};
    alarms[0].last = &last;
    alarms[2].again = 2;
    loop_timer_set(loop, &alarms[0].timer, 60);
    loop_timer_set(loop, &alarms[1].timer, 40);
    loop_timer_set(loop, &alarms[2].timer, 0);
    loop_timer_set(loop, &alarms[3].timer, 10);
    assert_true(loop_timer_is_set(&alarms[3].timer));
    loop_timer_end(loop, &alarms[3].timer);
    loop_timer_end(loop, &alarms[3].timer);
    assert_false(loop_timer_is_set(&alarms[3].timer));
    loop_timer_set(loop, &alarms[1].timer, 20); /* anew */
    start_loop(loop);
    sem_wait(&last);
    loop_stop(loop);
    assert_int_equal(count, 5);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(rung[i], 2);
    assert_int_equal(rung[3], 1);
    assert_int_equal(rung[4], 0);
    loop_destroy(loop);
    sem_destroy(&last);
}

/* --- descriptors --- */

/* Two ends of pipes that are readable in the same turn: the first that is called removes the other. */
struct listener {
    struct loop *loop;
    struct loop_target target;
    int ends[2];
    struct listener *other;
    unsigned called;
    sem_t *done;
};

static void hear_listener(struct loop_target *target, uint32_t events) {
    struct listener *listener = container_of(target, struct listener, target);

    assert_true(events & EPOLLIN);
    listener->called++;
    if (listener->other != NULL) {
        loop_unwatch(listener->loop, listener->other->ends[0], &listener->other->target);
        listener->other->other = NULL;
    }
    loop_unwatch(listener->loop, listener->ends[0], &listener->target);
    sem_post(listener->done);
}

static void a_removed_descriptor_gets_no_event_of_the_same_turn(void **state) {
    struct loop *loop = create_loop();
    struct listener listeners[2];
    sem_t done;

    (void)state;
    sem_init(&done, 0, 0);
    for (unsigned i = 0; i < 2; i++) {
        listeners[i] =
            (struct listener){.loop = loop, .target.ready = hear_listener, .other = &listeners[1 - i], .done = &done};
        assert_int_equal(pipe(listeners[i].ends), 0);
        assert_int_equal(write(listeners[i].ends[1], "x", 1), 1);
        assert_true(loop_watch(loop, listeners[i].ends[0], EPOLLIN, &listeners[i].target));
    }
    start_loop(loop);
    sem_wait(&done);
    loop_stop(loop);
    assert_int_equal(listeners[0].called + listeners[1].called, 1);
    for (unsigned i = 0; i < 2; i++) {
        close(listeners[i].ends[0]);
        close(listeners[i].ends[1]);
    }
    loop_destroy(loop);
    sem_destroy(&done);
}

/* A descriptor that is added in a turn, from a message, is heard in a later one; it waits to write first, then to read.
 */
struct talker {
    struct loop_message message;
    struct listener listener;
    unsigned written;
};

static void hear_talker(struct loop_target *target, uint32_t events) {
    struct listener *listener = container_of(target, struct listener, target);
    struct talker *talker = container_of(listener, struct talker, listener);

    if (talker->written == 0) {
        assert_true(events & EPOLLOUT);
        talker->written++;
        loop_rewatch(listener->loop, listener->ends[1], 0, target);
        loop_unwatch(listener->loop, listener->ends[1], target);
        sem_post(listener->done);
    }
}

static void watch_talker(struct loop *loop, struct loop_message *message) {
    struct talker *talker = container_of(message, struct talker, message);

    assert_true(loop_watch(loop, talker->listener.ends[1], EPOLLOUT, &talker->listener.target));
}

static void a_descriptor_may_be_added_in_a_turn(void **state) {
    struct loop *loop = create_loop();
    struct talker talker = {.message.handle = watch_talker, .listener = {.loop = loop, .target.ready = hear_talker}};
    sem_t done;

    (void)state;
    sem_init(&done, 0, 0);
    talker.listener.done = &done;
    assert_int_equal(pipe(talker.listener.ends), 0);
    start_loop(loop);
    loop_post(loop, &talker.message);
    loop_wake(loop);
    sem_wait(&done);
    loop_stop(loop);
    assert_int_equal(talker.written, 1);
    close(talker.listener.ends[0]);
    close(talker.listener.ends[1]);
    loop_destroy(loop);
    sem_destroy(&done);
}

/* --- messages --- */

struct letter {
    struct loop_message message;
    unsigned sender, number;
    unsigned *next; /* of each sender; on the loop's thread */
};

static void read_letter(struct loop *loop, struct loop_message *message) {
    struct letter *letter = container_of(message, struct letter, message);

    (void)loop;
    assert_int_equal(letter->number, letter->next[letter->sender]);
    letter->next[letter->sender]++;
    free(letter);
}

struct sender {
    pthread_t thread;
    struct loop *loop;
    unsigned index;
    unsigned first; /* number of its letters */
    unsigned *next;
};

static void *send_letters(void *context) {
    const struct sender *sender = context;

    for (unsigned i = 0; i < MESSAGES; i++) {
        struct letter *letter = malloc(sizeof *letter);
        *letter = (struct letter){.message.handle = read_letter, .sender = sender->index, .number = sender->first + i};
        letter->next = sender->next;
        loop_post(sender->loop, &letter->message);
        if (i % 8 == 0)
            loop_wake(sender->loop);
    }
    return NULL;
}

static void count_turn(void *context) {
    ++*(unsigned *)context;
}

static void all_messages_before_the_end_are_handled_in_order(void **state) {
    struct loop *loop = create_loop();
    struct sender senders[SENDERS];
    unsigned next[SENDERS] = {0}, turns = 0;

    (void)state;
    loop_set_end_of_turn(loop, count_turn, &turns);
    start_loop(loop);
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.loop = loop, .index = i, .next = next};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_letters, &senders[i]), 0);
    }
    for (unsigned i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    loop_stop(loop); /* the last ones were posted without waking it */
    for (unsigned i = 0; i < SENDERS; i++)
        assert_int_equal(next[i], MESSAGES);
    assert_true(turns > 0);
    assert_true(loop_longest_turn_us(loop) > 0);
    assert_true(loop_longest_turn_cpu_us(loop) > 0);
    loop_destroy(loop);
}

static void messages_after_the_end_are_handled_when_it_is_settled(void **state) {
    struct loop *loop = create_loop();
    unsigned next[1] = {0};
    struct sender sender = {.loop = loop, .next = next};

    (void)state;
    start_loop(loop);
    loop_stop(loop);
    loop_stop(loop);
    send_letters(&sender);
    assert_int_equal(next[0], 0);
    loop_settle(loop);
    assert_int_equal(next[0], MESSAGES);
    next[0] = 0;
    send_letters(&sender);
    loop_destroy(loop);
    assert_int_equal(next[0], MESSAGES);
}

/* So many that they are turned round in several turns. */
static void very_many_messages_are_handled_in_order(void **state) {
    struct loop *loop = create_loop();
    unsigned next[1] = {0}, turns = 0;
    struct sender sender = {.loop = loop, .next = next};

    (void)state;
    loop_set_end_of_turn(loop, count_turn, &turns);
    for (unsigned i = 0; i < 40; i++) {
        send_letters(&sender);
        sender.first += MESSAGES;
    }
    start_loop(loop);
    loop_stop(loop);
    assert_int_equal(next[0], 40 * MESSAGES);
    assert_true(turns > 1);
    loop_destroy(loop);
}

/* --- the time of a turn --- */

#define SLOW_PIECES 5

/* A piece of work that takes the time of a part of a turn: a message, a timer, or an event. */
struct slow_piece {
    struct loop *loop;
    struct loop_message message;
    struct loop_timer timer;
    struct loop_target target;
    int ends[2];
    unsigned number;
    const unsigned *turn;     /* that is under way */
    unsigned *next, *last_in; /* the piece that comes next, and the turn of the last one */
    sem_t *done;
};

static void do_slow_piece(struct slow_piece *piece) {
    uint64_t begin_ns = clock_monotonic_ns();

    assert_int_equal(piece->number, *piece->next);
    assert_true(piece->number == 0 || *piece->turn > *piece->last_in);
    *piece->last_in = *piece->turn;
    while (clock_monotonic_ns() - begin_ns < LOOP_PART_NS)
        ;
    if (++*piece->next == SLOW_PIECES)
        sem_post(piece->done);
}

static void read_slow_piece(struct loop *loop, struct loop_message *message) {
    (void)loop;
    do_slow_piece(container_of(message, struct slow_piece, message));
}

static void ring_slow_piece(struct loop_timer *timer) {
    do_slow_piece(container_of(timer, struct slow_piece, timer));
}

/* Events come in no promised order. */
static void hear_slow_piece(struct loop_target *target, uint32_t events) {
    struct slow_piece *piece = container_of(target, struct slow_piece, target);

    assert_true(events & EPOLLIN);
    loop_unwatch(piece->loop, piece->ends[0], target);
    piece->number = *piece->next;
    do_slow_piece(piece);
}

static void queue_slow_message(struct slow_piece *piece) {
    piece->message.handle = read_slow_piece;
    loop_post(piece->loop, &piece->message);
}

static void queue_slow_timer(struct slow_piece *piece) {
    piece->timer.fire = ring_slow_piece;
    loop_timer_set(piece->loop, &piece->timer, piece->number);
}

static void queue_slow_event(struct slow_piece *piece) {
    piece->target.ready = hear_slow_piece;
    assert_int_equal(write(piece->ends[1], "x", 1), 1);
    assert_true(loop_watch(piece->loop, piece->ends[0], EPOLLIN, &piece->target));
}

/* Queues all pieces before the first turn, and runs turns until they are done. */
static void do_slow_pieces(void (*queue)(struct slow_piece *piece)) {
    struct loop *loop = create_loop();
    struct slow_piece pieces[SLOW_PIECES];
    unsigned turn = 0, next = 0, last_in = 0;
    sem_t done;

    sem_init(&done, 0, 0);
    loop_set_end_of_turn(loop, count_turn, &turn);
    for (unsigned i = 0; i < SLOW_PIECES; i++) {
        pieces[i] = (struct slow_piece){
            .loop = loop, .number = i, .turn = &turn, .next = &next, .last_in = &last_in, .done = &done};
        assert_int_equal(pipe(pieces[i].ends), 0);
        queue(&pieces[i]);
    }
    start_loop(loop);
    sem_wait(&done);
    loop_stop(loop);
    assert_true(loop_longest_turn_us(loop) >= LOOP_PART_NS / 1000);
    for (unsigned i = 0; i < SLOW_PIECES; i++) {
        close(pieces[i].ends[0]);
        close(pieces[i].ends[1]);
    }
    loop_destroy(loop);
    sem_destroy(&done);
}

static void messages_for_which_a_turn_has_no_time_wait_in_order(void **state) {
    (void)state;
    do_slow_pieces(queue_slow_message);
}

static void timers_for_which_a_turn_has_no_time_wait_in_order(void **state) {
    (void)state;
    do_slow_pieces(queue_slow_timer);
}

static void events_for_which_a_turn_has_no_time_wait(void **state) {
    (void)state;
    do_slow_pieces(queue_slow_event);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_the_order_of_their_times),
        cmocka_unit_test(a_removed_descriptor_gets_no_event_of_the_same_turn),
        cmocka_unit_test(a_descriptor_may_be_added_in_a_turn),
        cmocka_unit_test(all_messages_before_the_end_are_handled_in_order),
        cmocka_unit_test(messages_after_the_end_are_handled_when_it_is_settled),
        cmocka_unit_test(very_many_messages_are_handled_in_order),
        cmocka_unit_test(messages_for_which_a_turn_has_no_time_wait_in_order),
        cmocka_unit_test(timers_for_which_a_turn_has_no_time_wait_in_order),
        cmocka_unit_test(events_for_which_a_turn_has_no_time_wait),
    };

    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
