/*
 * Addresses of refused clients, for the log: a line for each address and minute, up to a number of addresses. So an
 * attack can be told from a busy day, and no client fills the log.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADDRESS_LOG_MOST 100

struct address_log {
    pthread_mutex_t mutex;
    unsigned most; /* addresses in a minute; at most ADDRESS_LOG_MOST */
    uint64_t minute;
    unsigned count;
    bool full; /* there were more */
    uint64_t addresses[ADDRESS_LOG_MOST];
};

enum address_news {
    ADDRESS_KNOWN, /* nothing to log */
    ADDRESS_NEW,   /* its first refusal in this minute */
    ADDRESS_MORE,  /* the first address in this minute that is one too many */
};

void address_log_init(struct address_log *log, unsigned most);
void address_log_dispose(struct address_log *log);

/* Notes that a client was refused. Any thread. */
enum address_news address_log_note(struct address_log *log, const char *address, uint64_t now_ms);

/* The same, and logs a warning: the address, and the text, which says what was refused and why. `log` may be NULL. */
void address_log_refused(struct address_log *log, const char *address, uint64_t now_ms, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
