#include "net/mailbox.h"

#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

bool mailbox_init(struct mailbox *mailbox) {
    atomic_init(&mailbox->head, NULL);
    atomic_init(&mailbox->asleep, false);
    mailbox->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return mailbox->event_fd >= 0;
}

void mailbox_dispose(struct mailbox *mailbox) {
    close(mailbox->event_fd);
}

void mailbox_post(struct mailbox *mailbox, struct message *message) {
    struct message *head = atomic_load_explicit(&mailbox->head, memory_order_relaxed);

    do {
        message->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&mailbox->head, &head, message, memory_order_seq_cst,
                                                    memory_order_relaxed));
}

void mailbox_wake(struct mailbox *mailbox) {
    uint64_t one = 1;

    if (atomic_load(&mailbox->asleep) && atomic_exchange(&mailbox->asleep, false))
        (void)!write(mailbox->event_fd, &one, sizeof one);
}

struct message *mailbox_take_newest_first(struct mailbox *mailbox) {
    if (atomic_load_explicit(&mailbox->head, memory_order_relaxed) == NULL)
        return NULL;
    return atomic_exchange_explicit(&mailbox->head, NULL, memory_order_acquire);
}

struct message *mailbox_take(struct mailbox *mailbox) {
    struct message *stack = mailbox_take_newest_first(mailbox), *oldest_first = NULL;

    while (stack != NULL) {
        struct message *next = stack->next;
        stack->next = oldest_first;
        oldest_first = stack;
        stack = next;
    }
    return oldest_first;
}

bool mailbox_sleep(struct mailbox *mailbox) {
    /* Both sides use sequential consistency: either the sender sees `asleep`, or this load sees its message. */
    atomic_store(&mailbox->asleep, true);
    if (atomic_load(&mailbox->head) == NULL)
        return true;
    atomic_store(&mailbox->asleep, false);
    return false;
}

void mailbox_awake(struct mailbox *mailbox) {
    atomic_store_explicit(&mailbox->asleep, false, memory_order_relaxed);
}

void mailbox_clear(struct mailbox *mailbox) {
    uint64_t count;

    (void)!read(mailbox->event_fd, &count, sizeof count);
}
