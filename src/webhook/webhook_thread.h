/*
 * The webhook thread: it receives what happened from the workers, and owns the grace table and the delivery.
 *
 *   worker --- webhook_message ---> mailbox ---> handle() on this thread ---> delivery_add
 *
 * Nothing that belongs to the thread needs a mutex. It sleeps while there is nothing to do.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "app/webhook_event.h"
#include "base/error.h"
#include "net/mailbox.h"
#include "webhook/delivery.h"

struct webhook_thread;

/* What the thread does beside receiving messages and delivering. Its functions run on the thread. */
struct webhook_work {
    /* Does what is due; returns when to call it again, on the monotonic clock (UINT64_MAX: after a message). */
    uint64_t (*run)(void *context, uint64_t now_ms);
    /* The process ends: hands everything that still waits for a time to the delivery. */
    void (*finish)(void *context);
    void *context;
};

/* Makes the thread, which does not run yet. `work` is copied; the delivery then belongs to the thread. NULL with an
 * error if the system refuses. */
struct webhook_thread *webhook_thread_create(struct delivery *delivery, struct error *error);
/* Frees it, the delivery and the messages that nobody has handled, after webhook_thread_stop. NULL is accepted. */
void webhook_thread_destroy(struct webhook_thread *thread);

/* Before the start. */
void webhook_thread_set_work(struct webhook_thread *thread, const struct webhook_work *work);

bool webhook_thread_start(struct webhook_thread *thread, struct error *error);

/*
 * Ends the thread: handles all messages, calls `finish`, and delivers until nothing waits or `until_ms` on the
 * monotonic clock. No other thread may post any more. NULL and a thread that was not started are accepted.
 */
void webhook_thread_stop(struct webhook_thread *thread, uint64_t until_ms);

/* Posts a message, which the thread then owns. Lock-free, no system call: it may be called under a mutex. Any thread.
 */
void webhook_thread_post(struct webhook_thread *thread, struct webhook_message *message);
/* Wakes the thread if it sleeps; after a post, without a mutex. Any thread. */
void webhook_thread_wake(struct webhook_thread *thread);

/* On the thread. */
struct delivery *webhook_thread_delivery(struct webhook_thread *thread);
/* The context of webhook_thread_set_work. On the thread. */
void *webhook_thread_context(struct webhook_thread *thread);
