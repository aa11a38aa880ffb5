/*
 * A circular doubly linked list whose links are members of the listed structures (an intrusive list).
 *
 * The head is a link, too. A link that is in no list points to itself, or to NULL in zeroed memory; list_remove accepts
 * both, so removing twice is harmless. Not thread-safe: the owner provides the locking, if any is needed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next;
    struct list *previous;
};

/* Returns the structure of type `type` whose member `member` is at `pointer`. */
#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

/* Makes `list` an empty list, or a link that is in no list. */
static inline void list_init(struct list *list) {
    list->next = list->previous = list;
}

/* True if the list is empty; for a link, true if it is in no list. */
static inline bool list_empty(const struct list *head) {
    return head->next == head || head->next == NULL;
}

/* Appends `link`, which must be in no list, to the end of the list. */
static inline void list_append(struct list *head, struct list *link) {
    link->previous = head->previous;
    link->next = head;
    head->previous->next = link;
    head->previous = link;
}

/* Removes `link` from its list; does nothing if it is in none. */
static inline void list_remove(struct list *link) {
    if (link->next == NULL)
        return;
    link->next->previous = link->previous;
    link->previous->next = link->next;
    link->next = link->previous = link;
}

/* Moves all links of `from` to the end of `to` and leaves `from` empty. */
static inline void list_move_all(struct list *from, struct list *to) {
    if (list_empty(from))
        return;
    from->next->previous = to->previous;
    to->previous->next = from->next;
    from->previous->next = to;
    to->previous = from->previous;
    list_init(from);
}
