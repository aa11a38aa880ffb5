/*
 * What the generator publishes: an event whose data is 100 bytes of plain ASCII that tell who sent it, when, and as
 * which.
 *
 *   ~curlew~ 0003 00000000002a 0000112233445566 xxxx...
 *   mark     publisher, number  time of sending  filler     (hexadecimal, without the blanks)
 *
 * Mark, publisher and number are at fixed places, so checking an event is a comparison of two words. No byte needs an
 * escape in JSON, so the text is the same in the request and in the frame.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define EVENT_NAME "bench"
#define EVENT_DATA 100
#define EVENT_MARK "~curlew~"
#define EVENT_MARK_LENGTH 8
#define EVENT_HEADER 40 /* mark, identity and time */

/* Publisher and number as they stand in the text. */
struct event_identity {
    uint64_t text[2];
};

static inline bool event_has_mark(const char *data) {
    return memcmp(data, EVENT_MARK, EVENT_MARK_LENGTH) == 0;
}

static inline struct event_identity event_identity(const char *data) {
    struct event_identity identity;

    memcpy(identity.text, data + EVENT_MARK_LENGTH, sizeof identity.text);
    return identity;
}

static inline bool event_same(struct event_identity a, struct event_identity b) {
    return a.text[0] == b.text[0] && a.text[1] == b.text[1];
}

/* Fills the whole text but the time. */
void event_write(char data[EVENT_DATA], unsigned publisher, uint64_t number);

/* Sets the time of sending, on the monotonic clock. */
void event_write_time(char data[EVENT_DATA], uint64_t time_ns);

uint64_t event_time_ns(const char *data);

void event_identity_parse(struct event_identity identity, unsigned *publisher, uint64_t *number);
