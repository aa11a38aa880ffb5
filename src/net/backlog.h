/*
 * The streams of a worker that have more input than they may take in one turn, in the order of their next visits: a
 * ring of pointers. A stream can leave it at any time, so that none that is freed stays in it.
 *
 * A backlog belongs to one worker; all functions are for its thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Embedded in the structure that is visited; zeroed before its first use. */
struct backlog_entry {
    uint32_t place; /* 1 + its place in the ring; 0: not in the backlog */
};

struct backlog {
    struct backlog_entry **ring; /* NULL in a place: the entry has left */
    uint32_t first, length, capacity;
};

/* Appends the entry, unless it is in the backlog already. */
void backlog_append(struct backlog *backlog, struct backlog_entry *entry);

/* Removes the entry, if it is in the backlog. */
void backlog_remove(struct backlog *backlog, struct backlog_entry *entry);

/* Removes the first place of a backlog that is not empty, and returns its entry; NULL if the entry has left. */
struct backlog_entry *backlog_take(struct backlog *backlog);

void backlog_dispose(struct backlog *backlog);

static inline bool backlog_holds(const struct backlog_entry *entry) {
    return entry->place != 0;
}
