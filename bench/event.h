/*
 * Event that the generator publishes: its data is 100 bytes of ASCII with the publisher, the event's number and the
 * time of sending.
 *
 *   ~curlew~ 0003 00000000002a 0000112233445566 xxxx...
 *   mark     publisher, number  time of sending  filler     (numbers in hexadecimal; no blanks in the real text)
 *
 * Mark, publisher and number have fixed offsets, so an event is checked by comparing two 64-bit words. No byte needs
 * escaping in JSON, so the text is the same in the request and in the frame.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define EVENT_NAME "bench"
#define EVENT_DATA 100
/* Data of an event to a target that compresses: the frame is about as long as that of EVENT_DATA bytes uncompressed. */
#define EVENT_DATA_COMPRESSED 300
#define EVENT_MARK "~curlew~"
#define EVENT_MARK_LENGTH 8
#define EVENT_HEADER 40 /* mark, identity and time */

/* Publisher and number in their text form. */
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

/* Writes the filler behind the header: bytes that compress to nearly nothing, or `varied` ones, of which some must be
 * sent. */
void event_write_filler(char *data, size_t length, bool varied);

/* Writes the header except the time. */
void event_write(char data[EVENT_HEADER], unsigned publisher, uint64_t number);

/* Writes the time of sending, in ns of the monotonic clock. */
void event_write_time(char data[EVENT_HEADER], uint64_t time_ns);

/* Returns the time of sending, in ns of the monotonic clock. */
uint64_t event_time_ns(const char *data);

/* Converts the text form to numbers. */
void event_identity_parse(struct event_identity identity, unsigned *publisher, uint64_t *number);
