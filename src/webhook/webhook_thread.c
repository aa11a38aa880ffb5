#include "webhook/webhook_thread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/thread.h"

struct webhook_thread {
    struct mailbox mailbox;
    struct delivery *delivery;
    struct webhook_work work;
    pthread_t thread;
    bool started;

    struct webhook_message stop;
    bool stopping;
    uint64_t stop_until_ms;
};

struct webhook_thread *webhook_thread_create(struct delivery *delivery, struct error *error) {
    struct webhook_thread *thread = alloc_zero(sizeof *thread);

    thread->delivery = delivery;
    if (mailbox_init(&thread->mailbox))
        return thread;
    error_set(error, "the webhook thread got no eventfd: %s", strerror(errno));
    free(thread);
    return NULL;
}

/* Handles all messages that are there. */
static void handle_webhook_messages(struct webhook_thread *thread) {
    struct message *message = mailbox_take(&thread->mailbox);

    while (message != NULL) {
        struct webhook_message *first = container_of(message, struct webhook_message, message);

        message = message->next;
        first->handle(thread, first);
    }
}

void webhook_thread_destroy(struct webhook_thread *thread) {
    if (thread == NULL)
        return;
    handle_webhook_messages(thread);
    mailbox_dispose(&thread->mailbox);
    delivery_destroy(thread->delivery);
    free(thread);
}

void webhook_thread_set_work(struct webhook_thread *thread, const struct webhook_work *work) {
    thread->work = *work;
}

/* True until nothing is left to deliver, or the time to stop has come. */
static bool webhook_work_left(const struct webhook_thread *thread, uint64_t now_ms) {
    return !thread->stopping || (!delivery_idle(thread->delivery) && now_ms < thread->stop_until_ms);
}

static void *run_webhook_thread(void *context) {
    struct webhook_thread *thread = context;

    for (;;) {
        uint64_t now_ms, next_ms = UINT64_MAX, work_ms;

        handle_webhook_messages(thread);
        now_ms = clock_monotonic_ms();
        work_ms = thread->work.run != NULL ? thread->work.run(thread->work.context, now_ms) : UINT64_MAX;
        next_ms = delivery_run(thread->delivery, now_ms);
        if (!webhook_work_left(thread, now_ms))
            return NULL;
        budget_settle();
        next_ms = work_ms < next_ms ? work_ms : next_ms;
        if (thread->stopping && thread->stop_until_ms < next_ms)
            next_ms = thread->stop_until_ms;
        if (mailbox_sleep(&thread->mailbox) &&
            delivery_wait(thread->delivery, thread->mailbox.event_fd, now_ms, next_ms))
            mailbox_clear(&thread->mailbox);
        mailbox_awake(&thread->mailbox);
    }
}

bool webhook_thread_start(struct webhook_thread *thread, struct error *error) {
    thread->started = thread_start(&thread->thread, "webhooks", run_webhook_thread, thread, error);
    return thread->started;
}

/* The last message: all others were posted before. */
static void stop_webhook_thread(struct webhook_thread *thread, struct webhook_message *message) {
    (void)message;
    thread->stopping = true;
    if (thread->work.finish != NULL)
        thread->work.finish(thread->work.context);
    delivery_drain(thread->delivery);
}

void webhook_thread_stop(struct webhook_thread *thread, uint64_t until_ms) {
    if (thread == NULL || !thread->started)
        return;
    thread->stop_until_ms = until_ms;
    thread->stop.handle = stop_webhook_thread;
    webhook_thread_post(thread, &thread->stop);
    webhook_thread_wake(thread);
    pthread_join(thread->thread, NULL);
    thread->started = false;
}

void webhook_thread_post(struct webhook_thread *thread, struct webhook_message *message) {
    mailbox_post(&thread->mailbox, &message->message);
}

void webhook_thread_wake(struct webhook_thread *thread) {
    mailbox_wake(&thread->mailbox);
}

struct delivery *webhook_thread_delivery(struct webhook_thread *thread) {
    return thread->delivery;
}

void *webhook_thread_context(struct webhook_thread *thread) {
    return thread->work.context;
}
