/* The mailbox: no message is lost, each sender's order is kept, and a sleeping owner is always woken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/list.h"
#include "net/mailbox.h"

#define PRODUCERS 6
#define MESSAGES 20000

struct letter {
    struct message message;
    unsigned producer, number;
};

struct producer {
    pthread_t thread;
    struct mailbox *mailbox;
    struct letter *letters;
    unsigned index;
    bool wakes_each; /* false: wakes only after eight posts */
};

static bool readable(const struct mailbox *mailbox) {
    struct pollfd poll_fd = {.fd = mailbox->event_fd, .events = POLLIN};

    return poll(&poll_fd, 1, 0) == 1;
}

static void what_was_posted_comes_out_oldest_first(void **state) {
    struct letter letters[5] = {0};
    struct message *message;
    struct mailbox mailbox;

    (void)state;
    assert_true(mailbox_init(&mailbox));
    assert_null(mailbox_take(&mailbox));
    for (unsigned i = 0; i < 5; i++)
        mailbox_post(&mailbox, &letters[i].message);
    message = mailbox_take(&mailbox);
    for (unsigned i = 0; i < 5; i++, message = message->next)
        assert_ptr_equal(message, &letters[i].message);
    assert_null(message);
    assert_null(mailbox_take(&mailbox));
    mailbox_dispose(&mailbox);
}

static void the_owner_is_woken_once_and_only_when_it_sleeps(void **state) {
    struct letter letters[3] = {0};
    struct mailbox mailbox;

    (void)state;
    assert_true(mailbox_init(&mailbox));
    mailbox_post(&mailbox, &letters[0].message);
    mailbox_wake(&mailbox);
    assert_false(readable(&mailbox));      /* the owner is awake and takes messages without a wake-up */
    assert_false(mailbox_sleep(&mailbox)); /* a message is waiting: the owner must not sleep */
    assert_non_null(mailbox_take(&mailbox));
    assert_true(mailbox_sleep(&mailbox));
    assert_false(readable(&mailbox));
    mailbox_post(&mailbox, &letters[1].message);
    assert_false(readable(&mailbox)); /* posting makes no system call */
    mailbox_wake(&mailbox);
    assert_true(readable(&mailbox));
    mailbox_clear(&mailbox);
    mailbox_post(&mailbox, &letters[2].message);
    mailbox_wake(&mailbox);
    assert_false(readable(&mailbox)); /* the second wake writes nothing */
    mailbox_awake(&mailbox);
    assert_ptr_equal(mailbox_take(&mailbox), &letters[1].message);
    mailbox_dispose(&mailbox);
}

static void *produce(void *argument) {
    struct producer *producer = argument;

    for (unsigned i = 0; i < MESSAGES; i++) {
        mailbox_post(producer->mailbox, &producer->letters[i].message);
        if (producer->wakes_each || i % 8 == 7)
            mailbox_wake(producer->mailbox);
    }
    return NULL;
}

static unsigned read_letters(struct mailbox *mailbox, unsigned next[PRODUCERS]) {
    unsigned count = 0;

    for (struct message *message = mailbox_take(mailbox); message != NULL; message = message->next) {
        struct letter *letter = container_of(message, struct letter, message);
        assert_int_equal(letter->number, next[letter->producer]);
        next[letter->producer]++;
        count++;
    }
    return count;
}

/* The owner sleeps without a time limit whenever it may: after one lost wake-up this test hangs until its timeout. */
static void many_senders_lose_no_message_and_no_wake_up(void **state) {
    struct producer producers[PRODUCERS];
    unsigned next[PRODUCERS] = {0}, received = 0;
    struct mailbox mailbox;

    (void)state;
    assert_true(mailbox_init(&mailbox));
    for (unsigned i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){.mailbox = &mailbox, .index = i, .wakes_each = i % 2 == 0};
        producers[i].letters = calloc(MESSAGES, sizeof *producers[i].letters);
        assert_non_null(producers[i].letters);
        for (unsigned number = 0; number < MESSAGES; number++)
            producers[i].letters[number] = (struct letter){.producer = i, .number = number};
        assert_int_equal(pthread_create(&producers[i].thread, NULL, produce, &producers[i]), 0);
    }
    while (received < PRODUCERS * MESSAGES) {
        if (mailbox_sleep(&mailbox)) {
            struct pollfd poll_fd = {.fd = mailbox.event_fd, .events = POLLIN};
            assert_int_equal(poll(&poll_fd, 1, -1), 1);
            mailbox_clear(&mailbox);
        }
        mailbox_awake(&mailbox);
        received += read_letters(&mailbox, next);
    }
    assert_int_equal(received, PRODUCERS * MESSAGES);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        pthread_join(producers[i].thread, NULL);
        free(producers[i].letters);
    }
    assert_null(mailbox_take(&mailbox));
    mailbox_dispose(&mailbox);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_posted_comes_out_oldest_first),
        cmocka_unit_test(the_owner_is_woken_once_and_only_when_it_sleeps),
        cmocka_unit_test(many_senders_lose_no_message_and_no_wake_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
