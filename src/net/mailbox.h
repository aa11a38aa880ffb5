/*
 * A mailbox: a lock-free queue with many senders and one owner, the only way for other threads to reach a worker.
 *
 * Any thread posts; the owner takes all messages at once, in the order of posting. A post is one compare-and-swap on
 * the head of a stack, which the owner reverses when it takes the messages. Senders write the eventfd only when the
 * owner sleeps in epoll_wait, so posting to a busy worker needs no system call.
 *
 * Posting and waking are separate functions because messages are often posted under a mutex, and a mutex is never held
 * across a system call: call mailbox_post under the lock and mailbox_wake after it.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

struct worker;

struct message {
    struct message *next;
    /*
     * Handles the message, on the worker's thread, and frees it. `*rest` is the list of the messages that follow: a
     * handler may remove messages from its front and handle them in the same step.
     */
    void (*handle)(struct worker *worker, struct message *message, struct message **rest);
};

struct mailbox {
    _Atomic(struct message *) head;
    atomic_bool asleep;
    int event_fd; /* written to wake the sleeping owner */
};

/* Initialises the mailbox; false with errno set if the system has no eventfd left. */
bool mailbox_init(struct mailbox *mailbox);

/* Closes the eventfd. Messages in the mailbox are not freed. */
void mailbox_dispose(struct mailbox *mailbox);

/* Adds a message, which the owner then owns. Lock-free, no system call; the caller wakes the owner afterwards. Any
 * thread. */
void mailbox_post(struct mailbox *mailbox, struct message *message);

/* Writes the eventfd if the owner sleeps. Call after mailbox_post; any thread. */
void mailbox_wake(struct mailbox *mailbox);

/* Takes all messages and returns them as a list, the oldest first; NULL: none. Owner only. */
struct message *mailbox_take(struct mailbox *mailbox);

/* The same, the newest first, in constant time: for an owner that turns very long lists round in pieces. Owner only. */
struct message *mailbox_take_newest_first(struct mailbox *mailbox);

/* Marks the owner as asleep. False if messages have arrived: the owner must not sleep then. Owner only. */
bool mailbox_sleep(struct mailbox *mailbox);

/* Marks the owner as awake, so that senders do not write the eventfd. Owner only. */
void mailbox_awake(struct mailbox *mailbox);

/* Reads the eventfd, so that it is no longer readable. Owner only. */
void mailbox_clear(struct mailbox *mailbox);
