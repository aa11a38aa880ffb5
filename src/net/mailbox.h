/*
 * A mailbox: the only way in to a worker from another thread.
 *
 * Any thread posts; the one owner takes everything at once, in the order in which it was posted. Posting is one
 * compare-and-swap on the head of a stack which the owner reverses when it takes it. The eventfd is written only when
 * the owner sleeps in epoll_wait, so a busy worker costs its senders no system call.
 *
 * Posting and waking are apart because a message is often posted under a mutex, and a mutex is never held across a
 * system call: mailbox_post under the lock, mailbox_wake after it.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

struct worker;

struct message {
    struct message *next;
    /*
     * Runs on the worker. It owns the message. `rest` is what follows in the mailbox: a handler may take messages that
     * it can do in the same step off its front.
     */
    void (*handle)(struct worker *worker, struct message *message, struct message **rest);
};

struct mailbox {
    _Atomic(struct message *) head;
    atomic_bool asleep;
    int event_fd; /* readable when the sleeping owner has been woken */
};

/* False with errno set when there is no eventfd to be had. */
bool mailbox_init(struct mailbox *mailbox);
void mailbox_dispose(struct mailbox *mailbox);

/* Any thread; lock-free, no system call. The caller wakes the owner afterwards. */
void mailbox_post(struct mailbox *mailbox, struct message *message);

/* Any thread, after mailbox_post: writes the eventfd if the owner sleeps. */
void mailbox_wake(struct mailbox *mailbox);

/* The owner only: takes all messages, oldest first. */
struct message *mailbox_take(struct mailbox *mailbox);

/* The owner only, before it sleeps: false if messages have come in the meantime and it must not. */
bool mailbox_sleep(struct mailbox *mailbox);

/* The owner only, as soon as it is awake: from here on nobody needs to write the eventfd. */
void mailbox_awake(struct mailbox *mailbox);

/* The owner only, when the eventfd is readable. */
void mailbox_clear(struct mailbox *mailbox);
